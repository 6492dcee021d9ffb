//! Delivering over HTTP: what to send next, and what the answer means for the parcel.

use super::answer::Answer;
use super::auth::Credentials;
use super::dead_letters::DeadLetters;
use super::failover::Failover;
use super::fit::Fit;
use super::search::{Search, Verdict};
use super::site::{Outgoing, Site, Trust};
use super::tls::Tls;
use super::wire::{Heard, Wire, answer, is_about_order};
use super::{HttpConfig, Server};
use crate::encode::Tags;
use crate::output::{Cause, Failure, Output, Parcel, Portion};
use anyhow::{Error, Result};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime};

/// An HTTP output: one request at a time, on a connection of its own.
pub struct Http {
    name: String,
    server: Server,
    limits: Portion,
    /// One for each URL.
    sites: Vec<Site>,
    credentials: Credentials,
    /// Another attempt waits for another secret.
    denied: bool,
    wire: Wire,
    fit: Fit,
    /// Of the parcel at hand.
    search: Search,
    /// So many of its first lines were in a request to which no answer came, and may be stored.
    unanswered: u64,
    /// So many of them come from the spool of an earlier run, and some may be stored. None until the first parcel.
    recovered: Option<u64>,
    shared: Arc<Shared>,
}

/// What the senders of one output have in common.
pub struct Shared {
    /// Set where the URLs need it.
    pub tls: Option<Arc<Tls>>,
    failover: Mutex<Failover>,
    dead_letters: Mutex<DeadLetters>,
    /// Tags of every line.
    tags: Tags,
}

impl Shared {
    /// Reads certificates and opens the file of refused lines.
    ///
    /// # Errors
    /// See [`super::open`].
    pub fn new(config: &HttpConfig, tags: &Tags) -> Result<Arc<Self>> {
        let dead_letters = DeadLetters::new(config.to_string(), config.dead_letters.as_ref())?;
        let failover = Mutex::new(Failover::new(config.urls.len()));
        let dead_letters = Mutex::new(dead_letters);
        let tls = Tls::of(config)?;
        Ok(Arc::new(Self { tls, failover, dead_letters, tags: tags.clone() }))
    }

