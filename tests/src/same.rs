//! The same lines to a file, InfluxDB, VictoriaMetrics, and Prometheus by remote write and by scrapes, through a restart
//! of the collector in the middle: what each of them has counted.

use crate::Stored as _;
use crate::http;
use crate::port::Port;
use crate::running::{Ended, Home, Running};
use crate::servers::{DATABASE, Influx, Prometheus, Victoria, executable};
use collector::read::{Line, Value, read};
use serde_json::Value as Json;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How long, and how often.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Of the collector's ticks.
    pub interval: Duration,
    /// Between two scrapes.
    pub scrape: Duration,
    /// Of both runs of the collector together. No series may be silent for five minutes of one of them: then it begins
    /// at 0 again.
    pub time: Duration,
}

/// What was compared.
#[derive(Clone, Copy, Debug, Default)]
pub struct Compared {
    pub lines: usize,
    /// Counters, counts, sums and buckets, each of one series.
    pub series: usize,
    pub scrapes: usize,
    /// Those that a scrape has not all of: their last ticks before an end were never scraped.
    pub behind: usize,
    /// How many ticks that are, at most, of one of them.
    pub ticks: usize,
    /// Those whose restart no scrape shows, since they were larger soon after it than before.
    pub hidden: usize,
}

type Tags = BTreeMap<String, String>;

/// What counts: the table, the field, or `le=BOUND` of its histogram, and the tags.
type Key = (String, String, Tags);

/// Runs it, and compares.
///
/// # Panics
/// A sum differs.
#[must_use]
pub fn run(plan: Plan) -> Compared {
    let (influx, victoria, written, home, port) = (
        Influx::start(),
        Victoria::start(),
        Prometheus::start(),
        Home::with_tools(),
        Port::reserve(),
    );
    let scraping = Prometheus::scraping_every(port.address(), plan.scrape);
    let path = |name: &str| home.path(name).display().to_string();
    let spool = format!("spool = \"{}\"", path("spool"));
    let toml = format!(
        "interval = \"{}ms\"\nhttp = \"{}\"\n[plugin.csample]\nenabled = false\n\
         [plugin.syswrite]\nby = \"comm\"\n[plugin.opensnoop]\nby = \"comm\"\nlatency = true\n\
         [plugin.bootstrap]\nby = \"comm\"\n\
         [[output]]\nkind = \"file\"\npath = \"{}\"\n\
         [[output]]\nkind = \"influxdb1\"\nurl = \"{}\"\ndatabase = \"{DATABASE}\"\n{spool}\n\
         [[output]]\nkind = \"victoriametrics\"\nurl = \"{}\"\n{spool}\n\
         [[output]]\nkind = \"prometheus\"\nurl = \"{}\"\n{spool}\n",
        plan.interval.as_millis(),
        port.address(),
        path("lines"),
        influx.server.url(),
        victoria.server.url(),
        written.server.url(),
    );
    let mut kinds = Kinds::default();
    let mut runs = Vec::new();
    for _ in 0..2 {
        let mut collector = home.start(&toml);
        let url = format!("http://{}", port.address());
        work(&mut collector, &url, plan.time / 2);
        kinds.learn(&url);
        let ended = end(collector);
        check_books(&ended);
        let all = lines(&home);
        let known: usize = runs.iter().map(|run: &Run| run.lines.len()).sum();
        runs.push(Run { lines: all[known..].to_vec(), ended_ms: now_ms() });
    }
    let all: Vec<Line> = runs.iter().flat_map(|run| run.lines.clone()).collect();
    let expected = kinds.sums(&all);
    assert!(expected.values().filter(|sum| **sum > 0).count() > 100, "{}", expected.len());

    let found = kinds.tables().iter().flat_map(|table| influx.lines(table)).collect::<Vec<_>>();
    assert_same("InfluxDB", &kinds.sums(&found), &expected);
    assert_same("VictoriaMetrics", &of_victoria(&victoria, &expected), &expected);
    let end_ms = now_ms();
    let samples = of_prometheus(&written, &kinds, end_ms);
    let sums = samples.iter().map(|(key, samples)| (key.clone(), increase(samples))).collect();
    assert_same("Prometheus by remote write", &sums, &expected);
    check_promtool(&written, &kinds, &runs);

    let mut compared = check_scrapes(&scraping, &kinds, &runs, plan, end_ms);
    (compared.lines, compared.series) = (all.len(), expected.len());
    compared
}

/// What came of one run of the collector.
struct Run {
    lines: Vec<Line>,
    ended_ms: i64,
}

