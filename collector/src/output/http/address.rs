//! Where a server takes lines.

use super::{HttpConfig, Server};
use anyhow::{Context, Result};
use form_urlencoded::Serializer;
use ureq::http::Uri;

/// The URL that lines are posted to: the server's path, and what is written to.
///
/// # Errors
/// The URL of the configuration is none.
pub fn address(config: &HttpConfig) -> Result<Uri> {
    let mut query = Serializer::new(String::new());
    let path = match &config.server {
        Server::Influxdb1 { database, retention_policy } => {
            query.append_pair("db", database);
            if let Some(policy) = retention_policy {
                query.append_pair("rp", policy);
            }
            query.append_pair("precision", "ns");
            "/write"
        }
        Server::Influxdb2 { org, bucket } => {
            query.append_pair("org", org).append_pair("bucket", bucket);
            query.append_pair("precision", "ns");
            "/api/v2/write"
        }
        Server::Influxdb3 { database } => {
            query.append_pair("db", database).append_pair("precision", "nanosecond");
            // The good lines of a request that holds a bad one are stored.
            query.append_pair("accept_partial", "true");
            "/api/v3/write_lp"
        }
        Server::Victoriametrics => {
            query.append_pair("precision", "ns");
            "/write"
        }
    };
    let url = format!("{}{path}?{}", config.url, query.finish());
    url.parse().with_context(|| format!("{} is no URL", config.url))
}

/// The URL at which the server says that it is there.
///
/// # Errors
/// See [`address`].
pub fn ping(config: &HttpConfig) -> Result<Uri> {
    let path = match &config.server {
        Server::Influxdb1 { .. } | Server::Influxdb2 { .. } | Server::Influxdb3 { .. } => "/ping",
        Server::Victoriametrics => "/health",
    };
    let url = format!("{}{path}", config.url);
    url.parse().with_context(|| format!("{} is no URL", config.url))
}

#[cfg(test)]
mod tests {
    use super::super::Auth;
    use super::*;

    #[test]
    fn each_server_has_its_own_path_and_query() {
        let (database, policy) = ("my db&x".to_owned(), "a/b".to_owned());
        let v1 =
            |retention_policy| Server::Influxdb1 { database: database.clone(), retention_policy };
        for (server, expected) in [
            (v1(None), "/write?db=my+db%26x&precision=ns"),
            (v1(Some(policy)), "/write?db=my+db%26x&rp=a%2Fb&precision=ns"),
            (
                Server::Influxdb2 { org: "ö".into(), bucket: "b".into() },
                "/api/v2/write?org=%C3%B6&bucket=b&precision=ns",
            ),
            (
                Server::Influxdb3 { database: database.clone() },
                "/api/v3/write_lp?db=my+db%26x&precision=nanosecond&accept_partial=true",
            ),
            (Server::Victoriametrics, "/write?precision=ns"),
        ] {
            let config = HttpConfig::new(server, "http://h:1/proxy".into(), Auth::None);
            assert_eq!(
                address(&config).unwrap().to_string(),
                format!("http://h:1/proxy{expected}")
            );
        }
        let config = HttpConfig::new(Server::Victoriametrics, "http://h h".into(), Auth::None);
        assert!(address(&config).unwrap_err().to_string().contains("http://h h is no URL"));
    }
}
