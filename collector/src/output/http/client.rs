//! The HTTP client of one URL: one connection, kept for a while, and one request at a time.

use super::answer::Reply;
use super::auth::Credentials;
use super::connect::Way;
use super::payload::Slices;
use super::tls::Tls;
use super::wire::Media;
use super::{HttpConfig, Url, address};
use anyhow::{Error, Result, anyhow};
use rustls::{AlertDescription, CertificateError};
use std::io::{ErrorKind, Read};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use ureq::http::{HeaderValue, Response, Uri, header};
use ureq::{Agent, Body, Proxy, ProxyProtocol, RequestBuilder, SendBody};

/// Of an answer, no more is read.
const LONGEST_ANSWER: u64 = 64 << 10;
/// Larger bodies are sent only when the server wants them: a server that does not want one closes the
/// connection, and its answer is lost.
const ASKED_FOR: usize = 1 << 20;
/// A server keeps a connection for about a minute. We give it up before.
const IDLE: Duration = Duration::from_secs(50);

/// A client of one URL.
pub struct Client {
    way: Way,
    /// Named by the configuration, whatever the server speaks.
    proxy: Option<Url>,
    post_to: Uri,
    /// Where the server says that it is there.
    ping: Uri,
    timeout: Duration,
    /// How old a connection gets.
    connection_age: Duration,
    link: Option<Link>,
    /// Whether a new connection was cut: then the server is asked whether it wants the next body.
    cut: bool,
}

/// What keeps a connection.
struct Link {
    agent: Agent,
    /// The proxy's header that it was made with.
    login: Option<HeaderValue>,
    /// Not later than the connection.
    since: Instant,
    /// Whether the connection has served a request, so that the server may close it meanwhile.
    kept: bool,
}

/// Why there is no answer.
#[derive(Debug)]
pub enum Trouble {
    /// It may pass.
    Later(Error),
    /// A person has to help: this is not the server that it should be, or it wants another client.
    Hold(Error),
    /// The proxy does not let us in: a new password may help, and else a person has to.
    Denied(String),
}

impl Client {
    /// A client of one of the URLs that are configured. It does not connect yet. Proxies that the
    /// environment names are not used.
    ///
    /// # Errors
    /// The URL, or the proxy's, is none.
    pub fn new(config: &HttpConfig, url: &str, tls: Option<Arc<Tls>>) -> Result<Self> {
        let parse = |url: &str| Url::parse(url).map_err(|why| anyhow!("{url} is no URL: {why}"));
        let url = parse(url)?;
        let proxy = config.proxy.as_ref().map(|proxy| parse(&proxy.url)).transpose()?;
        let plain = proxy.as_ref().filter(|_| tls.is_none());
        let plain = plain.map(|proxy| proxy.to_string().parse()).transpose()?;
        Ok(Self {
            post_to: address::address(&config.server, &url)?,
            ping: address::ping(&config.server, &url)?,
            way: Way { url, tls, proxy: plain, begins: Arc::default() },
            proxy,
            timeout: config.timeout,
            connection_age: config.connection_age,
            link: None,
            cut: false,
        })
    }

    /// Posts a body and waits for the answer, no longer than configured and no longer than told.
    ///
    /// # Errors
    /// There was no answer, or not the whole of it.
    pub fn post(
        &mut self,
        body: &[&[u8]],
        media: Media,
        credentials: &Credentials,
        at_most: Option<Duration>,
    ) -> Result<Reply, Trouble> {
        let timeout = at_most.map_or(self.timeout, |at_most| at_most.min(self.timeout));
        let begin = Instant::now();
        loop {
            let mut link = self.link(credentials).map_err(Trouble::Later)?;
            let left = timeout.saturating_sub(begin.elapsed());
            match self.try_post(&link.agent, body, media, credentials, left) {
                Ok(reply) => {
                    self.cut = false;
                    link.kept = true;
                    self.link = Some(link);
                    return match (reply.status, &self.proxy) {
                        (407, Some(proxy)) => Err(Trouble::Denied(denied(proxy))),
                        _ => Ok(reply),
                    };
                }
                // Servers close connections that have nothing to say, between two ticks or just now.
                Err(error) if link.kept && is_cut(&error) => {}
                Err(error) => {
                    self.cut = is_cut(&error);
                    return Err(self.trouble(error, timeout));
                }
            }
        }
    }

    /// Whether the server is there: it answers within this time, and not a gateway for it that says that it
    /// is away.
    pub fn ping(&mut self, credentials: &Credentials, within: Duration) -> bool {
        let answer = self.get(&self.ping.clone(), credentials, within);
        answer.is_ok_and(|answer| !matches!(answer.status().as_u16(), 502..=504))
    }

    /// Asks for a page of the server, by a connection of its own.
    ///
    /// # Errors
    /// There was no answer.
    pub fn get(
        &mut self,
        page: &Uri,
        credentials: &Credentials,
        within: Duration,
    ) -> Result<Response<Body>> {
        self.link = None;
        let link = self.link(credentials)?;
        let request = link.agent.get(page).header(header::CONNECTION, "close");
        let request = self.introduced(request, credentials);
        let request = request.config().timeout_global(Some(within)).build();
        self.way.begins.store(true, Ordering::Relaxed);
        Ok(request.call()?)
    }

    /// A request with the headers that say who we are.
    fn introduced<B>(
        &self,
        mut request: RequestBuilder<B>,
        credentials: &Credentials,
    ) -> RequestBuilder<B> {
        for (name, value) in credentials.headers() {
            request = request.header(name, value);
        }
        if let (Some(login), Some(_)) = (credentials.login(), &self.way.proxy) {
            request = request.header(header::PROXY_AUTHORIZATION, login.header);
        }
        request
    }

