//! What receivers of remote write and of OTLP have of what was counted: exactly that, through outages, lost answers
//! and restarts, in classic and in native and exponential histograms.

use line_cases::proto::otlp::{DELTA, text};
use plugin_api::histogram::{BUCKETS, bucket};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use system_tests::faults::{Mode, Proxy};
use system_tests::receiver::{Receiver, Sample};
use system_tests::running::{Ended, Home, Running};
use system_tests::servers::{Prometheus, Victoria};
use system_tests::waits::{assert_quantile, counted, lines, wait_for_lines};

const MS: i64 = 1_000_000;

/// What a counter has counted: a value that is smaller than the one before counts from 0.
fn increase(samples: impl IntoIterator<Item = f64>) -> u64 {
    let (mut before, mut sum) = (0.0, 0.0);
    for value in samples {
        sum += if value < before { value } else { value - before };
        before = value;
    }
    sum as u64
}

fn config(home: &Home, outputs: &str) -> String {
    let path = |name: &str| home.path(name).display().to_string();
    format!(
        "interval = \"100ms\"\n\
         [[output]]\nkind = \"file\"\npath = \"{}\"\n{outputs}\n\
         [plugin.waits]\npushed = \"{}\"\nfail = \"{}\"\n",
        path("lines"),
        path("pushed"),
        path("fail")
    )
}

fn end(collector: Running) -> Ended {
    collector.terminate();
    let ended = collector.end();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    for (output, books) in ended.books() {
        assert!(books.balance() && books.dropped.is_empty(), "{output}: {}", ended.stderr);
    }
    ended
}

/// Waits until no request is likely to be under way: that of a tick is over, and the next tick is not yet there.
fn between_ticks() {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    let until = (160 - u64::from(now.subsec_millis()) % 100) % 100;
    thread::sleep(Duration::from_millis(until));
}

/// Nothing waits.
fn assert_delivered(ended: &Ended) {
    for (output, books) in ended.books() {
        assert_eq!(books.waiting, 0, "{output}: {}", ended.stderr);
    }
}

/// Makes lines come: in peace, while nobody can be reached, while answers get lost, and through an end and a start of
/// the collector with lines in its spool.
fn live_through(home: &Home, toml: &str, proxies: &[&Proxy]) {
    let set = |mode| {
        between_ticks();
        proxies.iter().for_each(|proxy| proxy.set(mode));
    };
    let all = |said: &str, words: &str| said.matches(words).count() >= proxies.len();
    let mut collector = home.start(toml);
    wait_for_lines(&mut collector, home, 8);

    set(Mode::Closed);
    collector.wait_until("the outage to be felt", |said| all(said, "its lines wait"));
    wait_for_lines(&mut collector, home, 60); // longer than what makes a backlog
    set(Mode::Pass);
    collector.wait_until("the end of it", |said| all(said, "works again"));
    wait_for_lines(&mut collector, home, 8);

    set(Mode::Closed);
    wait_for_lines(&mut collector, home, 8);
    let ended = end(collector);
    for (output, books) in ended.books().iter().filter(|(output, _)| !output.starts_with("file")) {
        assert!(books.waiting > 0, "{output} had an outage: {}", ended.stderr);
    }
    let mut collector = home.start(toml);
    wait_for_lines(&mut collector, home, 8);
    set(Mode::Pass);
    collector.wait_until("the end of it", |said| all(said, "works again"));
    wait_for_lines(&mut collector, home, 8);
    assert_delivered(&end(collector));
}

/// Requests arrive, and their answers do not; then the collector ends, and begins with lines in its spool that were
/// stored.
fn lose_answers(home: &Home, toml: &str, proxies: &[&Proxy]) {
    let set = |mode| proxies.iter().for_each(|proxy| proxy.set(mode));
    let times = |said: &str, words: &str| said.matches(words).count() / proxies.len();
    let mut collector = home.start(toml);
    wait_for_lines(&mut collector, home, 8);
    set(Mode::CutAnswer { after: 0 });
    collector.wait_until("answers that got lost", |said| times(said, "its lines wait") >= 1);
    set(Mode::Pass);
    collector.wait_until("the end of it", |said| times(said, "works again") >= 1);
    wait_for_lines(&mut collector, home, 8);
    set(Mode::CutAnswer { after: 0 });
    collector.wait_until("answers that got lost", |said| times(said, "its lines wait") >= 2);
    end(collector);
    set(Mode::Pass);
    let mut collector = home.start(toml);
    collector.wait_until("the spool", |said| times(said, "recovered from its spool") >= 1);
    wait_for_lines(&mut collector, home, 8);
    assert_delivered(&end(collector));
}

