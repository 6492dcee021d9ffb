//! The collector's clock is set under it, and the collector is stopped for a while: it is back on the grid within an
//! interval or catches up with it, no timestamp comes twice, and every tick that was missed is counted.

use collector::read::{Line, read};
use plugin_testing::cpu::is_guest;
use rustix::process::{Signal, kill_process};
use rustix::time::{ClockId, clock_gettime};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};
use system_tests::running::{Home, Running};
use system_tests::wait;

const INTERVAL: Duration = Duration::from_millis(500);
const INTERVAL_NS: i64 = INTERVAL.as_nanos() as i64;
/// One in the collector's process, and one in its own.
const TOOLS: [&str; 2] = ["bootstrap", "runqlat"];
/// A machine that is emulated, or that stands still, is late by so much. A grid that was lost is off by more, or for
/// ever.
const SLACK: Duration = Duration::from_secs(3);

fn now_ns() -> i64 {
    let now = clock_gettime(ClockId::Realtime);
    now.tv_sec * 1_000_000_000 + now.tv_nsec
}

/// Sets the clock of a virtual machine of ours.
fn step(by_ns: i64) {
    assert!(is_guest(), "never the clock of a real machine");
    let to = now_ns() + by_ns;
    let to = libc::timespec { tv_sec: to / 1_000_000_000, tv_nsec: to % 1_000_000_000 };
    // SAFETY: the pointer is to a timespec of ours.
    let set = unsafe { libc::clock_settime(libc::CLOCK_REALTIME, &raw const to) };
    assert_eq!(set, 0, "{}", std::io::Error::last_os_error());
}

/// A collector with both tools, and its lines so far.
struct Scene {
    home: Home,
    running: Running,
    file: PathBuf,
}

impl Scene {
    fn start() -> Self {
        let home = Home::with_tools();
        let file = home.path("lines");
        let toml = format!(
            "interval = \"{}ms\"\n[plugin.bootstrap]\nisolation = \"none\"\n[plugin.runqlat]\nisolation = \"process\"\n\
             [[output]]\nkind = \"file\"\npath = \"{}\"\n",
            INTERVAL.as_millis(),
            file.display()
        );
        let mut running = home.start_with(&toml, |command| {
            command.args(["--only", &TOOLS.join(",")]);
        });
        let place = file.clone();
        running.wait_until("three lines of both", |_| {
            TOOLS.iter().all(|tool| times(&whole_lines(&place), tool).len() >= 3)
        });
        Self { home, running, file }
    }

    /// Waits for a line of the first tool, which has just been written when this returns.
    fn fresh(&self) -> i64 {
        let before = times(&whole_lines(&self.file), TOOLS[0]).len();
        let mut last = 0;
        wait::until("a new line", || {
            let times = times(&whole_lines(&self.file), TOOLS[0]);
            last = times.last().copied().unwrap_or(0);
            times.len() > before
        });
        last
    }

    fn end(self) -> Vec<Line> {
        self.running.terminate();
        let ended = self.running.end();
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        let lines = whole_lines(&self.file);
        drop(self.home);
        lines
    }
}

/// The lines that are written to their end.
fn whole_lines(file: &Path) -> Vec<Line> {
    let text = fs::read(file).unwrap_or_default();
    let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    read(&text[..whole]).expect("line protocol")
}

/// Times of a tool's lines, in their order.
fn times(lines: &[Line], tool: &str) -> Vec<i64> {
    lines.iter().filter(|line| line.table == tool).map(|line| line.time_ns).collect()
}

/// Ticks that the collector says it has missed.
fn missed(lines: &[Line], tool: &str) -> u64 {
    let about = |line: &&Line| line.table == "collector_plugin" && line.tag("plugin") == tool;
    lines.iter().filter(about).map(|line| line.u64("ticks_missed")).sum()
}

/// No line comes twice, and all but the last tick lie on the grid.
fn assert_on_the_grid(lines: &[Line]) {
    let mut seen = BTreeMap::new();
    for line in lines {
        let key = (line.table.clone(), line.tags.clone(), line.time_ns);
        *seen.entry(key).or_insert(0) += 1;
    }
    let twice: Vec<_> = seen.iter().filter(|(_, count)| **count > 1).collect();
    assert!(twice.is_empty(), "{twice:?}");
    for tool in TOOLS {
        let times = times(lines, tool);
        let off: Vec<_> =
            times[..times.len() - 1].iter().filter(|at| **at % INTERVAL_NS != 0).collect();
        assert!(off.is_empty(), "{tool}: {off:?}");
    }
}

