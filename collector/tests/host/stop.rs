//! Ticks, and the end.

use crate::process::{Ended, Running, an_hour_beside_prints, collector, folder, run};
use std::io::Read;
use std::time::{Duration, Instant};

#[test]
fn n_ticks_are_n_ticks_on_the_grid() {
    let plugins = folder(&["good", "outside"]);
    for n in [1, 3] {
        let ended = run(plugins.path(), &["--interval", "200ms", "--ticks", &n.to_string()]);
        // 3 when `outside` pushed a row between two calls, which it does at any time.
        assert!(matches!(ended.code, Some(0 | 3)), "{}", ended.stderr);
        let times: Vec<i64> = ended.table("good").map(|line| line.time_ns).collect();
        assert_eq!(times.len() as u64 + ended.sum("good", "ticks_missed"), n);
        assert!(times.iter().all(|time| time % 200_000_000 == 0), "{times:?}");
        assert!(times.is_sorted_by(|a, b| a < b), "{times:?}");
        for table in ["collector_host", "collector_output"] {
            let own: Vec<i64> = ended.table(table).map(|line| line.time_ns).collect();
            assert_eq!(own.last(), times.last(), "{table}");
            assert!(own.len() as u64 <= n, "{table}");
        }
        assert_eq!(
            ended.sum("good", "calls"),
            times.len() as u64,
            "the last report knows of the last call"
        );
        assert!(!ended.states("good").contains(&"stopped".to_owned()), "its state of work stays");
    }
}

#[test]
fn intervals_are_per_plugin_and_measured() {
    let plugins = folder(&["good", "panics", "fails"]);
    let config = plugins.path().join("c.toml");
    let text =
        "interval = \"400ms\"\n[plugin.good]\ninterval = \"100ms\"\n[plugin.fails]\nat = \"\"\n";
    std::fs::write(&config, text).unwrap();
    let config = config.to_str().unwrap();
    let ended = run(plugins.path(), &["--config", config, "--only", "good,fails", "--ticks", "2"]);
    assert_eq!(ended.table("panics").count(), 0);
    assert_eq!(ended.table("fails").count() as u64 + ended.sum("fails", "ticks_missed"), 2);
    let times: Vec<u64> = ended.table("good").map(|it| it.time_ns.unsigned_abs()).collect();
    let span = times[times.len() - 1] - times[0];
    // The last one may stand beside the grid.
    let most = span / 100_000_000 + 2;
    let good = ended.ticks("good");
    assert!((3..=most).contains(&good), "{good} ticks of 100 ms in {span} ns");
    for line in ended.table("good").skip(1) {
        let interval = line.u64("interval_ns");
        assert!((20_000_000..20_000_000_000).contains(&interval), "{interval}");
    }
    let last = |table| ended.table(table).last().unwrap().time_ns;
    let apart = last("good").abs_diff(last("fails"));
    let missed = (ended.sum("good", "ticks_missed") * 100_000_000).max(400_000_000);
    assert!(apart <= missed, "all end at the last base tick: {apart}");
}

#[test]
fn a_signal_beside_a_tick_makes_a_line_of_another_millisecond() {
    let plugins = folder(&["good"]);
    for _ in 0..10 {
        let running = Running::start(collector(plugins.path(), &["--interval", "100ms"]));
        running.wait_for_lines("good", 1);
        running.signal("TERM");
        let ended = running.end();
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        for table in ["good", "collector_host"] {
            let times: Vec<i64> = ended.table(table).map(|it| it.time_ns / 1_000_000).collect();
            assert!(times.is_sorted_by(|a, b| a < b), "{table}: {times:?}");
        }
        assert!(ended.table("good").count() > 1, "{}", ended.stderr);
    }
}

#[test]
fn on_a_signal_the_last_partial_tick_is_emitted() {
    for signal in ["TERM", "INT"] {
        let plugins = folder(&["good", "prints"]);
        let config = an_hour_beside_prints(plugins.path());
        let running = Running::start(collector(plugins.path(), &["--config", &config]));
        running.wait_for_lines("prints", 1);
        running.signal(signal);
        let ended = running.end();
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        let lines: Vec<_> = ended.table("good").collect();
        assert_eq!(lines.len(), 1, "{}", ended.stderr);
        assert!(lines[0].u64("interval_ns") < 200_000_000_000, "{:?}", lines[0]);
        assert_eq!(ended.states("good"), ["stopped"]);
        assert_eq!(ended.about("good")[0].time_ns, lines[0].time_ns);
        assert!(ended.stderr.contains(&format!("ending: SIG{signal}")), "{}", ended.stderr);
        let all = ended.lines.len();
        let all = format!("output stdout: {all} lines produced = {all} delivered");
        assert!(ended.stderr.contains(&all), "{}", ended.stderr);
    }
}

