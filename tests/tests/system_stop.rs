//! The collector is told to stop: whatever the server does, it ends in time, and no line is lost that could
//! be kept.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Write, pipe};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;
use system_tests::Stored;
use system_tests::arrived::numbers_by_run;
use system_tests::database::Database;
use system_tests::faults::{Mode, Proxy};
use system_tests::readers::Reader;
use system_tests::running::{Books, Ended, Home, Running};
use system_tests::wait;

/// How long the end may take, on a machine that has nothing else to do.
const LIMIT: Duration = Duration::from_secs(5);
/// So often it may be measured again on one that has.
const ATTEMPTS: u32 = 3;
const SERIES: u64 = 10;
/// Lines of a tick.
const LINES: u64 = 100;

/// What the collector writes to.
enum Receiver {
    Database(Database),
    Tcp(Reader),
    Unix(Reader, PathBuf),
}

/// How it is when the collector is told to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Up,
    /// Connecting is refused.
    Down,
    /// It accepts connections, and then nothing.
    Hung,
}

impl Receiver {
    fn kind(&self) -> &'static str {
        match self {
            Self::Database(database) => database.kind(),
            Self::Tcp(_) => "tcp",
            Self::Unix(..) => "unix",
        }
    }

    fn stored(&self) -> &dyn Stored {
        match self {
            Self::Database(database) => database.stored(),
            Self::Tcp(reader) | Self::Unix(reader, _) => reader,
        }
    }

    /// A proxy in front of it, and the section of an output that goes there.
    fn proxy(&self, home: &Home, state: State) -> (Proxy, String) {
        let here = home.path("socket");
        let proxy = match self {
            Self::Database(database) => Proxy::tcp(database.address()),
            Self::Tcp(reader) => Proxy::tcp(reader.address()),
            Self::Unix(_, path) => Proxy::unix(here.clone(), path.clone()),
        };
        proxy.set(match (state, self) {
            (State::Up, _) => Mode::Pass,
            (State::Down, _) => Mode::Closed,
            (State::Hung, Self::Database(_)) => Mode::Silent,
            (State::Hung, _) => Mode::Slow { bytes_per_second: 0 },
        });
        let output = match self {
            Self::Database(database) => {
                database.output(home, proxy.address(), "batch_time = \"10ms\"")
            }
            Self::Tcp(_) => {
                format!("[[output]]\nkind = \"tcp\"\naddress = \"{}\"\n", proxy.address())
            }
            Self::Unix(..) => {
                format!("[[output]]\nkind = \"unix\"\npath = \"{}\"\n", here.display())
            }
        };
        (proxy, output)
    }
}

/// A place for one collector at a time, in front of a receiver in some state.
struct Scene<'a> {
    receiver: &'a Receiver,
    state: State,
    home: Home,
    proxy: Proxy,
    output: String,
}

impl<'a> Scene<'a> {
    fn new(receiver: &'a Receiver, state: State, spool: bool) -> Self {
        let home = Home::new();
        let (proxy, mut output) = receiver.proxy(&home, state);
        if spool {
            output += &format!("spool = \"{}\"\n", home.path("spool").display());
        }
        Self { receiver, state, home, proxy, output }
    }

    /// The configuration, with a name for the run that no other run has.
    fn config(&self) -> (String, String) {
        static RUNS: AtomicU32 = AtomicU32::new(0);
        let run = RUNS.fetch_add(1, Ordering::Relaxed).to_string();
        let config = format!(
            "interval = \"50ms\"\n[plugin.stream]\nlines = {LINES}\nseries = {SERIES}\nrun = \"{run}\"\n\
             progress = \"{}\"\n{}",
            self.home.path(&run).display(),
            self.output
        );
        (run, config)
    }

    /// The number of the last line that a run has pushed.
    fn pushed(&self, run: &str) -> u64 {
        let progress = std::fs::read_to_string(self.home.path(run)).unwrap_or_default();
        progress.parse().unwrap_or(0)
    }

    /// Until the collector has met the receiver as it is, and has gone on.
    fn wait(&self, collector: &mut Running, run: &str) {
        match (self.state, self.receiver) {
            (State::Down, _) => collector.wait_for("its lines wait"),
            (State::Hung, Receiver::Database(_)) => {
                collector.wait_until("a request without an answer", |_| self.proxy.hits() > 0);
            }
            (State::Hung, _) => collector.wait_for("its reader has read nothing"),
            (State::Up, _) => {}
        }
        let more = self.pushed(run) + 5 * LINES;
        collector.wait_until("lines", |_| self.pushed(run) >= more);
    }

    /// Checks how it ended, and that its last tick came after so many lines.
    fn judge(&self, ended: &Ended, run: &str, before: u64) -> Books {
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        assert!(self.pushed(run) >= before + LINES, "no last tick: {}", ended.stderr);
        let books = ended.only_books();
        assert!(books.balance() && books.produced > self.pushed(run), "{}", ended.stderr);
        books
    }

    /// Checks that the receiver has every line of a run, or gets it from the proxy.
    fn assert_stored(&self, run: &str) {
        let all: BTreeSet<_> = (1..=self.pushed(run)).collect();
        wait::until(format!("{} lines in {}", all.len(), self.receiver.kind()), || {
            let mut runs = numbers_by_run(&self.receiver.stored().lines("stream"), SERIES);
            runs.remove(run).unwrap_or_default() == all
        });
    }

