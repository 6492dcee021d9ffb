//! Who answers at a server's address: asked once at the start, so that the log names it and its version.
//!
//! A thread of its own asks, by a connection of its own: nothing waits for the answer. Without one there
//! is nothing to say, since the first delivery tells what is wrong.

use super::auth::Credentials;
use super::client::Client;
use super::tls::Tls;
use super::{HttpConfig, Server, Url, address, refusals};
use crate::capabilities::drop_all;
use crate::process::thread_name;
use anyhow::{Result, anyhow, bail};
use std::io::Read;
use std::sync::Arc;
use std::thread;
use std::time::Duration;
use ureq::http::HeaderMap;

/// No longer than this is waited for the answer.
const PATIENCE: Duration = Duration::from_secs(3);
/// Of an answer, no more is read. The version of VictoriaMetrics comes after its other metrics.
const LONGEST_ANSWER: u64 = 1 << 20;

/// Asks each URL, and logs the answers.
pub fn start(config: &HttpConfig, tls: Option<Arc<Tls>>) {
    let config = config.clone();
    let run = move || {
        drop_all();
        for url in &config.urls {
            match ask(&config, url, tls.clone()) {
                Ok(name) => {
                    log::info!("output {config}: {} answers at {url}", refusals::shorten(&name));
                }
                Err(why) => log::debug!("output {config}: who answers at {url}? {why:#}"),
            }
        }
    };
    if let Err(why) = thread::Builder::new().name(thread_name("probe")).spawn(run) {
        log::debug!("the thread `probe` cannot be started: {why}");
    }
}

fn ask(config: &HttpConfig, url: &str, tls: Option<Arc<Tls>>) -> Result<String> {
    let path = match config.server {
        Server::Victoriametrics | Server::Prometheus { .. } => "/metrics",
        _ => "/ping",
    };
    let mut at = Url::parse(url).map_err(|why| anyhow!(why))?;
    if matches!(config.server, Server::Prometheus { .. }) {
        at.path.clear(); // it is that of what takes samples
    }
    let page = address::page(&at, path)?;
    // With a token that is not there yet, it is asked without.
    let credentials = Credentials::new(config)?;
    let mut client = Client::new(config, url, tls)?;
    let answer = client.get(&page, &credentials, PATIENCE.min(config.timeout))?;
    let (head, body) = answer.into_parts();
    let mut text = Vec::new();
    body.into_reader().take(LONGEST_ANSWER).read_to_end(&mut text)?;
    match name(&head.headers, &String::from_utf8_lossy(&text)) {
        Some(name) => Ok(name),
        None => bail!("{} without a name", head.status.as_u16()),
    }
}

/// The name and version that an answer tells: InfluxDB and Telegraf in headers, InfluxDB 3 in JSON too,
/// all of VictoriaMetrics in a metric, if they were built with a version.
fn name(headers: &HeaderMap, body: &str) -> Option<String> {
    let header = |name: &str| headers.get(name)?.to_str().ok();
    let version = |version: &str| version.trim_start_matches('v').to_owned();
    if let Some(influx) = header("x-influxdb-version") {
        let build = header("x-influxdb-build").map(|build| format!(" ({build})"));
        return Some(format!("InfluxDB {}{}", version(influx), build.unwrap_or_default()));
    }
    if let Some(labels) = body.lines().find_map(|line| line.strip_prefix("vm_app_version{")) {
        let label = |key: &str| Some(labels.split_once(key)?.1.split_once('"')?.0);
        let found = [" short_version=\"", "version=\""]
            .iter()
            .find_map(|key| label(key).filter(|version| !version.is_empty()));
        return Some(
            format!("VictoriaMetrics {}", version(found.unwrap_or_default())).trim().into(),
        );
    }
    if let Some(labels) = body.lines().find_map(|line| line.strip_prefix("prometheus_build_info{"))
    {
        let found = labels.split_once(",version=\"").and_then(|(_, rest)| rest.split_once('"'));
        return Some(format!("Prometheus {}", found.unwrap_or_default().0).trim().into());
    }
    let json: serde_json::Value = serde_json::from_str(body).unwrap_or_default();
    if let (Some(influx), Some(_)) = (json["version"].as_str(), json["revision"].as_str()) {
        return Some(format!("InfluxDB {}", version(influx)));
    }
    header("x-server-hostname").map(|_| "VictoriaMetrics".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use ureq::http::HeaderValue;

    #[test]
    fn servers_are_named_by_what_they_tell() {
        let metrics = "vm_app_uptime_seconds 1\nvm_app_version{version=\"victoria-metrics-2022-tags-v1.79.0\", short_version=\"v1.79.0\"} 1\n";
        for (headers, body, expected) in [
            (
                &[("x-influxdb-build", "OSS"), ("x-influxdb-version", "1.6.7~rc0")][..],
                "",
                Some("InfluxDB 1.6.7~rc0 (OSS)"),
            ),
            (
                &[("x-influxdb-version", "v2.7.1"), ("x-influxdb-build", "OSS")],
                "",
                Some("InfluxDB 2.7.1 (OSS)"),
            ),
            (
                &[],
                "prometheus_build_info{branch=\"debian/sid\",goversion=\"go1.19\",version=\"2.42.0+ds\"} 1\n",
                Some("Prometheus 2.42.0+ds"),
            ),
            (&[], r#"{"version":"3.1.0","revision":"abc"}"#, Some("InfluxDB 3.1.0")),
            (&[("x-influxdb-version", "1.0")], "", Some("InfluxDB 1.0")),
            (&[("x-server-hostname", "h")], metrics, Some("VictoriaMetrics 1.79.0")),
            (&[], "vm_app_version{version=\"\", short_version=\"\"} 1", Some("VictoriaMetrics")),
            (&[("x-server-hostname", "h")], "", Some("VictoriaMetrics")),
            (&[("server", "nginx")], "<html>", None),
            (&[], r#"{"version":3}"#, None),
        ] {
            let pairs = headers
                .iter()
                .map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value)));
            assert_eq!(name(&pairs.collect(), body).as_deref(), expected, "{headers:?} {body}");
        }
    }
}
