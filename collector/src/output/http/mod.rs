//! Lines over HTTP: InfluxDB 1, 2 and 3, and VictoriaMetrics; and what is made of lines for Prometheus and OTLP.

mod absence;
mod address;
mod answer;
mod auth;
mod client;
mod connect;
mod dead_letters;
mod deliver;
mod failover;
mod fit;
mod payload;
mod pin;
mod probe;
mod refusals;
mod search;
mod site;
#[cfg(test)]
mod tests;
mod tls;
mod url;
pub(super) mod wire;

pub use answer::{Answer, Reply};
pub use refusals::Refusal;
pub use tls::Tls;
pub use url::Url;
use wire::Wire;
pub(crate) use wire::names::{Kind as MetricKind, label as label_name, prometheus as metric_name};
pub use wire::{Version, answer};

use super::portion::Portion;
use super::secret::Secret;
use crate::encode::Tags;
use ::http::HeaderName;
use deliver::{Http, Shared};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// This crate logs requests as they are, with their secrets, at the level trace: it may not.
pub const SHOWS_SECRETS: &str = "ureq_proto";

/// An HTTP output as it is configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpConfig {
    /// What speaks there, and what of it is written to.
    pub server: Server,
    /// At least one [`Url`], in the order in which they are tried; the path stands in front of the
    /// server's own. All speak TLS, or none does.
    pub urls: Vec<String>,
    /// Who we are.
    pub auth: Auth,
    /// Sent with every request.
    pub headers: Vec<Header>,
    /// What stands between.
    pub proxy: Option<Proxy>,
    /// Trusted beside the system's own roots: certificates in PEM, of authorities or of servers.
    pub ca_file: Option<PathBuf>,
    /// Who we are to a server that asks for a certificate.
    pub client_cert: Option<ClientCert>,
    /// Whether bodies are compressed.
    pub gzip: bool,
    /// How much goes into one request, and how long lines wait for others.
    pub batch: Portion,
    /// Requests that may be under way at once.
    pub in_flight: usize,
    /// How long one request may take, from connecting to the end of the answer.
    pub timeout: Duration,
    /// How old a connection gets: then the server's name is looked up again.
    pub connection_age: Duration,
    /// Where lines go that the server refuses.
    pub dead_letters: Option<DeadLetterConfig>,
}

/// A header of every request, such as the id of a tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Its name.
    pub name: HeaderName,
    /// Its value.
    pub text: HeaderText,
}

/// What a header says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeaderText {
    /// This.
    Plain(String),
    /// A secret.
    Secret(Secret),
}

/// An HTTP proxy: requests to `http://` go through it as they are, to `https://` by CONNECT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proxy {
    /// `http://HOST:PORT`
    pub url: String,
    /// Who we are to it: nobody, or a user.
    pub auth: Auth,
}

/// A certificate of our own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCert {
    /// It and those between it and its authority, in PEM.
    pub cert: PathBuf,
    /// Its private key in PEM, without a password.
    pub key: PathBuf,
}

/// Bytes of that file when nothing else is said.
pub const DEAD_LETTER_BYTES: u64 = 1 << 20;

/// Where lines go that the server refuses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetterConfig {
    /// The file.
    pub path: PathBuf,
    /// Bytes that it never exceeds.
    pub bytes: u64,
}

/// The servers that we know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Server {
    /// InfluxDB 1.x: `/write`.
    Influxdb1 {
        /// The database.
        database: String,
        /// Its default one when none is named.
        retention_policy: Option<String>,
    },
    /// InfluxDB 2.x and Cloud: `/api/v2/write`.
    Influxdb2 {
        /// The organization, by name or id.
        org: String,
        /// The bucket, by name or id.
        bucket: String,
    },
    /// InfluxDB 3: `/api/v3/write_lp`.
    Influxdb3 {
        /// The database.
        database: String,
    },
    /// VictoriaMetrics: `/write`.
    Victoriametrics,
    /// Prometheus and others that take its remote write. The URL has the whole path, by default `/api/v1/write`.
    Prometheus {
        /// Which messages are sent.
        version: Version,
        /// Whether histograms are native ones.
        native: bool,
    },
    /// OTLP: `/v1/metrics`.
    Otlp,
}

