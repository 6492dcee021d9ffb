//! Lines over HTTP: InfluxDB 1, 2 and 3, and VictoriaMetrics.

mod absence;
mod address;
mod answer;
mod auth;
mod client;
mod dead_letters;
mod deliver;
mod fit;
mod payload;
mod refusals;
mod search;
#[cfg(test)]
mod tests;
mod tls;

use super::parcel::Limits;
use super::secret::Secret;
use dead_letters::DeadLetters;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// This crate logs requests as they are, with their secrets, at the level trace: it may not.
pub const SHOWS_SECRETS: &str = "ureq_proto";

/// An HTTP output as it is configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpConfig {
    /// What speaks there, and what of it is written to.
    pub server: Server,
    /// `http://HOST:PORT` or `https://HOST:PORT`, with a path in front of the server's own where a proxy
    /// asks for one. No user, no query, no slash at the end.
    pub url: String,
    /// Who we are.
    pub auth: Auth,
    /// Trusted beside the system's own roots: certificates in PEM.
    pub ca_file: Option<PathBuf>,
    /// Whether bodies are compressed.
    pub gzip: bool,
    /// How much goes into one request, and how long lines wait for others.
    pub batch: Limits,
    /// Requests that may be under way at once.
    pub in_flight: usize,
    /// How long one request may take, from connecting to the end of the answer.
    pub timeout: Duration,
    /// Where lines go that the server refuses.
    pub dead_letters: Option<DeadLetterConfig>,
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
        Self {
            server,
            url,
            auth,
            ca_file: None,
            gzip: true,
            batch: Limits { lines: 5000, bytes: 4 << 20, wait: Duration::from_secs(1) },
            in_flight: 2,
            timeout: Duration::from_secs(10),
            dead_letters: None,
        }
    }
}

/// The output's name: its URL as `--output` takes it, without secrets.
impl fmt::Display for HttpConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, path) = match &self.server {
            Server::Influxdb1 { database, retention_policy: None } => {
                ("influxdb1", format!("/{database}"))
            }
            Server::Influxdb1 { database, retention_policy: Some(policy) } => {
                ("influxdb1", format!("/{database}/{policy}"))
            }
            Server::Influxdb2 { org, bucket } => ("influxdb2", format!("/{org}/{bucket}")),
            Server::Influxdb3 { database } => ("influxdb3", format!("/{database}")),
            Server::Victoriametrics => ("victoriametrics", String::new()),
        };
        match self.url.strip_prefix("https://") {
            Some(rest) => write!(f, "{kind}+https://{rest}{path}"),
            None => write!(f, "{kind}://{}{path}", self.url.trim_start_matches("http://")),
        }
    }
}

/// Opens it, once for each request that may be under way; the server need not be there yet, nor the file
/// of its token.
///
/// # Errors
/// The CA file or the dead-letter file cannot be opened, or a variable with a secret is not set.
pub fn open(config: &HttpConfig) -> anyhow::Result<Vec<Box<dyn super::Output>>> {
    let dead_letters = DeadLetters::new(config.to_string(), config.dead_letters.as_ref())?;
    let dead_letters = Arc::new(Mutex::new(dead_letters));
    let open = || -> anyhow::Result<Box<dyn super::Output>> {
        Ok(Box::new(deliver::Http::new(config, Arc::clone(&dead_letters))?))
    };
    (0..config.in_flight).map(|_| open()).collect()
}
