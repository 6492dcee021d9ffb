//! What `collector dashboard` prints, and each query of each panel on real databases with real lines in them.

use crate::engines::datafusion;
use crate::running::{Home, Running, dist};
use crate::servers::{DATABASE, Influx, Prometheus, Victoria};
use crate::written::Written;
use collector::read::{Line, Value, read};
use serde_json::Value as Json;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Display, Formatter};
use std::fs;
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// Between two points of a panel that shows an hour.
const STEP_MS: i64 = 10_000;

/// Collectors, by what they load, with options that fill tables: a tool has one `by` at a time.
const COLLECTORS: [(&str, &str); 4] = [
    ("", ALL),
    (
        "profile,runqlat,tcpconnlat,tcprtt",
        r#"plugin.profile.by = "cgroup"
        plugin.runqlat.by = "comm"
        plugin.tcpconnlat.by = "comm"
        plugin.tcprtt.by = "remote_prefix""#,
    ),
    ("runqlat,tcpconnlat", "plugin.runqlat.by = \"pid_ns\"\nplugin.tcpconnlat.by = \"cgroup\""),
    ("tcpconnlat", "plugin.tcpconnlat.by = \"remote_prefix\""),
];

/// C plugins describe no tables.
const ALL: &str = r#"
plugin.csample.enabled = false
plugin.bashreadline.by = "uid"
plugin.bootstrap.by = "comm"
plugin.execsnoop.by = "comm"
plugin.exitsnoop.by = "comm"
plugin.hardirqs.by = "cpu"
plugin.javagc.by = "jvm"
plugin.opensnoop = { by = "comm", latency = true }
plugin.runqlat = { by = "cgroup", causes = true }
plugin.sigsnoop.by = "comm"
plugin.softirqs = { by = "cpu", delay = true }
plugin.syswrite.by = "comm"
plugin.tcpconnlat = { by = "remote_port", passive = true }
plugin.tcprtt.by = "remote_port"
plugin.unlink.by = "comm"
"#;

/// As `--for` has them.
pub const LANGUAGES: [&str; 5] = ["influxql", "flux", "sql", "metricsql", "promql"];

/// How often, and how long.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Of the collector's ticks.
    pub interval: Duration,
    /// So many of them are waited for.
    pub ticks: usize,
    /// How far queries of rates look back.
    pub back: Back,
}

/// How far back the functions look that take a range.
#[derive(Clone, Copy, Debug)]
pub enum Back {
    /// As in Grafana, when an hour of ticks of 10 s is shown.
    Grafana,
    /// To the first line, which is ten minutes away at most.
    All,
}

/// What was asked.
#[derive(Clone, Debug, Default)]
pub struct Answered {
    pub lines: usize,
    pub ticks: usize,
    /// Queries that answered with rows, by language.
    pub queries: BTreeMap<&'static str, usize>,
    /// Those without: about tables and fields that no line has, and about counts of nothing.
    pub without: BTreeMap<&'static str, usize>,
    /// Tables that are described and had no line.
    pub silent: BTreeSet<String>,
}

impl Answered {
    fn count(&mut self, language: &'static str, rows: bool) {
        let counts = if rows { &mut self.queries } else { &mut self.without };
        *counts.entry(language).or_default() += 1;
    }
}

impl Display for Answered {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self { lines, ticks, queries, without, silent } = self;
        write!(
            f,
            "queries of dashboards on {lines} lines of {ticks} ticks: with rows {queries:?}, without \
             {without:?}, tables without a line {silent:?}"
        )
    }
}

