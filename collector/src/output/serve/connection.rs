//! One connection: reads a request, writes its answer, and so on. It never waits.

use super::address::Stream;
use super::channel::{Came, Channel};
use super::exposition::{Format, PIECE, Scrape};
use super::request::{self, HEAD, Parsed};
use super::route::{Answer, Body, Router};
use rustls::ServerConfig;
use std::io::ErrorKind;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a request may take to arrive.
const ARRIVE: Duration = Duration::from_secs(5);
/// How long a connection may be idle between two requests.
const IDLE: Duration = Duration::from_secs(90);
/// How long a reader may stand still, and how long it may take to read an answer.
const STALL: Duration = Duration::from_secs(10);
const WHOLE: Duration = Duration::from_secs(60);
/// How long one that was told to go may still send, so that it reads why.
const LINGER: Duration = Duration::from_secs(1);
const NOT_TLS: &str = "TLS is spoken here: the URL has to begin with https://\n";
/// What is done for one connection before others have their turn.
const TURN: usize = 16;

/// A connection.
pub struct Connection {
    channel: Channel,
    phase: Phase,
    /// What came and was not answered yet.
    read: Vec<u8>,
    /// What is to be written, and how much of it was.
    out: Vec<u8>,
    written: usize,
    scrape: Option<Scrape>,
    chunks: bool,
    keep: bool,
    /// Since when this phase lasts; when it last went on.
    since: Instant,
    moved: Instant,
    served: u64,
    /// Bytes of an answer that was made as a whole.
    whole: usize,
    /// Whether it has more to do without the other end.
    unfinished: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Reading,
    Writing,
    /// All is said; what still comes is thrown away.
    Leaving,
}

/// What becomes of it after its turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// It waits for the other end.
    Wait,
    /// It has more to do at once.
    Again,
    /// It is closed.
    Close,
}

impl Connection {
    /// With TLS if there is a certificate.
    pub fn new(stream: Stream, tls: Option<Arc<ServerConfig>>, now: Instant) -> Self {
        Self {
            channel: Channel::new(stream, tls),
            phase: Phase::Reading,
            read: Vec::new(),
            out: Vec::new(),
            written: 0,
            scrape: None,
            chunks: false,
            keep: true,
            since: now,
            moved: now,
            served: 0,
            whole: 0,
            unfinished: false,
        }
    }

    pub fn stream(&self) -> &Stream {
        self.channel.stream()
    }

    /// Whether it waits for room to write, else for bytes to read.
    pub fn writes(&self) -> bool {
        self.phase == Phase::Writing || self.channel.wants_write()
    }

    /// When it last went on; the one that has waited the longest is closed for others.
    pub fn moved(&self) -> Instant {
        self.moved
    }

    /// Bytes of a whole answer that waits to be read there.
    pub fn pending(&self) -> usize {
        self.whole
    }

    /// Whether it has more to do without the other end.
    pub fn is_unfinished(&self) -> bool {
        self.unfinished
    }

    /// When it is closed unless it goes on.
    pub fn deadline(&self) -> Instant {
        match self.phase {
            Phase::Reading if self.read.is_empty() && self.served > 0 => self.since + IDLE,
            Phase::Reading => self.since + ARRIVE,
            Phase::Writing => (self.moved + STALL).min(self.since + WHOLE),
            Phase::Leaving => self.since + LINGER,
        }
    }

    /// Goes on as far as it can without waiting.
    pub fn turn(&mut self, router: &mut Router<'_>, now: Instant) -> Next {
        self.unfinished = false;
        for _ in 0..TURN {
            let next = match self.phase {
                Phase::Reading => self.read(router, now),
                Phase::Writing => self.write(router, now),
                Phase::Leaving => self.leave(),
            };
            if next != Next::Again {
                return next;
            }
        }
        self.unfinished = true;
        Next::Again
    }

