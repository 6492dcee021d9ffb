//! C plugins whose threads send lines between the ticks.

use super::build;
use crate::process::{Ended, Running, collector, folder};
use collector::read::{Line, Value};
use std::time::Duration;

/// Runs a variant of the plugin whose threads send for some ticks; what it says that it sent: taken, full, stopped.
fn push(definitions: &[&str], interval: &str, ticks: u64) -> (Ended, Option<[u64; 3]>) {
    let dir = tempfile::tempdir().unwrap();
    let plugins = folder(&["good"]);
    build(plugins.path(), "push", "push.c", definitions);
    let counts = dir.path().join("counts");
    let args = ["--interval", interval, "--ticks", &ticks.to_string()];
    let mut command = collector(plugins.path(), &args);
    command.env("COUNTS", &counts);
    let ended = Running::start(command).end();
    let counts = std::fs::read_to_string(counts).ok().map(|text| {
        let numbers: Vec<u64> = text.split_whitespace().map(|word| word.parse().unwrap()).collect();
        let [taken, full, stopped, 0] = numbers[..] else { panic!("{text}") };
        [taken, full, stopped]
    });
    let good = ended.table("good").count() as u64 + ended.sum("good", "ticks_missed");
    assert_eq!(good, ticks, "{}", ended.stderr);
    (ended, counts)
}

/// Every line that was sent is there or was counted.
fn assert_books(ended: &Ended, [taken, full, stopped]: [u64; 3]) {
    let there = ended.table("pushed").count() as u64;
    let dropped = |cause: &str| ended.sum("push", &format!("dropped_{cause}"));
    assert_eq!(dropped("full"), full, "{}", ended.stderr);
    // Those of the end: taken after the last call, or sent later.
    assert!(dropped("closed") >= stopped, "{stopped} stopped");
    assert_eq!(there + dropped("closed"), taken + stopped, "{}", ended.stderr);
    assert_eq!(dropped("invalid") + dropped("duplicate") + dropped("series"), 0);
    assert!(there > 0);
}

#[test]
fn lines_that_threads_send_between_ticks_go_out_with_the_next_one() {
    let (ended, counts) = push(&["PAUSE_US=1000"], "100ms", 10);
    let counts = counts.unwrap();
    assert_books(&ended, counts);
    // A tick that was missed left more for the next one.
    let missed = ended.sum("push", "ticks_missed");
    assert!(counts[1] == 0 || missed > 0, "within bounds nothing is lost: {counts:?}");
    for thread in ["0", "1", "2", "3"] {
        let lines: Vec<&Line> =
            ended.table("pushed").filter(|line| line.tag("thread") == thread).collect();
        let numbers: Vec<Value> =
            lines.iter().map(|line| line.get("number").unwrap().clone()).collect();
        let expected: Vec<Value> = (0..numbers.len()).map(|n| Value::F64(n as f64)).collect();
        assert_eq!(numbers, expected, "each once, in order");
        assert!(lines.windows(2).all(|two| two[0].time_ns < two[1].time_ns), "times of their own");
        let logs = lines.iter().filter(|line| line.get("log").is_some()).count();
        assert_eq!(logs, numbers.len() / 16);
    }
}

#[test]
fn threads_that_send_at_full_speed_lose_lines_beyond_the_bounds_only_and_all_are_counted() {
    let (ended, counts) = push(&[], "100ms", 10);
    let counts = counts.unwrap();
    assert_eq!(ended.code, Some(3), "{}", ended.stderr);
    assert!(counts[1] > 0, "{counts:?}");
    assert_books(&ended, counts);
    let told = ended.stderr.matches("between two ticks: dropped").count();
    assert_eq!(told, 1, "{}", ended.stderr);
    let host = ended.table("collector_host").last().unwrap();
    assert!(host.u64("rss_bytes") < 150 << 20, "{host:?}");
}

#[test]
fn a_plugin_whose_threads_send_can_be_started_again_and_again() {
    let (ended, counts) = push(&["FAILS_EVERY=2"], "100ms", 60);
    assert_books(&ended, counts.unwrap());
    assert!(ended.sum("push", "errors") >= 6, "two restarts: {}", ended.stderr);
    let states = ended.states("good");
    assert!(states.iter().all(|state| ["loading", "running", "late"].contains(&&**state)));
}

#[test]
fn however_threads_are_stopped_the_process_stays() {
    for definitions in [
        &["JOINS_ONLY"][..],
        &["BLOCKS"],
        &["BLOCKS", "JOINS_ONLY"],
        &["LEAVES_THREADS"],
        &["BLOCKS", "LEAVES_THREADS"],
    ] {
        let fails = [definitions, &["FAILS_EVERY=2"]].concat();
        for definitions in [definitions, &fails] {
            let (ended, counts) = push(definitions, "100ms", 12);
            assert!(
                matches!(ended.code, Some(0 | 3)),
                "{definitions:?}: {:?} {}",
                ended.code,
                ended.stderr
            );
            assert!(!ended.stderr.contains("do not end"), "{definitions:?}: {}", ended.stderr);
            if !definitions.contains(&"LEAVES_THREADS") && !definitions.contains(&"BLOCKS") {
                assert_books(&ended, counts.unwrap());
            }
        }
    }
}

#[test]
fn a_thread_that_does_not_end_is_told_of_and_left_behind() {
    let (ended, _) = push(&["IGNORES", "LEAVES_THREADS", "PAUSE_US=1000"], "100ms", 10);
    assert!(ended.stderr.contains("4 of its threads do not end"), "{}", ended.stderr);
    assert!(ended.took < Duration::from_secs(20), "{:?}", ended.took);
}

#[test]
fn sigterm_under_that_load_ends_it_in_order() {
    let plugins = folder(&["good"]);
    build(plugins.path(), "push", "push.c", &[]);
    let dir = tempfile::tempdir().unwrap();
    let counts = dir.path().join("counts");
    let mut command = collector(plugins.path(), &["--interval", "100ms"]);
    command.env("COUNTS", &counts);
    let running = Running::start(command);
    running.wait_for_lines("pushed", 1);
    running.signal("TERM");
    let ended = running.end();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let text = std::fs::read_to_string(counts).unwrap();
    let numbers: Vec<u64> = text.split_whitespace().map(|word| word.parse().unwrap()).collect();
    assert_books(&ended, [numbers[0], numbers[1], numbers[2]]);
}
