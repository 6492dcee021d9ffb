//! Outages that memory or the spool cannot bear: the oldest lines go, and the books, the server and the
//! lines about gaps agree on which, to the line.

use collector::read::Line;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::Duration;
use system_tests::Stored;
use system_tests::database::Database;
use system_tests::faults::{Mode, Proxy};
use system_tests::load::{Load, pushed, whole};
use system_tests::running::{Books, Home};

/// What is lost in each outage, at least.
const LOSS: Duration = Duration::from_secs(1);

/// A second of the load is half a MiB.
const QUEUE: &str = "timeout = \"2s\"\nqueue_bytes = 524288\n";
const SPOOL: &str = "spool_bytes = 1048576\n";

/// Two outages past the bounds. What was made is known by another output, a file, that loses nothing.
fn outages(database: &Database, spool: bool) {
    let (home, proxy) = (Home::new(), Proxy::tcp(database.address()));
    let load = Load::default();
    let truth = home.path("lines");
    let file = format!("[[output]]\nkind = \"file\"\npath = \"{}\"\n", truth.display());
    let keys = match spool {
        true => format!("{QUEUE}{SPOOL}spool = \"{}\"\n", home.path("spool").display()),
        false => QUEUE.to_owned(),
    };
    let output = database.output(&home, proxy.address(), &keys);
    let mut collector = home.start(&load.config(&home, &[&file, &output]));
    let what = format!("{}{}", database.kind(), if spool { " with a spool" } else { "" });
    for mode in [Mode::Closed, Mode::Silent] {
        let before = pushed(&home);
        collector.wait_until("lines to arrive", |_| database.count() > before / 2);
        proxy.set(mode);
        // Half a second on its way, what memory holds, what the spool holds, and what is to be lost.
        let bear = Duration::from_secs(if spool { 4 } else { 2 }) + LOSS;
        let until = pushed(&home) + load.within(bear);
        collector.wait_until("the load to go on", |_| pushed(&home) >= until);
        proxy.set(Mode::Pass);
        let now = pushed(&home);
        collector.wait_until("the newest lines to arrive", |_| newest(database) > now);
    }
    collector.terminate();
    let ended = collector.end();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);

    let all = ended.books();
    let (files, mut others): (Vec<_>, Vec<_>) =
        all.into_iter().partition(|(name, _)| name.starts_with("file:"));
    let (of_file, (name, books)) = (&files[0].1, others.pop().expect("the database's books"));
    assert!(books.balance() && books.waiting == 0, "{}", ended.stderr);
    assert_eq!(of_file.delivered, of_file.produced);
    let truth = fs::read(truth).expect("the file");
    let gaps: Vec<Gap> = database.stored().lines("collector_gap").iter().map(Gap::of).collect();
    assert!(gaps.iter().all(|gap| gap.output == name), "{gaps:?}");
    let lost = Lost::new(&truth, database.stored());
    lost.check(&gaps, &books, &load);
    // What it was told beyond what was made is about the gaps.
    assert_eq!(books.produced, of_file.produced + gaps.len() as u64);
    println!(
        "TABLE: past the bounds, {what}: {} lines made, {} dropped ({}), {} gaps told, {:.0} s",
        books.produced,
        books.dropped.values().sum::<u64>(),
        books.dropped.keys().cloned().collect::<Vec<_>>().join(", "),
        gaps.len(),
        ended.ran.as_secs_f64()
    );
}

/// The highest number that is stored.
fn newest(database: &Database) -> u64 {
    database.stored().numbers("stream", "value").last().map_or(0, |number| *number as u64)
}

/// What a line of `collector_gap` says.
#[derive(Debug)]
struct Gap {
    output: String,
    plugin: String,
    cause: String,
    lines: u64,
    from_ns: i64,
    to_ns: i64,
}

impl Gap {
    fn of(line: &Line) -> Self {
        let tag = |key| line.tag(key).to_owned();
        Self {
            output: tag("output"),
            plugin: tag("plugin"),
            cause: tag("cause"),
            lines: whole(line, "lines"),
            from_ns: line.time_ns - whole(line, "interval_ns") as i64,
            to_ns: line.time_ns,
        }
    }
}

