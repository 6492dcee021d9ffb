//! A network namespace of a test's own: its loopback interface alone, as slow as the test wants it.

use std::fs;
use std::io::{Error, Result};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::thread;
use std::time::Duration;

/// Does something on a thread in a network namespace of its own, with the loopback interface up. Threads and
/// processes that it starts are in there too. The namespace ends with the last of them and its sockets.
///
/// ```no_run
/// use plugin_testing::netns;
/// use std::time::Duration;
/// let outcome = netns::within(|| {
///     netns::slow(Duration::from_millis(10), 0.0).expect("a kernel with netem");
///     std::net::TcpListener::bind("[::1]:80").expect("nobody else is here")
/// });
/// ```
///
/// # Errors
/// This process may not make a namespace, or the kernel has none.
///
/// # Panics
/// `act` panicked.
pub fn within<T: Send>(act: impl FnOnce() -> T + Send) -> Result<T> {
    let inside = || {
        // SAFETY: this thread alone goes to another namespace.
        check(unsafe { libc::unshare(libc::CLONE_NEWNET) })?;
        up(c"lo")?;
        Ok(act())
    };
    let name = thread::current().name().unwrap_or("netns").to_owned();
    thread::scope(|scope| {
        let thread = thread::Builder::new().name(name).spawn_scoped(scope, inside)?;
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Sets a variable of this thread's namespace, such as `ipv4/tcp_syn_retries`.
///
/// # Panics
/// There is none, or it refuses the value.
pub fn sysctl(name: &str, value: &str) {
    // /proc/sys/net is that of who reads it, not of who mounted it.
    let path = format!("/proc/sys/net/{name}");
    fs::write(&path, value).unwrap_or_else(|error| panic!("{path}: {error}"));
}

/// Lets each packet of this thread's loopback interface wait, and loses a share of them, from 0 to 1. A round
/// trip waits twice.
///
/// # Errors
/// The kernel has no netem (CONFIG_NET_SCH_NETEM).
pub fn slow(delay: Duration, loss: f64) -> Result<()> {
    const TC_H_ROOT: u32 = u32::MAX;
    const TCA_KIND: u16 = 1;
    const TCA_OPTIONS: u16 = 2;
    const TICK_NS: u128 = 64;
    // struct tc_netem_qopt: latency, limit, loss, gap, duplicate, jitter.
    let latency = u32::try_from(delay.as_nanos() / TICK_NS).map_err(Error::other)?;
    let options = [latency, 10_000, (loss * f64::from(u32::MAX)) as u32, 0, 0, 0];
    // struct tcmsg: family, index, handle, parent, info.
    let mut message: Vec<u8> = Vec::new();
    for word in [0, index(c"lo")?, 0, TC_H_ROOT, 0] {
        message.extend(word.to_ne_bytes());
    }
    attribute(&mut message, TCA_KIND, b"netem\0");
    let options: Vec<u8> = options.iter().flat_map(|word| word.to_ne_bytes()).collect();
    attribute(&mut message, TCA_OPTIONS, &options);
    let flags = libc::NLM_F_CREATE | libc::NLM_F_REPLACE;
    request(libc::RTM_NEWQDISC, flags as u16, &message)
}

fn attribute(message: &mut Vec<u8>, kind: u16, value: &[u8]) {
    message.extend((4 + value.len() as u16).to_ne_bytes());
    message.extend(kind.to_ne_bytes());
    message.extend(value);
    message.resize(message.len().next_multiple_of(4), 0);
}

/// Asks the kernel for a change by rtnetlink, and waits for its answer.
fn request(kind: u16, flags: u16, body: &[u8]) -> Result<()> {
    const HEADER: usize = 16;
    let flags = flags | (libc::NLM_F_REQUEST | libc::NLM_F_ACK) as u16;
    let mut message = ((HEADER + body.len()) as u32).to_ne_bytes().to_vec();
    message.extend(kind.to_ne_bytes());
    message.extend(flags.to_ne_bytes());
    message.extend([0; 8]); // number and sender
    message.extend(body);
    let socket = socket(libc::AF_NETLINK, libc::SOCK_DGRAM, libc::NETLINK_ROUTE)?;
    let mut answer = [0; 4096];
    // SAFETY: the kernel reads and writes within the lengths that it is told.
    let received = unsafe {
        let fd = socket.as_raw_fd();
        let sent = libc::send(fd, message.as_ptr().cast(), message.len(), 0);
        if sent < 0 { sent } else { libc::recv(fd, answer.as_mut_ptr().cast(), answer.len(), 0) }
    };
    if received < (HEADER + 4) as isize {
        return Err(Error::last_os_error());
    }
    // struct nlmsgerr begins with the error, 0 or less.
    match i32::from_ne_bytes(answer[HEADER..][..4].try_into().expect("four bytes")) {
        0 => Ok(()),
        error => Err(Error::from_raw_os_error(-error)),
    }
}

fn index(interface: &std::ffi::CStr) -> Result<u32> {
    // SAFETY: a C string.
    let index = unsafe { libc::if_nametoindex(interface.as_ptr()) };
    if index == 0 { Err(Error::last_os_error()) } else { Ok(index) }
}

fn up(interface: &std::ffi::CStr) -> Result<()> {
    let socket = socket(libc::AF_INET, libc::SOCK_DGRAM, 0)?;
    // SAFETY: zeros are a request.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    let name = interface.to_bytes();
    request.ifr_name[..name.len()].iter_mut().zip(name).for_each(|(to, byte)| *to = *byte as _);
    request.ifr_ifru.ifru_flags = libc::IFF_UP as _;
    // SAFETY: the kernel reads the request, which lives until the call is over.
    check(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, &raw mut request) })
}

pub(crate) fn socket(family: i32, kind: i32, protocol: i32) -> Result<OwnedFd> {
    // SAFETY: numbers only.
    let fd = unsafe { libc::socket(family, kind | libc::SOCK_CLOEXEC, protocol) };
    check(fd)?;
    // SAFETY: the descriptor is new and ours alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

pub(crate) fn check(returned: i32) -> Result<()> {
    if returned < 0 { Err(Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};
    use std::time::Instant;

    #[test]
    fn a_namespace_has_ports_of_its_own_and_a_slow_interface() {
        let outcome = within(|| {
            let listener = TcpListener::bind("127.0.0.1:1").expect("nobody else is here");
            let second = within(|| TcpListener::bind("127.0.0.1:1").map(drop)).expect("another");
            second.expect("a third place for the same port");
            if let Err(error) = slow(Duration::from_millis(10), 0.0) {
                return println!("SKIPPED: this kernel has no netem: {error}");
            }
            let begin = Instant::now();
            TcpStream::connect(listener.local_addr().expect("its address")).expect("connected");
            let took = begin.elapsed();
            assert!(took >= Duration::from_millis(20), "{took:?}");
        });
        if let Err(error) = outcome {
            println!("SKIPPED: no network namespace: {error}");
        }
    }
}
