//! Each query of each panel of `collector dashboard`, on the real databases with real lines in them; and the dashboards
//! themselves, by Grafana's own types. `cargo xtask bench dashboards` asks the same of an hour of lines.

use collector::read::{Line, Value};
use plugin_api::histogram::wire_names;
use serde_json::Value as Json;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};
use system_tests::dashboards::{
    Back, LANGUAGES, Plan, asked, dashboard, dashboards, filled, list, panels, run, table, text,
    tools,
};
use system_tests::engines::{datafusion, flux, grafana};
use system_tests::running::Home;

/// What no type says: numbers, titles and places of panels, and that no two overlap.
fn check_layout(dashboard: &Json) {
    let mut ids = BTreeSet::new();
    let mut taken = BTreeSet::new();
    for panel in list(&dashboard["panels"]) {
        assert!(ids.insert(panel["id"].as_u64().expect("a number")), "{panel}");
        assert!(!text(&panel["title"]).is_empty(), "{panel}");
        let [x, y, w, h] = ["x", "y", "w", "h"].map(|key| panel["gridPos"][key].as_u64().unwrap());
        assert!(x + w <= 24 && h > 0, "{panel}");
        for cell in (x..x + w).flat_map(|x| (y..y + h).map(move |y| (x, y))) {
            assert!(taken.insert(cell), "something lies at {cell:?} already: {panel}");
        }
    }
}

#[test]
fn every_query_of_every_panel_answers_from_the_databases() {
    let answered = run(Plan { interval: Duration::from_millis(500), ticks: 8, back: Back::All });
    println!("TABLE: {answered}");
    assert_eq!(answered.queries.len(), LANGUAGES.len() - 1);
    assert!(answered.queries.values().all(|count| *count >= 50), "{answered}");
    for own in ["collector_plugin", "collector_output", "collector_host", "runqlat", "bootstrap"] {
        assert!(!answered.silent.contains(own), "{answered}");
    }
}

#[test]
fn no_two_panels_overlap() {
    let home = Home::with_tools();
    let tools = tools(&home);
    for language in LANGUAGES {
        dashboards(&home, language, &tools).iter().for_each(check_layout);
    }
}

/// The answer to a heat map in SQL is what the lines say: it is the one query that is more than sums by time.
#[test]
fn a_heat_map_in_sql_has_the_buckets_of_the_lines() {
    let home = Home::with_tools();
    let dashboard = dashboard(&home, "sql", &["runqlat"]);
    let heat = asked(std::slice::from_ref(&dashboard)).into_iter().find(|asked| asked.heat);
    let query = heat.expect("a heat map").query.to_owned();
    let buckets: Vec<String> =
        wire_names("").into_iter().filter(|name| name.starts_with("bucket_")).collect();
    let line = |time_s: i64, fields: &[(usize, i64)]| Line {
        table: "runqlat".to_owned(),
        tags: BTreeMap::from([("host".to_owned(), "box".to_owned())]),
        fields: fields.iter().map(|(at, n)| (buckets[*at].clone(), Value::I64(*n))).collect(),
        time_ns: time_s * 1_000_000_000,
    };
    let lines =
        [line(1000, &[(0, 1), (10, 5)]), line(1001, &[(10, 2)]), line(1010, &[(63, 3), (2, 4)])];
    let query = filled(&query, 1_000_000, 1_020_000, Back::All);
    let answer = datafusion(&lines, &[query]).remove(0).expect("an answer");
    assert_eq!(answer.columns, ["time", "from", "Value"]);
    let rows: Vec<(i64, u64, i64)> = answer
        .rows
        .iter()
        .map(|row| {
            let from = text(&row[1]);
            assert_eq!(from.len(), 19, "texts sort as numbers do: {from}");
            let number = |json: &Json| json.as_i64().expect("a number");
            (number(&row[0]) / 1_000_000_000, from.parse().expect("a number"), number(&row[2]))
        })
        .collect();
    let expected =
        [(1000, 0, 1), (1000, 1024, 7), (1010, 4, 4), (1010, 9_223_372_036_854_775_808, 3)];
    assert_eq!(rows, expected);
}

#[test]
fn the_compiler_of_flux_finds_nothing_wrong() {
    let home = Home::with_tools();
    let tools = tools(&home);
    let dashboards = dashboards(&home, "flux", &tools);
    let mut queries: BTreeSet<String> =
        asked(&dashboards).iter().map(|asked| filled(asked.query, 0, 1, Back::All)).collect();
    let hosts = list(&dashboards[0]["templating"]["list"]).iter().find(|it| it["name"] == "host");
    queries.insert(filled(text(&hosts.expect("it")["query"]), 0, 1, Back::All));
    let queries: Vec<String> = queries.into_iter().collect();
    let began = Instant::now();
    for (query, wrong) in queries.iter().zip(flux(&queries)) {
        assert!(wrong.is_empty(), "{wrong:#?}\n{query}");
    }
    println!("TABLE: {} queries in Flux compiled in {:?}", queries.len(), began.elapsed());
    // It would say so.
    let wrong = ["from(bucket: \"a\") |> nothing()", "from(bucket: 5)", "x = ("].map(str::to_owned);
    for (query, found) in wrong.iter().zip(flux(&wrong)) {
        assert!(!found.is_empty(), "{query}");
    }
}

#[test]
fn grafanas_types_know_every_key_and_value() {
    let home = Home::with_tools();
    let tools = tools(&home);
    let mut all: Vec<Json> =
        LANGUAGES.iter().flat_map(|language| dashboards(&home, language, &tools)).collect();
    let began = Instant::now();
    let wrong = grafana(&all);
    println!("TABLE: {} dashboards checked by Grafana's types in {:?}", all.len(), began.elapsed());
    let first: String = wrong.lines().take(40).collect::<Vec<_>>().join("\n");
    assert!(wrong.is_empty(), "{first}");
    let uids: BTreeSet<&str> = all.iter().map(|dashboard| text(&dashboard["uid"])).collect();
    assert_eq!(uids.len(), all.len());
    // They would say so.
    all.truncate(1);
    all[0]["templating"]["list"][1]["hide"] = "no".into();
    assert!(!grafana(&all).is_empty());
    all[0] = dashboard(&home, "promql", &["runqlat"]);
    let heat = all[0]["panels"].as_array_mut().expect("panels").iter_mut();
    let heat = heat.into_iter().find(|panel| panel["type"] == "heatmap").expect("one");
    heat["options"]["colour"] = "red".into();
    assert!(grafana(&all).contains("colour"));
}

#[test]
fn a_dashboard_has_the_plugins_that_are_asked_for() {
    let home = Home::with_tools();
    let dashboard = dashboard(&home, "metricsql", &["runqlat"]);
    assert_eq!(dashboard["title"], "collector: runqlat");
    let tables: BTreeSet<&str> = panels(&dashboard).map(table).collect();
    let lost = ["collector_program", "collector_map", "collector_plugin"];
    assert!(lost.iter().chain(&["runqlat"]).all(|it| tables.contains(it)), "{tables:?}");
    for panel in panels(&dashboard).filter(|panel| table(panel).starts_with("collector_")) {
        let query = text(&panel["targets"][0]["expr"]);
        assert!(query.contains("plugin=\"runqlat\""), "{query}");
    }
    assert!(tables.iter().all(|it| it.starts_with("runqlat") || it.starts_with("collector_")));
}
