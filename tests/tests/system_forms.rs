//! What databases make of histograms and counters, with the functions that their users type: the increase, the
//! rate and the quantiles are those of the values that were counted. Also when answers are lost and lines come
//! twice, and across restarts of the plugin, of the collector and of the servers.

use plugin_api::histogram::{BUCKETS, bucket};
use std::collections::BTreeMap;
use std::fs;
use system_tests::faults::{Mode, Proxy};
use system_tests::running::{Home, Running};
use system_tests::servers::{Influx, Victoria};

const MS: i64 = 1_000_000;

/// A row that the plugin pushed.
#[derive(Clone, Debug)]
struct Pushed {
    time_ms: i64,
    series: String,
    values: Vec<u64>,
}

fn pushed(home: &Home) -> Vec<Pushed> {
    let text = fs::read_to_string(home.path("pushed")).unwrap_or_default();
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    let row = |line: &str| {
        let mut words = line.split(' ');
        let time_ns: i64 = words.next()?.parse().ok()?;
        let series = words.next()?.to_owned();
        let values = words.map(|word| word.parse().expect("a number")).collect();
        Some(Pushed { time_ms: time_ns / MS, series, values })
    };
    whole.lines().filter_map(row).collect()
}

fn wait_for_rows(collector: &mut Running, home: &Home, more: usize) {
    let before = pushed(home).len();
    collector.wait_until("rows", |_| pushed(home).len() >= before + more);
}

/// The number of the bucket that a value lies in.
fn bucket_of(value: f64) -> usize {
    (0..BUCKETS).find(|n| bucket(*n).1.is_none_or(|below| value < below as f64)).expect("a bucket")
}

/// Values of some rows, sorted.
fn values<'a>(rows: impl IntoIterator<Item = &'a Pushed>) -> Vec<u64> {
    let mut values: Vec<u64> = rows.into_iter().flat_map(|row| row.values.clone()).collect();
    values.sort_unstable();
    values
}

fn value_at(values: &[u64], quantile: f64) -> u64 {
    let rank = (values.len() as f64 * quantile).ceil() as usize;
    values[rank.clamp(1, values.len()) - 1]
}

/// Makes rows come, with everything that happens to them on their way, until the collector has ended. `victorias`
/// are the databases behind the proxies.
fn live_through(home: &Home, toml: &str, proxies: &[Proxy], victorias: &mut [&mut Victoria]) {
    let mut collector = home.start(toml);
    wait_for_rows(&mut collector, home, 8);
    // Requests arrive, their answers do not: lines come twice.
    for proxy in proxies {
        proxy.set(Mode::CutAnswer { after: 0 });
    }
    wait_for_rows(&mut collector, home, 4);
    let resent = |said: &str| said.matches("its lines wait").count() >= proxies.len();
    collector.wait_until("answers that got lost", resent);
    for proxy in proxies {
        proxy.set(Mode::Pass);
    }
    collector
        .wait_until("the end of it", |said| said.matches("works again").count() >= proxies.len());
    // The plugin fails until it is ended, and is started again.
    fs::write(home.path("fail"), "").expect("a file");
    collector.wait_for("next start in");
    fs::remove_file(home.path("fail")).expect("it was there");
    wait_for_rows(&mut collector, home, 6);
    for victoria in victorias {
        victoria.server.stop();
        wait_for_rows(&mut collector, home, 2);
        victoria.server.start();
    }
    wait_for_rows(&mut collector, home, 4);
    for _ in 0..2 {
        // Another collector, which knows nothing of the one before.
        collector.terminate();
        let ended = collector.end();
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        for (output, books) in ended.books() {
            assert!(books.balance() && books.waiting == 0, "{output}: {}", ended.stderr);
            assert!(books.dropped.is_empty(), "{output}: {}", ended.stderr);
        }
        collector = home.start(toml);
        wait_for_rows(&mut collector, home, 8);
    }
    collector.terminate();
    assert_eq!(collector.end().code, Some(0));
}

fn config(home: &Home, outputs: &str) -> String {
    format!(
        "interval = \"100ms\"\n{outputs}\n[plugin.waits]\npushed = \"{}\"\nfail = \"{}\"\n",
        home.path("pushed").display(),
        home.path("fail").display()
    )
}

/// The increase of a metric by the label that tells the buckets, or `""`.
fn increases(
    victoria: &Victoria,
    what: &str,
    window_ms: i64,
    end_ms: i64,
) -> BTreeMap<String, f64> {
    let found = victoria.query(&format!("increase({what}[{window_ms}ms])"), end_ms);
    let label = |tags: &BTreeMap<String, String>| {
        tags.get("vmrange").or_else(|| tags.get("le")).cloned().unwrap_or_default()
    };
    found.iter().map(|(tags, value)| (label(tags), *value)).collect()
}