/// Makes sure that what lies between two lines was counted, but for those pairs between which the clock was set.
fn assert_counted(lines: &[Line], steps: &[i64]) {
    for tool in TOOLS {
        let times = times(lines, tool);
        // The last tick is that of the end.
        let pairs = times[..times.len() - 1].windows(2);
        let between = pairs.filter(|pair| !steps.contains(&pair[0])).map(|pair| {
            let slots = (pair[1] - pair[0]) / INTERVAL_NS;
            assert!(slots >= 1, "{tool}: {pair:?}");
            slots.unsigned_abs() - 1
        });
        assert_eq!(
            between.sum::<u64>(),
            missed(lines, tool),
            "{tool}: {times:?}, steps at {steps:?}"
        );
    }
}

#[test]
fn a_clock_that_is_set_is_followed_within_an_interval() {
    if !is_guest() {
        return println!("SKIPPED: sets the clock, which only a virtual machine of ours may do");
    }
    let scene = Scene::start();
    let mut steps = Vec::new();
    for seconds in [3600.0, -3600.0, 0.4, -0.4] {
        // All tools have made that tick, and the next one is most of an interval away.
        let at = std::iter::repeat_with(|| scene.fresh())
            .find(|at| now_ns() - at < INTERVAL_NS / 2)
            .expect("one of so many");
        steps.push(at);
        step((seconds * 1e9) as i64);
        let began = Instant::now();
        let time = scene.fresh();
        let (took, late) = (began.elapsed(), now_ns() - time);
        println!(
            "TABLE: the clock is set by {seconds} s: the next line {} ms later",
            took.as_millis()
        );
        // A tick that was made is not made again when the clock goes back to it.
        let again = if seconds == -0.4 { Duration::from_millis(400) } else { Duration::ZERO };
        assert!(took <= INTERVAL + again + SLACK, "{seconds} s: {took:?}");
        assert!(
            (0..=INTERVAL_NS + SLACK.as_nanos() as i64).contains(&late),
            "{seconds} s: {late} ns late"
        );
    }
    scene.fresh();
    let lines = scene.end();
    assert_on_the_grid(&lines);
    assert_counted(&lines, &steps);
}

#[test]
fn a_clock_that_is_set_back_by_seconds_repeats_no_millisecond_and_stops_no_tick() {
    if !is_guest() {
        return println!("SKIPPED: sets the clock, which only a virtual machine of ours may do");
    }
    const BACK: Duration = Duration::from_secs(3);
    let scene = Scene::start();
    let at = scene.fresh();
    step(-(BACK.as_nanos() as i64));
    let began = Instant::now();
    let caught_up =
        std::iter::repeat_with(|| scene.fresh()).find(|time| *time > at + INTERVAL_NS / 2);
    println!(
        "TABLE: the clock is set back by {} s: caught up after {} ms",
        BACK.as_secs(),
        began.elapsed().as_millis()
    );
    assert!(caught_up.is_some() && began.elapsed() <= BACK + INTERVAL + SLACK);
    scene.fresh();
    // The last tick comes while the clock is behind.
    step(-(BACK.as_nanos() as i64));
    let lines = scene.end();
    for table in TOOLS.into_iter().chain(["collector_host"]) {
        let times: Vec<i64> = times(&lines, table).iter().map(|ns| ns / 1_000_000).collect();
        assert!(times.is_sorted_by(|a, b| a < b), "{table}: {times:?}");
        let at = at / 1_000_000;
        let meanwhile = times.iter().filter(|time| (at + 1..at + 100).contains(*time)).count();
        assert!(meanwhile >= 2, "{table}: {meanwhile} of {times:?}");
    }
}

#[test]
fn ticks_that_are_slept_through_are_counted_each() {
    const STOPPED: Duration = Duration::from_secs(5);
    let scene = Scene::start();
    scene.fresh();
    let pid = scene.running.pid();
    kill_process(pid, Signal::STOP).expect("it runs");
    thread::sleep(STOPPED);
    kill_process(pid, Signal::CONT).expect("it runs");
    let began = Instant::now();
    let time = scene.fresh();
    let (took, late) = (began.elapsed(), now_ns() - time);
    assert!(took <= INTERVAL + SLACK, "{took:?}");
    assert!((0..=INTERVAL_NS + SLACK.as_nanos() as i64).contains(&late), "{late} ns late");
    scene.fresh();
    scene.fresh();
    let lines = scene.end();
    assert_on_the_grid(&lines);
    assert_counted(&lines, &[]);
    let least = (STOPPED.as_nanos() / INTERVAL.as_nanos()) as u64 - 1;
    for tool in TOOLS {
        let missed = missed(&lines, tool);
        println!(
            "TABLE: stopped for {} s: {tool} missed {missed} ticks of {} ms",
            STOPPED.as_secs(),
            INTERVAL.as_millis()
        );
        assert!(missed >= least, "{tool}: {missed}");
    }
}
