//! A request as far as it is needed here, and who may make one.

use super::address::is_loopback_name;
use crate::output::secret::Secret;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use httparse::{Error, Status};
use zeroize::Zeroizing;

/// The longest head of a request.
pub const HEAD: usize = 8 << 10;
const MAX_HEADERS: usize = 64;

/// A request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// `HEAD`: the same without a body.
    pub head_only: bool,
    pub path: String,
    /// What follows the `?`, as it came.
    pub query: String,
    pub accept: String,
    /// Whether more requests may follow on this connection.
    pub keep: bool,
    /// Whether chunks are understood: HTTP 1.1.
    pub chunks: bool,
    host: Option<String>,
    origin: Option<String>,
    authorization: Option<Zeroizing<String>>,
}

/// What the first bytes of a connection are.
#[derive(Debug, PartialEq, Eq)]
pub enum Parsed {
    /// Not yet a whole head.
    Partly,
    /// A request of so many bytes.
    Whole(Box<Request>, usize),
    /// None: status and sentence of the answer, after which the connection ends.
    Refused(u16, &'static str),
}

/// Reads a request's head.
pub fn parse(bytes: &[u8]) -> Parsed {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut parsed = httparse::Request::new(&mut headers);
    let length = match parsed.parse(bytes) {
        Ok(Status::Complete(length)) if length <= HEAD => length,
        Ok(Status::Partial) if bytes.len() < HEAD => return Parsed::Partly,
        Ok(_) => return Parsed::Refused(431, "the head of a request has at most 8 KiB\n"),
        Err(Error::TooManyHeaders) => {
            return Parsed::Refused(431, "a request has at most 64 headers\n");
        }
        Err(Error::Version) => return Parsed::Refused(505, "HTTP 1.0 and 1.1 are spoken here\n"),
        Err(_) => return Parsed::Refused(400, "this is no request of HTTP\n"),
    };
    let head_only = match parsed.method {
        Some("GET") => false,
        Some("HEAD") => true,
        _ => return Parsed::Refused(405, "nothing can be changed here: GET and HEAD only\n"),
    };
    let target = parsed.path.unwrap_or_default();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let chunks = parsed.version == Some(1);
    let mut request = Request {
        head_only,
        path: path.to_owned(),
        query: query.to_owned(),
        keep: chunks,
        chunks,
        ..Request::default()
    };
    for header in &*parsed.headers {
        let Ok(text) = str::from_utf8(header.value) else { continue };
        let text = text.trim().to_owned();
        let is = |name: &str| header.name.eq_ignore_ascii_case(name);
        if is("transfer-encoding") || (is("content-length") && text != "0") {
            return Parsed::Refused(400, "a request has no body here\n");
        } else if is("host") {
            if request.host.replace(text).is_some() {
                return Parsed::Refused(400, "a request has one `Host`\n");
            }
        } else if is("origin") {
            request.origin = Some(text);
        } else if is("authorization") {
            request.authorization = Some(Zeroizing::new(text));
        } else if is("accept") {
            let before = std::mem::take(&mut request.accept);
            request.accept = if before.is_empty() { text } else { before + "," + &text };
        } else if is("connection") {
            let words: Vec<String> =
                text.split(',').map(|it| it.trim().to_ascii_lowercase()).collect();
            request.keep &= !words.iter().any(|word| word == "close");
        }
    }
    if chunks && request.host.is_none() {
        return Parsed::Refused(400, "a request of HTTP 1.1 has a `Host`\n");
    }
    Parsed::Whole(Box::new(request), length)
}

/// Who may ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    /// `Host` must be the loopback's.
    pub loopback: bool,
    /// Whoever asks must have it.
    pub token: Option<Secret>,
    /// Pages of this server have come over TLS.
    pub tls: bool,
}

impl Access {
    /// Status and sentence of the answer to one who may not.
    pub fn check(&self, request: &Request) -> Result<(), (u16, String)> {
        let host = request.host.as_deref().unwrap_or_default();
        if self.loopback && !(is_loopback_name(host) || (host.is_empty() && !request.chunks)) {
            let text = format!(
                "the `Host` is {host:?}, and only localhost and 127.0.0.1 are answered here: a proxy must set it\n"
            );
            return Err((403, text));
        }
        if let Some(origin) = &request.origin {
            let own = origin.split_once("://").is_some_and(|(scheme, of)| {
                of.eq_ignore_ascii_case(host) && (!self.tls || scheme == "https")
            });
            if !own {
                return Err((403, "pages of other sites get nothing here\n".to_owned()));
            }
        }
        let Some(token) = self.token.as_ref().filter(|_| request.path != "/healthz") else {
            return Ok(());
        };
        let token = token.read().map_err(|error| {
            log::warn!("http: {error:#}");
            (503, "the token cannot be read: the collector's log says why\n".to_owned())
        })?;
        let shown = request.authorization.as_ref().and_then(|shown| shown_token(shown));
        if shown.is_some_and(|shown| same(shown.as_bytes(), token.as_bytes())) {
            return Ok(());
        }
        let text = "a token is needed: `Authorization: Bearer TOKEN`, or any user with the token as password\n";
        Err((401, text.to_owned()))
    }
}

