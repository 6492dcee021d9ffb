//! What a plugin may push and what becomes of it, through the real glue: [`Harness`] and [`Sink`].

use collector::encode::Tags;
use collector::read::{Line, read};
use collector::sink::{Dropped, Limits, Sink, Terms};
use plugin_api::abi::{HostCtx, NO_SCHEMA, Status, TICK_TIME, Val};
use plugin_api::abi_stable::std_types::{RSlice, RStr};
use plugin_api::prelude::*;
use plugin_testing::{Harness, Value};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

const TICK: Tick = Tick { seq: 0, time_ns: 1_700_000_000_000_000_000, elapsed_ns: 7 };

fn terms() -> Terms {
    Terms {
        plugin: "tool".to_owned(),
        tables: Some(vec!["mine".to_owned()]),
        tags: Tags::from([("dc".to_owned(), "x".to_owned())]),
        uint: false,
        limits: Limits::DEFAULT,
        log: |_, _, _| {},
    }
}

/// A plugin's view: a table with one tag and one field.
fn schema(host: HostCtx, table: &str) -> u32 {
    let (tags, fields) = ([RStr::from_str("k")], [RStr::from_str("n")]);
    let (tags, fields) = (RSlice::from_slice(&tags), RSlice::from_slice(&fields));
    host.host.schema()(host.ctx, RStr::from_str(table), tags, fields)
}

fn row(host: HostCtx, id: u32, tag: &str, value: Val<'_>) -> Status {
    row_of(host, id, RStr::from_str(tag), value)
}

fn row_of(host: HostCtx, id: u32, tag: RStr<'_>, value: Val<'_>) -> Status {
    let (tags, fields) = ([tag], [value]);
    let (tags, fields) = (RSlice::from_slice(&tags), RSlice::from_slice(&fields));
    host.host.row()(host.ctx, id, tags, fields, TICK_TIME)
}

fn lines(sink: &Sink) -> Vec<Line> {
    read(&sink.close().1).unwrap()
}

#[test]
fn rows_are_taken_during_a_call_only() {
    let sink = Sink::leak(terms());
    let host = sink.host();
    let id = schema(host, "mine");
    assert_eq!(row(host, id, "a", Val::U64(1)), Status::CLOSED);
    sink.open(TICK);
    assert_eq!(row(host, id, "a", Val::U64(1)), Status::OK);
    let (count, bytes) = sink.close();
    assert_eq!(
        (count, &*bytes),
        (1, &b"mine,dc=x,k=a n=1i,interval_ns=7i 1700000000000000000\n"[..])
    );
    assert_eq!(row(host, id, "a", Val::U64(1)), Status::CLOSED);
    assert_eq!(sink.take_dropped(), Dropped { closed: 2, ..Dropped::default() });
    assert_eq!(sink.take_dropped(), Dropped::default());
}

#[test]
fn a_table_is_registered_once_and_keeps_its_id() {
    let host = Sink::leak(terms()).host();
    let id = schema(host, "mine");
    assert_eq!(schema(host, "mine"), id);
    assert_ne!(schema(host, "collector_program"), id);
    assert_eq!(schema(host, "mine"), id);
}

#[test]
fn tables_that_are_not_declared_or_are_the_collectors_own_are_refused_and_their_rows_counted() {
    static SAID: AtomicUsize = AtomicUsize::new(0);
    fn log(_: &str, _: log::Level, text: &str) {
        assert!(text.contains("not in the plugin's description"), "{text}");
        SAID.fetch_add(1, Ordering::Relaxed);
    }
    let sink = Sink::leak(Terms { log, ..terms() });
    let host = sink.host();
    sink.open(TICK);
    for table in ["other", "collector_plugin", "collector_output", "collector_host"] {
        for _ in 0..3 {
            assert_eq!(schema(host, table), NO_SCHEMA, "{table}");
            assert_eq!(row(host, NO_SCHEMA, "a", Val::U64(1)), Status::INVALID);
        }
    }
    assert_eq!(sink.take_dropped().invalid, 12);
    assert_eq!(SAID.load(Ordering::Relaxed), 4, "each is said once");
}

#[test]
fn a_report_of_the_sdk_says_whose_it_is_and_has_room_behind_a_full_cap() {
    let sink = Sink::leak(Terms { limits: Limits { lines: 2, bytes: 1 << 20 }, ..terms() });
    let host = sink.host();
    let (mine, report) = (schema(host, "mine"), schema(host, "collector_program"));
    sink.open(TICK);
    let pushed: Vec<Status> = (0..3).map(|_| row(host, mine, "a", Val::U64(1))).collect();
    assert_eq!(pushed, [Status::OK, Status::OK, Status::FULL]);
    assert_eq!(row(host, report, "a", Val::U64(1)), Status::OK);
    let lines = lines(sink);
    assert_eq!(lines[2].table, "collector_program");
    assert_eq!((lines[2].tag("plugin"), lines[2].tag("dc")), ("tool", "x"));
    assert_eq!(sink.take_dropped().full, 1);
}

#[test]
fn the_cap_in_bytes_is_never_passed() {
    let sink = Sink::leak(Terms { limits: Limits { lines: 1000, bytes: 200 }, ..terms() });
    let host = sink.host();
    let id = schema(host, "mine");
    sink.open(TICK);
    let taken = (0..10).filter(|_| row(host, id, "a", Val::U64(1)) == Status::OK).count();
    let (count, bytes) = sink.close();
    assert_eq!(count as usize, taken);
    assert!((1..=200).contains(&bytes.len()), "{}", bytes.len());
    assert_eq!(sink.take_dropped().full as usize, 10 - taken);
    sink.open(TICK);
    assert_eq!(row(host, id, "a", Val::U64(1)), Status::OK, "the next tick has room again");
}