    /// A collector that finds what another has left in its spool, and delivers it.
    fn recover(&self, left: u64) {
        self.proxy.set(Mode::Pass);
        let (run, config) = self.config();
        let mut collector = self.home.start(&config);
        collector.wait_until("lines", |_| self.pushed(&run) > 0);
        let before = self.pushed(&run);
        collector.terminate();
        let ended = collector.end();
        let books = self.judge(&ended, &run, before);
        assert_eq!((books.recovered, books.waiting), (left, 0), "{}", ended.stderr);
        assert!(books.dropped.is_empty(), "{books:?}");
        self.assert_stored(&run);
    }
}

/// Stops a collector by SIGTERM, and says how long that took.
fn stop(receiver: &Receiver, state: State, spool: bool) -> Duration {
    let scene = Scene::new(receiver, state, spool);
    let (run, config) = scene.config();
    let mut collector = scene.home.start(&config);
    scene.wait(&mut collector, &run);
    let before = scene.pushed(&run);
    collector.terminate();
    let ended = collector.end();
    let books = scene.judge(&ended, &run, before);
    let context = format!("{} {state:?}, spool: {spool}: {}", receiver.kind(), ended.stderr);
    // Over TCP the other kernel takes lines that its process has not read: they have arrived.
    let hung_tcp = state == State::Hung && receiver.kind() == "tcp";
    let kept = books.produced - if hung_tcp { books.delivered } else { 0 };
    match (state, spool) {
        (State::Up, _) => {
            assert_eq!(books.delivered, books.produced, "{context}");
            scene.assert_stored(&run);
        }
        (_, true) => {
            assert_eq!(books.waiting, kept, "{context}");
            scene.recover(books.waiting);
            scene.assert_stored(&run);
        }
        (_, false) => {
            let lost = books.dropped.get("error").copied().unwrap_or_default();
            assert_eq!(lost, kept, "{context}");
        }
    }
    ended.took
}

/// The same, as often as it takes to find the machine idle.
fn stop_in_time(receiver: &Receiver, state: State, spool: bool) -> Duration {
    let took = (0..ATTEMPTS).map(|_| stop(receiver, state, spool)).find(|took| *took < LIMIT);
    took.unwrap_or_else(|| panic!("{} {state:?}, spool: {spool}: too long", receiver.kind()))
}

fn stop_in_all_states(receiver: &Receiver) {
    let mut row = format!("TABLE: from SIGTERM to the end, {}:", receiver.kind());
    let cell = |state, spool| move || (spool, stop_in_time(receiver, state, spool));
    for state in [State::Up, State::Down, State::Hung] {
        let times: BTreeMap<_, _> = thread::scope(|scope| {
            let both = [false, true].map(|spool| scope.spawn(cell(state, spool)));
            both.into_iter().map(|thread| thread.join().expect("no panic")).collect()
        });
        let seconds = |spool| times[&spool].as_secs_f64();
        row += &format!(" {state:?} {:.2} s, with a spool {:.2} s;", seconds(false), seconds(true));
    }
    println!("{}", row.trim_end_matches(';'));
}

#[test]
fn sigterm_ends_it_in_time_and_the_last_tick_is_delivered_spooled_or_counted() {
    let folder = tempfile::tempdir().expect("a folder");
    let socket = folder.path().join("socket");
    let receivers = [
        Receiver::Database(Database::influxdb1()),
        Receiver::Database(Database::influxdb2()),
        Receiver::Database(Database::influxdb3()),
        Receiver::Database(Database::victoriametrics()),
        Receiver::Tcp(Reader::tcp()),
        Receiver::Unix(Reader::unix(socket.clone()), socket),
    ];
    thread::scope(|scope| {
        for receiver in &receivers {
            scope.spawn(move || stop_in_all_states(receiver));
        }
    });
}

#[test]
fn the_second_signal_ends_it_at_once() {
    let receiver = Receiver::Database(Database::influxdb2());
    let scene = Scene::new(&receiver, State::Hung, false);
    let (run, config) = scene.config();
    let mut collector = scene.home.start(&config);
    scene.wait(&mut collector, &run);
    collector.terminate();
    collector.wait_for("ending: SIGTERM");
    collector.terminate();
    let ended = collector.end();
    assert_eq!(ended.code, Some(128 + 15), "{}", ended.stderr);
    assert!(ended.took < LIMIT, "{:?}", ended.took);
    println!("TABLE: from a second SIGTERM to the end: {:.2} s", ended.took.as_secs_f64());
}

#[test]
fn the_end_of_standard_input_is_an_end_like_any_other() {
    let receiver = Receiver::Database(Database::influxdb2());
    for state in [State::Up, State::Down] {
        let scene = Scene::new(&receiver, state, true);
        let (run, config) = scene.config();
        let (reader, mut writer) = pipe().expect("a pipe");
        let mut collector = scene.home.start_with(&config, |command| {
            command.arg("--stop-on-stdin-close").stdin(reader);
        });
        writer.write_all(b"\n").expect("a newline, as Telegraf sends it");
        scene.wait(&mut collector, &run);
        let before = scene.pushed(&run);
        drop(writer);
        let ended = collector.end();
        let books = scene.judge(&ended, &run, before);
        assert!(ended.stderr.contains("ending: standard input is closed"), "{}", ended.stderr);
        assert!(books.dropped.is_empty(), "{books:?}");
        match state {
            State::Up => assert_eq!(books.delivered, books.produced, "{books:?}"),
            _ => {
                assert_eq!(books.waiting, books.produced, "{books:?}");
                scene.recover(books.waiting);
            }
        }
        scene.assert_stored(&run);
    }
}