/// A token, or a password in its place.
fn shown_token(authorization: &str) -> Option<Zeroizing<String>> {
    let (scheme, rest) = authorization.split_once(' ')?;
    match &*scheme.to_ascii_lowercase() {
        "bearer" => Some(Zeroizing::new(rest.trim().to_owned())),
        "basic" => {
            let pair = Zeroizing::new(STANDARD.decode(rest.trim()).ok()?);
            let (_, password) = str::from_utf8(&pair).ok()?.split_once(':')?;
            Some(Zeroizing::new(password.to_owned()))
        }
        _ => None,
    }
}

/// Compares in a time that does not tell how much of it is the same.
fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |all, (a, b)| all | (a ^ b)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trust::testing::write_secret;

    fn request(head: &str) -> Request {
        match parse(format!("{head}\r\n\r\n").as_bytes()) {
            Parsed::Whole(request, length) => {
                assert_eq!(length, head.len() + 4);
                *request
            }
            other => panic!("{head}: {other:?}"),
        }
    }

    #[test]
    fn a_request_is_read() {
        let found = request(
            "GET /api/series?table=t HTTP/1.1\r\nHost: localhost\r\nAccept: a\r\naccept: b\r\nConnection: x, Close",
        );
        assert_eq!(
            (&*found.path, &*found.query, &*found.accept),
            ("/api/series", "table=t", "a,b")
        );
        assert!(!found.keep && found.chunks && !found.head_only);
        let found = request("HEAD / HTTP/1.0");
        assert!(found.head_only && !found.keep && !found.chunks);
    }

    #[test]
    fn what_is_no_request_is_refused_with_a_sentence() {
        let many = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(65));
        let long = format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "x".repeat(HEAD));
        for (text, status) in [
            ("\0\0\0\0", 400),
            ("GET\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nno header\r\n\r\n", 400),
            ("POST /metrics HTTP/1.1\r\nHost: a\r\n\r\n", 405),
            ("DELETE / HTTP/1.1\r\nHost: a\r\n\r\n", 405),
            ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
            (&*many, 431),
            (&*long, 431),
            (&long[..HEAD], 431),
        ] {
            let Parsed::Refused(found, words) = parse(text.as_bytes()) else { panic!("{text}") };
            assert_eq!(found, status, "{text}: {words}");
        }
        assert_eq!(parse(b"GET / HT"), Parsed::Partly);
        assert_eq!(parse(b""), Parsed::Partly);
    }

    #[test]
    fn only_those_who_may_get_an_answer() {
        let local = Access { loopback: true, token: None, tls: false };
        let asks = |host: &str, more: &str| {
            request(&format!("GET /metrics HTTP/1.1\r\nHost: {host}{more}"))
        };
        let status = |access: &Access, request: &Request| {
            access.check(request).map_err(|(status, _)| status)
        };
        assert_eq!(status(&local, &asks("127.0.0.1:9435", "")), Ok(()));
        assert_eq!(status(&local, &asks("evil.example", "")), Err(403));
        assert_eq!(status(&local, &request("GET / HTTP/1.0")), Ok(()));
        let with = |origin: &str| asks("localhost:9435", &format!("\r\nOrigin: {origin}"));
        assert_eq!(status(&local, &with("http://localhost:9435")), Ok(()));
        for origin in ["http://evil.example", "null", "http://localhost:1", "https://localhost"] {
            assert_eq!(status(&local, &with(origin)), Err(403), "{origin}");
        }
        let over_tls = Access { tls: true, ..local };
        assert_eq!(status(&over_tls, &with("https://localhost:9435")), Ok(()));
        assert_eq!(status(&over_tls, &with("http://localhost:9435")), Err(403));

        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        let remote =
            Access { loopback: false, token: Some(Secret::File(path.clone())), tls: false };
        assert_eq!(status(&remote, &asks("box", "")), Err(503));
        write_secret(&path, "s3cret\n");
        // user:s3cret and user:other
        for (authorization, expected) in [
            ("Bearer s3cret", Ok(())),
            ("bearer  s3cret", Ok(())),
            ("Basic dXNlcjpzM2NyZXQ=", Ok(())),
            ("Basic dXNlcjpvdGhlcg==", Err(401)),
            ("Basic !", Err(401)),
            ("Bearer", Err(401)),
            ("Bearer s3cre", Err(401)),
            ("Bearer s3creT", Err(401)),
            ("Token s3cret", Err(401)),
        ] {
            let asked = asks("box", &format!("\r\nAuthorization: {authorization}"));
            assert_eq!(status(&remote, &asked), expected, "{authorization}");
        }
        assert_eq!(status(&remote, &asks("box", "")), Err(401));
        assert_eq!(status(&remote, &request("GET /healthz HTTP/1.1\r\nHost: box")), Ok(()));
    }
}
