//! Connecting. Names are looked up anew each time, and every address is tried.

use crate::output::host::HostPort;
use anyhow::{Context, Error, Result, anyhow};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with, sockopt,
};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, Instant};

/// For one address to answer.
const CONNECT: Duration = Duration::from_secs(3);
/// A peer that acknowledges nothing for so long, or whose window stays shut, is given up, in
/// milliseconds. Without it the kernel goes on for a quarter of an hour (tcp_retries2).
const USER_TIMEOUT_MS: u32 = 60_000;
/// An idle connection is asked so often whether it lives; that keeps it alive in firewalls too.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// Connects to a Unix socket; never waits.
pub fn unix(path: &Path, kind: SocketType) -> Result<OwnedFd> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::UNIX, kind, flags, None)?;
    connect_unix(&socket, path)?;
    Ok(socket)
}

/// Whether a socket can have that path: with the zero at its end the kernel has room for 108 bytes.
pub fn check_path(path: &Path) -> Result<SocketAddrUnix> {
    match SocketAddrUnix::new(path) {
        Ok(address) if path.as_os_str().len() <= 107 => Ok(address),
        _ => Err(anyhow!("{} is too long for a socket: 107 bytes at most", path.display())),
    }
}

/// Connects a socket of Unix to a path.
pub fn connect_unix(socket: &OwnedFd, path: &Path) -> Result<()> {
    let address = check_path(path)?;
    connect(socket, &address).map_err(|error| match error {
        Errno::NOENT => anyhow!("nobody has made the socket yet: {error}"),
        Errno::CONNREFUSED => anyhow!("nobody listens on the socket: {error}"),
        Errno::AGAIN => anyhow!("too many wait to be accepted: {error}"),
        Errno::PROTOTYPE => anyhow!("the socket is of another type: {error}"),
        error => error.into(),
    })
}

/// Connects over TCP to the first address that answers.
pub fn tcp(address: &str, deadline: Option<Instant>) -> Result<OwnedFd> {
    first(&addresses(address)?, |address| {
        let left = deadline.map(|d| d.saturating_duration_since(Instant::now()));
        let patience = left.unwrap_or(CONNECT).clamp(Duration::from_millis(1), CONNECT);
        let stream = TcpStream::connect_timeout(address, patience)?;
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?; // what is sent is whole; nothing follows until it is acknowledged
        sockopt::set_tcp_user_timeout(&stream, USER_TIMEOUT_MS)?;
        sockopt::set_tcp_keepidle(&stream, KEEPALIVE)?;
        sockopt::set_tcp_keepintvl(&stream, KEEPALIVE / 3)?;
        sockopt::set_socket_keepalive(&stream, true)?;
        Ok(stream.into())
    })
}

/// Makes a UDP socket whose datagrams go to one address: the first that there is a way to. Nobody says
/// at this point whether somebody listens there, so `turn` chooses where to begin.
pub fn udp(address: &str, turn: usize) -> Result<OwnedFd> {
    let mut addresses = addresses(address)?;
    let count = addresses.len();
    addresses.rotate_left(turn % count);
    first(&addresses, |address| {
        let any = match address {
            SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
            SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
        };
        let socket = UdpSocket::bind(any)?;
        socket.connect(address)?;
        socket.set_nonblocking(true)?;
        Ok(socket.into())
    })
}

/// At least one address.
fn addresses(address: &str) -> Result<Vec<SocketAddr>> {
    let host = HostPort::parse(address).map_err(Error::msg)?;
    let port = host.port.context("it has no port")?;
    let found = host.look_up(port).with_context(|| format!("{address} cannot be looked up"))?;
    if found.is_empty() {
        return Err(anyhow!("{address} has no address"));
    }
    Ok(found)
}

/// The first success, or what went wrong with each address.
fn first(
    addresses: &[SocketAddr],
    mut connect: impl FnMut(&SocketAddr) -> Result<OwnedFd>,
) -> Result<OwnedFd> {
    let mut errors: Vec<Error> = Vec::new();
    for address in addresses {
        match connect(address) {
            Ok(socket) => return Ok(socket),
            Err(error) => errors.push(error.context(address.to_string())),
        }
    }
    let errors: Vec<String> = errors.iter().map(|error| format!("{error:#}")).collect();
    Err(anyhow!("no connection: {}", errors.join("; ")))
}
