//! A collector that runs: what its page would show, asked over its socket.

use super::feed::Source;
use super::page_url::PageUrl;
use super::text::clean;
use crate::output::http::Tls;
use crate::output::secret::Secret;
use crate::output::serve::Listen;
use anyhow::{Context as _, Result, bail, ensure};
use rustls::pki_types::ServerName;
use rustls::{ClientConnection, StreamOwned};
use serde_json::Value as Json;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;
use zeroize::Zeroizing;

/// How long it may take to connect, and between two parts of an answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// No answer is longer.
const LONGEST: u64 = 64 << 20;

/// A collector by the address of its page.
pub struct Remote {
    at: PageUrl,
    token: Option<Secret>,
    /// Whom we trust, where it speaks TLS.
    tls: Option<Tls>,
}

trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

impl Remote {
    /// With TLS the certificates in `ca_file` are trusted beside the system's.
    ///
    /// # Errors
    /// There is nobody to trust.
    pub fn new(at: PageUrl, token: Option<Secret>, ca_file: Option<PathBuf>) -> Result<Self> {
        let tls =
            matches!(at, PageUrl::Tls(_)).then(|| Tls::trusting(ca_file, None)).transpose()?;
        Ok(Self { at, token, tls })
    }

    /// The JSON of a path.
    ///
    /// # Errors
    /// Nobody answers, or what the answer is instead.
    pub fn get(&self, path: &str) -> Result<Json> {
        let mut stream = self.connect().with_context(|| format!("{}", self.at))?;
        let host = self.at.host();
        let mut request = Zeroizing::new(format!(
            "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nAccept: application/json\r\n"
        ));
        if let Some(token) = &self.token {
            let token = token.read()?;
            request.push_str("Authorization: Bearer ");
            request.push_str(&token);
            request.push_str("\r\n");
        }
        request.push_str("\r\n");
        let mut answer = Vec::new();
        let said = stream.write_all(request.as_bytes());
        said.and_then(|()| stream.take(LONGEST).read_to_end(&mut answer))
            .with_context(|| format!("{}: no answer", self.at))?;
        json_of(&answer).with_context(|| format!("{}", self.at))
    }

    fn connect(&self) -> Result<Box<dyn Stream>> {
        Ok(match (&self.at, &self.tls) {
            (PageUrl::Plain(Listen::Tcp(address)), _) => Box::new(tcp(&[*address])?),
            (PageUrl::Plain(Listen::Unix(path)), _) => {
                let stream = UnixStream::connect(path)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                stream.set_write_timeout(Some(PATIENCE))?;
                Box::new(stream)
            }
            (PageUrl::Tls(url), tls) => {
                let tls = tls.as_ref().context("nobody is trusted")?;
                let name = url.host.without_zone().without_port().to_string();
                let name = ServerName::try_from(name.trim_matches(['[', ']']).to_owned())?;
                let stream = tcp(&url.host.look_up(url.port())?)?;
                Box::new(StreamOwned::new(ClientConnection::new(tls.config(), name)?, stream))
            }
        })
    }
}

/// A connection to the first of the addresses that takes it.
fn tcp(addresses: &[SocketAddr]) -> io::Result<TcpStream> {
    let mut refused = io::ErrorKind::AddrNotAvailable.into();
    for address in addresses {
        match TcpStream::connect_timeout(address, PATIENCE) {
            Ok(stream) => {
                stream.set_read_timeout(Some(PATIENCE))?;
                stream.set_write_timeout(Some(PATIENCE))?;
                return Ok(stream);
            }
            Err(why) => refused = why,
        }
    }
    Err(refused)
}

/// What an answer says.
fn json_of(answer: &[u8]) -> Result<Json> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut response = httparse::Response::new(&mut headers);
    let head = match response.parse(answer).context("what answers is no collector")? {
        httparse::Status::Complete(head) => head,
        httparse::Status::Partial => bail!("the answer has no end"),
    };
    let body = &answer[head..];
    let status = response.code.unwrap_or_default();
    if status != 200 {
        let words = String::from_utf8_lossy(&body[..body.len().min(300)]);
        bail!("{status} {}", clean(words.trim()));
    }
    let length = response.headers.iter().find(|it| it.name.eq_ignore_ascii_case("content-length"));
    let length = length.and_then(|it| str::from_utf8(it.value).ok()?.trim().parse::<usize>().ok());
    ensure!(length.is_none_or(|length| length == body.len()), "the answer is cut off");
    serde_json::from_slice(body).context("what answers is no collector")
}

impl Source for Remote {
    fn tables(&mut self) -> Result<Json, String> {
        let json = self.get("/api/tables").map_err(|why| format!("{why:#}"))?;
        if json["tools"].is_array() && json["tables"].is_array() {
            return Ok(json);
        }
        Err(format!("{}: an older collector, or something else, answers there", self.at))
    }

    fn series(&mut self, query: &str) -> Result<Json, String> {
        self.get(&format!("/api/series?{query}")).map_err(|why| format!("{why:#}"))
    }

    fn note(&self) -> String {
        self.at.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_json_or_says_why_not() {
        let ok = "HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n";
        assert_eq!(json_of(format!("{ok}{{\"a\":1}}").as_bytes()).unwrap()["a"], 1);
        for (answer, words) in [
            (
                "HTTP/1.1 401 Unauthorized\r\n\r\na token is needed\x1b[2J\n".to_owned(),
                "401 a token is needed?[2J",
            ),
            (format!("{ok}{{\"a\":"), "cut off"),
            (format!("{ok}nothing"), "no collector"),
            ("HTTP/1.1 200 OK\r\n".to_owned(), "no end"),
            ("220 smtp ready\r\n".to_owned(), "no collector"),
            (String::new(), "no end"),
        ] {
            let error = format!("{:#}", json_of(answer.as_bytes()).unwrap_err());
            assert!(error.contains(words), "{answer:?}: {error}");
        }
    }
}