/// Runs the collector beside databases, and asks every query.
///
/// # Panics
/// A query about something that has lines answers without rows, or one without them with rows.
#[must_use]
pub fn run(plan: Plan) -> Answered {
    let (influx, victoria, prometheus) = (Influx::start(), Victoria::start(), Prometheus::start());
    let home = Home::with_tools();
    let servers = [influx.server.url(), victoria.server.url(), prometheus.server.url()];
    let lines = collect(plan, servers);
    victoria.flush();
    let times = || lines.iter().map(|line| line.time_ns / 1_000_000);
    let (from, to) = (times().min().expect("lines"), times().max().expect("lines"));
    let tools = tools(&home);
    let mut answered = Answered { lines: lines.len(), ticks: plan.ticks, ..Answered::default() };
    // The last step is at the last line: VictoriaMetrics says nothing of what is to come.
    let steps = (to - (to - from + STEP_MS - 1) / STEP_MS * STEP_MS, to, STEP_MS);
    let (mut in_sql, mut wrong) = (Vec::new(), Vec::new());
    for language in LANGUAGES {
        let dashboards = dashboards(&home, language, &tools);
        for asked in asked(&dashboards) {
            let of_it = lines_of(&lines, &asked);
            let query = filled(asked.query, from, to, plan.back);
            let has = |field: &&str| of_it.iter().any(|line| line.get(field).is_some());
            // No bucket of a histogram that saw nothing.
            let buckets = || of_it.iter().any(|line| has_bucket(line));
            // Whether there are to be rows, where that is known.
            let rows = match language {
                // No server for it is to be had.
                "flux" => continue,
                "influxql" if asked.heat => Some(buckets()),
                "influxql" => fields_of(&asked).iter().any(has).then_some(true),
                "sql" if asked.heat => (!of_it.is_empty()).then(buckets),
                "sql" => fields_of(&asked).iter().all(has).then_some(true),
                _ => answers(&asked, &of_it).then_some(true),
            };
            let found = match language {
                "sql" => {
                    // What no line has is no column, and a query about it an error.
                    match rows {
                        Some(rows) => in_sql.push((query, rows)),
                        None => answered.count(language, false),
                    }
                    continue;
                }
                "influxql" => !influx.series(&query).is_empty(),
                "metricsql" if asked.instant => !victoria.query(&query, to).is_empty(),
                "metricsql" => !victoria.query_range(&query, steps).is_empty(),
                _ if asked.instant => !prometheus.query(&query, to).is_empty(),
                _ => !prometheus.query_range(&query, steps).is_empty(),
            };
            answered.count(language, found);
            if rows.is_some_and(|rows| rows != found) {
                wrong.push(query);
            }
        }
        if language == "influxql" {
            let described: BTreeSet<_> = dashboards.iter().flat_map(panels).map(table).collect();
            let seen: BTreeSet<_> = lines.iter().map(|line| &*line.table).collect();
            answered.silent = (&described - &seen).into_iter().map(str::to_owned).collect();
        }
    }
    let queries: Vec<String> = in_sql.iter().map(|(query, _)| query.clone()).collect();
    for (answer, (query, rows)) in datafusion(&lines, &queries).into_iter().zip(in_sql) {
        let found = answer.map(|answer| !answer.rows.is_empty());
        answered.count("sql", found == Ok(true));
        match found {
            Ok(found) if found == rows => {}
            Ok(_) => wrong.push(query),
            Err(why) => wrong.push(format!("{why}: {query}")),
        }
    }
    assert!(wrong.is_empty(), "{} of {answered}:\n{}", wrong.len(), wrong.join("\n"));
    answered
}

/// Something for many tools to count.
fn stir(file: &Path) {
    assert!(Command::new("true").status().expect("it runs").success());
    assert!(!Command::new("sh").args(["-c", "kill $$"]).status().expect("it runs").success());
    Command::new("/nothing/there").status().expect_err("it is not there");
    TcpStream::connect(("127.0.0.1", 1)).expect_err("nobody listens there");
    fs::write(file, "").and_then(|()| fs::remove_file(file)).expect("a file that comes and goes");
}

/// The lines of all tools, which the databases have too.
fn collect(plan: Plan, servers: [String; 3]) -> Vec<Line> {
    let mut collectors: Vec<_> =
        COLLECTORS.iter().map(|(only, options)| start(plan, only, options, &servers)).collect();
    for ticks in 1..=plan.ticks {
        for (home, collector, written) in &mut collectors {
            collector.wait_until("its ticks", |_| {
                stir(&home.path("stirred"));
                written.count("tcpconnlat_lost") >= ticks
            });
        }
    }
    let lines = collectors.into_iter().map(|(home, collector, _)| {
        collector.terminate();
        let ended = collector.end();
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        read(&fs::read(home.path("lines")).expect("its lines")).expect("line protocol")
    });
    lines.collect::<Vec<_>>().concat()
}

