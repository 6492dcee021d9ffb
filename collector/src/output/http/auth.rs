//! Who we are to a server.

use super::{Auth, Server};
use crate::output::secret::Secret;
use anyhow::Result;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ureq::http::HeaderValue;

/// The secret as it was read last. It has no `Debug`, and the header made of it shows as `Sensitive`.
pub struct Credentials {
    auth: Auth,
    scheme: &'static str,
    read: Option<Read>,
}

struct Read {
    secret: String,
    header: HeaderValue,
}

impl Credentials {
    /// Reads the secret. A file that cannot be read yet is tried again with each request, since it may
    /// come later than we do; a variable of the environment never comes.
    ///
    /// # Errors
    /// Names the variable that is not set.
    pub fn new(auth: &Auth, server: &Server) -> Result<Self> {
        let scheme = match (auth, server) {
            (Auth::Basic { .. }, _) => "Basic",
            // InfluxDB 1.8 takes `Token USER:PASSWORD`, and 2 takes `Token TOKEN` behind its old path too.
            (_, Server::Influxdb1 { .. } | Server::Influxdb2 { .. }) => "Token",
            (_, Server::Influxdb3 { .. } | Server::Victoriametrics) => "Bearer",
        };
        let mut credentials = Self { auth: auth.clone(), scheme, read: None };
        let read = credentials.header().map(drop);
        match &credentials.auth {
            Auth::Basic { password: Secret::Env(_), .. } | Auth::Token(Secret::Env(_)) => read?,
            _ => {}
        }
        Ok(credentials)
    }

    /// The value of the header `Authorization`, if there is to be one.
    ///
    /// # Errors
    /// The secret cannot be read.
    pub fn header(&mut self) -> Result<Option<HeaderValue>> {
        if self.read.is_none() {
            self.read = self.read()?;
        }
        Ok(self.read.as_ref().map(|read| read.header.clone()))
    }

    /// Reads the secret again, and says whether it has changed.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn refresh(&mut self) -> Result<bool> {
        let before = self.read.take();
        self.read = self.read()?;
        let secret = |read: &Option<Read>| read.as_ref().map(|read| read.secret.clone());
        Ok(secret(&self.read) != secret(&before))
    }

    /// What a server says, which may repeat what it was sent, without the secret.
    pub fn redact(&self, words: String) -> String {
        match &self.read {
            Some(Read { secret, .. }) if words.contains(secret) => {
                words.replace(secret.as_str(), "[secret]")
            }
            _ => words,
        }
    }

    fn read(&self) -> Result<Option<Read>> {
        let (secret, value) = match &self.auth {
            Auth::None => return Ok(None),
            Auth::Basic { username, password } => {
                let password = password.read()?;
                let value = STANDARD.encode(format!("{username}:{password}"));
                (password, value)
            }
            Auth::Token(token) => {
                let token = token.read()?;
                (token.clone(), token)
            }
        };
        let mut header = HeaderValue::try_from(format!("{} {value}", self.scheme))?;
        header.set_sensitive(true);
        Ok(Some(Read { secret, header }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trust::testing::write_secret;

    fn v1() -> Server {
        Server::Influxdb1 { database: "db".into(), retention_policy: None }
    }

    fn header(auth: &Auth, server: &Server) -> Option<String> {
        let header = Credentials::new(auth, server).unwrap().header().unwrap();
        header.map(|header| header.to_str().unwrap().to_owned())
    }

    #[test]
    fn each_server_gets_the_token_in_its_own_way() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        write_secret(&path, "s3cret\n");
        let token = Auth::Token(Secret::File(path.clone()));
        let v2 = Server::Influxdb2 { org: "o".into(), bucket: "b".into() };
        let v3 = Server::Influxdb3 { database: "db".into() };
        assert_eq!(header(&Auth::None, &v2), None);
        assert_eq!(header(&token, &v1()).unwrap(), "Token s3cret");
        assert_eq!(header(&token, &v2).unwrap(), "Token s3cret");
        assert_eq!(header(&token, &v3).unwrap(), "Bearer s3cret");
        assert_eq!(header(&token, &Server::Victoriametrics).unwrap(), "Bearer s3cret");
        let basic = Auth::Basic { username: "me".into(), password: Secret::File(path) };
        assert_eq!(
            header(&basic, &v1()).unwrap(),
            format!("Basic {}", STANDARD.encode("me:s3cret"))
        );
    }

    #[test]
    fn a_file_may_come_late_and_change_and_a_variable_may_not_be_missing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        let auth = Auth::Token(Secret::File(path.clone()));
        let mut credentials = Credentials::new(&auth, &v1()).unwrap();
        assert!(credentials.header().unwrap_err().to_string().contains("token cannot be read"));
        write_secret(&path, "one");
        assert_eq!(credentials.header().unwrap().unwrap(), "Token one");
        assert!(!credentials.refresh().unwrap());
        write_secret(&path, "two");
        assert_eq!(credentials.header().unwrap().unwrap(), "Token one");
        assert!(credentials.refresh().unwrap());
        assert_eq!(credentials.header().unwrap().unwrap(), "Token two");
        let auth = Auth::Token(Secret::Env("COLLECTOR_TEST_NO_SUCH".into()));
        let error = Credentials::new(&auth, &v1()).err().unwrap();
        assert!(error.to_string().contains("COLLECTOR_TEST_NO_SUCH"), "{error}");
    }

    #[test]
    fn a_secret_is_never_shown() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        write_secret(&path, "s3cret");
        let auth = Auth::Token(Secret::File(path));
        let mut credentials = Credentials::new(&auth, &v1()).unwrap();
        assert!(!format!("{:?}", credentials.header().unwrap()).contains("s3cret"));
        assert_eq!(credentials.redact("bad token: s3cret!".into()), "bad token: [secret]!");
    }
}
