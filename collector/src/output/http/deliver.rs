//! Delivering over HTTP: what to send next, and what the answer means for the parcel.

use super::answer::{Answer, answer};
use super::auth::Credentials;
use super::client::{Client, Trouble};
use super::dead_letters::DeadLetters;
use super::failover::Failover;
use super::fit::Fit;
use super::payload::Gzip;
use super::search::{Search, Verdict};
use super::tls::Tls;
use super::{HttpConfig, Server};
use crate::output::{Cause, Failure, Limits, Output, Parcel};
use anyhow::{Error, Result, anyhow};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

/// An HTTP output.
pub struct Http {
    name: String,
    server: Server,
    limits: Limits,
    /// One for each URL, and the URLs.
    clients: Vec<Client>,
    urls: Vec<Arc<str>>,
    failover: Failover,
    credentials: Credentials,
    gzip: Option<Gzip>,
    fit: Fit,
    /// Of the parcel at hand.
    search: Search,
    dead_letters: DeadLetters,
}

impl Http {
    /// Ready to connect.
    ///
    /// # Errors
    /// See [`super::open`].
    pub fn new(config: &HttpConfig) -> Result<Self> {
        // Certificates take memory, which those who do not need them are spared.
        let tls = config.urls[0].starts_with("https://").then(|| Tls::new(config)).transpose()?;
        let tls = tls.map(Arc::new);
        let client = |url: &String| Client::new(config, url, tls.clone());
        Ok(Self {
            name: config.to_string(),
            server: config.server.clone(),
            limits: config.batch,
            clients: config.urls.iter().map(client).collect::<Result<_>>()?,
            urls: config.urls.iter().map(|url| url.as_str().into()).collect(),
            failover: Failover::new(config.urls.len()),
            credentials: Credentials::new(config)?,
            gzip: config.gzip.then(Gzip::default),
            fit: Fit::default(),
            search: Search::default(),
            dead_letters: DeadLetters::new(config.to_string(), config.dead_letters.as_ref())?,
        })
    }

    /// Sends the first lines to a URL, and says what the answer means.
    fn send(
        &mut self,
        at: usize,
        parcel: &Parcel,
        lines: u64,
        left: Option<Duration>,
    ) -> Result<Answer, Failure> {
        let (client, credentials) = (&mut self.clients[at], &self.credentials);
        let reply = match &mut self.gzip {
            Some(gzip) => {
                let body = gzip.compress(parcel.front(lines)).map_err(Failure::later)?;
                client.post(&[body], true, credentials, left)
            }
            None => {
                let body: Vec<&[u8]> = parcel.front(lines).collect();
                client.post(&body, false, credentials, left)
            }
        };
        let reply = match reply {
            Ok(reply) => reply,
            Err(Trouble::Later(why)) => return Err(Failure::later(why)),
            Err(Trouble::Hold(why)) => return Err(Failure::Hold(why)),
            Err(Trouble::Denied(words)) => return Ok(Answer::Denied(words)),
        };
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
                if !self.credentials.refresh().map_err(Failure::Hold)? {
                    return Err(Failure::Hold(self.error(words)));
                }
            }
            Answer::Hold(words) => return Err(Failure::Hold(self.error(words))),
        }
        Ok(())
    }

    /// A URL keeps the lines. Says so when another one had them before.
    fn works(&mut self, at: usize) {
        let (name, url) = (&self.name, &self.urls[at]);
        match self.failover.worked(at, Instant::now()) {
            Some(_) if at == 0 => {
                log::info!("output {name}: {url} works again: its lines go there");
            }
            Some(why) => log::warn!("output {name}: {why}; its lines go to {url} now"),
            None => {}
        }
    }

    /// A URL failed, and with the last of them the output.
    fn fails(&mut self, at: usize, parcel: &mut Parcel, failure: Failure) -> Result<(), Failure> {
        parcel.failed();
        if self.urls.len() == 1 {
            return Err(failure);
        }
        let failure = failure.at(&self.urls[at]);
        self.failover.failed(at, failure, Instant::now()).map_or(Ok(()), Err)
    }

    fn give_up(&mut self, parcel: &mut Parcel, lines: u64, cause: Cause, words: &str) {
        self.keep(parcel, lines, lines, words);
        parcel.give_up(lines, cause);
    }

    fn keep(&mut self, parcel: &Parcel, lines: u64, bad: u64, words: &str) {
        let words = self.credentials.redact(words.to_owned());
        self.dead_letters.keep(&words, bad, &parcel.front(lines).collect::<Vec<_>>());
    }

    fn error(&self, words: String) -> Error {
        Error::msg(self.credentials.redact(words))
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
        while !parcel.is_done() {
            let lines = self.search.next(parcel.lines(), parcel.lines_of_first());
            // A plugin's batch may be larger than a request is to be.
            let most = self.limits.lines.min(parcel.lines_within(self.limits.bytes));
            let lines = lines.min(most).min(self.fit.most());
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return Err(Failure::later(anyhow!("no time is left")));
            }
            self.credentials.read().map_err(Failure::Hold)?;
            let at = self.failover.next(Instant::now());
            parcel.goes_to(&self.urls[at]);
            let answer = self.send(at, parcel, lines, left);
            let before = parcel.lines();
            let result = answer.and_then(|answer| self.settle(parcel, lines, answer));
            match result {
                Ok(()) if parcel.lines() < before => self.works(at),
                Ok(()) => {} // the same again, or less of it
                Err(failure) => self.fails(at, parcel, failure)?,
            }
        }
        self.search = Search::default();
        Ok(())
    }
}