/// Starts a collector, whose lines are in its file `lines` too.
fn start(
    plan: Plan,
    only: &str,
    options: &str,
    [influx, victoria, prometheus]: &[String; 3],
) -> (Home, Running, Written) {
    let home = Home::with_tools();
    let file = home.path("lines");
    // What comes first is not there, which is worth a line of collector_output_url.
    let toml = format!(
        "interval = \"{}ms\"\n{options}\nplugin.memleak.pid = {}\ntags.host = \"of {only}\"\n\
         [[output]]\nkind = \"file\"\npath = \"{}\"\n\
         [[output]]\nkind = \"influxdb1\"\nurls = [\"http://127.0.0.1:1\", \"{influx}\"]\ndatabase = \"{DATABASE}\"\n\
         [[output]]\nkind = \"victoriametrics\"\nurl = \"{victoria}\"\n\
         [[output]]\nkind = \"prometheus\"\nurl = \"{prometheus}\"\n",
        plan.interval.as_millis(),
        std::process::id(),
        file.display(),
    );
    let collector = home.start_with(&toml, |command| {
        if !only.is_empty() {
            command.args(["--only", only]);
        }
    });
    (home, collector, Written::at(file))
}

/// An array.
///
/// # Panics
/// It is none.
#[must_use]
pub fn list(json: &Json) -> &[Json] {
    json.as_array().unwrap_or_else(|| panic!("no list: {json}"))
}

/// A text.
///
/// # Panics
/// It is none.
#[must_use]
pub fn text(json: &Json) -> &str {
    json.as_str().unwrap_or_else(|| panic!("no text: {json}"))
}

/// What `collector dashboard` prints.
///
/// # Panics
/// It fails.
#[must_use]
pub fn dashboard(home: &Home, language: &str, names: &[&str]) -> Json {
    let mut command = Command::new(dist().join("collector"));
    command.args(["dashboard", "--for", language, "--plugins"]).arg(home.path("plugins"));
    let output = command.args(names).output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{said}");
    serde_json::from_slice(&output.stdout).unwrap_or_else(|why| panic!("{why}: {said}"))
}

/// The tools of the install tree that have tables with numbers.
///
/// # Panics
/// There is no install tree.
#[must_use]
pub fn tools(home: &Home) -> Vec<String> {
    let rows = dashboard(home, "metricsql", &[]);
    let rows = list(&rows["panels"]).iter().filter(|panel| panel["type"] == "row");
    rows.skip(1).map(|row| text(&row["title"]).to_owned()).collect()
}

/// The overview, and all that there is of all tools.
///
/// # Panics
/// As [`dashboard`].
#[must_use]
pub fn dashboards(home: &Home, language: &str, tools: &[String]) -> [Json; 2] {
    let tools: Vec<&str> = tools.iter().map(String::as_str).collect();
    [dashboard(home, language, &[]), dashboard(home, language, &tools)]
}

/// The table of a panel, which its title begins with.
///
/// # Panics
/// It has no title.
#[must_use]
pub fn table(panel: &Json) -> &str {
    text(&panel["title"]).split(':').next().expect("a title")
}

/// The panels that are no rows.
///
/// # Panics
/// It is no dashboard.
pub fn panels(dashboard: &Json) -> impl Iterator<Item = &Json> {
    list(&dashboard["panels"]).iter().filter(|panel| panel["type"] != "row")
}

/// A panel's query in some language.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// The table that its panel is about.
    pub table: &'a str,
    pub query: &'a str,
    /// Whether the panel is a heat map.
    pub heat: bool,
    /// Whether it is about one moment.
    pub instant: bool,
}

/// The queries of all panels.
///
/// # Panics
/// A panel has none.
#[must_use]
pub fn asked(dashboards: &[Json]) -> Vec<Asked<'_>> {
    let mut all = Vec::new();
    for panel in dashboards.iter().flat_map(panels) {
        for target in list(&panel["targets"]) {
            let query = ["expr", "rawSql", "query"].iter().find_map(|key| target[key].as_str());
            let query = query.unwrap_or_else(|| panic!("no query: {target}"));
            let (heat, instant) = (panel["type"] == "heatmap", target["instant"] == true);
            all.push(Asked { table: table(panel), query, heat, instant });
        }
    }
    all
}

/// What Grafana puts in place of its variables.
///
/// # Panics
/// A variable is left.
#[must_use]
pub fn filled(query: &str, from_ms: i64, to_ms: i64, back: Back) -> String {
    let filter = format!("time >= {from_ms}ms AND time <= {to_ms}ms");
    let query = query.replace("$timeFilter", &filter).replace("$__interval_ms", "10000");
    let (interval, rate) = match back {
        Back::Grafana => ("[10s]", "40s"), // a step, and four of them
        Back::All => ("[600s]", "600s"),
    };
    let query = query.replace("[$__interval]", interval).replace("$__rate_interval", rate);
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
