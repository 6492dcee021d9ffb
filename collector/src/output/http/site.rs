//! One of an output's URLs: the connection to it, and what is known of who is there.

use super::absence::Absence;
use super::answer::{Answer, Reply, name};
use super::auth::Credentials;
use super::client::{Client, Trouble};
use super::refusals::{is_of_nothing, visible};
use super::tls::Tls;
use super::wire::{Media, Wire, answer};
use super::{HttpConfig, Server};
use crate::output::Failure;
use anyhow::{Error, Result, anyhow};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

/// No ping takes longer.
const PING: Duration = Duration::from_secs(2);
/// A URL.
pub struct Site {
    /// It.
    pub url: Arc<str>,
    client: Client,
    absence: Absence,
    /// Whether its return is what another attempt waits for.
    awaited: bool,
    /// Why there was no answer the last time.
    unanswered: String,
    /// What is known of it since it last failed.
    pub trust: Trust,
}

/// What a request is, and how long it may take.
pub struct Outgoing<'a> {
    /// In pieces.
    pub body: &'a [&'a [u8]],
    /// What it is.
    pub media: Media,
    /// When its answer has to be there.
    pub deadline: Option<Instant>,
}

impl Site {
    /// Ready to connect.
    ///
    /// # Errors
    /// See [`Client::new`].
    pub fn new(config: &HttpConfig, url: &str, tls: Option<Arc<Tls>>) -> Result<Self> {
        Ok(Self {
            url: url.into(),
            client: Client::new(config, url, tls)?,
            absence: Absence::default(),
            awaited: false,
            unanswered: String::new(),
            trust: Trust::default(),
        })
    }

    /// Posts lines, if anybody is there. The answer is without secrets.
    ///
    /// # Errors
    /// There was no answer, or none of the server.
    pub fn post(
        &mut self,
        request: &Outgoing<'_>,
        credentials: &Credentials,
    ) -> Result<Reply, Failure> {
        self.awaited = true;
        let patience = patience(request.deadline)?;
        if !self.absence.let_through(|| self.client.ping(credentials, patience)) {
            return Err(Failure::later(Error::msg(self.unanswered.clone())));
        }
        let left = left(request.deadline)?;
        let reply = self.client.post(request.body, request.media, credentials, left);
        let words = |why: Error| visible(&format!("{why:#}"));
        let reply = match reply {
            Ok(reply) => reply,
            Err(Trouble::Later(why)) => {
                self.absence.unanswered();
                self.unanswered = words(why);
                return Err(Failure::later(Error::msg(self.unanswered.clone())));
            }
            Err(Trouble::Hold(why)) => {
                self.awaited = false;
                return Err(Failure::Hold(Error::msg(words(why))));
            }
            Err(Trouble::Denied(why)) => {
                self.awaited = false;
                return Ok(Reply { status: 407, body: visible(&why).into(), ..Reply::default() });
            }
        };
        let by_gateway = matches!(reply.status, 502..=504);
        self.absence.answered(by_gateway);
        self.awaited = by_gateway;
        Ok(Reply { body: credentials.redact(reply.body), ..reply })
    }

    /// Whether it is there again, when that is what another attempt waits for.
    pub fn returned(&mut self, credentials: &Credentials, deadline: Option<Instant>) -> bool {
        let Ok(patience) = patience(deadline) else { return false };
        self.awaited && self.absence.pinged(self.client.ping(credentials, patience))
    }

    /// Asked before lines are given up: a server that has stored none so far may not be one that stores
    /// lines. If it refuses what is surely good, no line is bad; nor if it refuses another line of the
    /// parcel in the same words.
    ///
    /// # Errors
    /// It does, or does not answer.
    pub fn doubt(
        &mut self,
        words: &str,
        another: Option<&[u8]>,
        (server, wire): (&Server, &mut Wire),
        credentials: &Credentials,
        deadline: Option<Instant>,
    ) -> Result<(), Failure> {
        let hold = |why: &str| Err(Failure::Hold(anyhow!("{words}: {why}")));
        if self.trust == Trust::None {
            if self.takes(None, (server, wire), credentials, deadline)?.is_err() {
                let (name, good) = (name(server), wire.surely_good());
                let why = format!("it refuses {good} too, as {name} does not");
                return hold(&format!("{why}: check `kind` and `url`"));
            }
            self.trust = Trust::Comment;
        }
        let Some(another) = another.filter(|_| self.trust == Trust::Comment) else { return Ok(()) };
        match self.takes(Some(another), (server, wire), credentials, deadline)? {
            Err(others) if alike(&others, words) => {
                hold("it says so of each line that was tried: check `kind`, `url` and `uint`")
            }
            taken => {
                if taken.is_ok() {
                    self.trust = Trust::Lines;
                }
                Ok(())
            }
        }
    }

    /// Whether a line is taken, or what is surely good; else in which words it is refused.
    fn takes(
        &mut self,
        line: Option<&[u8]>,
        (server, wire): (&Server, &mut Wire),
        credentials: &Credentials,
        deadline: Option<Instant>,
    ) -> Result<Result<(), String>, Failure> {
        let packed = wire.pack_one(line).map_err(Failure::later)?;
        let request = Outgoing { body: &packed.body, media: packed.media, deadline };
        let reply = self.post(&request, credentials)?;
        Ok(match answer(server, &reply, 1, line.into_iter(), SystemTime::now()) {
            Answer::Retry { after, words } => {
                return Err(Failure::Later { why: Error::msg(words), after });
            }
            Answer::Done => Ok(()),
            _ if is_of_nothing(&reply.body) => Ok(()),
            Answer::Except(refusals) => Err(refusals.into_iter().map(|r| r.words).collect()),
            Answer::Refused(words)
            | Answer::Bad { words, .. }
            | Answer::Partial { words, .. }
            | Answer::Halve(words)
            | Answer::Denied(words)
            | Answer::Hold(words) => Err(words),
        })
    }
}

/// What a server has stored since it last failed. One that has stored nothing may be none of its kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Trust {
    /// Nothing, and it was not asked.
    #[default]
    None,
    /// It takes a comment, of which there is nothing to store.
    Comment,
    /// Lines.
    Lines,
}

/// Whether two refusals say the same, but for the lines that they quote and for numbers.
fn alike(one: &str, other: &str) -> bool {
    let sense = |words: &str| -> String {
        let parts = words.split(['\'', '"', '`']).step_by(2);
        parts.flat_map(str::chars).filter(|c| !c.is_ascii_digit()).collect()
    };
    sense(one) == sense(other)
}

/// How long a ping may take.
fn patience(deadline: Option<Instant>) -> Result<Duration, Failure> {
    Ok(left(deadline)?.map_or(PING, |left| left.min(PING)))
}

/// The time that is left for a request, if there is a deadline.
fn left(deadline: Option<Instant>) -> Result<Option<Duration>, Failure> {
    let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
    match left {
        Some(Duration::ZERO) => Err(Failure::later(anyhow!("no time is left"))),
        left => Ok(left),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_alike_when_they_differ_by_what_they_quote() {
        let words = |line| format!("400 unable to parse '{line}': invalid number");
        assert!(alike(&words("a v=1u 1"), &words("b v=22u 7")));
        assert!(!alike(&words("a v=1u 1"), "400 unable to parse 'a v=1u 1': missing fields"));
    }
}
