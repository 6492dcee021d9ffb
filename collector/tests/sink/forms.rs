//! What a row is in each form that an output may ask for.

use super::{TICK, described, push, table, terms};
use collector::encode::Tags;
use collector::form::{Buckets, Counters, Form};
use collector::sink::{Sink, Terms};
use plugin_api::abi::{HostCtx, Status, TICK_TIME, Val};
use plugin_api::prelude::*;
use serde_json::{Value as Json, json};

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
             mine,k=b counter=0i 1000\nmine,k=b counter=5i,{rest},interval_ns=101i 1100\n"
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

/// Lines that are to be translated say what counts, have no texts, and begin when the tick before ended.
#[test]
fn a_typed_line_says_what_it_is() {
    use plugin_api::histogram::wire_names;
    let fields = json!([
        {"name": "wait", "text": "", "kind": "histogram", "unit": "us"},
        {"name": "seen", "text": "", "kind": "counter", "unit": "none"},
        {"name": "late", "text": "", "kind": "counter", "unit": "none"},
        {"name": "now", "text": "", "kind": "gauge", "unit": "none"},
        {"name": "why", "text": "", "kind": "text", "unit": "none"},
    ]);
    let tables = Some(vec![described("waits", fields)]);
    let sink = Sink::leak(Terms {
        tables,
        tags: Tags::new(),
        forms: vec![Form::PROMETHEUS, Form::OTLP],
        ..terms()
    });
    let host = sink.host();
    let mut names = wire_names("_us");
    names.extend(["seen", "late", "now", "why"].map(str::to_owned));
    let id = table(host, "waits", &names);
    let row = |values: &[u64], seen: Val<'static>, late: Val<'static>, time_ns| {
        use plugin_api::FieldValue as _;
        let (mut wait, mut fields) = (Snapshot::default(), plugin_api::smallvec::SmallVec::new());
        values.iter().for_each(|value| wait.add(*value));
        wait.value(&mut fields);
        fields.extend([seen, late, Val::U64(7), Val::Str("because".into())]);
        assert_eq!(push(host, id, "a", &fields, time_ns), Status::OK);
    };
    const MS: u64 = 1_000_000;
    let tick = |time_ms: u64, elapsed_ms: u64| {
        // The encoder looks at the clock too.
        std::thread::sleep(Duration::from_millis(elapsed_ms));
        let (time_ns, elapsed_ns) = ((time_ms * MS) as i64, elapsed_ms * MS);
        sink.open(Tick { time_ns, elapsed_ns, ..TICK });
    };
    let none = || Val::None;
    let text = || {
        let [sums, deltas] = &texts(sink)[..] else { panic!("two forms") };
        // In milliseconds.
        (sums.replace("000000", ""), deltas.replace("000000", ""))
    };

    tick(1000, 100);
    row(&[], Val::U64(0), none(), TICK_TIME);
    let (sums, deltas) = text();
    let line = "waits,k=a count=0u,sum_us=0u,max_us=0i,bucket_0_2=0u,seen=0u,now=7i,interval_ns=100i 1000\n";
    assert_eq!((&*sums, &*deltas), (line, line), "a histogram is one without values too");

    // Measured to be longer than the time between the ticks.
    tick(1100, 103);
    row(&[5], Val::U64(2), Val::U64(1), TICK_TIME);
    let (sums, deltas) = text();
    let summary = "max_us=5i,p50_us=5i,p90_us=5i,p99_us=5i,bucket_0_2=0u,bucket_4_8=1u";
    let end = "now=7i,interval_ns=100i 1100\n";
    assert_eq!(deltas, format!("waits,k=a count=1u,sum_us=5u,{summary},seen=2u,late=1u,{end}"));
    assert_eq!(
        sums,
        format!(
            "waits,k=a count=0u,sum_us=0u,bucket_0_2=0u,bucket_4_8=0u,seen=0u,late=0u 1000\n\
             waits,k=a count=1u,sum_us=5u,{summary},seen=2u,late=1u,{end}"
        ),
        "at the time of the line before"
    );

    tick(1200, 99);
    row(&[1], none(), Val::U64(1), TICK_TIME);
    let (sums, deltas) = text();
    assert!(deltas.ends_with(",late=1u,now=7i,interval_ns=100i 1200\n"), "{deltas}");
    assert_eq!(
        sums,
        "waits,k=a count=2u,sum_us=6u,max_us=1i,p50_us=1i,p90_us=1i,p99_us=1i,bucket_0_2=1u,\
         bucket_4_8=1u,seen=2u,late=2u,now=7i,interval_ns=100i 1200\n",
        "what is not said stays what it was"
    );

    // Ticks without a line: all that it had is on record where it comes back.
    tick(1300, 100);
    tick(1400, 100);
    tick(1500, 100);
    row(&[1], none(), none(), TICK_TIME);
    let (sums, _) = text();
    let begin = "waits,k=a count=2u,sum_us=6u,bucket_0_2=1u,bucket_4_8=1u,seen=2u,late=2u 1400\n";
    assert!(sums.starts_with(begin), "{sums}");

    // A single event counts nothing.
    tick(1600, 100);
    row(&[], Val::U64(9), none(), 1550 * MS as i64);
    let (sums, deltas) = text();
    let line = "waits,k=a count=0i,sum_us=0i,max_us=0i,seen=9i,now=7i 1550\n";
    assert_eq!((&*sums, &*deltas), (line, line));
}
