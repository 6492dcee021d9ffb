//! The plugins folder lives: what comes into it, changes or goes is followed, and costs the others nothing.

use crate::process::{Ended, Running, collector, example, folder, run};
use collector::read::Line;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use tempfile::TempDir;

/// A counter in a file, increased all the time, which `counts` reads; and the configuration that says so.
pub struct Counter {
    dir: TempDir,
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Counter {
    pub fn start(more: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("counter");
        fs::write(&path, 0u64.to_le_bytes()).unwrap();
        let file = File::options().write(true).open(&path).unwrap();
        let text = format!("{more}\n[plugin.counts]\nfile = \"{}\"\n", path.display());
        fs::write(dir.path().join("c.toml"), text).unwrap();
        let ended = Arc::new(AtomicBool::new(false));
        let end = Arc::clone(&ended);
        let thread = thread::spawn(move || {
            for count in 1u64.. {
                file.write_all_at(&count.to_le_bytes(), 0).unwrap();
                thread::sleep(Duration::from_micros(50));
                if end.load(Ordering::Relaxed) {
                    break;
                }
            }
        });
        Self { dir, ended, thread: Some(thread) }
    }

    pub fn config(&self) -> PathBuf {
        self.dir.path().join("c.toml")
    }

    pub fn collector(&self, plugins: &Path) -> Running {
        let config = self.config();
        let args = ["--interval", "100ms", "--config", config.to_str().unwrap()];
        Running::start(collector(plugins, &args))
    }
}

impl Drop for Counter {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap();
    }
}

/// `counts` as another build.
pub fn build(number: u64) -> Vec<u8> {
    let mut bytes = fs::read(example("counts")).unwrap();
    let marks: Vec<usize> = memchr::memmem::find_iter(&bytes, b"BUILD-0000000000").collect();
    assert!(!marks.is_empty());
    for at in marks {
        bytes[at..at + 16].copy_from_slice(format!("BUILD-{number:010}").as_bytes());
    }
    bytes
}

/// Puts a file into its place as a whole.
pub fn install(plugins: &Path, name: &str, bytes: &[u8]) {
    let new = plugins.join(".new");
    fs::write(&new, bytes).unwrap();
    fs::rename(new, plugins.join(name)).unwrap();
}

/// The build of each line, and how much was counted neither there nor in the line before. Makes sure that nothing was
/// counted twice.
pub fn missing(ended: &Ended) -> Vec<(String, u64)> {
    let mut before = None;
    let missing = |line: &Line| {
        let at = line.u64("at");
        let from = at - line.u64("events");
        let before = before.replace(at).unwrap_or(from);
        assert!(before <= from, "{} events in two lines", before - from);
        (line.tag("build").to_owned(), from - before)
    };
    ended.table("counts").map(missing).collect()
}

/// Makes sure that nothing was counted twice, and how much was in no line when one build took over from another. The
/// builds in order.
pub fn assert_counted(ended: &Ended) -> (Vec<String>, u64) {
    let lines = missing(ended);
    for two in lines.windows(2).filter(|two| two[0].0 == two[1].0) {
        assert_eq!(two[1].1, 0, "within one build");
    }
    let gap = lines.iter().map(|(_, missing)| missing).sum();
    let mut builds: Vec<String> = lines.into_iter().map(|(build, _)| build).collect();
    builds.dedup();
    (builds, gap)
}

/// Makes sure that `good` made each of its ticks.
pub fn assert_good(ended: &Ended) {
    let calls: Vec<u64> = ended.table("good").map(|line| line.u64("calls")).collect();
    assert!(calls.windows(2).all(|two| two[1] == two[0] + 1), "{calls:?}");
    assert_eq!(ended.sum("good", "errors"), 0);
    assert_eq!(ended.sum("good", "calls"), calls.len() as u64);
}

fn end(running: Running) -> Ended {
    running.signal("TERM");
    let ended = running.end();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    ended
}