/// Makes events of all sorts for a while.
fn work(collector: &mut Running, url: &str, time: Duration) {
    collector.wait_until("readiness", |_| {
        http::get(&format!("{url}/readyz"), &[]).is_ok_and(|answer| answer.status == 200)
    });
    let began = Instant::now();
    while began.elapsed() < time {
        assert!(Command::new("true").status().expect("it runs").success());
        thread::sleep(Duration::from_millis(50));
    }
}

fn end(collector: Running) -> Ended {
    collector.terminate();
    let ended = collector.end();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    ended
}

fn check_books(ended: &Ended) {
    for (output, books) in ended.books() {
        let fine = books.balance() && books.dropped.is_empty() && books.waiting == 0;
        assert!(fine, "{output}: {books:?}\n{}", ended.stderr);
    }
}

fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis() as i64
}

fn lines(home: &Home) -> Vec<Line> {
    let text = fs::read_to_string(home.path("lines")).expect("the file");
    read(text.as_bytes()).expect("line protocol")
}

/// Which fields count, and what Prometheus calls them.
#[derive(Default)]
struct Kinds {
    /// By table and field, the metric; a histogram's field is empty.
    counters: BTreeMap<(String, String), String>,
}

impl Kinds {
    /// From what the collector says of its tables.
    fn learn(&mut self, url: &str) {
        let body = http::get(&format!("{url}/api/tables"), &[]).expect("an answer").body;
        let json: Json = serde_json::from_str(&body).expect("JSON");
        let list = |json: &Json| json.as_array().cloned().unwrap_or_default();
        let text = |json: &Json| json.as_str().expect("a text").to_owned();
        for table in list(&json["tables"]) {
            for field in list(&table["fields"]) {
                if matches!(field["kind"].as_str(), Some("counter" | "histogram")) {
                    let key = (text(&table["name"]), text(&field["name"]));
                    self.counters.insert(key, text(&field["metric"]));
                }
            }
        }
    }

    fn tables(&self) -> BTreeSet<String> {
        self.counters.keys().map(|(table, _)| table.clone()).collect()
    }

    fn is_counter(&self, table: &str, field: &str) -> bool {
        self.counters.contains_key(&(table.to_owned(), field.to_owned()))
    }

    /// What lines have counted; a histogram also as Prometheus has it, by upper bounds.
    fn sums(&self, lines: &[Line]) -> BTreeMap<Key, u64> {
        let mut sums = BTreeMap::new();
        for line in lines {
            self.counted(line, |key, n| *sums.entry(key).or_insert(0) += n);
        }
        sums
    }

    fn counted(&self, line: &Line, mut add: impl FnMut(Key, u64)) {
        let histogram = self.is_counter(&line.table, "");
        for (field, value) in &line.fields {
            let n = match value {
                Value::I64(n) => n.cast_unsigned(),
                Value::U64(n) => *n,
                _ => continue,
            };
            let part = field == "count" || field.starts_with("sum") || field.starts_with("bucket_");
            if self.is_counter(&line.table, field) || histogram && part {
                add((line.table.clone(), field.clone(), line.tags.clone()), n);
            }
        }
    }
}

/// What a counter has counted: a value that is smaller than the one before counts from 0.
fn increase(samples: &[(i64, f64)]) -> u64 {
    let (mut before, mut sum) = (0.0, 0.0);
    for (_, value) in samples {
        sum += if *value < before { *value } else { value - before };
        before = *value;
    }
    sum as u64
}

fn assert_same(who: &str, found: &BTreeMap<Key, u64>, expected: &BTreeMap<Key, u64>) {
    // A counter of 0 need not be anywhere.
    let counts = |sums: &BTreeMap<Key, u64>| -> BTreeMap<Key, u64> {
        sums.iter().filter(|(_, n)| **n > 0).map(|(key, n)| (key.clone(), *n)).collect()
    };
    let (found, expected) = (counts(found), counts(expected));
    let keys: BTreeSet<&Key> = found.keys().chain(expected.keys()).collect();
    let differ = |key: &&&Key| found.get(**key) != expected.get(**key);
    let wrong: Vec<String> = keys
        .iter()
        .filter(differ)
        .map(|key| format!("{key:?}: {:?}, the file {:?}", found.get(*key), expected.get(*key)))
        .collect();
    assert!(
        wrong.is_empty(),
        "{who}: {} differ\n{}",
        wrong.len(),
        wrong[..wrong.len().min(20)].join("\n")
    );
    println!("{who}: {} sums are those of the file", expected.len());
}

