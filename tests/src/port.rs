//! Ports of the loopback that stay ours while nobody listens on them.

use rustix::net::{
    AddressFamily, SocketFlags, SocketType, bind, getsockname, socket_with, sockopt,
};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::OwnedFd;

/// A TCP port: held by a socket that is bound and does not listen. So connecting is refused while the
/// server is down, and neither another program nor a client's own end of a connection can take the port
/// meanwhile. Whoever listens on it needs SO_REUSEADDR, which Rust's and Go's listeners set.
#[derive(Debug)]
pub struct Port {
    address: SocketAddr,
    _held: OwnedFd,
}

impl Port {
    /// Any free one.
    ///
    /// # Panics
    /// There is none.
    #[must_use]
    pub fn reserve() -> Self {
        let any = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
        let held = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None)
            .expect("a socket");
        sockopt::set_socket_reuseaddr(&held, true).expect("SO_REUSEADDR");
        bind(&held, &any).expect("a free port");
        let address = getsockname(&held).ok().and_then(|name| name.try_into().ok());
        Self { address: address.expect("an address of the internet"), _held: held }
    }

    /// `127.0.0.1:PORT`.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// Whether connecting is refused.
#[must_use]
pub fn is_closed(address: SocketAddr) -> bool {
    TcpStream::connect(address).is_err()
}
