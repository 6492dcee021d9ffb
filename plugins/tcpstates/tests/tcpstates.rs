//! Sockets of ports that only this test has, in a network namespace of its own.

use plugin_bpf::{Running, kernel_at_least, only_kind};
use plugin_testing::tcp::{Connecting, Full};
use plugin_testing::{Harness, Line, map_bytes, missed, netns};
use std::collections::BTreeMap;
use std::io::Read as _;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};
use tcpstates::Tcpstates;

type Tool = Harness<Running<Tcpstates>>;

/// Of the tests' listeners: other sockets of this machine have others, or begin with other namespaces' tests.
const PORT: u16 = 23_457;

fn watching(options: &str) -> Tool {
    let mut tool = Tool::init(&format!("{{{options}}}")).expect("it attaches");
    tool.call().expect("a tick");
    tool
}

fn alone<T: Send>(act: impl FnOnce() -> T + Send) -> Option<T> {
    let outcome = netns::within(act);
    outcome.inspect_err(|error| println!("SKIPPED: no network namespace: {error}")).ok()
}

fn of<'a>(lines: &'a [Line], table: &str) -> Vec<&'a Line> {
    lines.iter().filter(|l| l.table == table).collect()
}

/// Transitions by family and both states, with those of older sockets.
type Transitions = BTreeMap<(String, String, String), (u64, u64)>;

fn transitions(lines: &[Line]) -> Transitions {
    let rows = of(lines, "tcpstates").into_iter();
    let key =
        |l: &Line| (l.tag("family").to_owned(), l.tag("from").to_owned(), l.tag("to").to_owned());
    rows.map(|l| (key(l), (l.u64("transitions"), l.u64("older")))).collect()
}

fn expected(rows: &[(&str, &str, &str, u64)]) -> Transitions {
    let row = |(family, from, to, n): &(&str, &str, &str, u64)| {
        (((*family).to_owned(), (*from).to_owned(), (*to).to_owned()), (*n, 0))
    };
    rows.iter().map(row).collect()
}

fn lost(lines: &[Line], field: &str) -> u64 {
    of(lines, "tcpstates_lost")[0].u64(field)
}

fn time<'a>(lines: &'a [Line], family: &str, from: &str) -> &'a Line {
    let row = |l: &&Line| l.tag("family") == family && l.tag("from") == from;
    of(lines, "tcpstates").into_iter().find(row).expect("a row")
}

/// Connections by both families to a listener for both; the client closes first.
fn live(n: usize) {
    let listener = TcpListener::bind(("::", PORT)).expect("nobody else is here");
    for ip in ["127.0.0.1", "::1"] {
        let to = SocketAddr::new(ip.parse().expect("an address"), PORT);
        for _ in 0..n {
            let client = TcpStream::connect(to).expect("connected");
            let mut server = listener.accept().expect("the one that connected").0;
            drop(client);
            assert_eq!(server.read(&mut [0]).expect("the end"), 0);
        }
    }
}