fn assert_counts(victoria: &Victoria, label: &str, rows: &[Pushed]) {
    const HOUR: i64 = 3_600_000;
    let end = rows.last().expect("rows").time_ms;
    for series in ["steady", "rare"] {
        let of_series: Vec<&Pushed> = rows.iter().filter(|row| row.series == series).collect();
        let all = values(of_series.iter().copied());
        let metric = |name: &str| format!("waits_{name}{{series=\"{series}\"}}");
        let whole = |name: &str| increases(victoria, &metric(name), HOUR, end)[""];
        assert_eq!(whole("count"), all.len() as f64, "{series}");
        assert_eq!(whole("sum_us"), all.iter().sum::<u64>() as f64, "{series}");

        let buckets = increases(victoria, &metric("bucket"), HOUR, end);
        let of_buckets: f64 = match label {
            "le" => buckets["+Inf"],
            _ => buckets.values().sum(),
        };
        assert_eq!(of_buckets, all.len() as f64, "{series}: {buckets:?}");
        for quantile in [0.5, 0.9, 0.99] {
            // `rate` divides by the time since a series' first sample; buckets begin when they are first not
            // empty, those with `le` all at once.
            let of = if label == "le" { "rate" } else { "increase" };
            let buckets = metric("bucket");
            let query =
                format!("histogram_quantile({quantile}, sum({of}({buckets}[1h])) by ({label}))");
            let (found, ours) = (victoria.query(&query, end)[0].1, value_at(&all, quantile));
            let number = bucket_of(ours as f64);
            let (from, below) = (bucket(number).0 as f64, bucket(number).1.expect("small") as f64);
            println!("{label} {series}: quantile {quantile} is {ours} of ours, {found} there");
            assert!(
                (from..=below).contains(&found),
                "{query}: {found}, not from {from} to {below}"
            );
        }

        // Every window between two ticks has what was counted in it: also where a series began, came back, or
        // something was started again.
        let mut times: Vec<i64> = rows.iter().map(|row| row.time_ms).collect();
        times.dedup();
        // For a window of few intervals `rate` takes one of its own. Of most intervals, on a machine that stalls.
        let mut intervals: Vec<i64> = times.windows(2).map(|two| two[1] - two[0]).collect();
        intervals.sort_unstable();
        let few = 1500.max(6 * intervals[intervals.len() * 4 / 5]);
        for (number, from) in times.iter().enumerate() {
            for to in times[number + 1..].iter().step_by(5) {
                let inside = |row: &&&Pushed| *from < row.time_ms && row.time_ms <= *to;
                let expected = values(of_series.iter().filter(inside).copied()).len() as f64;
                let found = increases(victoria, &metric("count"), to - from, *to);
                let found = found.get("").copied().unwrap_or_default();
                assert_eq!(found, expected, "{series}, from {from} to {to} in {times:?}");
                if series == "steady" && to - from >= few {
                    let query = format!("rate({}[{}ms])", metric("count"), to - from);
                    let rate = victoria.query(&query, *to)[0].1;
                    let counted = rate * (to - from) as f64 / 1000.0;
                    assert!((counted / expected - 1.0).abs() < 1e-9, "{query}: {rate}, {expected}");
                }
            }
        }
    }
    // A counter that is left out of a line goes on in it.
    let lines = victoria.samples("waits_seen{series=\"steady\"}")["waits_seen"].len();
    let of_count = victoria.samples("waits_count{series=\"steady\"}")["waits_count"].len();
    assert!(lines + 10 > of_count, "{lines} of {of_count}");
}

#[test]
fn victoriametrics_answers_rate_increase_and_quantiles_as_they_were_counted() {
    for (label, keys) in [("vmrange", ""), ("le", "histogram = \"le\"\n")] {
        let (mut victoria, home) = (Victoria::start(), Home::of("waits"));
        let proxy = Proxy::tcp(victoria.server.address());
        let output = format!(
            "[[output]]\nkind = \"victoriametrics\"\nurl = \"{}\"\nbatch_time = \"10ms\"\n{keys}",
            proxy.url()
        );
        let toml = config(&home, &output);
        live_through(&home, &toml, &[proxy], &mut [&mut victoria]);
        let rows = pushed(&home);
        assert!(rows.len() > 30, "{}", rows.len());
        assert_counts(&victoria, label, &rows);
    }
}

#[test]
fn influxdb_has_each_bucket_of_each_interval() {
    let (influx, home) = (Influx::start(), Home::of("waits"));
    let proxy = Proxy::tcp(influx.server.address());
    let output = format!(
        "[[output]]\nkind = \"influxdb1\"\nurl = \"{}\"\ndatabase = \"telegraf\"\nbatch_time = \"10ms\"\n",
        proxy.url()
    );
    let toml = config(&home, &output);
    live_through(&home, &toml, &[proxy], &mut []);
    let rows = pushed(&home);
    for series in ["steady", "rare"] {
        let all = values(rows.iter().filter(|row| row.series == series));
        // A heat map needs no name of a bucket.
        let query =
            format!("SELECT sum(/^(count|bucket_.*)$/) FROM waits WHERE \"series\" = '{series}'");
        let found = &influx.series(&query)[0];
        let columns = found["columns"].as_array().expect("columns").iter().skip(1);
        let numbers = found["values"][0].as_array().expect("a row").iter().skip(1);
        let found: BTreeMap<String, u64> = columns
            .zip(numbers)
            .filter(|(_, n)| !n.is_null())
            .map(|(name, n)| (name.as_str().expect("a name").to_owned(), n.as_u64().expect("n")))
            .collect();
        let mut expected = BTreeMap::from([("sum_count".to_owned(), all.len() as u64)]);
        for value in all {
            let (from, below) = bucket(bucket_of(value as f64));
            let below = below.expect("a small value");
            *expected.entry(format!("sum_bucket_{from}_{below}")).or_default() += 1;
        }
        assert_eq!(found, expected, "{series}");
    }
}
