//! Rows and columns, made of what a source answers. Nothing is known of any tool here: names, kinds and their order come
//! from the answers.

use super::text::{bytes, clean, number, percent, whole_time};
use serde_json::Value as Json;
use std::cmp::Ordering;

/// Tables about plugins, each of which has lines there.
pub const ABOUT_PLUGINS: [&str; 5] = [
    "collector_program",
    "collector_bpf",
    "collector_map",
    "collector_c_plugin",
    "collector_plugin",
];

/// A tool in the list.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tool {
    /// Its name, as it is asked for.
    pub name: String,
    pub state: String,
    pub reason: String,
    /// Shares of a CPU.
    pub kernel_cpu: Option<f64>,
    pub user_cpu: Option<f64>,
    pub map_bytes: Option<i64>,
    pub ns_per_run: Option<f64>,
    /// What was lost since the start, by cause.
    pub lost: Vec<(String, u64)>,
    pub headline: String,
}

/// What stands above the tools.
pub const TOOL_COLUMNS: [&str; 8] =
    ["TOOL", "STATE", "KERN%", "USER%", "MAPS", "NS/RUN", "LOST", "LAST TICK"];
/// Those by which they can be sorted.
pub const TOOL_SORTS: usize = 7;

impl Tool {
    /// How many were lost.
    pub fn lost(&self) -> u64 {
        self.lost.iter().fold(0, |sum, (_, n)| sum.saturating_add(*n))
    }

    /// What stands in its row.
    pub fn cells(&self) -> [String; 8] {
        let or_none = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
        [
            clean(&self.name),
            clean(&self.state),
            or_none(self.kernel_cpu.map(percent)),
            or_none(self.user_cpu.map(percent)),
            or_none(self.map_bytes.map(bytes)),
            or_none(self.ns_per_run.map(|ns| format!("{ns:.0}"))),
            self.lost().to_string(),
            self.headline.clone(),
        ]
    }

    /// By a column; numbers from the largest on.
    pub fn compare(&self, other: &Self, column: usize) -> Ordering {
        let by = |number: fn(&Self) -> f64| number(other).total_cmp(&number(self));
        let order = match column {
            1 => self.state.cmp(&other.state),
            2 => by(|it| it.kernel_cpu.unwrap_or(-1.0)),
            3 => by(|it| it.user_cpu.unwrap_or(-1.0)),
            4 => by(|it| it.map_bytes.unwrap_or(-1) as f64),
            5 => by(|it| it.ns_per_run.unwrap_or(-1.0)),
            6 => by(|it| it.lost() as f64),
            _ => Ordering::Equal,
        };
        order.then_with(|| self.name.cmp(&other.name))
    }
}

fn text(json: &Json) -> String {
    json.as_str().unwrap_or_default().to_owned()
}

fn list(json: &Json) -> &[Json] {
    json.as_array().map_or(&[], Vec::as_slice)
}

/// All tools: those with a state, and those with lines.
pub fn tools(tables: &Json) -> Vec<Tool> {
    let mut tools: Vec<Tool> = list(&tables["tools"]).iter().map(tool).collect();
    for plugin in list(&tables["plugins"]) {
        let name = text(&plugin["name"]);
        let at = tools.iter().position(|it| it.name == name).unwrap_or_else(|| {
            tools.push(Tool { name, ..Tool::default() });
            tools.len() - 1
        });
        (tools[at].state, tools[at].reason) = (text(&plugin["state"]), text(&plugin["reason"]));
    }
    tools.iter_mut().filter(|it| it.state.is_empty()).for_each(|it| it.state.push('-'));
    tools
}

fn tool(json: &Json) -> Tool {
    let lost = json["lost"].as_object().into_iter().flatten();
    let said = list(&json["headline"]).iter();
    let said =
        said.map(|it| format!("{} {}", clean(it[0].as_str().unwrap_or_default()), number(&it[1])));
    Tool {
        name: text(&json["name"]),
        kernel_cpu: json["kernel_cpu"].as_f64(),
        user_cpu: json["user_cpu"].as_f64(),
        map_bytes: json["map_bytes"].as_i64(),
        ns_per_run: json["ns_per_run"].as_f64(),
        lost: lost.map(|(cause, n)| (clean(cause), n.as_u64().unwrap_or_default())).collect(),
        headline: said.collect::<Vec<_>>().join("  "),
        ..Tool::default()
    }
}

/// The tables of a tool: its own, in the order in which they came, and those about it.
pub fn tables_of(tables: &Json, tool: &str) -> Vec<String> {
    let is_about = |name: &str| ABOUT_PLUGINS.contains(&name);
    let all = list(&tables["tables"]);
    let own = all.iter().filter(|it| it["plugin"] == *tool && !is_about(&text(&it["name"])));
    let own: Vec<String> = own.map(|it| text(&it["name"])).collect();
    let about = ABOUT_PLUGINS.iter().filter(|name| all.iter().any(|it| it["name"] == **name));
    let about = about.map(|name| (*name).to_owned()).filter(|_| tool != "collector");
    own.into_iter().chain(about).collect()
}

