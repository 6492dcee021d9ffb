//! Hostile lines in the real InfluxDB 1.6 and the real VictoriaMetrics, read back: what the encoder's
//! normal form and limits promise.
//!
//! InfluxDB has every line exactly, after a restart too. `VictoriaMetrics` has what it can have:
//! - a field is a metric `TABLE_FIELD`; the tags are its labels, to the byte;
//! - the time is in milliseconds, rounded down;
//! - numbers are floats that are right to 12 digits, and smaller ones than 1e-295 may be 0;
//! - `true` is 1 and `false` 0;
//! - a text is the number that it spells, or 0; one that spells NaN is not there.

use arbitrary::{Arbitrary, Unstructured};
use collector::encode::{MAX_TAG, MAX_TAG_KEY};
use collector::read::{Line, Value};
use line_cases::{Case, Cell, Model, Row};
use plugin_api::abi::{TICK_TIME, Tick};
use serde_json::Value as Json;
use std::collections::BTreeMap;
use std::sync::Arc;
use system_tests::http::{self, Answer};
use system_tests::servers::{DATABASE, Influx, Sample, Victoria};

/// Where the cases come from; another seed finds other ones.
const SEED: u64 = 0x5eed;
const LINES: usize = 20_000;
const TIME: i64 = 1_700_000_000_123_456_789;

/// A line as it is sent, and as it must be found.
struct Sent {
    wire: String,
    line: Line,
}

/// Lines that no database may join: each has a table of its own. `time` replaces times of rows and ticks.
fn lines(time: fn(i64) -> i64) -> Vec<Sent> {
    let mut random = fastrand::Rng::with_seed(SEED);
    let mut bytes = vec![0; 2000];
    let mut lines = longest();
    while lines.len() < LINES {
        random.fill(&mut bytes);
        let mut case = Case::arbitrary(&mut Unstructured::new(&bytes)).expect("bytes are a case");
        let table = case.table.clone();
        case.uint = false; // not known to InfluxDB 1
        case.tick.time_ns = TIME;
        for mut row in std::mem::take(&mut case.rows) {
            if row.time_ns != TICK_TIME {
                row.time_ns = time(row.time_ns);
            }
            let number = lines.len();
            case.table = match number % 2 {
                0 => format!("{table}·{number}·"),
                _ => format!("·{number}·{table}"),
            };
            lines.extend(sent(&case, &row));
        }
    }
    lines
}

/// `None` when it is refused.
fn sent(case: &Case, row: &Row) -> Option<Sent> {
    let (mut encoder, model) = (case.encoder().ok()?, Model::of(case)?);
    let mut wire = Vec::new();
    row.encode(&mut encoder, &case.tick, &mut wire).ok()?;
    Some(Sent { wire: String::from_utf8(wire).expect("UTF-8"), line: model.line(row) })
}

/// Lines at the limits of names, tags and all of them together.
fn longest() -> Vec<Sent> {
    let longest = |letter: &str| {
        let on_wire = if ", ".contains(letter) { 2 } else { letter.len() };
        let value = |bytes: usize| letter.repeat(bytes / on_wire);
        let key = |number| format!("{number}{}", "k".repeat(MAX_TAG_KEY - 1));
        let table = format!("longest {letter}");
        let case = Case {
            tags: (0..7).map(key).collect(),
            fields: vec!["f".repeat(MAX_TAG - table.len() - "_".len())],
            table,
            configured: BTreeMap::new(),
            uint: false,
            tick: Tick { seq: 0, time_ns: TIME, elapsed_ns: 1 },
            rows: Vec::new(),
        };
        let with_last_tag = |bytes: usize| {
            let mut tags = vec![value(MAX_TAG); 6];
            tags.push(value(bytes));
            sent(&case, &Row { tags, cells: vec![Cell::I64(1)], time_ns: TICK_TIME })
        };
        let lengths: Vec<usize> = (0..MAX_TAG).collect();
        let refused = lengths.partition_point(|&bytes| with_last_tag(bytes).is_some());
        assert!((1..MAX_TAG).contains(&refused), "only all of them together are too long");
        with_last_tag(refused - 1).expect("it is the last that is taken")
    };
    ["x", ",", "ü", " "].map(longest).into()
}

/// Sends all, 1000 at a time.
fn send(lines: &[Sent], write: impl Fn(&str) -> Answer) {
    for lines in lines.chunks(1000) {
        let body: String = lines.iter().map(|sent| &*sent.wire).collect();
        let Answer { status, body } = write(&body);
        assert_eq!((status, &*body), (204, ""), "seed {SEED:#x}");
    }
}

