//! C plugins in the collector itself: the guide's sample beside csample, a thread that pushes, and the exact pieces.

use c_plugins::Folder;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

/// A collector with some plugins, whose lines are read as they come.
struct Collector {
    child: Child,
    lines: Receiver<String>,
    said: thread::JoinHandle<String>,
}

impl Collector {
    fn start(folder: &Folder, plugins: &[(&str, &[u8])]) -> Self {
        let dist = std::env::var("COLLECTOR_DIST").expect("run this by `cargo xtask test`");
        let place = folder.path().join("plugins");
        fs::create_dir_all(&place).expect("a folder");
        for (name, bytes) in plugins {
            folder.file(&format!("plugins/lib{name}.so"), bytes);
        }
        let mut collector = Command::new(format!("{dist}/collector"));
        collector.arg("--plugins").arg(&place).args(["--interval", "500ms"]);
        let mut child =
            collector.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
        let output = BufReader::new(child.stdout.take().expect("a pipe"));
        let mut errors = child.stderr.take().expect("a pipe");
        let (sender, lines) = channel();
        thread::spawn(move || {
            output.lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
        });
        let said = thread::spawn(move || {
            let mut text = String::new();
            let _ = errors.read_to_string(&mut text);
            text
        });
        Self { child, lines, said }
    }

    /// Takes lines until one of a table comes; false when none does.
    fn wait_for(&self, table: &str) -> bool {
        let end = Instant::now() + Duration::from_secs(60);
        while let Ok(line) = self.lines.recv_timeout(end.saturating_duration_since(Instant::now()))
        {
            if of_table(&line, table) {
                return true;
            }
        }
        false
    }

    /// Two more ticks, then the end: the lines from now on, and what it said.
    fn end(mut self) -> (Vec<String>, String) {
        thread::sleep(Duration::from_millis(1300));
        let id = libc::pid_t::try_from(self.child.id()).expect("an id");
        // SAFETY: a signal to a child that was not waited for.
        unsafe { libc::kill(id, libc::SIGTERM) };
        let status = self.child.wait().expect("it ends");
        let said = self.said.join().expect("no panic");
        assert!(status.code().is_some(), "{status}: {said}");
        (self.lines.iter().collect(), said)
    }
}

fn of_table(line: &str, table: &str) -> bool {
    line.split([',', ' ']).next() == Some(table)
}

fn sum(lines: &[String], table: &str, field: &str) -> f64 {
    let key = format!("{field}=");
    let of_line = |line: &String| {
        let fields = line.split(' ').nth(1)?.to_owned();
        let value =
            fields.split(',').find_map(|part| part.strip_prefix(&key).map(str::to_owned))?;
        value.parse::<f64>().ok()
    };
    lines.iter().filter(|line| of_table(line, table)).filter_map(of_line).fold(0.0, |a, b| a + b)
}

/// Reads the file, and gives the calls of netstat_seq_show: one, and one more each time that the text outgrew
/// the kernel's buffer, of a page at first.
fn read_netstat(times: u32) -> f64 {
    let mut shows = 0;
    for _ in 0..times {
        let mut file = fs::File::open("/proc/net/netstat").expect("a network");
        let mut text = vec![0; 1 << 20];
        let len = file.read(&mut text).expect("read");
        shows += 1 + (0..).take_while(|n| len >= 4096 << n).count();
    }
    shows as f64
}

#[test]
fn the_guides_sample_emits_the_number_of_shows() {
    if !Path::new("/sys/bus/event_source/devices/kprobe").exists() {
        return println!("SKIPPED: no kprobes in this kernel");
    }
    let folder = Folder::new("collector-guide");
    let plugins = [("bpfsample", c_plugins::BPFSAMPLE), ("csample", c_plugins::CSAMPLE)];
    let collector = Collector::start(&folder, &plugins);
    assert!(collector.wait_for("bpfsample") && collector.wait_for("csample"));
    let shows = read_netstat(40);
    let (lines, said) = collector.end();
    for table in ["bpfsample", "csample"] {
        assert_eq!(sum(&lines, table, "value"), shows, "{table}: {lines:?} {said}");
    }
    println!("bpfsample value={shows}");
}

#[test]
fn what_a_thread_pushes_and_what_pieces_count_is_in_the_lines() {
    let folder = Folder::new("collector-push");
    let plugins = [("perf_events", c_plugins::PERF_EVENTS), ("exact", c_plugins::EXACT)];
    // These count the collector's own calls of getppid, of which there are none: they run, and end.
    let collector = Collector::start(&folder, &plugins);
    assert!(collector.wait_for("exact"));
    let (lines, said) = collector.end();
    assert!(lines.iter().any(|line| of_table(line, "exact")), "{lines:?} {said}");
    assert!(
        said.contains("plugin uninstall."),
        "the thread was stopped, and deinit() came to its end: {said}"
    );
}