/// Makes sure that each tick of 100 ms between a plugin's first line and its last, which is off the grid, is made or
/// missed. The last one may stand in the place of one that was due.
fn assert_no_tick_is_forgotten(ended: &Ended, plugin: &str, at_least: u64) {
    const INTERVAL: i64 = 100_000_000;
    let times: Vec<i64> = ended.table(plugin).map(|line| line.time_ns).collect();
    let (first, last) = (times[0], *times.last().unwrap());
    assert_ne!(last % INTERVAL, 0, "a last tick: {times:?}");
    let slots = (last.div_euclid(INTERVAL) - first.div_euclid(INTERVAL)).unsigned_abs();
    let made = times[1..].iter().filter(|time| **time % INTERVAL == 0).count() as u64;
    let missed = ended.sum(plugin, "ticks_missed");
    // On a machine that stands still, the very first one may be missed too.
    assert!((slots - 1..=slots + 1).contains(&(made + missed)), "{slots}: {made} + {missed}");
    assert!(missed >= at_least, "{missed} missed");
}

#[test]
fn ticks_that_a_call_has_passed_at_the_end_are_missed() {
    let plugins = folder(&["good", "sleeps"]);
    let config = plugins.path().join("c.toml");
    let text = "interval = \"100ms\"\n[plugin.sleeps]\ntime = \"600ms\"\n";
    std::fs::write(&config, text).unwrap();
    let running =
        Running::start(collector(plugins.path(), &["--config", config.to_str().unwrap()]));
    running.wait_for_lines("sleeps", 1);
    std::thread::sleep(Duration::from_millis(450));
    running.signal("TERM");
    let ended = running.end();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert_no_tick_is_forgotten(&ended, "sleeps", 5);
    assert_no_tick_is_forgotten(&ended, "good", 0);
}

#[test]
fn ticks_of_a_machine_that_stood_still_until_the_end_are_missed() {
    let plugins = folder(&["good"]);
    let running = Running::start(collector(plugins.path(), &["--interval", "100ms"]));
    running.wait_for_lines("good", 2);
    running.signal("STOP");
    std::thread::sleep(Duration::from_millis(700));
    running.signal("TERM");
    running.signal("CONT");
    let ended = running.end();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert_no_tick_is_forgotten(&ended, "good", 4);
}

#[test]
fn a_plugin_that_hangs_does_not_hold_up_the_end() {
    let plugins = folder(&["good", "sleeps"]);
    let running = Running::start(collector(plugins.path(), &["--interval", "100ms"]));
    running.wait_for("sleeps: a call is running for");
    let told = Instant::now();
    running.signal("TERM");
    let ended = running.end();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(told.elapsed() < Duration::from_secs(20), "{:?}", told.elapsed());
    assert_eq!(ended.states("sleeps").pop().unwrap(), "late");
    assert!(ended.sum("sleeps", "ticks_missed") > 0, "of those until the signal");
    let last = ended.table("good").last().unwrap();
    assert_ne!(last.time_ns % 100_000_000, 0, "good's partial tick is there");
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let plugins = folder(&["sleeps"]);
    let running = Running::start(collector(plugins.path(), &["--interval", "100ms"]));
    running.wait_for("a call is running for");
    running.signal("INT");
    running.wait_for("ending: SIGINT");
    running.signal("INT");
    let ended = running.end();
    assert_eq!(ended.code, Some(130));
    assert!(!ended.stderr.contains("has not ended in time"), "{}", ended.stderr);
}

#[test]
fn a_reader_that_leaves_ends_it() {
    let plugins = folder(&["good"]);
    let mut child = collector(plugins.path(), &["--interval", "50ms"]).spawn().unwrap();
    let mut stdout = child.stdout.take().unwrap();
    stdout.read_exact(&mut [0; 10]).unwrap();
    drop(stdout);
    let mut stderr = String::new();
    child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0), "{stderr}");
    assert!(stderr.contains("ending: the outputs are gone"), "{stderr}");
}

