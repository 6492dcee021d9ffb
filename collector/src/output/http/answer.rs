//! What a server's answer means for the lines that were sent.
//!
//! Every line carries the time of its tick, and storing it once more changes nothing: so a part of which
//! it is not known whether it is stored is sent again.

use super::Server;
use super::refusals::{self, Partial, Refusal};
use std::time::{Duration, SystemTime};

/// What a server answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reply {
    /// The status code.
    pub status: u16,
    /// The header `Retry-After`.
    pub retry_after: Option<String>,
    /// How many samples a receiver of remote write 2.0 says to have written.
    pub written: Option<u64>,
    /// The body, or its begin.
    pub body: Vec<u8>,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Every line is stored.
    Done,
    /// Every line is stored except these, in ascending order.
    Except(Vec<Refusal>),
    /// No line is stored, and none ever will be.
    Refused(String),
    /// At least one line is bad. When `dropped` is known, at least so many are, and the others are stored.
    Bad {
        /// How many.
        dropped: Option<u64>,
        /// What the server says.
        words: String,
    },
    /// At least so many lines are bad, it is not known which, and the others are stored and are not to be sent again.
    Partial {
        /// How many.
        dropped: u64,
        /// What the server says.
        words: String,
    },
    /// Too much for one request.
    Halve(String),
    /// Nothing is wrong with the lines: the same again later.
    Retry {
        /// How long the server asks to be left alone.
        after: Option<Duration>,
        /// What it says.
        words: String,
    },
    /// It does not let us in: a new token may help, and else a person has to.
    Denied(String),
    /// A person has to help.
    Hold(String),
}

/// What the answer to a request of line protocol means.
pub fn to_lines<'a>(
    server: &Server,
    reply: &Reply,
    sent: u64,
    lines: impl Iterator<Item = &'a [u8]>,
    now: SystemTime,
) -> Answer {
    if is_stored(server, reply) {
        return Answer::Done;
    }
    let text = refusals::text(&reply.body);
    let words = format!("{} {}", reply.status, refusals::shorten(&text));
    let words = words.trim_end().to_owned();
    let advise = |advice: String| format!("{words}: {advice}");
    let retry_after = || parse_retry_after(reply.retry_after.as_deref()?, now);
    if let Some(answer) = by_words(server, reply.status, &text, &words) {
        return answer;
    }
    match reply.status {
        // InfluxDB 1 may say with 200 that it could not do what it understood.
        200 | 400 | 422 | 500 if refusals::is_about_lines(server, &reply.body) => {
            let partial = refusals::partial(&reply.body, sent, lines);
            match partial {
                Some(Partial::Named(refusals)) if refusals[0].words.starts_with(NO_ROOM) => {
                    Answer::Hold(advise(missing(server)))
                }
                Some(Partial::Named(mut refusals)) => {
                    for refusal in &mut refusals {
                        refusal.words = format!("{} {}", reply.status, refusal.words);
                    }
                    Answer::Except(refusals)
                }
                Some(Partial::Count(dropped)) if dropped >= sent => Answer::Refused(words),
                Some(Partial::Count(dropped)) => Answer::Bad { dropped: Some(dropped), words },
                None if reply.status == 500 => Answer::Retry { after: retry_after(), words },
                Some(Partial::Some) | None => Answer::Bad { dropped: None, words },
            }
        }
        200..=299 => Answer::Hold(advise(format!(
            "no answer of {} that has stored lines: check `kind` and `url`",
            name(server)
        ))),
        400 | 422 => Answer::Hold(advise(unknown(server, &text))),
        413 => Answer::Halve(words),
        408 | 425 | 429 | 500..=599 => Answer::Retry { after: retry_after(), words },
        401 => Answer::Denied(advise("correct the token, or the user and the password".into())),
        // A proxy's: our client's own words say what to do about it, if it was asked through one.
        407 => Answer::Denied(if text.is_empty() { words } else { refusals::shorten(&text) }),
        403 => Answer::Denied(advise(format!("allow us to write to {}", place(server)))),
        404 => Answer::Hold(advise(missing(server))),
        300..=399 => Answer::Hold(advise(
            "redirections are not followed: configure the URL that this one leads to".into(),
        )),
        _ => Answer::Hold(advise("is this the server's URL?".into())),
    }
}

