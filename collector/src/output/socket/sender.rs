//! Parcels into a socket.

use super::SocketConfig;
use super::pack::{Packed, Packer};
use super::wire::Wire;
use crate::output::{Cause, Failure, Output, Parcel};
use anyhow::Error;
use rustix::io::Errno;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Bytes of one call of `send` on a stream. A Unix socket takes so much whole or not at all: it is one
/// packet (`unix_stream_sendmsg` makes one of up to 48 KiB). So its reader sees no part of a line, not
/// even when the collector is killed, unless a line is longer.
const STREAM_BYTES: usize = 32 << 10;
/// A reader that reads nothing for so long stands still.
const STALL: Duration = Duration::from_secs(2);
/// The kernel does not say when all is read: it is asked again after a pause, each twice as long.
const PAUSES: [Duration; 2] = [Duration::from_micros(20), Duration::from_millis(10)];

/// A socket that takes parcels.
pub struct Sender {
    config: SocketConfig,
    wire: Option<Wire>,
    /// Connections that were made.
    turn: usize,
    /// Bytes of one call of `send`.
    most: usize,
    /// Bytes from the front of the parcel that were sent on this connection.
    ahead: usize,
    /// Of those, what the other end surely has.
    arrived: usize,
    buffer: Vec<u8>,
    /// Whether a line was refused.
    refused: bool,
}

/// Why not everything has arrived.
enum Stop {
    /// The connection is lost, or there is none.
    Lost(Error),
    /// The reader stands still.
    Still,
    /// There is no time left.
    End,
    /// The call took long enough; all is well.
    Enough,
}

impl From<Errno> for Stop {
    fn from(error: Errno) -> Self {
        Self::Lost(error.into())
    }
}

/// How long one call may take.
struct Patience {
    stall: Instant,
    deadline: Option<Instant>,
    /// Whether anything was sent or read.
    moved: bool,
}

impl Patience {
    fn new(deadline: Option<Instant>) -> Self {
        Self { stall: Instant::now() + STALL, deadline, moved: false }
    }

    /// The time that is left, which is not zero.
    fn left(&self) -> Result<Duration, Stop> {
        let now = Instant::now();
        if self.deadline.is_some_and(|deadline| deadline <= now) {
            return Err(Stop::End);
        }
        if self.stall <= now {
            return Err(if self.moved { Stop::Enough } else { Stop::Still });
        }
        Ok(self.deadline.map_or(self.stall, |deadline| deadline.min(self.stall)) - now)
    }
}

impl Sender {
    /// Not connected yet.
    pub fn new(config: SocketConfig) -> Self {
        let most = match config {
            SocketConfig::Unix(_) | SocketConfig::Tcp(_) => STREAM_BYTES,
            SocketConfig::Unixgram { datagram_bytes, .. }
            | SocketConfig::Udp { datagram_bytes, .. } => datagram_bytes,
        };
        Self {
            config,
            wire: None,
            turn: 0,
            most,
            ahead: 0,
            arrived: 0,
            buffer: Vec::new(),
            refused: false,
        }
    }

    /// Sends what is left of a parcel and waits until it has arrived. `Some` when a line in the way is
    /// longer than a datagram: its length.
    fn send(&mut self, parcel: &Parcel, deadline: Option<Instant>) -> Result<Option<usize>, Stop> {
        let wire = match self.wire.take() {
            Some(wire) => wire,
            None => {
                self.turn += 1;
                Wire::open(&self.config, self.turn - 1, deadline).map_err(Stop::Lost)?
            }
        };
        let wire = self.wire.insert(wire);
        let mut progress = Progress { wire, ahead: &mut self.ahead, arrived: &mut self.arrived };
        let mut patience = Patience::new(deadline);
        let mut packer = Packer::new(parcel.front(u64::MAX), *progress.ahead);
        let refused = loop {
            match packer.next(self.most, &mut self.buffer) {
                Packed::End => break None,
                Packed::TooLong(length) if !progress.wire.is_stream() => break Some(length),
                Packed::Lines | Packed::TooLong(_) => {}
            }
            match progress.send(&self.buffer, &mut patience) {
                Err(Stop::Lost(error)) if error.downcast_ref() == Some(&Errno::MSGSIZE) => {
                    // The kernel takes less than was configured.
                    self.most = self.buffer.len() - 1;
                    packer = Packer::new(parcel.front(u64::MAX), *progress.ahead);
                }
                result => result?,
            }
        };
        progress.wait(&mut patience)?;
        Ok(refused)
    }

