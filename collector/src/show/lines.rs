//! Lines for people: a grid per table, or histograms.

use super::{grid, histogram};
use crate::duration::short;
use crate::encode::INTERVAL_FIELD;
use crate::read::{Line, Value};
use plugin_api::describe::{Description, Table};
use plugin_api::{Kind, Tick, Unit};
use std::fmt::Write;
use std::time::{Duration, UNIX_EPOCH};

/// All lines of a tick. Tables are cut at `width`.
pub(super) fn shown(
    lines: &[Line],
    tick: &Tick,
    plugin: &Description,
    width: Option<usize>,
) -> String {
    let mut tables: Vec<&str> = Vec::new();
    for line in lines {
        if !tables.contains(&line.table.as_str()) {
            tables.push(&line.table);
        }
    }
    if tables.is_empty() {
        return format!("{}: no lines\n", plugin.name);
    }
    let mut out = String::new();
    for name in tables {
        let lines: Vec<&Line> = lines.iter().filter(|line| line.table == name).collect();
        let table = plugin.tables.iter().find(|table| table.name == name);
        let time = short(Duration::from_nanos(tick.elapsed_ns));
        let _ = writeln!(out, "\n{name}, {time}:");
        match table.and_then(unit_of_histogram) {
            Some(unit) => out.push_str(&histograms(&lines, unit)),
            None => out.push_str(&rows(&lines, tick, table, width)),
        }
    }
    out
}

fn unit_of_histogram(table: &Table) -> Option<Unit> {
    table.fields.iter().find(|field| field.kind == Kind::Histogram).map(|field| field.unit)
}

fn histograms(lines: &[&Line], unit: Unit) -> String {
    let mut out = String::new();
    for line in lines {
        let tags: Vec<String> = line.tags.iter().map(|(k, v)| format!("{k} = {v}")).collect();
        if !tags.is_empty() {
            let _ = writeln!(out, "\n{}", tags.join(", "));
        }
        out.push_str(&histogram::shown(line, unit));
    }
    out
}

/// Tags and fields in the order of their declaration, those that any line has.
fn rows(lines: &[&Line], tick: &Tick, table: Option<&Table>, width: Option<usize>) -> String {
    let tags = columns(
        table.iter().flat_map(|t| t.tags.iter().map(|tag| tag.name.as_str())),
        lines.iter().flat_map(|line| line.tags.keys()),
    );
    let fields = columns(
        table.iter().flat_map(|t| t.fields.iter().map(|field| field.name.as_str())),
        lines.iter().flat_map(|line| line.fields.keys()).filter(|key| *key != INTERVAL_FIELD),
    );
    let events = lines.iter().any(|line| line.time_ns != tick.time_ns);
    let time = |line: &Line| {
        let since = Duration::from_nanos(line.time_ns.unsigned_abs());
        events.then(|| humantime::format_rfc3339_millis(UNIX_EPOCH + since).to_string())
    };
    let head = events.then_some("time").into_iter().chain(tags.iter().chain(&fields).copied());
    let mut rows = vec![head.map(str::to_uppercase).collect::<Vec<String>>()];
    for line in lines {
        let tags = tags.iter().map(|tag| line.tag(tag).to_owned());
        let fields = fields.iter().map(|field| line.get(field).map_or(String::new(), cell));
        rows.push(time(line).into_iter().chain(tags).chain(fields).collect());
    }
    let texts = usize::from(events) + tags.len();
    let is_text = |field: &&str| lines.iter().any(|l| matches!(l.get(field), Some(Value::Text(_))));
    let numbers: Vec<bool> = fields.iter().map(|field| !is_text(field)).collect();
    grid::aligned(&rows, |column| column >= texts && numbers[column - texts], width)
}

fn cell(value: &Value) -> String {
    match value {
        Value::F64(v) => format!("{v:.3}"),
        value => value.to_string(),
    }
}

/// The names that are there: the declared ones first, then the others by name. The others are those of the SDK's
/// reports, of which the state is what one looks for, and the reason is long.
fn columns<'a>(
    declared: impl Iterator<Item = &'a str>,
    there: impl Iterator<Item = &'a String>,
) -> Vec<&'a str> {
    let mut there: Vec<&str> = there.map(String::as_str).collect();
    there.sort_unstable_by_key(|name| (*name == "reason", *name != "state", *name));
    there.dedup();
    let mut columns: Vec<&str> = declared.filter(|name| there.contains(name)).collect();
    there.retain(|name| !columns.contains(name));
    columns.extend(there);
    columns
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::read::read;
    use serde_json::json;

    fn shown_lines(lines: &str) -> String {
        let field = |name: &str, kind: &str, unit: &str| json!({"name": name, "text": "", "kind": kind, "unit": unit});
        let plugin = json!({
            "name": "p", "version": "1", "text": "", "options": [],
            "tables": [
                {"name": "t", "text": "", "tags": [{"name": "who", "text": ""}],
                 "fields": [field("n", "counter", "none"), field("a_text", "text", "none")]},
                {"name": "h", "text": "", "tags": [{"name": "who", "text": ""}],
                 "fields": [field("wait", "histogram", "us")]},
            ],
        });
        let plugin = Description::from_json(&plugin.to_string()).unwrap();
        let tick = Tick { seq: 0, time_ns: 1_700_000_000_000_000_000, elapsed_ns: 5_040_000_000 };
        shown(&read(lines.as_bytes()).unwrap(), &tick, &plugin, None)
    }

    #[test]
    fn a_table_shows_its_columns_as_declared_and_then_others() {
        let text = shown_lines(
            "t,who=a n=1i,a_text=\"x\",interval_ns=1i 1700000000000000000\n\
             t,who=bcd,also=z n=1234i,a_text=\"x y\",f=0.5 1700000000000000000\n",
        );
        let expected = "
t, 5.0 s:
WHO  ALSO     N  A_TEXT      F
a             1  x
bcd  z     1234  x y     0.500
";
        assert_eq!(text, expected);
    }

    #[test]
    fn events_show_their_own_time() {
        let text = shown_lines("t,who=a n=1i 1600000000123456789\n");
        assert!(text.contains("2020-09-13T12:26:40.123Z  a"), "{text}");
    }

    #[test]
    fn histograms_are_drawn_for_each_line() {
        let text = shown_lines(
            "h,who=a count=1i,sum_us=1i,max_us=1i,bucket_0_2=1i 1700000000000000000\n\
             h,who=b count=0i,sum_us=0i,max_us=0i 1700000000000000000\n",
        );
        assert!(text.contains("\nwho = a\n     usecs  "), "{text}");
        assert!(text.ends_with("\nwho = b\ncount 0, max 0\n"), "{text}");
    }

    #[test]
    fn no_lines_are_said() {
        assert_eq!(shown_lines(""), "p: no lines\n");
    }

    #[test]
    fn the_state_stands_before_the_reason_which_is_last() {
        let text = shown_lines(
            "collector_program,program=a hook=\"tp\",reason=\"no\",state=\"refused\" 1700000000000000000\n",
        );
        assert!(
            text.contains("PROGRAM  STATE    HOOK  REASON\na        refused  tp    no\n"),
            "{text}"
        );
    }
}
