//! The configuration is read again: only what changed is started again.

use crate::living::{Counter, assert_good, build, install, missing};
use crate::process::{Ended, Running, as_a_service, collector, command, folder, wait_until};
use collector::read::{Line, Value, read};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tempfile::TempDir;

/// A configuration that changes.
struct Configured {
    dir: TempDir,
}

impl Configured {
    fn new(text: &str) -> Self {
        let it = Self { dir: tempfile::tempdir().unwrap() };
        it.write(text);
        it
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("c.toml")
    }

    /// As editors do.
    fn write(&self, text: &str) {
        let new = self.dir.path().join("new");
        fs::write(&new, text).unwrap();
        fs::rename(new, self.path()).unwrap();
    }

    fn start(&self, plugins: &Path) -> Running {
        let config = self.path();
        let command =
            collector(plugins, &["--interval", "100ms", "--config", config.to_str().unwrap()]);
        let running = Running::start(as_a_service(command));
        running.wait_for("good 0");
        running
    }
}

/// Of all these configurations but one.
const INTERVAL_NS: i64 = 100_000_000;
const TAKEN: &str = "the configuration has changed";
const NOT_TAKEN: &str = "the configuration is not taken";

/// After two more ticks.
fn end(running: Running) -> Ended {
    running.wait_for_ticks(2);
    end_now(running)
}

fn end_now(running: Running) -> Ended {
    running.signal("TERM");
    let ended = running.end();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    ended
}

/// Waits until a file has so many more lines of `good`.
fn wait_for_good(path: &Path, more: usize) {
    let lines = || fs::read_to_string(path).map_or(0, |text| text.matches("good,").count());
    let all = lines() + more;
    wait_until("lines in the file", || lines() >= all);
}

#[test]
fn only_the_plugin_whose_section_changed_is_started_again() {
    let plugins = folder(&["good"]);
    fs::copy(plugins.path().join("libgood.so"), plugins.path().join("libother.so")).unwrap();
    let config = Configured::new("[plugin.good]\nby = \"a\"\n[plugin.other]\nby = \"o\"\n");
    let running = config.start(plugins.path());
    running.wait_for("other 0");
    for by in ["a", "o"] {
        running.wait_for_lines(&format!("good,by={by},"), 2);
    }
    config.write("# a line more\n[plugin.other]\nby = \"o\"\n[plugin.good]\nby = \"b\"\n");
    running.wait_for("good: replaced");
    for by in ["b", "o"] {
        running.wait_for_lines(&format!("good,by={by},"), 2);
    }
    let ended = end_now(running);
    let of = |by: &str| -> Vec<&Line> {
        ended.table("good").filter(|line| line.tag("by") == by).collect()
    };
    let calls = |by: &str| -> Vec<u64> { of(by).iter().map(|line| line.u64("calls")).collect() };
    for by in ["a", "b", "o"] {
        let calls = calls(by);
        assert!(calls.windows(2).all(|two| two[1] == two[0] + 1), "{by}: {calls:?}");
    }
    assert_eq!(calls("o")[0], 1);
    assert_eq!(calls("b")[0], 2, "the first call's lines are those of the other");
    // Each tick of the other from the first one to the last one of this one is one of this one's, or counted as missed;
    // a machine that stands still while one build takes over from another counts in the gap.
    let on_the_grid = |line: &&&Line| line.time_ns % INTERVAL_NS == 0;
    let times = |by: &str| -> Vec<i64> {
        of(by).iter().filter(on_the_grid).map(|line| line.time_ns).collect()
    };
    let made = [times("a"), times("b")].concat();
    assert!(made.is_sorted_by(|a, b| a < b), "{made:?}");
    let all = made[0]..=made[made.len() - 1];
    let without =
        times("o").iter().filter(|time| all.contains(time) && !made.contains(time)).count();
    let gap =
        (ended.sum("good", "gap_ns") + INTERVAL_NS.unsigned_abs() / 2) / INTERVAL_NS.unsigned_abs();
    assert!(
        without as u64 <= ended.sum("good", "ticks_missed") + gap,
        "{without}: {}",
        ended.stderr
    );
    assert_eq!((ended.sum("good", "replaced"), ended.sum("other", "replaced")), (1, 0));
}

#[test]
fn a_configuration_with_a_mistake_is_not_taken_and_said_with_line_and_key() {
    let plugins = folder(&["good"]);
    let config = Configured::new("");
    let running = config.start(plugins.path());
    running.wait_for_ticks(2);
    config.write("[tags]\ndc = \"x\"\n[plugin.good]\nintervall = 7\nenabled = 3\n");
    running.wait_for(NOT_TAKEN);
    assert!(
        running.said().contains("c.toml:5:11: `plugin.good.enabled` must be"),
        "{}",
        running.said()
    );
    // The file's own mistakes are found before; a plugin's option is wrong for the plugin only.
    config.write("[plugin.good]\nbyy = \"x\"\n");
    running.wait_for("good: the change is refused, and what runs goes on");
    config.write("[[output]]\nkind = \"file\"\npath = \"/nonexistent/x\"\n");
    running.wait_for_times(NOT_TAKEN, 2);
    let ended = end(running);
    assert_good(&ended);
    assert!(ended.reasons("good").contains("unknown option `byy` (did you mean `by`?)"));
    assert!(ended.table("good").all(|line| !line.tags.contains_key("dc")));
}

