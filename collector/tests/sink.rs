//! What a plugin may push and what becomes of it, through the real glue.

#[path = "sink/forms.rs"]
mod forms;
#[path = "sink/harness.rs"]
mod harness;
#[path = "sink/series.rs"]
mod series;

use collector::encode::Tags;
use collector::form::Form;
use collector::read::{Line, read};
use collector::sink::{Dropped, Limits, Reports, Sink, Terms};
use plugin_api::Tick;
use plugin_api::abi::{HostCtx, NO_SCHEMA, Status, TICK_TIME, Val};
use plugin_api::abi_stable::std_types::{RSlice, RStr};
use plugin_api::describe::Table;
use serde_json::{Value as Json, json};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

const TICK: Tick = Tick { seq: 0, time_ns: 1_700_000_000_000_000_000, elapsed_ns: 7 };

fn terms() -> Terms {
    Terms {
        plugin: "tool".to_owned(),
        tables: Some(vec![described("mine", json!([]))]),
        forms: vec![Form::default()],
        reports: Reports::Full,
        tags: Tags::from([("dc".to_owned(), "x".to_owned())]),
        uint: false,
        limits: Limits::DEFAULT,
        log: |_, _, _| {},
    }
}

fn described(table: &str, fields: Json) -> Table {
    let table = json!({"name": table, "text": "", "tags": [], "fields": fields});
    serde_json::from_value(table).unwrap()
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

/// A plugin's table with the tag `k` and fields of these names.
fn table(host: HostCtx, name: &str, fields: &[String]) -> u32 {
    let tags = [RStr::from_str("k")];
    let fields: Vec<RStr<'_>> = fields.iter().map(|field| RStr::from_str(field)).collect();
    let (tags, fields) = (RSlice::from_slice(&tags), RSlice::from_slice(&fields));
    host.host.schema()(host.ctx, RStr::from_str(name), tags, fields)
}

fn push(host: HostCtx, id: u32, tag: &str, fields: &[Val<'_>], time_ns: i64) -> Status {
    let tags = [RStr::from_str(tag)];
    let (tags, fields) = (RSlice::from_slice(&tags), RSlice::from_slice(fields));
    host.host.row()(host.ctx, id, tags, fields, time_ns)
}

fn lines(sink: &Sink) -> Vec<Line> {
    read(&sink.close().into_only()).unwrap()
}

#[test]
fn rows_are_taken_during_a_call_only() {
    let sink = Sink::leak(terms());
    let host = sink.host();
    let id = schema(host, "mine");
    assert_eq!(row(host, id, "a", Val::U64(1)), Status::CLOSED);
    sink.open(TICK);
    assert_eq!(row(host, id, "a", Val::U64(1)), Status::OK);
    let closed = sink.close();
    assert_eq!(
        (closed.rows, &*closed.into_only()),
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
        let why = ["not in the plugin's description", "it is the collector's own"];
        assert!(why.iter().any(|why| text.contains(why)), "{text}");
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
    let sink = Sink::leak(Terms { limits: Limits { lines: 2, ..Limits::DEFAULT }, ..terms() });
    let host = sink.host();
    let (mine, report) = (schema(host, "mine"), schema(host, "collector_program"));
    sink.open(TICK);
    let pushed: Vec<Status> =
        ["a", "b", "c"].iter().map(|tag| row(host, mine, tag, Val::U64(1))).collect();
    assert_eq!(pushed, [Status::OK, Status::OK, Status::FULL]);
    assert_eq!(row(host, report, "a", Val::U64(1)), Status::OK);
    let lines = lines(sink);
    assert_eq!(lines[2].table, "collector_program");
    assert_eq!((lines[2].tag("plugin"), lines[2].tag("dc")), ("tool", "x"));
    assert_eq!(sink.take_dropped().full, 1);
}

#[test]
fn the_cap_in_bytes_is_never_passed() {
    let sink = Sink::leak(Terms { limits: Limits { bytes: 200, ..Limits::DEFAULT }, ..terms() });
    let host = sink.host();
    let id = schema(host, "mine");
    sink.open(TICK);
    let taken = |n: &i32| row(host, id, &n.to_string(), Val::U64(1)) == Status::OK;
    let taken = (0..10).filter(taken).count();
    let closed = sink.close();
    assert_eq!(closed.rows as usize, taken);
    let bytes = closed.into_only();
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
        said[0].contains("a row of `mine` k=b refused: none of its fields has a value"),
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

#[test]
fn brief_reports_say_what_is_news_and_lose_no_count() {
    let sink = Sink::leak(Terms { reports: Reports::Brief, ..terms() });
    let host = sink.host();
    let names = ["state", "links", "missed", "runs"].map(str::to_owned);
    let id = table(host, "collector_program", &names);
    let mut sent = Vec::new();
    for n in 0..25 {
        sink.open(Tick { elapsed_ns: 10, ..TICK });
        let state = if n < 3 { "waiting" } else { "attached" };
        let missed = if n == 5 { 4 } else { 0 };
        let fields = [Val::Str(state.into()), Val::I64(1), Val::U64(missed), Val::U64(n)];
        assert_eq!(push(host, id, "f", &fields, TICK_TIME), Status::OK);
        sent.extend(lines(sink).iter().map(|line| {
            let covered = line.u64("interval_ns") / 10;
            (n, line.u64("missed"), line.u64("runs"), covered)
        }));
    }
    let expected = [(0, 0, 0, 1), (3, 0, 1 + 2 + 3, 3), (5, 4, 4 + 5, 2), (15, 0, 105, 10)];
    assert_eq!(sent, expected, "new, other words, something lost, ten ticks");
    let off = Sink::leak(Terms { reports: Reports::Off, ..terms() });
    let id = table(off.host(), "collector_program", &names);
    off.open(TICK);
    let fields = [Val::Str("x".into()), Val::I64(1), Val::U64(9), Val::U64(9)];
    assert_eq!(push(off.host(), id, "f", &fields, TICK_TIME), Status::OK);
    assert_eq!((off.close().rows, off.take_dropped()), (0, Dropped::default()));
}
