//! What each plugin costs, what it has lost, and the first numbers of its last tick, by the lines about it and its own.

use super::store::{Cell, Series, Store, Table, float, json as value};
use crate::output::http::wire::names::Kind;
use crate::sink::{ACTIVITY, is_report};
use crate::typed::{Value, series_parts, unescaped};
use serde_json::{Map, Value as Json, json};
use std::collections::BTreeMap;

/// How many of its numbers are said.
const HEADLINE: usize = 3;
/// Counters of loss are called so.
const LOSS: [&str; 3] = ["dropped", "lost", "missed"];

#[derive(Default)]
struct Tool {
    /// Shares of a CPU: of the plugin's thread or process, and of its programs in the kernel where that is measured.
    user_cpu: Option<f64>,
    kernel_cpu: Option<f64>,
    map_bytes: Option<i64>,
    runs: u64,
    run_ns: u64,
    /// Since the start.
    lost: BTreeMap<String, u64>,
    headline: Vec<(String, Json)>,
}

/// All of them, by their names.
pub fn tools(store: &Store) -> Vec<Json> {
    let mut tools: BTreeMap<String, Tool> = BTreeMap::new();
    for table in &store.tables {
        let about_others = table.name != "collector_host" && is_report(&table.name);
        for series in table.series.iter().flatten() {
            let name = match about_others {
                true => plugin_of(series),
                false => Some(table.plugin.to_string()),
            };
            let Some(name) = name else { continue };
            tools.entry(name).or_default().take(store, table, series);
        }
        if !is_report(&table.name) {
            let tool = tools.entry(table.plugin.to_string()).or_default();
            if tool.headline.is_empty() {
                tool.headline = headline(store, table);
            }
        }
    }
    tools.into_iter().map(|(name, tool)| tool.json(&name)).collect()
}

/// Whom a line is about.
fn plugin_of(series: &Series) -> Option<String> {
    let (_, tags) = series_parts(&series.key)?;
    let plugin = tags.iter().find(|(key, _)| *key == "plugin");
    plugin.map(|(_, value)| unescaped(value).into_owned())
}

impl Tool {
    fn take(&mut self, store: &Store, table: &Table, series: &Series) {
        for cell in &series.cells {
            let metric = store.metrics.get(cell.metric);
            let field = unescaped(&metric.field);
            let now = cell.in_line(series, metric.kind);
            let share = || float(now) / series.interval_ns.unwrap_or(i64::MAX).max(1) as f64;
            match (&*table.name, &*field) {
                ("collector_plugin" | "collector_host", "cpu_ns") => {
                    self.user_cpu = Some(share());
                }
                ("collector_host", "rss_bytes") => {
                    self.headline = vec![("rss_bytes".to_owned(), value(now))];
                }
                ("collector_bpf", "map_bytes") => self.map_bytes = Some(float(now) as i64),
                ("collector_program", "runs") => self.runs += float(now) as u64,
                ("collector_program", "run_ns") => {
                    self.run_ns += float(now) as u64;
                    self.kernel_cpu = Some(self.kernel_cpu.unwrap_or_default() + share());
                }
                _ => {}
            }
            let tells_of_loss = match &*table.name {
                "collector_map" | "collector_c_plugin" => !ACTIVITY.contains(&&*field),
                _ => LOSS.iter().any(|word| field.contains(word)),
            };
            if let (true, Kind::Counter, Value::Count(total @ 1..)) =
                (tells_of_loss, metric.kind, cell.total)
            {
                *self.lost.entry(field.into_owned()).or_default() += total;
            }
        }
    }

    fn json(self, name: &str) -> Json {
        let lost: Map<String, Json> = self.lost.into_iter().map(|(k, n)| (k, n.into())).collect();
        json!({
            "name": name,
            "user_cpu": self.user_cpu,
            "kernel_cpu": self.kernel_cpu,
            "map_bytes": self.map_bytes,
            "ns_per_run": (self.runs > 0).then(|| self.run_ns as f64 / self.runs as f64),
            "lost": lost,
            "headline": self.headline,
        })
    }
}

/// The first numbers of a table's last tick: what counts of all series together, what is of a single one.
fn headline(store: &Store, table: &Table) -> Vec<(String, Json)> {
    let series: Vec<&Series> = table
        .series
        .iter()
        .flatten()
        .filter(|it| it.interval_ns.is_some() && it.time_ns == table.time_ns)
        .collect();
    let mut headline = Vec::new();
    let waits = |series: &&Series| series.histogram.as_ref().map(|waits| waits.last.count);
    if series.iter().any(|it| waits(it).is_some()) {
        headline.push(("count".to_owned(), series.iter().filter_map(waits).sum::<u64>().into()));
    }
    for number in &table.metrics {
        let metric = store.metrics.get(*number);
        let of = |series: &&Series| {
            let is = |cell: &&Cell| cell.metric == *number;
            series.cells.iter().find(is).map(|cell| cell.in_line(series, metric.kind))
        };
        let said = match metric.kind {
            Kind::Counter => {
                series.iter().filter_map(of).map(|it| float(it) as u64).sum::<u64>().into()
            }
            Kind::Gauge | Kind::Unknown if series.len() == 1 => match of(&series[0]) {
                Some(now) => value(now),
                None => continue,
            },
            _ => continue,
        };
        headline.push((unescaped(&metric.field).into_owned(), said));
    }
    headline.truncate(HEADLINE);
    headline
}

#[cfg(test)]
mod tests {
    use super::super::store::testing::{add, store};
    use super::*;

    #[test]
    fn a_tool_has_its_cost_its_loss_and_its_first_numbers() {
        let mut store = store(
            "p_t,a=1 n=3u,g=1i,interval_ns=1000i 10\np_t,a=2 n=4u,g=1i,dropped=1u,interval_ns=1000i 10\n\
             collector_plugin,plugin=p cpu_ns=20u,dropped_full=0u,interval_ns=1000i 10\n\
             collector_program,plugin=p,program=x runs=4u,run_ns=100u,missed=2u,interval_ns=1000i 10\n\
             collector_program,plugin=p,program=y runs=1u,run_ns=50u,interval_ns=500i 10\n\
             collector_bpf,plugin=p maps=7i,map_bytes=8192i,interval_ns=1000i 10\n\
             collector_map,plugin=p,map=m size_bytes=4096i,keys=7u,full=3u,interval_ns=1000i 10\n",
        );
        let found = tools(&store);
        let p = found.iter().find(|it| it["name"] == "p").unwrap();
        let expected = json!({
            "name": "p", "user_cpu": 0.02, "kernel_cpu": 0.2, "map_bytes": 8192, "ns_per_run": 30.0,
            "lost": {"dropped": 1, "full": 3, "missed": 2}, "headline": [["n", 7], ["dropped", 1]],
        });
        assert_eq!(*p, expected);
        // Loss stays known, numbers are those of the last tick.
        add(&mut store, "p_t,a=1 n=1u,interval_ns=1000i 20\n");
        let found = tools(&store);
        let p = found.iter().find(|it| it["name"] == "p").unwrap();
        assert_eq!((&p["lost"]["dropped"], &p["headline"][0]), (&json!(1), &json!(["n", 1])));
    }

    #[test]
    fn of_a_histogram_the_count_comes_first() {
        let store = store(
            "w count=3u,sum_us=9u,max_us=5i,p99_us=4i,bucket_0_2=1u,bucket_4_8=2u,interval_ns=1i 10\n",
        );
        let expected = json!([["count", 3], ["max_us", 5], ["p99_us", 4]]);
        assert_eq!(tools(&store)[0]["headline"], expected);
    }
}