fn of_victoria(victoria: &Victoria, expected: &BTreeMap<Key, u64>) -> BTreeMap<Key, u64> {
    let is_bucket = |field: &str| field.starts_with("bucket_");
    let metrics: BTreeSet<(&str, &str)> = expected
        .keys()
        .map(|(table, field, _)| (&**table, if is_bucket(field) { "bucket" } else { &**field }))
        .collect();
    let mut series = BTreeMap::<Key, Vec<(i64, f64)>>::new();
    for (table, field) in metrics {
        let found = victoria.samples(&format!("{{__name__=\"{table}_{field}\"}}"));
        for sample in found.into_values().flatten() {
            let mut tags = Tags::clone(&sample.tags);
            let field = match (field, tags.remove("vmrange")) {
                ("bucket", Some(range)) => bucket_field(&range),
                _ => field.to_owned(),
            };
            let samples = series.entry((table.to_owned(), field, tags)).or_default();
            samples.push((sample.time_ms, sample.value));
        }
    }
    series
        .into_iter()
        .map(|(key, mut samples)| {
            samples.sort_by_key(|(time, _)| *time);
            (key, increase(&samples))
        })
        .collect()
}

/// `bucket_2_4` of `2.000e+00...4.000e+00`.
fn bucket_field(range: &str) -> String {
    let (from, _) = range.split_once("...").expect("a range");
    let from = from.parse::<f64>().expect("a number");
    let number = (0..plugin_api::histogram::BUCKETS)
        .find(|n| {
            let low = plugin_api::histogram::bucket(*n).0 as f64;
            (low - from).abs() <= low / 1000.0
        })
        .unwrap_or_else(|| panic!("no bucket from {from}"));
    match plugin_api::histogram::bucket(number) {
        (from, Some(below)) => format!("bucket_{from}_{below}"),
        (from, None) => format!("bucket_{from}_inf"),
    }
}

/// All samples of what counts, by the names that lines have: buckets without those below.
fn of_prometheus(
    prometheus: &Prometheus,
    kinds: &Kinds,
    end_ms: i64,
) -> BTreeMap<Key, Vec<(i64, f64)>> {
    let mut all = BTreeMap::new();
    let tags_of = |mut labels: Tags| {
        for own in ["__name__", "instance", "job"] {
            labels.remove(own);
        }
        labels
    };
    for ((table, field), metric) in &kinds.counters {
        if !field.is_empty() {
            for (labels, samples) in prometheus.samples(metric, end_ms) {
                all.insert((table.clone(), field.clone(), tags_of(labels)), samples);
            }
            continue;
        }
        let unit = metric.strip_prefix(table.as_str()).expect("the table");
        for (part, field) in [("count", "count".to_owned()), ("sum", format!("sum{unit}"))] {
            for (labels, samples) in prometheus.samples(&format!("{metric}_{part}"), end_ms) {
                all.insert((table.clone(), field.clone(), tags_of(labels)), samples);
            }
        }
        let mut by_tags = BTreeMap::<Tags, Vec<(f64, Vec<(i64, f64)>)>>::new();
        for (labels, samples) in prometheus.samples(&format!("{metric}_bucket"), end_ms) {
            let mut tags = tags_of(labels);
            let le = tags.remove("le").expect("a bound").parse().expect("a number");
            by_tags.entry(tags).or_default().push((le, samples));
        }
        for (tags, mut buckets) in by_tags {
            buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
            let mut below = BTreeMap::<i64, f64>::new();
            for (number, (_, samples)) in buckets.into_iter().enumerate() {
                let own = samples.iter().map(|(time, value)| {
                    (*time, value - below.get(time).copied().unwrap_or_default())
                });
                let field = match plugin_api::histogram::bucket(number) {
                    (from, Some(below)) => format!("bucket_{from}_{below}"),
                    (from, None) => format!("bucket_{from}_inf"),
                };
                let own = own.collect();
                below = samples.into_iter().collect();
                all.insert((table.clone(), field, tags.clone()), own);
            }
        }
    }
    all
}