    fn failover(&self) -> MutexGuard<'_, Failover> {
        self.failover.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Http {
    /// Ready to connect.
    ///
    /// # Errors
    /// See [`super::open`].
    pub fn new(config: &HttpConfig, shared: &Arc<Shared>) -> Result<Self> {
        let site = |url: &String| Site::new(config, url, shared.tls.clone());
        Ok(Self {
            name: config.to_string(),
            server: config.server.clone(),
            limits: config.batch,
            sites: config.urls.iter().map(site).collect::<Result<_>>()?,
            credentials: Credentials::new(config)?,
            denied: false,
            wire: Wire::new(config, &shared.tags),
            fit: Fit::default(),
            search: Search::default(),
            unanswered: 0,
            recovered: None,
            shared: Arc::clone(shared),
        })
    }

    /// Sends the first lines to a URL, and says what the answer means.
    fn send(
        &mut self,
        at: usize,
        parcel: &Parcel,
        lines: u64,
        deadline: Option<Instant>,
    ) -> Result<Answer, Failure> {
        loop {
            let (site, credentials) = (&mut self.sites[at], &self.credentials);
            let once = matches!(self.server, Server::Prometheus { .. });
            let packed = self.wire.pack(parcel.front(lines)).map_err(Failure::later)?;
            let (refused, samples) = (packed.refused, packed.samples);
            let request = Outgoing { body: &packed.body, media: packed.media, deadline };
            let reply = site.post(&request, credentials).inspect_err(|_| {
                self.unanswered = if once { self.unanswered.max(lines) } else { 0 };
            })?;
            let each = each_line(parcel, lines);
            let answer = match self.wire.heard(&reply, samples, lines) {
                Heard::Again => continue,
                Heard::Answer(answer) => answer,
                Heard::Any => answer(&self.server, &reply, lines, each, SystemTime::now()),
            };
            if answer == Answer::Done && !refused.is_empty() {
                self.sites[at].trust = Trust::Lines;
                return Ok(Answer::Except(refused));
            }
            return Ok(self.known(at, lines, answer));
        }
    }

    /// A receiver of remote write takes a sample once: of lines to which no answer came before it says that it has
    /// them, or newer ones.
    fn known(&mut self, at: usize, lines: u64, answer: Answer) -> Answer {
        let (Answer::Bad { words, .. } | Answer::Refused(words) | Answer::Partial { words, .. }) =
            &answer
        else {
            return answer;
        };
        if !matches!(self.server, Server::Prometheus { .. }) || !is_about_order(words) {
            return answer;
        }
        self.sites[at].trust = Trust::Lines; // what it says is about lines
        // Of version 1 all of a request is refused for one sample: one line after the other is asked about.
        let alone = lines == 1 || self.search.exhausted() || !matches!(answer, Answer::Bad { .. });
        let recovered = alone && Some(lines) <= self.recovered;
        if lines <= self.unanswered || recovered { Answer::Done } else { answer }
    }

    /// What an answer means for the first lines, which it is about.
    fn settle(
        &mut self,
        at: usize,
        parcel: &mut Parcel,
        lines: u64,
        answer: Answer,
        deadline: Option<Instant>,
    ) -> Result<(), Failure> {
        match answer {
            Answer::Done => {
                self.sites[at].trust = Trust::Lines;
                self.fit.fitted(lines);
                self.search.accepted(lines);
                parcel.delivered(lines);
            }
            Answer::Except(refusals) => {
                self.stored(at, (refusals.len() as u64) < lines);
                self.doubt(at, &refusals[0].words, parcel, deadline)?;
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
                self.doubt(at, &words, parcel, deadline)?;
                self.search.refused(lines, Some(lines));
                self.give_up(parcel, lines, Cause::Rejected, &words);
            }
            Answer::Bad { dropped, words } => {
                self.stored(at, dropped.is_some_and(|dropped| dropped < lines));
                let mut search = self.search.clone();
                let verdict = search.refused(lines, dropped);
                if verdict == Verdict::GiveUp {
                    self.doubt(at, &words, parcel, deadline)?;
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
            Answer::Partial { dropped, words } => {
                self.stored(at, dropped < lines);
                self.doubt(at, &words, parcel, deadline)?;
                self.search.named();
                self.keep(parcel, lines, dropped, &words);
                parcel.delivered(lines - dropped);
                parcel.give_up(dropped, Cause::Rejected);
            }
            Answer::Halve(words) => {
                self.fit.too_many(lines);
                if lines == 1 {
                    self.doubt(at, &words, parcel, deadline)?;
                    self.search.accepted(1);
                    self.give_up(parcel, 1, Cause::TooLong, &words);
                }
            }
            Answer::Retry { after, words } => {
                return Err(Failure::Later { why: Error::msg(words), after });
            }
            Answer::Denied(words) => {
                self.denied = true;
                if !self.credentials.refresh().map_err(Failure::Hold)? {
                    return Err(Failure::Hold(Error::msg(words)));
                }
            }
            Answer::Hold(words) => return Err(Failure::Hold(Error::msg(words))),
        }
        Ok(())
    }

    fn stored(&mut self, at: usize, some: bool) {
        if some {
            self.sites[at].trust = Trust::Lines;
        }
    }

    fn doubt(
        &mut self,
        at: usize,
        words: &str,
        parcel: &Parcel,
        deadline: Option<Instant>,
    ) -> Result<(), Failure> {
        // Where order matters, the last line is not to be stored before the others.
        let another = parcel.last_of_several().filter(|_| !self.server.in_order());
        let to = (&self.server, &mut self.wire);
        self.sites[at].doubt(words, another, to, &self.credentials, deadline)
    }

    /// A URL keeps the lines. Says so when another one had them before.
    fn works(&mut self, at: usize) {
        self.denied = false;
        let (name, url) = (&self.name, &self.sites[at].url);
        match self.shared.failover().worked(at, Instant::now()) {
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
        // Afterwards another server may answer there, and after a person's help the lines may be good.
        self.sites[at].trust = Trust::None;
        self.wire.failed();
        if !matches!(failure, Failure::Later { .. }) {
            self.search = Search::default();
        }
        if self.sites.len() == 1 {
            return Err(failure);
        }
        let failure = failure.at(&self.sites[at].url);
        self.shared.failover().failed(at, failure, Instant::now()).map_or(Ok(()), Err)
    }

    fn give_up(&mut self, parcel: &mut Parcel, lines: u64, cause: Cause, words: &str) {
        self.keep(parcel, lines, lines, words);
        parcel.give_up(lines, cause);
    }

    fn keep(&mut self, parcel: &Parcel, lines: u64, bad: u64, words: &str) {
        let dead_letters = self.shared.dead_letters.lock();
        let mut dead_letters = dead_letters.unwrap_or_else(PoisonError::into_inner);
        dead_letters.keep(words, bad, &parcel.front(lines).collect::<Vec<_>>());
    }
}

/// The first lines one by one, each with its newline.
fn each_line(parcel: &Parcel, lines: u64) -> impl Iterator<Item = &[u8]> {
    parcel.front(lines).flat_map(|slice| slice.split_inclusive(|&byte| byte == b'\n'))
}

impl Output for Http {
    fn portion(&self) -> Portion {
        self.limits
    }

    /// One request, so that whatever concerns all requests to the server is heard of before the next one.
    fn deliver(&mut self, parcel: &mut Parcel, deadline: Option<Instant>) -> Result<(), Failure> {
        if self.recovered.is_none() {
            self.recovered = Some(if parcel.is_spooled() { parcel.lines() } else { 0 });
        }
        let lines = self.search.next(parcel.lines(), parcel.lines_of_first());
        // A plugin's batch may be larger than a request is to be.
        let most = self.limits.lines.min(parcel.lines_within(self.limits.bytes));
        let mut lines = lines.min(most).min(self.fit.most());
        if self.unanswered > 0 {
            lines = lines.min(self.unanswered); // the same again, so that the answer is about the same
        }
        if let Err(why) = self.credentials.read() {
            self.denied = true;
            return Err(Failure::Hold(why));
        }
        let at = self.shared.failover().next(Instant::now());
        parcel.goes_to(&self.sites[at].url);
        let before = parcel.lines();
        let answer = self.send(at, parcel, lines, deadline);
        let result = answer.and_then(|answer| self.settle(at, parcel, lines, answer, deadline));
        match result {
            Ok(()) if parcel.lines() < before => self.works(at),
            Ok(()) => {} // the same again, or less of it
            Err(failure) => self.fails(at, parcel, failure)?,
        }
        let settled = before - parcel.lines();
        self.unanswered = self.unanswered.saturating_sub(settled);
        self.recovered = self.recovered.map(|lines| lines.saturating_sub(settled));
        if parcel.is_done() {
            self.search = Search::default();
            (self.unanswered, self.recovered) = (0, Some(0));
        }
        Ok(())
    }

    fn look(&mut self, deadline: Option<Instant>) -> bool {
        if self.denied {
            return self.credentials.refresh().unwrap_or(false);
        }
        let credentials = &self.credentials;
        self.sites.iter_mut().any(|site| site.returned(credentials, deadline))
    }

    fn reopen(&mut self) {
        if let Err(why) = self.credentials.refresh() {
            log::warn!("{why:#}; the secret that was read before is still used");
        }
    }
}
