//! Each query of each panel of `collector dashboard`, on the real databases with real lines in them; and the dashboards
//! themselves, by Grafana's own types.

use collector::read::{Line, Value, read};
use plugin_api::histogram::wire_names;
use serde_json::Value as Json;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Instant;
use system_tests::engines::{datafusion, flux, grafana};
use system_tests::running::Home;
use system_tests::servers::{DATABASE, Influx, Prometheus, Victoria};

const TICKS: usize = 8;
const LANGUAGES: [&str; 5] = ["influxql", "flux", "sql", "metricsql", "promql"];

fn lines(path: &Path) -> Vec<Line> {
    let text = fs::read_to_string(path).unwrap_or_default();
    let whole = text.rfind('\n').map_or("", |end| &text[..=end]);
    read(whole.as_bytes()).expect("line protocol")
}

fn list(json: &Json) -> &[Json] {
    json.as_array().unwrap_or_else(|| panic!("no list: {json}"))
}

fn text(json: &Json) -> &str {
    json.as_str().unwrap_or_else(|| panic!("no text: {json}"))
}

fn dashboard(home: &Home, language: &str, names: &[&str]) -> Json {
    let dist = std::env::var("COLLECTOR_DIST").expect("run this by `cargo xtask test`");
    let mut command = Command::new(format!("{dist}/collector"));
    command.args(["dashboard", "--for", language, "--plugins"]).arg(home.path("plugins"));
    let output = command.args(names).output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{said}");
    serde_json::from_slice(&output.stdout).unwrap_or_else(|why| panic!("{why}: {said}"))
}

/// The tools of the install tree that have tables with numbers.
fn tools(home: &Home) -> Vec<String> {
    let rows = dashboard(home, "metricsql", &[]);
    let rows = list(&rows["panels"]).iter().filter(|panel| panel["type"] == "row");
    rows.skip(1).map(|row| text(&row["title"]).to_owned()).collect()
}

/// The overview, and all that there is of all tools.
fn dashboards(home: &Home, language: &str, tools: &[String]) -> [Json; 2] {
    let tools: Vec<&str> = tools.iter().map(String::as_str).collect();
    [dashboard(home, language, &[]), dashboard(home, language, &tools)]
}

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

/// The table of a panel, which its title begins with.
fn table(panel: &Json) -> &str {
    text(&panel["title"]).split(':').next().expect("a title")
}

fn panels(dashboard: &Json) -> impl Iterator<Item = &Json> {
    list(&dashboard["panels"]).iter().filter(|panel| panel["type"] != "row")
}

/// A panel's query in some language.
struct Asked<'a> {
    table: &'a str,
    query: &'a str,
    heat: bool,
}

fn asked(dashboards: &[Json]) -> Vec<Asked<'_>> {
    let mut all = Vec::new();
    for panel in dashboards.iter().flat_map(panels) {
        for target in list(&panel["targets"]) {
            let query = ["expr", "rawSql", "query"].iter().find_map(|key| target[key].as_str());
            let query = query.unwrap_or_else(|| panic!("no query: {target}"));
            all.push(Asked { table: table(panel), query, heat: panel["type"] == "heatmap" });
        }
    }
    all
}

/// What Grafana puts in place of its variables.
fn filled(query: &str, from_ms: i64, to_ms: i64) -> String {
    let filter = format!("time >= {from_ms}ms AND time <= {to_ms}ms");
    let query = query.replace("$timeFilter", &filter).replace("$__interval_ms", "10000");
    // All the time that there is, for those who look back.
    let query = query.replace("[$__interval]", "[600s]").replace("$__rate_interval", "600s");
    let query = query.replace("$__interval", "10s");
    let range = format!("{}s", (to_ms - from_ms) / 1000 + 1);
    let query = query.replace("$__range", &range).replace("${host:regex}", ".*");
    let query = query.replace("$host", ".*");
    // Macros of SQL.
    let time = |ms: i64| format!("to_timestamp_millis({ms})");
    let query = query.replace(
        "$__timeFilter(time)",
        &format!("time >= {} AND time <= {}", time(from_ms), time(to_ms)),
    );
    let query = query.replace(
        "$__dateBin(time)",
        "date_bin(interval '10 second', time, timestamp '1970-01-01T00:00:00Z')",
    );
    // What the data source of Flux knows.
    let query = query.replace("v.timeRangeStart", "2026-01-01T00:00:00Z");
    let query = query.replace("v.timeRangeStop", "2026-01-02T00:00:00Z");
    let query = query.replace("v.windowPeriod", "10s").replace("v.defaultBucket", "\"hosts\"");
    let ends = ["$/", "$'"];
    let rest = ends.iter().fold(query.clone(), |rest, end| rest.replace(end, ""));
    assert!(!rest.contains('$'), "a variable is left: {query}");
    query
}

