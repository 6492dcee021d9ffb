//! Connects of threads that only this test has, in a network namespace of its own.

use plugin_bpf::{Running, only_kind};
use plugin_testing::process::{Child, rename};
use plugin_testing::tcp::{Connecting, Full, closed_port};
use plugin_testing::{Harness, Line, Moved, map_bytes, missed, netns, ways};
use std::collections::BTreeMap;
use std::ffi::CStr;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::thread;
use std::time::{Duration, Instant};
use tcpconnlat::Tcpconnlat;

type Tool = Harness<Running<Tcpconnlat>>;

const FAMILIES: [(&str, &str); 2] = [("ipv4", "127.0.0.1"), ("ipv6", "[::1]")];

/// A tool that looks at threads of one name.
fn watching(comm: &str, options: &str) -> Tool {
    let mut tool = Tool::init(&format!(r#"{{"comm":["{comm}"]{options}}}"#)).expect("it attaches");
    tool.call().expect("a tick");
    tool
}

/// Does something on a thread of a name, in a namespace of its own; prints why where that cannot be had.
fn alone<T: Send>(comm: &CStr, act: impl FnOnce() -> T + Send) -> Option<T> {
    let act = || {
        rename(comm);
        act()
    };
    let outcome = netns::within(act);
    outcome.inspect_err(|error| println!("SKIPPED: no network namespace: {error}")).ok()
}

fn address(ip: &str, port: u16) -> SocketAddr {
    format!("{ip}:{port}").parse().expect("an address")
}

fn listen(ip: &str) -> TcpListener {
    TcpListener::bind(address(ip, 0)).expect("a free port")
}

fn of<'a>(lines: &'a [Line], table: &str) -> Vec<&'a Line> {
    lines.iter().filter(|l| l.table == table).collect()
}

/// Connects by family and result.
fn results(lines: &[Line]) -> BTreeMap<(String, String), u64> {
    let connected = of(lines, "tcpconnlat").into_iter().map(|l| (l, "connected"));
    let failed = of(lines, "tcpconnlat_failed").into_iter().map(|l| (l, l.tag("result")));
    let all = connected.chain(failed);
    let all = all.map(|(l, result)| ((l.tag("family").into(), result.into()), l.u64("count")));
    all.filter(|(_, n)| *n > 0).collect()
}

/// Those of one family.
fn some(results: &[(&str, u64)], family: &str) -> BTreeMap<(String, String), u64> {
    results.iter().map(|(result, n)| ((family.into(), (*result).into()), *n)).collect()
}

fn lost(lines: &[Line], field: &str) -> u64 {
    of(lines, "tcpconnlat_lost")[0].u64(field)
}

const PATIENCE: Option<Duration> = Some(Duration::from_secs(1));

/// For each family: 500 connects that succeed, 500 that are refused, 50 that time out, 50 that are broken off.
fn each_fate() {
    let mut waiting = Vec::new();
    let full = FAMILIES.map(|(_, ip)| Full::bind(address(ip, 0)));
    for full in &full {
        let begin = |patience| Connecting::begin(full.address(), patience).expect("under way");
        waiting.extend((0..50).map(|_| begin(PATIENCE)));
        (0..50).for_each(|_| drop(begin(None)));
    }
    for (_, ip) in FAMILIES {
        let (listener, closed) = (listen(ip), address(ip, closed_port()));
        let open = listener.local_addr().expect("bound");
        for i in 0..500 {
            // Blocking and not; the address in memory of each socket is free again before the next connect.
            if i % 2 == 0 {
                TcpStream::connect(open).expect("connected");
                let error = TcpStream::connect(closed).expect_err("refused");
                assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
            } else {
                Connecting::begin(open, None).expect("under way").end().1.expect("connected");
                let refused = Connecting::begin(closed, None).expect("under way").end().1;
                assert_eq!(refused.expect_err("refused").kind(), ErrorKind::ConnectionRefused);
            }
            listener.accept().expect("the one that connected");
        }
    }
    for connecting in waiting {
        let error = connecting.end().1.expect_err("too late");
        assert_eq!(error.kind(), ErrorKind::TimedOut);
    }
}

