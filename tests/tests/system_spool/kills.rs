//! `kill -9`, at any moment: the collector starts again, and has lost one tick at most.

use super::{SERIES, Server, load, pushed, records};
use fastrand::Rng;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use system_tests::Stored;
use system_tests::arrived::numbers_by_run;
use system_tests::faults::Mode;
use system_tests::readers::Reader;
use system_tests::running::{Ended, Home, Running};
use system_tests::servers::Influx;
use system_tests::wait;

const LIVES: u32 = 200;
/// Of the server that is killed as well.
const LIVES_OF_INFLUX: u32 = 20;
/// Lines of a tick.
const LINES: u64 = 400;
/// Small, so that segments are: an eighth of it. No output is out of reach for longer than it can bear.
const SPOOL_BYTES: u64 = 4 << 20;
/// From here on the receivers can be reached until all is delivered.
const MUCH: u64 = SPOOL_BYTES / 4;

/// When a collector is killed.
#[derive(Clone, Copy, Debug)]
enum Moment {
    /// While it starts, and finds what is in its spools.
    Starting,
    /// At any time.
    Running,
    /// Just after lines were pushed, which are then on their way to the spool.
    Pushed,
    /// Just after a segment has changed its length: within an append, or a truncation.
    Written,
}

/// A collector with a spool for each output, killed again and again.
struct Lives {
    home: Home,
    rng: Rng,
    interval: &'static str,
    outputs: String,
    spools: Vec<PathBuf>,
    /// Lines that each life has pushed.
    pushed: BTreeMap<String, u64>,
    moments: [u32; 4],
    /// Lives that found a torn record.
    torn: u32,
    began: Instant,
}

impl Lives {
    fn new(home: Home, interval: &'static str, outputs: String, spools: Vec<PathBuf>) -> Self {
        let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = seed.unwrap_or_else(|| fastrand::u64(..));
        println!("SEED={seed}");
        Self {
            home,
            rng: Rng::with_seed(seed),
            interval,
            outputs,
            spools,
            pushed: BTreeMap::new(),
            moments: [0; 4],
            torn: 0,
            began: Instant::now(),
        }
    }

    fn start(&self, run: &str, lines: u64) -> Running {
        let load = load(&self.home, run, &format!("lines = {lines}"));
        let interval = format!("interval = \"{}\"\n", self.interval);
        self.home.start(&(interval + &load + &self.outputs))
    }

    /// One life, with something that happens in its middle.
    fn live(&mut self, run: u32, middle: impl FnOnce(&mut Rng)) {
        let run = run.to_string();
        let mut collector = self.start(&run, LINES);
        let moment = match self.rng.u8(..20) {
            0..2 => Moment::Starting,
            2..10 => Moment::Running,
            10..15 => Moment::Pushed,
            _ => Moment::Written,
        };
        self.moments[moment as usize] += 1;
        if let Moment::Starting = moment {
            self.nap(60_000);
        } else {
            collector.wait_until("the first lines", |_| pushed(&self.home, &run) > 0);
            self.nap(60_000);
            middle(&mut self.rng);
            match moment {
                Moment::Pushed => self.wait_for_change(|lives| pushed(&lives.home, &run)),
                Moment::Written => {
                    let last = self.rng.choice(&self.spools).map(|spool| records::segments(spool));
                    // One file: looking at it is quick enough to find a record half written.
                    let last = last.and_then(|mut segments| segments.pop()).unwrap_or_default();
                    self.wait_for_change(|_| fs::metadata(&last).map_or(0, |file| file.len()));
                }
                _ => self.nap(100_000),
            }
            if let Moment::Pushed = moment {
                self.nap(1_000);
            }
        }
        let ended = collector.kill9();
        self.judge(&ended);
        self.pushed.insert(run.clone(), pushed(&self.home, &run));
    }

    /// For up to so many microseconds.
    fn nap(&mut self, most: u64) {
        std::thread::sleep(Duration::from_micros(self.rng.u64(..most)));
    }

    /// Until a number changes, which it may not do.
    fn wait_for_change(&self, number: impl Fn(&Self) -> u64) {
        let (before, since) = (number(self), Instant::now());
        while number(self) == before && since.elapsed() < Duration::from_millis(500) {
            std::hint::spin_loop();
        }
    }

    fn judge(&mut self, ended: &Ended) {
        assert_eq!(ended.code, None, "it ended by itself\n{}", ended.stderr);
        for words in ["panic", "damaged", "cannot be", "dropped"] {
            assert!(!ended.stderr.contains(words), "{words}\n{}", ended.stderr);
        }
        self.torn += u32::from(ended.stderr.contains("torn, the last"));
    }

    /// A last collector, which delivers what is left, and more than once if that takes longer than an end.
    fn drain(&self) {
        let mut run = 0;
        wait::until("the spools to be empty", || {
            run += 1;
            let run = format!("last{run}");
            let mut collector = self.start(&run, 1);
            collector.wait_until("lines", |_| pushed(&self.home, &run) > 0);
            collector.terminate();
            let ended = collector.end();
            assert_eq!(ended.code, Some(0), "{}", ended.stderr);
            let books = ended.books();
            let exact = books.values().all(|books| books.balance() && books.dropped.is_empty());
            assert!(exact && books.len() == self.spools.len(), "{}", ended.stderr);
            books.values().all(|books| books.waiting == 0)
        });
    }

