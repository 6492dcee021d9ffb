//! Delivering over HTTP: what to send next, and what the answer means for the parcel.

use super::answer::{Answer, Reply, answer, name};
use super::auth::Credentials;
use super::client::{Client, Trouble};
use super::dead_letters::DeadLetters;
use super::fit::Fit;
use super::payload::Gzip;
use super::refusals::{is_of_nothing, visible};
use super::search::{Search, Verdict};
use super::{HttpConfig, Server, probe};
use crate::output::{Cause, Failure, Limits, Output, Parcel};
use anyhow::{Error, Result, anyhow};
use std::time::{Duration, Instant, SystemTime};

/// An HTTP output.
pub struct Http {
    server: Server,
    limits: Limits,
    client: Client,
    credentials: Credentials,
    gzip: Option<Gzip>,
    fit: Fit,
    /// Of the parcel at hand.
    search: Search,
    dead_letters: DeadLetters,
    /// Whether the server has stored lines since it last failed. One that has not may be none of its kind.
    trusted: bool,
}

/// Line protocol that every server takes, and stores nothing of: a comment.
const SURELY_GOOD: &[u8] = b"# collector: are lines taken here?\n";

impl Http {
    /// Ready to connect.
    ///
    /// # Errors
    /// See [`super::open`].
    pub fn new(config: &HttpConfig) -> Result<Self> {
        Ok(Self {
            server: config.server.clone(),
            limits: config.batch,
            client: Client::new(config)?,
            credentials: Credentials::new(&config.auth, &config.server)?,
            gzip: config.gzip.then(Gzip::default),
            fit: Fit::default(),
            search: Search::default(),
            dead_letters: DeadLetters::new(config.to_string(), config.dead_letters.as_ref())?,
            trusted: false,
        })
    }

    /// Lets the log know who answers there.
    pub fn ask_for_its_name(&mut self, config: &HttpConfig) {
        // Without a token, as it may come later, perhaps without an answer.
        let authorization = self.credentials.header().ok().flatten();
        probe::start(config, self.client.agent(), authorization);
    }

    /// Sends the first lines, and says what the answer means.
    fn send(
        &mut self,
        parcel: &Parcel,
        lines: u64,
        deadline: Option<Instant>,
    ) -> Result<Answer, Failure> {
        let left = left(deadline)?;
        let authorization = self.credentials.header().map_err(Failure::Hold)?;
        let authorization = authorization.as_ref();
        let reply = match &mut self.gzip {
            Some(gzip) => {
                let body = gzip.compress(parcel.front(lines)).map_err(Failure::later)?;
                self.client.post(&[body], true, authorization, left)
            }
            None => {
                let body: Vec<&[u8]> = parcel.front(lines).collect();
                self.client.post(&body, false, authorization, left)
            }
        };
        let reply = self.redact(reply)?;
        Ok(answer(&self.server, &reply, lines, each_line(parcel, lines), SystemTime::now()))
    }

    /// The answer without secrets.
    fn redact(&self, reply: Result<Reply, Trouble>) -> Result<Reply, Failure> {
        let words = |why: Error| Error::msg(visible(&format!("{why:#}")));
        match reply {
            Ok(reply) => Ok(Reply { body: self.credentials.redact(reply.body), ..reply }),
            Err(Trouble::Later(why)) => Err(Failure::later(words(why))),
            Err(Trouble::Untrusted(why)) => Err(Failure::Hold(words(why))),
        }
    }

    /// Asked before lines are given up: a server that has stored none so far may not be one that stores
    /// lines. If it refuses what is surely good, no line is bad.
    fn doubt(&mut self, words: &str, deadline: Option<Instant>) -> Result<(), Failure> {
        if self.trusted {
            return Ok(());
        }
        let left = left(deadline)?;
        let authorization = self.credentials.header().map_err(Failure::Hold)?;
        let reply = self.client.post(&[SURELY_GOOD], false, authorization.as_ref(), left);
        let reply = self.redact(reply)?;
        let lines = std::iter::once(SURELY_GOOD);
        match answer(&self.server, &reply, 1, lines, SystemTime::now()) {
            Answer::Retry { after, words } => {
                return Err(Failure::Later { why: Error::msg(words), after });
            }
            Answer::Done => {}
            _ if is_of_nothing(&reply.body) => {}
            _ => {
                let name = name(&self.server);
                return Err(Failure::Hold(anyhow!(
                    "{words}: it refuses a comment too, as {name} does not: check `kind` and `url`"
                )));
            }
        }
        self.trusted = true;
        Ok(())
    }