#[test]
fn each_way_counts_each_connect_by_its_result() {
    let kinds = &["btf", "raw", "tp"];
    for (kind, mut tool) in ways::<Running<Tcpconnlat>>(only_kind, kinds, r#"{"comm":["fates"]}"#) {
        tool.call().expect("a tick");
        if alone(c"fates", each_fate).is_none() {
            return;
        }
        let lines = tool.call().expect("a tick");
        let (broken, missed) =
            (if kind == "tp" { &["unknown"][..] } else { &["aborted"] }, missed(&lines));
        for (family, _) in FAMILIES {
            // The one that fills the queue succeeds too.
            let mut expected = some(&[("connected", 501), ("refused", 500)], family);
            match kind {
                "tp" => expected.extend(some(&[("unknown", 100)], family)),
                _ => expected.extend(some(&[("timed_out", 50), (broken[0], 50)], family)),
            }
            let mut found = results(&lines);
            found.retain(|(of, _), _| of == family);
            if missed == 0 {
                assert_eq!(found, expected);
            }
            let (found, expected): (u64, u64) = (found.values().sum(), expected.values().sum());
            assert!(found <= expected && found + missed >= expected, "{found} of {expected}");
        }
        for field in ["unmatched", "unended", "dropped", "dropped_cells"] {
            assert!(lost(&lines, field) <= missed, "{field}: {lines:?}");
        }
        // Nothing stays behind: what follows has nothing to be mistaken for.
        let lines = tool.call().expect("a tick");
        assert_eq!(results(&lines), BTreeMap::new());
    }
}

/// Whether durations are those that the client measured.
fn compare(line: &Line, mut took: Vec<Duration>) -> bool {
    took.sort_unstable();
    let us = |took: Duration| took.as_micros() as f64;
    let (mean, half) = (us(took.iter().sum()) / took.len() as f64, us(took[took.len() / 2]));
    let said = (line.u64("sum_us") as f64 / line.u64("count") as f64, line.u64("p50_us") as f64);
    println!("mean {:.0} us of {mean:.0}, half {:.0} of {half:.0}", said.0, said.1);
    // Of the slots of a histogram, an eighth wide, the upper end.
    (said.0 / mean - 1.0).abs() < 0.1 && (0.9..1.125 * 1.1).contains(&(said.1 / half))
}

#[test]
fn durations_are_those_that_the_client_measures() {
    let mut tool = watching("durations", "");
    let act = || {
        // A SYN that is dropped comes again after a second.
        let full = Full::bind(address("127.0.0.1", 0));
        let begin = |_| Connecting::begin(full.address(), None).expect("under way");
        let dropped: Vec<_> = (0..20).map(begin).collect();
        thread::sleep(Duration::from_millis(200));
        let _first = full.empty();
        let dropped = dropped.into_iter().map(|connecting| {
            let (took, connected) = connecting.end();
            connected.expect("connected");
            took
        });
        let dropped: Vec<_> = dropped.collect();
        let slow = netns::slow(Duration::from_millis(10), 0.0).map(|()| {
            let listener = listen("[::1]");
            let connect = |_| {
                let begin = Instant::now();
                TcpStream::connect(listener.local_addr().expect("bound")).expect("connected");
                begin.elapsed()
            };
            (0..20).map(connect).collect::<Vec<_>>()
        });
        (dropped, slow)
    };
    // A client that stands still between the kernel's time and its own has measured something else.
    assert!((0..3).any(|_| durations_are_right(&mut tool, alone(c"durations", act))));
}

/// What a client measured of dropped and of slow connects, beside the lines.
type Measured = (Vec<Duration>, std::io::Result<Vec<Duration>>);