#[test]
fn a_plugin_comes_is_replaced_and_goes_and_no_event_is_in_two_lines() {
    let plugins = folder(&["good"]);
    let counter = Counter::start("");
    let running = counter.collector(plugins.path());
    running.wait_for("good 0");
    running.wait_for_ticks(2);
    install(plugins.path(), "libcounts.so", &build(1));
    running.wait_for("counts 0");
    running.wait_for_lines("counts,", 2);
    for (number, replaced) in [(2, 1), (3, 2)] {
        install(plugins.path(), "libcounts.so", &build(number));
        running.wait_for_times("counts: replaced", replaced);
        running.wait_for_lines("counts,", 2);
    }
    fs::remove_file(plugins.path().join("libcounts.so")).unwrap();
    running.wait_for("counts: removed");
    running.wait_for_ticks(2);
    let ended = end(running);
    assert_good(&ended);
    let (builds, gap) = assert_counted(&ended);
    assert_eq!(builds, ["1", "2", "3"], "{}", ended.stderr);
    let (replaced, gap_ns) = (ended.sum("counts", "replaced"), ended.sum("counts", "gap_ns"));
    println!("{replaced} times replaced: {gap} events in {gap_ns} ns in no line");
    assert_eq!(replaced, 2);
    // One event takes 50 us at least.
    assert!(gap <= gap_ns / 50_000 + 2 * replaced, "{gap} in {gap_ns} ns");
    assert!(gap_ns < 20_000_000_000, "{gap_ns}");
    assert_eq!(ended.states("counts").last().unwrap(), "stopped", "{:?}", ended.states("counts"));
    let last = ended.table("counts").last().unwrap();
    assert_ne!(last.time_ns % 100_000_000, 0, "the last interval is a part");
    assert!(ended.about("counts").len() < ended.about("good").len());
}

#[test]
fn a_file_that_is_being_copied_is_waited_for() {
    let plugins = folder(&["good"]);
    let counter = Counter::start("");
    let running = counter.collector(plugins.path());
    running.wait_for("good 0");
    let bytes = build(7);
    let mut file = File::create(plugins.path().join("libcounts.so")).unwrap();
    for half in bytes.chunks(bytes.len() / 2 + 1) {
        thread::sleep(Duration::from_millis(200));
        assert!(!running.said().contains("counts 0"), "{}", running.said());
        file.write_all(half).unwrap();
    }
    thread::sleep(Duration::from_millis(200));
    assert!(!running.said().contains("counts 0"), "{}", running.said());
    drop(file);
    running.wait_for("counts 0");
    running.wait_for_lines("counts,", 2);
    let ended = end(running);
    assert_eq!(assert_counted(&ended).0, ["7"], "{}", ended.stderr);
}

#[test]
fn a_file_that_is_half_copied_when_the_collector_starts_runs_once_it_is_complete() {
    let plugins = folder(&["good"]);
    let counter = Counter::start("");
    let bytes = build(3);
    let (half, rest) = bytes.split_at(bytes.len() / 2);
    let mut file = File::create(plugins.path().join("libcounts.so")).unwrap();
    file.write_all(half).unwrap();
    let running = counter.collector(plugins.path());
    running.wait_for("libcounts.so refused: ");
    running.wait_for("good 0");
    running.wait_for_ticks(2);
    file.write_all(rest).unwrap();
    drop(file);
    running.wait_for("counts 0");
    running.wait_for_lines("counts,", 2);
    running.wait_for_ticks(2);
    let ended = end(running);
    assert_good(&ended);
    assert_eq!(assert_counted(&ended).0, ["3"], "{}", ended.stderr);
    assert!(ended.reasons("counts").contains("cut short"), "{}", ended.reasons("counts"));
    let last = ended.about("counts").pop().unwrap();
    assert_eq!(last.get("reason"), None, "{last:?}");
}

#[test]
fn who_comes_late_and_asks_for_what_was_given_up_is_refused_with_that_reason() {
    const SYS_PTRACE: u64 = 1 << 19;
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let held = status.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap();
    if u64::from_str_radix(held.trim(), 16).unwrap() & SYS_PTRACE == 0 {
        return println!("SKIPPED: only a process with CAP_SYS_PTRACE can give it up");
    }
    let plugins = folder(&["good"]);
    let running = Running::start(collector(plugins.path(), &["--interval", "100ms"]));
    running.wait_for("good 0");
    running.wait_for_ticks(2);
    fs::copy(example("sleeps"), plugins.path().join("libsleeps.so")).unwrap();
    let reason = "it asks for CAP_SYS_PTRACE, which the collector gave up at its start: restart the collector";
    running.wait_for(&format!("sleeps: not started: {reason}"));
    // The same for one that runs: it goes on.
    install(plugins.path(), "libgood.so", &fs::read(example("sleeps")).unwrap());
    running.wait_for(&format!("good: the change is refused, and what runs goes on: {reason}"));
    running.wait_for_ticks(2);
    let ended = end(running);
    assert_good(&ended);
    assert_eq!(ended.states("sleeps").last().unwrap(), "refused");
    assert!(ended.reasons("sleeps").contains(reason) && ended.reasons("good").contains(reason));
}