/// What promtool reads of a metric: the last value of each series, which is what its last run has counted.
fn check_promtool(prometheus: &Prometheus, kinds: &Kinds, runs: &[Run]) {
    let mut last = BTreeMap::<Key, u64>::new();
    for run in runs {
        last.extend(kinds.sums(&run.lines));
    }
    let mut expected = BTreeMap::<&str, u64>::new();
    for ((table, field, _), n) in &last {
        if let Some(metric) = kinds.counters.get(&(table.clone(), field.clone())) {
            *expected.entry(metric).or_default() += n;
        }
    }
    let mut promtool = Command::new(executable("promtool"));
    promtool.args(["query", "instant", &prometheus.server.url()]);
    promtool.arg("sum by (__name__) (last_over_time({__name__=~\".+_total\"}[1h]))");
    let output = promtool.output().expect("promtool");
    let text = String::from_utf8_lossy(&output.stdout);
    let mut found = BTreeMap::new();
    for line in text.lines() {
        let (name, rest) = line.split_once(" => ").unwrap_or_else(|| panic!("{line}"));
        let name = name.trim_matches(['{', '}']).trim_start_matches("__name__=").trim_matches('"');
        let value = rest.split(' ').next().and_then(|value| value.parse::<f64>().ok());
        found.insert(name, value.unwrap_or_else(|| panic!("{line}")) as u64);
    }
    assert_eq!(found, expected, "{}", String::from_utf8_lossy(&output.stderr));
    println!("promtool: {} metrics have the sums of the file", found.len());
}

/// A scrape sees what has been counted until then. What the last ticks before an end have counted, no scrape sees. So in
/// each run the last scraped value is what the file has up to one of the ticks just before the last scrape.
fn check_scrapes(
    prometheus: &Prometheus,
    kinds: &Kinds,
    runs: &[Run],
    plan: Plan,
    end_ms: i64,
) -> Compared {
    let up = prometheus.samples("up", end_ms).into_iter().flat_map(|(_, samples)| samples);
    let up: Vec<i64> = up.filter(|(_, up)| *up == 1.0).map(|(time, _)| time).collect();
    let samples = of_prometheus(prometheus, kinds, end_ms);
    let mut compared = Compared { scrapes: up.len(), ..Compared::default() };
    let mut scraped = BTreeMap::<&Key, u64>::new();
    let mut after_ms = 0;
    // A tick may be late, and its lines may be on their way while the scrape is made.
    let late_ms = (plan.interval * 2 + Duration::from_secs(2)).as_millis() as i64;
    for run in runs {
        let of_run = |time: i64| (after_ms + 1..=run.ended_ms).contains(&time);
        let last_ms = up.iter().copied().filter(|time| of_run(*time)).max().expect("a scrape");
        let mut totals = BTreeMap::<Key, Vec<(i64, u64)>>::new();
        for line in &run.lines {
            kinds.counted(line, |key, n| {
                let totals = totals.entry(key).or_default();
                let before = totals.last().map_or(0, |(_, n)| *n);
                totals.push((line.time_ns / 1_000_000, before + n));
            });
        }
        for (key, totals) in &totals {
            let Some((key, samples)) = samples.get_key_value(key) else {
                let seen = totals.iter().any(|(time, n)| *n > 0 && *time < last_ms - late_ms);
                assert!(!seen, "{key:?} was not scraped");
                continue;
            };
            let mut of_run = samples.iter().filter(|(time, _)| of_run(*time));
            let value = of_run.next_back().map_or(0, |(_, value)| *value as u64);
            let until = |ms: i64| totals.iter().take_while(|(time, _)| *time <= ms).last();
            let least = until(last_ms - late_ms).map_or(0, |(_, n)| *n);
            let is_tick = value == least || totals.iter().any(|(_, n)| *n == value);
            let most = until(last_ms).map_or(0, |(_, n)| *n);
            assert!(
                is_tick && (least..=most).contains(&value),
                "{key:?}: {value} were scraped; at the last scrape the file had {least} to {most}"
            );
            *scraped.entry(key).or_default() += value;
            let total = totals.last().map_or(0, |(_, n)| *n);
            if value < total {
                let after = totals.iter().filter(|(_, n)| *n > value).count();
                compared.behind += 1;
                compared.ticks = compared.ticks.max(after);
            }
        }
        after_ms = run.ended_ms;
    }
    for (key, sum) in scraped {
        let increase = increase(&samples[key]);
        assert!(increase <= sum, "{key:?}: {increase} of {sum}");
        compared.hidden += usize::from(increase < sum);
    }
    compared
}

impl std::fmt::Display for Compared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { lines, series, scrapes, behind, ticks, hidden } = self;
        write!(
            f,
            "{lines} lines, {series} sums equal in the file, InfluxDB, VictoriaMetrics and Prometheus by remote write; by \
             {scrapes} scrapes {behind} lack what was counted after the last one of a run, in {ticks} ticks at most, and of \
             {hidden} the restart does not show"
        )
    }
}
