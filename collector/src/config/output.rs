//! `[[output]]`, and `--output URL`.

use super::section::Section;
use crate::form::{Buckets, Counters, Form};
use crate::nearest::{did_you_mean, nearest};
use crate::output::http::{Auth, DEAD_LETTER_BYTES, DeadLetterConfig, HttpConfig, Server};
use crate::output::secret::Secret;
use crate::output::socket::{SocketConfig, UDP_BYTES, UNIXGRAM_BYTES};
use crate::output::{OutputConfig, SpoolConfig, Target};
use http::Uri;
use std::path::PathBuf;
use std::time::Duration;

/// All kinds.
pub(super) const KINDS: [&str; 10] = [
    "stdout",
    "file",
    "unix",
    "unixgram",
    "tcp",
    "udp",
    "influxdb1",
    "influxdb2",
    "influxdb3",
    "victoriametrics",
];

/// Bytes of a spool when nothing else is said.
pub(super) const SPOOL_BYTES: u64 = 1 << 30;
/// How old lines in a spool may get when nothing else is said.
pub(super) const SPOOL_AGE: Duration = Duration::from_secs(7 * 24 * 3600);

/// Reads one `[[output]]`.
pub(super) fn output(mut section: Section<'_>) -> Option<OutputConfig> {
    let kind = section.read("kind", "a text such as \"stdout\"", |value| {
        let text = value.get_ref().as_str().ok_or("")?;
        Ok((text.to_owned(), value.span().start))
    });
    let Some((kind, at)) = kind else {
        section.missing("kind");
        return None;
    };
    if !KINDS.contains(&&*kind) {
        section.source.problem(at, unknown_kind(&kind));
        return None; // its other keys are those of a kind that nobody knows here
    }
    let queue_bytes = section.size("queue_bytes");
    let histogram = section.word("histogram", &Buckets::NAMED);
    let counters = section.word("counters", &Counters::NAMED);
    let spool = (kind != "stdout").then(|| spool(&mut section)).flatten();
    let target = target(&kind, &mut section, spool.as_ref());
    section.refuse_the_rest();
    let default = OutputConfig::new(target?);
    let form = Form {
        histogram: histogram.unwrap_or(default.form.histogram),
        counters: counters.unwrap_or(default.form.counters),
    };
    let queue_bytes = queue_bytes.unwrap_or(default.queue_bytes);
    Some(OutputConfig { form, queue_bytes, spool, ..default })
}

fn spool(section: &mut Section<'_>) -> Option<SpoolConfig> {
    let (bytes, age) = (section.positive("spool_bytes"), section.duration("spool_age"));
    let dir = section.text("spool");
    if dir.is_none() && (bytes.is_some() || age.is_some()) {
        section.missing("spool");
    }
    Some(SpoolConfig {
        dir: dir?.into(),
        bytes: bytes.unwrap_or(SPOOL_BYTES),
        age: age.unwrap_or(SPOOL_AGE),
    })
}

fn target(kind: &str, section: &mut Section<'_>, spool: Option<&SpoolConfig>) -> Option<Target> {
    Some(match kind {
        "stdout" => Target::Stdout,
        "file" => Target::File(section.needed("path")?.into()),
        "unix" => Target::Socket(SocketConfig::Unix(section.needed("path")?.into())),
        "unixgram" => {
            let datagram_bytes = section.size("datagram_bytes").unwrap_or(UNIXGRAM_BYTES);
            let path = section.needed("path")?.into();
            Target::Socket(SocketConfig::Unixgram { path, datagram_bytes })
        }
        "tcp" => Target::Socket(SocketConfig::Tcp(address(section)?)),
        "udp" => {
            let datagram_bytes = section.size("datagram_bytes").unwrap_or(UDP_BYTES);
            Target::Socket(SocketConfig::Udp { address: address(section)?, datagram_bytes })
        }
        _ => Target::Http(Box::new(http(kind, section, spool)?)),
    })
}

fn address(section: &mut Section<'_>) -> Option<String> {
    let address = section.read("address", "a HOST:PORT in quotes", |value| {
        check_address(value.get_ref().as_str().ok_or("")?)
    });
    if address.is_none() {
        section.missing("address");
    }
    address
}

fn check_address(text: &str) -> Result<String, &'static str> {
    let (host, port) = text.rsplit_once(':').ok_or("it has no port")?;
    if host.is_empty() {
        return Err("it has no host");
    }
    if host.contains(':') && !(host.starts_with('[') && host.ends_with(']')) {
        return Err("an IPv6 address stands in brackets: [::1]:8094");
    }
    match port.parse() {
        Ok(1..=u16::MAX) => Ok(text.to_owned()),
        _ => Err("a port is a number from 1 to 65535"),
    }
}

