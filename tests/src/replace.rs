//! One plugin is replaced again and again while the kernel's events go on, by another file or by another
//! configuration; a copy of it that nobody touches counts the same events.

use crate::running::{Home, Running};
use crate::wait;
use collector::read::{Line, read};
use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// What is replaced each time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// The plugin's file: another one is moved into its place.
    File,
    /// The plugin's section and an output of the configuration.
    Configuration,
}

/// What came of it.
#[derive(Clone, Copy, Debug)]
pub struct Replaced {
    /// Events that there were.
    pub events: u64,
    /// Those in lines of the plugin that was replaced.
    pub counted: u64,
    /// The time that the collector says may be in no line.
    pub gap: Duration,
    /// Resident memory of the collector before the first replacement, after a tenth of them, and at the end.
    pub resident: [u64; 3],
    /// Ticks of 100 ms that the other plugin missed, because the machine stood still.
    pub missed: u64,
}

/// Calls of write(), one after the other, until this is asked for their number.
struct Writes {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<u64>,
}

/// The name of their thread, by which the plugins know them.
const WRITER: &str = "replace-writes";
/// Between two of them, at least.
const PAUSE: Duration = Duration::from_micros(50);

impl Writes {
    fn start() -> Self {
        let stop = Arc::<AtomicBool>::default();
        let stopped = Arc::clone(&stop);
        let write = move || {
            let mut null = File::create("/dev/null").expect("/dev/null");
            let mut calls = 0;
            while !stopped.load(Relaxed) {
                calls += null.write(b"x").expect("it takes all") as u64;
                thread::sleep(PAUSE);
            }
            calls
        };
        let thread = thread::Builder::new().name(WRITER.to_owned());
        Self { stop, thread: thread.spawn(write).expect("a thread") }
    }

    fn end(self) -> u64 {
        self.stop.store(true, Relaxed);
        self.thread.join().expect("its number")
    }
}

fn configuration(home: &Home, isolated: bool, number: u64) -> String {
    let (lines, beside) = (home.path("lines"), home.path("beside"));
    let isolation = if isolated { "isolation = \"process\"\n" } else { "" };
    format!(
        "interval = \"100ms\"\n\
         [[output]]\nkind = \"file\"\npath = {lines:?}\n\
         [[output]]\nkind = \"file\"\npath = {beside:?}\nqueue_bytes = {}\n\
         [plugin.syswrite]\ncomm = [\"{WRITER}\"]\ntags = {{ copy = \"{}\" }}\n{isolation}\
         [plugin.healthy]\ncomm = [\"{WRITER}\"]\ntags = {{ copy = \"healthy\" }}\n",
        1_000_000 + number % 2,
        number % 2
    )
}

/// Replaces it so many times, in the collector's process or in processes of its own.
///
/// # Panics
/// An event is in two lines, or the other plugin lost one, or a tick.
#[must_use]
pub fn replace(times: u64, what: What, isolated: bool) -> Replaced {
    let home = Home::with_copies(&[("syswrite", "syswrite"), ("syswrite", "healthy")]);
    let mut running = home.start(&configuration(&home, isolated, 0));
    let counts = |plugin: &str| {
        let lines = whole_lines(&home.path("lines"));
        lines.iter().any(|line| is_about(line, plugin) && line.u64("calls") > 0)
    };
    wait::until("the first ticks", || counts("syswrite") && counts("healthy"));
    let writes = Writes::start();
    let mut resident = [running.memory().now; 3];
    for number in 1..=times {
        match what {
            What::File => install(&home, number),
            What::Configuration => {
                let new = home.path("new.toml");
                fs::write(&new, configuration(&home, isolated, number)).expect("a config file");
                fs::rename(new, home.path("collector.toml")).expect("the same folder");
            }
        }
        wait_for_replacement(&mut running, number);
        if number == times.div_ceil(10) {
            resident[1] = running.memory().now;
        }
    }
    let events = writes.end();
    thread::sleep(Duration::from_millis(300)); // a tick has them all
    resident[2] = running.memory().now;
    running.terminate();
    let ended = running.end();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);

    let lines = whole_lines(&home.path("lines"));
    let calls = |lines: &[Line], healthy: bool| -> u64 {
        let of =
            |line: &&Line| line.table == "syswrite" && (line.tag("copy") == "healthy") == healthy;
        lines.iter().filter(of).map(|line| line.u64("calls")).sum()
    };
    let sum = |plugin: &str, field: &str| -> u64 {
        lines.iter().filter(|line| is_about(line, plugin)).map(|line| line.u64(field)).sum()
    };
    assert_eq!(calls(&lines, true), events, "the other plugin counts each once\n{}", ended.stderr);
    assert_eq!(sum("healthy", "lost_calls"), 0);
    assert_eq!(sum("syswrite", "replaced"), times, "{}", ended.stderr);
    let counted = calls(&lines, false);
    let gap = sum("syswrite", "gap_ns");
    assert!(counted <= events, "{} events are in two lines", counted - events);
    let most = gap / PAUSE.as_nanos() as u64 + times;
    assert!(events - counted <= most, "{} events in {gap} ns are in no line", events - counted);
    if what == What::Configuration {
        // Of the output that came and went each time no line is missing.
        let beside = whole_lines(&home.path("beside"));
        assert_eq!((calls(&beside, true), calls(&beside, false)), (events, counted));
    }
    let missed = sum("healthy", "ticks_missed");
    Replaced { events, counted, gap: Duration::from_nanos(gap), resident, missed }
}

/// Another content, which is the same code.
fn install(home: &Home, number: u64) {
    let plugins = home.path("plugins");
    let (place, new) = (plugins.join("libsyswrite.so"), plugins.join(".new"));
    fs::copy(plugins.join("libhealthy.so"), &new).expect("a copy");
    let mut file = File::options().append(true).open(&new).expect("the copy");
    file.write_all(&number.to_le_bytes()).expect("some more bytes");
    fs::rename(new, place).expect("the same folder");
}

fn wait_for_replacement(running: &mut Running, number: u64) {
    let what = format!("replacement {number}");
    running.wait_until(&what, |said| said.matches("syswrite: replaced").count() as u64 >= number);
}

fn is_about(line: &Line, plugin: &str) -> bool {
    line.table == "collector_plugin" && line.tag("plugin") == plugin
}

/// What stands in a file to which lines are written.
fn whole_lines(path: &Path) -> Vec<Line> {
    let text = fs::read(path).unwrap_or_default();
    let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    read(&text[..whole]).expect("lines")
}
