//! Flux. Each field has a query of its own: Grafana takes the column `_value` of a table and names it by `_field`.

use super::Query;
use crate::dashboard::panel::{Ask, Counted, MOST, Panel};

pub const HOSTS: &str = "import \"influxdata/influxdb/schema\"\n\
    schema.measurementTagValues(bucket: v.defaultBucket, measurement: \"collector_host\", tag: \"host\")";

/// Steps have the time at which they begin, as in the other languages.
const EVERY: &str = "every: v.windowPeriod, createEmpty: false, timeSrc: \"_start\"";

pub fn queries(panel: &Panel<'_>) -> Vec<Query> {
    match &panel.ask {
        Ask::Rates { fields, tags } => fields.iter().map(|f| rate(panel, f, tags)).collect(),
        Ask::Counts { tags, .. } => vec![rate(panel, "count", tags)],
        Ask::Values { fields, tags, flags } => {
            fields.iter().map(|field| largest(panel, field, tags, *flags)).collect()
        }
        Ask::Quantiles { suffix, tags } => ["p50", "p99", "max"]
            .iter()
            .map(|name| largest(panel, &format!("{name}{suffix}"), tags, false))
            .collect(),
        Ask::Heat { .. } => vec![query(&[
            &lines(panel, "r._field =~ /^bucket_/"),
            "group(columns: [\"_field\"])",
            &format!("aggregateWindow(fn: sum, {EVERY})"),
            "group()",
            "pivot(rowKey: [\"_time\"], columnKey: [\"_field\"], valueColumn: \"_value\")",
            "sort(columns: [\"_time\"])",
        ])],
        Ask::Top { counted, tags } => {
            let field = match counted {
                Counted::Counter(field) => field,
                Counted::Histogram(_) => "count",
            };
            vec![query(&[
                &lines(panel, &is(field)),
                &format!("group(columns: [{}])", quoted(tags)),
                "sum()",
                "group()",
                &format!("top(n: {MOST})"),
                &format!("rename(columns: {{_value: \"{field}\"}})"),
            ])]
        }
    }
}

/// A counter per second. A table without tags has a line each tick, and each says what time it covers. Lines by a tag
/// are there in some ticks only.
fn rate(panel: &Panel<'_>, field: &str, tags: &[&str]) -> Query {
    let sum = format!("aggregateWindow(fn: sum, {EVERY})");
    if tags.is_empty() {
        return query(&[
            &lines(panel, &format!("({} or {})", is(field), is("interval_ns"))),
            "group(columns: [\"_field\", \"host\"])",
            &sum,
            "group(columns: [\"host\"])",
            "pivot(rowKey: [\"_time\"], columnKey: [\"_field\"], valueColumn: \"_value\")",
            &format!(
                "map(fn: (r) => ({{_time: r._time, host: r.host, _field: \"{field}\", \
                 _value: float(v: r[\"{field}\"]) / float(v: r[\"interval_ns\"]) * 1000000000.0}}))"
            ),
        ]);
    }
    query(&[
        &lines(panel, &is(field)),
        &by(tags),
        &sum,
        "map(fn: (r) => ({r with _value: float(v: r._value) * 1000.0 / float(v: $__interval_ms)}))",
    ])
}

fn largest(panel: &Panel<'_>, field: &str, tags: &[&str], flag: bool) -> Query {
    let (lines, by) = (lines(panel, &is(field)), by(tags));
    let largest = format!("aggregateWindow(fn: max, {EVERY})");
    if flag {
        let number = "map(fn: (r) => ({r with _value: if r._value then 1 else 0}))";
        return query(&[&lines, number, &by, &largest]);
    }
    query(&[&lines, &by, &largest])
}

fn query(steps: &[&str]) -> Query {
    Query { text: steps.join("\n  |> "), legend: String::new() }
}

fn lines(panel: &Panel<'_>, fields: &str) -> String {
    let table = panel.table;
    let plugin =
        panel.plugin.map(|name| format!(" and r.plugin == \"{name}\"")).unwrap_or_default();
    format!(
        "from(bucket: v.defaultBucket)\n  |> range(start: v.timeRangeStart, stop: v.timeRangeStop)\n  \
         |> filter(fn: (r) => r._measurement == \"{table}\" and r.host =~ /^${{host:regex}}$/{plugin} and {fields})"
    )
}

fn is(field: &str) -> String {
    format!("r._field == \"{field}\"")
}

fn by(tags: &[&str]) -> String {
    format!("group(columns: [{}])", quoted(&[&["_field", "host"], tags].concat()))
}

fn quoted(names: &[&str]) -> String {
    names.iter().map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(", ")
}