#[test]
fn a_reader_that_leaves_is_no_matter_while_another_output_lives() {
    let plugins = folder(&["good"]);
    let file = plugins.path().join("lines");
    let url = format!("file:{}", file.display());
    let args = ["--interval", "50ms", "--ticks", "20", "--output", "stdout", "--output", &url];
    let mut child = collector(plugins.path(), &args).spawn().unwrap();
    drop(child.stdout.take());
    let mut stderr = String::new();
    child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(3), "{stderr}");
    let lines = collector::read::read(&std::fs::read(file).unwrap()).unwrap();
    let good = lines.iter().filter(|line| line.table == "good").count() as u64;
    let about = lines.iter().filter(|line| line.tag("plugin") == "good");
    assert_eq!(good + about.map(|line| line.u64("ticks_missed")).sum::<u64>(), 20);
    let stdout = lines.iter().filter(|line| line.tag("output") == "stdout");
    let lost: u64 = stdout.map(|line| line.u64("lines_dropped_error")).sum();
    assert!(lost >= good, "{lost} lines counted as lost");
}

#[test]
fn the_books_of_every_output_balance() {
    let plugins = folder(&["good"]);
    let file = plugins.path().join("lines");
    let url = format!("file:{}", file.display());
    let args = ["--interval", "50ms", "--ticks", "10", "--output", "stdout", "--output", &url];
    let ended = run(plugins.path(), &args);
    assert_eq!(std::fs::read_to_string(file).unwrap(), ended.stdout);
    for output in ["stdout", &url] {
        let about = || ended.table("collector_output").filter(|line| line.tag("output") == output);
        let sum = |field| about().map(|line| line.u64(field)).sum::<u64>();
        let waiting = about().last().unwrap().u64("lines_waiting");
        let dropped = sum("lines_dropped_full") + sum("lines_dropped_error");
        assert_eq!(sum("lines_produced"), sum("lines_delivered") + waiting + dropped);
        let all = format!("output {output}: {0} lines produced = {0} delivered", ended.lines.len());
        assert!(ended.stderr.contains(&all), "{}", ended.stderr);
    }
}

#[test]
fn lines_that_were_not_delivered_at_the_last_tick_are_exit_code_3() {
    let plugins = folder(&["good", "fails"]);
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = format!("tcp://{nobody}");
    let args = ["--interval", "50ms", "--ticks", "1", "--output", &url];
    let ended = run(plugins.path(), &args);
    assert_eq!(ended.code, Some(3), "{}", ended.stderr);
    let words = "lines were lost or not delivered: exit code 3";
    assert!(ended.stderr.contains(words), "{}", ended.stderr);
    // All are delivered, and a plugin that fails is no line.
    let ended = run(plugins.path(), &["--interval", "50ms", "--ticks", "1"]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    // Whoever ends it by a signal knows.
    let running =
        Running::start(collector(plugins.path(), &["--interval", "1h", "--output", &url]));
    running.wait_for("good: by nobody");
    running.signal("TERM");
    assert_eq!(running.end().code, Some(0));
}

#[test]
fn rows_over_a_plugins_cap_are_exit_code_3() {
    let plugins = folder(&["good"]);
    let config = plugins.path().join("c.toml");
    std::fs::write(&config, "[plugin.good]\nlines = 3\nmax_lines = 2\n").unwrap();
    let config = config.to_str().unwrap();
    let ended = run(plugins.path(), &["--config", config, "--interval", "50ms", "--ticks", "1"]);
    assert_eq!(ended.code, Some(3), "{}", ended.stderr);
}

#[test]
fn a_second_signal_ends_once_at_once() {
    let plugins = folder(&["sleeps"]);
    let config = plugins.path().join("c.toml");
    std::fs::write(&config, "[plugin.sleeps]\nstart = \"1h\"\n").unwrap();
    let args = ["once", "sleeps", "--config", config.to_str().unwrap()];
    let running = Running::start(collector(plugins.path(), &args));
    running.wait_for_thread("collector/sig");
    // The start hangs, so the first one can only ask for the end.
    running.signal("TERM");
    running.signal("INT");
    let code = running.end_of_command().code;
    assert!(matches!(code, Some(130 | 143)), "{code:?}");
}

#[test]
fn a_plugin_that_fails_for_the_same_reason_says_so_once() {
    let plugins = folder(&["good", "fails"]);
    let config = plugins.path().join("c.toml");
    std::fs::write(&config, "[plugin.fails]\nat = \"init\"\n").unwrap();
    let config = config.to_str().unwrap();
    let ended = run(plugins.path(), &["--config", config, "--interval", "50ms", "--ticks", "20"]);
    assert!(ended.sum("fails", "errors") > 1, "{}", ended.stderr);
    assert_eq!(
        ended.stderr.matches("init failed: no such function").count(),
        1,
        "{}",
        ended.stderr
    );
}