/// Whether an answer is the one that says that all lines are stored: 204 with all, as documented. Before
/// its first release, InfluxDB 3 answered 200 with JSON.
fn is_stored(server: &Server, reply: &Reply) -> bool {
    let json = || serde_json::from_slice::<serde_json::Map<_, _>>(&reply.body);
    match (server, reply.status) {
        (_, 204) => true,
        (Server::Influxdb3 { .. }, 200) => json().is_ok_and(|json| !json.contains_key("error")),
        _ => false,
    }
}

/// The server with its article.
pub fn name(server: &Server) -> &'static str {
    match server {
        Server::Influxdb1 { .. } => "an InfluxDB 1",
        Server::Influxdb2 { .. } => "an InfluxDB 2",
        Server::Influxdb3 { .. } => "an InfluxDB 3",
        Server::Victoriametrics => "a VictoriaMetrics",
        Server::Prometheus { .. } => "a receiver of remote write",
        Server::Otlp => "a receiver of OTLP",
    }
}

/// What to do about a refusal that is about no line.
fn unknown(server: &Server, text: &str) -> String {
    let tls = ["sent to HTTPS port", "HTTP request to an HTTPS server", "speaking plain HTTP"];
    if tls.iter().any(|words| text.contains(words)) {
        return "the URL has to begin with https://".to_owned();
    }
    format!("no words of {} about lines: check `kind` and `url`", name(server))
}

/// How InfluxDB 3 begins when it has all the databases that it may have. It says so of each line, and it
/// is no line's fault.
const NO_ROOM: &str = "Adding a new database would exceed limit of";

/// Where the status alone misleads.
fn by_words(server: &Server, status: u16, text: &str, words: &str) -> Option<Answer> {
    let words = || words.to_owned();
    match (server, status) {
        // A node of a cluster is away, and another one keeps the lines for it.
        (Server::Influxdb1 { .. }, _) if text.ends_with("hinted handoff queue not empty") => {
            Some(Answer::Done)
        }
        (Server::Influxdb1 { .. }, 500) if text.starts_with("retention policy not found") => {
            Some(Answer::Hold(format!("{}: {}", words(), missing(server))))
        }
        // What InfluxDB 3 does not foresee is a 500, which would be tried for ever.
        (Server::Influxdb3 { .. }, 500) if text.starts_with("max request size") => {
            Some(Answer::Halve(words()))
        }
        (Server::Influxdb3 { .. }, 500) if text.starts_with("body content is not valid utf8") => {
            Some(Answer::Bad { dropped: None, words: words() })
        }
        (Server::Influxdb3 { .. }, 422) if text.starts_with(NO_ROOM) => {
            Some(Answer::Hold(format!("{}: {}", words(), missing(server))))
        }
        (Server::Victoriametrics, 400) if text.contains("-influx.maxRequestSize=") => {
            Some(Answer::Halve(words()))
        }
        (Server::Victoriametrics, 400) if text.contains("unsupported path requested") => {
            Some(Answer::Hold(format!("{}: {}", words(), missing(server))))
        }
        _ => None,
    }
}

/// What lines are written to.
fn place(server: &Server) -> String {
    match server {
        Server::Influxdb1 { database, .. } | Server::Influxdb3 { database } => {
            format!("the database `{database}`")
        }
        Server::Influxdb2 { org, bucket } => {
            format!("the bucket `{bucket}` of the organization `{org}`")
        }
        Server::Victoriametrics | Server::Prometheus { .. } | Server::Otlp => "it".to_owned(),
    }
}

/// What to do when there is no such place.
fn missing(server: &Server) -> String {
    match server {
        Server::Influxdb1 { retention_policy: Some(policy), .. } => {
            format!(
                "make {} with the retention policy `{policy}`, or correct their names",
                place(server)
            )
        }
        Server::Influxdb1 { .. } | Server::Influxdb2 { .. } => {
            format!("make {}, or correct its name", place(server))
        }
        Server::Influxdb3 { .. } => {
            format!("make room for {} there, or write to one that exists", place(server))
        }
        Server::Victoriametrics | Server::Prometheus { .. } | Server::Otlp => {
            "correct the URL: there is nothing that takes lines".to_owned()
        }
    }
}

/// Seconds, or a date. What is neither counts for nothing.
pub fn parse_retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    let value = value.trim();
    match value.parse() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => {
            let date = httpdate::parse_http_date(value).ok()?;
            Some(date.duration_since(now).unwrap_or_default())
        }
    }
}
