//! Parcels into a socket.

use super::SocketConfig;
use super::connection::Connection;
use super::pack::{LinePacker, PackedLines};
use crate::output::patience::{Over, Patience};
use crate::output::{Cause, Failure, Output, Parcel, Portion};
use anyhow::Error;
use rustix::io::Errno;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Bytes of one call of `send` on a stream. A Unix socket takes so much whole or not at all: it is one
/// packet (`unix_stream_sendmsg` makes one of up to 48 KiB). So its reader sees no part of a line, not
/// even when the collector is killed, unless a line is longer.
const STREAM_BYTES: usize = 32 << 10;
/// Readers take lines up to this length (Telegraf's by default) and close the connection at a longer one.
const SURE_BYTES: usize = 64 << 10;
/// A longer line at which so many connections in a row were lost is the reason for it.
const STRIKES: u32 = 3;
/// The kernel does not say when all is read: it is asked again after a pause, each twice as long.
const PAUSES: [Duration; 2] = [Duration::from_micros(20), Duration::from_millis(50)];

/// A socket that takes parcels.
pub struct Sender {
    config: SocketConfig,
    connection: Option<Connection>,
    /// Connections that were made.
    turn: usize,
    /// Bytes of one call of `send`.
    most: usize,
    /// Bytes from the front of the parcel that were sent on this connection.
    ahead: usize,
    /// Of those, what the other end surely has.
    arrived: usize,
    buffer: Vec<u8>,
    /// Connections that were lost in a row at the same long line.
    strikes: u32,
    /// Whether a line was refused.
    refused: bool,
}

/// Why not everything has arrived.
enum Stop {
    /// The connection is lost, or there is none.
    Lost(Error),
    /// The time is over.
    Over(Over),
}

impl From<Over> for Stop {
    fn from(over: Over) -> Self {
        Self::Over(over)
    }
}

impl From<Errno> for Stop {
    fn from(error: Errno) -> Self {
        Self::Lost(error.into())
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
            connection: None,
            turn: 0,
            most,
            ahead: 0,
            arrived: 0,
            buffer: Vec::new(),
            strikes: 0,
            refused: false,
        }
    }

    /// Sends what is left of a parcel and waits until it has arrived. `Some` when a line in the way is
    /// longer than a datagram: its length.
    fn send(&mut self, parcel: &Parcel, deadline: Option<Instant>) -> Result<Option<usize>, Stop> {
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => {
                self.turn += 1;
                Connection::open(&self.config, self.turn - 1, deadline).map_err(Stop::Lost)?
            }
        };
        let connection = self.connection.insert(connection);
        let mut progress =
            Progress { connection, ahead: &mut self.ahead, arrived: &mut self.arrived };
        let mut patience = Patience::new(deadline);
        let mut packer = LinePacker::new(parcel.front(u64::MAX), *progress.ahead);
        let refused = loop {
            match packer.next(self.most, &mut self.buffer) {
                PackedLines::End => break None,
                PackedLines::TooLong(length) if !progress.connection.is_stream() => {
                    break Some(length);
                }
                PackedLines::Lines | PackedLines::TooLong(_) => {}
            }
            match progress.send(&self.buffer, &mut patience) {
                Err(Stop::Lost(error)) if error.downcast_ref() == Some(&Errno::MSGSIZE) => {
                    // The kernel takes less than was configured.
                    self.most = self.buffer.len() - 1;
                    packer = LinePacker::new(parcel.front(u64::MAX), *progress.ahead);
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

    /// The connection is lost: what has not arrived is sent again on the next one, but for a line that
    /// no connection outlives.
    fn disconnect(&mut self, parcel: &mut Parcel) {
        let stream = self.connection.take().is_some_and(|connection| connection.is_stream());
        let sent = std::mem::take(&mut self.ahead) > 0;
        self.arrived = 0;
        let line = memchr::memchr(b'\n', parcel.first()).map_or(0, |newline| newline + 1);
        if !stream || !sent || line <= SURE_BYTES {
            self.strikes = 0;
            return;
        }
        self.strikes += 1;
        if self.strikes == STRIKES {
            self.strikes = 0;
            self.refuse(parcel, line, "longer than the reader takes");
        }
    }

    fn refuse(&mut self, parcel: &mut Parcel, length: usize, why: &str) {
        parcel.give_up(1, Cause::TooLong);
        if !std::mem::replace(&mut self.refused, true) {
            let name = &self.config;
            log::warn!("output {name}: a line of {length} bytes is {why}: refused (said once)");
        }
    }
}

/// A connection at work on a parcel.
struct Progress<'a> {
    connection: &'a Connection,
    ahead: &'a mut usize,
    arrived: &'a mut usize,
}

impl Progress<'_> {
    fn send(&mut self, bytes: &[u8], patience: &mut Patience) -> Result<(), Stop> {
        let mut rest = bytes;
        while !rest.is_empty() {
            match self.connection.send(rest) {
                Ok(sent) => {
                    patience.moved = true;
                    *self.ahead += sent;
                    rest = &rest[sent..];
                }
                Err(Errno::AGAIN) => {
                    self.connection.wait(patience.left()?)?;
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
        if self.connection.is_stream() { self.look(patience) } else { Ok(()) }
    }

    /// Asks what has arrived.
    fn look(&mut self, patience: &mut Patience) -> Result<(), Stop> {
        let unread = self.connection.unread().map_err(Stop::Lost)?;
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
    fn portion(&self) -> Portion {
        match self.config {
            SocketConfig::Unix(_) | SocketConfig::Tcp(_) => Portion::AT_ONCE,
            // The lines of one tick, which come batch by batch, share datagrams.
            SocketConfig::Unixgram { .. } | SocketConfig::Udp { .. } => {
                Portion { wait: Duration::from_millis(20), ..Portion::AT_ONCE }
            }
        }
    }

    fn deliver(&mut self, parcel: &mut Parcel, deadline: Option<Instant>) -> Result<(), Failure> {
        let fresh = self.connection.is_none();
        let result = self.send(parcel, deadline);
        self.settle(parcel);
        match result {
            Ok(None) => Ok(()),
            Ok(Some(length)) => {
                self.refuse(parcel, length, "longer than a datagram");
                Ok(())
            }
            Err(Stop::Over(over)) => over.answer(),
            Err(Stop::Lost(why)) => {
                self.disconnect(parcel);
                // A reader that was started anew is no failure: it is connected to at once.
                if fresh { Err(Failure::later(why)) } else { Ok(()) }
            }
        }
    }

    fn reopen(&mut self) {
        if self.ahead == 0 {
            self.connection = None;
        }
    }
}
