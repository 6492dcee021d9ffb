//! InfluxQL.

use super::Query;
use crate::dashboard::panel::{Ask, Counted, MOST, Panel};

pub const HOSTS: &str = "SHOW TAG VALUES FROM \"collector_host\" WITH KEY = \"host\"";

pub fn query(panel: &Panel<'_>) -> Query {
    let table = panel.table;
    let plugin = panel.plugin.map(|name| format!(" AND \"plugin\" = '{name}'")).unwrap_or_default();
    let lines = format!(r#"FROM "{table}" WHERE $timeFilter AND "host" =~ /^$host$/{plugin}"#);
    let (columns, tags): (Vec<String>, &[&str]) = match &panel.ask {
        // A table without tags has a line each tick, and each says what time it covers. Lines by a tag are there in some
        // ticks only.
        Ask::Rates { fields, tags } => (fields.iter().map(|f| rate(f, tags)).collect(), tags),
        Ask::Counts { tags, .. } => (vec![rate("count", tags)], tags),
        Ask::Values { fields, tags, .. } => {
            (fields.iter().map(|f| format!(r#"max("{f}") AS "{f}""#)).collect(), tags)
        }
        Ask::Quantiles { suffix, tags } => {
            let largest = |name: &str| format!(r#"max("{name}{suffix}") AS "{name}""#);
            (["p50", "p99", "max"].map(largest).into(), tags)
        }
        Ask::Heat { .. } => (vec!["sum(/^bucket_/)".to_owned()], &[]),
        Ask::Top { counted, tags } => {
            let field = match counted {
                Counted::Counter(field) => field,
                Counted::Histogram(_) => "count",
            };
            let tags = tags.iter().map(|tag| format!(r#""{tag}""#)).collect::<Vec<_>>().join(", ");
            let text = format!(
                r#"SELECT top("{field}", {tags}, {MOST}) AS "{field}" FROM (SELECT sum("{field}") AS "{field}" {lines} GROUP BY {tags})"#
            );
            return Query { text, legend: String::new() };
        }
    };
    // A heat map is of all hosts that are chosen.
    let host = if matches!(panel.ask, Ask::Heat { .. }) { None } else { Some("host") };
    let by = host.iter().chain(tags).map(|tag| format!(r#", "{tag}""#)).collect::<String>();
    let columns = columns.join(", ");
    let alias = host.iter().chain(tags).map(|tag| format!(" $tag_{tag}")).collect::<String>();
    Query {
        text: format!("SELECT {columns} {lines} GROUP BY time($__interval){by} fill(none)"),
        legend: format!("$col{alias}"),
    }
}

fn rate(field: &str, tags: &[&str]) -> String {
    if tags.is_empty() {
        format!(r#"sum("{field}") / sum("interval_ns") * 1000000000 AS "{field}""#)
    } else {
        format!(r#"sum("{field}") * 1000 / $__interval_ms AS "{field}""#)
    }
}
