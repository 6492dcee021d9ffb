//! One output with two databases: one is always well, and every line is in one of them.

use std::time::Duration;
use system_tests::Stored;
use system_tests::load::{Load, assert_all_of, pushed};
use system_tests::running::{Ended, Home};
use system_tests::servers::{DATABASE, Influx, Victoria};

const LOAD: Load =
    Load { interval: Duration::from_millis(100), lines: 500, total: 0, series: 5, odd: 0 };
const KEYS: &str = "timeout = \"3s\"\nbatch_time = \"100ms\"\n";

/// An output to two URLs.
fn output(kind: &str, urls: [String; 2], more: &str) -> String {
    format!(
        "[[output]]\nkind = \"{kind}\"\nurls = [\"{}\", \"{}\"]\n{more}\n{KEYS}",
        urls[0], urls[1]
    )
}

/// Checks that the books balance, and that what went to the URLs is all that was delivered.
fn assert_books(ended: &Ended, urls: [String; 2]) {
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let books = ended.books();
    let books = books.values().next().expect("the output's books");
    assert!(books.balance(), "{books:?}");
    assert_eq!((books.delivered, books.waiting), (books.produced, 0), "{}", ended.stderr);
    let went_to = |url: &String| -> u64 {
        let end = format!(" lines went to {url}");
        let line = ended.stderr.lines().find_map(|line| line.strip_suffix(&end));
        let number = line.and_then(|line| line.rsplit(' ').next()).expect("what went to it");
        number.parse().expect("a number of lines")
    };
    let [a, b] = [&urls[0], &urls[1]].map(went_to);
    assert!(a > 0 && b > 0 && a + b == books.delivered, "{}", ended.stderr);
    println!("TABLE: failover: {} lines, {a} to the first, {b} to the second", books.delivered);
}

/// Checks that every line is in one of them. One that was on its way when its answer got lost is in both.
fn assert_in_either(home: &Home, stored: [&dyn Stored; 2], field: &str) {
    let mut numbers: Vec<i64> =
        stored.iter().flat_map(|stored| stored.numbers("stream", field)).collect();
    numbers.sort_unstable();
    let count = numbers.len();
    numbers.dedup();
    let twice = count - numbers.len();
    println!("TABLE: failover: {twice} lines are in both");
    assert_all_of(&numbers, 1..=pushed(home));
}

#[test]
fn a_database_that_dies_and_one_that_hangs_cost_nothing_beside_another() {
    let (mut a, b) = (Influx::start(), Influx::start());
    let home = Home::new();
    let urls = || [a.server.url(), b.server.url()];
    let names = urls();
    let output = output("influxdb1", urls(), &format!("database = \"{DATABASE}\""));
    let mut collector = home.start(&LOAD.config(&home, &[&output]));
    let more = LOAD.lines * 5;
    collector.wait_until("lines at the first", |_| a.count("stream", "value") > more);
    a.server.kill9();
    collector.wait_until("lines at the second", |_| b.count("stream", "value") > more);
    a.server.start();
    let before = a.count("stream", "value");
    b.server.freeze();
    collector
        .wait_until("lines at the first again", |_| a.count("stream", "value") > before + more);
    b.server.thaw();
    collector.terminate();
    let ended = collector.end();
    for words in [
        format!("its lines go to {} now", names[1]),
        format!("{} works again: its lines go there", names[0]),
    ] {
        assert!(ended.stderr.contains(&words), "{words}: {}", ended.stderr);
    }
    assert_books(&ended, names);
    assert_in_either(&home, [&a, &b], "value");
}

#[test]
fn a_victoriametrics_that_dies_costs_nothing_beside_another() {
    let (mut a, b) = (Victoria::start(), Victoria::start());
    let home = Home::new();
    let urls = [a.server.url(), b.server.url()];
    let output = output("victoriametrics", urls.clone(), "");
    let mut collector = home.start(&LOAD.config(&home, &[&output]));
    let more = LOAD.lines * 5;
    collector.wait_until("lines at the first", |_| a.searchable("stream_value") > more);
    a.server.stop(); // it loses what it has not yet on disk when it is killed
    collector.wait_until("lines at the second", |_| b.searchable("stream_value") > more);
    collector.terminate();
    let ended = collector.end();
    assert_books(&ended, urls);
    a.server.start();
    assert_in_either(&home, [&a, &b], "value");
}
