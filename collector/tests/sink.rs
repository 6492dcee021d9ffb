//! What a plugin may push and what becomes of it, through the real glue: [`Harness`] and [`Sink`].

use collector::encode::Tags;
use collector::form::{Buckets, Counters, Form};
use collector::read::{Line, read};
use collector::sink::{Dropped, Limits, Reports, Sink, Terms};
use plugin_api::abi::{HostCtx, NO_SCHEMA, Status, TICK_TIME, Val};
use plugin_api::abi_stable::std_types::{RSlice, RStr};
use plugin_api::describe::Table;
use plugin_api::prelude::*;
use plugin_testing::{Harness, Value};
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
        lines.push_at(42 + 10 * tick.seq as i64, event)
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
        assert_eq!(lines[1].time_ns, 42 + 10 * number as i64);
        assert_eq!(lines[1].get("interval_ns"), None);
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

fn histogram(host: HostCtx, id: u32, values: &[u64]) -> Status {
    use plugin_api::FieldValue as _;
    let (mut snapshot, mut fields) = (Snapshot::default(), plugin_api::smallvec::SmallVec::new());
    values.iter().for_each(|value| snapshot.add(*value));
    snapshot.value(&mut fields);
    push(host, id, "", &fields, TICK_TIME)
}

fn texts(sink: &Sink) -> Vec<String> {
    let pages = sink.close().pages.into_iter();
    pages.map(|page| String::from_utf8(page.bytes).unwrap()).collect()
}

const FORMS: [Form; 3] = [
    Form { histogram: Buckets::Fields, counters: Counters::Delta },
    Form { histogram: Buckets::Le, counters: Counters::Delta },
    Form { histogram: Buckets::Vmrange, counters: Counters::Cumulative },
];

/// Also of a plugin of 1.0.0, which has other names for the buckets.
#[test]
fn a_histogram_is_what_each_form_asks_for() {
    use plugin_api::histogram::{wire_names, wire_names_1_0_0};
    for names in [wire_names("_us"), wire_names_1_0_0("_us")] {
        let latency = json!([{"name": "latency", "text": "", "kind": "histogram", "unit": "us"}]);
        let tables = Some(vec![described("waits", latency)]);
        let tags = Tags::from([("zone".to_owned(), "z".to_owned())]);
        let sink = Sink::leak(Terms { tables, tags, forms: FORMS.to_vec(), ..terms() });
        let id = table(sink.host(), "waits", &names);
        sink.open(Tick { time_ns: 1000, elapsed_ns: 400, ..TICK });
        assert_eq!(histogram(sink.host(), id, &[0, 5, 5, u64::MAX]), Status::OK);
        let [fields, le, vmrange] = &texts(sink)[..] else { panic!("three forms") };
        let summary = "count=4i,sum_us=9223372036854775807i,max_us=9223372036854775807i,p50_us=5i,\
                       p90_us=9223372036854775807i,p99_us=9223372036854775807i";
        assert_eq!(
            *fields,
            format!(
                "waits,zone=z {summary},bucket_0_2=1i,bucket_4_8=2i,\
                 bucket_9223372036854775808_inf=1i,interval_ns=400i 1000\n"
            )
        );
        let lines: Vec<&str> = le.lines().collect();
        assert_eq!(lines.len(), 1 + 64, "all buckets are there");
        assert_eq!(lines[0], format!("waits,zone=z {summary},interval_ns=400i 1000"));
        let below = |bound: &str| {
            let begin = format!("waits,le={bound},zone=z bucket=");
            let line = lines.iter().find(|line| line.starts_with(&begin)).unwrap();
            line[begin.len()..].to_owned()
        };
        for (bound, count) in
            [("2", 1), ("4", 1), ("8", 3), ("9223372036854775808", 3), ("+Inf", 4)]
        {
            assert_eq!(below(bound), format!("{count}i,interval_ns=400i 1000"), "{bound}");
        }
        // What was summed up before, at the begin of the interval, and then the sums: of 64 bits, 63.
        assert_eq!(
            *vmrange,
            format!(
                "waits,zone=z count=0i,sum_us=0i 600\n\
                 waits,vmrange=0...2.000e+00,zone=z bucket=0i 600\n\
                 waits,vmrange=4.000e+00...8.000e+00,zone=z bucket=0i 600\n\
                 waits,vmrange=9.223372036854775808e+18...+Inf,zone=z bucket=0i 600\n\
                 waits,zone=z {summary},interval_ns=400i 1000\n\
                 waits,vmrange=0...2.000e+00,zone=z bucket=1i,interval_ns=400i 1000\n\
                 waits,vmrange=4.000e+00...8.000e+00,zone=z bucket=2i,interval_ns=400i 1000\n\
                 waits,vmrange=9.223372036854775808e+18...+Inf,zone=z bucket=1i,interval_ns=400i 1000\n"
            )
        );
        sink.open(Tick { time_ns: 1400, elapsed_ns: 400, ..TICK });
        assert_eq!(histogram(sink.host(), id, &[2]), Status::OK);
        let [_, le, vmrange] = &texts(sink)[..] else { panic!("three forms") };
        assert!(le.contains("waits,le=4,zone=z bucket=1i,"), "{le}");
        assert!(vmrange.starts_with("waits,vmrange=2.000e+00...4.000e+00,zone=z bucket=0i 1000\n"));
        assert!(vmrange.contains("waits,zone=z count=5i,"), "{vmrange}");
        assert!(vmrange.contains("vmrange=4.000e+00...8.000e+00,zone=z bucket=2i,"), "{vmrange}");
    }
}

