//! Who we are to a server, and to a proxy on the way.

use super::{Auth, Header, HeaderText, HttpConfig, Server};
use crate::output::secret::{Redactor, Secret};
use anyhow::Result;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use ureq::http::{HeaderName, HeaderValue, header};
use zeroize::Zeroizing;

/// What we show to a server and to a proxy, with the secrets as they were read last. It has no `Debug`,
/// and a header that holds a secret shows as `Sensitive`. Their memory is overwritten when they are not
/// needed any more; that of the HTTP client's buffer only by the next request.
pub struct Credentials {
    to_server: Vec<Shown>,
    to_proxy: Option<Shown>,
}

/// A header and where its value is to be had.
struct Shown {
    name: HeaderName,
    source: Source,
    read: Option<Read>,
}

enum Source {
    Basic { username: String, password: Secret },
    Token { scheme: &'static str, token: Secret },
    Text(HeaderText),
}

struct Read {
    header: HeaderValue,
    /// None when all of it may be shown.
    hidden: Option<Hidden>,
}

struct Hidden {
    secret: Zeroizing<String>,
    redactor: Redactor,
}

/// Who we are to a proxy.
#[derive(Clone, Copy)]
pub struct Login<'a> {
    /// The user.
    pub username: &'a str,
    /// The password.
    pub password: &'a str,
    /// Both, as the header `Proxy-Authorization` has them.
    pub header: &'a HeaderValue,
}

impl Credentials {
    /// Reads the secrets. A file that cannot be read yet is tried again with each request, since it may
    /// come later than we do; a variable of the environment never comes.
    ///
    /// # Errors
    /// Names the variable that is not set.
    pub fn new(config: &HttpConfig) -> Result<Self> {
        let mut to_server = Vec::new();
        to_server.extend(Shown::of(header::AUTHORIZATION, &config.auth, &config.server));
        for Header { name, text } in &config.headers {
            to_server.push(Shown {
                name: name.clone(),
                source: Source::Text(text.clone()),
                read: None,
            });
        }
        let proxy = config.proxy.as_ref();
        let to_proxy = proxy
            .and_then(|proxy| Shown::of(header::PROXY_AUTHORIZATION, &proxy.auth, &config.server));
        let mut credentials = Self { to_server, to_proxy };
        for shown in credentials.all_mut() {
            match (shown.read(), shown.source.secret()) {
                (Err(error), Some(Secret::Env(_))) => return Err(error),
                (read, _) => shown.read = read.ok(),
            }
        }
        Ok(credentials)
    }

    /// Reads what could not be read before.
    ///
    /// # Errors
    /// A secret cannot be read.
    pub fn read(&mut self) -> Result<()> {
        for shown in self.all_mut().filter(|shown| shown.read.is_none()) {
            shown.read = Some(shown.read()?);
        }
        Ok(())
    }

    /// Reads the secrets again, and says whether one has changed.
    ///
    /// # Errors
    /// One cannot be read. What was read before stays in use.
    pub fn refresh(&mut self) -> Result<bool> {
        let mut changed = false;
        for shown in self.all_mut() {
            let now = shown.read()?;
            let before = shown.read.replace(now);
            let now = shown.read.as_ref().map(|read| &read.header);
            changed |= before.is_none_or(|before| Some(&before.header) != now);
        }
        Ok(changed)
    }

    /// The headers for the server, as far as they could be read.
    pub fn headers(&self) -> impl Iterator<Item = (&HeaderName, &HeaderValue)> {
        self.to_server.iter().filter_map(|shown| Some((&shown.name, &shown.read.as_ref()?.header)))
    }

    /// Who we are to the proxy, if it asks for it.
    pub fn login(&self) -> Option<Login<'_>> {
        let Shown { source: Source::Basic { username, .. }, read: Some(read), .. } =
            self.to_proxy.as_ref()?
        else {
            return None;
        };
        let password = &read.hidden.as_ref()?.secret;
        Some(Login { username, password, header: &read.header })
    }

    /// What a server says, which may repeat what it was sent, without the secrets. This comes first, so
    /// that no part of them is left where the words are cut.
    pub fn redact(&self, body: Vec<u8>) -> Vec<u8> {
        let read = self.to_server.iter().chain(&self.to_proxy).filter_map(|s| s.read.as_ref());
        let hidden = read.filter_map(|read| read.hidden.as_ref());
        hidden.fold(body, |body, hidden| hidden.redactor.redact_body(body))
    }

    fn all_mut(&mut self) -> impl Iterator<Item = &mut Shown> {
        self.to_server.iter_mut().chain(&mut self.to_proxy)
    }
}

impl Shown {
    /// None when we are nobody.
    fn of(name: HeaderName, auth: &Auth, server: &Server) -> Option<Self> {
        let source = match auth.clone() {
            Auth::None => return None,
            Auth::Basic { username, password } => Source::Basic { username, password },
            Auth::Token(token) => {
                let scheme = match server {
                    // InfluxDB 1.8 takes `Token USER:PASSWORD`, and 2 takes `Token TOKEN` behind its
                    // old path too.
                    Server::Influxdb1 { .. } | Server::Influxdb2 { .. } => "Token ",
                    Server::Influxdb3 { .. }
                    | Server::Victoriametrics
                    | Server::Prometheus { .. }
                    | Server::Otlp => "Bearer ",
                };
                Source::Token { scheme, token }
            }
        };
        Some(Self { name, source, read: None })
    }

