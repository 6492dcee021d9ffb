//! Prometheus of Debian, which takes remote write 1.0.

use super::Server;
use super::promql::{self, Labels, Points};
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

/// A running Prometheus. It keeps what it was sent once it has answered, also through
/// [`Server::kill9`]; it takes no sample twice, and none that is older than the newest one of its series.
#[derive(Debug)]
pub struct Prometheus {
    pub server: Server,
}

impl Prometheus {
    /// With native histograms.
    ///
    /// # Panics
    /// It does not start.
    #[must_use]
    pub fn start() -> Self {
        Self::with("scrape_configs: []\n", true)
    }

    /// One that scrapes an address five times a second, and asks for native histograms or does not.
    ///
    /// # Panics
    /// It does not start.
    #[must_use]
    pub fn scraping(address: SocketAddr, native: bool) -> Self {
        Self::with(&scrapes(address, Duration::from_millis(200), ""), native)
    }

    /// The same over TLS, with a server that the authority in a file vouches for, and a token in another.
    ///
    /// # Panics
    /// It does not start.
    #[must_use]
    pub fn scraping_over_tls(address: SocketAddr, ca: &Path, token: &Path) -> Self {
        let more = format!(
            "  scheme: https\n  tls_config: {{ca_file: \"{}\"}}\n  authorization: {{credentials_file: \"{}\"}}\n",
            ca.display(),
            token.display()
        );
        Self::with(&scrapes(address, Duration::from_millis(200), &more), false)
    }

    /// One that scrapes an address that often, for classic histograms.
    ///
    /// # Panics
    /// It does not start.
    #[must_use]
    pub fn scraping_every(address: SocketAddr, interval: Duration) -> Self {
        Self::with(&scrapes(address, interval, ""), false)
    }

    fn with(text: &str, native: bool) -> Self {
        let mut server = Server::new("prometheus", "/-/ready", |folder, address| {
            let config = folder.join("prometheus.yml");
            fs::write(&config, text).expect("a config file");
            let mut arguments = vec![
                format!("--config.file={}", config.display()),
                format!("--storage.tsdb.path={}", folder.join("data").display()),
                format!("--web.listen-address={address}"),
                "--web.enable-remote-write-receiver".to_owned(),
                "--log.level=warn".to_owned(),
            ];
            if native {
                arguments.push("--enable-feature=native-histograms".to_owned());
            }
            arguments
        });
        server.start();
        Self { server }
    }

    /// What an expression comes to at a time in milliseconds, by labels.
    ///
    /// # Panics
    /// The server does not answer what is expected.
    #[must_use]
    pub fn query(&self, query: &str, time_ms: i64) -> Vec<(Labels, f64)> {
        promql::query(&self.server, query, time_ms)
    }

    /// What an expression comes to at each step, in milliseconds, by labels: times and values.
    ///
    /// # Panics
    /// As [`Prometheus::query`].
    #[must_use]
    pub fn query_range(
        &self,
        query: &str,
        from_until_step: (i64, i64, i64),
    ) -> Vec<(Labels, Points)> {
        promql::query_range(&self.server, query, from_until_step)
    }

    /// The samples of an hour before a time in milliseconds, of each series that a selector chooses.
    ///
    /// # Panics
    /// As [`Prometheus::query`].
    #[must_use]
    pub fn samples(&self, selector: &str, time_ms: i64) -> Vec<(Labels, Points)> {
        promql::stretch(&self.server, &format!("{selector}[1h]"), time_ms)
    }
}

fn scrapes(address: SocketAddr, interval: Duration, more: &str) -> String {
    let ms = interval.as_millis();
    format!(
        "scrape_configs:\n- job_name: collector\n  scrape_interval: {ms}ms\n  scrape_timeout: {ms}ms\n{more}  \
         static_configs:\n  - targets: [\"{address}\"]\n"
    )
}
