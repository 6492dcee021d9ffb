//! `--output URL`.

use super::super::section::{check_name, without_userinfo};
use super::auth::usual_auth;
use super::{KINDS, check_address, check_file, check_socket, unknown_kind};
use crate::output::http::{HttpConfig, Server, Url, Version};
use crate::output::socket::{SocketConfig, UDP_BYTES, UNIXGRAM_BYTES};
use crate::output::{FileConfig, OutputConfig, Target};
use percent_encoding::percent_decode_str;
use std::path::PathBuf;

/// Reads an output as `--output` takes it: `stdout`, `file:PATH`, `unix:PATH`, `unixgram:PATH`,
/// `tcp://HOST:PORT`, `udp://HOST:PORT`, `influxdb1://HOST:PORT/DATABASE[/RETENTION_POLICY]`,
/// `influxdb2://HOST:PORT/ORG/BUCKET`, `influxdb3://HOST:PORT/DATABASE`,
/// `victoriametrics://HOST:PORT`, `prometheus://HOST:PORT[/PATH]`, `otlp://HOST:PORT[/PATH]`; the last six over TLS as
/// `influxdb1+https://` and so on, where the port may be left out. `influxdb` means `influxdb1`.
///
/// A `PATH` is taken as it is written. In the names of the databases `%20` is a space and `%2F` a slash,
/// as everywhere in URLs.
///
/// # Errors
/// What is wrong with it, without what may be a secret in it.
pub fn parse_output(url: &str) -> Result<OutputConfig, String> {
    let target = target(url).map_err(|why| format!("`{}`: {why}", without_userinfo(url)))?;
    Ok(OutputConfig::new(target))
}

fn target(url: &str) -> Result<Target, String> {
    let (scheme, rest) = url.split_once(':').unwrap_or((url, ""));
    let scheme = scheme.to_ascii_lowercase();
    let (kind, tls) = match scheme.strip_suffix("+https") {
        Some(kind) => (kind, true),
        None => (&*scheme, false),
    };
    let kind = if kind == "influxdb" { "influxdb1" } else { kind };
    if !KINDS.contains(&kind) {
        return Err(unknown_kind(kind));
    }
    let path = |check: fn(&str) -> Result<PathBuf, String>| {
        let form = |why| format!("{why}; it is written {kind}:PATH");
        // `unix:///run/x` has an empty host, as URLs of files do; another one makes no sense.
        let path = match rest.strip_prefix("//") {
            Some(path) if !path.starts_with('/') => return Err(form("it has no host".to_owned())),
            Some(path) => path,
            None => rest,
        };
        check(path).map_err(form)
    };
    let address = || {
        let form = |why| format!("{why}; it is written {kind}://HOST:PORT");
        let address = rest.strip_prefix("//").ok_or("a `//` is missing".to_owned());
        address.and_then(check_address).map_err(form)
    };
    let target = match kind {
        "stdout" if rest.is_empty() => Target::Stdout,
        "stdout" => return Err("stdout takes no path".to_owned()),
        "file" => Target::File(FileConfig::new(path(check_file)?)),
        "unix" => Target::Socket(SocketConfig::Unix(path(check_socket)?)),
        "unixgram" => Target::Socket(SocketConfig::Unixgram {
            path: path(check_socket)?,
            datagram_bytes: UNIXGRAM_BYTES,
        }),
        "tcp" => Target::Socket(SocketConfig::Tcp(address()?)),
        "udp" => {
            Target::Socket(SocketConfig::Udp { address: address()?, datagram_bytes: UDP_BYTES })
        }
        _ => Target::Http(Box::new(http(kind, tls, rest)?)),
    };
    if tls && !matches!(target, Target::Http(_)) {
        return Err(format!("`{kind}` has no TLS"));
    }
    Ok(target)
}

/// What follows the scheme of a server's URL.
fn http(kind: &str, tls: bool, rest: &str) -> Result<HttpConfig, String> {
    let names = match kind {
        "influxdb1" => "/DATABASE[/RETENTION_POLICY]",
        "influxdb2" => "/ORG/BUCKET",
        "influxdb3" => "/DATABASE",
        "prometheus" | "otlp" => "[/PATH]",
        _ => "",
    };
    let form = |why: &str| {
        format!("{why}; it is written {kind}://HOST:PORT{names}, or {kind}+https://... for TLS")
    };
    let rest = rest.strip_prefix("//").ok_or_else(|| form("a `//` is missing"))?;
    let scheme = if tls { "https" } else { "http" };
    let url = Url::parse(&format!("{scheme}://{rest}")).map_err(|why| form(&why))?;
    let place = match url.path.strip_prefix('/') {
        Some(path) => path.split('/').map(name).collect::<Result<Vec<_>, _>>(),
        None => Ok(Vec::new()),
    };
    let without_names = match kind {
        "victoriametrics" => Some(Server::Victoriametrics),
        "prometheus" => Some(Server::Prometheus { version: Version::Auto, native: false }),
        "otlp" => Some(Server::Otlp),
        _ => None,
    };
    let (server, path) = if let Some(server) = without_names {
        (server, url.path)
    } else {
        let mut names = place.map_err(form)?.into_iter();
        let server = match (kind, names.next(), names.next(), names.next()) {
            ("influxdb1", Some(database), retention_policy, None) => {
                Server::Influxdb1 { database, retention_policy }
            }
            ("influxdb2", Some(org), Some(bucket), None) => Server::Influxdb2 { org, bucket },
            ("influxdb3", Some(database), None, None) => Server::Influxdb3 { database },
            (_, None, ..) => return Err(form("it names nothing to write to")),
            _ => return Err(form("it has too many names or too few")),
        };
        (server, String::new())
    };
    let auth = usual_auth(&server);
    let url = Url { path, ..url };
    Ok(HttpConfig::new(server, url.to_string(), auth))
}

/// A part of the path, decoded.
fn name(part: &str) -> Result<String, &'static str> {
    let name = percent_decode_str(part).decode_utf8().map_err(|_| "a name is no UTF-8")?;
    check_name(&name).map_err(|why| if part.is_empty() { "a name is empty" } else { why })?;
    Ok(name.into_owned())
}