fn http(kind: &str, section: &mut Section<'_>, spool: Option<&SpoolConfig>) -> Option<HttpConfig> {
    let url = section.read("url", "a text such as \"http://127.0.0.1:8086\"", |value| {
        check_url(value.get_ref().as_str().ok_or("")?)
    });
    if url.is_none() {
        section.missing("url");
    }
    let server = server(kind, section);
    let auth = auth(section);
    let default = HttpConfig::new(Server::Victoriametrics, String::new(), Auth::None);
    let (mut batch, size) = (default.batch, section.size("batch_bytes"));
    batch.lines = section.positive("batch_lines").unwrap_or(batch.lines);
    batch.bytes = size.unwrap_or(batch.bytes);
    batch.wait = section.duration("batch_time").unwrap_or(batch.wait);
    let timeout = section.read("timeout", "a duration above 0 such as \"10s\"", |value| {
        let timeout = super::section::duration(value)?;
        if timeout.is_zero() { Err("") } else { Ok(timeout) }
    });
    let dead_letter_bytes = section.positive("dead_letter_bytes");
    let dead_letters = section.text("dead_letters").map(PathBuf::from);
    if dead_letter_bytes.is_some() && dead_letters.is_none() && spool.is_none() {
        section.missing("dead_letters");
    }
    let config = HttpConfig {
        ca_file: section.text("ca_file").map(PathBuf::from),
        gzip: section.flag("gzip").unwrap_or(default.gzip),
        batch,
        timeout: timeout.unwrap_or(default.timeout),
        ..default
    };
    let (server, url) = (server?, url?);
    let auth = auth.unwrap_or_else(|| usual_auth(&server));
    let mut config = HttpConfig { server, url, auth, ..config };
    let dead_letters = dead_letters.or_else(|| Some(spool?.dead_letters(&config.to_string())));
    let bytes = dead_letter_bytes.unwrap_or(DEAD_LETTER_BYTES);
    config.dead_letters = dead_letters.map(|path| DeadLetterConfig { path, bytes });
    Some(config)
}

fn server(kind: &str, section: &mut Section<'_>) -> Option<Server> {
    Some(match kind {
        "influxdb1" => {
            let retention_policy = section.text("retention_policy");
            Server::Influxdb1 { database: section.needed("database")?, retention_policy }
        }
        "influxdb2" => {
            let (org, bucket) = (section.needed("org"), section.needed("bucket"));
            Server::Influxdb2 { org: org?, bucket: bucket? }
        }
        "influxdb3" => Server::Influxdb3 { database: section.needed("database")? },
        _ => Server::Victoriametrics,
    })
}

/// A token, or a user with a password; each from a file or the environment.
fn auth(section: &mut Section<'_>) -> Option<Auth> {
    for (key, others) in
        [("token", "token_file or token_env"), ("password", "password_file or password_env")]
    {
        section.forbid(key, &format!("`{key}`: secrets do not stand in this file; use {others}"));
    }
    let mut secret = |file, env| {
        let (path, name) = (section.text(file), section.text(env));
        if path.is_some() && name.is_some() {
            section.forbid(env, &format!("`{env}`: `{file}` says already where it is"));
        }
        path.map(|path| Secret::File(path.into())).or(name.map(Secret::Env))
    };
    let token = secret("token_file", "token_env");
    let password = secret("password_file", "password_env");
    let username = section.text("username");
    if token.is_some() && (username.is_some() || password.is_some()) {
        for key in ["username", "password_file", "password_env"] {
            section.forbid(key, &format!("`{key}`: a token says already who we are"));
        }
    }
    match (token, username, password) {
        (Some(token), _, _) => Some(Auth::Token(token)),
        (None, Some(username), Some(password)) => Some(Auth::Basic { username, password }),
        (None, Some(_), None) => {
            section.missing("password_file");
            None
        }
        (None, None, Some(_)) => {
            section.missing("username");
            None
        }
        (None, None, None) => None,
    }
}

/// What the servers' own command line tools use, when it is there.
fn usual_auth(server: &Server) -> Auth {
    let variable = match server {
        Server::Influxdb2 { .. } => "INFLUX_TOKEN",
        Server::Influxdb3 { .. } => "INFLUXDB3_AUTH_TOKEN",
        Server::Influxdb1 { .. } | Server::Victoriametrics => return Auth::None,
    };
    match std::env::var_os(variable) {
        Some(_) => Auth::Token(Secret::Env(variable.to_owned())),
        None => Auth::None,
    }
}

