//! Connects of this test's own threads, to addresses that nobody has.

use lsmconnect::Lsmconnect;
use plugin_bpf::{Running, only_kind, possible_cpus};
use plugin_testing::netns::within;
use plugin_testing::process::Child;
use plugin_testing::{Harness, Line, Moved, alone, cpu, map_bytes, missed};
use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs;
use std::io::Error;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::thread;

type Tool = Harness<Running<Lsmconnect>>;

/// Of the threads whose connects count.
const NAME: &str = "lsmconn-test";
const FAMILIES: [&str; 6] = ["ipv4", "ipv6", "unix", "unspec", "other", "invalid"];
const EPERM: Result<(), i32> = Err(libc::EPERM);

/// Does something with the tool in each mode that works here; `options` in braces, for this test's connects only.
fn modes(modes: &[&'static str], options: &str, mut test: impl FnMut(&str, &mut Tool)) {
    let moved = Moved::new();
    for mode in modes {
        // Before Linux 6.10 programs of cgroups know no process.
        let ours = match (&moved, *mode) {
            (Ok(moved), "cgroup") => format!(r#""cgroup":{:?}"#, moved.child()),
            (Err(why), "cgroup") => {
                println!("SKIPPED: no cgroup of its own: {why}");
                continue;
            }
            _ => format!(r#""pid":[{}],"comm":["{NAME}"]"#, std::process::id()),
        };
        let options = if options == "{}" {
            format!("{{{ours}}}")
        } else {
            options.replacen('{', &format!("{{{ours},"), 1)
        };
        only_kind(mode);
        match Tool::init(&options) {
            Ok(mut tool) => {
                tool.call().expect("a tick");
                test(mode, &mut tool);
            }
            Err(error) => {
                println!("not by {mode}: {error:#}");
                assert!(!format!("{error:#}").contains("(the whole log: "), "a program is wrong");
                let lacks = *mode == "lsm" && bpf_is_a_security_module() != Some(true);
                assert!(lacks || !cpu::is_guest(), "Debian's kernels have it");
            }
        }
    }
}

/// On a thread of that name, in a network of its own, which leads nowhere.
fn drive(act: impl FnOnce() + Send) {
    let outcome = within(|| {
        thread::scope(|scope| {
            let thread = thread::Builder::new().name(NAME.to_owned()).spawn_scoped(scope, act);
            thread.expect("a thread").join().expect("no panic");
        });
    });
    outcome.expect("a network namespace");
}

fn bpf_is_a_security_module() -> Option<bool> {
    let modules = fs::read_to_string("/sys/kernel/security/lsm").ok()?;
    Some(modules.split(',').any(|module| module.trim() == "bpf"))
}

fn socket(family: i32, kind: i32) -> OwnedFd {
    // SAFETY: numbers only.
    let fd = unsafe { libc::socket(family, kind | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK, 0) };
    assert!(fd >= 0, "{}", Error::last_os_error());
    // SAFETY: the descriptor is new and ours alone.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

fn result(returned: isize) -> Result<(), i32> {
    if returned < 0 {
        Err(Error::last_os_error().raw_os_error().expect("an error"))
    } else {
        Ok(())
    }
}

/// connect() with an address of any bytes, whose length is `length`.
fn connect(socket: &OwnedFd, address: &[u8], length: i32) -> Result<(), i32> {
    let mut room = [0u8; 256];
    room[..address.len()].copy_from_slice(address);
    // SAFETY: the kernel reads no more than 128 bytes.
    result(
        unsafe { libc::connect(socket.as_raw_fd(), room.as_ptr().cast(), length as u32) } as isize
    )
}

/// The bytes of an address.
fn address(to: (IpAddr, u16)) -> Vec<u8> {
    let family = |family: i32| (family as u16).to_ne_bytes().to_vec();
    match to.0 {
        IpAddr::V4(ip) => {
            [family(libc::AF_INET), to.1.to_be_bytes().into(), ip.octets().into(), vec![0; 8]]
                .concat()
        }
        IpAddr::V6(ip) => {
            let port = to.1.to_be_bytes().into();
            [family(libc::AF_INET6), port, vec![0; 4], ip.octets().into(), vec![0; 4]].concat()
        }
    }
}

/// Connects a socket of the address's own family.
fn to(kind: i32, to: (&str, u16)) -> Result<(), i32> {
    let ip: IpAddr = to.0.parse().expect("an address");
    let family = if ip.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    let bytes = address((ip, to.1));
    connect(&socket(family, kind), &bytes, bytes.len() as i32)
}

const UDP: i32 = libc::SOCK_DGRAM;
const TCP: i32 = libc::SOCK_STREAM;

/// Allowed and denied, by family; those that are not 0.
fn counts<'a>(lines: &'a [Line], mode: &str) -> BTreeMap<&'a str, [u64; 2]> {
    let rows = lines.iter().filter(|l| l.table == "lsmconnect");
    let rows = rows.map(|l| {
        assert_eq!(l.tag("mode"), mode);
        (l.tag("family"), [l.u64("allowed"), l.u64("denied")])
    });
    rows.filter(|(_, counts)| *counts != [0; 2]).collect()
}

/// Denied, by entry; those that are not 0.
fn rules(lines: &[Line]) -> BTreeMap<&str, u64> {
    let rows = lines.iter().filter(|l| l.table == "lsmconnect_rule");
    rows.map(|l| (l.tag("rule"), l.u64("denied"))).filter(|(_, denied)| *denied > 0).collect()
}

fn unread(lines: &[Line]) -> u64 {
    lines.iter().find(|l| l.table == "lsmconnect_lost").expect("a line").u64("unread")
}

#[test]
fn every_mode_counts_attempts_by_family_and_denies_what_is_listed() {
    let _alone = alone();
    let options = r#"{"deny":["198.51.100.0/24","[2001:db8::]/32","203.0.113.7:443"]}"#;
    modes(&["lsm", "cgroup", "tp"], options, |mode, tool| {
        let denies = mode != "tp";
        drive(|| {
            let check = |result: Result<(), i32>, listed: bool| {
                assert_eq!(result == EPERM, listed && denies, "{mode}: {result:?}");
            };
            (0..5).for_each(|_| check(to(UDP, ("198.51.100.9", 53)), true));
            (0..4).for_each(|_| check(to(TCP, ("::ffff:198.51.100.9", 53)), true));
            (0..3).for_each(|_| check(to(UDP, ("::ffff:198.51.100.255", 1)), true));
            (0..2).for_each(|_| check(to(TCP, ("203.0.113.7", 443)), true));
            check(to(UDP, ("::ffff:203.0.113.7", 443)), true);
            check(to(UDP, ("203.0.113.7", 80)), false);
            check(to(UDP, ("::ffff:203.0.113.7", 80)), false);
            (0..6).for_each(|_| check(to(UDP, ("127.0.0.1", 9)), false));
            check(to(TCP, ("198.51.101.0", 53)), false);
            (0..7).for_each(|_| check(to(TCP, ("2001:db8:ffff::1", 1)), true));
            (0..2).for_each(|_| check(to(UDP, ("::1", 9)), false));
            // An address of IPv4 in a socket of IPv6, as it may be for UDP.
            let bytes = address((Ipv4Addr::new(198, 51, 100, 1).into(), 7));
            check(connect(&socket(libc::AF_INET6, UDP), &bytes, 16), true);
        });
        let lines = tool.call().expect("a tick");
        println!(
            "{mode}: {:?}, {:?}, {} missed",
            counts(&lines, mode),
            rules(&lines),
            missed(&lines)
        );
        if missed(&lines) > 0 {
            return;
        }
        let (v4, v6) = if denies { ([9, 16], [2, 7]) } else { ([25, 0], [9, 0]) };
        assert_eq!(counts(&lines, mode), BTreeMap::from([("ipv4", v4), ("ipv6", v6)]), "{mode}");
        let expected = [("198.51.100.0/24", 13), ("203.0.113.7:443", 3), ("[2001:db8::]/32", 7)];
        let expected = if denies { BTreeMap::from(expected) } else { BTreeMap::new() };
        assert_eq!(rules(&lines), expected, "{mode}");
        assert_eq!(unread(&lines), 0, "{mode}");
    });
}

/// A socket is disconnected, an address is short, long, of another family, or not there.
#[test]
fn odd_addresses_are_told_apart_and_never_denied() {
    let _alone = alone();
    let options = r#"{"deny":["0.0.0.0/0","[::]/0"]}"#;
    modes(&["lsm", "cgroup", "tp"], options, |mode, tool| {
        drive(|| {
            let (v4, v6) = (socket(libc::AF_INET, UDP), socket(libc::AF_INET6, UDP));
            let unspec = [0; 16];
            let bytes = address((Ipv4Addr::LOCALHOST.into(), 9));
            let bytes_v6 = address((Ipv6Addr::LOCALHOST.into(), 9));
            for _ in 0..3 {
                assert_eq!(connect(&v4, &unspec, 16), Ok(()), "{mode}");
                assert_eq!(connect(&v6, &unspec, 2), Ok(()), "{mode}");
                assert_eq!(connect(&socket(libc::AF_INET, TCP), &unspec, 16), Ok(()), "{mode}");
            }
            for length in [0, 1, 2, 8, 15] {
                assert_eq!(connect(&v4, &bytes, length), Err(libc::EINVAL), "{mode}: {length}");
            }
            for length in [3, 16, 23] {
                assert_eq!(connect(&v6, &bytes_v6, length), Err(libc::EINVAL), "{mode}: {length}");
            }
            // Of these the system call itself makes nothing.
            assert_eq!(connect(&v4, &bytes, -1), Err(libc::EINVAL), "{mode}");
            assert_eq!(connect(&v4, &bytes, 129), Err(libc::EINVAL), "{mode}");
            // SAFETY: the kernel finds out that there is no memory.
            let nowhere = unsafe { libc::connect(v4.as_raw_fd(), 8 as *const _, 16) };
            assert_eq!(result(nowhere as isize), Err(libc::EFAULT), "{mode}");
            let stranger = [&77u16.to_ne_bytes()[..], &[0; 30]].concat();
            (0..2).for_each(|_| assert!(![Ok(()), EPERM].contains(&connect(&v4, &stranger, 32))));
            let unix = [&(libc::AF_UNIX as u16).to_ne_bytes()[..], b"\0lsmconnect-test"].concat();
            let [stream, datagram] = [TCP, UDP].map(|kind| socket(libc::AF_UNIX, kind));
            for socket in [&stream, &datagram, &datagram, &datagram] {
                let refused = connect(socket, &unix, unix.len() as i32);
                assert_eq!(refused, Err(libc::ECONNREFUSED), "{mode}");
            }
            let denied = if mode == "tp" { Ok(()) } else { EPERM };
            // Longer than need be, and without the scope.
            assert_eq!(connect(&v4, &bytes, 128), denied, "{mode}");
            assert_eq!(connect(&v6, &bytes_v6, 24), denied, "{mode}");
        });
        let lines = tool.call().expect("a tick");
        println!("{mode}: {:?}, {} missed", counts(&lines, mode), missed(&lines));
        if missed(&lines) > 0 {
            return;
        }
        let inet = if mode == "tp" { [1, 0] } else { [0, 1] };
        let mut expected = BTreeMap::from([("ipv4", inet), ("ipv6", inet)]);
        if mode != "cgroup" {
            let invalid = if mode == "tp" { 10 } else { 8 };
            let more = [
                ("unspec", [9, 0]),
                ("invalid", [invalid, 0]),
                ("other", [2, 0]),
                ("unix", [4, 0]),
            ];
            expected.extend(more);
        }
        assert_eq!(counts(&lines, mode), expected, "{mode}");
        assert_eq!(unread(&lines), u64::from(mode == "tp"), "{mode}");
    });
}

/// Whoever connects to no address comes to this host.
#[test]
fn no_address_stands_for_this_host() {
    let _alone = alone();
    let options = r#"{"deny":["127.0.0.1:909","[::1]:909"]}"#;
    modes(&["lsm", "cgroup"], options, |mode, tool| {
        drive(|| {
            for kind in [UDP, TCP] {
                assert_eq!(to(kind, ("0.0.0.0", 909)), EPERM, "{mode}");
                assert_eq!(to(kind, ("::", 909)), EPERM, "{mode}");
                assert_eq!(to(kind, ("::ffff:0.0.0.0", 909)), EPERM, "{mode}");
                assert_ne!(to(kind, ("::", 908)), EPERM, "{mode}");
                // What is bound to an address connects to that one, by IPv4.
                let bound = |from: &str, to: &str| {
                    let (from, to) =
                        (from.parse().expect("an address"), to.parse().expect("an address"));
                    let family =
                        if IpAddr::is_ipv4(&from) { libc::AF_INET } else { libc::AF_INET6 };
                    let (socket, from, to) =
                        (socket(family, kind), address((from, 0)), address((to, 909)));
                    // SAFETY: the kernel reads the address within its length.
                    let bound = unsafe {
                        libc::bind(socket.as_raw_fd(), from.as_ptr().cast(), from.len() as u32)
                    };
                    assert_eq!(result(bound as isize), Ok(()), "{mode}");
                    connect(&socket, &to, to.len() as i32)
                };
                assert_ne!(bound("127.0.0.5", "0.0.0.0"), EPERM, "{mode}");
                assert_eq!(bound("127.0.0.1", "0.0.0.0"), EPERM, "{mode}");
                assert_eq!(bound("::ffff:127.0.0.5", "::"), EPERM, "{mode}");
                assert_eq!(bound("::1", "::"), EPERM, "{mode}");
            }
        });
        let lines = tool.call().expect("a tick");
        let expected = BTreeMap::from([("127.0.0.1:909", 8), ("[::1]:909", 4)]);
        assert!(missed(&lines) > 0 || rules(&lines) == expected, "{mode}: {:?}", rules(&lines));
    });
}

/// sendto() that connects, past the hook of connect().
#[test]
fn fast_open_is_denied_too() {
    let _alone = alone();
    let send = |kind: i32, to: (&str, u16), flags: i32| {
        let ip: IpAddr = to.0.parse().expect("an address");
        let family = if ip.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
        let (socket, to) = (socket(family, kind), address((ip, to.1)));
        let (at, length) = (to.as_ptr().cast(), to.len() as u32);
        // SAFETY: the kernel reads one byte and the address within its length.
        result(unsafe {
            libc::sendto(socket.as_raw_fd(), b"x".as_ptr().cast(), 1, flags, at, length)
        })
    };
    let options = r#"{"deny":["127.0.0.9:909","[::1]:909"]}"#;
    modes(&["lsm", "cgroup"], options, |mode, tool| {
        drive(|| {
            let _listener = TcpListener::bind("127.0.0.9:909").expect("nobody else is here");
            let fast = libc::MSG_FASTOPEN | libc::MSG_NOSIGNAL;
            (0..3).for_each(|_| assert_eq!(send(TCP, ("127.0.0.9", 909), fast), EPERM, "{mode}"));
            (0..2).for_each(|_| assert_eq!(send(TCP, ("::1", 909), fast), EPERM, "{mode}"));
            assert_eq!(send(TCP, ("::ffff:127.0.0.9", 909), fast), EPERM, "{mode}");
            (0..4).for_each(|_| assert_ne!(send(TCP, ("127.0.0.9", 908), fast), EPERM, "{mode}"));
            // No connects: a socket that is not connected, and datagrams.
            assert_ne!(send(TCP, ("127.0.0.9", 909), libc::MSG_NOSIGNAL), EPERM, "{mode}");
            assert_ne!(send(UDP, ("127.0.0.9", 909), fast), EPERM, "{mode}");
        });
        let lines = tool.call().expect("a tick");
        let expected = BTreeMap::from([("ipv4", [4, 4]), ("ipv6", [0, 2])]);
        let counts = counts(&lines, mode);
        assert!(missed(&lines) > 0 || counts == expected, "{mode}: {counts:?}");
    });
}

/// Whose first connection is made by the kernel.
#[test]
fn multipath_tcp_is_denied_too() {
    const IPPROTO_MPTCP: i32 = 262;
    let _alone = alone();
    modes(&["lsm", "cgroup"], r#"{"deny":["127.0.0.9:909"]}"#, |mode, tool| {
        let mut made = false;
        drive(|| {
            // SAFETY: numbers only.
            let fd =
                unsafe { libc::socket(libc::AF_INET, TCP | libc::SOCK_CLOEXEC, IPPROTO_MPTCP) };
            if fd < 0 {
                return println!("SKIPPED: no MPTCP: {}", Error::last_os_error());
            }
            // SAFETY: the descriptor is new and ours alone.
            let socket = unsafe { OwnedFd::from_raw_fd(fd) };
            let to = address((Ipv4Addr::new(127, 0, 0, 9).into(), 909));
            assert_eq!(connect(&socket, &to, 16), EPERM, "{mode}");
            made = true;
        });
        let lines = tool.call().expect("a tick");
        let expected = if made { vec![("127.0.0.9:909", 1)] } else { vec![] };
        assert!(missed(&lines) > 0 || rules(&lines).into_iter().eq(expected), "{mode}: {lines:?}");
    });
}

/// By the table of 32 bits, where connect is 362.
#[cfg(target_arch = "x86_64")]
#[test]
fn connects_of_32_bit_programs_are_denied_too() {
    let _alone = alone();
    only_kind("lsm");
    let options = format!(r#"{{"deny":["127.0.0.9:909"],"comm":["{NAME}"]}}"#);
    let mut tool = match Tool::init(&options) {
        Ok(tool) => tool,
        Err(error) => return println!("SKIPPED: not by lsm: {error:#}"),
    };
    tool.call().expect("a tick");
    let name = CString::new(NAME).expect("no NUL");
    let child = Child::fork(&name, || {
        let to = address((Ipv4Addr::new(127, 0, 0, 9).into(), 909));
        let socket = socket(libc::AF_INET, UDP);
        // SAFETY: a new mapping below 4 GiB, with room for the address; `rbx`, which the compiler keeps for itself,
        // is put back.
        let returned = unsafe {
            let access = libc::PROT_READ | libc::PROT_WRITE;
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_32BIT;
            let at = libc::mmap(std::ptr::null_mut(), 4096, access, flags, -1, 0).cast::<u8>();
            std::ptr::copy_nonoverlapping(to.as_ptr(), at, to.len());
            let returned: u64;
            std::arch::asm!(
                "xchg rbx, {first}", "int 0x80", "xchg rbx, {first}",
                first = inout(reg) socket.as_raw_fd() as u64 => _, inout("rax") 362_u64 => returned,
                in("rcx") at as u64, in("rdx") 16_u64, out("r8") _, out("r9") _, out("r10") _, out("r11") _,
            );
            returned as i32
        };
        -returned
    });
    let status = child.wait();
    let lines = tool.call().expect("a tick");
    if libc::WIFSIGNALED(status) {
        return println!("SKIPPED: this kernel has no system calls of 32 bits");
    }
    assert_eq!(libc::WEXITSTATUS(status), libc::EPERM);
    assert!(missed(&lines) > 0 || rules(&lines) == BTreeMap::from([("127.0.0.9:909", 1)]));
}

#[test]
fn an_entry_with_a_port_counts_before_the_longest_prefix() {
    let _alone = alone();
    let options =
        r#"{"deny":["198.51.0.0/16:443","198.51.100.0/24","198.51.100.7","198.51.100.7:443"]}"#;
    modes(&["lsm", "cgroup"], options, |mode, tool| {
        drive(|| {
            for (n, port, host) in [(1, 443, 7), (2, 80, 7), (3, 443, 9), (4, 80, 9)] {
                let host = format!("198.51.100.{host}");
                (0..n).for_each(|_| assert_eq!(to(UDP, (&host, port)), EPERM, "{mode}"));
            }
        });
        let lines = tool.call().expect("a tick");
        let expected = [
            ("198.51.100.7:443", 1),
            ("198.51.100.7", 2),
            ("198.51.0.0/16:443", 3),
            ("198.51.100.0/24", 4),
        ];
        assert!(
            missed(&lines) > 0 || rules(&lines) == BTreeMap::from(expected),
            "{mode}: {:?}",
            rules(&lines)
        );
        let rows = lines.iter().filter(|l| l.table == "lsmconnect_rule").count();
        assert_eq!(rows, 5, "{mode}: each entry and other");
    });
}

#[test]
fn a_rule_ends_with_the_tool_however_that_ends() {
    const LISTED: (&str, u16) = ("198.51.100.9", 53);
    let _alone = alone();
    let options = format!(r#"{{"deny":["198.51.100.9:53"],"pid":[{}]}}"#, std::process::id());
    for mode in ["lsm", "cgroup"] {
        let moved = Moved::new();
        let options = match (&moved, mode) {
            (Ok(moved), "cgroup") => {
                format!(r#"{{"deny":["198.51.100.9:53"],"cgroup":{:?}}}"#, moved.child())
            }
            (Err(_), "cgroup") => continue,
            _ => options.clone(),
        };
        let start = |options: &str| {
            only_kind(mode);
            Tool::init(options)
        };
        let tool = match start(&options) {
            Ok(tool) => tool,
            Err(error) => {
                println!("not by {mode}: {error:#}");
                continue;
            }
        };
        assert_eq!(to(UDP, LISTED), EPERM, "{mode}");
        drop(tool);
        assert_ne!(to(UDP, LISTED), EPERM, "{mode}: stopped");
        let tool = start(&options.replace(":53", ":54")).expect("it attaches again");
        assert_ne!(to(UDP, LISTED), EPERM, "{mode}: started again without it");
        drop(tool);
        // A process that is killed has no time to detach anything.
        let mut ends = [0; 2];
        // SAFETY: two descriptors are written to the array of two.
        assert_eq!(unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) }, 0);
        // SAFETY: the descriptors are new and ours alone.
        let [told, tell] = ends.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) });
        let holder = Child::fork(c"holder", || {
            let _tool = start(&options).expect("it attaches in another process");
            // SAFETY: one byte is read; then nothing happens any more.
            unsafe {
                libc::write(tell.as_raw_fd(), b"x".as_ptr().cast(), 1);
                loop {
                    libc::pause();
                }
            }
        });
        drop(tell);
        let mut byte = 0u8;
        // SAFETY: one byte is written to one of ours.
        let read = unsafe { libc::read(told.as_raw_fd(), (&raw mut byte).cast(), 1) };
        assert_eq!(read, 1, "{mode}: the other process attached nothing");
        assert_eq!(to(UDP, LISTED), EPERM, "{mode}: of another process");
        // SAFETY: a child of ours.
        unsafe { libc::kill(holder.pid, libc::SIGKILL) };
        let _ = holder.wait();
        assert_ne!(to(UDP, LISTED), EPERM, "{mode}: killed");
        println!("{mode}: a rule ends when its tool is stopped, started again or killed");
    }
}

