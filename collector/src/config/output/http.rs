//! `[[output]]` of the kinds that speak HTTP.

use super::super::section::{Section, Why};
use super::DAY;
use super::auth::{auth, headers, proxy_auth, usual_auth};
use crate::output::SpoolConfig;
use crate::output::http::{
    Auth, ClientCert, DEAD_LETTER_BYTES, DeadLetterConfig, HttpConfig, Proxy, Server, Url, Version,
};
use std::ops::RangeInclusive;
use std::time::Duration;

/// What makes sense; `collector_output_url` has a line for each URL.
const MOST_URLS: usize = 16;
const LINES_RANGE: RangeInclusive<u64> = 1..=1_000_000;
const BYTES_RANGE: RangeInclusive<u64> = 1024..=1 << 30;
const WAIT_RANGE: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(3600);
const IN_FLIGHT_RANGE: RangeInclusive<u64> = 1..=16;
const TIMEOUT_RANGE: RangeInclusive<Duration> =
    Duration::from_millis(100)..=Duration::from_secs(600);
const CONNECTION_RANGE: RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_secs(DAY);
const DEAD_LETTER_RANGE: RangeInclusive<u64> = 1024..=1 << 40;

pub(super) fn http(
    kind: &str,
    section: &mut Section<'_>,
    spool: Option<&SpoolConfig>,
) -> Option<HttpConfig> {
    let urls = urls(section);
    let proxy = proxy(section, urls.as_deref().unwrap_or_default());
    let tls = urls.as_ref().is_none_or(|urls| urls[0].tls);
    let server = server(kind, section);
    let in_order = server.as_ref().is_some_and(Server::in_order);
    let auth = auth(section);
    let of_kind = server.clone().unwrap_or(Server::Victoriametrics);
    let default = HttpConfig::new(of_kind, String::new(), Auth::None);
    let mut batch = default.batch;
    batch.lines = section.number("batch_lines", LINES_RANGE).unwrap_or(batch.lines);
    batch.bytes = section.size("batch_bytes", BYTES_RANGE).unwrap_or(batch.bytes);
    batch.wait = section.duration("batch_time", WAIT_RANGE).unwrap_or(batch.wait);
    let in_flight = if in_order {
        let why = "`in_flight`: lines of a series have to arrive in order, one request at a time";
        section.forbid("in_flight", why);
        None
    } else {
        section.number("in_flight", IN_FLIGHT_RANGE)
    };
    let timeout = section.duration("timeout", TIMEOUT_RANGE);
    let connection_age = section.duration("connection_age", CONNECTION_RANGE);
    let dead_letter_bytes = section.number("dead_letter_bytes", DEAD_LETTER_RANGE);
    let dead_letters = section.path("dead_letters");
    if dead_letter_bytes.is_some() && dead_letters.is_none() && spool.is_none() {
        section.missing("dead_letters");
    }
    let gzip = if kind == "prometheus" {
        section.forbid("gzip", "`gzip`: remote write is compressed with snappy");
        None
    } else {
        section.flag("gzip")
    };
    let config = HttpConfig {
        headers: headers(section),
        proxy,
        ca_file: section.path("ca_file"),
        client_cert: client_cert(section),
        gzip: gzip.unwrap_or(default.gzip),
        batch,
        in_flight: in_flight.map_or(default.in_flight, |number| number as usize),
        timeout: timeout.unwrap_or(default.timeout),
        connection_age: connection_age.unwrap_or(default.connection_age),
        ..default
    };
    if !tls {
        for key in ["ca_file", "client_cert", "client_key"] {
            section.forbid(key, &format!("`{key}`: a URL of https:// is needed for it"));
        }
    }
    let (server, urls) = (server?, urls?);
    let auth = auth.unwrap_or_else(|| usual_auth(&server));
    let urls = urls.iter().map(Url::to_string).collect();
    let mut config = HttpConfig { server, urls, auth, ..config };
    let dead_letters = dead_letters.or_else(|| Some(spool?.dead_letters(&config.to_string())));
    let bytes = dead_letter_bytes.unwrap_or(DEAD_LETTER_BYTES);
    config.dead_letters = dead_letters.map(|path| DeadLetterConfig { path, bytes });
    Some(config)
}