/// A server's URL without a slash at its end.
fn check_url(text: &str) -> Result<String, &'static str> {
    let uri: Uri = text.parse().map_err(|_| "")?;
    match uri.scheme_str() {
        Some("http" | "https") => {}
        _ => return Err("it begins with http:// or https://"),
    }
    let authority = uri.authority().ok_or("it has no host")?;
    if authority.as_str().contains('@') {
        return Err("secrets do not stand in a URL; use username and password_file");
    }
    if uri.query().is_some() {
        return Err("what follows the `?` has keys of its own here");
    }
    Ok(text.trim_end_matches('/').to_owned())
}

fn unknown_kind(kind: &str) -> String {
    let near = did_you_mean(nearest(kind, KINDS));
    format!("unknown output kind `{kind}`{near}: known are {}", KINDS.join(", "))
}

/// Reads an output as `--output` takes it: `stdout`, `file:PATH`, `unix:PATH`, `unixgram:PATH`,
/// `tcp://HOST:PORT`, `udp://HOST:PORT`, `influxdb1://HOST:PORT/DATABASE[/RETENTION_POLICY]`,
/// `influxdb2://HOST:PORT/ORG/BUCKET`, `influxdb3://HOST:PORT/DATABASE`,
/// `victoriametrics://HOST:PORT`; the last four over TLS as `influxdb1+https://` and so on.
///
/// # Errors
/// What is wrong with it.
pub fn parse_output(url: &str) -> Result<OutputConfig, String> {
    let (scheme, rest) = url.split_once(':').unwrap_or((url, ""));
    let (kind, tls) = match scheme.strip_suffix("+https") {
        Some(kind) => (kind, true),
        None => (scheme, false),
    };
    if !KINDS.contains(&kind) {
        return Err(unknown_kind(kind));
    }
    let shape = |shape: &str| format!("`{kind}` is written {shape}");
    let path = |form: &str| match rest {
        "" => Err(shape(form)),
        path => Ok(PathBuf::from(path)),
    };
    let address = |form: &str| {
        let address = rest.strip_prefix("//").ok_or_else(|| shape(form))?;
        check_address(address).map_err(|why| format!("{}: {why}", shape(form)))
    };
    let target = match kind {
        "stdout" if rest.is_empty() => Target::Stdout,
        "stdout" => return Err("stdout takes no path".to_owned()),
        "file" => Target::File(path("file:PATH")?),
        "unix" => Target::Socket(SocketConfig::Unix(path("unix:PATH")?)),
        "unixgram" => Target::Socket(SocketConfig::Unixgram {
            path: path("unixgram:PATH")?,
            datagram_bytes: UNIXGRAM_BYTES,
        }),
        "tcp" => Target::Socket(SocketConfig::Tcp(address("tcp://HOST:PORT")?)),
        "udp" => Target::Socket(SocketConfig::Udp {
            address: address("udp://HOST:PORT")?,
            datagram_bytes: UDP_BYTES,
        }),
        _ => Target::Http(Box::new(http_url(kind, tls, rest).map_err(|form| shape(&form))?)),
    };
    if tls && !matches!(target, Target::Http(_)) {
        return Err(format!("`{kind}` has no TLS"));
    }
    Ok(OutputConfig::new(target))
}

/// A server's URL on the command line; an error is the shape that it should have.
fn http_url(kind: &str, tls: bool, rest: &str) -> Result<HttpConfig, String> {
    let names = match kind {
        "influxdb1" => "/DATABASE[/RETENTION_POLICY]",
        "influxdb2" => "/ORG/BUCKET",
        "influxdb3" => "/DATABASE",
        _ => "",
    };
    let form = || format!("{kind}://HOST:PORT{names}, or {kind}+https://... for TLS");
    let rest = rest.strip_prefix("//").ok_or_else(form)?.trim_end_matches('/');
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let name = |name: &str| name.to_owned();
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    let (server, prefix) = match (kind, &*parts) {
        ("influxdb1", [database]) => {
            (Server::Influxdb1 { database: name(database), retention_policy: None }, "")
        }
        ("influxdb1", [database, policy]) => {
            let retention_policy = Some(name(policy));
            (Server::Influxdb1 { database: name(database), retention_policy }, "")
        }
        ("influxdb2", [org, bucket]) => {
            (Server::Influxdb2 { org: name(org), bucket: name(bucket) }, "")
        }
        ("influxdb3", [database]) => (Server::Influxdb3 { database: name(database) }, ""),
        ("victoriametrics", _) => (Server::Victoriametrics, path),
        _ => return Err(form()),
    };
    let scheme = if tls { "https" } else { "http" };
    let url = check_url(&format!("{scheme}://{host}/{prefix}"))
        .map_err(|why| if why.is_empty() { form() } else { format!("{}: {why}", form()) })?;
    let auth = usual_auth(&server);
    Ok(HttpConfig::new(server, url, auth))
}
