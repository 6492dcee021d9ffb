//! Lines into sockets: of streams, and of datagrams.
//!
//! A line counts as delivered when the other end has it, as far as a kernel can say that ([`unread`]):
//! until then it is kept, and after a lost connection it is sent again on the next one, from the start
//! of a line. So nothing is lost that can be known, and a line may arrive twice: with the same tags and
//! the same time, which is the same point to a database.
//!
//! | Socket     | Delivered means                           | What can still be lost, unnoticed             |
//! |------------|-------------------------------------------|-----------------------------------------------|
//! | `unix`     | the reader has read it                    | nothing before the reader's own memory        |
//! | `unixgram` | the same                                  | a reader that dies and is back within 10 ms   |
//! | `tcp`      | the other kernel has acknowledged it      | what its process had not read when it died    |
//! | `udp`      | it was sent, and nobody refused it so far | every datagram; see [`crate::output::socket`] |
//!
//! UDP promises nothing: a full queue on the way or at the reader drops datagrams in silence. What is
//! noticed is that nobody listens: over loopback at once, over a network with some delay, so that the
//! datagrams of one round trip are lost.
//!
//! [`unread`]: wire::Wire::unread

mod connect;
mod pack;
mod sender;
mod wire;

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
/// None: whatever goes wrong is tried again.
pub fn open(config: &SocketConfig) -> Result<Box<dyn Output>> {
    Ok(Box::new(sender::Sender::new(config.clone())))
}

#[cfg(test)]
mod tests;