#[test]
fn a_row_that_is_no_line_is_invalid_and_leaves_the_others_alone() {
    static SAID: Mutex<Vec<String>> = Mutex::new(Vec::new());
    let sink = Sink::leak(Terms {
        log: |_, _, text| SAID.lock().unwrap().push(text.to_owned()),
        ..terms()
    });
    let host = sink.host();
    let id = schema(host, "mine");
    sink.open(TICK);
    assert_eq!(row(host, id, "a", Val::U64(1)), Status::OK);
    assert_eq!(row(host, id, "b", Val::F64(f64::NAN)), Status::INVALID);
    assert_eq!(row(host, id, "c", Val::None), Status::INVALID);
    assert_eq!(row(host, id + 1, "d", Val::U64(1)), Status::INVALID);
    assert_eq!(row(host, id, "e", Val::U64(1)), Status::OK);
    assert_eq!(lines(sink).iter().map(|l| l.tag("k")).collect::<Vec<_>>(), ["a", "e"]);
    assert_eq!(sink.take_dropped().invalid, 3);
    let said = SAID.lock().unwrap();
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(
        said[0].contains("a row of `mine` refused: none of its fields has a value"),
        "{said:?}"
    );
}

#[test]
fn bytes_that_are_no_text_are_refused_and_counted_though_no_safe_plugin_can_send_them() {
    static BYTES: &[u8] = b"ab\xff c";
    // SAFETY: the bytes live as long as the program. They are no UTF-8, and no `str` is made of them: the
    // host refuses to, which is what this tests.
    let no_text = || unsafe { RStr::from_raw_parts(BYTES.as_ptr(), BYTES.len()) };
    let sink = Sink::leak(Terms { tables: None, ..terms() });
    let host = sink.host();
    let names = [RStr::from_str("k")];
    let (names, bad) = (RSlice::from_slice(&names), [no_text()]);
    let bad = RSlice::from_slice(&bad);
    let schema = |table, tags, fields| host.host.schema()(host.ctx, table, tags, fields);
    assert_eq!(schema(no_text(), RSlice::EMPTY, names), NO_SCHEMA);
    assert_eq!(schema("mine".into(), bad, names), NO_SCHEMA);
    assert_eq!(schema("mine".into(), RSlice::EMPTY, bad), NO_SCHEMA);

    let id = self::schema(host, "mine");
    sink.open(TICK);
    assert_eq!(row_of(host, id, no_text(), Val::U64(1)), Status::INVALID);
    assert_eq!(row(host, id, "a", Val::Str(no_text())), Status::INVALID);
    assert_eq!(row(host, id, "a", Val::U64(1)), Status::OK);
    assert_eq!(lines(sink).len(), 1);
    assert_eq!(sink.take_dropped(), Dropped { invalid: 2, ..Dropped::default() });
}

options! {
    /// What the test's plugin takes.
    pub struct Options {
        /// The tag's value.
        by: String = "nobody".to_owned(),
        /// In which call to panic; none by default.
        panic_at: u64 = u64::MAX,
    }
}

table! {
    /// The test's table.
    calls {
        tags {
            /// The option `by`.
            by,
        }
        /// Number of the call.
        number: counter,
        /// A gauge below zero.
        below: gauge,
        /// A word.
        word: text,
    }
}
plugin_api::exported!(calls);

struct Calls(Options);

impl Plugin for Calls {
    type Options = Options;

    fn init(options: Options) -> Result<Self> {
        ensure!(options.by != "bad", "`by` is bad");
        Ok(Self(options))
    }

    fn call(&mut self, tick: &Tick, lines: &mut Lines) -> Result<()> {
        assert!(tick.seq != self.0.panic_at, "told to");
        let (by, word) = (self.0.by.clone().into(), "two\nlines".into());
        lines.push(calls::Row { by, number: tick.seq, below: -1, word })?;
        let event = calls::Row { by: "event".into(), number: 0, below: 0, word: "".into() };
        lines.push_at(42, event)
    }
}

#[test]
fn a_harness_runs_a_plugin_as_the_collector_does() {
    let mut calls = Harness::<Calls>::init(r#"{"by":"comm"}"#).unwrap();
    for number in 0..3 {
        let lines = calls.call().unwrap();
        assert_eq!(lines.len(), 2);
        let line = &lines[0];
        assert_eq!((&*line.table, line.tag("by"), line.tag("none")), ("calls", "comm", ""));
        assert_eq!(line.u64("number"), number);
        assert_eq!(line.get("below"), Some(&Value::I64(-1)));
        assert_eq!(line.text("word"), r"two\nlines");
        assert!(line.u64("interval_ns") < 10_000_000_000);
        assert!(line.time_ns > TICK.time_ns);
        assert_eq!((lines[1].time_ns, lines[1].get("interval_ns")), (42, None));
    }
    assert_eq!(calls.dropped(), Dropped::default());
    calls.deinit().unwrap();
}

#[test]
fn a_harness_answers_as_the_plugin_does() {
    let error = |options: &str| Harness::<Calls>::init(options).err().unwrap().to_string();
    assert_eq!(error(r#"{"by":"bad"}"#), "`by` is bad");
    assert!(error(r#"{"bye":"x"}"#).contains("unknown option `bye`"));
    let mut calls = Harness::<Calls>::init(r#"{"panic_at":1}"#).unwrap();
    calls.call().unwrap();
    let error = calls.call().unwrap_err().to_string();
    assert!(error.starts_with("panic at ") && error.ends_with(": told to"), "{error}");
    assert!(calls.call().unwrap_err().to_string().contains("needs deinit and init"));
}
