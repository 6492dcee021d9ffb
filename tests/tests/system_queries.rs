//! The queries of the README and of docs/lines.md, word for word, on the real databases: what they answer is what the
//! lines say. Those in SQL are answered by DataFusion, those in Flux are compiled.

use collector::read::{Line, read};
use plugin_api::histogram::bucket;
use serde_json::Value as Json;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::mpsc::channel;
use std::thread;
use system_tests::engines::{datafusion, flux};
use system_tests::running::Home;
use system_tests::servers::{DATABASE, Influx, Prometheus, Victoria};

/// Rounds of the two threads; each is at least one wait.
const ROUNDS: u64 = 5_000;
const TICKS: usize = 12;
const INTERVAL_NS: i64 = 500_000_000;
/// Of the groups that the README asks InfluxDB for.
const GROUP_NS: i64 = 10_000_000_000;

const README: &str = "README.md";
const MANUAL: &str = "docs/lines.md";

/// The queries of a page's only block of a language, by the first word of their comments: a rate, a p99, a heat map.
fn queries(page: &str, language: &str) -> BTreeMap<String, String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    let text = fs::read_to_string(path.join(page)).expect("the page");
    let fence = format!("```{language}\n");
    let mut blocks = text.split(&fence).skip(1);
    let (block, more) = (blocks.next(), blocks.next());
    let block = block.and_then(|rest| rest.split("```").next());
    let block = block.unwrap_or_else(|| panic!("no block ```{language}"));
    assert!(more.is_none(), "one block ```{language}");
    let title = |query: &str| query.split([' ', ':']).nth(1).expect("a comment").to_owned();
    let queries: BTreeMap<String, String> =
        block.trim().split("\n\n").map(|query| (title(query), query.to_owned())).collect();
    let names: Vec<&str> = queries.keys().map(String::as_str).collect();
    assert_eq!(names, ["Heat", "Rate", "p99"], "{page}, {language}");
    queries
}

/// Two threads that wake each other.
fn ping_pong() {
    let (ping, pinged) = channel();
    let (pong, ponged) = channel();
    let other = thread::spawn(move || pinged.iter().all(|()| pong.send(()).is_ok()));
    for _ in 0..ROUNDS {
        ping.send(()).expect("the other thread listens");
        ponged.recv().expect("the other thread answers");
    }
    drop(ping);
    other.join().expect("no panic");
}

/// The lines of runqlat that a file got.
fn lines(path: &Path) -> Vec<Line> {
    let text = fs::read_to_string(path).unwrap_or_default();
    let whole = text.rfind('\n').map_or("", |end| &text[..=end]);
    let lines = read(whole.as_bytes()).expect("line protocol");
    lines.into_iter().filter(|line| line.table == "runqlat").collect()
}

/// The values of each bucket that is not empty, by the field.
fn buckets<'a>(lines: impl IntoIterator<Item = &'a Line>) -> BTreeMap<String, u64> {
    let mut sums = BTreeMap::new();
    for line in lines {
        for name in line.fields.keys().filter(|name| name.starts_with("bucket_")) {
            *sums.entry(name.clone()).or_default() += line.u64(name);
        }
    }
    sums
}

fn sum(lines: &[Line], field: &str) -> u64 {
    lines.iter().map(|line| line.u64(field)).sum()
}

fn assert_close(query: &str, found: f64, expected: f64) {
    println!("{query}\n  answers {found}; the lines say {expected}");
    assert!((found / expected - 1.0).abs() < 0.01, "{query}: {found}, the lines say {expected}");
}

/// Rows of a series: the time, and the column.
fn column<'a>(series: &'a Json, name: &str) -> impl Iterator<Item = (i64, &'a Json)> {
    let columns = series["columns"].as_array().expect("columns");
    let at = columns.iter().position(|column| column == name);
    let at = at.unwrap_or_else(|| panic!("no column {name}: {series}"));
    let rows = series["values"].as_array().expect("rows").iter();
    rows.map(move |row| (row[0].as_i64().expect("a time"), &row[at]))
}

/// Lines by the group of an answer that they lie in.
fn groups(lines: &[Line]) -> BTreeMap<i64, Vec<Line>> {
    let mut groups = BTreeMap::<_, Vec<Line>>::new();
    for line in lines {
        groups.entry(line.time_ns - line.time_ns % GROUP_NS).or_default().push(line.clone());
    }
    groups
}

