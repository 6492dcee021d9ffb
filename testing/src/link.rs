//! A link that takes a known time, for kernels without netem: Debian's have it as a module, which no test machine has.

use crate::netns::{check, socket};
use std::io::Result;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Hosts of this network namespace.
const NEAR: [u8; 3] = [198, 18, 1];
/// The same, as they are reached through the link. Nobody has these addresses.
const FAR: [u8; 3] = [198, 18, 2];

/// A host of this network namespace, to listen at.
#[must_use]
pub fn near(host: u8) -> Ipv4Addr {
    Ipv4Addr::new(NEAR[0], NEAR[1], NEAR[2], host)
}

/// The same host, at the other end of the link.
#[must_use]
pub fn far(host: u8) -> Ipv4Addr {
    Ipv4Addr::new(FAR[0], FAR[1], FAR[2], host)
}

/// A link by which the hosts of this thread's network namespace ([`crate::netns::within`]) reach each other, for TCP
/// by IPv4. Whoever connects to `far(2)` speaks to who listens at `near(2)`, and each packet takes its time.
///
/// What is sent to a far address is taken from the loopback interface, waits, and is sent anew from a far address to
/// a near one.
pub struct Link {
    is_over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Link {
    /// One that takes so long in each direction.
    ///
    /// # Errors
    /// The kernel has no packet sockets, or this process may not open them.
    pub fn new(delay: Duration) -> Result<Self> {
        addresses()?;
        let taken =
            socket(libc::AF_PACKET, libc::SOCK_DGRAM, i32::from((libc::ETH_P_IP as u16).to_be()))?;
        let sent = socket(libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_RAW)?;
        let timeout = libc::timeval { tv_sec: 0, tv_usec: 50_000 };
        // SAFETY: the kernel reads the struct, which has the size that it is told.
        check(unsafe {
            let (value, size) = ((&raw const timeout).cast(), size_of_val(&timeout) as u32);
            libc::setsockopt(taken.as_raw_fd(), libc::SOL_SOCKET, libc::SO_RCVTIMEO, value, size)
        })?;
        let is_over = Arc::new(AtomicBool::new(false));
        let (sender, receiver) = channel();
        let over = Arc::clone(&is_over);
        let threads = vec![
            thread::spawn(move || take(&taken, &over, &sender)),
            thread::spawn(move || send(&sent, delay, &receiver)),
        ];
        Ok(Self { is_over, threads })
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        self.threads.drain(..).for_each(|thread| _ = thread.join());
    }
}

fn take(socket: &OwnedFd, is_over: &AtomicBool, sender: &Sender<(Instant, Vec<u8>)>) {
    let mut packet = vec![0; 65_536];
    while !is_over.load(Ordering::Relaxed) {
        // SAFETY: the kernel writes within the length that it is told.
        let len =
            unsafe { libc::recv(socket.as_raw_fd(), packet.as_mut_ptr().cast(), packet.len(), 0) };
        let now = Instant::now();
        if let Some(packet) = usize::try_from(len).ok().and_then(|len| through(&packet[..len])) {
            let _ = sender.send((now, packet));
        }
    }
}

fn send(socket: &OwnedFd, delay: Duration, packets: &Receiver<(Instant, Vec<u8>)>) {
    for (since, packet) in packets {
        thread::sleep((since + delay).saturating_duration_since(Instant::now()));
        // SAFETY: zeros are an address; the kernel reads it and the packet within the lengths that it is told.
        unsafe {
            let mut to: libc::sockaddr_in = std::mem::zeroed();
            to.sin_family = libc::AF_INET as _;
            to.sin_addr.s_addr = u32::from_ne_bytes(packet[16..20].try_into().expect("four bytes"));
            let (at, size) = ((&raw const to).cast(), size_of_val(&to) as u32);
            // A packet that is refused is lost, as on other links.
            libc::sendto(socket.as_raw_fd(), packet.as_ptr().cast(), packet.len(), 0, at, size);
        }
    }
}

/// A packet as it comes out at the other end; `None` when it is not for the link.
fn through(packet: &[u8]) -> Option<Vec<u8>> {
    let mut packet = packet.to_vec();
    let header = usize::from(packet.first()? & 15) * 4;
    if packet.len() < header + 20 || packet[9] != libc::IPPROTO_TCP as u8 || packet[16..19] != FAR {
        return None;
    }
    packet[12..15].copy_from_slice(&FAR);
    packet[16..19].copy_from_slice(&NEAR);
    // The sum of the loopback interface's packets is left to a device, which there is none of.
    packet[header + 16..header + 18].fill(0);
    let length = (packet.len() - header) as u32;
    let pseudo = sum(&packet[12..20]) + libc::IPPROTO_TCP as u32 + length;
    let mut sum = pseudo + sum(&packet[header..]);
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    packet[header + 16..header + 18].copy_from_slice(&(!(sum as u16)).to_be_bytes());
    Some(packet)
}

fn sum(bytes: &[u8]) -> u32 {
    let words = bytes.chunks(2);
    words.map(|word| u32::from(word[0]) << 8 | u32::from(word.get(1).copied().unwrap_or(0))).sum()
}

/// `struct rtentry`, which the C library's declarations here lack.
#[repr(C)]
struct Route {
    unused: libc::c_ulong,
    to: libc::sockaddr,
    gateway: libc::sockaddr,
    mask: libc::sockaddr,
    flags: libc::c_ushort,
    more_unused: [libc::c_ulong; 2],
    metric: libc::c_short,
    interface: *const libc::c_char,
    mtu: libc::c_ulong,
    window: libc::c_ulong,
    timeout: libc::c_ushort,
}

/// The near hosts are this namespace's, and the loopback interface has a route to the far ones.
fn addresses() -> Result<()> {
    let socket = socket(libc::AF_INET, libc::SOCK_DGRAM, 0)?;
    let address = |host: [u8; 4]| {
        // SAFETY: zeros are an address, and all kinds of them have one size.
        let mut address: libc::sockaddr_in = unsafe { std::mem::zeroed() };
        address.sin_family = libc::AF_INET as _;
        address.sin_addr.s_addr = u32::from_ne_bytes(host);
        // SAFETY: as above.
        unsafe { std::mem::transmute::<libc::sockaddr_in, libc::sockaddr>(address) }
    };
    let name = c"lo:1".to_bytes_with_nul();
    // SAFETY: zeros are a request and a route; the kernel reads them, and the name, which outlives the call.
    unsafe {
        let mut request: libc::ifreq = std::mem::zeroed();
        request.ifr_name.iter_mut().zip(name).for_each(|(to, byte)| *to = *byte as _);
        request.ifr_ifru.ifru_addr = address(near(1).octets());
        check(libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFADDR as _, &raw mut request))?;
        let mut route: Route = std::mem::zeroed();
        route.to = address(far(0).octets());
        route.mask = address([255, 255, 255, 0]);
        route.flags = libc::RTF_UP;
        route.interface = c"lo".as_ptr();
        check(libc::ioctl(socket.as_raw_fd(), libc::SIOCADDRT as _, &raw mut route))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netns::within;
    use std::io::{Read as _, Write as _};
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn a_round_trip_takes_twice_the_delay() {
        let outcome = within(|| {
            let _link = Link::new(Duration::from_millis(10)).expect("packet sockets");
            let listener = TcpListener::bind((near(2), 80)).expect("a host of ours");
            let begin = Instant::now();
            let mut client = TcpStream::connect((far(2), 80)).expect("connected");
            let connected = begin.elapsed();
            let (mut server, peer) = listener.accept().expect("accepted");
            assert_eq!(peer.ip(), far(1));
            let begin = Instant::now();
            let data: Vec<u8> = (0..100_000_u32).map(|i| i as u8).collect();
            let mut echo = vec![0; data.len()];
            thread::scope(|scope| {
                scope.spawn(|| client.write_all(&data));
                server.read_exact(&mut echo).expect("all of it");
            });
            let sent = begin.elapsed();
            assert_eq!(echo, data);
            for (took, least) in [(connected, 20), (sent, 10)] {
                assert!(took >= Duration::from_millis(least), "{took:?}");
                assert!(took < Duration::from_millis(least + 500), "{took:?}");
            }
        });
        if let Err(error) = outcome {
            println!("SKIPPED: no network namespace: {error}");
        }
    }
}