fn output(home: &Home, kind: &str, url: &str, keys: &str) -> String {
    format!(
        "[[output]]\nkind = \"{kind}\"\nurl = \"{url}\"\nbatch_time = \"10ms\"\n\
         spool = \"{}\"\n{keys}",
        home.path("spool").display()
    )
}

#[test]
fn prometheus_and_victoriametrics_have_the_counts_of_the_file() {
    let (prometheus, native, victoria) =
        (Prometheus::start(), Prometheus::start(), Victoria::start());
    let home = Home::of("waits");
    let servers = [&prometheus.server, &native.server, &victoria.server];
    let proxies = servers.map(|server| Proxy::tcp(server.address()));
    let [classic, sparse, other] = &proxies;
    let toml = config(
        &home,
        &[
            output(&home, "prometheus", &classic.url(), ""),
            output(&home, "prometheus", &sparse.url(), "histogram = \"native\"\n"),
            // The path is its own too.
            output(
                &home,
                "prometheus",
                &format!("{}/api/v1/write", other.url()),
                "version = \"1\"\n",
            ),
        ]
        .concat(),
    );
    live_through(&home, &toml, &[classic, sparse, other]);
    // VictoriaMetrics keeps what comes twice.
    lose_answers(&home, &toml, &[classic, sparse]);

    let lines = lines(&home, "waits");
    let end_ms = lines.last().expect("lines").time_ns / MS + 1;
    for series in ["steady", "rare"] {
        let (buckets, count, sum) = counted(&lines, series);
        println!("{series}: {count} values, their sum is {sum}");
        let selector = |metric: &str| format!("waits_{metric}{{series=\"{series}\"}}");
        let of_prometheus = |prometheus: &Prometheus, metric: &str| {
            let found = prometheus.samples(&selector(metric), end_ms);
            assert_eq!(found.len(), 1, "{metric}");
            found.into_iter().next().expect("one").1
        };
        let of_victoria = |metric: &str| -> Vec<(i64, f64)> {
            let found = victoria.samples(&selector(metric)).remove(&format!("waits_{metric}"));
            let found = found.unwrap_or_else(|| panic!("no {metric}"));
            found.iter().map(|sample| (sample.time_ms, sample.value)).collect()
        };
        for (metric, expected) in [("us_count", count), ("us_sum", sum)] {
            let found = of_prometheus(&prometheus, metric);
            assert_eq!(increase(found.iter().map(|s| s.1)), expected, "{metric}");
            let times: BTreeSet<i64> = found.iter().map(|s| s.0).collect();
            let of_lines = lines.iter().filter(|line| line.tag("series") == series);
            let of_lines: BTreeSet<i64> = of_lines.map(|line| line.time_ns / MS).collect();
            assert!(of_lines.is_subset(&times), "every tick has its sample");
            let found = of_victoria(metric);
            assert_eq!(increase(found.iter().map(|s| s.1)), expected, "VictoriaMetrics: {metric}");
            let different: BTreeSet<_> = found.iter().map(|s| (s.0, s.1 as u64)).collect();
            assert_eq!(different.len(), found.len(), "each was delivered once");
        }
        let found = prometheus.samples(&selector("us_bucket"), end_ms);
        assert_eq!(found.len(), BUCKETS);
        for (labels, samples) in found {
            let below = labels["le"].parse::<u64>().ok();
            let expected = (0..BUCKETS)
                .filter(|n| below.is_none_or(|below| bucket(*n).1.is_some_and(|b| b <= below)))
                .map(|n| buckets[n])
                .sum::<u64>();
            assert_eq!(increase(samples.iter().map(|s| s.1)), expected, "le={}", labels["le"]);
        }
        // Of the last run, whose values are like those of all.
        let quantile =
            |what: &str| format!("histogram_quantile(0.99, sum(increase({what}[1h])){{}})");
        let by_le = quantile(&selector("us_bucket")).replace("{}", " by (le)");
        let found = prometheus.query(&by_le, end_ms)[0].1;
        assert_quantile(&by_le, found, &buckets, count);
        let found = victoria.query(&by_le, end_ms)[0].1;
        assert_quantile(&format!("VictoriaMetrics: {by_le}"), found, &buckets, count);
        let sparse = quantile(&selector("us")).replace("{}", "");
        let found = native.query(&sparse, end_ms)[0].1;
        assert_quantile(&sparse, found, &buckets, count);
        let of_native = |what: &str| {
            let query = format!("histogram_{what}(increase({}[1h]))", selector("us"));
            native.query(&query, end_ms)[0].1
        };
        // Extrapolated to the hour's begin: within a tick or two.
        let (native_count, native_sum) = (of_native("count"), of_native("sum"));
        println!("native: {native_count} values, their sum is {native_sum}");
        assert!((native_count / count as f64 - 1.0).abs() < 0.05, "{native_count}");
        assert!((native_sum / sum as f64 - 1.0).abs() < 0.05, "{native_sum}");
    }
    let kinds = prometheus.query("count({__name__=~\"collector_.*_total\"})", end_ms);
    assert!(kinds[0].1 > 20.0, "the collector's own tables: {kinds:?}");
}

