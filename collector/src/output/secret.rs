//! Tokens and passwords: named in the configuration, never written there.

use anyhow::{Context, Result, ensure};
use std::path::PathBuf;
use std::{env, fs};

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
                let text = fs::read_to_string(path);
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
            fs::write(&path, text).unwrap();
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