/// What was made and is not stored.
struct Lost {
    /// Numbers of the load.
    numbers: BTreeSet<u64>,
    /// How many of the collector's own lines.
    own: u64,
    /// How many lines of the load were made up to a time.
    reports: Vec<(u64, i64)>,
}

impl Lost {
    fn new(truth: &Vec<u8>, stored: &dyn Stored) -> Self {
        let numbers = |of: &dyn Stored| -> BTreeSet<u64> {
            of.numbers("stream", "value").iter().map(|number| *number as u64).collect()
        };
        let (made, there) = (numbers(truth), numbers(stored));
        assert!(there.is_subset(&made), "a line is stored that was never made");
        let mut own = 0;
        for table in ["collector_plugin", "collector_output", "collector_host"] {
            let (made, there) = (truth.lines(table).len(), stored.lines(table).len());
            assert!(there > 0, "nothing of {table}");
            own += made.checked_sub(there).expect("no more is stored than was made") as u64;
        }
        let plugin = truth.lines("collector_plugin").into_iter();
        let mut reports: Vec<(u64, i64)> = plugin
            .filter(|line| line.tag("plugin") == "stream")
            .map(|line| (line.u64("lines"), line.time_ns))
            .collect();
        reports.sort_unstable_by_key(|(_, time_ns)| *time_ns);
        let mut sum = 0;
        for (lines, _) in &mut reports {
            sum += *lines;
            *lines = sum;
        }
        Self { numbers: made.difference(&there).copied().collect(), own, reports }
    }

    /// Compares it with what the books and the lines about gaps say.
    fn check(&self, gaps: &[Gap], books: &Books, load: &Load) {
        let mut by_cause = BTreeMap::new();
        let mut by_plugin = BTreeMap::new();
        for gap in gaps {
            *by_cause.entry(gap.cause.clone()).or_insert(0) += gap.lines;
            *by_plugin.entry(&*gap.plugin).or_insert(0) += gap.lines;
        }
        assert_eq!(by_cause, books.dropped, "what the gaps say, and what the books do");
        let lost = self.numbers.len() as u64;
        assert_eq!(by_plugin.get("stream"), Some(&lost), "{gaps:?}");
        assert_eq!(by_plugin.get("collector").copied().unwrap_or(0), self.own, "{gaps:?}");
        assert!(lost >= load.within(LOSS), "{lost} lines are lost: the bounds were hardly reached");
        self.check_intervals(gaps, load);
    }

    /// Every missing line lies in a gap, and every gap begins and ends with one.
    fn check_intervals(&self, gaps: &[Gap], load: &Load) {
        let interval = load.interval.as_nanos() as i64;
        let tick = |number: &u64| {
            let report = self.reports.partition_point(|(lines, _)| lines < number);
            self.reports[report].1
        };
        let ticks: BTreeSet<i64> = self.numbers.iter().map(tick).collect();
        // A report tells of the ticks since the one before, on a slow machine of the next one only.
        let times = self.reports.windows(2).map(|pair| pair[1].1 - pair[0].1);
        let slack = times.max().expect("reports");
        let gaps: Vec<&Gap> = gaps.iter().filter(|gap| gap.plugin == "stream").collect();
        let inside = |tick: i64| {
            gaps.iter().any(|gap| gap.from_ns - slack < tick && tick <= gap.to_ns + slack)
        };
        assert!(ticks.iter().all(|tick| inside(*tick)), "a missing line that no gap tells of");
        for gap in gaps {
            let near = |from: i64, to: i64| ticks.range(from..=to).next().is_some();
            assert!(near(gap.to_ns - slack, gap.to_ns + slack), "it ends with no loss: {gap:?}");
            let first = gap.from_ns + interval;
            assert!(near(first - slack, first + slack), "it begins with no loss: {gap:?}");
        }
    }
}

#[test]
fn influxdb1_lacks_what_the_queue_could_not_hold_and_is_told_so() {
    outages(&Database::influxdb1(), false);
}

#[test]
fn influxdb1_lacks_what_the_spool_could_not_hold_and_is_told_so() {
    outages(&Database::influxdb1(), true);
}

#[test]
fn victoriametrics_lacks_what_the_queue_could_not_hold_and_is_told_so() {
    outages(&Database::victoriametrics(), false);
}
