//! One connected socket, and what its kernel knows of the bytes that were sent.

use super::SocketConfig;
use super::connect;
use anyhow::{Error, Result, anyhow};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::{Errno, retry_on_intr};
use rustix::net::{SendFlags, SocketType, send, sockopt};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// A connected socket that never blocks.
pub struct Connection {
    socket: OwnedFd,
    kind: Kind,
}

enum Kind {
    Unix,
    Unixgram(PathBuf),
    Tcp,
    Udp,
}

impl Connection {
    /// Connects. `turn` counts the connections made before.
    pub fn open(config: &SocketConfig, turn: usize, deadline: Option<Instant>) -> Result<Self> {
        let (socket, kind) = match config {
            SocketConfig::Unix(path) => (connect::unix(path, SocketType::STREAM)?, Kind::Unix),
            SocketConfig::Unixgram { path, .. } => {
                (connect::unix(path, SocketType::DGRAM)?, Kind::Unixgram(path.clone()))
            }
            SocketConfig::Tcp(address) => (connect::tcp(address, deadline)?, Kind::Tcp),
            SocketConfig::Udp { address, .. } => (connect::udp(address, turn)?, Kind::Udp),
        };
        Ok(Self { socket, kind })
    }

    /// Sends as much as there is room for: a part of a stream, or a datagram. `AGAIN` when there is none.
    pub fn send(&self, bytes: &[u8]) -> Result<usize, Errno> {
        retry_on_intr(|| send(&self.socket, bytes, SendFlags::NOSIGNAL | SendFlags::DONTWAIT))
    }

    /// Waits until there is room, or the other end is gone, or the time is over.
    pub fn wait(&self, time: Duration) -> Result<(), Errno> {
        self.poll(PollFlags::OUT, time).map(|_| ())
    }

    fn poll(&self, events: PollFlags, time: Duration) -> Result<PollFlags, Errno> {
        let mut fds = [PollFd::new(&self.socket, events)];
        let time = rustix::time::Timespec::try_from(time).map_err(|_| Errno::INVAL)?;
        match poll(&mut fds, Some(&time)) {
            Ok(_) | Err(Errno::INTR) => Ok(fds[0].revents()),
            Err(error) => Err(error),
        }
    }

    /// How many of the bytes that were sent the other end may not have: never too few.
    ///
    /// - Unix: SIOCOUTQ is the memory of what the reader has not read, which is more than its bytes
    ///   (unix_outq_len in net/unix/af_unix.c). When a reader closes its end, the kernel throws the rest
    ///   away, and SIOCOUTQ falls to 0; but before that it sets ECONNRESET if there was a rest
    ///   (unix_release_sock), so the number is good when there is no error after it was read.
    ///   A datagram socket is not told. There, whoever can still be connected to has not died.
    /// - TCP: SIOCOUTQ is what is not acknowledged (tcp_ioctl), to the byte. The other kernel
    ///   acknowledges what it has, whether its process has read it or not.
    /// - UDP: nothing is known but that nobody listened, which is an error here.
    ///
    /// # Errors
    /// The other end is gone: what it had not read before is lost.
    pub fn unread(&self) -> Result<usize> {
        let unread = match self.kind {
            Kind::Udp => 0,
            _ => outq(&self.socket)?,
        };
        sockopt::socket_error(&self.socket)??;
        match &self.kind {
            Kind::Unixgram(path) => connect::connect_unix(&self.socket, path)?,
            Kind::Tcp
                if self.poll(PollFlags::empty(), Duration::ZERO)?.contains(PollFlags::HUP) =>
            {
                return Err(closed());
            }
            // A reader that leaves without an error had read everything.
            Kind::Unix | Kind::Tcp | Kind::Udp => {}
        }
        Ok(unread)
    }

    /// Whether bytes follow each other without bounds.
    pub fn is_stream(&self) -> bool {
        matches!(self.kind, Kind::Unix | Kind::Tcp)
    }
}

fn closed() -> Error {
    anyhow!("the other end has closed the connection")
}

/// SIOCOUTQ.
fn outq(socket: &OwnedFd) -> Result<usize> {
    // SAFETY: SIOCOUTQ (the same number as TIOCOUTQ) writes one int, for every kind of socket here.
    let bytes = unsafe {
        let outq = rustix::ioctl::Getter::<{ libc::TIOCOUTQ as _ }, libc::c_int>::new();
        rustix::ioctl::ioctl(socket, outq)?
    };
    Ok(usize::try_from(bytes).unwrap_or(0))
}