fn durations_are_right(tool: &mut Tool, measured: Option<Measured>) -> bool {
    let Some((dropped, slow)) = measured else { return true };
    let lines = tool.call().expect("a tick");
    let families = of(&lines, "tcpconnlat");
    assert_eq!((families[0].u64("count"), families[0].u64("slow")), (21, 20));
    let mut all = dropped;
    all.push(Duration::from_micros(50));
    let right = compare(families[0], all);
    match slow {
        Ok(slow) => {
            assert_eq!((families[1].u64("count"), families[1].u64("slow")), (20, 0));
            assert!(slow.iter().all(|took| *took >= Duration::from_millis(20)), "{slow:?}");
            right && compare(families[1], slow)
        }
        Err(error) => {
            println!("SKIPPED: a link of 20 ms: no netem: {error}");
            right
        }
    }
}

/// A socket of this thread that connects to its own port, as two ends that send each other a SYN do.
fn connect_to_itself() {
    let bound = listen("127.0.0.1");
    let port = bound.local_addr().expect("bound");
    drop(bound);
    // SAFETY: numbers only; the descriptor is ours alone; the kernel reads an address of ours.
    let socket = unsafe {
        let socket = OwnedFd::from_raw_fd(libc::socket(libc::AF_INET, libc::SOCK_STREAM, 0));
        let mut own: libc::sockaddr_in = std::mem::zeroed();
        (own.sin_family, own.sin_port) = (libc::AF_INET as _, port.port().to_be());
        own.sin_addr.s_addr = u32::from_ne_bytes([127, 0, 0, 1]);
        let len = size_of_val(&own) as libc::socklen_t;
        assert_eq!(libc::bind(socket.as_raw_fd(), (&raw const own).cast(), len), 0);
        socket
    };
    plugin_testing::tcp::connect(&socket, port).expect("connected");
}

#[test]
fn odd_ends_are_told_apart_and_the_maps_are_small() {
    let results_of = |act: fn()| {
        let before = map_bytes();
        let mut tool = watching("odd-ends", "");
        let bytes = map_bytes() - before;
        println!("{bytes} bytes of maps");
        assert!(bytes <= 512 * 1024, "{bytes}");
        alone(c"odd-ends", act)?;
        let lines = tool.call().expect("a tick");
        for field in ["unmatched", "unended", "dropped"] {
            assert_eq!(lost(&lines, field), 0, "{field}: {lines:?}");
        }
        Some(results(&lines))
    };
    let Some(found) = results_of(|| {
        connect_to_itself();
        let full = Full::bind(address("127.0.0.1", 0));
        // Broken off by connecting to nothing, which leaves ECONNRESET with the socket; and again, by close().
        let connecting = Connecting::begin(full.address(), None).expect("under way");
        let socket = connecting.disconnect();
        let error = plugin_testing::tcp::connect(&socket, full.address()).expect_err("under way");
        assert_eq!(error.raw_os_error(), Some(libc::EINPROGRESS));
        drop(socket);
        // By the end of the process.
        let address = full.address();
        let child = Child::fork(c"odd-ends", || {
            let _connecting = Connecting::begin(address, None).expect("under way");
            0
        });
        assert_eq!(child.wait(), 0);
        // No port is left for a second one.
        netns::sysctl("ipv4/ip_local_port_range", "45000 45000");
        let listener = TcpListener::bind("127.0.0.1:80").expect("nobody else is here");
        let to = listener.local_addr().expect("bound");
        let _only = TcpStream::connect(to).expect("connected");
        let error = TcpStream::connect(to).expect_err("no port is left");
        assert_eq!(error.raw_os_error(), Some(libc::EADDRNOTAVAIL));
        // There is no way at all: this one never sent a SYN, and is no connect.
        TcpStream::connect("192.0.2.1:80").expect_err("no way");
    }) else {
        return;
    };
    // Connected: to itself, the one that fills the queue, and the only one.
    let expected = some(&[("connected", 3), ("aborted", 3), ("local", 1)], "ipv4");
    assert_eq!(found, expected);
}

/// A socket that sees and sends packets of a protocol as they are.
fn raw(protocol: i32) -> OwnedFd {
    // SAFETY: numbers only; the descriptor is ours alone.
    unsafe {
        let fd = libc::socket(libc::AF_INET, libc::SOCK_RAW, protocol);
        assert!(fd >= 0, "{}", std::io::Error::last_os_error());
        OwnedFd::from_raw_fd(fd)
    }
}

