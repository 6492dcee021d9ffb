//! One of an output's URLs: the connection to it, and what is known of who is there.

use super::absence::Absence;
use super::answer::{Answer, Reply, answer, name};
use super::auth::Credentials;
use super::client::{Client, Trouble};
use super::refusals::{is_of_nothing, visible};
use super::tls::Tls;
use super::{HttpConfig, Server};
use crate::output::Failure;
use anyhow::{Error, Result, anyhow};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

/// No ping takes longer.
const PING: Duration = Duration::from_secs(2);
/// Line protocol that every server takes, and stores nothing of: a comment.
const SURELY_GOOD: &[u8] = b"# collector: are lines taken here?\n";

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
    /// Whether it has stored lines since it last failed. One that has not may be none of its kind.
    pub trusted: bool,
}

/// What a request is, and how long it may take.
pub struct Request<'a> {
    /// In pieces.
    pub body: &'a [&'a [u8]],
    /// Whether it is compressed.
    pub gzip: bool,
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
            trusted: false,
        })
    }

    /// Posts lines, if anybody is there. The answer is without secrets.
    ///
    /// # Errors
    /// There was no answer, or none of the server.
    pub fn post(
        &mut self,
        request: &Request<'_>,
        credentials: &Credentials,
    ) -> Result<Reply, Failure> {
        self.awaited = true;
        let patience = patience(request.deadline)?;
        if !self.absence.let_through(|| self.client.ping(credentials, patience)) {
            return Err(Failure::later(Error::msg(self.unanswered.clone())));
        }
        let left = left(request.deadline)?;
        let reply = self.client.post(request.body, request.gzip, credentials, left);
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
    /// lines. If it refuses what is surely good, no line is bad.
    ///
    /// # Errors
    /// It does, or does not answer.
    pub fn doubt(
        &mut self,
        words: &str,
        server: &Server,
        credentials: &Credentials,
        deadline: Option<Instant>,
    ) -> Result<(), Failure> {
        if self.trusted {
            return Ok(());
        }
        let request = Request { body: &[SURELY_GOOD], gzip: false, deadline };
        let reply = self.post(&request, credentials)?;
        match answer(server, &reply, 1, std::iter::once(SURELY_GOOD), SystemTime::now()) {
            Answer::Retry { after, words } => {
                return Err(Failure::Later { why: Error::msg(words), after });
            }
            Answer::Done => {}
            _ if is_of_nothing(&reply.body) => {}
            _ => {
                let name = name(server);
                return Err(Failure::Hold(anyhow!(
                    "{words}: it refuses a comment too, as {name} does not: check `kind` and `url`"
                )));
            }
        }
        self.trusted = true;
        Ok(())
    }
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
