//! The URL of a server or a proxy, checked when it is read.

use crate::output::host::HostPort;
use http::uri::PathAndQuery;
use std::fmt;

/// `http[s]://HOST[:PORT][/PATH]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    /// Whether it is `https`.
    pub tls: bool,
    /// Who is meant. `http` has a port always: which one of a database's is meant nobody knows.
    pub host: HostPort,
    /// Nothing, or a path that begins with a slash and ends without one.
    pub path: String,
}

impl Url {
    /// Reads it. Scheme and host do not care about upper case; slashes at the end are dropped.
    ///
    /// # Errors
    /// What is wrong with it, without what may be a secret in it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (scheme, rest) = text.split_once("://").unwrap_or_default();
        let tls = match &*scheme.to_ascii_lowercase() {
            "http" => false,
            "https" => true,
            _ => return Err("it begins with http:// or https://".into()),
        };
        if rest.contains('@') {
            return Err("secrets do not stand in a URL; use username and password_file \
                        (an @ in a path is written %40)"
                .into());
        }
        if rest.contains('#') {
            return Err("a server's URL has no `#` (in a name it is written %23)".into());
        }
        if rest.contains('?') {
            return Err("what follows a `?` has keys of its own here (in a name it is %3F)".into());
        }
        let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let host = HostPort::parse(host)?;
        if host.port.is_none() && !tls {
            return Err("it names no port, such as :8086, or :80 where a proxy is in front".into());
        }
        let path = path.trim_end_matches('/');
        let sound = |path| path_is_encoded(path) && PathAndQuery::try_from(path).is_ok();
        if !path.is_empty() && !sound(path) {
            return Err("what is special in a path is written as %20 and so on".into());
        }
        Ok(Self { tls, host, path: path.to_owned() })
    }

    /// The port to connect to.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.host.port.unwrap_or(if self.tls { 443 } else { 80 })
    }
}

/// Whether it is ASCII, and each `%` begins an escape.
fn path_is_encoded(path: &str) -> bool {
    let escape =
        |part: &str| part.len() >= 2 && part.bytes().take(2).all(|byte| byte.is_ascii_hexdigit());
    path.is_ascii() && path.split('%').skip(1).all(escape)
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.host, self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_right_or_refused_with_the_reason() {
        for (text, expected) in [
            ("http://h:1", Ok("http://h:1")),
            ("HTTP://h:1", Ok("http://h:1")),
            ("Https://h", Ok("https://h")),
            ("https://h:8086", Ok("https://h:8086")),
            ("http://h:1/", Ok("http://h:1")),
            ("http://h:1///", Ok("http://h:1")),
            ("http://h:1/a/b/", Ok("http://h:1/a/b")),
            ("http://h:1/a%20b", Ok("http://h:1/a%20b")),
            ("http://[::1]:8086", Ok("http://[::1]:8086")),
            ("http://[fe80::1%25eth0]:8086/x", Ok("http://[fe80::1%25eth0]:8086/x")),
            ("", Err("begins with http://")),
            ("h:8086", Err("begins with http://")),
            ("//h:8086", Err("begins with http://")),
            ("http:/h:1", Err("begins with http://")),
            ("ftp://h:1", Err("begins with http://")),
            ("http://", Err("it has no host")),
            ("http:///x", Err("it has no host")),
            ("http://:8086", Err("it has no host")),
            ("http://h", Err("it names no port")),
            ("http://h/x", Err("it names no port")),
            ("http://h:/", Err("no port follows")),
            ("https://h:/", Err("no port follows")),
            ("http://h:0", Err("from 1 to 65535")),
            ("http://h:-1", Err("from 1 to 65535")),
            ("http://h:99999", Err("from 1 to 65535")),
            ("https://h:99999/x", Err("from 1 to 65535")),
            ("http://h:1#x", Err("no `#`")),
            ("http://h:1/x#y", Err("no `#`")),
            ("http://h:1?db=x", Err("keys of its own")),
            ("http://h:1/?db=x&db=y", Err("keys of its own")),
            ("http://u:p@h:1", Err("secrets do not stand in a URL")),
            ("http://u@h:1", Err("secrets do not stand in a URL")),
            ("https://u/p@h", Err("secrets do not stand in a URL")),
            ("http://::1:8086", Err("in brackets")),
            ("http://h h:1", Err("a host has no ' '")),
            ("http://bücher:1", Err("xn-- form")),
            ("http://h:1/a b", Err("written as %20")),
            ("http://h:1/ä", Err("written as %20")),
            ("http://h:1/100%", Err("written as %20")),
            ("http://h:1/%zz", Err("written as %20")),
        ] {
            match (Url::parse(text), expected) {
                (Ok(url), Ok(expected)) => assert_eq!(url.to_string(), expected),
                (Err(error), Err(why)) => assert!(error.contains(why), "{text}: {error}"),
                (result, _) => panic!("{text}: {result:?}"),
            }
        }
    }
}
