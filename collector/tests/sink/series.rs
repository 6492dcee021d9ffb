//! One line of a series in a tick, and no more series than are allowed.

use super::{TICK, lines, push, row, schema, table, terms};
use collector::sink::{Dropped, Limits, Sink, Tally, Terms};
use plugin_api::abi::{Status, TICK_TIME, Val};
use std::sync::Mutex;

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
        let Tally { dropped, series } = sink.take_tally();
        assert_eq!((series, dropped.series), (3, 3));
    }
    let said = SAID.lock().unwrap();
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].contains("`mine` k=c refused: it would be one series more than `max_series`"));
}