fn send(socket: &OwnedFd, packet: &[u8]) {
    let to = libc::sockaddr_in {
        sin_family: libc::AF_INET as _,
        sin_port: 0,
        sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes([127, 0, 0, 1]) },
        sin_zero: [0; 8],
    };
    let len = size_of_val(&to) as libc::socklen_t;
    // SAFETY: the kernel reads the packet and the address, within their lengths.
    let sent = unsafe {
        let (packet, bytes) = (packet.as_ptr().cast(), packet.len());
        libc::sendto(socket.as_raw_fd(), packet, bytes, 0, (&raw const to).cast(), len)
    };
    assert_eq!(sent, packet.len() as isize, "{}", std::io::Error::last_os_error());
}

/// The Internet checksum of a packet, with what is summed up beside it.
fn checksum(packet: &[u8], beside: u32) -> [u8; 2] {
    let words = packet.chunks(2).map(|word| u32::from(u16::from_be_bytes([word[0], word[1]])));
    let mut sum = beside + words.sum::<u32>();
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    (!(sum as u16)).to_be_bytes()
}

/// The next SYN to a port, with the header of IP.
fn syn_to(socket: &OwnedFd, port: u16) -> Vec<u8> {
    loop {
        let mut packet = vec![0; 100];
        // SAFETY: the kernel writes within the length.
        let len = unsafe { libc::recv(socket.as_raw_fd(), packet.as_mut_ptr().cast(), 100, 0) };
        assert!(len >= 40, "{}", std::io::Error::last_os_error());
        if packet[22..24] == port.to_be_bytes() && packet[33] == SYN {
            return packet;
        }
    }
}

const SYN: u8 = 2;

#[test]
fn an_answer_that_is_no_rst_to_a_syn_is_told_apart() {
    let mut tool = watching("answers", "");
    let act = || {
        let full = Full::bind(address("127.0.0.1", 0));
        let (port, tcp, icmp) = (full.address().port(), raw(libc::IPPROTO_TCP), raw(1));
        // The other end sends a SYN too. It has no connection, and resets the one that it is answered with.
        let connecting = Connecting::begin(full.address(), None).expect("under way");
        let seen = syn_to(&tcp, port);
        let mut syn =
            [&port.to_be_bytes(), &seen[20..22], &[0, 0, 1, 0, 0, 0, 0, 0, 0x50, SYN, 1, 0]]
                .concat();
        syn.extend([0; 4]);
        let pseudo = 2 * (0x7f00 + 1) + libc::IPPROTO_TCP as u32 + 20;
        let sum = checksum(&syn, pseudo);
        syn[16..18].copy_from_slice(&sum);
        send(&tcp, &syn);
        let error = connecting.end().1.expect_err("reset");
        assert_eq!(error.raw_os_error(), Some(libc::ECONNRESET));
        // A router says that there is no such host.
        let connecting = Connecting::begin(full.address(), None).expect("under way");
        let seen = syn_to(&tcp, port);
        let mut unreachable = [&[3, 1, 0, 0, 0, 0, 0, 0], &seen[..28]].concat();
        let sum = checksum(&unreachable, 0);
        unreachable[2..4].copy_from_slice(&sum);
        send(&icmp, &unreachable);
        let error = connecting.end().1.expect_err("unreachable");
        assert_eq!(error.raw_os_error(), Some(libc::EHOSTUNREACH));
    };
    if alone(c"answers", act).is_none() {
        return;
    }
    let lines = tool.call().expect("a tick");
    let expected = some(&[("connected", 1), ("reset", 1), ("unreachable", 1)], "ipv4");
    assert_eq!(results(&lines), expected);
}

#[test]
fn a_connect_from_before_the_tool_has_no_duration() {
    alone(c"before", || {
        let full = Full::bind(address("[::1]", 0));
        let before = Connecting::begin(full.address(), None).expect("under way");
        let mut tool = watching("before", "");
        drop(before);
        let lines = tool.call().expect("a tick");
        assert_eq!(results(&lines), BTreeMap::new());
        // Other processes may have one too.
        assert!(lost(&lines, "unmatched") >= 1, "{lines:?}");
    });
}

