//! After an outage that the spool bore: the oldest lines come first, and the present does not wait for them.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use system_tests::contract::{Contract, V2};
use system_tests::database::Database;
use system_tests::faults::{Mode, Proxy};
use system_tests::load::{Load, assert_all, pushed};
use system_tests::running::Home;

/// 2,000 lines a second, some 200 kB. Their times are those of the ticks.
const LOAD: Load =
    Load { interval: Duration::from_millis(100), lines: 200, total: 0, series: 2, odd: 0 };
/// Longer than what counts as an outage that leaves a backlog.
const OUTAGE: Duration = Duration::from_secs(10);
/// A slow server: it takes in a second what is made in two.
const SLOW: Mode = Mode::Slow { bytes_per_second: 350_000 };
/// A request of the backlog, one of the present, and a machine that has other things to do.
const FRESH: Duration = Duration::from_secs(5);

/// A line that came in.
#[derive(Clone, Copy)]
struct Arrival {
    number: u64,
    late: Duration,
}

/// So often it is measured, where the machine has other things to do.
const ATTEMPTS: u32 = 3;

#[test]
fn the_oldest_come_first_and_the_present_does_not_wait_for_them() {
    let mut found = Vec::new();
    for _ in 0..ATTEMPTS {
        let (fresh, latest) = bear_an_outage();
        if fresh >= LOAD.within(Duration::from_secs(2)) && latest <= FRESH {
            return;
        }
        found.push((fresh, latest));
    }
    panic!("fresh lines that came before the backlog's end, and how late: {found:?}");
}

/// How many fresh lines came before the backlog's end, and how late at most.
fn bear_an_outage() -> (u64, Duration) {
    let server = Contract::v2(V2::default());
    let arrivals = Arc::<Mutex<Vec<Arrival>>>::default();
    let seen = Arc::clone(&arrivals);
    server.refuse(move |line| {
        seen.lock().expect("no panic").extend(arrival(line));
        None
    });
    let database = Database::Influxdb2(server);
    let (home, proxy) = (Home::new(), Proxy::tcp(database.address()));
    // Of two requests under way at once, either may arrive first.
    let spool = format!(
        "spool = \"{}\"\ngzip = false\nbatch_lines = 2000\nin_flight = 1\n",
        home.path("spool").display()
    );
    let output = database.output(&home, proxy.address(), &spool);
    let mut collector = home.start(&LOAD.config(&home, &[&output]));
    collector.wait_until("the first lines to arrive", |_| database.count() > 0);

    proxy.set(Mode::Closed);
    let begin = pushed(&home);
    collector.wait_until("the backlog", |_| pushed(&home) >= begin + LOAD.within(OUTAGE));
    proxy.set(SLOW);
    collector.wait_until("the output to work again", |said| said.contains("works again"));
    let backlog = pushed(&home);
    let all = || database.count() >= pushed(&home).saturating_sub(LOAD.within(FRESH));
    collector.wait_until("the backlog to be gone", |_| all());
    proxy.set(Mode::Pass);
    collector.terminate();
    let ended = collector.end();
    let books = ended.only_books();
    assert!(books.balance() && books.delivered == books.produced, "{}", ended.stderr);
    assert_all(database.stored(), 1..=pushed(&home));

    // What lay in the spool when it worked again is the backlog: all but what was made while we looked,
    // and what a busy disk had not yet let in.
    let sure = backlog - LOAD.within(Duration::from_secs(3));
    let mut arrivals = arrivals.lock().expect("no panic");
    // A request whose answer the outage cut off comes once more.
    let mut told = BTreeSet::new();
    arrivals.retain(|arrival| told.insert(arrival.number));
    let old: Vec<u64> =
        arrivals.iter().map(|arrival| arrival.number).filter(|number| *number <= sure).collect();
    let step_back = old.windows(2).find(|pair| pair[0] > pair[1]);
    assert_eq!(step_back, None, "of {begin}..{sure}, {backlog} made\n{}", ended.stderr);
    // Fresh lines that came while some of the backlog was still to come.
    let last_old = arrivals.iter().rposition(|a| a.number <= sure).expect("a backlog");
    let fresh: Vec<_> = arrivals[..last_old].iter().filter(|a| a.number > backlog).collect();
    let latest = fresh.iter().map(|arrival| arrival.late).max().unwrap_or_default();
    println!(
        "TABLE: backlog of {} lines behind a slow server: {} fresh lines came before its end, {:.1} s \
         late at most",
        backlog - begin,
        fresh.len(),
        latest.as_secs_f64()
    );
    (fresh.len() as u64, latest)
}

/// What a line of the load says of itself.
fn arrival(line: &str) -> Option<Arrival> {
    let rest = line.strip_prefix("stream,")?;
    let (_, value) = rest.split_once("value=")?;
    let number = value.split_once('i')?.0.parse().ok()?;
    let made = Duration::from_nanos(line.rsplit_once(' ')?.1.parse().ok()?);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
    Some(Arrival { number, late: now.saturating_sub(made) })
}