/// `url`, or several `urls` of which the first that works is used. Never none.
fn urls(section: &mut Section<'_>) -> Option<Vec<Url>> {
    let one = section.read("url", "a text such as \"http://127.0.0.1:8086\"", |value| {
        Ok(Url::parse(value.get_ref().as_str().ok_or("")?)?)
    });
    let several = section.read("urls", "a list of one to 16 URLs in quotes", |value| {
        let list = value.get_ref().as_array().ok_or("")?;
        if list.is_empty() || list.len() > MOST_URLS {
            return Err(format!("it has {}", list.len()).into());
        }
        let mut urls: Vec<Url> = Vec::new();
        for (i, item) in list.iter().enumerate() {
            let at = |why: String| Why::from(format!("number {}: {why}", i + 1));
            let text = item.get_ref().as_str().ok_or_else(|| at("it is no text".into()))?;
            let url = Url::parse(text).map_err(at)?;
            if url.tls != urls.first().unwrap_or(&url).tls {
                return Err(at("either all are https:// or none".into()));
            }
            if urls.iter().any(|known| known.to_string().eq_ignore_ascii_case(&url.to_string())) {
                return Err(at("it is there twice".into()));
            }
            urls.push(url);
        }
        Ok(urls)
    });
    if section.has("url") && section.has("urls") {
        section.forbid("urls", "`urls`: `url` says already where the server is");
    }
    if !section.has("urls") {
        return section.needed("url", one).map(|url| vec![url]);
    }
    several
}

fn proxy(section: &mut Section<'_>, urls: &[Url]) -> Option<Proxy> {
    let url = section.read("proxy", "a text such as \"http://proxy:3128\"", |value| {
        let url = Url::parse(value.get_ref().as_str().ok_or("")?)?;
        if url.tls || !url.path.is_empty() || url.host.zone().is_some() {
            return Err("it is http:// with a host and a port alone".into());
        }
        if urls.iter().any(|url| url.host.zone().is_some()) {
            return Err("it does not know the interfaces of this machine".into());
        }
        Ok(url)
    });
    let auth = proxy_auth(section);
    if auth.is_some() && url.is_none() {
        section.missing("proxy");
    }
    Some(Proxy { url: url?.to_string(), auth: auth.unwrap_or(Auth::None) })
}

fn client_cert(section: &mut Section<'_>) -> Option<ClientCert> {
    let (cert, key) = (section.path("client_cert"), section.path("client_key"));
    if cert.is_some() != key.is_some() {
        section.missing(if cert.is_some() { "client_key" } else { "client_cert" });
    }
    Some(ClientCert { cert: cert?, key: key? })
}

fn server(kind: &str, section: &mut Section<'_>) -> Option<Server> {
    let mut name = |key| {
        let name = section.name(key);
        section.needed(key, name)
    };
    Some(match kind {
        "influxdb1" => {
            let database = name("database");
            let retention_policy = section.name("retention_policy");
            Server::Influxdb1 { database: database?, retention_policy }
        }
        "influxdb2" => {
            let (org, bucket) = (name("org"), name("bucket"));
            Server::Influxdb2 { org: org?, bucket: bucket? }
        }
        "influxdb3" => Server::Influxdb3 { database: name("database")? },
        "prometheus" => {
            let native = section.word("histogram", &[("classic", false), ("native", true)]);
            let version = section.word("version", &Version::NAMED);
            Server::Prometheus {
                version: version.unwrap_or_default(),
                native: native.unwrap_or_default(),
            }
        }
        "otlp" => {
            section.forbid("histogram", "`histogram`: OTLP here has exponential histograms alone");
            Server::Otlp
        }
        _ => Server::Victoriametrics,
    })
}