#[test]
fn by_default_nothing_is_denied_and_the_maps_are_small() {
    let _alone = alone();
    let before = map_bytes();
    let Some(mut tool) = Tool::init_or_skip("{}") else { return };
    let (bytes, cpus) = (map_bytes() - before, u64::from(possible_cpus()));
    println!("{bytes} bytes of maps on {cpus} CPUs");
    assert!(bytes * 2 <= cpus * 512 * 1024, "0.5 MiB on two CPUs");
    assert_eq!(to(UDP, ("127.0.0.1", 9)), Ok(()));
    let lines = tool.call().expect("a tick");
    let rows = |table: &str| lines.iter().filter(|l| l.table == table).count();
    assert_eq!((rows("lsmconnect"), rows("lsmconnect_lost"), rows("lsmconnect_rule")), (6, 1, 0));
    let families: Vec<_> = lines.iter().filter(|l| l.table == "lsmconnect").collect();
    assert!(families.iter().all(|l| l.u64("denied") == 0));
    assert!(families.iter().zip(FAMILIES).all(|(l, family)| l.tag("family") == family));
}

/// The one that the tool makes to try its hook is in no line, and is made where there is no network too.
#[test]
fn a_hook_that_the_kernel_never_asks_is_found_out() {
    let _alone = alone();
    match bpf_is_a_security_module() {
        Some(false) => {}
        Some(true) => return println!("SKIPPED: this kernel asks it"),
        None => return println!("SKIPPED: nobody says which security modules this kernel has"),
    }
    for (options, mode) in [("{}", "tp"), (r#"{"deny":["198.51.100.9"]}"#, "cgroup")] {
        let mut tool = Tool::init(options).expect("another way");
        let lines = tool.call().expect("a tick");
        let refused = lines
            .iter()
            .find(|l| l.table == "collector_program" && l.tag("program") == "connect_lsm");
        let reason = refused.expect("a line").text("reason").to_owned();
        println!("{reason}");
        assert!(reason.contains("this kernel never asks it"), "{reason}");
        let denied = to(UDP, ("198.51.100.9", 53)) == EPERM;
        assert_eq!(denied, mode == "cgroup");
        let lines = tool.call().expect("a tick");
        assert!(counts(&lines, mode).contains_key("ipv4"));
    }
    only_kind("lsm");
    let error = format!("{:#}", Tool::init("{}").err().expect("no way is left"));
    assert!(error.contains("this kernel never asks it"), "{error}");
}

#[test]
fn a_cgroup_stands_for_its_own_processes_and_those_below_it() {
    let _alone = alone();
    let moved = match Moved::new() {
        Ok(moved) => moved,
        Err(why) => return println!("SKIPPED: no cgroup of its own: {why}"),
    };
    let seen = [(moved.child(), true), (moved.parent().to_owned(), true), (moved.sibling(), false)];
    for mode in ["lsm", "cgroup"] {
        for (cgroup, seen) in &seen {
            only_kind(mode);
            let mut tool =
                match Tool::init(&format!(r#"{{"deny":["198.51.100.9"],"cgroup":{cgroup:?}}}"#)) {
                    Ok(tool) => tool,
                    Err(error) => {
                        println!("not by {mode}: {error:#}");
                        continue;
                    }
                };
            tool.call().expect("a tick");
            assert_eq!(to(UDP, ("198.51.100.9", 53)) == EPERM, *seen, "{mode}: {cgroup:?}");
            let lines = tool.call().expect("a tick");
            assert_eq!(
                rules(&lines).len() + missed(&lines) as usize > 0,
                *seen,
                "{mode}: {cgroup:?}"
            );
        }
    }
}

/// As systemd's `CapabilityBoundingSet=CAP_BPF CAP_PERFMON`, for one thread.
#[test]
fn programs_of_cgroups_take_the_right_to_configure_the_network() {
    #[repr(C)]
    struct Header {
        version: u32,
        pid: i32,
    }
    const VERSION_3: u32 = 0x2008_0522;
    const BPF_AND_PERFMON: u32 = 1 << (39 - 32) | 1 << (38 - 32);
    let _alone = alone();
    let error = thread::spawn(|| {
        let mut header = Header { version: VERSION_3, pid: 0 };
        // Effective, permitted and inheritable, of the lower and the upper 32.
        let sets = [0, 0, 0, BPF_AND_PERFMON, BPF_AND_PERFMON, 0];
        // SAFETY: the kernel reads the structs, which have the sizes of that version.
        let set = unsafe { libc::syscall(libc::SYS_capset, &raw mut header, sets.as_ptr()) };
        if set < 0 {
            return "SKIPPED: this process does not hold them itself".to_owned();
        }
        only_kind("cgroup");
        let tool = Tool::init(r#"{"deny":["198.51.100.9"]}"#);
        tool.err().map_or_else(|| "it attached".to_owned(), |error| format!("{error:#}"))
    });
    let error = error.join().expect("no panic");
    println!("{error}");
    assert!(error.starts_with("SKIPPED") || error.contains("it needs CAP_NET_ADMIN"), "{error}");
}

#[test]
fn a_list_that_makes_no_sense_is_refused_with_its_entry() {
    for (deny, words) in [
        (r#"["198.51.100.7/24"]"#, r#"the network is "198.51.100.0/24""#),
        (r#"["2001:db8::1"]"#, r#"addresses of IPv6 stand in brackets: "[2001:db8::1]""#),
        (r#"["example.org"]"#, "names are not looked up"),
        (r#"["192.0.2.1","192.0.2.1/32"]"#, r#"deny: "192.0.2.1" stands there twice"#),
        (r#"[7]"#, "must be a destination such as"),
    ] {
        let error = Tool::init(&format!(r#"{{"deny":{deny}}}"#)).err().expect("refused");
        assert!(format!("{error:#}").contains(words), "{deny}: {error:#}");
    }
}