    /// Lines that have arrived are delivered.
    fn settle(&mut self, parcel: &mut Parcel) {
        while !parcel.is_done() {
            let rest = parcel.first();
            let (length, lines) = if rest.len() <= self.arrived {
                (rest.len(), parcel.lines_of_first())
            } else {
                let length = memchr::memrchr(b'\n', &rest[..self.arrived]).map_or(0, |n| n + 1);
                (length, memchr::memchr_iter(b'\n', &rest[..length]).count() as u64)
            };
            if lines == 0 {
                return;
            }
            parcel.delivered(lines);
            self.ahead -= length;
            self.arrived -= length;
        }
    }

    fn refuse(&mut self, parcel: &mut Parcel, length: usize) {
        parcel.give_up(1, Cause::TooLong);
        if !std::mem::replace(&mut self.refused, true) {
            log::warn!(
                "output {}: a line of {length} bytes is longer than a datagram, {} bytes: refused \
                 (said once)",
                self.config,
                self.most
            );
        }
    }
}

/// A connection at work on a parcel.
struct Progress<'a> {
    wire: &'a Wire,
    ahead: &'a mut usize,
    arrived: &'a mut usize,
}

impl Progress<'_> {
    fn send(&mut self, bytes: &[u8], patience: &mut Patience) -> Result<(), Stop> {
        let mut rest = bytes;
        while !rest.is_empty() {
            match self.wire.send(rest) {
                Ok(sent) => {
                    patience.moved = true;
                    *self.ahead += sent;
                    rest = &rest[sent..];
                }
                Err(Errno::AGAIN) => {
                    self.wire.wait(patience.left()?)?;
                    self.look(patience)?;
                }
                Err(error) => {
                    // A Unix reader that had read everything leaves without ECONNRESET.
                    if error == Errno::PIPE {
                        let _ = self.look(patience);
                    }
                    return Err(error.into());
                }
            }
        }
        // Often, so that little is sent twice after a lost connection.
        if self.wire.is_stream() { self.look(patience) } else { Ok(()) }
    }

    /// Asks what has arrived.
    fn look(&mut self, patience: &mut Patience) -> Result<(), Stop> {
        let unread = self.wire.unread().map_err(Stop::Lost)?;
        let arrived = self.ahead.saturating_sub(unread);
        if arrived > *self.arrived {
            *self.arrived = arrived;
            patience.moved = true;
        }
        Ok(())
    }

    /// Until everything that was sent has arrived.
    fn wait(&mut self, patience: &mut Patience) -> Result<(), Stop> {
        let [mut pause, longest] = PAUSES;
        loop {
            self.look(patience)?;
            if *self.arrived == *self.ahead {
                return Ok(());
            }
            sleep(pause.min(patience.left()?));
            pause = longest.min(pause * 2);
        }
    }
}

impl Output for Sender {
    fn deliver(&mut self, parcel: &mut Parcel, deadline: Option<Instant>) -> Result<(), Failure> {
        let fresh = self.wire.is_none();
        let result = self.send(parcel, deadline);
        self.settle(parcel);
        let still =
            |why: String| Failure::Later { why: Error::msg(why), after: Some(Duration::ZERO) };
        match result {
            Ok(None) | Err(Stop::Enough) => Ok(()),
            Ok(Some(length)) => {
                self.refuse(parcel, length);
                Ok(())
            }
            Err(Stop::Still) => {
                Err(still(format!("its reader has read nothing for {} s", STALL.as_secs())))
            }
            Err(Stop::End) => Err(still("its reader has not read everything in time".to_owned())),
            Err(Stop::Lost(why)) => {
                (self.wire, self.ahead, self.arrived) = (None, 0, 0);
                // A reader that was started anew is no failure: it is connected to at once.
                if fresh { Err(Failure::later(why)) } else { Ok(()) }
            }
        }
    }

    fn reopen(&mut self) {
        if self.ahead == 0 {
            self.wire = None;
        }
    }
}