fn assert_influxql(influx: &Influx, lines: &[Line]) {
    let queries = queries(README, "influxql");
    let groups = groups(lines);
    let only = |query: &str| {
        let mut found = influx.series(query);
        assert_eq!(found.len(), 1, "{query}: one host");
        found.remove(0)
    };

    let query = &queries["Rate"];
    let series = only(query);
    let rates: BTreeMap<i64, f64> = column(&series, "rate")
        .map(|(time, rate)| (time, rate.as_f64().expect("a number")))
        .collect();
    assert!(rates.keys().eq(groups.keys()), "{rates:?}");
    for (time, rate) in rates {
        let of_group = &groups[&time];
        let expected = sum(of_group, "count") as f64 / sum(of_group, "interval_ns") as f64 * 1e9;
        assert_close(query, rate, expected);
    }

    let query = &queries["p99"];
    let series = only(query);
    for (time, p99) in column(&series, "p99") {
        let expected = groups[&time].iter().map(|line| line.u64("p99_us")).max();
        println!("{query}\n  answers {p99}; the lines say {expected:?}");
        assert_eq!(p99.as_u64(), expected, "{query}");
    }

    let query = &queries["Heat"];
    let series = only(query);
    let mut found = BTreeMap::new();
    for name in series["columns"].as_array().expect("columns").iter().skip(1) {
        let name = name.as_str().expect("a name");
        let of_bucket = column(&series, name).filter_map(|(_, count)| count.as_u64()).sum::<u64>();
        found.insert(name.strip_prefix("sum_").expect("a sum").to_owned(), of_bucket);
    }
    println!("{query}\n  answers {found:?}");
    assert_eq!(found, buckets(lines), "{query}");
    assert_eq!(found.values().sum::<u64>(), sum(lines, "count"), "{query}");
}

/// From and below, by a field.
fn bounds(field: &str) -> (f64, f64) {
    let numbers = field.strip_prefix("bucket_").and_then(|rest| rest.split_once('_'));
    let (from, below) = numbers.expect("two numbers");
    (from.parse().expect("a number"), below.parse().expect("a number or inf"))
}

fn assert_metricsql(victoria: &Victoria, lines: &[Line]) {
    let queries = queries(README, "promql");
    let (first, last) = (&lines[0], lines.last().expect("lines"));
    let end_ms = last.time_ns / 1_000_000;
    let only = |query: &str| {
        let found = victoria.query(query, end_ms);
        assert_eq!(found.len(), 1, "{query}: {found:?}");
        found[0].1
    };
    let count = sum(lines, "count");

    let query = &queries["Rate"];
    let covered_ns = last.time_ns - first.time_ns + first.u64("interval_ns") as i64;
    assert_close(query, only(query), count as f64 / covered_ns as f64 * 1e9);

    assert_p99(&queries["p99"], only(&queries["p99"]), lines);
    assert_cumulative(&queries["Heat"], &victoria.query(&queries["Heat"], end_ms), lines);
}

fn assert_promql(prometheus: &Prometheus, lines: &[Line]) {
    let queries = queries(MANUAL, "promql");
    let end_ms = lines.last().expect("lines").time_ns / 1_000_000;
    let only = |query: &str| {
        let found = prometheus.query(query, end_ms);
        assert_eq!(found.len(), 1, "{query}: {found:?}");
        found[0].1
    };
    // All of it came within the 300 s that it is asked about.
    assert_close(&queries["Rate"], only(&queries["Rate"]), sum(lines, "count") as f64 / 300.0);
    assert_p99(&queries["p99"], only(&queries["p99"]), lines);
    assert_cumulative(&queries["Heat"], &prometheus.query(&queries["Heat"], end_ms), lines);
}

/// Buckets that are not empty, in order of what they hold.
fn ordered(lines: &[Line]) -> Vec<((f64, f64), u64)> {
    let mut ordered: Vec<((f64, f64), u64)> =
        buckets(lines).iter().map(|(field, n)| (bounds(field), *n)).collect();
    ordered.sort_by(|a, b| a.0.0.total_cmp(&b.0.0));
    ordered
}

fn assert_p99(query: &str, found: f64, lines: &[Line]) {
    let rank = (sum(lines, "count") as f64 * 0.99).ceil() as u64;
    let mut below_it = 0;
    let p99 = ordered(lines).into_iter().find(|(_, n)| {
        below_it += n;
        below_it >= rank
    });
    let ((from, below), _) = p99.expect("values");
    println!("{query}\n  answers {found}; the lines say from {from}, below {below}");
    assert!((from..=below).contains(&found), "{query}: {found}, not from {from} to {below}");
}

/// Buckets with the label `le`, each with those below.
fn assert_cumulative(query: &str, found: &[(BTreeMap<String, String>, f64)], lines: &[Line]) {
    let found: BTreeMap<u64, u64> = found
        .iter()
        .map(|(labels, n)| {
            // The buckets' bounds are whole, `+Inf` is the largest number.
            let le: f64 = labels["le"].parse().expect("a bound");
            (le as u64, n.round() as u64)
        })
        .collect();
    println!("{query}\n  answers {found:?}");
    let count = sum(lines, "count");
    assert_eq!(found[&u64::MAX], count, "{query}: together all that were counted");
    let mut sum = 0;
    for ((_, below), n) in ordered(lines) {
        sum += n;
        assert_eq!(found[&(below as u64)], sum, "{query}: below {below}");
    }
}

