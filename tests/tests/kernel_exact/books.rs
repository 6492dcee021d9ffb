//! What a tool said about a known load, tick after tick.

use plugin_testing::cpu::is_guest;
use plugin_testing::{Harness, Line};
use std::time::{Duration, Instant};
use system_tests::calls::Calls;
use system_tests::exact::{Plugin, Way};

pub const KEYS: usize = 4096;
/// Of a run; fewer when they take longer than [`time`], as they do in an emulated machine.
pub const TICKS: usize = 300;
const FEWEST: usize = 30;

/// Sums over the ticks of a run.
#[derive(Default)]
pub struct Books {
    /// Calls, by key.
    pub made: Vec<u64>,
    /// Calls that were counted, by key.
    pub counted: Vec<u64>,
    /// Calls that found no room, in a map or under the collector's cap of lines for one tick.
    pub full: u64,
    /// Calls that the kernel refused for another reason.
    pub busy: u64,
    pub twice: u64,
    pub unmatched: u64,
    pub past: u64,
    /// Programs' runs that the kernel skipped, as far as it says.
    pub missed: u64,
    /// When the lines say that it was.
    pub times: Vec<i64>,
    /// Lines of exact_histogram.
    pub histograms: Vec<Line>,
    /// Ticks that a sleepable program put off.
    pub postponed: u64,
}

/// The longest that a run takes, unless it has had the fewest ticks.
fn time() -> Duration {
    Duration::from_secs(if is_guest() { 1 } else { 2 })
}

/// Lets two threads call at full speed while the tool is read every millisecond.
pub fn run<W: Way>(options: &str, keys: usize, ticks: usize) -> Books {
    let mut tool = Harness::<Plugin<W>>::init(options).expect("the tool attaches");
    let mut books = Books::new();
    let calls = Calls::start(2, keys);
    let (begin, time) = (Instant::now(), time());
    for tick in 0..ticks {
        if tick >= FEWEST && begin.elapsed() > time {
            break;
        }
        books.tick(&mut tool);
    }
    books.made = calls.stop();
    books.end(&mut tool);
    books
}

impl Books {
    pub fn new() -> Self {
        Self { counted: vec![0; KEYS], ..Self::default() }
    }

    /// One tick, a millisecond long at least.
    pub fn tick<W: Way>(&mut self, tool: &mut Harness<Plugin<W>>) {
        let next = Instant::now() + Duration::from_millis(1);
        match tool.call() {
            Ok(lines) => self.enter(lines),
            Err(error) if error.to_string().contains("sleepable") => self.postponed += 1,
            Err(error) => panic!("{error:#}"),
        }
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
    }

    /// Both halves, when nobody calls any more.
    pub fn end<W: Way>(&mut self, tool: &mut Harness<Plugin<W>>) {
        loop {
            let before = self.postponed;
            self.tick(tool);
            self.tick(tool);
            if self.postponed == before {
                break;
            }
        }
        self.full += tool.dropped().full;
    }

    fn enter(&mut self, lines: Vec<Line>) {
        for line in lines {
            match line.table.as_str() {
                "exact" => {
                    if let Ok(key) = line.tag("key").parse::<usize>() {
                        self.counted[key] += line.u64("count");
                    }
                    self.times.push(line.time_ns);
                }
                "exact_dropped" => {
                    self.full += line.u64("full");
                    self.busy += line.u64("busy");
                    self.twice += line.u64("twice");
                    self.unmatched += line.u64("unmatched");
                    self.past += line.u64("past");
                }
                "exact_histogram" => self.histograms.push(line),
                "collector_program" if line.get("missed").is_some() => {
                    self.missed += line.u64("missed");
                }
                _ => {}
            }
        }
    }

    pub fn made(&self) -> u64 {
        self.made.iter().sum()
    }

    pub fn counted(&self) -> u64 {
        self.counted.iter().sum()
    }

    /// Everything that happened is counted, dropped or missed; no key has more than happened; so without
    /// drops and misses every single key is exact.
    pub fn balance(&self) {
        let (kept, dropped) = (self.counted(), self.full + self.busy + self.past);
        println!(
            "{} calls = {kept} counted + {dropped} dropped + {} missed",
            self.made(),
            self.missed
        );
        for (key, made) in self.made.iter().enumerate() {
            assert!(self.counted[key] <= *made, "key {key}: {} of {made}", self.counted[key]);
        }
        assert_eq!(self.made(), kept + dropped + self.missed);
        assert!(kept > 0);
    }

    /// Two lines of a table with equal tags and time would be one point for a database.
    pub fn assert_distinct_times(mut self) {
        let all = self.times.len();
        self.times.sort_unstable();
        self.times.dedup();
        assert_eq!(self.times.len(), all);
    }
}
