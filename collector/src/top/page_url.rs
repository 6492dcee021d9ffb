//! Where the page of a collector that runs is.

use crate::output::http::Url;
use crate::output::serve::Listen;
use std::fmt;

/// As it is written after `--http`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PageUrl {
    /// Where no TLS is spoken: `ADDRESS:PORT` or `unix:PATH`.
    Plain(Listen),
    /// `https://HOST:PORT`
    Tls(Url),
}

impl PageUrl {
    /// Reads it.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        if !text.get(..8).is_some_and(|begin| begin.eq_ignore_ascii_case("https://")) {
            return match text.contains("://") {
                true => {
                    Err("it is written https://HOST:PORT, ADDRESS:PORT or unix:PATH".to_owned())
                }
                false => Listen::parse(text).map(Self::Plain),
            };
        }
        let url = Url::parse(text)?;
        if !url.path.is_empty() {
            return Err(format!("the page has no path: https://{}", url.host));
        }
        Ok(Self::Tls(url))
    }

    /// Who is asked.
    pub fn host(&self) -> String {
        match self {
            Self::Plain(Listen::Tcp(address)) => address.to_string(),
            Self::Plain(Listen::Unix(_)) => "localhost".to_owned(),
            Self::Tls(url) => url.host.without_zone().to_string(),
        }
    }
}

impl fmt::Display for PageUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plain(listen) => listen.fmt(f),
            Self::Tls(url) => url.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_an_address_a_socket_or_a_url_of_tls() {
        for (text, host) in [
            ("127.0.0.1:9435", "127.0.0.1:9435"),
            ("unix:/run/c.sock", "localhost"),
            ("https://box.example:9435", "box.example:9435"),
            ("HTTPS://[::1]:9435/", "[::1]:9435"),
            ("https://box", "box"),
        ] {
            assert_eq!(PageUrl::parse(text).unwrap().host(), host);
        }
        for (text, why) in [
            ("http://127.0.0.1:9435", "https://HOST:PORT"),
            ("https://box:9435/metrics", "no path: https://box:9435"),
            ("https://:9435", "no host"),
            ("box:9435", "not a name"),
        ] {
            let error = PageUrl::parse(text).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
