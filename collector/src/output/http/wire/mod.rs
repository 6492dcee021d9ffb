//! What lines are on the way to a server: line protocol, or protobuf that is made of it when it is sent.
//!
//! Queue, spool and books know lines alone. What a receiver of protobuf refuses is found by sending fewer lines, as
//! with every server.

pub(in crate::output) mod names;
mod otlp;
pub(in crate::output) mod prometheus;
pub(in crate::output) mod protobuf;
mod receivers;
mod request;
#[cfg(test)]
mod tests;

pub use prometheus::Version;
pub use receivers::is_about_order;

use super::answer::{self, Answer, Reply};
use super::payload::Gzip;
use super::refusals::Refusal;
use super::{HttpConfig, Server};
use crate::encode::Tags;
use otlp::Otlp;
use prometheus::RemoteWrite;
use std::io;
use std::time::SystemTime;

/// Line protocol that every server takes, and stores nothing of: a comment.
const SURELY_GOOD: &[u8] = b"# collector: are lines taken here?\n";

/// What the headers of a request say about its body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Media {
    /// `Content-Type`
    pub kind: &'static str,
    /// `Content-Encoding`
    pub encoding: Option<&'static str>,
    /// `X-Prometheus-Remote-Write-Version`
    pub version: Option<&'static str>,
}

const LINES: Media = Media { kind: "text/plain; charset=utf-8", encoding: None, version: None };

/// A body.
#[derive(Debug)]
pub struct Packed<'a> {
    /// In pieces.
    pub body: Vec<&'a [u8]>,
    /// What it is.
    pub media: Media,
    /// Lines that are not in it, or not with all their values.
    pub refused: Vec<Refusal>,
    /// Values in it, where the server counts them.
    pub samples: u64,
}

/// What an answer means before it is looked at as that of any server.
#[derive(Debug)]
pub enum Heard {
    /// Nothing.
    Any,
    /// The server speaks an older version: the same lines again.
    Again,
    /// This.
    Answer(Answer),
}

/// Makes bodies of lines.
pub enum Wire {
    /// As they are.
    Lines(Option<Gzip>),
    /// Prometheus' remote write.
    RemoteWrite(Box<RemoteWrite>),
    /// OTLP.
    Otlp(Box<Otlp>),
}

impl Wire {
    /// What the configuration asks for; `tags` are those of every line.
    pub fn new(config: &HttpConfig, tags: &Tags) -> Self {
        let gzip = config.gzip.then(Gzip::default);
        match &config.server {
            Server::Prometheus { version, native } => {
                Self::RemoteWrite(Box::new(RemoteWrite::new(*version, *native)))
            }
            Server::Otlp => Self::Otlp(Box::new(Otlp::new(tags, gzip))),
            _ => Self::Lines(gzip),
        }
    }

    /// A body of some slices of whole lines.
    ///
    /// # Errors
    /// It cannot be compressed.
    pub fn pack<'a>(
        &'a mut self,
        slices: impl Iterator<Item = &'a [u8]>,
    ) -> io::Result<Packed<'a>> {
        match self {
            Self::Lines(None) => Ok(plain(slices.collect())),
            Self::Lines(Some(gzip)) => {
                let body = vec![gzip.compress(slices)?];
                Ok(Packed { media: Media { encoding: Some("gzip"), ..LINES }, ..plain(body) })
            }
            Self::RemoteWrite(remote) => remote.pack(slices),
            Self::Otlp(otlp) => otlp.pack(slices),
        }
    }

    /// A body of one line, or one that every server of the kind takes.
    ///
    /// # Errors
    /// As [`Wire::pack`].
    pub fn pack_one<'a>(&'a mut self, line: Option<&'a [u8]>) -> io::Result<Packed<'a>> {
        match self {
            Self::Lines(_) => Ok(plain(vec![line.unwrap_or(SURELY_GOOD)])),
            _ => self.pack(line.into_iter()),
        }
    }

    /// What [`Wire::pack_one`] without a line is.
    pub fn surely_good(&self) -> &'static str {
        match self {
            Self::Lines(_) => "a comment",
            Self::RemoteWrite(_) | Self::Otlp(_) => "an empty request",
        }
    }

    /// An answer to so many samples came.
    pub fn heard(&mut self, reply: &Reply, samples: u64, lines: u64) -> Heard {
        match self {
            Self::RemoteWrite(remote) => remote.heard(reply, samples, lines),
            Self::Lines(_) | Self::Otlp(_) => Heard::Any,
        }
    }

    /// Another server may be there from now on.
    pub fn failed(&mut self) {
        if let Self::RemoteWrite(remote) = self {
            remote.failed();
        }
    }
}

/// What the answer to a request of so many lines means.
pub fn answer<'a>(
    server: &Server,
    reply: &Reply,
    sent: u64,
    lines: impl Iterator<Item = &'a [u8]>,
    now: SystemTime,
) -> Answer {
    match server {
        Server::Prometheus { .. } | Server::Otlp => receivers::answer(server, reply, sent, now),
        _ => answer::to_lines(server, reply, sent, lines, now),
    }
}

fn plain(body: Vec<&[u8]>) -> Packed<'_> {
    Packed { body, media: LINES, refused: Vec::new(), samples: 0 }
}
