//! The HTTP client: one connection, kept, and one request at a time.

use super::answer::Reply;
use super::payload::Slices;
use super::{HttpConfig, address, tls};
use anyhow::{Error, Result, anyhow};
use std::io::{ErrorKind, Read};
use std::time::{Duration, Instant};
use ureq::http::{HeaderValue, Response, Uri, header};
use ureq::{Agent, Body, SendBody};

/// Of an answer, no more is read.
const LONGEST_ANSWER: u64 = 64 << 10;
/// Larger bodies are sent only when the server wants them: a server that does not want one closes the
/// connection, and its answer is lost.
const ASKED_FOR: usize = 1 << 20;
/// A server keeps a connection for about a minute. We give it up before.
const IDLE: Duration = Duration::from_secs(50);

/// A client of one server.
pub struct Client {
    agent: Agent,
    url: Uri,
    ping: Uri,
    timeout: Duration,
    /// Whether the connection has served a request, so that the server may close it meanwhile.
    kept: bool,
    /// Whether a new connection was cut: then the server is asked whether it wants the next body.
    cut: bool,
}

/// Why there is no answer.
#[derive(Debug)]
pub enum Trouble {
    /// It may pass.
    Later(Error),
    /// The server is not the one it should be.
    Untrusted(Error),
}

impl Client {
    /// A client of the server that is configured. It does not connect yet. Proxies that the environment
    /// names are not used.
    ///
    /// # Errors
    /// The URL is none, or the CA file cannot be read.
    pub fn new(config: &HttpConfig) -> Result<Self> {
        let (url, ping) = (address::address(config)?, address::ping(config)?);
        let mut agent = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .proxy(None)
            .user_agent(concat!("collector/", env!("CARGO_PKG_VERSION")))
            .max_idle_connections(1)
            .max_idle_age(IDLE)
            .input_buffer_size(16 << 10)
            .output_buffer_size(64 << 10);
        // Certificates take memory, which those who do not need them are spared.
        if url.scheme_str() == Some("https") {
            agent = agent.tls_config(tls::config(config.ca_file.as_deref())?);
        }
        let agent = agent.build().into();
        Ok(Self { agent, url, ping, timeout: config.timeout, kept: false, cut: false })
    }

    /// Posts a body and waits for the answer, no longer than configured and no longer than told.
    ///
    /// # Errors
    /// There was no answer, or not the whole of it.
    pub fn post(
        &mut self,
        body: &[&[u8]],
        gzip: bool,
        authorization: Option<&HeaderValue>,
        at_most: Option<Duration>,
    ) -> Result<Reply, Trouble> {
        let timeout = at_most.map_or(self.timeout, |at_most| at_most.min(self.timeout));
        let begin = Instant::now();
        loop {
            let kept = std::mem::take(&mut self.kept);
            let left = timeout.saturating_sub(begin.elapsed());
            match self.try_post(body, gzip, authorization, left) {
                Ok(reply) => {
                    (self.kept, self.cut) = (true, false);
                    return Ok(reply);
                }
                // Servers close connections that have nothing to say, between two ticks or just now.
                Err(error) if kept && is_cut(&error) => {}
                Err(error) => {
                    self.cut = is_cut(&error);
                    return Err(trouble(error, timeout));
                }
            }
        }
    }

    /// Whether the server is there: it answers within this time, and not a gateway for it that says that it
    /// is away.
    pub fn ping(&mut self, within: Duration) -> bool {
        // The connection that served the last request may be closed meanwhile.
        let again = std::mem::take(&mut self.kept);
        match self.try_ping(within) {
            Err(error) if again && is_cut(&error) => self.try_ping(within).unwrap_or(false),
            answered => answered.unwrap_or(false),
        }
    }

    fn try_ping(&self, within: Duration) -> Result<bool, ureq::Error> {
        let request = self.agent.get(&self.ping).header(header::CONNECTION, "close");
        let answer = request.config().timeout_global(Some(within)).build().call()?;
        Ok(!matches!(answer.status().as_u16(), 502..=504))
    }

    fn try_post(
        &self,
        body: &[&[u8]],
        gzip: bool,
        authorization: Option<&HeaderValue>,
        timeout: Duration,
    ) -> Result<Reply, ureq::Error> {
        let length: usize = body.iter().map(|slice| slice.len()).sum();
        let mut request = self
            .agent
            .post(&self.url)
            .header(header::CONTENT_TYPE, "text/plain; charset=utf-8")
            .header(header::CONTENT_LENGTH, length);
        if gzip {
            request = request.header(header::CONTENT_ENCODING, "gzip");
        }
        if length > ASKED_FOR || self.cut {
            request = request.header(header::EXPECT, "100-continue");
        }
        if let Some(value) = authorization {
            request = request.header(header::AUTHORIZATION, value);
        }
        let request = request.config().timeout_global(Some(timeout)).build();
        read(request.send(SendBody::from_reader(&mut Slices::new(body)))?)
    }
}

fn read(response: Response<Body>) -> Result<Reply, ureq::Error> {
    let (head, body) = response.into_parts();
    let retry_after = head.headers.get(header::RETRY_AFTER).and_then(|value| value.to_str().ok());
    let mut reply = Reply {
        status: head.status.as_u16(),
        retry_after: retry_after.map(str::to_owned),
        body: Vec::new(),
    };
    body.into_reader().take(LONGEST_ANSWER).read_to_end(&mut reply.body)?;
    Ok(reply)
}

/// Whether the connection ended where it should not.
fn is_cut(error: &ureq::Error) -> bool {
    matches!(error, ureq::Error::Io(error) if matches!(
        error.kind(),
        ErrorKind::ConnectionReset
            | ErrorKind::ConnectionAborted
            | ErrorKind::BrokenPipe
            | ErrorKind::NotConnected
            | ErrorKind::UnexpectedEof
    ))
}

fn trouble(error: ureq::Error, timeout: Duration) -> Trouble {
    let tls = match &error {
        ureq::Error::Timeout(_) => {
            return Trouble::Later(anyhow!("no answer within {:.1} s", timeout.as_secs_f64()));
        }
        ureq::Error::Rustls(error) => Some(error),
        ureq::Error::Io(error) => error.get_ref().and_then(|inner| inner.downcast_ref()),
        _ => None,
    };
    match tls {
        Some(rustls::Error::InvalidCertificate(why)) => Trouble::Untrusted(anyhow!(
            "its certificate is not trusted: {why}; `ca_file` names further authorities"
        )),
        _ => Trouble::Later(error.into()),
    }
}