    /// The connection, unless it is too old or was made for another user of the proxy; else a new one,
    /// for which names are looked up and certificates read again.
    fn link(&mut self, credentials: &Credentials) -> Result<Link> {
        let login = credentials.login();
        let header = login.map(|login| login.header.clone());
        let fresh =
            |link: &Link| link.since.elapsed() < self.connection_age && link.login == header;
        if let Some(link) = self.link.take().filter(fresh) {
            return Ok(link);
        }
        let mut proxy = None;
        if let (Some(url), Some(_)) = (&self.proxy, &self.way.tls) {
            let host = url.host.without_port().to_string();
            let mut tunnel = Proxy::builder(ProxyProtocol::Http).host(&host).port(url.port());
            if let Some(login) = login {
                tunnel = tunnel.username(login.username).password(login.password);
            }
            proxy = Some(tunnel.build()?);
        }
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .proxy(proxy)
            .user_agent(concat!("collector/", env!("CARGO_PKG_VERSION")))
            .max_idle_connections(1)
            .max_idle_age(IDLE)
            .input_buffer_size(16 << 10)
            .output_buffer_size(64 << 10)
            .build();
        let agent = self.way.agent(config);
        Ok(Link { agent, login: header, since: Instant::now(), kept: false })
    }

    fn try_post(
        &self,
        agent: &Agent,
        body: &[&[u8]],
        media: Media,
        credentials: &Credentials,
        timeout: Duration,
    ) -> Result<Reply, ureq::Error> {
        let length: usize = body.iter().map(|slice| slice.len()).sum();
        let mut request = agent
            .post(&self.post_to)
            .header(header::CONTENT_TYPE, media.kind)
            .header(header::CONTENT_LENGTH, length);
        if let Some(encoding) = media.encoding {
            request = request.header(header::CONTENT_ENCODING, encoding);
        }
        if let Some(version) = media.version {
            request = request.header("x-prometheus-remote-write-version", version);
        }
        if length > ASKED_FOR || self.cut {
            request = request.header(header::EXPECT, "100-continue");
        }
        let request = self.introduced(request, credentials);
        let request = request.config().timeout_global(Some(timeout)).build();
        self.way.begins.store(true, Ordering::Relaxed);
        read(request.send(SendBody::from_reader(&mut Slices::new(body)))?)
    }

    fn trouble(&self, error: ureq::Error, timeout: Duration) -> Trouble {
        let tls: Option<&rustls::Error> = match &error {
            ureq::Error::Timeout(_) => {
                return Trouble::Later(anyhow!("no answer within {:.1} s", timeout.as_secs_f64()));
            }
            ureq::Error::ConnectProxyFailed(why) => {
                return tunnel_trouble(why, self.proxy.as_ref());
            }
            ureq::Error::Io(error) => error.get_ref().and_then(|inner| inner.downcast_ref()),
            _ => None,
        };
        match tls {
            Some(rustls::Error::InvalidCertificate(why)) => Trouble::Hold(untrusted(why)),
            Some(rustls::Error::AlertReceived(alert)) if is_about_us(*alert) => Trouble::Hold(
                anyhow!("it does not take our certificate ({alert:?}): look at `client_cert`"),
            ),
            _ => Trouble::Later(match &self.proxy {
                None => error.into(),
                Some(proxy) => Error::from(error).context(format!("through the proxy {proxy}")),
            }),
        }
    }
}

/// What a proxy says in place of a connection.
fn tunnel_trouble(why: &str, proxy: Option<&Url>) -> Trouble {
    let proxy = proxy.map(Url::to_string).unwrap_or_default();
    match why.trim_start_matches("proxy server responded ").as_bytes() {
        [b'4', b'0', b'7', ..] => Trouble::Denied(denied(&proxy)),
        [b'4', ..] => Trouble::Hold(anyhow!("the proxy {proxy} does not connect us: {why}")),
        _ => Trouble::Later(anyhow!("the proxy {proxy} did not connect us: {why}")),
    }
}

fn denied(proxy: impl std::fmt::Display) -> String {
    format!("407: the proxy {proxy} does not let us in: correct `proxy_username` and its password")
}

fn untrusted(why: &CertificateError) -> Error {
    let of_version_1 = matches!(why, CertificateError::Other(other)
        if other.to_string().contains("UnsupportedCertVersion"));
    match why {
        _ if of_version_1 => anyhow!(
            "its certificate is of the old version 1 of X.509: `openssl req -x509` makes better ones"
        ),
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            anyhow!("its certificate is not trusted: {why}; the server needs a new one")
        }
        _ => anyhow!(
            "its certificate is not trusted: {why}; `ca_file` names further authorities, or the \
             certificate itself"
        ),
    }
}

/// Whether a server says that we are not who it wants.
fn is_about_us(alert: AlertDescription) -> bool {
    matches!(
        alert,
        AlertDescription::CertificateRequired
            | AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
            | AlertDescription::DecryptError
            | AlertDescription::AccessDenied
    )
}

fn read(response: Response<Body>) -> Result<Reply, ureq::Error> {
    let (head, body) = response.into_parts();
    let retry_after = head.headers.get(header::RETRY_AFTER).and_then(|value| value.to_str().ok());
    let written = |what: &str| -> Option<u64> {
        let name = format!("x-prometheus-remote-write-{what}-written");
        head.headers.get(name)?.to_str().ok()?.trim().parse().ok()
    };
    let written = [written("samples"), written("histograms")];
    let mut reply = Reply {
        status: head.status.as_u16(),
        retry_after: retry_after.map(str::to_owned),
        written: written.into_iter().flatten().reduce(u64::saturating_add),
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
