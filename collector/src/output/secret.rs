//! Tokens and passwords: named in the configuration, never written there.

use crate::trust;
use anyhow::{Context, Result, ensure};
use std::path::PathBuf;
use std::{env, io};

/// Where a secret is to be had. The secret itself is never kept, shown or logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Secret {
    /// In a file; white space around it does not count.
    File(PathBuf),
    /// In a variable of the environment.
    Env(String),
}

impl Secret {
    /// Reads it, anew each time: whoever changes a token need not restart the collector.
    ///
    /// # Errors
    /// Names the file or variable that does not have it.
    pub fn read(&self) -> Result<String> {
        let (text, place) = match self {
            Self::File(path) => {
                let place = path.display().to_string();
                let text = trust::open_secret(path).and_then(io::read_to_string);
                (text.with_context(|| format!("{place} cannot be read"))?, place)
            }
            Self::Env(name) => {
                let place = format!("the environment's {name}");
                (env::var(name).with_context(|| place.clone())?, place)
            }
        };
        let secret = text.trim();
        ensure!(!secret.is_empty(), "{place} is empty");
        // A control character would end the header that carries it.
        ensure!(!secret.contains(char::is_control), "{place} holds more than one line");
        Ok(secret.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trust::testing::write_secret;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_secret_that_others_may_read_is_refused_where_they_can_reach_it() {
        let set = |path: &std::path::Path, mode| {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        };
        let dir = tempfile::tempdir().unwrap();
        set(dir.path(), 0o700);
        let path = dir.path().join("token");
        fs::write(&path, "one").unwrap();
        let secret = Secret::File(path.clone());
        set(&path, 0o644);
        secret.read().expect("nobody else may enter its folder");
        set(dir.path(), 0o711);
        let error = format!("{:#}", secret.read().unwrap_err());
        assert!(error.contains("others may read the secret in "), "{error}");
        assert!(error.contains("/token: `chmod go-rwx "), "{error}");
        set(&path, 0o640);
        secret.read().expect("its group is our own");
        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::chown(&path, None, Some(12345)).unwrap();
            assert!(secret.read().is_err(), "its group is another one");
            set(&path, 0o600);
            secret.read().expect("nobody else may read it");
            std::os::unix::fs::chown(&path, Some(12345), None).unwrap();
            let error = format!("{:#}", secret.read().unwrap_err());
            assert!(error.contains("is owned by user 12345"), "{error}");
        }
        let fifo = dir.path().join("fifo");
        rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, rustix::fs::Mode::RWXU).unwrap();
        let error = format!("{:#}", Secret::File(fifo).read().unwrap_err());
        assert!(error.contains("a named pipe, not a regular file"), "{error}");
    }

    #[test]
    fn a_secret_is_read_anew_and_checked() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        let secret = Secret::File(path.clone());
        assert!(format!("{:#}", secret.read().unwrap_err()).contains("token cannot be read"));
        for (text, read) in [
            ("one\n", Ok("one")),
            (" two", Ok("two")),
            ("\n", Err("is empty")),
            ("a\nb", Err("more than one line")),
        ] {
            write_secret(&path, text);
            match (secret.read(), read) {
                (Ok(secret), Ok(expected)) => assert_eq!(secret, expected),
                (Err(error), Err(words)) => assert!(error.to_string().contains(words), "{error}"),
                (result, _) => panic!("{text:?}: {result:?}"),
            }
        }
        let missing = Secret::Env("COLLECTOR_TEST_NO_SUCH".to_owned()).read().unwrap_err();
        assert!(missing.to_string().contains("COLLECTOR_TEST_NO_SUCH"));
    }
}