/// The lines of a query: of its table, and of the plugin that it names, if it names one.
fn lines_of<'a>(lines: &'a [Line], asked: &Asked<'_>) -> Vec<&'a Line> {
    let plugin = ["\"plugin\" = '", "plugin=\""]
        .iter()
        .find_map(|words| asked.query.split_once(words))
        .and_then(|(_, rest)| rest.split(['\'', '"']).next());
    let of_table = lines.iter().filter(|line| line.table == asked.table);
    of_table.filter(|line| plugin.is_none_or(|plugin| line.tag("plugin") == plugin)).collect()
}

/// The fields whose sums or maxima a query of InfluxQL or SQL asks for.
fn fields_of<'a>(asked: &Asked<'a>) -> Vec<&'a str> {
    let all = ["(\"", "CAST(\""].iter().flat_map(|before| asked.query.split(before).skip(1));
    let names = all.filter_map(|rest| rest.split('"').next());
    names.filter(|name| *name != "interval_ns").collect()
}

fn has_bucket(line: &Line) -> bool {
    line.fields.keys().any(|field| field.starts_with("bucket_"))
}

/// The field that a query of PromQL or MetricsQL is about: as lines call it, or `bucket`.
fn field_of(asked: &Asked<'_>, lines: &[&Line]) -> Option<String> {
    let metric = asked.query.split('{').next().and_then(|rest| rest.rsplit('(').next());
    let field = metric?.strip_prefix(asked.table)?.strip_prefix('_')?;
    let known = |name: &str| {
        let of_line = |line: &&Line| line.get(name).is_some();
        (name == "bucket" && lines.iter().any(|line| has_bucket(line))) || lines.iter().any(of_line)
    };
    // Of Prometheus' names: a counter, and parts of a histogram with its unit.
    let mut names = vec![field];
    names.extend(field.strip_suffix("_total"));
    names.extend(
        field
            .split_once('_')
            .map(|(_, part)| part)
            .filter(|part| ["bucket", "count"].contains(part)),
    );
    names.into_iter().find(|name| known(name)).map(str::to_owned)
}

/// Whether a query of PromQL or MetricsQL has something to answer: a series that had one line, of 0, has no rate.
fn answers(asked: &Asked<'_>, lines: &[&Line]) -> bool {
    let Some(field) = field_of(asked, lines) else { return false };
    if field == "bucket" {
        return lines.iter().any(|line| has_bucket(line));
    }
    let counts = asked.query.contains("rate(") || asked.query.contains("increase(");
    lines.iter().any(|line| match line.get(&field) {
        Some(Value::I64(n)) => !counts || *n != 0,
        Some(_) => true,
        None => false,
    })
}

