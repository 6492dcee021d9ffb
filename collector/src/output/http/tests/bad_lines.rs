//! Bad lines cost themselves and nothing else, whatever way a server has of refusing them.

use super::super::DeadLetterConfig;
use super::super::search::BUDGET;
use super::*;
use std::collections::BTreeSet;
use std::fs;
use std::sync::{Arc, Mutex};

/// How a server refuses lines that begin with `bad`.
#[derive(Clone, Copy, Debug)]
enum Manner {
    /// InfluxDB 1 and Telegraf, a line that is no line protocol: the others are stored, all are named.
    Unparsable1,
    /// InfluxDB 1, a field of another type: the others are stored, the bad are counted.
    Conflict1,
    /// InfluxDB 2, a line that is no line protocol: nothing is stored.
    Unparsable2,
    /// InfluxDB 2, a field of another type.
    Conflict2,
    /// InfluxDB 3: the others are stored, the bad are numbered.
    Numbered3,
    /// VictoriaMetrics: nothing is stored.
    Whole,
    /// Telegraf's influxdb_listener: the others are stored, and that is not said.
    Telegraf,
}

impl Manner {
    const ALL: [Self; 7] = [
        Self::Unparsable1,
        Self::Conflict1,
        Self::Unparsable2,
        Self::Conflict2,
        Self::Numbered3,
        Self::Whole,
        Self::Telegraf,
    ];

    fn kind(self) -> Kind {
        match self {
            Self::Unparsable1 | Self::Conflict1 | Self::Telegraf => v1(),
            Self::Unparsable2 | Self::Conflict2 => {
                Kind::Influxdb2 { org: "o".into(), bucket: "b".into() }
            }
            Self::Numbered3 => Kind::Influxdb3 { database: "db".into() },
            Self::Whole => Kind::Victoriametrics,
        }
    }