    /// What an answer means for the first lines, which it is about.
    fn settle(
        &mut self,
        parcel: &mut Parcel,
        lines: u64,
        answer: Answer,
        deadline: Option<Instant>,
    ) -> Result<(), Failure> {
        match answer {
            Answer::Done => {
                self.trusted = true;
                self.fit.fitted(lines);
                self.search.accepted(lines);
                parcel.delivered(lines);
            }
            Answer::Except(refusals) => {
                self.trusted |= (refusals.len() as u64) < lines;
                self.doubt(&refusals[0].words, deadline)?;
                self.search.named();
                let mut at = 0;
                for refusal in refusals {
                    parcel.delivered(refusal.index - at);
                    self.give_up(parcel, 1, Cause::Rejected, &refusal.words);
                    at = refusal.index + 1;
                }
                parcel.delivered(lines - at);
            }
            Answer::Refused(words) => {
                self.doubt(&words, deadline)?;
                self.search.refused(lines, Some(lines));
                self.give_up(parcel, lines, Cause::Rejected, &words);
            }
            Answer::Bad { dropped, words } => {
                self.trusted |= dropped.is_some_and(|dropped| dropped < lines);
                let mut search = self.search.clone();
                let verdict = search.refused(lines, dropped);
                if verdict == Verdict::GiveUp {
                    self.doubt(&words, deadline)?;
                }
                self.search = search;
                if verdict == Verdict::GiveUp {
                    // Beyond the budget it stays unknown which of them are bad, but not whose they are.
                    let bad = dropped.unwrap_or(lines).min(lines);
                    self.keep(parcel, lines, bad, &words);
                    parcel.delivered(lines - bad);
                    parcel.give_up(bad, Cause::Rejected);
                }
            }
            Answer::Halve(words) => {
                self.fit.too_many(lines);
                if lines == 1 {
                    self.doubt(&words, deadline)?;
                    self.search.accepted(1);
                    self.give_up(parcel, 1, Cause::TooLong, &words);
                }
            }
            Answer::Retry { after, words } => {
                return Err(Failure::Later { why: Error::msg(words), after });
            }
            Answer::Denied(words) => {
                if !self.credentials.refresh().map_err(Failure::Hold)? {
                    return Err(Failure::Hold(Error::msg(words)));
                }
            }
            Answer::Hold(words) => return Err(Failure::Hold(Error::msg(words))),
        }
        Ok(())
    }

    fn give_up(&mut self, parcel: &mut Parcel, lines: u64, cause: Cause, words: &str) {
        self.keep(parcel, lines, lines, words);
        parcel.give_up(lines, cause);
    }

    fn keep(&mut self, parcel: &Parcel, lines: u64, bad: u64, words: &str) {
        self.dead_letters.keep(words, bad, &parcel.front(lines).collect::<Vec<_>>());
    }

    fn work_off(&mut self, parcel: &mut Parcel, deadline: Option<Instant>) -> Result<(), Failure> {
        while !parcel.is_done() {
            let lines = self.search.next(parcel.lines(), parcel.lines_of_first());
            // A plugin's batch may be larger than a request is to be.
            let most = self.limits.lines.min(parcel.lines_within(self.limits.bytes));
            let lines = lines.min(most).min(self.fit.most());
            let answer = self.send(parcel, lines, deadline)?;
            self.settle(parcel, lines, answer, deadline)?;
        }
        Ok(())
    }
}

/// The time that is left for a request, if there is a deadline.
fn left(deadline: Option<Instant>) -> Result<Option<Duration>, Failure> {
    let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
    match left {
        Some(Duration::ZERO) => Err(Failure::later(anyhow!("no time is left"))),
        left => Ok(left),
    }
}

/// The first lines one by one, each with its newline.
fn each_line(parcel: &Parcel, lines: u64) -> impl Iterator<Item = &[u8]> {
    parcel.front(lines).flat_map(|slice| slice.split_inclusive(|&byte| byte == b'\n'))
}

impl Output for Http {
    fn limits(&self) -> Limits {
        self.limits
    }

    fn deliver(&mut self, parcel: &mut Parcel, deadline: Option<Instant>) -> Result<(), Failure> {
        let result = self.work_off(parcel, deadline);
        // After a failure another server may answer, and after a person's help the lines may be good.
        self.trusted &= result.is_ok();
        if !matches!(result, Err(Failure::Later { .. })) {
            self.search = Search::default();
        }
        result
    }
}
