//! What a server answers to lines.

use crate::{below, byte, some};
use arbitrary::Unstructured;
use collector::output::http::{Answer, Reply, Server, Version, answer as meaning};
use std::time::SystemTime;

/// The lines that were sent.
const LINES: [&str; 5] =
    ["a v=1i 1\n", "b,t=x v=2i 1\n", "bad\n", "c v=3i 1\n", "'\\: v=\"x\ny\" 1\n"];

/// What servers say, in whole and in parts.
const WORDS: [&str; 40] = [
    "{\"error\":\"",
    "{\"code\":\"invalid\",\"message\":\"",
    "partial write: ",
    "unable to parse '",
    "bad",
    "a v=1i 1",
    "': ",
    "missing fields",
    "\\n",
    "\n",
    " dropped=",
    " for database: D",
    "0",
    "2",
    "18446744073709551616",
    "\"}",
    "partial write of line protocol occurred\",\"data\":[",
    "parsing failed for write_lp endpoint\",\"data\":[",
    "{\"line_number\":1,\"error_message\":\"no\"}",
    "{\"line_number\":3,\"error_message\":\"no\\n\\u202e\"}",
    "{\"line_number\":-1}",
    ",",
    "]}",
    "cannot unmarshal InfluxDB line ",
    "hinted handoff queue not empty",
    "max request size",
    "No data was written",
    "{",
    "\"",
    "\\u0000",
    "\u{1b}[31m",
    "\u{202e}",
    "größe",
    "<html>",
    "\u{a}\u{4}\u{8}\u{2}\u{12}\u{0}",
    "\u{12}\u{3}why",
    "\u{a}\u{7f}",
    "[[[[[[[[[[[[[[[[",
    "field type conflict: ",
    "metric parse error: ",
];

/// Those that have a meaning of their own, and others.
const STATUSES: [u16; 20] = [
    200, 204, 400, 400, 400, 401, 403, 404, 407, 408, 413, 422, 429, 500, 500, 503, 301, 299, 100,
    999,
];

/// What is shown is one line, and not long.
const LONGEST: usize = 1000;

fn server(bytes: &mut Unstructured<'_>) -> Server {
    match byte(bytes) % 6 {
        0 => Server::Influxdb1 { database: "d".to_owned(), retention_policy: None },
        1 => Server::Influxdb2 { org: "o".to_owned(), bucket: "b".to_owned() },
        2 => Server::Influxdb3 { database: "d".to_owned() },
        3 => Server::Victoriametrics,
        4 => Server::Otlp,
        _ => Server::Prometheus { version: Version::V2, native: true },
    }
}

/// The meaning of an answer keeps to the lines that were sent: none is named twice or was never sent, not all are said to
/// be dropped where some are stored, and what people read is one line. Whether it is about lines.
///
/// # Panics
/// It does not.
pub fn answer(bytes: &[u8]) -> bool {
    let mut bytes = Unstructured::new(bytes);
    let server = server(&mut bytes);
    let lines = &LINES[..below(&mut bytes, LINES.len() + 1)];
    let sent = lines.len() as u64;
    let status = match byte(&mut bytes) {
        ..240 => STATUSES[below(&mut bytes, STATUSES.len())],
        _ => bytes.arbitrary().unwrap_or(0),
    };
    let retry_after = (byte(&mut bytes) < 32)
        .then(|| String::from_utf8_lossy(&some(&mut bytes, 30)).into_owned());
    let mut body = Vec::new();
    while !bytes.is_empty() && body.len() < 1 << 16 {
        match byte(&mut bytes) {
            ..230 => body.extend(WORDS[below(&mut bytes, WORDS.len())].as_bytes()),
            _ => body.extend(some(&mut bytes, 8)),
        }
    }
    let reply = Reply { status, retry_after, written: None, body };
    let meaning = meaning(
        &server,
        &reply,
        sent,
        lines.iter().map(|it| it.as_bytes()),
        SystemTime::UNIX_EPOCH,
    );
    let shown = |words: &str| {
        let one_line = !words.contains(char::is_control) && !words.contains('\u{202e}');
        assert!(one_line && words.len() < LONGEST, "{server:?} {reply:?}: {words}");
    };
    match &meaning {
        Answer::Done => true,
        Answer::Except(refusals) => {
            let places: Vec<u64> = refusals.iter().map(|refusal| refusal.index).collect();
            let sound =
                places.is_sorted_by(|a, b| a < b) && places.last().is_some_and(|it| *it < sent);
            assert!(sound, "{server:?} {reply:?}: {places:?} of {sent}");
            true
        }
        Answer::Bad { dropped, words } => {
            assert!(
                dropped.is_none_or(|it| 0 < it && it < sent),
                "{server:?} {reply:?}: {dropped:?}"
            );
            shown(words);
            true
        }
        Answer::Partial { dropped, words } => {
            assert!(0 < *dropped && *dropped <= sent, "{server:?} {reply:?}: {dropped}");
            shown(words);
            true
        }
        Answer::Refused(words) => {
            shown(words);
            true
        }
        Answer::Halve(words)
        | Answer::Retry { words, .. }
        | Answer::Denied(words)
        | Answer::Hold(words) => {
            shown(words);
            false
        }
    }
}