    /// Status and body of the refusal of these bad lines, by place; and whether the others are stored.
    fn refuse(self, bad: &[(usize, &str)]) -> (u16, String, bool) {
        use serde_json::json;
        let words = |status, json: serde_json::Value, rest| (status, json.to_string(), rest);
        let count = bad.len();
        let quotes: Vec<String> = bad
            .iter()
            .map(|(_, line)| format!("unable to parse '{line}': missing fields"))
            .collect();
        let quotes = quotes.join("\n");
        let conflict = format!("partial write: field type conflict: x dropped={count}");
        match self {
            Self::Unparsable1 => {
                words(400, json!({"error": format!("partial write: {quotes} dropped=0")}), true)
            }
            Self::Conflict1 => words(400, json!({ "error": conflict }), true),
            Self::Unparsable2 => words(400, json!({"code": "invalid", "message": quotes}), false),
            Self::Conflict2 => {
                let message = format!("failure writing points to database: {conflict}");
                words(422, json!({"code": "unprocessable entity", "message": message}), true)
            }
            Self::Numbered3 => {
                let data: Vec<_> = bad
                    .iter()
                    .map(|(i, line)| json!({"original_line": line, "line_number": i + 1, "error_message": "no"}))
                    .collect();
                let (error, data) = ("partial write of line protocol occurred", json!(data));
                // In the order that it has there: only the begin of a long answer is read.
                (400, format!(r#"{{"error":"{error}","data":{data}}}"#), true)
            }
            Self::Whole => {
                let line = bad[0].1;
                let from = "remoteAddr: \"[::1]:1\"; requestURI: /write?precision=ns";
                let why = format!("incorrect influx line {line:?}: cannot find Whitespace I");
                (400, format!("{from}; {why} in {line:?}"), false)
            }
            Self::Telegraf => {
                words(400, json!({"error": format!("metric parse error: {}", bad[0].1)}), true)
            }
        }
    }
}

/// What is stored, each line once however often it came.
type Store = Arc<Mutex<BTreeSet<String>>>;

fn start(manner: Manner) -> (Server, Store) {
    let store = Store::default();
    let server = Server::start({
        let store = Arc::clone(&store);
        move |request| {
            let lines: Vec<&str> = request.body.lines().collect();
            let bad = |(_, line): &(usize, &str)| line.starts_with("bad");
            let refused: Vec<(usize, &str)> =
                lines.iter().copied().enumerate().filter(bad).collect();
            let (answer, rest) = match refused.as_slice() {
                [] => (Reaction::status(204), true),
                refused => {
                    let (status, body, rest) = manner.refuse(refused);
                    (Reaction::Answer(status, "", body), rest)
                }
            };
            if rest {
                let good = lines.iter().filter(|line| !line.starts_with("bad"));
                let good = good.filter(|line| !line.starts_with('#'));
                store.lock().unwrap().extend(good.map(|&line| line.to_owned()));
            }
            answer
        }
    });
    (server, store)
}

/// So many batches of as many lines, of which some are bad.
fn batches(batches: usize, lines: usize, bad: impl Fn(usize) -> bool) -> Vec<String> {
    let line = |i| format!("{},i={i} v={i}i {i}\n", if bad(i) { "bad" } else { "m" });
    (0..batches).map(|b| (b * lines..(b + 1) * lines).map(line).collect()).collect()
}

/// Delivers, and checks that exactly the good lines are stored and counted, batch by batch, and the bad
/// ones are kept. Returns the number of requests.
fn exact(manner: Manner, batches: &[String]) -> usize {
    let dir = tempfile::tempdir().unwrap();
    let dead = dir.path().join("dead");
    let (server, store) = start(manner);
    let mut config = config(&server);
    config.server = manner.kind();
    config.dead_letters = Some(DeadLetterConfig { path: dead.clone(), bytes: 1 << 20 });
    let mut parcel = parcel(batches);
    open(&config).unwrap().deliver(&mut parcel, None).unwrap();

    let text = batches.concat();
    let (bad, good): (BTreeSet<&str>, BTreeSet<&str>) =
        text.lines().partition(|line| line.starts_with("bad"));
    let stored = store.lock().unwrap();
    assert!(stored.iter().map(String::as_str).eq(good), "{manner:?}");
    for (batch, item) in batches.iter().zip(parcel.items()) {
        let bad = batch.lines().filter(|line| line.starts_with("bad")).count() as u64;
        let lost = item.fate.dropped[Cause::Rejected];
        assert_eq!(
            (item.fate.delivered, lost),
            (batch.lines().count() as u64 - bad, bad),
            "{manner:?}"
        );
    }
    let kept = fs::read_to_string(dead).unwrap();
    let kept: Vec<&str> = kept.lines().filter(|line| !line.starts_with('#')).collect();
    assert!(kept.into_iter().collect::<BTreeSet<_>>() == bad, "{manner:?}");
    server.requests().len()
}

#[test]
fn one_bad_line_among_5000_costs_one_line_and_few_requests() {
    for manner in Manner::ALL {
        let extra = exact(manner, &batches(5, 1000, |i| i == 3210)) - 1;
        let most = match manner {
            Manner::Unparsable1 | Manner::Numbered3 => 0,
            _ => 15,
        };
        assert!(extra <= most, "{manner:?}: {extra}");
    }
}

#[test]
fn without_a_bad_line_there_is_one_request() {
    for manner in Manner::ALL {
        let server = start(manner);
        let mut config = config(&server.0);
        config.server = manner.kind();
        open(&config).unwrap().deliver(&mut parcel(&batches(5, 1000, |_| false)), None).unwrap();
        assert_eq!((server.0.requests().len(), server.1.lock().unwrap().len()), (1, 5000));
    }
}

#[test]
fn several_bad_lines_cost_themselves_only() {
    for manner in Manner::ALL {
        let requests = exact(manner, &batches(10, 100, |i| i % 100 == 7 || i == 350 || i == 351));
        assert!(requests <= BUDGET as usize, "{manner:?}: {requests}");
    }
}

#[test]
fn a_plugin_all_of_whose_lines_are_bad_costs_the_others_nothing() {
    for manner in Manner::ALL {
        let requests = exact(manner, &batches(10, 500, |i| (1000..1500).contains(&i)));
        assert!(requests <= BUDGET as usize + 11, "{manner:?}: {requests}");
    }
}

#[test]
fn beyond_the_budget_every_line_is_still_counted_once() {
    for manner in Manner::ALL {
        let (server, store) = start(manner);
        let mut config = config(&server);
        config.server = manner.kind();
        // A whole batch is good; in the others every second line is bad.
        let mut parcel = parcel(&batches(10, 500, |i| i % 2 == 0 && i < 4500));
        open(&config).unwrap().deliver(&mut parcel, None).unwrap();
        let (delivered, rejected, _) = fates(&mut parcel);
        assert_eq!(delivered + rejected, 5000, "{manner:?}");
        assert_eq!(parcel.items()[9].fate.delivered, 500, "{manner:?}");
        assert!(store.lock().unwrap().len() as u64 >= delivered, "{manner:?}");
        // Two are the comment and the last line: the first line is bad.
        let requests = server.requests().len();
        assert!(requests <= BUDGET as usize + 13, "{manner:?}: {requests}");
        // Who counts lets the books be exact, and who names needs no search.
        if !matches!(manner, Manner::Whole | Manner::Unparsable2 | Manner::Telegraf) {
            assert_eq!((delivered, rejected), (2750, 2250), "{manner:?}");
        }
    }
}

#[test]
fn a_search_goes_on_where_an_outage_interrupted_it() {
    let mut count = 0;
    let server = Server::start(move |request| {
        count += 1;
        match (count % 3, request.body.contains("bad")) {
            (0, _) => Reaction::status(503),
            (_, true) => {
                Reaction::Answer(400, "", r#"{"error":"metric parse error: no"}"#.to_owned())
            }
            (_, false) => Reaction::status(204),
        }
    });
    let mut output = output(&server);
    let mut parcel = parcel(&batches(5, 1000, |i| i == 3210));
    while let Err(failure) = output.deliver(&mut parcel, None) {
        assert!(matches!(failure, Failure::Later { .. }), "{failure:?}");
    }
    assert_eq!(fates(&mut parcel), (4999, 1, 0));
    assert!(server.requests().len() <= 16 * 3 / 2 + 1, "{}", server.requests().len());
}
