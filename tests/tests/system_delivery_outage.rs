//! Outages under load, one after the other, that memory or the spool can bear: no line is lost, and none
//! is there twice.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};
use system_tests::Stored;
use system_tests::database::Database;
use system_tests::faults::{Mode, Proxy};
use system_tests::load::{Load, assert_all, assert_all_of, pushed, whole};
use system_tests::running::{Home, Running};
use system_tests::servers::Victoria;
use system_tests::wait;

/// How long each fault lasts, counted in lines that are made meanwhile.
const HOLD: Duration = Duration::from_secs(1);
/// All that is made finds room, and a request that is not answered is given up soon.
const KEYS: &str = "queue_bytes = 268435456\ntimeout = \"1s\"\n";

const FAULTS: [Mode; 5] = [
    Mode::Closed,
    Mode::Silent,
    // Within the status line: the request was served, and nobody has heard of it.
    Mode::CutAnswer { after: 20 },
    Mode::Slow { bytes_per_second: 30_000 },
    Mode::ResetRequest { after: 3_000 },
];

/// A collector under load, and what it writes to.
struct Scene {
    home: Home,
    load: Load,
    database: Database,
    proxy: Proxy,
    collector: Running,
}

impl Scene {
    fn new(database: Database, spool: bool) -> Self {
        let (home, proxy) = (Home::new(), Proxy::tcp(database.address()));
        let load = Load::default();
        let spool = match spool {
            true => format!("{KEYS}spool = \"{}\"\n", home.path("spool").display()),
            false => KEYS.to_owned(),
        };
        let output = database.output(&home, proxy.address(), &spool);
        let collector = home.start(&load.config(&home, &[&output]));
        let mut scene = Self { home, load, database, proxy, collector };
        scene.wait_for_all();
        scene
    }

    /// Until all that is made up to now is stored.
    fn wait_for_all(&mut self) {
        let Self { home, database, collector, .. } = self;
        wait::until("the first lines", || pushed(home) > 0);
        let now = pushed(home);
        collector.wait_until("what was made to be stored", |_| database.count() >= now);
    }

    /// Waits until a fault is felt, and for some time more.
    fn bear(&mut self) {
        self.collector.wait_until("the output to fail", is_failing);
        self.hold();
    }

    fn hold(&mut self) {
        let until = pushed(&self.home) + self.load.within(HOLD);
        let Self { home, collector, .. } = self;
        collector.wait_until("the load to go on", |_| pushed(home) >= until);
    }

    /// Waits until it works again and has caught up.
    fn recover(&mut self) {
        self.collector.wait_until("the output to work again", |said| !is_failing(said));
        self.wait_for_all();
    }

    fn faults(&mut self) {
        for mode in FAULTS {
            self.proxy.set(mode);
            let Self { proxy, collector, .. } = self;
            match mode {
                // Perhaps nothing fails.
                Mode::Slow { .. } => self.hold(),
                Mode::Closed => self.bear(),
                _ => {
                    collector.wait_until("the fault to be met", |_| proxy.hits() > 0);
                    self.bear();
                }
            }
            self.proxy.set(Mode::Pass);
            self.recover();
        }
    }

    /// `kill -9` and a new start of the server, under load.
    fn crash(&mut self) {
        self.database.server().kill9();
        self.bear();
        self.database.server().start();
        self.recover();
    }

    /// The books know of no loss, and give back the database with what was made.
    fn end(self, what: &str) -> (Database, u64) {
        self.collector.terminate();
        let ended = self.collector.end();
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        let books = ended.only_books();
        assert!(books.balance() && books.dropped.is_empty(), "{}", ended.stderr);
        assert_eq!((books.delivered, books.waiting), (books.produced, 0), "{}", ended.stderr);
        let made = pushed(&self.home);
        let outages = ended.stderr.matches(WORKS).count();
        println!(
            "TABLE: outages, {what}: {made} lines made and stored in {:.0} s with {outages} outages",
            ended.ran.as_secs_f64()
        );
        (self.database, made)
    }
}

const FAILS: &str = "; its lines wait";
const WORKS: &str = "works again";