#[test]
fn connects_without_room_are_counted() {
    let mut tool = watching("no-room", r#","connects":8"#);
    let act = || {
        let full = Full::bind(address("127.0.0.1", 0));
        let begin = |_| Connecting::begin(full.address(), None).expect("under way");
        drop((0..20).map(begin).collect::<Vec<_>>());
    };
    if alone(c"no-room", act).is_none() {
        return;
    }
    let lines = tool.call().expect("a tick");
    let found = results(&lines);
    let (counted, dropped) = (found[&("ipv4".into(), "aborted".into())], lost(&lines, "dropped"));
    // Other processes' connects take room, too.
    assert!(counted <= 8 && dropped >= 12 && counted + dropped >= 20, "{lines:?}");
    assert!(lost(&lines, "unmatched") >= 12, "{lines:?}");
}

fn rows(lines: &[Line], table: &str, tag: &str) -> BTreeMap<String, [u64; 3]> {
    let rows = of(lines, table).into_iter();
    let row = |l: &Line| (l.tag(tag).to_owned(), ["connected", "failed", "slow"].map(|f| l.u64(f)));
    rows.map(row).filter(|(_, sums)| *sums != [0; 3]).collect()
}

#[test]
fn connects_have_rows_by_name_port_network_and_cgroup() {
    let moved = Moved::new();
    let options = ["comm", "remote_port", "remote_prefix", "cgroup"];
    for by in options {
        let mut tool = watching("named", &format!(r#","by":"{by}","min":"0s""#));
        let act = || {
            let listener = TcpListener::bind("[::]:8080").expect("nobody else is here");
            let connect = |to: &str| drop(TcpStream::connect(to).expect("connected"));
            (0..3).for_each(|_| connect("127.1.2.3:8080"));
            // By a socket of IPv6, and yet by IPv4.
            connect("[::ffff:127.1.2.9]:8080");
            connect("127.1.3.1:8080");
            connect("[::1]:8080");
            TcpStream::connect("127.1.3.1:81").expect_err("refused");
            drop(listener);
        };
        if alone(c"named", act).is_none() {
            return;
        }
        let lines = tool.call().expect("a tick");
        let found = rows(&lines, &format!("tcpconnlat_{by}"), by);
        let expected: &[(&str, [u64; 3])] = match by {
            "comm" => &[("named", [6, 1, 6])],
            "remote_port" => &[("8080", [6, 0, 6]), ("81", [0, 1, 0])],
            "remote_prefix" => {
                &[("127.1.2.0/24", [4, 0, 4]), ("127.1.3.0/24", [1, 1, 1]), ("::/48", [1, 0, 1])]
            }
            _ => &[],
        };
        if by != "cgroup" {
            let expected = expected.iter().map(|(name, sums)| ((*name).to_owned(), *sums));
            assert_eq!(found, expected.collect(), "{by}");
        } else if moved.is_ok() {
            let [(name, sums)] = &found.iter().collect::<Vec<_>>()[..] else { panic!("{found:?}") };
            assert!(name.ends_with("/child") && **sums == [6, 1, 6], "{found:?}");
        }
        let families = results(&lines);
        assert_eq!(families[&("ipv4".into(), "connected".into())], 5);
        assert_eq!(families[&("ipv6".into(), "connected".into())], 1);
    }
}

#[test]
fn whole_addresses_are_shown_when_asked_for() {
    let options = r#","by":"remote_prefix","ipv4_prefix":32,"ipv6_prefix":128"#;
    let mut tool = watching("whole", options);
    let act = || {
        let _listener = TcpListener::bind("[::]:8080").expect("nobody else is here");
        for to in ["127.1.2.3:8080", "[::ffff:127.1.2.3]:8080", "[::1]:8080"] {
            TcpStream::connect(to).expect("connected");
        }
    };
    if alone(c"whole", act).is_none() {
        return;
    }
    let found = rows(&tool.call().expect("a tick"), "tcpconnlat_remote_prefix", "remote_prefix");
    let names: Vec<_> = found.iter().map(|(name, sums)| (&**name, sums[0])).collect();
    assert_eq!(names, [("127.1.2.3", 2), ("::1", 1)]);
}

#[test]
fn the_passive_side_is_measured_until_accept() {
    const WAIT: Duration = Duration::from_millis(100);
    let Some(mut tool) = Tool::init_or_skip(r#"{"comm":["accepts"],"passive":true}"#) else {
        return;
    };
    tool.call().expect("a tick");
    let act = || {
        let mut longest = Duration::ZERO;
        for (_, ip) in FAMILIES {
            let listener = TcpListener::bind(address(ip, 0)).expect("a free port");
            let to = listener.local_addr().expect("bound");
            let begin = Instant::now();
            let _clients: Vec<_> =
                (0..24).map(|_| TcpStream::connect(to).expect("connected")).collect();
            thread::sleep(WAIT.saturating_sub(begin.elapsed()));
            for i in 0..20 {
                if i % 2 == 0 {
                    listener.accept().expect("one that waits");
                } else {
                    let (any, len) = (std::ptr::null_mut(), std::ptr::null_mut());
                    // SAFETY: no address is asked for; the descriptor is closed at once.
                    unsafe { libc::close(libc::accept(listener.as_raw_fd(), any, len)) };
                }
            }
            longest = longest.max(begin.elapsed());
            // The four that nobody accepts end with the listener.
        }
        let path = std::env::temp_dir().join(format!("accepts-{}", std::process::id()));
        let unix = UnixListener::bind(&path).expect("a socket that is no TCP's");
        let _client = UnixStream::connect(&path).expect("connected");
        unix.accept().expect("accepted");
        std::fs::remove_file(path).expect("removed");
        longest
    };
    let Some(longest) = alone(c"accepts", act) else { return };
    let lines = tool.call().expect("a tick");
    let rows = of(&lines, "tcpconnlat_accept");
    assert_eq!(rows.len(), 4);
    for row in rows {
        assert_eq!(row.u64("count"), 20, "{row:?}");
        let mean = Duration::from_micros(row.u64("sum_us") / 20);
        assert!((WAIT / 2..=longest).contains(&mean), "{row:?} within {longest:?}");
    }
    assert!(lost(&lines, "accept_unended") >= 8, "{lines:?}");
    assert_eq!((lost(&lines, "accept_dropped"), lost(&lines, "unmatched")), (0, 0));
}

#[test]
fn no_connect_is_lost_between_ticks() {
    const CONNECTS: u64 = 500;
    let mut tool = watching("load", r#","by":"remote_port""#);
    let (mut sums, mut all_missed) = ([0; 3], 0);
    let mut add = |lines: &[Line]| {
        for ((_, result), n) in results(lines) {
            sums[usize::from(result != "connected")] += n;
        }
        sums[2] += of(lines, "tcpconnlat_remote_port")
            .iter()
            .map(|l| l.u64("connected") + l.u64("failed"))
            .sum::<u64>();
        all_missed += missed(lines);
    };
    let load = || {
        let (listener, closed) = (listen("127.0.0.1"), closed_port());
        for _ in 0..CONNECTS {
            TcpStream::connect(listener.local_addr().expect("bound")).expect("connected");
            TcpStream::connect(address("127.0.0.1", closed)).expect_err("refused");
            listener.accept().expect("the one that connected");
        }
    };
    let done = thread::scope(|scope| {
        let loads = [(); 2].map(|()| scope.spawn(|| alone(c"load", load)));
        while !loads.iter().all(|load| load.is_finished()) {
            add(&tool.call().expect("a tick"));
        }
        loads.map(|load| load.join().expect("no panic")).iter().all(Option::is_some)
    });
    add(&tool.call().expect("a tick"));
    println!("{sums:?}, {all_missed} missed");
    if done {
        let [connected, failed, named] = sums;
        for n in [connected, failed] {
            assert!(n <= 2 * CONNECTS && n + all_missed >= 2 * CONNECTS, "{sums:?}");
        }
        assert_eq!(connected + failed, named);
    }
}
