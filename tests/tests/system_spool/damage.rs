//! A spool whose files somebody has damaged: what is lost is counted, or told in bytes, and the rest arrives.

use super::records::{Record, records, segments};
use super::{Server, load, pushed, records};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use system_tests::Stored;
use system_tests::faults::Mode;
use system_tests::running::{Books, Home};

/// Lines of a record.
const LINES: u64 = 100;
const TOTAL: u64 = 6_000;
/// An eighth of it is a segment, of a dozen records or so.
const SPOOL_BYTES: &str = "spool_bytes = 800000\nbatch_lines = 100\n";
/// Where a record's plugin and lines begin, when its plugin is `stream`.
const NAME_AT: usize = 54;
const LINES_AT: usize = NAME_AT + "stream".len();

/// A spool with the whole load in several segments, and nothing else.
fn config(home: &Home, server: &Server, spool: &Path) -> String {
    format!(
        "interval = \"1h\"\n{}{}",
        load(home, "a", &format!("interval = \"10ms\"\nlines = {LINES}\ntotal = {TOTAL}")),
        server.output(home, spool, SPOOL_BYTES)
    )
}

fn flip(segment: &Path, offset: usize) {
    let file = File::options().read(true).write(true).open(segment).expect("a segment");
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset as u64).expect("a byte");
    file.write_all_at(&[!byte[0]], offset as u64).expect("another byte");
}

fn cut(segment: &Path, length: usize) {
    let file = File::options().write(true).open(segment).expect("a segment");
    file.set_len(length as u64).expect("a shorter one");
}

fn dropped(lines: u64) -> BTreeMap<String, u64> {
    [("spool_error".to_owned(), lines)].into()
}

/// What arrived: all but these numbers.
fn assert_all_but(server: &Server, lost: impl Fn(u64) -> bool) {
    assert_eq!(server.has("a"), (1..=TOTAL).filter(|n| !lost(*n)).collect::<Vec<_>>());
}

#[test]
fn what_is_damaged_under_a_running_collector_is_counted_and_the_rest_arrives() {
    let (home, server) = (Home::new(), Server::out_of_reach());
    let spool = home.path("spool");
    let mut collector = home.start(&config(&home, &server, &spool));
    collector.wait_until("all to be spooled", |_| records::lines(&spool) == TOTAL);
    let segments = segments(&spool);
    assert!(segments.len() >= 4, "{segments:?}");
    let firsts: Vec<_> =
        first_numbers(&segments.iter().map(|path| records(path)).collect::<Vec<_>>());
    // The first record is on its way already. A byte of the lines, and one of a header.
    let of_first = records(&segments[0]);
    flip(&segments[0], of_first[2].offset + LINES_AT + 50);
    flip(&segments[0], of_first[4].offset + NAME_AT);
    // Shorter: within the third record.
    cut(&segments[1], records(&segments[1])[2].offset + 1000);
    fs::remove_file(&segments[2]).expect("a segment to remove");
    let is_lost = |n: u64| {
        let record = (n - 1) / LINES;
        [2, 4].contains(&record)
            || (firsts[1] + 2..firsts[2]).contains(&record)
            || (firsts[2]..firsts[3]).contains(&record)
    };
    let lost = (1..=TOTAL).filter(|n| is_lost(*n)).count() as u64;
    server.proxy.set(Mode::Pass);
    collector.wait_until("the rest to arrive", |_| server.count() == TOTAL - lost);
    collector.terminate();
    let ended = collector.end();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert_all_but(&server, is_lost);
    let books = ended.only_books();
    assert_eq!((books.waiting, books.dropped.clone()), (0, dropped(lost)), "{}", ended.stderr);
    assert!(books.balance() && books.delivered == server.contract.points() as u64, "{books:?}");
    let gaps = server.contract.lines("collector_gap");
    let told = gaps.iter().filter(|gap| gap.tag("cause") == "spool_error");
    assert_eq!(told.map(|gap| gap.u64("lines")).sum::<u64>(), lost, "the server knows too");
    println!("TABLE: spool damaged while it ran: {lost} of {TOTAL} lines lost, all counted");
}

/// The number of each segment's first record.
fn first_numbers(segments: &[Vec<Record>]) -> Vec<u64> {
    let mut next = 0;
    let first = |records: &Vec<Record>| {
        next += records.len() as u64;
        next - records.len() as u64
    };
    segments.iter().map(first).collect()
}

#[test]
fn what_is_damaged_between_two_runs_is_told_and_the_rest_arrives() {
    let (home, server) = (Home::new(), Server::out_of_reach());
    let spool = home.path("spool");
    let config = config(&home, &server, &spool);
    let mut collector = home.start(&config);
    collector.wait_until("all to be pushed", |_| pushed(&home, "a") == TOTAL);
    collector.terminate();
    let before = collector.end().only_books();
    let waited = Books { produced: before.produced, waiting: before.produced, ..Books::default() };
    assert_eq!(before, waited);

    let segments = segments(&spool);
    let of: Vec<_> = segments.iter().map(|path| records(path)).collect();
    let firsts = first_numbers(&of);
    flip(&segments[0], of[0][1].offset + LINES_AT + 50);
    flip(&segments[0], of[0][3].offset + NAME_AT);
    // Torn within a record in its middle, of a dozen.
    let torn = of[1][6];
    cut(&segments[1], torn.offset + torn.length / 2);
    // What is no file cannot be opened.
    fs::remove_file(&segments[2]).expect("a segment to remove");
    fs::create_dir(&segments[2]).expect("a folder in its place");
    let is_lost = |n: u64| {
        let record = (n - 1) / LINES;
        [1, 3].contains(&record)
            || (firsts[1] + 6..firsts[2]).contains(&record)
            || (firsts[2]..firsts[3]).contains(&record)
    };
    let lost = (1..=TOTAL).filter(|n| is_lost(*n)).count() as u64;

    server.proxy.set(Mode::Pass);
    let later = config.replace("run = \"a\"", "run = \"b\"").replace("progress-a", "progress-b");
    let mut collector = home.start(&later);
    let all = |_: &str| server.count() == 2 * TOTAL - lost;
    collector.wait_until("the rest to arrive, and what is new", all);
    collector.terminate();
    let ended = collector.end();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert_all_but(&server, is_lost);
    assert_eq!(server.has("b"), (1..=TOTAL).collect::<Vec<_>>());
    let books = ended.only_books();
    assert!(books.balance() && books.waiting == 0, "{books:?}");
    // The checksum of one record's lines is looked at when they are due; what has no header is not known.
    assert_eq!((books.recovered, books.dropped), (before.waiting - lost + LINES, dropped(LINES)));
    let (damaged, half) = (of[0][3], torn.length / 2);
    for told in [
        format!("{} bytes at {} are damaged and skipped", damaged.length, damaged.offset),
        format!("torn, the last {half} bytes at {} are cut", torn.offset),
        format!("{} is left as it is: a directory, not a regular file", segments[2].display()),
    ] {
        assert!(ended.stderr.contains(&told), "`{told}` is not in\n{}", ended.stderr);
    }
    assert!(segments[2].is_dir());
    println!("TABLE: spool damaged between two runs: {lost} of {TOTAL} lines lost, all told");
}