fn is_failing(said: &str) -> bool {
    said.rfind(FAILS) > said.rfind(WORKS)
}

#[test]
fn influxdb1_has_every_line_once_after_every_kind_of_outage() {
    let mut scene = Scene::new(Database::influxdb1(), false);
    scene.crash();
    scene.faults();
    let (database, made) = scene.end("influxdb1");
    assert_all(database.stored(), 1..=made);
}

#[test]
fn influxdb1_has_every_line_once_after_every_kind_of_outage_with_a_spool() {
    let mut scene = Scene::new(Database::influxdb1(), true);
    scene.crash();
    scene.faults();
    let (database, made) = scene.end("influxdb1 with a spool");
    assert_all(database.stored(), 1..=made);
}

#[test]
fn victoriametrics_has_every_line_after_every_kind_of_outage() {
    let mut scene = Scene::new(Database::victoriametrics(), false);
    scene.faults();
    // It answers before what it took is on disk, and nobody can know that it lost that when it was killed:
    // so here it gets nothing for some seconds, and writes what it has.
    scene.proxy.set(Mode::Silent);
    scene.bear();
    let Database::Victoriametrics(victoria) = &mut scene.database else { unreachable!() };
    let twice = victoria.count("stream_value") - victoria.numbers("stream", "value").len() as u64;
    victoria.wait_for_disk();
    victoria.server.kill9();
    scene.proxy.set(Mode::Pass);
    scene.hold();
    scene.database.server().start();
    scene.recover();
    assert!(twice > 0, "no request was served without that anybody heard of it");
    let (database, made) = scene.end("victoriametrics");
    let Database::Victoriametrics(victoria) = &database else { unreachable!() };
    let torn = check_points(victoria, made, Load::default().series as i64);
    println!("TABLE: outages, victoriametrics: {twice} points were sent twice, {torn} lines torn");
}

/// Checks that all lines are there with their own time. VictoriaMetrics takes a line that was torn by a reset
/// of the connection for a whole one: how many such points there are, which are no lines of ours.
fn check_points(victoria: &Victoria, made: u64, series: i64) -> usize {
    let samples = victoria.samples("{__name__=\"stream_value\"}").remove("stream_value");
    let points: BTreeSet<(i64, i64)> =
        samples.iter().flatten().map(|sample| (sample.value as i64, sample.time_ms)).collect();
    let (newest, time_ms) = points.last().expect("points");
    let begin_ms = time_ms - (newest - 1) / series;
    let (ours, torn): (Vec<_>, Vec<_>) = points
        .into_iter()
        .partition(|(number, time_ms)| time_ms - (number - 1) / series == begin_ms);
    assert_all_of(&ours.iter().map(|(number, _)| *number).collect::<Vec<_>>(), 1..=made);
    let outputs = victoria.lines("collector_output");
    let failed: u64 = outputs.iter().map(|line| whole(line, "errors")).sum();
    assert!(torn.len() as u64 <= failed, "more torn lines than requests that failed: {torn:?}");
    torn.len()
}

#[test]
fn influxdb2_has_every_line_once_though_it_was_sent_some_twice() {
    contract(Database::influxdb2());
}

#[test]
fn influxdb3_has_every_line_once_though_it_was_sent_some_twice() {
    contract(Database::influxdb3());
}

fn contract(database: Database) {
    let mut scene = Scene::new(database, false);
    scene.faults();
    let (Database::Influxdb2(server) | Database::Influxdb3(server)) = &scene.database else {
        unreachable!()
    };
    let written: usize = server.seen().iter().map(|seen| seen.stored).sum();
    assert!(written > server.points(), "no request was served without that anybody heard of it");
    // A server that says it is busy is an outage too.
    let began = Instant::now();
    server.busy(2, 429, Some("1"));
    server.busy(2, 503, None);
    scene.bear();
    scene.recover();
    assert!(began.elapsed() >= Duration::from_secs(2), "it was asked to wait a second, twice");
    let kind = scene.database.kind();
    let (database, made) = scene.end(kind);
    assert_all(database.stored(), 1..=made);
}
