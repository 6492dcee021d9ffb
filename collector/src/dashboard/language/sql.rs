//! SQL of InfluxDB 3: that of DataFusion, a table for each of ours. A column that no line had yet does not exist, and who
//! names it gets an error; so each field has a query of its own.

use super::{Query, buckets};
use crate::dashboard::panel::{Ask, Counted, MOST, Panel};

pub const HOSTS: &str = r#"SELECT DISTINCT "host" FROM "collector_host" ORDER BY 1"#;

const WHERE: &str = "WHERE $__timeFilter(time) AND \"host\" ~ '^${host:regex}$'";

pub fn queries(panel: &Panel<'_>) -> Vec<Query> {
    match &panel.ask {
        Ask::Rates { fields, tags } => {
            fields.iter().map(|field| steps(panel, &rate(field, tags), tags)).collect()
        }
        Ask::Counts { tags, .. } => vec![steps(panel, &rate("count", tags), tags)],
        Ask::Values { fields, tags, flags } => {
            let largest = |field: &&str| match flags {
                true => format!(r#"max(CAST("{field}" AS INT)) AS "{field}""#),
                false => format!(r#"max("{field}") AS "{field}""#),
            };
            fields.iter().map(|field| steps(panel, &largest(field), tags)).collect()
        }
        Ask::Quantiles { suffix, tags } => {
            let largest = |name| format!(r#"max("{name}{suffix}") AS "{name}""#);
            vec![steps(panel, &["p50", "p99", "max"].map(largest).join(", "), tags)]
        }
        Ask::Heat { .. } => vec![heat(panel)],
        Ask::Top { counted, tags } => {
            let field = match counted {
                Counted::Counter(field) => field,
                Counted::Histogram(_) => "count",
            };
            let (table, plugin, tags) = (panel.table, of_plugin(panel), quoted(tags));
            vec![query(format!(
                "SELECT {tags}, sum(\"{field}\") AS \"{field}\" FROM \"{table}\" {WHERE}{plugin}\n\
                 GROUP BY {tags} ORDER BY \"{field}\" DESC LIMIT {MOST}"
            ))]
        }
    }
}

/// Columns by step, host and tags.
fn steps(panel: &Panel<'_>, columns: &str, tags: &[&str]) -> Query {
    let (table, plugin) = (panel.table, of_plugin(panel));
    let by = quoted(&[&["host"], tags].concat());
    query(format!(
        "SELECT $__dateBin(time) AS \"time\", {by}, {columns} FROM \"{table}\" {WHERE}{plugin}\n\
         GROUP BY 1, {by} ORDER BY 1"
    ))
}

/// A table without tags has a line each tick, and each says what time it covers. Lines by a tag are there in some ticks
/// only.
fn rate(field: &str, tags: &[&str]) -> String {
    if tags.is_empty() {
        format!(r#"sum("{field}") * 1e9 / sum("interval_ns") AS "{field}""#)
    } else {
        format!(r#"sum("{field}") * 1000.0 / $__interval_ms AS "{field}""#)
    }
}

/// A row for each step and bucket that is not empty, which Grafana makes into a column for each bucket, sorted by name:
/// so the names have zeros in front. The second table gives types to the columns that no line had yet. The step is made
/// outside: beside `unnest` DataFusion 50 takes the alias `time` for the column.
fn heat(panel: &Panel<'_>) -> Query {
    let (table, plugin) = (panel.table, of_plugin(panel));
    let types = buckets().map(|(field, _)| format!("arrow_cast(NULL, 'Int64') AS {field}"));
    let pairs =
        buckets().map(|(field, from)| format!("named_struct('from', '{from:0>19}', 'n', {field})"));
    let (types, pairs) = (types.collect::<Vec<_>>(), pairs.collect::<Vec<_>>());
    query(format!(
        "SELECT $__dateBin(time) AS \"time\", b['from'] AS \"from\", sum(b['n']) AS \"Value\" FROM (\n\
         SELECT time, unnest(make_array({})) AS b FROM (\n\
         SELECT * FROM \"{table}\" UNION ALL BY NAME SELECT {} WHERE false)\n\
         {WHERE}{plugin})\n\
         WHERE b['n'] > 0 GROUP BY 1, 2 ORDER BY 1, 2",
        pairs.join(", "),
        types.join(", ")
    ))
}

fn query(text: String) -> Query {
    Query { text, legend: String::new() }
}

fn of_plugin(panel: &Panel<'_>) -> String {
    panel.plugin.map(|name| format!(" AND \"plugin\" = '{name}'")).unwrap_or_default()
}

fn quoted(names: &[&str]) -> String {
    names.iter().map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(", ")
}
