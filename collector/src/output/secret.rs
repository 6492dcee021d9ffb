//! Tokens and passwords: named in the configuration, never written there.

use crate::trust;
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::env;
use std::io::Read;
use std::path::{Path, PathBuf};
use zeroize::{Zeroize, Zeroizing};

/// No token is longer.
const LONGEST: u64 = 64 << 10;

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
    pub fn read(&self) -> Result<Zeroizing<String>> {
        let (text, place) = match self {
            Self::File(path) => {
                let place = path.display().to_string();
                (read(path).with_context(|| format!("{place} cannot be read"))?, place)
            }
            Self::Env(name) => {
                let place = format!("the environment's {name}");
                (Zeroizing::new(env::var(name).with_context(|| place.clone())?), place)
            }
        };
        let secret = text.trim();
        ensure!(!secret.is_empty(), "{place} is empty");
        // A control character would end the header that carries it.
        ensure!(!secret.contains(char::is_control), "{place} holds more than one line");
        Ok(Zeroizing::new(secret.to_owned()))
    }
}

/// Reads a file that nobody else may read or change.
fn read(path: &Path) -> Result<Zeroizing<String>> {
    let file = trust::open_secret(path)?;
    // Not a byte more than there is room for, so that no copy stays where a buffer has grown.
    let mut bytes = Zeroizing::new(Vec::with_capacity(LONGEST as usize + 1));
    file.take(LONGEST).read_to_end(&mut bytes)?;
    ensure!((bytes.len() as u64) < LONGEST, "it is longer than any token");
    let text = String::from_utf8(std::mem::take(&mut *bytes));
    Ok(Zeroizing::new(text.map_err(|error| {
        error.into_bytes().zeroize();
        anyhow::anyhow!("it is no text")
    })?))
}

/// Takes secrets out of texts of others.
pub struct Redactor {
    secrets: Vec<Zeroizing<String>>,
}

/// So much of a secret is taken out wherever it stands: others cut texts too. A shorter one is taken out
/// as a whole.
const PIECE: usize = 8;

impl Redactor {
    /// For these secrets, none of them empty.
    pub fn new(secrets: &[&str]) -> Self {
        let secrets = secrets.iter().map(|secret| Zeroizing::new((*secret).to_owned()));
        Self { secrets: secrets.collect() }
    }

    /// A body without them, also where its JSON writes them in another way.
    pub fn redact_body(&self, body: Vec<u8>) -> Vec<u8> {
        if body.starts_with(b"{")
            && let Ok(mut json) = serde_json::from_slice::<Value>(&body)
        {
            return if self.redact_json(&mut json) { json.to_string().into_bytes() } else { body };
        }
        self.redact(&body).unwrap_or(body)
    }

    /// Whether anything in it was taken out.
    fn redact_json(&self, json: &mut Value) -> bool {
        match json {
            Value::String(text) => match self.redact(text.as_bytes()) {
                Some(redacted) => {
                    *text = String::from_utf8_lossy(&redacted).into_owned();
                    true
                }
                None => false,
            },
            Value::Array(items) => items.iter_mut().fold(false, |any, i| self.redact_json(i) | any),
            Value::Object(map) => map.values_mut().fold(false, |any, i| self.redact_json(i) | any),
            _ => false,
        }
    }

    /// A text without them, if it holds any of them.
    fn redact(&self, text: &[u8]) -> Option<Vec<u8>> {
        let (mut redacted, mut kept) = (Vec::new(), 0);
        let mut at = 0;
        while at < text.len() {
            let Some(length) = self.piece_at(&text[at..]) else {
                at += 1;
                continue;
            };
            redacted.extend_from_slice(&text[kept..at]);
            redacted.extend_from_slice(b"[secret]");
            let mut end = at + length;
            // Pieces overlap.
            while at < end {
                at += 1;
                end = self.piece_at(&text[at..]).map_or(end, |length| end.max(at + length));
            }
            kept = end;
        }
        if kept == 0 {
            return None;
        }
        redacted.extend_from_slice(&text[kept..]);
        Some(redacted)
    }

    /// The length of the longest piece of a secret that a text begins with.
    fn piece_at(&self, text: &[u8]) -> Option<usize> {
        let piece = |secret: &Zeroizing<String>| {
            let length = PIECE.min(secret.len());
            let piece = text.get(..length)?;
            memchr::memmem::find(secret.as_bytes(), piece).map(|_| length)
        };
        self.secrets.iter().filter_map(piece).max()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trust::testing::write_secret;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn what_holds_no_token_is_refused_and_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        let error = |path: &Path| format!("{:#}", Secret::File(path.into()).read().unwrap_err());
        assert!(error("/dev/zero".as_ref()).contains("a device, not a regular file"));
        write_secret(&path, &"x".repeat(70_000));
        assert!(error(&path).contains("longer than any token"));
        fs::write(&path, b"\xff\xfe").unwrap();
        assert!(error(&path).contains("it is no text"));
    }

    #[test]
    fn a_secret_that_others_may_read_is_refused_where_they_can_reach_it() {
        let set = |path: &Path, mode| {
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
    fn secrets_are_taken_out_of_words_whole_or_in_part() {
        let redactor = Redactor::new(&["s3cret-of-someone", "dXNlcjpzM2NyZXQ=", "tiny"]);
        for (text, redacted) in [
            ("no secret here", "no secret here"),
            ("bad token s3cret-of-someone!", "bad token [secret]!"),
            ("s3cret-of-someones3cret-of-someone", "[secret]"),
            ("Authorization: Basic dXNlcjpzM2NyZXQ", "Authorization: Basic [secret]"),
            ("cut by a server: s3cret-of-so...", "cut by a server: [secret]..."),
            ("cut by a server: ...of-someone", "cut by a server: ...[secret]"),
            ("s3cret- is too little of it", "s3cret- is too little of it"),
            ("a tiny one, and a tin", "a [secret] one, and a tin"),
            (r#"{"error":"s3cret\u002dof-someone"}"#, r#"{"error":"[secret]"}"#),
            (r#"{"data":[{"a":1},["s3cret-of-someone"]]}"#, r#"{"data":[{"a":1},["[secret]"]]}"#),
            (r#"{"error":"s3cret-of-some"#, r#"{"error":"[secret]"#),
            ("größe s3cret-of-someone größe", "größe [secret] größe"),
        ] {
            let found = redactor.redact_body(text.as_bytes().to_vec());
            assert_eq!(String::from_utf8(found).unwrap(), redacted, "{text}");
        }
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
                (Ok(secret), Ok(expected)) => assert_eq!(*secret, expected),
                (Err(error), Err(words)) => assert!(error.to_string().contains(words), "{error}"),
                (result, _) => panic!("{text:?}: {result:?}"),
            }
        }
        let missing = Secret::Env("COLLECTOR_TEST_NO_SUCH".to_owned()).read().unwrap_err();
        assert!(missing.to_string().contains("COLLECTOR_TEST_NO_SUCH"));
    }
}