/// A table's description in `/api/tables`.
pub fn table<'a>(tables: &'a Json, name: &str) -> Option<&'a Json> {
    list(&tables["tables"]).iter().find(|it| it["name"] == *name)
}

/// A column of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// What stands above it.
    pub title: String,
    /// The field or tag to sort by; empty for the histogram.
    pub sort: Option<String>,
    pub is_number: bool,
    kind: ColumnKind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum ColumnKind {
    Time,
    Tag(String),
    Count,
    Sum,
    Field(String),
}

/// The series of a table.
#[derive(Clone, Debug, Default)]
pub struct Grid {
    pub columns: Vec<Column>,
    pub rows: Vec<Vec<String>>,
    /// Of each row.
    pub histograms: Vec<Option<Bars>>,
    /// How many series there are, shown or not.
    pub count: u64,
    pub time_ns: i64,
    pub interval_ns: Option<u64>,
    /// The unit of the histograms.
    pub unit: String,
}

/// What the buckets of a histogram hold, from the first to the last that ever held any.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bars {
    /// Number of the first bucket.
    pub low: usize,
    pub last: Vec<u64>,
    pub total: Vec<u64>,
}

/// Makes them of a table's description and the answer about its series.
pub fn grid(table: &Json, answer: &Json) -> Grid {
    let (time_ns, about_plugins) = (
        answer["time_ns"].as_i64().unwrap_or_default(),
        ABOUT_PLUGINS.contains(&&*text(&table["name"])),
    );
    // Of a report the last line is what holds; in other tables a series without a line in this tick has no numbers in it.
    let report = text(&table["name"]).starts_with("collector_");
    let is_event = |it: &Json| it["interval_ns"].is_null();
    let series: Vec<&Json> = list(&answer["series"])
        .iter()
        .filter(|it| report || is_event(it) || it["time_ns"] == answer["time_ns"])
        .collect();
    let unit = list(&table["fields"]).iter().find(|it| it["kind"] == "histogram");
    let unit = unit.map(|it| text(&it["unit"])).unwrap_or_default();
    let mut columns = Vec::new();
    let mut add = |title: &str, sort: Option<&str>, is_number, kind| {
        let title = clean(title).to_uppercase();
        columns.push(Column { title, sort: sort.map(str::to_owned), is_number, kind });
    };
    if series.iter().any(|it| is_event(it)) {
        add("time", Some("time"), false, ColumnKind::Time);
    }
    for tag in tags(table, &series) {
        let same = |it: &&Json| it["tags"][&tag] == series[0]["tags"][&tag];
        let says_nothing =
            (tag == "host" && series.iter().all(same)) || (about_plugins && tag == "plugin");
        if !says_nothing {
            add(&tag, Some(&tag), false, ColumnKind::Tag(tag.clone()));
        }
    }
    if series.iter().any(|it| it["histogram"].is_object()) {
        let suffix = if unit.is_empty() { String::new() } else { format!("_{unit}") };
        add("count", Some(""), true, ColumnKind::Count);
        add(&format!("sum{suffix}"), None, true, ColumnKind::Sum);
    }
    for field in list(&table["fields"]).iter().filter(|it| it["kind"] != "histogram") {
        let name = text(&field["name"]);
        if series.iter().any(|it| it["fields"][&name].is_object()) {
            add(&name, Some(&name), true, ColumnKind::Field(name.clone()));
        }
    }
    let row = |it: &&Json| columns.iter().map(|column| cell(it, &column.kind)).collect();
    Grid {
        rows: series.iter().map(row).collect(),
        histograms: series.iter().map(|it| bars(&it["histogram"])).collect(),
        count: answer["count"].as_u64().unwrap_or_default(),
        interval_ns: series.first().and_then(|it| it["interval_ns"].as_u64()),
        columns,
        time_ns,
        unit,
    }
}

/// The declared ones first, then others.
fn tags(table: &Json, series: &[&Json]) -> Vec<String> {
    let there = |name: &str| series.iter().any(|it| it["tags"][name].is_string());
    let mut tags: Vec<String> =
        list(&table["tags"]).iter().map(|it| text(&it["name"])).filter(|it| there(it)).collect();
    for tag in series.iter().filter_map(|it| it["tags"].as_object()).flat_map(|it| it.keys()) {
        if !tags.contains(tag) {
            tags.push(tag.clone());
        }
    }
    tags
}

fn cell(series: &Json, kind: &ColumnKind) -> String {
    match kind {
        ColumnKind::Time => {
            let time = whole_time(series["time_ns"].as_i64().unwrap_or_default(), true);
            time.get(11..23).unwrap_or(&time).to_owned()
        }
        ColumnKind::Tag(tag) => clean(series["tags"][tag].as_str().unwrap_or_default()),
        ColumnKind::Count => number(&series["histogram"]["count"]),
        ColumnKind::Sum => number(&series["histogram"]["sum"]),
        ColumnKind::Field(field) => number(&series["fields"][field]["last"]),
    }
}

