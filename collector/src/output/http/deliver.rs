//! Delivering over HTTP: what to send next, and what the answer means for the parcel.

use super::absence::Absence;
use super::answer::{Answer, answer};
use super::auth::Credentials;
use super::client::{Client, Trouble};
use super::dead_letters::DeadLetters;
use super::fit::Fit;
use super::payload::Gzip;
use super::search::{Search, Verdict};
use super::{HttpConfig, Server};
use crate::output::{Cause, Failure, Limits, Output, Parcel};
use anyhow::{Error, Result, anyhow};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

/// How long a ping may take.
const PING: Duration = Duration::from_secs(2);

/// An HTTP output: one request at a time, on a connection of its own.
pub struct Http {
    server: Server,
    limits: Limits,
    client: Client,
    credentials: Credentials,
    gzip: Option<Gzip>,
    fit: Fit,
    /// Of the parcel at hand.
    search: Search,
    /// Of all outputs to the same server.
    dead_letters: Arc<Mutex<DeadLetters>>,
    absence: Absence,
    /// What another attempt waits for, after a failure.
    wanted: Wanted,
    /// Why there was no answer the last time.
    unanswered: String,
}

/// What makes another attempt worth it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    /// Nothing that can be looked at.
    Time,
    /// Another secret.
    Secret,
    /// The server's return.
    Server,
}

impl Http {
    /// Ready to connect.
    ///
    /// # Errors
    /// See [`super::open`].
    pub fn new(config: &HttpConfig, dead_letters: Arc<Mutex<DeadLetters>>) -> Result<Self> {
        Ok(Self {
            server: config.server.clone(),
            limits: config.batch,
            client: Client::new(config)?,
            credentials: Credentials::new(&config.auth, &config.server)?,
            gzip: config.gzip.then(Gzip::default),
            fit: Fit::default(),
            search: Search::default(),
            dead_letters,
            absence: Absence::default(),
            wanted: Wanted::Time,
            unanswered: String::new(),
        })
    }

    /// Sends the first lines, and says what the answer means.
    fn send(
        &mut self,
        parcel: &Parcel,
        lines: u64,
        deadline: Option<Instant>,
    ) -> Result<Answer, Failure> {
        if left(deadline).is_some_and(|left| left.is_zero()) {
            return Err(Failure::later(anyhow!("no time is left")));
        }
        self.wanted = Wanted::Secret;
        let authorization = self.credentials.header().map_err(Failure::Hold)?;
        let authorization = authorization.as_ref();
        self.wanted = Wanted::Server;
        if !self.absence.let_through(|| self.client.ping(at_most(PING, deadline))) {
            return Err(Failure::later(Error::msg(self.unanswered.clone())));
        }
        let left = left(deadline);
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
        let reply = reply.map_err(|trouble| match trouble {
            Trouble::Later(why) => {
                self.absence.unanswered();
                self.unanswered = format!("{why:#}");
                Failure::later(why)
            }
            Trouble::Untrusted(why) => {
                self.wanted = Wanted::Time;
                Failure::Hold(why)
            }
        })?;
        let by_gateway = matches!(reply.status, 502..=504);
        self.absence.answered(by_gateway);
        self.wanted = if by_gateway { Wanted::Server } else { Wanted::Time };
        Ok(answer(&self.server, &reply, lines, each_line(parcel, lines), SystemTime::now()))
    }

    /// What an answer means for the first lines, which it is about.
    fn settle(&mut self, parcel: &mut Parcel, lines: u64, answer: Answer) -> Result<(), Failure> {
        match answer {
            Answer::Done => {
                self.fit.fitted(lines);
                self.search.accepted(lines);
                parcel.delivered(lines);
            }
            Answer::Except(refusals) => {
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
                self.search.refused(lines, Some(lines));
                self.give_up(parcel, lines, Cause::Rejected, &words);
            }
            Answer::Bad { dropped, words } => {
                if self.search.refused(lines, dropped) == Verdict::GiveUp {
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
                    self.search.accepted(1);
                    self.give_up(parcel, 1, Cause::TooLong, &words);
                }
            }
            Answer::Retry { after, words } => {
                return Err(Failure::Later { why: self.error(words), after });
            }
            Answer::Denied(words) => {
                self.wanted = Wanted::Secret;
                if !self.credentials.refresh().map_err(Failure::Hold)? {
                    return Err(Failure::Hold(self.error(words)));
                }
            }
            Answer::Hold(words) => return Err(Failure::Hold(self.error(words))),
        }
        Ok(())
    }

    fn give_up(&mut self, parcel: &mut Parcel, lines: u64, cause: Cause, words: &str) {
        self.keep(parcel, lines, lines, words);
        parcel.give_up(lines, cause);
    }

    fn keep(&mut self, parcel: &Parcel, lines: u64, bad: u64, words: &str) {
        let words = self.credentials.redact(words.to_owned());
        let mut dead_letters = self.dead_letters.lock().unwrap_or_else(PoisonError::into_inner);
        dead_letters.keep(&words, bad, &parcel.front(lines).collect::<Vec<_>>());
    }

    fn error(&self, words: String) -> Error {
        Error::msg(self.credentials.redact(words))
    }
}

/// The time that is left.
fn left(deadline: Option<Instant>) -> Option<Duration> {
    deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()))
}

/// A time, or what is left.
fn at_most(time: Duration, deadline: Option<Instant>) -> Duration {
    left(deadline).map_or(time, |left| left.min(time))
}

/// The first lines one by one, each with its newline.
fn each_line(parcel: &Parcel, lines: u64) -> impl Iterator<Item = &[u8]> {
    parcel.front(lines).flat_map(|slice| slice.split_inclusive(|&byte| byte == b'\n'))
}

impl Output for Http {
    fn limits(&self) -> Limits {
        self.limits
    }

    /// One request, so that whatever concerns all requests to the server is heard of before the next one.
    fn deliver(&mut self, parcel: &mut Parcel, deadline: Option<Instant>) -> Result<(), Failure> {
        let lines = self.search.next(parcel.lines(), parcel.lines_of_first());
        // A plugin's batch may be larger than a request is to be.
        let most = self.limits.lines.min(parcel.lines_within(self.limits.bytes));
        let lines = lines.min(most).min(self.fit.most());
        let answer = self.send(parcel, lines, deadline)?;
        self.settle(parcel, lines, answer)?;
        if parcel.is_done() {
            self.search = Search::default();
        }
        Ok(())
    }

    fn look(&mut self, deadline: Option<Instant>) -> bool {
        match self.wanted {
            Wanted::Time => false,
            Wanted::Secret => self.credentials.refresh().unwrap_or(false),
            Wanted::Server => self.absence.pinged(self.client.ping(at_most(PING, deadline))),
        }
    }

    fn reopen(&mut self) {
        if let Err(why) = self.credentials.refresh() {
            log::warn!("{why:#}; the secret that was read before is still used");
        }
    }
}
