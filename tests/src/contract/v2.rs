//! InfluxDB 2's `POST /api/v2/write?org&bucket&precision`.
//!
//! What is answered when: `http/write_handler.go` and `tsdb.PartialWriteError` of influxdata/influxdb at
//! 3bf84b8f (422 when the storage refuses points and keeps the rest), `http/points/points_parser.go` at
//! 2866cea4 (400 for the whole request, with every line that does not parse; 413, measured unpacked),
//! `tenant/error_bucket.go` at 6498968e and `tenant/error_org.go` at 00afd95c (404), the form of errors and
//! their statuses in `kit/transport/http/error_handler.go` at 1400d674; 401, 429 and 503 with `Retry-After`:
//! <https://docs.influxdata.com/influxdb/v2/write-data/troubleshoot/> and
//! <https://docs.influxdata.com/influxdb/cloud/write-data/troubleshoot/>.

use super::{Api, Desk, Refusal, Reply, Request, now_ns, text, unit_ns};
use influxdb_line_protocol::{ParsedLine, parse_lines, split_lines};
use serde_json::json;
use std::time::Duration;

/// What the server knows, and what it can bear.
#[derive(Clone, Debug)]
pub struct V2 {
    pub org: String,
    pub bucket: String,
    pub token: String,
    /// Bytes of a body, unpacked.
    pub body_limit: usize,
}

impl Default for V2 {
    /// Names and a token for tests. The open source version has no limit unless one is configured; this
    /// one is that of InfluxDB's cloud.
    fn default() -> Self {
        Self {
            org: "org".to_owned(),
            bucket: "bucket".to_owned(),
            token: "token-of-v2".to_owned(),
            body_limit: 50_000_000,
        }
    }
}

impl Api for V2 {
    fn write(&self, mut request: Request<'_>, desk: &mut Desk<'_>) -> Reply {
        if request.authorization != format!("Token {}", self.token) {
            return error("unauthorized", "unauthorized access");
        }
        if (request.method, request.path) != ("POST", "/api/v2/write") {
            return error("not found", "path not found");
        }
        let query = |key: &str| request.query.get(key).map_or("", String::as_str).to_owned();
        let (org, bucket) = (query("org"), query("bucket"));
        desk.seen.target = format!("{org}/{bucket}");
        let unit = match &*query("precision") {
            "" | "ns" => Duration::from_nanos(1),
            "us" => Duration::from_micros(1),
            "ms" => Duration::from_millis(1),
            "s" => Duration::from_secs(1),
            _ => {
                let valid = "valid precision units are ns, us, ms, and s";
                return error("invalid", &format!("invalid precision; {valid}"));
            }
        };
        if org != self.org {
            return error("not found", &format!("organization name \"{org}\" not found"));
        }
        if bucket != self.bucket {
            return error("not found", &format!("bucket \"{bucket}\" not found"));
        }
        match text(&mut request, self.body_limit, desk.seen) {
            Ok(Some(body)) if body.is_empty() => error("invalid", "writing requires points"),
            Ok(Some(body)) => store(&body, unit, desk),
            Ok(None) => {
                error("request too large", "unable to read data: points batch is too large")
            }
            Err(why) => error("invalid", &format!("unable to read data: {why}")),
        }
    }

    fn busy(&self, status: u16) -> String {
        let (code, message) = match status {
            429 => {
                ("too many requests", "org 2c5f7e0a9b3d4c61 has exceeded limited_write plan limit")
            }
            _ => ("unavailable", "unexpected error writing points to database: timeout"),
        };
        body(code, message)
    }
}

/// All lines are parsed before the first is stored: one that does not parse spoils them all.
fn store(body: &str, unit: Duration, desk: &mut Desk<'_>) -> Reply {
    let mut lines: Vec<(ParsedLine<'_>, Option<String>)> = Vec::new();
    let mut malformed = Vec::new();
    for raw in split_lines(body) {
        let Some(parsed) = parse_lines(raw).next() else { continue }; // blank, or a comment
        let (words, conflict) = match desk.rule.and_then(|rule| rule(raw)) {
            Some(Refusal::Malformed(words)) => (Some(words), None),
            Some(Refusal::Conflict(words)) => (None, Some(words)),
            None => (None, None),
        };
        match (parsed, words) {
            (Ok(line), None) => lines.push((line, conflict)),
            (Ok(_), Some(words)) => malformed.push(format!("unable to parse '{raw}': {words}")),
            (Err(why), _) => malformed.push(format!("unable to parse '{raw}': {why}")),
        }
    }
    if !malformed.is_empty() {
        desk.seen.refused = lines.len() + malformed.len();
        return error("invalid", &malformed.join("\n"));
    }
    let mut dropped = Vec::new();
    for (line, conflict) in &lines {
        let time_ns = line.timestamp.map_or_else(now_ns, |time| time * unit_ns(unit));
        let stored = match conflict {
            Some(words) => Err(words.clone()),
            None => desk.store.write(line, time_ns).map_err(|conflict| {
                let (field, table) = (conflict.field, line.series.measurement.as_str());
                let (got, has) = (conflict.got.word(), conflict.has.word());
                format!(
                    "field type conflict: input field \"{field}\" on measurement \"{table}\" is type \
                     {got}, already exists as type {has}"
                )
            }),
        };
        match stored {
            Ok(()) => desk.seen.stored += 1,
            Err(words) => dropped.push(words),
        }
    }
    desk.seen.refused = dropped.len();
    match dropped.first() {
        None => Reply::new(204, ""),
        Some(words) => {
            let partial = format!("partial write: {words} dropped={}", dropped.len());
            let message = format!("failure writing points to database: {partial}");
            error("unprocessable entity", &message)
        }
    }
}

fn error(code: &'static str, message: &str) -> Reply {
    let status = match code {
        "invalid" => 400,
        "unauthorized" => 401,
        "not found" => 404,
        "request too large" => 413,
        "unprocessable entity" => 422,
        other => panic!("no status is known for {other}"),
    };
    let headers = vec![("X-Platform-Error-Code", code.to_owned())];
    Reply { status, headers, body: body(code, message) }
}

fn body(code: &str, message: &str) -> String {
    json!({ "code": code, "message": message }).to_string()
}
