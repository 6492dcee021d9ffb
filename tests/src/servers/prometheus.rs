//! Prometheus of Debian, which takes remote write 1.0.

use super::Server;
use crate::http::{self, Answer};
use serde_json::Value as Json;
use std::collections::BTreeMap;
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

/// Times in milliseconds, and values.
pub type Series = Vec<(i64, f64)>;

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
    pub fn query(&self, query: &str, time_ms: i64) -> Vec<(BTreeMap<String, String>, f64)> {
        let results = self.ask(query, time_ms);
        let number = |json: &Json| json["value"][1].as_str().expect("a value").parse();
        results.iter().map(|r| (labels(&r["metric"]), number(r).expect("a number"))).collect()
    }

    /// The samples of an hour before a time in milliseconds, of each series that a selector chooses.
    ///
    /// # Panics
    /// As [`Prometheus::query`].
    #[must_use]
    pub fn samples(&self, selector: &str, time_ms: i64) -> Vec<(BTreeMap<String, String>, Series)> {
        let results = self.ask(&format!("{selector}[1h]"), time_ms);
        let sample = |pair: &Json| {
            let seconds = pair[0].as_f64().expect("a time");
            let value = pair[1].as_str().expect("a value").parse().expect("a number");
            ((seconds * 1000.0).round() as i64, value)
        };
        let series = |result: &Json| {
            let samples = result["values"].as_array().expect("samples").iter().map(sample);
            (labels(&result["metric"]), samples.collect())
        };
        results.iter().map(series).collect()
    }

    fn ask(&self, query: &str, time_ms: i64) -> Vec<Json> {
        let time = format!("{}.{:03}", time_ms / 1000, time_ms % 1000);
        let url = self.server.url() + "/api/v1/query";
        let answer = http::get(&url, &[("query", query), ("time", &time)]);
        let Answer { status, body } = answer.expect("an answer");
        assert_eq!(status, 200, "{query}: {body}");
        let json: Json = serde_json::from_str(&body).expect("JSON");
        json["data"]["result"].as_array().expect("results").clone()
    }
}

fn scrapes(address: SocketAddr, interval: Duration, more: &str) -> String {
    let ms = interval.as_millis();
    format!(
        "scrape_configs:\n- job_name: collector\n  scrape_interval: {ms}ms\n  scrape_timeout: {ms}ms\n{more}  \
         static_configs:\n  - targets: [\"{address}\"]\n"
    )
}

fn labels(metric: &Json) -> BTreeMap<String, String> {
    let labels = metric.as_object().expect("labels").iter();
    labels.map(|(k, v)| (k.clone(), v.as_str().expect("a label's text").to_owned())).collect()
}