#[test]
fn a_replacement_that_fails_leaves_the_old_one_at_work_and_says_why() {
    let plugins = folder(&["good"]);
    let counter = Counter::start("");
    let config = fs::read_to_string(counter.config()).unwrap() + "broken = 2\n";
    fs::write(counter.config(), config).unwrap();
    install(plugins.path(), "libcounts.so", &build(1));
    let running = counter.collector(plugins.path());
    running.wait_for("good 0");
    running.wait_for("counts 0");
    running.wait_for_lines("counts,", 2);
    let path = plugins.path().join("libcounts.so");
    // Overwritten in place, cut short, and by one that does not start.
    fs::write(&path, "no library").unwrap();
    running.wait_for("a text file");
    File::options().write(true).open(&path).unwrap().set_len(0).unwrap();
    running.wait_for("the file is empty");
    install(plugins.path(), "libcounts.so", &build(2));
    running.wait_for("build 2 is broken");
    running.wait_for_ticks(2);
    let good = plugins.path().join("libgood.so");
    File::options().write(true).open(good).unwrap().set_len(100).unwrap();
    running.wait_for("good: the change is refused");
    running.wait_for_ticks(2);
    install(plugins.path(), "libcounts.so", &build(3));
    running.wait_for("counts: replaced");
    running.wait_for_lines("counts,", 2);
    running.wait_for_ticks(2);
    let ended = end(running);
    assert_good(&ended);
    assert_eq!(assert_counted(&ended).0, ["1", "3"], "{}", ended.stderr);
    let reasons = ended.reasons("counts");
    let words = "a change is refused, what runs goes on: it does not start: build 2 is broken";
    assert!(reasons.contains(words), "{reasons}");
    let last = ended.about("counts").pop().unwrap();
    assert_eq!(last.get("reason"), None, "forgotten with the next one: {last:?}");
    assert!(ended.reasons("good").contains("cut short"), "{}", ended.reasons("good"));
}

#[test]
fn many_replacements_run_the_new_code_each_time_and_take_little_memory() {
    const TIMES: u64 = 20;
    let plugins = folder(&["good"]);
    let counter = Counter::start("");
    install(plugins.path(), "libcounts.so", &build(1));
    let running = counter.collector(plugins.path());
    running.wait_for("counts 0");
    running.wait_for_lines("counts,", 2);
    for number in 2..=TIMES {
        install(plugins.path(), "libcounts.so", &build(number));
        running.wait_for_times("counts: replaced", number as usize - 1);
    }
    running.wait_for_lines("counts,", 2);
    running.wait_for_ticks(2);
    let ended = end(running);
    assert_good(&ended);
    let (builds, gap) = assert_counted(&ended);
    let all: Vec<String> = (1..=TIMES).map(|number| number.to_string()).collect();
    assert_eq!(builds.last(), all.last(), "{}", ended.stderr);
    let replaced = ended.sum("counts", "replaced");
    assert_eq!(replaced, TIMES - 1);
    let rss: Vec<u64> = ended.table("collector_host").map(|line| line.u64("rss_bytes")).collect();
    println!("{gap} events in no line; resident memory from {} to {}", rss[0], rss[rss.len() - 1]);
}

#[test]
fn a_list_of_digests_refuses_all_other_files() {
    let plugins = folder(&["good", "fails"]);
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("c.toml");
    let digest = collector::digest::Digest::of(&fs::read(example("good")).unwrap());
    fs::write(&config, format!("plugins_sha256 = [\"{digest}\"]\n")).unwrap();
    let args = ["--interval", "100ms", "--ticks", "2", "--config", config.to_str().unwrap()];
    let ended = run(plugins.path(), &args);
    assert_eq!(ended.ticks("good"), 2, "{}", ended.stderr);
    assert_eq!(ended.states("fails"), ["refused"]);
    let other = collector::digest::Digest::of(&fs::read(example("fails")).unwrap());
    let reason = format!("its SHA-256 {other} is not in `plugins_sha256`");
    assert!(ended.reasons("fails").contains(&reason), "{}", ended.reasons("fails"));
}

#[test]
fn the_file_of_a_disabled_plugin_is_not_opened_and_names_are_those_of_files() {
    let plugins = folder(&["good"]);
    fs::rename(plugins.path().join("libgood.so"), plugins.path().join("better.so")).unwrap();
    fs::write(plugins.path().join("libnone.so"), "no library").unwrap();
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("c.toml");
    fs::write(&config, "[plugin.none]\nenabled = false\n[plugin.better]\nby = \"us\"\n").unwrap();
    let args = ["--interval", "100ms", "--ticks", "2", "--config", config.to_str().unwrap()];
    let ended = run(plugins.path(), &args);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(!ended.stderr.contains("libnone"), "{}", ended.stderr);
    assert!((1..=2).contains(&ended.about("better").len()), "{}", ended.stdout);
    assert!(ended.table("good").all(|line| line.tag("by") == "us"));
}