    /// Checks what arrived at one of the receivers.
    fn check(&self, receiver: &str, stored: &dyn Stored) {
        let arrived = numbers_by_run(&stored.lines("stream"), SERIES);
        let mut lost = BTreeMap::<u64, u32>::new();
        for (run, &pushed) in &self.pushed {
            let nothing = BTreeSet::new();
            let numbers = arrived.get(run).unwrap_or(&nothing);
            let count = numbers.len() as u64;
            assert!(count <= pushed, "{receiver}: lines of life {run} that were not pushed");
            let whole = numbers.last().is_none_or(|last| *last == count);
            assert!(whole, "{receiver}: a gap in life {run}: {count} of {pushed}");
            *lost.entry((pushed - count).div_ceil(LINES)).or_default() += 1;
        }
        let mut row = format!("TABLE: kill -9, {receiver}: {} lives", self.pushed.len());
        for (ticks, lives) in &lost {
            let _ = write!(row, ", {lives} lost {ticks} ticks");
        }
        let [starting, running, after_push, within_write] = self.moments;
        println!(
            "{row}; killed {starting} times at the start, {running} at any time, {after_push} after \
             a push, {within_write} at a write; {} torn records; {:.0} s",
            self.torn,
            self.began.elapsed().as_secs_f64()
        );
        // Such a tick is short. Sometimes the machine does not let a thread run for as long, and the tick
        // before the last one is still in memory.
        let more: u32 = lost.range(2..).map(|(_, lives)| lives).sum();
        let most = lost.last_key_value().map_or(0, |(ticks, _)| *ticks);
        let exceptions = 1 + self.pushed.len() as u32 / 50;
        assert!(more <= exceptions && most <= 3, "{receiver}: {lost:?} lives by lost ticks");
    }
}

/// How long a receiver stays as it is.
#[derive(Default)]
struct Weather {
    left: u32,
}

impl Weather {
    /// Whether it changes before this life, and then whether to the good.
    fn change(&mut self, backlog: u64, rng: &mut Rng) -> Option<bool> {
        if self.left > 0 {
            self.left -= 1;
            return None;
        }
        self.left = rng.u32(..4);
        Some(backlog > MUCH || rng.bool())
    }
}

fn fault(rng: &mut Rng) -> Mode {
    match rng.u8(..5) {
        0 => Mode::Closed,
        1 => Mode::Silent,
        2 => Mode::CutAnswer { after: rng.usize(..60) },
        3 => Mode::ResetRequest { after: rng.usize(..10_000) },
        _ => Mode::Slow { bytes_per_second: 50_000 },
    }
}

#[test]
fn kill_9_costs_one_tick_at_most_and_never_a_start() {
    let home = Home::new();
    let server = Server::out_of_reach();
    let (http_spool, unix_spool, socket) =
        (home.path("http"), home.path("unix"), home.path("socket"));
    let mut reader = Reader::unix(socket.clone());
    let more = format!("spool_bytes = {SPOOL_BYTES}\ntimeout = \"2s\"\nbatch_lines = 1000");
    let outputs = format!(
        "{}[[output]]\nkind = \"unix\"\npath = \"{}\"\nspool = \"{}\"\nspool_bytes = {SPOOL_BYTES}\n",
        server.output(&home, &http_spool, &more),
        socket.display(),
        unix_spool.display()
    );
    let spools = vec![http_spool.clone(), unix_spool.clone()];
    let mut lives = Lives::new(home, "50ms", outputs, spools);
    let (mut of_http, mut of_unix, mut reads) = (Weather::default(), Weather::default(), true);
    for run in 0..LIVES {
        let rng = &mut lives.rng;
        if let Some(good) = of_http.change(records::size(&http_spool), rng) {
            server.proxy.set(if good { Mode::Pass } else { fault(rng) });
        }
        if let Some(good) = of_unix.change(records::size(&unix_spool), rng)
            && good != reads
        {
            if good {
                reader.restart()
            } else {
                reader.kill()
            }
            reads = good;
        }
        lives.live(run, |_| {});
    }
    server.proxy.set(Mode::Pass);
    if !reads {
        reader.restart();
    }
    lives.drain();
    let refused: usize = server.contract.seen().iter().map(|seen| seen.refused).sum();
    assert_eq!(refused, 0, "lines that are none");
    lives.check("influxdb2", &server.contract);
    lives.check("unix", &reader);
}

#[test]
fn kill_9_of_influxdb_too_costs_one_tick_at_most() {
    let (home, mut influx) = (Home::new(), Influx::start());
    let spool = home.path("spool");
    let output = format!(
        "[[output]]\nkind = \"influxdb1\"\nurl = \"{}\"\ndatabase = \"telegraf\"\n\
         batch_time = \"10ms\"\nspool = \"{}\"\n",
        influx.server.url(),
        spool.display()
    );
    // A backlog is synced: the disk may take longer for it than a shorter tick.
    let mut lives = Lives::new(home, "200ms", output, vec![spool]);
    let mut runs = true;
    for run in 0..LIVES_OF_INFLUX {
        lives.live(run, |rng| {
            if runs {
                influx.server.kill9();
            }
            runs = rng.bool();
            if runs {
                influx.server.start();
            }
        });
    }
    if !runs {
        influx.server.start();
    }
    lives.drain();
    lives.check("influxdb 1.6, killed as often", &influx);
}