#[test]
fn every_query_of_every_panel_answers_from_the_databases() {
    let (influx, victoria, prometheus) = (Influx::start(), Victoria::start(), Prometheus::start());
    let home = Home::with_tools();
    let file = home.path("lines");
    // C plugins describe no tables; `text` of a table says which option fills it.
    let toml = format!(
        "interval = \"500ms\"\n[plugin.csample]\nenabled = false\n\
         [plugin.syswrite]\nby = \"comm\"\n[plugin.opensnoop]\nby = \"comm\"\nlatency = true\n\
         [plugin.memleak]\npid = {}\n\
         [[output]]\nkind = \"file\"\npath = \"{}\"\n\
         [[output]]\nkind = \"influxdb1\"\nurl = \"{}\"\ndatabase = \"{DATABASE}\"\n\
         [[output]]\nkind = \"victoriametrics\"\nurl = \"{}\"\n\
         [[output]]\nkind = \"prometheus\"\nurl = \"{}\"\n",
        std::process::id(),
        file.display(),
        influx.server.url(),
        victoria.server.url(),
        prometheus.server.url(),
    );
    let mut collector = home.start(&toml);
    let ticks = |lines: &[Line]| lines.iter().filter(|line| line.table == "runqlat").count();
    collector.wait_until("its ticks", |_| {
        assert!(Command::new("true").status().expect("it runs").success());
        ticks(&lines(&file)) >= TICKS
    });
    collector.terminate();
    let ended = collector.end();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);

    let lines = lines(&file);
    let times = || lines.iter().map(|line| line.time_ns / 1_000_000);
    let (from, to) = (times().min().expect("lines"), times().max().expect("lines"));
    let tools = tools(&home);
    let mut counts = BTreeMap::new();
    let mut in_sql = Vec::new();
    for language in LANGUAGES {
        let dashboards = dashboards(&home, language, &tools);
        dashboards.iter().for_each(check_layout);
        for asked in asked(&dashboards) {
            let of_it = lines_of(&lines, &asked);
            let query = filled(asked.query, from, to);
            let has = |field: &&str| of_it.iter().any(|line| line.get(field).is_some());
            match language {
                // No server for it is here: see below.
                "flux" => continue,
                "influxql" => {
                    if asked.heat {
                        // No bucket of a histogram that saw nothing.
                        let buckets = of_it.iter().any(|line| has_bucket(line));
                        assert_eq!(influx.series(&query).is_empty(), !buckets, "{query}");
                    } else if fields_of(&asked).iter().any(has) {
                        assert!(!influx.series(&query).is_empty(), "{query}");
                    } else {
                        continue;
                    }
                }
                "sql" => {
                    if asked.heat && !of_it.is_empty() {
                        let buckets = of_it.iter().any(|line| has_bucket(line));
                        in_sql.push((query, buckets));
                    } else if !asked.heat && fields_of(&asked).iter().all(has) {
                        in_sql.push((query, true));
                    } else {
                        continue;
                    }
                }
                _ if !answers(&asked, &of_it) => continue,
                "metricsql" => assert!(!victoria.query(&query, to).is_empty(), "{query}"),
                _ => assert!(!prometheus.query(&query, to).is_empty(), "{query}"),
            }
            *counts.entry(language).or_insert(0) += 1;
        }
        if language == "influxql" {
            let described: BTreeSet<&str> = dashboards.iter().flat_map(panels).map(table).collect();
            let seen: BTreeSet<&str> = lines.iter().map(|line| &*line.table).collect();
            println!("tables without a line here: {:?}", &described - &seen);
            for own in
                ["collector_plugin", "collector_output", "collector_host", "runqlat", "bootstrap"]
            {
                assert!(described.contains(own) && seen.contains(own), "{own}: {described:?}");
            }
        }
    }
    let began = Instant::now();
    let queries: Vec<String> = in_sql.iter().map(|(query, _)| query.clone()).collect();
    for (answer, (query, rows)) in datafusion(&lines, &queries).into_iter().zip(&in_sql) {
        let answer = answer.unwrap_or_else(|why| panic!("{why}: {query}"));
        assert_eq!(!answer.rows.is_empty(), *rows, "{query}");
    }
    println!("TABLE: queries of dashboards with rows: {counts:?}; SQL took {:?}", began.elapsed());
    assert_eq!(counts.len(), LANGUAGES.len() - 1);
    assert!(counts.values().all(|count| *count >= 50), "{counts:?}");
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
    let query = filled(&query, 1_000_000, 1_020_000);
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
        asked(&dashboards).iter().map(|asked| filled(asked.query, 0, 1)).collect();
    let hosts = list(&dashboards[0]["templating"]["list"]).iter().find(|it| it["name"] == "host");
    queries.insert(filled(text(&hosts.expect("it")["query"]), 0, 1));
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
