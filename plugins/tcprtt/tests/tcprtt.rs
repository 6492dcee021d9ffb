//! Connections that this test makes, in a network namespace of its own and with ports that nobody else uses.

use plugin_bpf::{Running, only_kind, possible_cpus};
use plugin_testing::link::{Link, far, near};
use plugin_testing::netns::{sysctl, within};
use plugin_testing::{Harness, Line, alone, keys, map_bytes, missed, ways};
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::ops::RangeInclusive;
use std::os::fd::AsRawFd as _;
use std::time::{Duration, Instant};
use tcprtt::Tcprtt;

type Tool = Harness<Running<Tcprtt>>;

const WAYS: &[&str] = &["btf", "raw", "tp"];
/// Of whom connections are accepted.
const PORT: u16 = 907;
const SERVERS: &str = r#"{"local_port":[907]}"#;
/// The server listens for both families, and one client has an address of IPv4 in a socket of IPv6.
const CLIENTS: [(&str, usize); 3] = [("127.0.0.1", 0), ("::1", 1), ("::ffff:127.0.0.1", 0)];

/// Both ends of a connection.
struct Pair {
    client: TcpStream,
    server: TcpStream,
}

impl Pair {
    fn new(listener: &TcpListener, to: impl Into<SocketAddr>) -> Self {
        let client = TcpStream::connect(to.into()).expect("connected");
        let (server, _) = listener.accept().expect("accepted");
        client.set_nodelay(true).expect("a socket");
        server.set_nodelay(true).expect("a socket");
        Self { client, server }
    }

    /// A byte to the server, and one back.
    fn exchange(&mut self) {
        let mut byte = [7];
        self.client.write_all(&byte).expect("sent");
        self.server.read_exact(&mut byte).expect("received");
        self.server.write_all(&byte).expect("sent");
        self.client.read_exact(&mut byte).expect("received");
    }
}

/// What the kernel knows of a socket: its smoothed round trip, and the segments that it received.
fn info(socket: &TcpStream) -> (u64, u64) {
    const RTT: usize = 68;
    const SEGS_IN: usize = 140;
    let (mut info, mut len) = ([0u8; 256], 256);
    // SAFETY: the kernel writes within the length that it is told.
    let got = unsafe {
        let (level, name) = (libc::IPPROTO_TCP, libc::TCP_INFO);
        libc::getsockopt(socket.as_raw_fd(), level, name, info.as_mut_ptr().cast(), &raw mut len)
    };
    assert!(got == 0 && len as usize >= SEGS_IN + 4, "{}", std::io::Error::last_os_error());
    let number = |at: usize| u32::from_ne_bytes(info[at..at + 4].try_into().expect("four bytes"));
    (number(RTT).into(), number(SEGS_IN).into())
}