#[test]
fn a_full_life_is_seen_on_both_sides_in_each_way() {
    const LIVES: u64 = 250;
    let start = |kind, options: &str| {
        only_kind(kind);
        Tool::init(&format!("{{{options}}}"))
    };
    let mut worked = 0;
    for kind in ["btf", "raw", "tp"] {
        let servers = start(kind, &format!(r#""local_port":[1,{PORT}]"#));
        let clients = start(kind, &format!(r#""remote_port":[{PORT}]"#));
        let (Ok(mut servers), Ok(mut clients)) = (servers, clients) else {
            println!("not by {kind}");
            continue;
        };
        println!("by {kind}");
        worked += 1;
        [&mut servers, &mut clients]
            .into_iter()
            .for_each(|tool| drop(tool.call().expect("a tick")));
        if alone(|| live(LIVES as usize)).is_none() {
            return;
        }
        let [servers, clients] = [servers, clients].map(|mut tool| tool.call().expect("a tick"));
        let (mut server, mut client) = (Vec::new(), Vec::new());
        for family in ["ipv4", "ipv6"] {
            server.extend([
                (family, "LISTEN", "SYN_RECV", LIVES),
                (family, "SYN_RECV", "ESTABLISHED", LIVES),
                (family, "ESTABLISHED", "CLOSE_WAIT", LIVES),
                (family, "CLOSE_WAIT", "LAST_ACK", LIVES),
                (family, "LAST_ACK", "CLOSE", LIVES),
            ]);
            client.extend([
                (family, "CLOSE", "SYN_SENT", LIVES),
                (family, "SYN_SENT", "ESTABLISHED", LIVES),
                (family, "ESTABLISHED", "FIN_WAIT1", LIVES),
                (family, "FIN_WAIT1", "FIN_WAIT2", LIVES),
                (family, "FIN_WAIT2", "CLOSE", LIVES),
            ]);
        }
        server.extend([("ipv6", "CLOSE", "LISTEN", 1), ("ipv6", "LISTEN", "CLOSE", 1)]);
        for (lines, rows) in [(&servers, &server), (&clients, &client)] {
            let (found, missed) = (transitions(lines), missed(lines));
            if missed == 0 {
                assert_eq!(found, expected(rows));
                assert_eq!(lost(lines, "unended"), 0);
            }
            let found: u64 = found.values().map(|(n, _)| n).sum();
            let all: u64 = rows.iter().map(|row| row.3).sum();
            assert!(found <= all && found + missed >= all, "{found} of {all}, {missed} missed");
            assert_eq!((lost(lines, "dropped"), lost(lines, "dropped_cells")), (0, 0));
        }
    }
    assert!(worked > 0, "no way works here");
}

#[test]
fn connects_that_fail_are_two_transitions() {
    let mut tool = watching(r#""remote_port":[23458,23459]"#);
    let act = || {
        let full = Full::bind("127.0.0.1:23458".parse().expect("an address"));
        for _ in 0..50 {
            TcpStream::connect("127.0.0.1:23459").expect_err("refused");
            drop(Connecting::begin(full.address(), None).expect("under way"));
        }
    };
    if alone(act).is_none() {
        return;
    }
    let lines = tool.call().expect("a tick");
    let found = transitions(&lines);
    let rows =
        [("CLOSE", "SYN_SENT", 101), ("SYN_SENT", "CLOSE", 100), ("SYN_SENT", "ESTABLISHED", 1)];
    for (from, to, n) in rows {
        assert_eq!(found[&("ipv4".into(), from.into(), to.into())], (n, 0), "{found:?}");
    }
    assert!(found.values().all(|(_, older)| *older == 0), "{found:?}");
}

#[test]
fn the_time_in_a_state_is_right_within_a_hundredth() {
    const HELD: Duration = Duration::from_secs(1);
    let mut tool = watching(&format!(r#""remote_port":[{PORT}]"#));
    let act = || {
        let listener = TcpListener::bind(("127.0.0.1", PORT)).expect("nobody else is here");
        let connect = |_| {
            let client = TcpStream::connect(("127.0.0.1", PORT)).expect("connected");
            (client, Instant::now(), listener.accept().expect("the one that connected").0)
        };
        let held: Vec<_> = (0..20).map(connect).collect();
        thread::sleep(HELD);
        let end = |(client, since, server): (TcpStream, Instant, TcpStream)| {
            let took = since.elapsed();
            drop(client);
            drop(server);
            took
        };
        held.into_iter().map(end).sum::<Duration>()
    };
    let mut found = Vec::new();
    // A client that stands still between the kernel's time and its own has measured something else.
    for _ in 0..3 {
        let Some(took) = alone(act) else { return };
        let lines = tool.call().expect("a tick");
        let row = time(&lines, "ipv4", "ESTABLISHED");
        let (said, took) = (row.u64("sum_us") as f64, took.as_micros() as f64);
        println!("{said} us of {took} us in ESTABLISHED");
        assert_eq!((row.tag("to"), row.u64("count")), ("FIN_WAIT1", 20));
        if (said / took - 1.0).abs() < 0.01 {
            return;
        }
        found.push((said, took));
    }
    panic!("{found:?}");
}

#[test]
fn a_socket_older_than_the_tool_has_no_time() {
    let outcome = alone(|| {
        let listener = TcpListener::bind(("::1", PORT)).expect("nobody else is here");
        let client = TcpStream::connect(("::1", PORT)).expect("connected");
        let server = listener.accept().expect("the one that connected").0;
        let mut tool = watching(&format!(r#""remote_port":[{PORT}]"#));
        client.shutdown(Shutdown::Write).expect("still connected");
        drop(server);
        drop(client);
        tool.call().expect("a tick")
    });
    let Some(lines) = outcome else { return };
    let mut rows = expected(&[
        ("ipv6", "ESTABLISHED", "FIN_WAIT1", 1),
        ("ipv6", "FIN_WAIT1", "FIN_WAIT2", 1),
        ("ipv6", "FIN_WAIT2", "CLOSE", 1),
    ]);
    for ((_, from, _), (_, older)) in &mut rows {
        *older = u64::from(from == "ESTABLISHED");
    }
    assert_eq!(transitions(&lines), rows);
    let row = time(&lines, "ipv6", "ESTABLISHED");
    assert_eq!((row.u64("count"), row.u64("sum_us")), (0, 0), "{row:?}");
    assert_eq!(time(&lines, "ipv6", "FIN_WAIT1").u64("count"), 1);
}

#[test]
fn filters_keep_the_first_transition() {
    // What the filters want, and what it is.
    let port = format!(r#""local_port":[{PORT}]"#);
    let family = format!(r#""remote_port":[40001],{port},"family":"ipv4""#);
    let mut tools = [port, family].map(|options| watching(&options));
    let act = || {
        // The client's port is chosen by the kernel, after the socket's first transition.
        netns::sysctl("ipv4/ip_local_port_range", "23457 23457");
        let listener = TcpListener::bind("127.0.0.1:40000").expect("nobody else is here");
        drop(TcpStream::connect("127.0.0.1:40000").expect("connected"));
        drop(listener);
        // A listener of IPv6 and its child, whose other end is not known at its first transition.
        netns::sysctl("ipv4/ip_local_port_range", "40001 40001");
        let listener = TcpListener::bind(("::", PORT)).expect("nobody else is here");
        drop(TcpStream::connect(("127.0.0.1", PORT)).expect("connected"));
        drop(listener);
    };
    if alone(act).is_none() {
        return;
    }
    let [port, family] = tools.each_mut().map(|tool| tool.call().expect("a tick"));
    let (port, family) = (transitions(&port), transitions(&family));
    let key = |family: &str, from: &str, to: &str| (family.into(), from.into(), to.into());
    assert_eq!(port[&key("ipv4", "CLOSE", "SYN_SENT")], (1, 0), "{port:?}");
    assert_eq!(port[&key("ipv4", "LISTEN", "SYN_RECV")], (1, 0), "{port:?}");
    assert_eq!(port[&key("ipv6", "CLOSE", "LISTEN")], (1, 0), "{port:?}");
    assert_eq!(family[&key("ipv4", "LISTEN", "SYN_RECV")], (1, 0), "{family:?}");
    assert!(!family.contains_key(&key("ipv4", "CLOSE", "SYN_SENT")), "{family:?}");
    assert!(family.keys().all(|(family, ..)| family == "ipv4"), "{family:?}");
}

#[test]
fn sockets_without_room_are_counted_and_the_maps_are_small() {
    let before = map_bytes();
    let tool = watching("");
    let bytes = map_bytes() - before;
    println!("{bytes} bytes of maps");
    // Before 6.4 the kernel says what they may take.
    let most = if kernel_at_least(6, 4) || !kernel_at_least(6, 1) { 512 } else { 640 };
    assert!(bytes <= most * 1024, "{bytes}");
    drop(tool);
    let mut tool = watching(&format!(r#""remote_port":[{PORT}],"sockets":8"#));
    let act = || {
        let _listener = TcpListener::bind(("127.0.0.1", PORT)).expect("nobody else is here");
        let connect = |_| TcpStream::connect(("127.0.0.1", PORT)).expect("connected");
        drop((0..20).map(connect).collect::<Vec<_>>());
    };
    if alone(act).is_none() {
        return;
    }
    let lines = tool.call().expect("a tick");
    let found = transitions(&lines);
    println!("{found:?}");
    let key = |from: &str, to: &str| ("ipv4".into(), from.into(), to.into());
    assert_eq!(found[&key("CLOSE", "SYN_SENT")], (20, 0));
    assert_eq!(found[&key("SYN_SENT", "ESTABLISHED")].0, 20);
    // Of a socket without room nothing is known, and its next transitions look for room too.
    assert!(found[&key("SYN_SENT", "ESTABLISHED")].1 >= 12 && lost(&lines, "dropped") >= 12);
}

#[test]
fn too_many_ports_are_refused() {
    let ports: Vec<String> = (1..=17).map(|port| port.to_string()).collect();
    let error = Tool::init(&format!(r#"{{"local_port":[{}]}}"#, ports.join(","))).err();
    let error = format!("{:#}", error.expect("refused"));
    assert!(error.contains("local_port: 17 ports, at most 16"), "{error}");
}
