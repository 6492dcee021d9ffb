//! Lines into sockets: of streams, and of datagrams.
//!
//! A line counts as delivered when the other end has it, as far as a kernel can say that
//! (`connection::Connection::unread`). Until then it waits here, at the collector's end too, and after a lost
//! connection it is sent again on the next one, from the start of a line. So nothing is lost that
//! can be known; and what the other end had read while we could not know it comes twice: with the same
//! tags and the same time, which is the same point to a database.
//!
//! | Socket     | Delivered means                          | What is lost then, and nobody knows          |
//! |------------|------------------------------------------|----------------------------------------------|
//! | `unix`     | its reader has read it                   | what the reader had not yet made use of      |
//! | `unixgram` | the same                                 | the same; and a queue of a reader that died  |
//! |            |                                          | and was back before we looked (within 50 ms) |
//! | `tcp`      | the other machine has acknowledged it    | what the process there had not read          |
//! | `udp`      | it was sent, and nobody has refused it   | any datagram                                 |
//!
//! UDP promises nothing: a full queue on the way or at the reader drops datagrams in silence. What does
//! come back is that nobody listens at a port: over loopback at once, and then the parcel at hand is sent
//! again; over a network a round trip later, when that parcel may be done.
//!
//! A reader never sees part of a line, except at the end of a connection that is lost: a line longer
//! than 32 KiB on a Unix socket, or any line over TCP, whose kernel takes what it has room for.

pub(super) mod connect;
mod connection;
mod pack;
mod sender;

pub(crate) use connect::check_path;

use super::Output;
use anyhow::Result;
use std::fmt;
use std::path::PathBuf;

/// A socket as it is configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SocketConfig {
    /// A Unix stream.
    Unix(PathBuf),
    /// A Unix datagram socket.
    Unixgram {
        /// Its path.
        path: PathBuf,
        /// Bytes of a datagram at most.
        datagram_bytes: usize,
    },
    /// `HOST:PORT`
    Tcp(String),
    /// Datagrams over the network.
    Udp {
        /// `HOST:PORT`
        address: String,
        /// Bytes of a datagram at most.
        datagram_bytes: usize,
    },
}

/// Bytes of a Unix datagram when nothing else is said: what Telegraf reads at once.
pub const UNIXGRAM_BYTES: usize = 65_536;
/// Bytes of a UDP datagram when nothing else is said: what an Ethernet frame carries over IPv6.
pub const UDP_BYTES: usize = 1432;

impl fmt::Display for SocketConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Unixgram { path, .. } => write!(f, "unixgram:{}", path.display()),
            Self::Tcp(address) => write!(f, "tcp://{address}"),
            Self::Udp { address, .. } => write!(f, "udp://{address}"),
        }
    }
}

/// Opens it; the other end need not be there yet.
///
/// # Errors
/// A path that no socket can have.
pub fn open(config: &SocketConfig) -> Result<Box<dyn Output>> {
    if let SocketConfig::Unix(path) | SocketConfig::Unixgram { path, .. } = config {
        check_path(path)?;
    }
    Ok(Box::new(sender::Sender::new(config.clone())))
}

#[cfg(test)]
mod tests;
