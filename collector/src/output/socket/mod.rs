//! Lines into sockets: of streams, and of datagrams.

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
/// None now.
pub fn open(_config: &SocketConfig) -> Result<Box<dyn Output>> {
    anyhow::bail!("not yet")
}