    fn read(&mut self, router: &mut Router<'_>, now: Instant) -> Next {
        if !self.read.is_empty() {
            match request::parse(&self.read) {
                Parsed::Partly => {}
                Parsed::Refused(status, words) => {
                    self.keep = false;
                    self.answer(Answer::text(status, words), false, now);
                    return Next::Again;
                }
                Parsed::Whole(request, length) => {
                    self.read.drain(..length);
                    (self.keep, self.chunks) = (request.keep, request.chunks);
                    let answer = router.answer(&request);
                    self.answer(answer, request.head_only, now);
                    return Next::Again;
                }
            }
        }
        let mut bytes = [0; 2048];
        let room = bytes.len().min(HEAD + 1 - self.read.len().min(HEAD));
        match self.channel.read(&mut bytes[..room]) {
            Ok(Came::End) => Next::Close,
            Ok(Came::Plain) => {
                self.keep = false;
                self.answer(Answer::text(400, NOT_TLS), false, now);
                Next::Again
            }
            Ok(Came::Bytes(length)) => {
                if self.read.is_empty() {
                    (self.since, self.moved) = (now, now);
                }
                self.read.extend_from_slice(&bytes[..length]);
                Next::Again
            }
            Err(error) => after(error.kind()),
        }
    }

    /// Begins to write an answer.
    fn answer(&mut self, mut answer: Answer, head_only: bool, now: Instant) {
        (self.phase, self.since, self.moved, self.written) = (Phase::Writing, now, now, 0);
        self.served += 1;
        self.out.clear();
        let body = std::mem::replace(&mut answer.body, Body::Bytes(Vec::new()));
        let (length, body, scrape) = match body {
            Body::Bytes(bytes) => (Some(bytes.len()), bytes, None),
            Body::Metrics(format) => {
                self.keep &= self.chunks;
                (None, Vec::new(), Some(Scrape::new(format)))
            }
        };
        answer.head(length, self.chunks, self.keep, &mut self.out);
        if !head_only {
            self.out.extend_from_slice(&body);
            (self.scrape, self.whole) = (scrape, body.len());
        }
    }

    fn write(&mut self, router: &Router<'_>, now: Instant) -> Next {
        if self.written < self.out.len() {
            return match self.channel.write(&self.out[self.written..]) {
                Ok(0) => Next::Close,
                Ok(length) => {
                    (self.written, self.moved) = (self.written + length, now);
                    Next::Again
                }
                Err(error) => after(error.kind()),
            };
        }
        if self.scrape.is_none() {
            let flushed = if self.keep { self.channel.flush() } else { self.channel.finish() };
            if let Err(error) = flushed {
                return after(error.kind());
            }
        }
        (self.out, self.written, self.whole) = (Vec::new(), 0, 0);
        if let Some(scrape) = &mut self.scrape {
            self.out.reserve(PIECE + (16 << 10));
            if self.chunks {
                // The length is known when the piece is made: room is left for it.
                self.out.extend_from_slice(b"00000000\r\n");
            }
            router.fill(scrape, &mut self.out);
            if self.chunks {
                let length = self.out.len() - 10;
                self.out[..8].copy_from_slice(format!("{length:08x}").as_bytes());
                if length == 0 {
                    self.out.clear();
                } else {
                    self.out.extend_from_slice(b"\r\n");
                }
            }
            if scrape.is_done() {
                self.scrape = None;
                if self.chunks {
                    self.out.extend_from_slice(b"0\r\n\r\n");
                }
            }
            return Next::Again;
        }
        (self.since, self.moved) = (now, now);
        self.phase = if self.keep { Phase::Reading } else { Phase::Leaving };
        Next::Again
    }

    fn leave(&mut self) -> Next {
        match self.channel.discard() {
            Ok(0) => Next::Close,
            Ok(_) => Next::Again,
            Err(error) => after(error.kind()),
        }
    }
}

fn after(error: ErrorKind) -> Next {
    match error {
        ErrorKind::WouldBlock => Next::Wait,
        ErrorKind::Interrupted => Next::Again,
        _ => Next::Close,
    }
}

impl Answer {
    /// A scrape's.
    pub fn metrics(format: Format) -> Self {
        Self { status: 200, media: format.media(), body: Body::Metrics(format), more: "" }
    }
}
