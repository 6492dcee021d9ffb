//! Where a server takes lines.

use super::{Server, Url};
use anyhow::{Context, Result};
use form_urlencoded::Serializer;
use ureq::http::Uri;

/// The URL that lines are posted to: the server's path, and what is written to.
///
/// # Errors
/// See [`page`].
pub fn address(server: &Server, url: &Url) -> Result<Uri> {
    let mut query = Serializer::new(String::new());
    let path = match server {
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
        // The path that others have is not to be guessed: `/api/v1/push`, `/api/v1/receive`.
        Server::Prometheus { .. } => {
            return page(url, if url.path.is_empty() { "/api/v1/write" } else { "" });
        }
        Server::Otlp => return page(url, "/v1/metrics"),
    };
    page(url, &format!("{path}?{}", query.finish()))
}

/// The URL at which the server says that it is there.
///
/// # Errors
/// See [`page`].
pub fn ping(server: &Server, url: &Url) -> Result<Uri> {
    let path = match server {
        Server::Influxdb1 { .. } | Server::Influxdb2 { .. } | Server::Influxdb3 { .. } => "/ping",
        Server::Victoriametrics => "/health",
        // Any answer will do.
        Server::Prometheus { .. } | Server::Otlp => return address(server, url),
    };
    page(url, path)
}

/// A page of the server. The interface of a link-local address is none of the server's business.
///
/// # Errors
/// It is longer than a URL may be.
pub fn page(url: &Url, path: &str) -> Result<Uri> {
    let to = Url { host: url.host.without_zone(), ..url.clone() };
    let to = format!("{to}{path}");
    to.parse().with_context(|| format!("{url} with its database is no URL"))
}

#[cfg(test)]
mod tests {
    use super::super::Version;
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
            (Server::Prometheus { version: Version::Auto, native: false }, ""),
            (Server::Otlp, "/v1/metrics"),
        ] {
            let url = Url::parse("http://h:1/proxy").unwrap();
            let to = address(&server, &url).unwrap().to_string();
            assert_eq!(to, format!("http://h:1/proxy{expected}"));
        }
        let url = Url::parse("http://h:1").unwrap();
        let remote = Server::Prometheus { version: Version::Auto, native: false };
        assert_eq!(address(&remote, &url).unwrap().to_string(), "http://h:1/api/v1/write");
        let url = Url::parse("http://[fe80::1%25lo]:1").unwrap();
        let to = address(&Server::Victoriametrics, &url).unwrap().to_string();
        assert_eq!(to, "http://[fe80::1]:1/write?precision=ns");
        let long = Server::Influxdb3 { database: "x".repeat(70_000) };
        assert!(address(&long, &url).unwrap_err().to_string().contains("is no URL"));
    }
}
