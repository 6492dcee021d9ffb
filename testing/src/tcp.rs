//! Connections over the loopback interface, made one way or the other, and how long they took.

use std::io::{Error, Result};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd as _, OwnedFd};
use std::time::{Duration, Instant};

/// A listener on a free port that drops every SYN, because as many connections wait as it has room for: one, whose
/// other end is here too.
#[derive(Debug)]
pub struct Full {
    listener: TcpListener,
    _waiting: TcpStream,
}

impl Full {
    /// On an address such as `127.0.0.1:0`.
    ///
    /// # Panics
    /// The address is taken, or the interface is down.
    #[must_use]
    pub fn bind(address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).expect("a free address");
        // SAFETY: the descriptor is a listener's, whose room this changes.
        let listening = unsafe { libc::listen(listener.as_raw_fd(), 0) };
        assert_eq!(listening, 0, "{}", Error::last_os_error());
        let waiting = TcpStream::connect(listener.local_addr().expect("bound"));
        // Its room is taken with the third packet, of which the client does not wait for the effect.
        wait(listener.as_raw_fd(), libc::POLLIN);
        Self { listener, _waiting: waiting.expect("the one that there is room for") }
    }

    /// Where to connect.
    ///
    /// # Panics
    /// Never: it is bound.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.listener.local_addr().expect("bound")
    }

    /// Makes room for others, whose next SYN is answered.
    #[must_use]
    pub fn empty(&self) -> TcpStream {
        // SAFETY: as above.
        unsafe { libc::listen(self.listener.as_raw_fd(), 1024) };
        self.listener.accept().expect("the one that waits").0
    }
}

/// A port of this thread's namespace that nobody listens on.
///
/// # Panics
/// No port is free.
#[must_use]
pub fn closed_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    listener.local_addr().expect("bound").port()
}

/// A connect that is under way: a socket that does not block.
#[derive(Debug)]
pub struct Connecting {
    socket: OwnedFd,
    begin: Instant,
}

impl Connecting {
    /// Calls connect(), and does not wait. `patience`: how long until the kernel gives up, a second at least.
    ///
    /// # Errors
    /// connect() itself failed.
    ///
    /// # Panics
    /// The kernel has no TCP.
    pub fn begin(to: SocketAddr, patience: Option<Duration>) -> Result<Self> {
        let family = if to.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
        let kind = libc::SOCK_STREAM | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
        // SAFETY: numbers only; then the descriptor is ours alone.
        let socket = unsafe {
            let fd = libc::socket(family, kind, 0);
            assert!(fd >= 0, "{}", Error::last_os_error());
            OwnedFd::from_raw_fd(fd)
        };
        if let Some(patience) = patience {
            let ms = patience.as_millis() as libc::c_uint;
            // SAFETY: the kernel reads a number of ours.
            let set = unsafe {
                let (fd, option) = (socket.as_raw_fd(), libc::TCP_USER_TIMEOUT);
                libc::setsockopt(fd, libc::IPPROTO_TCP, option, (&raw const ms).cast(), 4)
            };
            assert_eq!(set, 0, "{}", Error::last_os_error());
        }
        let begin = Instant::now();
        match connect(&socket, to) {
            Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => Err(error),
            _ => Ok(Self { socket, begin }),
        }
    }

    /// Waits for its end: how long it took, and the error. Leaves the error with the socket.
    ///
    /// # Panics
    /// It has not ended after a minute.
    pub fn end(self) -> (Duration, Result<TcpStream>) {
        wait(self.socket.as_raw_fd(), libc::POLLOUT);
        let took = self.begin.elapsed();
        let stream = TcpStream::from(self.socket);
        match stream.take_error().expect("a socket") {
            Some(error) => (took, Err(error)),
            None => (took, Ok(stream)),
        }
    }

    /// Breaks it off by connecting to nothing, and gives the socket for another try.
    ///
    /// # Panics
    /// The kernel refuses.
    pub fn disconnect(self) -> OwnedFd {
        disconnect(&self.socket);
        self.socket
    }
}

fn disconnect(socket: &impl AsRawFd) {
    // SAFETY: zeros are an address of the family AF_UNSPEC.
    let done = unsafe {
        let nothing: libc::sockaddr = std::mem::zeroed();
        libc::connect(socket.as_raw_fd(), &raw const nothing, 16)
    };
    assert_eq!(done, 0, "{}", Error::last_os_error());
}

/// Waits for an event of a socket.
fn wait(fd: i32, events: i16) {
    let mut poll = libc::pollfd { fd, events, revents: 0 };
    // SAFETY: one entry of ours.
    let ready = unsafe { libc::poll(&raw mut poll, 1, 60_000) };
    assert_eq!(ready, 1, "nothing for a minute: {}", Error::last_os_error());
}

/// connect(), of any kind of socket.
///
/// # Errors
/// As connect(2) has it.
pub fn connect(socket: &OwnedFd, to: SocketAddr) -> Result<()> {
    let (mut v4, mut v6): (libc::sockaddr_in, libc::sockaddr_in6);
    // SAFETY: zeros are addresses; the kernel reads as many bytes as each has.
    let done = unsafe {
        (v4, v6) = (std::mem::zeroed(), std::mem::zeroed());
        let (address, len): (*const libc::sockaddr, _) = match to {
            SocketAddr::V4(to) => {
                v4.sin_family = libc::AF_INET as _;
                v4.sin_port = to.port().to_be();
                v4.sin_addr.s_addr = u32::from_ne_bytes(to.ip().octets());
                ((&raw const v4).cast(), size_of_val(&v4))
            }
            SocketAddr::V6(to) => {
                v6.sin6_family = libc::AF_INET6 as _;
                v6.sin6_port = to.port().to_be();
                v6.sin6_addr.s6_addr = to.ip().octets();
                ((&raw const v6).cast(), size_of_val(&v6))
            }
        };
        libc::connect(socket.as_raw_fd(), address, len as libc::socklen_t)
    };
    if done < 0 { Err(Error::last_os_error()) } else { Ok(()) }
}

/// Ends a connection with an RST, so that nothing of it stays behind: at once, also where a process that is about to
/// execute a program still has a copy of the descriptor.
///
/// # Panics
/// The kernel refuses.
pub fn reset(stream: TcpStream) {
    disconnect(&stream);
}