#[test]
fn counters_accumulate_and_everything_else_stays_what_it_is() {
    let kinds = ["counter", "gauge", "float", "text"];
    let fields: Vec<Json> = kinds
        .iter()
        .map(|kind| json!({"name": kind, "text": "", "kind": kind, "unit": "none"}))
        .collect();
    let tables = Some(vec![described("mine", json!(fields))]);
    let forms = vec![Form { counters: Counters::Cumulative, ..Form::default() }];
    let sink = Sink::leak(Terms { tables, tags: Tags::new(), forms, ..terms() });
    let host = sink.host();
    let names: Vec<String> = kinds.iter().map(|kind| (*kind).to_owned()).collect();
    let id = table(host, "mine", &names);
    let tick = |time_ns: i64, elapsed_ns: u64| sink.open(Tick { time_ns, elapsed_ns, ..TICK });
    let row = |tag: &str, n: Val<'_>, time_ns: i64| {
        let fields = [n, Val::U64(7), Val::F64(0.5), Val::Str("x".into())];
        assert_eq!(push(host, id, tag, &fields, time_ns), Status::OK);
    };
    let rest = "gauge=7i,float=0.5,text=\"x\"";
    tick(1000, 100);
    row("a", Val::U64(3), TICK_TIME);
    row("b", Val::None, TICK_TIME);
    row("b", Val::U64(9), 950); // an event
    let begin = "mine,k=a counter=0i 900\n";
    assert_eq!(
        texts(sink)[0],
        format!(
            "{begin}mine,k=a counter=3i,{rest},interval_ns=100i 1000\n\
             mine,k=b {rest},interval_ns=100i 1000\nmine,k=b counter=9i,{rest} 950\n"
        )
    );
    tick(1100, 101);
    row("a", Val::U64(2), TICK_TIME);
    row("b", Val::U64(5), TICK_TIME);
    assert_eq!(
        texts(sink)[0],
        format!(
            "mine,k=a counter=5i,{rest},interval_ns=101i 1100\n\
             mine,k=b counter=0i 999\nmine,k=b counter=5i,{rest},interval_ns=101i 1100\n"
        ),
        "the events of `b` are not in its sum"
    );
    tick(1200, 99);
    row("b", Val::None, TICK_TIME);
    assert_eq!(texts(sink)[0], format!("mine,k=b counter=5i,{rest},interval_ns=99i 1200\n"));
    tick(1300, 100);
    row("a", Val::U64(1), TICK_TIME);
    row("b", Val::U64(0), TICK_TIME);
    assert_eq!(
        texts(sink)[0],
        format!(
            "mine,k=a counter=5i 1200\nmine,k=a counter=6i,{rest},interval_ns=100i 1300\n\
             mine,k=b counter=5i,{rest},interval_ns=100i 1300\n"
        ),
        "`a` comes back: its sum is on record where the interval begins"
    );
    let minutes = |n: i64| n * 60_000_000_000;
    tick(minutes(5), 100);
    row("a", Val::U64(1), TICK_TIME);
    let sum = |n: u64| format!("mine,k=a counter={n}i,");
    assert!(texts(sink)[0].contains(&sum(7)), "within five minutes the sum goes on");
    tick(minutes(11), 100);
    row("a", Val::U64(1), TICK_TIME);
    let text = texts(sink)[0].clone();
    assert!(
        text.starts_with("mine,k=a counter=0i 659999999900\n") && text.contains(&sum(1)),
        "{text}"
    );
}