fn assert_sql(lines: &[Line]) {
    let queries = queries(MANUAL, "sql");
    let of = ["Rate", "p99", "Heat"].map(|name| queries[name].clone());
    let answers: Vec<_> = datafusion(lines, &of)
        .into_iter()
        .zip(&of)
        .map(|(answer, query)| answer.unwrap_or_else(|why| panic!("{why}: {query}")))
        .collect();
    let groups = groups(lines);
    for (answer, query) in answers.iter().zip(&of) {
        let times = answer.column("time");
        let times = times.iter().map(|time| time.as_i64().expect("a time"));
        assert!(times.eq(groups.keys().copied()), "{query}: {answer:?}");
    }
    for (rate, lines) in answers[0].column("rate").iter().zip(groups.values()) {
        let expected = sum(lines, "count") as f64 / sum(lines, "interval_ns") as f64 * 1e9;
        assert_close(&of[0], rate.as_f64().expect("a number"), expected);
    }
    for (p99, lines) in answers[1].column("p99").iter().zip(groups.values()) {
        assert_eq!(p99.as_u64(), lines.iter().map(|line| line.u64("p99_us")).max(), "{}", of[1]);
    }
    let names = &answers[2].columns[1..];
    assert!(names.len() >= 3, "{names:?}");
    for name in names {
        let from: u64 = name.parse().expect("a bound");
        let field = format!("bucket_{from}_{}", from * 2);
        for (n, lines) in answers[2].column(name).iter().zip(groups.values()) {
            let expected = buckets(lines).get(&field).copied();
            assert_eq!(n.as_u64(), expected, "{}: {field}", of[2]);
        }
    }
}

/// No InfluxDB 2 is here: the compiler alone reads them.
fn assert_flux() {
    let queries: Vec<String> = queries(MANUAL, "flux").into_values().collect();
    for (query, wrong) in queries.iter().zip(flux(&queries)) {
        assert!(wrong.is_empty(), "{wrong:#?}\n{query}");
    }
}

#[test]
fn the_manuals_queries_answer_what_the_lines_say() {
    let (influx, victoria, prometheus, home) =
        (Influx::start(), Victoria::start(), Prometheus::start(), Home::with_tools());
    let file = home.path("lines");
    let toml = format!(
        "interval = \"{}ms\"\n\
         [[output]]\nkind = \"file\"\npath = \"{}\"\n\
         [[output]]\nkind = \"influxdb1\"\nurl = \"{}\"\ndatabase = \"{DATABASE}\"\n\
         [[output]]\nkind = \"victoriametrics\"\nurl = \"{}\"\n\
         [[output]]\nkind = \"prometheus\"\nurl = \"{}\"\n",
        INTERVAL_NS / 1_000_000,
        file.display(),
        influx.server.url(),
        victoria.server.url(),
        prometheus.server.url(),
    );
    let only_runqlat = |command: &mut Command| _ = command.args(["--only", "runqlat"]);
    let mut collector = home.start_with(&toml, only_runqlat);
    collector.wait_until("the first line", |_| !lines(&file).is_empty());
    let before = sum(&lines(&file), "count");
    ping_pong();
    collector.wait_until("its ticks", |_| lines(&file).len() >= TICKS);
    collector.terminate();
    let ended = collector.end();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    for (output, books) in ended.books() {
        assert!(books.waiting == 0 && books.dropped.is_empty(), "{output}: {}", ended.stderr);
    }

    let lines = lines(&file);
    let count = sum(&lines, "count");
    assert!(count - before >= ROUNDS, "{count} waits, {before} of them before the threads began");
    assert_eq!(buckets(&lines).values().sum::<u64>(), count);
    assert_influxql(&influx, &lines);
    assert_metricsql(&victoria, &lines);
    assert_promql(&prometheus, &lines);
    assert_sql(&lines);
    assert_flux();
}

/// What the comparison with `bounds` relies on.
#[test]
fn fields_name_the_bounds_of_their_buckets() {
    for (number, field) in [(0, "bucket_0_2"), (1, "bucket_2_4"), (9, "bucket_512_1024")] {
        let (from, below) = bucket(number);
        assert_eq!(bounds(field), (from as f64, below.expect("a bound") as f64), "{field}");
    }
    assert_eq!(bounds("bucket_9223372036854775808_inf").1, f64::INFINITY);
}
