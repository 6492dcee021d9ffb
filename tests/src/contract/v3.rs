//! InfluxDB 3's `POST /api/v3/write_lp?db&precision&accept_partial`.
//!
//! What is answered when: <https://docs.influxdata.com/influxdb3/core/write-data/http-api/v3-write-lp/>
//! and <https://docs.influxdata.com/influxdb3/core/write-data/troubleshoot/>; the bodies are those of
//! `influxdb3_server/src/http.rs` of influxdata/influxdb at e8951468 and the words about a line those of
//! `influxdb3_write/src/write_buffer/validator.rs` at 0e88bec0. A database is made by the first write to it.

use super::store::Type;
use super::{Api, Desk, Refusal, Reply, Request, now_ns, text, unit_ns};
use influxdb_line_protocol::{parse_lines, split_lines};
use serde_json::{Value as Json, json};
use std::time::Duration;

/// What the server knows, and what it can bear.
#[derive(Clone, Debug)]
pub struct V3 {
    pub token: String,
    /// Bytes of a body, unpacked.
    pub body_limit: usize,
    /// The answer to a longer one. The manuals say 413; the source, as cited above, gives it no status of
    /// its own and thereby 500, with the same words.
    pub too_large: u16,
}

impl Default for V3 {
    /// A token for tests, and the default of `--max-http-request-size`.
    fn default() -> Self {
        Self { token: "token-of-v3".to_owned(), body_limit: 10 << 20, too_large: 413 }
    }
}

impl Api for V3 {
    fn write(&self, mut request: Request<'_>, desk: &mut Desk<'_>) -> Reply {
        match request.authorization.split_once(' ') {
            _ if request.authorization.is_empty() => return Reply::new(401, ""),
            Some(("Bearer", token)) if token == self.token => {}
            Some(("Bearer", _)) => return Reply::new(401, ""),
            _ => return error(400, "Authorization header was malformed", Json::Null),
        }
        if (request.method, request.path) != ("POST", "/api/v3/write_lp") {
            return Reply::new(404, "not found");
        }
        let query = |key: &str| request.query.get(key).map_or("", String::as_str).to_owned();
        desk.seen.target = query("db");
        if desk.seen.target.is_empty() {
            return Reply::new(400, "missing query parameter 'db'");
        }
        let unit = match &*query("precision") {
            "" | "auto" => None,
            "nanosecond" => Some(Duration::from_nanos(1)),
            "microsecond" => Some(Duration::from_micros(1)),
            "millisecond" => Some(Duration::from_millis(1)),
            "second" => Some(Duration::from_secs(1)),
            other => return Reply::new(400, format!("serde error: unknown variant `{other}`")),
        };
        let partial = query("accept_partial") != "false";
        if !matches!(request.encoding, "" | "identity" | "gzip") {
            let encoding = request.encoding;
            return Reply::new(400, format!("unacceptable content-encoding: {encoding}"));
        }
        match text(&mut request, self.body_limit, desk.seen) {
            Ok(Some(body)) if body.is_empty() => {
                Reply::new(400, "write buffer error: No data was written")
            }
            Ok(Some(body)) if partial => store(&body, unit, desk),
            Ok(Some(body)) => all_or_nothing(&body, unit, desk),
            Ok(None) => {
                let words = format!("max request size ({} bytes) exceeded", self.body_limit);
                Reply::new(self.too_large, words)
            }
            Err(why) => Reply::new(400, format!("error decoding gzip stream: {why}")),
        }
    }

    fn busy(&self, _: u16) -> String {
        "this service is overloaded, please try again later".to_owned()
    }
}

/// Stores the good lines, and names the others.
fn store(body: &str, unit: Option<Duration>, desk: &mut Desk<'_>) -> Reply {
    let mut invalid = Vec::new();
    for (number, raw, words) in write(body, unit, desk) {
        invalid.push(about(number, raw, &words));
    }
    if invalid.is_empty() {
        return Reply::new(204, "");
    }
    error(400, "partial write of line protocol occurred", Json::Array(invalid))
}

/// Stores nothing unless all lines are good, and names the first that is not.
fn all_or_nothing(body: &str, unit: Option<Duration>, desk: &mut Desk<'_>) -> Reply {
    let before = desk.store.clone();
    let refused = write(body, unit, desk);
    let Some((number, raw, words)) = refused.first() else { return Reply::new(204, "") };
    *desk.store = before;
    desk.seen.refused += desk.seen.stored;
    desk.seen.stored = 0;
    error(400, "parsing failed for write_lp endpoint", about(*number, raw, words))
}

/// Stores what it can; the others, each with its number from 1 on among the lines that say something.
fn write<'a>(
    body: &'a str,
    unit: Option<Duration>,
    desk: &mut Desk<'_>,
) -> Vec<(usize, &'a str, String)> {
    let mut refused = Vec::new();
    let mut number = 0;
    for raw in split_lines(body) {
        let Some(parsed) = parse_lines(raw).next() else { continue }; // blank, or a comment
        number += 1;
        let written = match (parsed, desk.rule.and_then(|rule| rule(raw))) {
            (Err(why), _) => Err(why.to_string()),
            (Ok(_), Some(Refusal::Malformed(words) | Refusal::Conflict(words))) => Err(words),
            (Ok(line), None) => {
                let time_ns = line.timestamp.map_or_else(now_ns, |time| time_ns(time, unit));
                desk.store.write(&line, time_ns).map_err(|conflict| {
                    format!(
                        "invalid field value in line protocol for field '{}' on line {}: expected \
                         type {}, but got {}",
                        conflict.field,
                        number - 1, // as the source has it
                        column(conflict.has),
                        column(conflict.got)
                    )
                })
            }
        };
        match written {
            Ok(()) => desk.seen.stored += 1,
            Err(words) => refused.push((number, raw, words)),
        }
    }
    desk.seen.refused = refused.len();
    refused
}

fn column(kind: Type) -> String {
    format!("iox::column_type::field::{}", kind.word())
}

fn about(number: usize, raw: &str, words: &str) -> Json {
    json!({ "original_line": raw, "line_number": number, "error_message": words })
}

fn error(status: u16, error: &str, data: Json) -> Reply {
    Reply::new(status, json!({ "error": error, "data": data }).to_string())
}

/// Without a unit, it is told by the size.
fn time_ns(time: i64, unit: Option<Duration>) -> i64 {
    let unit = unit.unwrap_or_else(|| match time.unsigned_abs() {
        size if size < 5_000_000_000 => Duration::from_secs(1),
        size if size < 5_000_000_000_000 => Duration::from_millis(1),
        size if size < 5_000_000_000_000_000 => Duration::from_micros(1),
        _ => Duration::from_nanos(1),
    });
    time.saturating_mul(unit_ns(unit))
}