#[test]
fn check_config_says_the_same_and_ends() {
    let plugins = folder(&[]);
    let config = Configured::new("[plugin.good]\nenabled = 3\n");
    let path = config.path();
    let args = ["--check-config", "--config", path.to_str().unwrap()];
    let ended = command(plugins.path(), &args);
    assert_eq!(ended.code, Some(2));
    assert!(
        ended.stderr.contains("c.toml:2:11: `plugin.good.enabled` must be"),
        "{}",
        ended.stderr
    );
    config.write("[plugin.good]\nenabled = true\n");
    let ended = command(plugins.path(), &args);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(ended.stdout.contains("nothing is wrong with it"), "{}", ended.stdout);
    // What only the plugin knows.
    let plugins = folder(&["good"]);
    config.write("[plugin.good]\nby = \"a\"\nbyy = \"x\"\n");
    let ended = command(plugins.path(), &args);
    assert_eq!(ended.code, Some(2), "{}", ended.stdout);
    assert!(ended.stderr.contains("c.toml:3:1: unknown option `byy`"), "{}", ended.stderr);
}

#[test]
fn a_plugin_is_disabled_and_enabled_again() {
    let plugins = folder(&["good"]);
    fs::copy(plugins.path().join("libgood.so"), plugins.path().join("libother.so")).unwrap();
    let text = |enabled| format!("[plugin.other]\nby = \"o\"\nenabled = {enabled}\n");
    let config = Configured::new(&text(true));
    let running = config.start(plugins.path());
    running.wait_for("other 0");
    running.wait_for_lines("good,by=o,", 2);
    config.write(&text(false));
    running.wait_for("other: removed");
    running.wait_for_lines("good,by=nobody,", 3);
    config.write(&text(true));
    running.wait_for_times("other 0", 2);
    running.wait_for_lines("good,by=o,", 2);
    let ended = end(running);
    let (other, good): (Vec<_>, Vec<_>) =
        ended.table("good").partition(|line| line.tag("by") == "o");
    assert!(good.windows(2).all(|two| two[1].u64("calls") == two[0].u64("calls") + 1));
    let first: Vec<usize> = (0..other.len()).filter(|at| other[*at].u64("calls") == 1).collect();
    let [0, again] = first[..] else { panic!("{first:?}: {}", ended.stderr) };
    let meanwhile = other[again - 1].time_ns + 1..other[again].time_ns;
    let meanwhile = good.iter().filter(|line| meanwhile.contains(&line.time_ns)).count();
    assert!(meanwhile >= 3, "{meanwhile} of {}", good.len());
    assert_eq!(ended.sum("other", "replaced"), 0);
}

#[test]
fn a_call_that_hangs_is_left_behind_and_neither_a_reload_nor_the_end_waits_for_it() {
    let plugins = folder(&["good", "sleeps"]);
    let config = Configured::new("");
    let running = config.start(plugins.path());
    running.wait_for("sleeps: a call is running for");
    config.write("[plugin.sleeps]\ntime = \"1ms\"\n");
    running.wait_for(TAKEN);
    running.wait_for("sleeps: a call hangs: left behind, its replacement begins");
    running.wait_for_lines("sleeps", 3);
    let ended = end(running);
    assert!(!ended.stderr.contains("has not ended in time"), "{}", ended.stderr);
    assert_good(&ended);
    assert_eq!(ended.states("sleeps").last().unwrap(), "stopped", "{:?}", ended.states("sleeps"));
}