    fn read(&self) -> Result<Read> {
        let secret = self.source.secret().map(Secret::read).transpose()?;
        let known = secret.as_ref().map_or("", |secret| secret.as_str());
        let (scheme, value) = match &self.source {
            Source::Basic { username, .. } => {
                let login = Zeroizing::new(format!("{username}:{known}"));
                ("Basic ", Zeroizing::new(STANDARD.encode(&*login)))
            }
            Source::Token { scheme, .. } => (*scheme, Zeroizing::new(known.to_owned())),
            Source::Text(HeaderText::Plain(text)) => ("", Zeroizing::new(text.clone())),
            Source::Text(HeaderText::Secret(_)) => ("", Zeroizing::new(known.to_owned())),
        };
        // Not copied: the value's last owner overwrites it.
        let text = Zeroizing::new(format!("{scheme}{}", *value).into_bytes());
        let mut header = HeaderValue::from_maybe_shared(Bytes::from_owner(text))?;
        header.set_sensitive(secret.is_some());
        let hidden = secret.map(|secret| {
            let redactor = Redactor::new(&[&secret, &value]);
            Hidden { secret, redactor }
        });
        Ok(Read { header, hidden })
    }
}

impl Source {
    fn secret(&self) -> Option<&Secret> {
        match self {
            Self::Basic { password: secret, .. }
            | Self::Token { token: secret, .. }
            | Self::Text(HeaderText::Secret(secret)) => Some(secret),
            Self::Text(HeaderText::Plain(_)) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trust::testing::write_secret;

    fn v1() -> Server {
        Server::Influxdb1 { database: "db".into(), retention_policy: None }
    }

    fn credentials(auth: &Auth, server: &Server) -> Result<Credentials> {
        let url = "http://h:1".to_owned();
        Credentials::new(&HttpConfig::new(server.clone(), url, auth.clone()))
    }

    fn header(auth: &Auth, server: &Server) -> Option<String> {
        first(&mut credentials(auth, server).unwrap()).unwrap()
    }

    fn first(credentials: &mut Credentials) -> Result<Option<String>> {
        credentials.read()?;
        let (name, value) = match credentials.headers().next() {
            Some(header) => header,
            None => return Ok(None),
        };
        assert_eq!(name, header::AUTHORIZATION);
        Ok(Some(value.to_str()?.to_owned()))
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
        let mut read = credentials(&auth, &v1()).unwrap();
        assert!(first(&mut read).unwrap_err().to_string().contains("token cannot be read"));
        write_secret(&path, "one");
        assert_eq!(first(&mut read).unwrap().unwrap(), "Token one");
        assert!(!read.refresh().unwrap());
        write_secret(&path, "two");
        assert_eq!(first(&mut read).unwrap().unwrap(), "Token one");
        assert!(read.refresh().unwrap());
        assert_eq!(first(&mut read).unwrap().unwrap(), "Token two");
        let auth = Auth::Token(Secret::Env("COLLECTOR_TEST_NO_SUCH".into()));
        let error = credentials(&auth, &v1()).err().unwrap();
        assert!(error.to_string().contains("COLLECTOR_TEST_NO_SUCH"), "{error}");
    }

    #[test]
    fn a_secret_is_never_shown() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = dir.path().join(name);
            write_secret(&path, text);
            Secret::File(path)
        };
        let mut config =
            HttpConfig::new(v1(), "http://h:1".into(), Auth::Token(file("token", "s3cret")));
        let shown = |name: &'static str, text| Header { name: HeaderName::from_static(name), text };
        config.headers = vec![
            shown("x-tenant", HeaderText::Plain("seven".into())),
            shown("x-key", HeaderText::Secret(file("key", "k3y"))),
        ];
        let auth = Auth::Basic { username: "me".into(), password: file("password", "s3cret-2") };
        config.proxy = Some(super::super::Proxy { url: "http://p:1".into(), auth });
        let mut credentials = Credentials::new(&config).unwrap();
        let headers: Vec<_> = credentials.headers().map(|(name, _)| name.as_str()).collect();
        assert_eq!(headers, ["authorization", "x-tenant", "x-key"]);
        let login = credentials.login().unwrap();
        assert_eq!((login.username, login.password), ("me", "s3cret-2"));
        assert_eq!(login.header, &format!("Basic {}", STANDARD.encode("me:s3cret-2")));

        let debug = format!("{:?} {config:?}", credentials.headers().collect::<Vec<_>>());
        assert!(debug.contains("seven"), "{debug}");
        assert!(!debug.contains("s3cret") && !debug.contains("k3y"), "{debug}");
        let words = b"bad token: s3cret! k3y s3cret-2 seven".to_vec();
        let redacted = String::from_utf8(credentials.redact(words)).unwrap();
        assert!(!redacted.contains("s3cret") && !redacted.contains("k3y"), "{redacted}");
        assert!(redacted.starts_with("bad token: [secret]! [secret] "), "{redacted}");
        assert!(redacted.ends_with(" seven"), "{redacted}");

        assert!(!credentials.refresh().unwrap());
        file("key", "k3y-2");
        assert!(credentials.refresh().unwrap());
    }
}