#[test]
fn influxdb_has_every_hostile_line_exactly_after_a_restart_too() {
    let lines = lines(|time| match time {
        1 | 0x7fff_ffff_ffff_fffe => time,
        2.. => TIME,
        refused => refused,
    });
    let mut influx = Influx::start();
    send(&lines, |body| influx.write(body));
    influx.server.kill9();
    influx.server.start();
    let types = types(&influx);
    for lines in lines.chunks(100) {
        for (Sent { wire, line }, found) in lines.iter().zip(stored(&influx, lines, &types)) {
            assert_eq!(found.as_ref(), Some(line), "seed {SEED:#x}: {wire}");
        }
    }
}

/// Types of fields by table and key. JSON does not tell 1 from 1.0.
type Types = BTreeMap<String, BTreeMap<String, String>>;

fn types(influx: &Influx) -> Types {
    let types = influx.series("SHOW FIELD KEYS").into_iter().map(|table| {
        let types = list(&table["values"]).iter().map(|row| (text(&row[0]), text(&row[1])));
        (text(&table["name"]), types.collect())
    });
    types.collect()
}

/// What is stored of each line's table, when that is one line. One request: to ask for each table alone
/// takes minutes.
fn stored(influx: &Influx, lines: &[Sent], types: &Types) -> Vec<Option<Line>> {
    let select = |Sent { line, .. }: &Sent| {
        let table = line.table.replace('\\', "\\\\").replace('"', "\\\"");
        format!("SELECT * FROM \"{table}\" GROUP BY *")
    };
    let query = lines.iter().map(select).collect::<Vec<_>>().join(";");
    let url = influx.server.url() + "/query";
    let query = [("db", DATABASE), ("epoch", "ns"), ("q", &query)];
    let Answer { status, body } = http::post(&url, &query, &[], &[]).expect("an answer");
    assert_eq!(status, 200, "{body}");
    let answer: Json = serde_json::from_str(&body).expect("JSON");
    let lines = list(&answer["results"]).iter().map(|result| {
        let [series] = result["series"].as_array()?.as_slice() else { return None };
        let [values] = list(&series["values"]).as_slice() else { return None };
        let tags = series["tags"].as_object().into_iter().flatten();
        let table = text(&series["name"]);
        let columns = list(&series["columns"]).iter().map(text).zip(list(values)).skip(1);
        let fields = columns.filter(|(_, json)| !json.is_null()).map(|(key, json)| {
            let value = value(json, &types[&table][&key]);
            (key, value)
        });
        Some(Line {
            tags: tags.map(|(key, value)| (key.clone(), text(value))).collect(),
            fields: fields.collect(),
            time_ns: values[0].as_i64()?,
            table,
        })
    });
    lines.collect()
}

fn list(json: &Json) -> &Vec<Json> {
    json.as_array().expect("a list")
}

fn text(json: &Json) -> String {
    json.as_str().expect("a text").to_owned()
}

fn value(json: &Json, kind: &str) -> Value {
    match (kind, json) {
        ("integer", Json::Number(v)) => Value::I64(v.as_i64().expect("an i64")),
        ("float", Json::Number(v)) => Value::F64(v.as_f64().expect("an f64")),
        ("boolean", Json::Bool(v)) => Value::Bool(*v),
        ("string", Json::String(v)) => Value::Text(v.clone()),
        other => panic!("a field is {other:?}"),
    }
}

#[test]
fn victoriametrics_has_every_hostile_line_as_far_as_it_keeps_such_values() {
    let lines = lines(|time| if time > 0 { TIME } else { time });
    let mut victoria = Victoria::start();
    send(&lines, |body| victoria.write(body));
    assert_eq!(victoria.refused(), 0, "seed {SEED:#x}");
    victoria.server.stop();
    victoria.server.start();
    let mut found = victoria.samples(r#"{__name__!=""}"#);
    for Sent { wire, line } in lines {
        let tags = Arc::new(line.tags);
        for (field, value) in line.fields {
            let samples = found.remove(&format!("{}_{field}", line.table)).unwrap_or_default();
            let as_expected = match (&*samples, number(&value)) {
                ([], expected) => expected.is_nan(),
                ([sample], expected) => {
                    let Sample { tags: found, time_ms, value: number } = sample;
                    let text = matches!(value, Value::Text(_));
                    *found == tags
                        && *time_ms == line.time_ns / 1_000_000
                        && (near(*number, expected) || text && *number == 0.0)
                }
                _ => false,
            };
            assert!(as_expected, "seed {SEED:#x}: {field}={value} is {samples:?}: {wire}");
        }
    }
    assert!(found.is_empty(), "seed {SEED:#x}: nobody sent {:?}", found.first_key_value());
}

fn number(value: &Value) -> f64 {
    match value {
        Value::I64(v) => *v as f64,
        Value::U64(v) => *v as f64,
        Value::F64(v) => *v,
        Value::Bool(v) => f64::from(u8::from(*v)),
        Value::Text(v) => v.parse().unwrap_or_default(),
    }
}

fn near(found: f64, expected: f64) -> bool {
    (found - expected).abs() <= expected.abs() * 1e-12 + 1e-295
}