#[test]
fn outputs_come_and_go_and_the_others_lose_nothing() {
    let plugins = folder(&["good"]);
    let stdout = "[[output]]\nkind = \"stdout\"\n";
    let config = Configured::new(stdout);
    let path = config.dir.path().join("lines");
    let running = config.start(plugins.path());
    running.wait_for_ticks(2);
    let file = format!("[[output]]\nkind = \"file\"\npath = \"{}\"\n", path.display());
    config.write(&format!("{stdout}{file}"));
    running.wait_for(TAKEN);
    wait_for_good(&path, 3);
    config.write(&format!("{stdout}{file}queue_bytes = 1000000\n"));
    running.wait_for_times(TAKEN, 2);
    wait_for_good(&path, 3);
    config.write(stdout);
    running.wait_for_times(TAKEN, 3);
    let ended = end(running);
    assert_good(&ended);
    assert_eq!(ended.sum("good", "replaced"), 0);
    let lines: Vec<Line> = read(&fs::read(path).unwrap()).unwrap();
    let good: Vec<u64> =
        lines.iter().filter(|line| line.table == "good").map(|line| line.u64("calls")).collect();
    assert!(good.len() >= 6, "{good:?}");
    assert!(good.windows(2).all(|two| two[1] == two[0] + 1), "{good:?}");
    // What it has produced is in the file.
    let name = |line: &&Line| line.tag("output").starts_with("file:");
    let about: Vec<&Line> = ended.table("collector_output").filter(name).collect();
    let sum = |field| about.iter().map(|line| line.u64(field)).sum::<u64>();
    assert_eq!(sum("lines_produced"), sum("lines_delivered"), "{}", ended.stderr);
    assert_eq!(sum("lines_produced"), lines.len() as u64);
}

#[test]
fn a_spool_goes_from_an_output_to_its_next_configuration() {
    let plugins = folder(&["good"]);
    let config = Configured::new("");
    let (path, spool) = (config.dir.path().join("lines"), config.dir.path().join("spool"));
    let text = |more: &str| {
        format!(
            "[[output]]\nkind = \"file\"\npath = \"{}\"\nspool = \"{}\"\n{more}",
            path.display(),
            spool.display()
        )
    };
    config.write(&text(""));
    let running = config.start(plugins.path());
    for (times, bytes) in [(1, "1000000"), (2, "2000000"), (3, "3000000")] {
        config.write(&text(&format!("queue_bytes = {bytes}\n")));
        running.wait_for_times(TAKEN, times);
        wait_for_good(&path, 1);
    }
    wait_for_good(&path, 2);
    let ended = end_now(running);
    let lines: Vec<Line> = read(&fs::read(path).unwrap()).unwrap();
    let good: Vec<u64> =
        lines.iter().filter(|line| line.table == "good").map(|line| line.u64("calls")).collect();
    assert!(good.windows(2).all(|two| two[1] == two[0] + 1), "{good:?}\n{}", ended.stderr);
    // All four together; what one left in the spool for the next is not of an earlier run.
    let books = ended.stderr.lines().rfind(|line| line.contains(" lines produced")).unwrap();
    let all = lines.len();
    let exact = format!("{all} lines produced = {all} delivered + 0 waiting");
    assert!(books.ends_with(&exact), "{exact}\n{}", ended.stderr);
}

#[test]
fn lines_for_a_server_that_is_down_are_those_of_the_next_configuration() {
    let plugins = folder(&["good"]);
    let config = Configured::new("");
    let (spool, nobody) =
        (config.dir.path().join("spool"), TcpListener::bind("127.0.0.1:0").unwrap());
    let address = nobody.local_addr().unwrap();
    drop(nobody);
    let text = |bytes| {
        format!(
            "[[output]]\nkind = \"tcp\"\naddress = \"{address}\"\nspool = \"{}\"\nqueue_bytes = {bytes}\n",
            spool.display()
        )
    };
    config.write(&text(1_000_000));
    let running = config.start(plugins.path());
    for times in 1..=3 {
        config.write(&text(1_000_000 + times));
        running.wait_for_times(TAKEN, times);
        thread::sleep(Duration::from_millis(250)); // some ticks, or none
    }
    let server = TcpListener::bind(address).unwrap();
    let path = config.dir.path().join("received");
    let mut received = File::create(&path).unwrap();
    let reader = thread::spawn(move || {
        io::copy(&mut server.accept().unwrap().0, &mut received).unwrap();
    });
    running.wait_for("works again");
    wait_for_good(&path, 8);
    let ended = end_now(running);
    reader.join().unwrap();
    let lines = read(&fs::read(path).unwrap()).unwrap();
    let good = lines.iter().filter(|line| line.table == "good").map(|line| line.u64("calls"));
    let mut good: Vec<u64> = good.collect();
    good.sort_unstable(); // the present in turn with what waited
    let all: Vec<u64> = (1..=good.len() as u64).collect();
    assert_eq!(good, all, "{}", ended.stderr);
    assert!(!ended.stderr.contains("dropped ("), "{}", ended.stderr);
}