#[test]
fn a_receiver_of_remote_write_2_and_otlp_has_the_counts_of_the_file() {
    let (receiver, home) = (Receiver::start(), Home::of("waits"));
    let proxies = [(); 3].map(|()| Proxy::tcp(receiver.address()));
    let [classic, native, otlp] = &proxies;
    let toml = format!(
        "{}[tags]\ndc = \"fra1\"\nhost = \"box\"\n",
        config(
            &home,
            &[
                output(&home, "prometheus", &classic.url(), "version = \"2\"\n"),
                output(&home, "prometheus", &native.url(), "histogram = \"native\"\n"),
                output(&home, "otlp", &otlp.url(), ""),
            ]
            .concat(),
        )
    );
    live_through(&home, &toml, &[classic, native, otlp]);
    assert_eq!(receiver.wrong(), [""; 0]);
    let lines = lines(&home, "waits");
    let all = receiver.series();
    for series in ["steady", "rare"] {
        let (buckets, count, sum) = counted(&lines, series);
        let of = |name: &str, le: Option<&str>| -> &Vec<(i64, Sample)> {
            let mut labels = BTreeMap::from(
                [("__name__", name), ("series", series), ("dc", "fra1"), ("host", "box")]
                    .map(|(name, value)| (name.to_owned(), value.to_owned())),
            );
            labels.extend(le.map(|le| ("le".to_owned(), le.to_owned())));
            all.get(&labels).unwrap_or_else(|| panic!("no {labels:?}"))
        };
        let floats = |name: &str, le: Option<&str>| -> Vec<f64> {
            let float = |(_, sample): &(i64, Sample)| match sample {
                Sample::Float(value) => *value,
                Sample::Native(_) => panic!("{name} is native"),
            };
            of(name, le).iter().map(float).collect()
        };
        assert_eq!(increase(floats("waits_us_count", None)), count);
        assert_eq!(increase(floats("waits_us_sum", None)), sum);
        assert_eq!(increase(floats("waits_us_bucket", Some("+Inf"))), count);
        assert_eq!(increase(floats("waits_us_bucket", Some("4"))), buckets[0] + buckets[1]);
        let times: Vec<i64> = of("waits_us_count", None).iter().map(|(time, _)| *time).collect();
        assert!(times.is_sorted_by(|a, b| a < b), "in order, and each once: {times:?}");

        // The native ones come from another output.
        let histograms: Vec<_> = of("waits_us", None)
            .iter()
            .map(|(_, sample)| match sample {
                Sample::Native(histogram) => histogram,
                Sample::Float(_) => panic!("a number"),
            })
            .collect();
        let counts = |number: i32| {
            let of_bucket = |(n, count): (i32, u64)| if n == number { count as f64 } else { 0.0 };
            increase(histograms.iter().map(|h| h.positive().into_iter().map(of_bucket).sum()))
        };
        let zero = increase(histograms.iter().map(|h| h.zero_count_int.expect("whole") as f64));
        assert_eq!(zero, buckets[0]);
        for (number, expected) in buckets.iter().enumerate().skip(1) {
            assert_eq!(counts(number as i32 + 1), *expected, "{series}: bucket {number}");
        }

        // OTLP: deltas that are added up, each from where the one before ended.
        // One that comes twice, because its answer was lost, is the same point.
        let mut points = BTreeMap::new();
        for (resource, metric) in receiver.metrics().iter().filter(|(_, m)| m.name == "waits_us") {
            assert_eq!(resource, "service.name=collector,dc=fra1,host.name=box");
            let histogram = metric.exponential_histogram.as_ref().expect("it is one");
            assert_eq!(histogram.aggregation_temporality, DELTA);
            let of_series = format!("series={series}");
            let all = histogram.data_points.iter();
            for point in all.filter(|point| text(&point.attributes) == of_series) {
                let span = (point.start_time_unix_nano, point.time_unix_nano);
                let before = points.insert(span, point.clone());
                assert!(before.is_none_or(|before| before == *point), "{point:?}");
            }
        }
        let (mut found, mut found_count, mut found_sum) = ([0; BUCKETS], 0, 0.0);
        for point in points.values() {
            found[0] += point.zero_count;
            found_count += point.count;
            found_sum += point.sum.expect("a sum");
            let positive = point.positive.clone().unwrap_or_default();
            for (at, n) in positive.bucket_counts.iter().enumerate() {
                found[positive.offset as usize + at] += n;
            }
        }
        assert_eq!((found, found_count, found_sum as u64), (buckets, count, sum), "{series}");
        let spans: Vec<(u64, u64)> = points.into_keys().collect();
        let overlaps = spans.windows(2).filter(|pair| pair[0].1 > pair[1].0);
        assert_eq!(overlaps.count(), 0, "{spans:?}");
        if series == "steady" {
            let gaps = spans.windows(2).filter(|pair| pair[0].1 != pair[1].0).count();
            // Between the runs; and the last tick of each, which is not on the grid, may follow at once.
            assert!(gaps <= 3, "{gaps} gaps in {spans:?}");
        }
    }
}

