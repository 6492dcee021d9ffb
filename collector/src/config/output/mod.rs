//! `[[output]]`: its kinds, and what all of them and the simple ones have.

mod auth;
mod command_line;
mod http;
mod serve;

pub use command_line::parse_output;
pub(super) use serve::serve;

use super::section::{Section, check_name, without_userinfo};
use crate::form::{Buckets, Counters, Form};
use crate::nearest::{did_you_mean, nearest};
use crate::output::host::HostPort;
use crate::output::socket::{SocketConfig, UDP_BYTES, UNIXGRAM_BYTES, check_path};
use crate::output::{FileConfig, OutputConfig, SpoolConfig, Target};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

/// All kinds.
pub(super) const KINDS: [&str; 12] = [
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
    "prometheus",
    "otlp",
];

/// Bytes of a spool when nothing else is said.
pub(super) const SPOOL_BYTES: u64 = 1 << 30;
/// How old lines in a spool may get when nothing else is said.
pub(super) const SPOOL_AGE: Duration = Duration::from_secs(7 * DAY);

const DAY: u64 = 24 * 3600;

/// What makes sense. Below, every batch would be dropped; above, something else was meant.
const QUEUE_RANGE: RangeInclusive<u64> = 4096..=1 << 40;
const SPOOL_RANGE: RangeInclusive<u64> = 64 << 10..=1 << 50;
const AGE_RANGE: RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_secs(3650 * DAY);
const UNIXGRAM_RANGE: RangeInclusive<u64> = 64..=16 << 20;
/// What UDP can carry over IPv4.
const UDP_RANGE: RangeInclusive<u64> = 64..=65_507;

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
    let queue_bytes = section.size("queue_bytes", QUEUE_RANGE);
    let (histogram, counters) = match &*kind {
        "prometheus" | "otlp" => {
            let why = "`counters`: remote write is cumulative and OTLP here is delta";
            section.forbid("counters", why);
            (None, None) // `histogram` is read with the server
        }
        _ => {
            (section.word("histogram", &Buckets::NAMED), section.word("counters", &Counters::NAMED))
        }
    };
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
    let bytes = section.number("spool_bytes", SPOOL_RANGE);
    let age = section.duration("spool_age", AGE_RANGE);
    let dir = section.path("spool");
    if dir.is_none() && (bytes.is_some() || age.is_some()) {
        section.missing("spool");
    }
    Some(SpoolConfig {
        dir: dir?,
        bytes: bytes.unwrap_or(SPOOL_BYTES),
        age: age.unwrap_or(SPOOL_AGE),
    })
}

fn target(kind: &str, section: &mut Section<'_>, spool: Option<&SpoolConfig>) -> Option<Target> {
    Some(match kind {
        "stdout" => Target::Stdout,
        "file" => {
            let mode = section.read("mode", "permissions such as \"0640\"", |value| {
                Ok(check_mode(value.get_ref().as_str().ok_or("")?)?)
            });
            let default = FileConfig::new(path(section, check_file)?);
            Target::File(FileConfig { mode: mode.unwrap_or(default.mode), ..default })
        }
        "unix" => Target::Socket(SocketConfig::Unix(path(section, check_socket)?)),
        "unixgram" => {
            let bytes = section.size("datagram_bytes", UNIXGRAM_RANGE).unwrap_or(UNIXGRAM_BYTES);
            let path = path(section, check_socket)?;
            Target::Socket(SocketConfig::Unixgram { path, datagram_bytes: bytes })
        }
        "tcp" => Target::Socket(SocketConfig::Tcp(address(section)?)),
        "udp" => {
            let datagram_bytes = section.size("datagram_bytes", UDP_RANGE).unwrap_or(UDP_BYTES);
            Target::Socket(SocketConfig::Udp { address: address(section)?, datagram_bytes })
        }
        _ => Target::Http(Box::new(http::http(kind, section, spool)?)),
    })
}

fn path(section: &mut Section<'_>, check: fn(&str) -> Result<PathBuf, String>) -> Option<PathBuf> {
    let path = section
        .read("path", "a path in quotes", |value| Ok(check(value.get_ref().as_str().ok_or("")?)?));
    section.needed("path", path)
}

fn check_mode(text: &str) -> Result<u32, &'static str> {
    match u32::from_str_radix(text, 8).map_err(|_| "")? {
        mode if mode & 0o600 != 0o600 => Err("the collector itself must read and write it: 06.."),
        mode if mode & 0o002 != 0 => Err("everybody could change what is in it"),
        mode if mode & !0o664 != 0 => Err("lines are not executed: at most 0664"),
        mode => Ok(mode),
    }
}

fn address(section: &mut Section<'_>) -> Option<String> {
    let address = section.read("address", "a HOST:PORT in quotes", |value| {
        Ok(check_address(value.get_ref().as_str().ok_or("")?)?)
    });
    section.needed("address", address)
}

fn check_address(text: &str) -> Result<String, String> {
    if text.contains('@') {
        return Err("nobody is logged in to there: it is HOST:PORT alone".to_owned());
    }
    let address = HostPort::parse(text)?;
    address.port.ok_or("it has no port")?;
    Ok(address.to_string())
}

fn check_file(path: &str) -> Result<PathBuf, String> {
    check_name(path)?;
    if path.ends_with('/') { Err("it is a folder".to_owned()) } else { Ok(path.into()) }
}

fn check_socket(path: &str) -> Result<PathBuf, String> {
    let path = check_file(path)?;
    check_path(&path).map_err(|error| error.to_string())?;
    Ok(path)
}

fn unknown_kind(kind: &str) -> String {
    let near = did_you_mean(nearest(kind, KINDS));
    let kind = without_userinfo(kind);
    format!("unknown output kind `{kind}`{near}: known are {}", KINDS.join(", "))
}
