//! Two outputs, one of them dead: the other one gets everything, on time.

use std::io::{PipeWriter, pipe};
use std::os::unix::net::UnixListener;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use system_tests::contract::{Contract, V2};
use system_tests::database::Database;
use system_tests::faults::{Mode, Proxy};
use system_tests::load::{Load, assert_all, pushed};
use system_tests::port::Port;
use system_tests::running::Home;

/// Lines of a tick have the time of the tick, and milliseconds after it that tell which tick it was.
const LOAD: Load =
    Load { interval: Duration::from_secs(1), lines: 1000, total: 0, series: 1, odd: 0 };
const TICKS: u64 = 5;
/// An interval and the time that lines may wait for others.
const LATE: Duration = Duration::from_millis(1000 + 200);
/// It is soon full, so the dead output is past its bounds too.
const QUEUE: &str = "queue_bytes = 262144\n";

/// The time of a tick, and how long after it each of its lines came.
type Arrivals = Arc<Mutex<Vec<Duration>>>;

/// So often it is measured, where the machine has other things to do.
const ATTEMPTS: u32 = 3;

/// Runs collectors whose first output is dead, until the lines of one are on time at the other output.
fn on_time(dead: &str, mut run: impl FnMut() -> Duration) {
    let mut late = Vec::new();
    for _ in 0..ATTEMPTS {
        match run() {
            latest if latest <= LATE => {
                let latest = latest.as_secs_f64();
                return println!(
                    "TABLE: beside {dead}: lines {latest:.2} s after their tick at most"
                );
            }
            latest => late.push(latest),
        }
    }
    panic!("lines came {late:?} after their tick");
}

/// Runs a collector whose first output is dead: how long after its tick the latest line came.
fn beside(output: &str, home: &Home, stdout: Option<PipeWriter>) -> Duration {
    let server = Contract::v2(V2::default());
    let arrivals = Arrivals::default();
    let seen = Arc::clone(&arrivals);
    server.refuse(move |line| {
        seen.lock().expect("no panic").extend(late(line));
        None
    });
    let alive = Database::Influxdb2(server);
    let keys = "batch_time = \"200ms\"\n";
    let alive_output = alive.output(home, alive.address(), keys);
    let output = format!("{output}{QUEUE}");
    let config = LOAD.config(home, &[&output, &alive_output]);
    let mut collector = home.start_with(&config, |command| {
        stdout.map(|pipe| command.stdout(pipe));
    });
    collector.wait_until("ticks", |_| pushed(home) >= TICKS * LOAD.lines);
    collector.terminate();
    let ended = collector.end();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);

    let made = pushed(home);
    let books = ended.books();
    assert!(books.len() == 2 && books.values().all(|books| books.balance()), "{books:?}");
    let of_alive =
        books.iter().find(|(name, _)| name.starts_with("influxdb2")).expect("its books").1;
    assert_eq!((of_alive.delivered, of_alive.waiting), (of_alive.produced, 0), "{}", ended.stderr);
    let of_dead =
        books.iter().find(|(name, _)| !name.starts_with("influxdb2")).expect("its books").1;
    // What lies in a pipe counts as delivered.
    assert!(of_dead.delivered < of_dead.produced / 2, "is it dead? {}", ended.stderr);
    assert_all(alive.stored(), 1..=made);

    let arrivals = arrivals.lock().expect("no panic");
    *arrivals.iter().max().expect("lines")
}

/// How long after its tick a line comes now.
fn late(line: &str) -> Option<Duration> {
    let rest = line.strip_prefix("stream,")?;
    let (_, value) = rest.split_once("value=")?;
    let number: u64 = value.split_once('i')?.0.parse().ok()?;
    let after = Duration::from_millis((number - 1) % LOAD.lines);
    let made = Duration::from_nanos(line.rsplit_once(' ')?.1.parse().ok()?);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
    Some(now.saturating_sub(made - after))
}

#[test]
fn an_output_is_on_time_beside_a_server_that_is_down() {
    let port = Port::reserve();
    let output = format!(
        "[[output]]\nkind = \"influxdb1\"\nurl = \"http://{}\"\ndatabase = \"telegraf\"\n",
        port.address()
    );
    on_time("a server that is down", || beside(&output, &Home::new(), None));
}

#[test]
fn an_output_is_on_time_beside_a_server_that_never_answers() {
    let proxy = Proxy::tcp(Port::reserve().address());
    proxy.set(Mode::Silent);
    let output = format!("[[output]]\nkind = \"victoriametrics\"\nurl = \"{}\"\n", proxy.url());
    on_time("a server that never answers", || beside(&output, &Home::new(), None));
}

#[test]
fn an_output_is_on_time_beside_a_socket_that_nobody_reads() {
    on_time("a socket that nobody reads", || {
        let home = Home::new();
        let path = home.path("socket");
        let _listener = UnixListener::bind(&path).expect("a socket");
        let output = format!("[[output]]\nkind = \"unix\"\npath = \"{}\"\n", path.display());
        beside(&output, &home, None)
    });
}

#[test]
fn an_output_is_on_time_beside_a_pipe_that_nobody_reads() {
    on_time("a pipe that nobody reads", || {
        let (_reader, writer) = pipe().expect("a pipe");
        beside("[[output]]\nkind = \"stdout\"\n", &Home::new(), Some(writer))
    });
}