#[test]
fn sighup_reads_it_too_and_a_tag_or_an_interval_changes_without_a_gap() {
    let plugins = folder(&["good"]);
    let counter = Counter::start("");
    install(plugins.path(), "libcounts.so", &build(1));
    let config = fs::read_to_string(counter.config()).unwrap();
    let with = |top: &str| fs::write(counter.config(), format!("{top}{config}")).unwrap();
    with("interval = \"1s\"\n");
    let args = ["--config", counter.config().to_str().unwrap().to_owned().leak() as &str];
    let running = Running::start(as_a_service(collector(plugins.path(), &args)));
    running.wait_for("counts 0");
    with("interval = \"100ms\"\n");
    running.signal("HUP");
    running.wait_for_times("counts: replaced", 1);
    running.wait_for_lines("counts,", 2);
    with("interval = \"50ms\"\ntags = { dc = \"x\" }\n");
    running.wait_for_times("counts: replaced", 2);
    running.wait_for_lines("counts,", 2);
    running.wait_for_lines("collector_plugin,", 2);
    let ended = end(running);
    let missing: Vec<u64> = missing(&ended).into_iter().map(|(_, missing)| missing).collect();
    println!("events in no line: {missing:?}");
    assert!(missing.iter().filter(|missing| **missing > 0).count() <= 2, "{missing:?}");
    assert_eq!(ended.table("counts").last().unwrap().tag("dc"), "x");
    assert_eq!(ended.table("collector_plugin").last().unwrap().tag("dc"), "x");
}

/// Milliseconds and values of each number of each series, in the order of the lines.
fn samples(lines: &[Line]) -> BTreeMap<String, Vec<(i64, u64)>> {
    let mut samples = BTreeMap::<String, Vec<_>>::new();
    for line in lines {
        for (field, value) in line.fields.iter().filter(|(field, _)| *field != "interval_ns") {
            let Value::I64(value) = value else { continue };
            let of_series = samples.entry(format!("{} {:?} {field}", line.table, line.tags));
            let sample = (line.time_ns / 1_000_000, value.unsigned_abs());
            of_series.or_default().push(sample);
        }
    }
    samples
}

/// What a database makes of sums: one that is smaller than the one before has begun at 0.
fn increase(samples: &[(i64, u64)]) -> u64 {
    let mut before = 0;
    samples
        .iter()
        .map(|(_, sum)| sum.checked_sub(std::mem::replace(&mut before, *sum)).unwrap_or(*sum))
        .sum()
}

/// Until shortly after the next tick.
fn sleep_past_a_tick(ms: u64) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    thread::sleep(Duration::from_millis(100 + ms - u64::from(now.subsec_millis()) % 100));
}

#[test]
fn sums_go_on_in_later_milliseconds_however_often_their_series_begin_again() {
    let plugins = folder(&["good"]);
    let config = Configured::new("");
    let file = |name: &str, more: &str| {
        let path = config.dir.path().join(name).display().to_string();
        format!("[[output]]\nkind = \"file\"\npath = \"{path}\"\n{more}")
    };
    let outputs = [file("deltas", ""), file("sums", "counters = \"cumulative\"\n")].concat();
    config.write(&outputs);
    let running = config.start(plugins.path());
    let path = config.dir.path().join("sums");
    wait_for_good(&path, 2);
    // The plugin alone is started again.
    for times in 1..=8 {
        config.write(&format!("{outputs}[plugin.good]\nwait = \"{times}s\"\n"));
        running.wait_for_times("good: replaced", times);
        wait_for_good(&path, 2);
    }
    // With another form all begin again, the lines about the collector too: between a tick and its report.
    for times in 1..=8 {
        let le = if times % 2 == 1 { file("le", "histogram = \"le\"\n") } else { String::new() };
        sleep_past_a_tick(2);
        config.write(&format!("{outputs}{le}[plugin.good]\nwait = \"8s\"\n"));
        running.wait_for_times("good: replaced", 8 + times);
        wait_for_good(&path, 2);
    }
    let ended = end_now(running);
    let lines = |name: &str| -> Vec<Line> {
        read(&fs::read(config.dir.path().join(name)).unwrap()).unwrap()
    };
    let (deltas, sums) = (samples(&lines("deltas")), samples(&lines("sums")));
    let wrong: Vec<String> = sums
        .iter()
        .filter_map(|(series, samples)| {
            // The same value may come twice.
            let wrong = |two: &&[(i64, u64)]| two[0] != two[1] && two[0].0 >= two[1].0;
            let two = samples.windows(2).find(wrong)?;
            Some(format!("{series}: {two:?}"))
        })
        .collect();
    assert!(wrong.is_empty(), "{}\n{}", wrong.join("\n"), ended.stderr);
    let counts = |series: &&String| {
        [" calls", " count", " sum_us", " bucket_4_8", " cpu_ns", " rows", " replaced"]
            .iter()
            .any(|field| series.ends_with(field))
    };
    let counted: Vec<&String> = deltas.keys().filter(counts).collect();
    assert!(counted.len() >= 8, "{counted:?}");
    for series in counted {
        let expected: u64 = deltas[series].iter().map(|(_, delta)| delta).sum();
        let found = sums.get(series).map_or(0, |samples| increase(samples));
        assert_eq!(found, expected, "{series}: {:?}\n{}", sums.get(series), ended.stderr);
    }
}
