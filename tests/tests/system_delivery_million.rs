//! A million lines through each kind of output: what was made is what is stored.

use std::fs;
use std::io::{PipeWriter, Read, pipe};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;
use system_tests::Stored;
use system_tests::database::Database;
use system_tests::load::{Load, assert_all, pushed, whole};
use system_tests::readers::Reader;
use system_tests::running::{Books, Home};
use system_tests::wait;

const LINES: u64 = 1_000_000;
/// Nothing has to be dropped, however slow the machine is.
const ROOM: &str = "queue_bytes = 268435456\n";
/// For the slowest database on a slow machine.
const LIMIT: Duration = Duration::from_secs(150);

const LOAD: Load =
    Load { interval: Duration::from_millis(50), lines: 25_000, total: LINES, series: 100, odd: 0 };

/// Sends the load into an output, until so many lines have arrived. Its books, which are checked.
fn send(
    kind: &str,
    home: &Home,
    stdout: Option<PipeWriter>,
    config: &str,
    mut arrived: impl FnMut() -> u64,
) -> Books {
    let mut collector = home.start_with(config, |command| {
        stdout.map(|pipe| command.stdout(pipe));
    });
    collector.wait_until("a million lines", |_| pushed(home) == LINES);
    let rest = wait::until_within(LIMIT, "a million lines to arrive", || arrived() >= LINES);
    let peak = collector.memory().peak >> 20;
    collector.terminate();
    let ended = collector.end();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let books = ended.only_books();
    assert!(books.balance(), "{books:?}");
    assert_eq!((books.delivered, books.waiting), (books.produced, 0), "{}", ended.stderr);
    assert!(books.dropped.is_empty() && books.produced > LINES, "{books:?}");
    println!(
        "TABLE: {LINES} lines through {kind}: {:.1} s, the last {:.1} s after the last line was made; \
         {peak} MiB",
        ended.ran.as_secs_f64(),
        rest.as_secs_f64()
    );
    books
}

/// Checks what is stored: the load, and in the collector's own words how much it was.
fn check(stored: &dyn Stored) {
    assert_all(stored, 1..=LINES);
    let words = stored.lines("collector_plugin");
    let sum = |field: &str| {
        let of_load = words.iter().filter(|line| line.tag("plugin") == "stream");
        of_load.map(|line| whole(line, field)).sum::<u64>()
    };
    assert_eq!((sum("lines"), sum("lines_produced")), (LINES, LINES));
    assert_eq!((sum("lines_dropped"), sum("dropped_full"), sum("dropped_invalid")), (0, 0, 0));
}

fn through_database(database: &Database) {
    let home = Home::new();
    let output = database.output(&home, database.address(), ROOM);
    let config = LOAD.config(&home, &[&output]);
    send(database.kind(), &home, None, &config, || database.count());
    check(database.stored());
}

#[test]
fn a_million_lines_come_through_influxdb1() {
    through_database(&Database::influxdb1());
}

#[test]
fn a_million_lines_come_through_influxdb2() {
    through_database(&Database::influxdb2());
}

#[test]
fn a_million_lines_come_through_influxdb3() {
    through_database(&Database::influxdb3());
}

#[test]
fn a_million_lines_come_through_victoriametrics() {
    through_database(&Database::victoriametrics());
}

fn through_socket(kind: &str, load: &Load, home: &Home, reader: &Reader, place: &str) {
    let output = format!("[[output]]\nkind = \"{kind}\"\n{place}\n{ROOM}");
    let books = send(kind, home, None, &load.config(home, &[&output]), || reader.count());
    wait::until("the last lines to be read", || reader.count() >= books.delivered);
    let taken = reader.taken();
    assert_eq!((taken.lines, taken.torn.len()), (books.delivered, 0));
    check(&taken.text);
}

#[test]
fn a_million_lines_come_through_a_unix_stream() {
    let home = Home::new();
    let path = home.path("socket");
    let place = format!("path = \"{}\"", path.display());
    through_socket("unix", &LOAD, &home, &Reader::unix(path), &place);
}

#[test]
fn a_million_lines_come_through_unix_datagrams() {
    let home = Home::new();
    let path = home.path("socket");
    let place = format!("path = \"{}\"", path.display());
    through_socket("unixgram", &LOAD, &home, &Reader::unixgram(path), &place);
}

#[test]
fn a_million_lines_come_through_tcp() {
    let reader = Reader::tcp();
    let place = format!("address = \"{}\"", reader.address());
    through_socket("tcp", &LOAD, &Home::new(), &reader, &place);
}

/// UDP promises nothing; over loopback, at a moderate pace and with a large buffer, nothing is lost.
#[test]
fn a_million_lines_come_through_udp() {
    let (home, reader) = (Home::new(), Reader::udp());
    let load = Load { interval: Duration::from_millis(20), lines: 4_000, ..LOAD };
    let output = format!("[[output]]\nkind = \"udp\"\naddress = \"{}\"\n{ROOM}", reader.address());
    let drops = || {
        let dropped = reader.kernel_dropped();
        assert_eq!(dropped, 0, "datagrams that the kernel had no room for, as it says itself");
        reader.count()
    };
    let books = send("udp", &home, None, &load.config(&home, &[&output]), drops);
    wait::until("the last datagrams", || reader.count() == books.delivered);
    check(&reader.taken().text);
}

#[test]
fn a_million_lines_come_through_a_file() {
    let home = Home::new();
    let path = home.path("lines");
    let output = format!("[[output]]\nkind = \"file\"\npath = \"{}\"\n{ROOM}", path.display());
    let config = LOAD.config(&home, &[&output]);
    let read = || fs::read(&path).expect("the output's file");
    let books = send("file", &home, None, &config, || newlines(&read()));
    assert_eq!(newlines(&read()), books.delivered);
    check(&read());
}

#[test]
fn a_million_lines_come_through_standard_output() {
    let home = Home::new();
    let (mut reader, writer) = pipe().expect("a pipe");
    let text = Arc::<Mutex<Vec<u8>>>::default();
    let taken = Arc::clone(&text);
    let reading = thread::spawn(move || {
        let mut chunk = vec![0; 64 << 10];
        while let Ok(count @ 1..) = reader.read(&mut chunk) {
            taken.lock().expect("no panic").extend_from_slice(&chunk[..count]);
        }
    });
    let output = format!("[[output]]\nkind = \"stdout\"\n{ROOM}");
    let config = LOAD.config(&home, &[&output]);
    let count = || newlines(&text.lock().expect("no panic"));
    let books = send("stdout", &home, Some(writer), &config, count);
    reading.join().expect("no panic");
    let text = text.lock().expect("no panic");
    assert_eq!(newlines(&text), books.delivered);
    check(&*text);
}

fn newlines(text: &[u8]) -> u64 {
    text.iter().map(|byte| u64::from(*byte == b'\n')).sum()
}
