//! What receivers of remote write and of OTLP answer.
//!
//! Remote write: any 2xx is well; 429 and 5xx are to be tried again, all else is not. OTLP: 200, with what was refused
//! in the answer; 429, 502, 503 and 504 are to be tried again, all else is not. What is refused for who we are or where
//! we ask is no sample's fault: its lines wait for a person, as with every server.

use super::protobuf::{self, Field};
use crate::output::http::Server;
use crate::output::http::answer::{Answer, Reply, parse_retry_after};
use crate::output::http::refusals;
use std::time::SystemTime;

/// What the answer to so many lines means.
pub fn answer(server: &Server, reply: &Reply, sent: u64, now: SystemTime) -> Answer {
    let otlp = *server == Server::Otlp;
    let words = words(reply, otlp);
    let retry_after = || parse_retry_after(reply.retry_after.as_deref()?, now);
    let advise = |advice: &str| format!("{words}: {advice}");
    match reply.status {
        200..=299 if is_page(&reply.body) => {
            Answer::Hold(advise("a page and no answer to metrics: check `kind` and `url`"))
        }
        200..=299 if otlp => match rejected(&reply.body) {
            Some((1.., _)) if sent == 0 => Answer::Done,
            Some((points @ 1.., why)) => Answer::Partial {
                dropped: points.min(sent),
                words: format!("{points} points refused: {why}"),
            },
            _ => Answer::Done,
        },
        200..=299 => Answer::Done,
        408 | 425 | 500 | 501 | 505..=599 if !otlp => Answer::Retry { after: retry_after(), words },
        429 | 502..=504 => Answer::Retry { after: retry_after(), words },
        401 => Answer::Denied(advise("correct the token, or the user and the password")),
        407 => Answer::Denied(words),
        403 => Answer::Denied(advise("allow us to write there")),
        404 | 405 => Answer::Hold(advise("correct the URL: there is nothing that takes metrics")),
        413 => Answer::Halve(words),
        415 => Answer::Hold(advise("it takes no such messages: check `kind` and `url`")),
        300..=399 => Answer::Hold(advise(
            "redirections are not followed: configure the URL that it leads to",
        )),
        400..=499 => Answer::Bad { dropped: None, words },
        _ => Answer::Refused(words),
    }
}

/// Whether a server says that it has a sample already, or a newer one of the series.
pub fn is_about_order(words: &str) -> bool {
    let known = [
        "out of order",
        "out-of-order",
        "out of bounds",
        "duplicate sample for timestamp",
        "too old sample",
        "too far in the future",
    ];
    known.iter().any(|known| words.contains(known))
}

/// The status, and what is said: in OTLP it is in a message, `Status` with its field 2.
fn words(reply: &Reply, otlp: bool) -> String {
    let message = protobuf::find(&reply.body, 2).filter(|_| otlp && reply.status >= 300);
    let text = match message {
        Some(Field::Bytes(text)) => String::from_utf8_lossy(text).into_owned(),
        _ => refusals::text(&reply.body),
    };
    format!("{} {}", reply.status, refusals::shorten(&text)).trim_end().to_owned()
}

/// How many points an `ExportMetricsServiceResponse` says to be refused, and why.
fn rejected(body: &[u8]) -> Option<(u64, String)> {
    let Some(Field::Bytes(partial)) = protobuf::find(body, 1) else { return None };
    let Some(Field::Number(points)) = protobuf::find(partial, 1) else { return None };
    let why = match protobuf::find(partial, 2) {
        Some(Field::Bytes(text)) => refusals::shorten(&String::from_utf8_lossy(text)),
        _ => String::new(),
    };
    // A negative number makes no sense.
    (points <= i64::MAX as u64).then_some((points, why))
}

fn is_page(body: &[u8]) -> bool {
    body.trim_ascii_start().starts_with(b"<")
}