fn bars(histogram: &Json) -> Option<Bars> {
    let all = |key: &str| -> Vec<(usize, u64)> {
        let pair = |it: &Json| Some((it[0].as_u64()?.max(1).ilog2() as usize, it[1].as_u64()?));
        list(&histogram[key]).iter().filter_map(pair).collect()
    };
    let (last, total) = (all("buckets"), all("total_buckets"));
    let both = || last.iter().chain(&total).map(|(number, _)| *number);
    let (low, high) = (both().min()?, both().max()?);
    let filled = |pairs: &[(usize, u64)]| {
        let mut counts = vec![0; high - low + 1];
        pairs.iter().for_each(|(number, n)| counts[number - low] = *n);
        counts
    };
    Some(Bars { low, last: filled(&last), total: filled(&total) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn tools_are_those_with_a_state_and_those_with_lines() {
        let tables = json!({
            "plugins": [{"name": "b", "state": "failed", "reason": "no\x1b[2J"}, {"name": "a", "state": "running", "reason": null}],
            "tools": [
                {"name": "a", "user_cpu": 0.0123, "kernel_cpu": 0.5, "map_bytes": 4096, "ns_per_run": 41.7,
                 "lost": {"missed": 2, "full": 3}, "headline": [["count", 61], ["p99_us", 83]]},
                {"name": "c", "user_cpu": null, "kernel_cpu": null, "map_bytes": null, "ns_per_run": null, "lost": {}, "headline": []},
            ],
        });
        let tools = tools(&tables);
        let cells: Vec<String> = tools.iter().map(|it| it.cells().join("|")).collect();
        let expected = [
            "a|running|50.00|1.23|4.0K|42|5|count 61  p99_us 83",
            "c|-|-|-|-|-|0|",
            "b|failed|-|-|-|-|0|",
        ];
        assert_eq!(cells, expected);
        for (column, first) in [(0, "a"), (1, "c"), (2, "a"), (6, "a")] {
            let mut sorted = tools.clone();
            sorted.sort_by(|a, b| a.compare(b, column));
            assert_eq!(sorted[0].name, first, "{column}");
        }
    }

    #[test]
    fn a_tools_tables_are_its_own_and_those_about_it() {
        let tables = json!({"tables": [
            {"name": "collector_plugin", "plugin": "collector"}, {"name": "t", "plugin": "p"},
            {"name": "collector_map", "plugin": "p"}, {"name": "collector_host", "plugin": "collector"},
        ]});
        assert_eq!(tables_of(&tables, "p"), ["t", "collector_map", "collector_plugin"]);
        assert_eq!(tables_of(&tables, "collector"), ["collector_host"]);
        assert_eq!(table(&tables, "t").unwrap()["plugin"], "p");
    }

    #[test]
    fn a_grid_has_the_columns_that_are_there_and_the_numbers_of_the_tick() {
        let table = json!({"name": "w", "tags": [{"name": "comm"}], "fields": [
            {"name": "max_us", "kind": "gauge"}, {"name": "", "kind": "histogram", "unit": "us"},
            {"name": "seen", "kind": "counter"}, {"name": "gone", "kind": "counter"},
        ]});
        let one = |comm: &str, time: i64, count: u64| {
            json!({
                "tags": {"host": "box", "comm": comm, "x": "y"}, "time_ns": time, "interval_ns": 1_000_000_000,
                "fields": {"max_us": {"last": 5}, "seen": {"last": count}},
                "histogram": {"count": count, "sum": 9, "buckets": [[0, 1], [8, count]], "total_buckets": [[0, 2], [8, 3], [16, 1]]},
            })
        };
        let answer = json!({"time_ns": 10, "count": 3, "series": [one("a\x07", 10, 7), one("b", 10, 1), one("old", 5, 9)]});
        let grid = grid(&table, &answer);
        let titles: Vec<&str> = grid.columns.iter().map(|it| &*it.title).collect();
        assert_eq!(titles, ["COMM", "X", "COUNT", "SUM_US", "MAX_US", "SEEN"]);
        assert_eq!(grid.rows, [["a?", "y", "7", "9", "5", "7"], ["b", "y", "1", "9", "5", "1"]]);
        assert_eq!((grid.count, grid.time_ns, &*grid.unit), (3, 10, "us"));
        let expected = Bars { low: 0, last: vec![1, 0, 0, 7, 0], total: vec![2, 0, 0, 3, 1] };
        assert_eq!(grid.histograms[0], Some(expected));
        assert_eq!(grid.columns[2].sort.as_deref(), Some(""));
    }

    #[test]
    fn single_events_have_their_times() {
        let table = json!({"name": "e", "tags": [], "fields": [{"name": "n", "kind": "gauge"}]});
        let answer = json!({"time_ns": 0, "count": 1, "series": [
            {"tags": {}, "time_ns": 1_700_000_000_123_000_000i64, "interval_ns": null, "fields": {"n": {"last": 5}}}]});
        assert_eq!(grid(&table, &answer).rows, [["22:13:20.123", "5"]]);
    }
}