#[test]
fn two_lines_of_one_series_in_a_tick_are_found_named_and_counted() {
    static SAID: Mutex<Vec<String>> = Mutex::new(Vec::new());
    let sink = Sink::leak(Terms {
        log: |plugin, _, text| SAID.lock().unwrap().push(format!("{plugin}: {text}")),
        ..terms()
    });
    let host = sink.host();
    let (id, apart) = (schema(host, "mine"), table(host, "mine", &["other".to_owned()]));
    let mixed = table(host, "mine", &["other".to_owned(), "n".to_owned()]);
    for _ in 0..2 {
        sink.open(TICK);
        assert_eq!(row(host, id, "a", Val::U64(1)), Status::OK);
        assert_eq!(row(host, id, "b", Val::U64(2)), Status::OK);
        assert_eq!(row(host, id, "a", Val::U64(3)), Status::FULL, "counted: the plugin goes on");
        assert_eq!(push(host, apart, "a", &[Val::U64(4)], TICK_TIME), Status::OK, "other fields");
        let both = [Val::U64(5), Val::U64(5)];
        assert_eq!(push(host, mixed, "a", &both, TICK_TIME), Status::FULL, "a field in common");
        let lines = lines(sink);
        let values: Vec<u64> =
            lines.iter().filter(|l| l.get("n").is_some()).map(|l| l.u64("n")).collect();
        assert_eq!((values, lines.len()), (vec![1, 2], 3), "the first one stays");
        assert_eq!(sink.take_dropped(), Dropped { duplicate: 2, ..Dropped::default() });
    }
    let said = SAID.lock().unwrap();
    assert!(
        said[0].starts_with("tool: a row of `mine` k=a refused: the tick has a line"),
        "{said:?}"
    );
}

#[test]
fn events_of_one_series_and_moment_lie_a_nanosecond_apart() {
    let sink = Sink::leak(terms());
    let (host, id) = (sink.host(), schema(sink.host(), "mine"));
    for begin in [0, 3] {
        sink.open(TICK);
        for n in 0..3 {
            assert_eq!(push(host, id, "a", &[Val::U64(n)], 50), Status::OK);
        }
        assert_eq!(push(host, id, "b", &[Val::U64(9)], 50 + begin), Status::OK);
        let times: Vec<i64> = lines(sink).iter().map(|line| line.time_ns).collect();
        let expected: Vec<i64> = (begin..begin + 3).chain([begin]).map(|n| 50 + n).collect();
        assert_eq!(times, expected, "also those of the tick before");
    }
}

#[test]
fn series_beyond_the_cap_are_refused_counted_and_said_and_those_before_go_on() {
    static SAID: Mutex<Vec<String>> = Mutex::new(Vec::new());
    let sink = Sink::leak(Terms {
        limits: Limits { series: 2, ..Limits::DEFAULT },
        log: |_, _, text| SAID.lock().unwrap().push(text.to_owned()),
        ..terms()
    });
    let (host, id) = (sink.host(), schema(sink.host(), "mine"));
    for _ in 0..2 {
        sink.open(TICK);
        let tags = ["a", "b", "c", "d"];
        let status = tags.map(|tag| row(host, id, tag, Val::U64(1)));
        assert_eq!(status, [Status::OK, Status::OK, Status::FULL, Status::FULL]);
        assert_eq!(push(host, id, "e", &[Val::U64(1)], 42), Status::FULL, "an event too");
        let report = schema(host, "collector_program");
        assert_eq!(
            row(host, report, "a", Val::U64(1)),
            Status::OK,
            "reports have room of their own"
        );
        assert_eq!(lines(sink).len(), 3);
        assert_eq!((sink.series(), sink.take_dropped().series), (3, 3));
    }
    let said = SAID.lock().unwrap();
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].contains("`mine` k=c refused: it would be one series more than `max_series`"));
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