/// Does something in a network namespace of its own, with a listener for both families.
fn with_listener(act: impl FnOnce(&TcpListener) + Send) {
    let outcome = within(|| act(&TcpListener::bind(("::", PORT)).expect("nobody else is here")));
    if let Err(error) = outcome {
        println!("SKIPPED: no network namespace: {error}");
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn wait_until(is_so: impl Fn() -> bool, otherwise: &str) {
    let begin = Instant::now();
    while !is_so() {
        assert!(begin.elapsed() < Duration::from_secs(10), "{otherwise}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn rows<'a>(lines: &'a [Line], table: &str) -> Vec<&'a Line> {
    lines.iter().filter(|l| l.table == table).collect()
}

/// A field of both families.
fn of(lines: &[Line], field: &str) -> [u64; 2] {
    let family = |name| {
        let mut rows = rows(lines, "tcprtt").into_iter();
        rows.find(|l| l.tag("family") == name).expect("a row").u64(field)
    };
    [family("ipv4"), family("ipv6")]
}

fn lost(lines: &[Line], field: &str) -> u64 {
    rows(lines, "tcprtt_lost")[0].u64(field)
}

/// Some exchanges between two ticks, as the server's socket has seen them.
struct Seen {
    lines: Vec<Line>,
    /// How many segments the tool may have counted: each tick lies between two readings.
    segments: RangeInclusive<u64>,
    /// The value at each of them, where it is known: one segment meets what the one before it left.
    values: Vec<u64>,
}

fn exchanges(tool: &mut Tool, pair: &mut Pair, n: usize) -> Seen {
    let segments = |pair: &Pair| info(&pair.server).1;
    let outer = segments(pair);
    tool.call().expect("a tick");
    let (mut rtt, inner) = info(&pair.server);
    let (mut values, mut received) = (Vec::new(), inner);
    for _ in 0..n {
        pair.exchange();
        let (after, now) = info(&pair.server);
        if now == received + 1 {
            values.push(rtt);
        }
        (rtt, received) = (after, now);
    }
    let end = segments(pair);
    let lines = tool.call().expect("a tick");
    Seen { lines, segments: end - inner..=segments(pair) - outer, values }
}

impl Seen {
    /// Checks that all are counted in one family, but for those that the kernel missed.
    fn check(&self, what: &str, family: usize) -> u64 {
        let counts = of(&self.lines, "count");
        let (count, missed) = (counts[family], missed(&self.lines));
        println!("{what}: {count} of {:?}, {missed} missed", self.segments);
        assert_eq!(counts[1 - family], 0, "{what}");
        assert!(count <= *self.segments.end(), "{what}");
        assert!(count + missed >= *self.segments.start(), "{what}");
        count
    }
}

#[test]
fn every_way_counts_each_segment_with_its_value_by_family() {
    let _alone = alone();
    for (kind, mut tool) in ways::<Running<Tcprtt>>(only_kind, WAYS, SERVERS) {
        with_listener(|listener| {
            for (address, family) in CLIENTS {
                let mut pair = Pair::new(listener, (ip(address), PORT));
                let seen = exchanges(&mut tool, &mut pair, 200);
                let what = format!("{kind} {address}");
                let count = seen.check(&what, family);
                if count == seen.values.len() as u64 && seen.segments == (count..=count) {
                    let sum: u64 = seen.values.iter().sum();
                    let most = seen.values.iter().max().copied();
                    assert_eq!(of(&seen.lines, "sum_us")[family], sum, "{what}");
                    assert_eq!(Some(of(&seen.lines, "max_us")[family]), most, "{what}");
                    println!("{what}: their sum is {sum} us");
                }
                assert_eq!(lost(&seen.lines, "unchanged"), 0, "{what}");
            }
        });
    }
}

/// Each way knows a connection by something else.
#[test]
fn a_value_that_stays_is_counted_once() {
    let _alone = alone();
    let options = r#"{"local_port":[907],"changes":true}"#;
    for (kind, mut tool) in ways::<Running<Tcprtt>>(only_kind, WAYS, options) {
        with_listener(|listener| {
            let mut pair = Pair::new(listener, (ip("127.0.0.1"), PORT));
            pair.exchange(); // its value is known from here on
            let seen = exchanges(&mut tool, &mut pair, 200);
            let [counted, _] = of(&seen.lines, "count");
            let unchanged = lost(&seen.lines, "unchanged");
            println!("{kind}: {counted} changes, {unchanged} unchanged, of {:?}", seen.segments);
            assert!(
                seen.segments.contains(&(counted + unchanged)) || missed(&seen.lines) > 0,
                "{kind}"
            );
            let changes = seen.values.windows(2).filter(|pair| pair[0] != pair[1]).count() as u64;
            if missed(&seen.lines) == 0 && seen.segments == (200..=200) && seen.values.len() == 200
            {
                // The first may be another one than at the exchange before.
                assert!((changes..=changes + 1).contains(&counted), "{kind}: {changes}");
            }
            assert_eq!(keys("values"), 1, "{kind}");
            drop(pair);
            // A socket at the memory of a former one begins anew, and no former one is remembered.
            for _ in 0..50 {
                Pair::new(listener, (ip("127.0.0.1"), PORT)).exchange();
            }
            wait_until(|| keys("values") == 0, "a connection that is gone is remembered");
            let lines = tool.call().expect("a tick");
            assert!(of(&lines, "count")[0] + missed(&lines) >= 50, "{kind}");
            assert_eq!(lost(&lines, "dropped"), 0, "{kind}");
        });
    }
}

/// The values of a connection without one: a cookie in its place knows nothing of when it was sent.
#[test]
fn connections_without_a_measurement_are_counted_apart() {
    let _alone = alone();
    for (kind, mut tool) in ways::<Running<Tcprtt>>(only_kind, WAYS, SERVERS) {
        with_listener(|listener| {
            sysctl("ipv4/tcp_timestamps", "0");
            sysctl("ipv4/tcp_syncookies", "2");
            let mut pair = Pair::new(listener, (ip("127.0.0.1"), PORT));
            if info(&pair.server).0 != 0 {
                return println!("SKIPPED: this kernel measured at the handshake");
            }
            tool.call().expect("a tick");
            let before = info(&pair.server).1;
            for _ in 0..10 {
                pair.client.write_all(&[7]).expect("sent");
                pair.server.read_exact(&mut [0]).expect("received");
            }
            let after = info(&pair.server).1;
            let lines = tool.call().expect("a tick");
            assert_eq!(of(&lines, "count"), [0, 0], "{kind}");
            assert_eq!(
                lost(&lines, "unmeasured") + missed(&lines),
                after - before + missed(&lines)
            );
            assert!(after - before >= 10, "{kind}");
            pair.exchange();
            pair.exchange();
            let lines = tool.call().expect("a tick");
            assert!(of(&lines, "count")[0] + missed(&lines) >= 1, "{kind}: {lines:?}");
        });
    }
}

#[test]
fn round_trips_of_a_link_of_20_ms_lie_at_20_ms() {
    let _alone = alone();
    let options = r#"{"remote_port":[907],"by":"remote_prefix"}"#;
    for (kind, mut tool) in ways::<Running<Tcprtt>>(only_kind, WAYS, options) {
        let outcome = within(|| {
            let _link = match Link::new(Duration::from_millis(10)) {
                Ok(link) => link,
                Err(error) => return println!("SKIPPED: no packet sockets: {error}"),
            };
            let listener = TcpListener::bind((near(2), PORT)).expect("a host of ours");
            // The link takes its 20 ms, and longer where it gets its CPU late: the client's clock says how long.
            let begin = Instant::now();
            let mut pair = Pair::new(&listener, (far(2), PORT));
            let mut took = vec![begin.elapsed().as_micros() as u64];
            let mut exchange = |pair: &mut Pair| {
                let begin = Instant::now();
                pair.exchange();
                took.push(begin.elapsed().as_micros() as u64);
            };
            // What is smoothed forgets the handshake, which it began with.
            (0..20).for_each(|_| exchange(&mut pair));
            tool.call().expect("a tick");
            (0..40).for_each(|_| exchange(&mut pair));
            let mean = took.iter().sum::<u64>() / took.len() as u64;
            took.sort_unstable();
            let lines = tool.call().expect("a tick");
            let family = rows(&lines, "tcprtt")[0];
            let prefix = rows(&lines, "tcprtt_prefix");
            let row = prefix.iter().find(|l| l.tag("prefix") == "198.18.2.0/24").expect("a row");
            let [least, p50, most] = [0, 30, 60].map(|i| took[i]);
            println!(
                "{kind}: the client: {least} to {most} us, p50 {p50}, mean {mean}: {family:?}"
            );
            for row in [family, *row] {
                let count = row.u64("count");
                assert!(count + missed(&lines) >= 40, "{kind}");
                for quantile in ["p50_us", "p90_us"] {
                    let value = row.u64(quantile);
                    // A quantile is known within an eighth.
                    assert!(
                        (17_500..=most * 9 / 8).contains(&value),
                        "{kind}: {quantile} is {value}"
                    );
                }
                let smoothed = row.u64("sum_us") / count;
                assert!((20_000..=mean * 5 / 4).contains(&smoothed), "{kind}: {smoothed}");
            }
            assert_eq!(row.tag("side"), "remote");
        });
        if let Err(error) = outcome {
            println!("SKIPPED: no network namespace: {error}");
        }
    }
}

#[test]
fn rows_by_port_and_network_have_together_all_segments() {
    const SERVERS: u16 = 25;
    let _alone = alone();
    for (by, table, tag, expected) in [
        ("local_port", "tcprtt_port", "port", "907"),
        ("remote_port", "tcprtt_port", "port", "907"),
        ("local_prefix", "tcprtt_prefix", "prefix", "127.0.0.0/24"),
        ("remote_prefix", "tcprtt_prefix", "prefix", "::/48"),
    ] {
        let Some(mut tool) = Tool::init_or_skip(&format!(r#"{{"by":"{by}"}}"#)) else { return };
        with_listener(|listener| {
            tool.call().expect("a tick");
            let to = if by == "remote_prefix" { "::1" } else { "127.0.0.1" };
            let mut pair = Pair::new(listener, (ip(to), PORT));
            (0..500).for_each(|_| pair.exchange());
            let more: Vec<_> = (0..SERVERS)
                .map(|i| TcpListener::bind(("127.0.0.1", 910 + i)).expect("nobody else is here"))
                .collect();
            for listener in &more {
                let at = listener.local_addr().expect("its address");
                Pair::new(listener, at).exchange();
            }
            let lines = tool.call().expect("a tick");
            let rows = rows(&lines, table);
            let sum: u64 = rows.iter().map(|l| l.u64("count")).sum();
            let dropped = lost(&lines, "dropped_groups");
            assert_eq!(sum + dropped, of(&lines, "count").iter().sum::<u64>(), "{by}");
            let row = rows
                .iter()
                .find(|l| l.tag(tag) == expected)
                .unwrap_or_else(|| panic!("{by}: {rows:?}"));
            assert!(row.u64("count") + missed(&lines) >= 500, "{by}: {row:?}");
            assert_eq!(row.tag("side"), by.split('_').next().expect("a word"));
            assert!(rows.len() <= 21 && rows.iter().any(|l| l.tag(tag) == "other"), "{by}");
            if by.ends_with("port") {
                // The ports of one end are more than have rows.
                assert_eq!(rows.len(), 21, "{by}");
            }
        });
    }
}

#[test]
fn too_many_ports_are_refused() {
    let ports = vec!["7"; 17].join(",");
    let error =
        Tool::init(&format!(r#"{{"local_port":[{ports}]}}"#)).err().expect("too many").to_string();
    assert!(error.contains("local_port: 17 ports, at most 16"), "{error}");
    assert!(Tool::init(r#"{"remote_port":[0]}"#).is_err());
}

#[test]
fn at_default_options_the_maps_are_small_and_each_table_has_a_line() {
    let _alone = alone();
    let before = map_bytes();
    let Some(mut tool) = Tool::init_or_skip("{}") else { return };
    let (bytes, cpus) = (map_bytes() - before, u64::from(possible_cpus()));
    println!("{bytes} bytes of maps on {cpus} CPUs");
    assert!(bytes * 2 <= cpus * 512 * 1024, "0.5 MiB on two CPUs");
    let lines = tool.call().expect("a tick");
    let rows = |table: &str| lines.iter().filter(|l| l.table == table).count();
    assert_eq!((rows("tcprtt"), rows("tcprtt_lost"), rows("tcprtt_port")), (2, 1, 0));
}
