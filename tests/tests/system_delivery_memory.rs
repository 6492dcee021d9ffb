//! An outage past the bounds: memory stays within its own.

use std::time::Duration;
use system_tests::database::Database;
use system_tests::faults::{Mode, Proxy};
use system_tests::load::{Load, pushed};
use system_tests::running::Home;
use system_tests::wait;

/// A collector of which nothing is asked, in the same surroundings.
fn idle_peak(database: &Database, keys: &str) -> u64 {
    let home = Home::new();
    let load = Load { lines: 0, ..Load::default() };
    let output = database.output(&home, database.address(), keys);
    let collector = home.start(&load.config(&home, &[&output]));
    wait::until("ten ticks", || database.stored().lines("collector_host").len() >= 10);
    collector.memory().peak
}

/// The highest number that is stored.
fn newest(database: &Database) -> u64 {
    database.stored().numbers("stream", "value").last().map_or(0, |number| *number as u64)
}

fn memory(kind: &str, spool: bool) {
    const QUEUE_BYTES: u64 = 8 << 20;
    let keys = |home: &Home| {
        let spool = match spool {
            true => {
                let path = home.path("spool");
                format!("spool = \"{}\"\nspool_bytes = 16777216\n", path.display())
            }
            false => String::new(),
        };
        format!("queue_bytes = {QUEUE_BYTES}\ntimeout = \"2s\"\n{spool}")
    };
    let home = Home::new();
    let idle = idle_peak(&Database::influxdb2(), &keys(&Home::new()));
    let database = Database::influxdb2();
    let proxy = Proxy::tcp(database.address());
    // Some 20 MB a second.
    let load = Load { lines: 20_000, series: 200, ..Load::default() };
    let output = database.output(&home, proxy.address(), &keys(&home));
    let mut collector = home.start(&load.config(&home, &[&output]));
    for mode in [Mode::Silent, Mode::Slow { bytes_per_second: 100_000 }] {
        proxy.set(mode);
        let until = pushed(&home) + load.within(Duration::from_secs(3));
        collector.wait_until("the load to go on", |_| pushed(&home) >= until);
        proxy.set(Mode::Pass);
        let now = pushed(&home);
        collector.wait_until("the newest lines to arrive", |_| newest(&database) > now);
    }
    let peak = collector.memory().peak;
    collector.terminate();
    let ended = collector.end();
    let books = ended.only_books();
    assert!(books.balance() && !books.dropped.is_empty(), "{}", ended.stderr);
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    println!(
        "TABLE: memory, {kind}: {:.1} MiB idle, {:.1} MiB at most with {:.0} MiB that may wait, while \
         {} lines were made and {} dropped",
        mib(idle),
        mib(peak),
        mib(QUEUE_BYTES),
        books.produced,
        books.dropped.values().sum::<u64>()
    );
    assert!(peak <= idle + QUEUE_BYTES + (16 << 20), "{peak} bytes, and {idle} when idle");
}

#[test]
fn memory_stays_within_its_bound_while_nobody_answers() {
    memory("without a spool", false);
}

#[test]
fn memory_stays_within_its_bound_while_nobody_answers_with_a_spool() {
    memory("with a spool", true);
}