#[test]
fn a_receiver_that_is_busy_gets_everything_later() {
    let (receiver, home) = (Receiver::start(), Home::of("waits"));
    let toml = config(
        &home,
        &[
            output(&home, "prometheus", &receiver.url(), ""),
            output(&home, "otlp", &receiver.url(), "gzip = false\n"),
        ]
        .concat(),
    );
    let mut collector = home.start(&toml);
    wait_for_lines(&mut collector, &home, 4);
    receiver.busy(true);
    collector.wait_until("both to be told so", |said| said.matches("503").count() >= 2);
    let turned_away = receiver.turned_away();
    wait_for_lines(&mut collector, &home, 10);
    receiver.busy(false);
    collector.wait_until("the end of it", |said| said.matches("works again").count() >= 2);
    assert_delivered(&end(collector));
    assert!(turned_away >= 2 && receiver.wrong().is_empty());
    let (_, count, _) = counted(&lines(&home, "waits"), "steady");
    let metrics = receiver.metrics();
    let sums = metrics.iter().filter(|(_, metric)| metric.name == "waits_us");
    let points = sums.flat_map(|(_, m)| m.exponential_histogram.clone().expect("one").data_points);
    let points = points.filter(|point| text(&point.attributes).contains("steady"));
    assert_eq!(points.map(|point| point.count).sum::<u64>(), count);
}

#[test]
fn databases_have_the_counts_of_the_file_while_a_plugin_is_started_again_and_again() {
    let (victoria, prometheus, home) = (Victoria::start(), Prometheus::start(), Home::of("waits"));
    let toml = |times: usize| {
        let outputs = [
            output(&home, "victoriametrics", &victoria.server.url(), ""),
            output(&home, "prometheus", &prometheus.server.url(), ""),
        ];
        // Another cap, which changes nothing else.
        config(&home, &outputs.concat()) + &format!("max_lines = {}\n", 1000 + times)
    };
    let mut collector = home.start(&toml(0));
    wait_for_lines(&mut collector, &home, 4);
    for times in 1..=12 {
        fs::write(home.path("collector.toml"), toml(times)).expect("a config file");
        collector.wait_until("another instance", |said| {
            said.matches("waits: replaced").count() >= times
        });
        wait_for_lines(&mut collector, &home, 3);
    }
    assert_delivered(&end(collector));
    let lines = lines(&home, "waits");
    let end_ms = lines.last().expect("lines").time_ns / MS + 1;
    for series in ["steady", "rare"] {
        let (_, count, sum) = counted(&lines, series);
        let selector = |metric: &str| format!("waits_{metric}{{series=\"{series}\"}}");
        for (ours, theirs, expected) in [("count", "us_count", count), ("sum_us", "us_sum", sum)] {
            let found = victoria.samples(&selector(ours)).remove(&format!("waits_{ours}"));
            let found = found.unwrap_or_else(|| panic!("no {ours}"));
            let found: BTreeSet<(i64, u64)> =
                found.iter().map(|sample| (sample.time_ms, sample.value as u64)).collect();
            let times: BTreeSet<i64> = found.iter().map(|sample| sample.0).collect();
            assert_eq!(times.len(), found.len(), "two values in one millisecond: {found:?}");
            let sums = found.iter().map(|sample| sample.1 as f64);
            assert_eq!(increase(sums), expected, "VictoriaMetrics: {series} {ours}: {found:?}");
            let found = prometheus.samples(&selector(theirs), end_ms).remove(0).1;
            let sums = found.iter().map(|sample| sample.1);
            assert_eq!(increase(sums), expected, "Prometheus: {series} {theirs}: {found:?}");
        }
    }
}