impl Server {
    /// Whether lines of a series have to arrive in order: one request at a time, the oldest first.
    #[must_use]
    pub const fn in_order(&self) -> bool {
        matches!(self, Self::Prometheus { .. } | Self::Otlp)
    }
}

/// Who we are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Auth {
    /// Nobody.
    None,
    /// A user and a password.
    Basic {
        /// The user.
        username: String,
        /// The password.
        password: Secret,
    },
    /// A token, sent as the server wants it: `Token` to InfluxDB 1 and 2, `Bearer` to the others.
    Token(Secret),
}

impl HttpConfig {
    /// What an output has of which only server and URL are known.
    #[must_use]
    pub fn new(server: Server, url: String, auth: Auth) -> Self {
        // A line is up to 70 samples.
        let lines = if server.in_order() { 500 } else { 5000 };
        let in_flight = if server.in_order() { 1 } else { 2 };
        Self {
            server,
            urls: vec![url],
            auth,
            headers: Vec::new(),
            proxy: None,
            ca_file: None,
            client_cert: None,
            gzip: true,
            batch: Portion { lines, bytes: 4 << 20, wait: Duration::from_secs(1) },
            in_flight,
            timeout: Duration::from_secs(10),
            connection_age: Duration::from_secs(300),
            dead_letters: None,
        }
    }
}

/// What is not itself in a name within a URL.
const SPECIAL: AsciiSet = CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'%')
    .add(b'/')
    .add(b'<')
    .add(b'>')
    .add(b'?')
    .add(b'@');

/// The output's name: its first URL as `--output` takes it, without secrets.
impl fmt::Display for HttpConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, place) = match &self.server {
            Server::Influxdb1 { database, retention_policy } => {
                ("influxdb1", [Some(database), retention_policy.as_ref()])
            }
            Server::Influxdb2 { org, bucket } => ("influxdb2", [Some(org), Some(bucket)]),
            Server::Influxdb3 { database } => ("influxdb3", [Some(database), None]),
            Server::Victoriametrics => ("victoriametrics", [None, None]),
            Server::Prometheus { .. } => ("prometheus", [None, None]),
            Server::Otlp => ("otlp", [None, None]),
        };
        let url = &self.urls[0];
        match url.strip_prefix("https://") {
            Some(rest) => write!(f, "{kind}+https://{rest}")?,
            None => write!(f, "{kind}://{}", url.trim_start_matches("http://"))?,
        }
        for name in place.into_iter().flatten() {
            write!(f, "/{}", utf8_percent_encode(name, &SPECIAL))?;
        }
        Ok(())
    }
}

/// Makes bodies of requests without sending them, to see what that costs.
pub struct Packer(Wire);

impl Packer {
    /// As an output of this configuration does it; `tags` are those of every line.
    #[must_use]
    pub fn new(config: &HttpConfig, tags: &Tags) -> Self {
        Self(Wire::new(config, tags))
    }

    /// The length of a body with these lines.
    ///
    /// # Errors
    /// It cannot be compressed.
    pub fn pack(&mut self, lines: &[u8]) -> std::io::Result<usize> {
        let packed = self.0.pack(std::iter::once(lines))?;
        Ok(packed.body.iter().map(|slice| slice.len()).sum())
    }
}

/// Reads certificates and secrets, as [`open`] does; connects to nobody.
///
/// # Errors
/// See [`open`].
pub fn ready(config: &HttpConfig) -> anyhow::Result<()> {
    Http::new(config, &Shared::new(config, &Tags::new())?).map(drop)
}

/// Opens it, once for each request that may be under way; the server need not be there yet, nor the file
/// of its token. `tags` are those of every line.
///
/// # Errors
/// The files of certificates or the dead-letter file cannot be opened, or a variable with a secret is not
/// set.
pub fn open(config: &HttpConfig, tags: &Tags) -> anyhow::Result<Vec<Box<dyn super::Output>>> {
    let shared = Shared::new(config, tags)?;
    let open =
        |_| -> anyhow::Result<Box<dyn super::Output>> { Ok(Box::new(Http::new(config, &shared)?)) };
    let outputs = (0..config.in_flight).map(open).collect();
    probe::start(config, shared.tls.clone());
    outputs
}
