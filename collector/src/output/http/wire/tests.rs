//! What is made of lines, read by prost from the messages as they are published.

use super::prometheus::{RemoteWrite, Version};
use super::{Otlp, Packed};
use crate::descriptions::learn;
use crate::encode::{Schema, Tags};
use crate::encoder::Encoder;
use crate::form::Form;
use line_cases::proto::otlp::{DELTA, ExportMetricsServiceRequest, Metric, text};
use line_cases::proto::{Message, v1, v2};
use plugin_api::abi::Tick;
use plugin_api::describe::Table;
use plugin_api::{Snapshot, table};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

table! {
    /// Made-up waits.
    wire_waits {
        tags {
            /// Who waits.
            comm,
        }
        /// How long a thread waits.
        wait: histogram(us),
        /// How often it was seen.
        seen: counter,
        /// How many wait now.
        queue: gauge,
        /// In a share.
        share: float,
        /// Whether somebody waits.
        busy: flag,
        /// In words.
        state: text,
    }
}

/// Values at both ends of several buckets.
const VALUES: [u64; 8] = [0, 1, 2, 3, 4, 7, 8, u64::MAX];
const MS: i64 = 1_000_000;

fn tags() -> Tags {
    Tags::from([("dc".into(), "fra1".into()), ("host".into(), "box".into())])
}

/// Lines of two ticks in a form, the second of which counts the value 4 alone.
fn lines(form: Form) -> Vec<u8> {
    learn(&[Table::new(&wire_waits::TABLE)]);
    let (mut encoder, start) = (Encoder::new(&[form]), Instant::now());
    let schema = Schema::of(&wire_waits::TABLE, &tags(), false).unwrap();
    let schema = encoder.add("wire_waits", schema);
    for (seq, values) in [(0, &VALUES[..]), (1, &[4])] {
        let mut wait = Snapshot::default();
        values.iter().for_each(|value| wait.add(*value));
        wait.sum = values.iter().map(|value| value & 0xff).sum();
        let (seen, queue, share, busy) = (values.len() as u64, -3, 0.25, true);
        let (comm, state) = ("a b".into(), "well".into());
        let row = wire_waits::Row { comm, wait, seen, queue, share, busy, state };
        // The second tick is late by what it covers more.
        let (time_ns, elapsed_ns) = ((1000 + seq * 100) * MS, 100_000_000 + seq as u64 * 12_345);
        encoder.begin(
            Tick { seq: seq as u64, time_ns, elapsed_ns },
            start + Duration::from_nanos(100_012_345) * seq as u32,
        );
        encoder.push_row(schema, &row).unwrap();
    }
    encoder.take().remove(0).bytes
}

fn unsnapped(packed: &Packed<'_>) -> Vec<u8> {
    assert_eq!(packed.media.encoding, Some("snappy"));
    snap::raw::Decoder::new().decompress_vec(&packed.body.concat()).unwrap()
}

/// Samples by their series, as `name{label="value",..}`: times in milliseconds and values.
type Samples = BTreeMap<String, Vec<(i64, f64)>>;

fn series(labels: &[(&str, &str)]) -> String {
    let sorted = labels.is_sorted_by(|a, b| a.0 < b.0);
    assert!(sorted, "labels are sorted and different: {labels:?}");
    let name = labels.iter().find(|(name, _)| *name == "__name__").unwrap().1;
    let others = labels.iter().filter(|(name, _)| *name != "__name__");
    let others: Vec<_> = others.map(|(name, value)| format!("{name}={value:?}")).collect();
    format!("{name}{{{}}}", others.join(","))
}

fn read_v1(message: &[u8]) -> (v1::WriteRequest, Samples) {
    let request = v1::WriteRequest::decode(message).unwrap();
    let mut samples = Samples::new();
    for one in &request.timeseries {
        let labels: Vec<_> = one.labels.iter().map(|l| (&*l.name, &*l.value)).collect();
        let of_series = samples.entry(series(&labels)).or_default();
        of_series.extend(one.samples.iter().map(|s| (s.timestamp, s.value)));
    }
    (request, samples)
}

fn read_v2(message: &[u8]) -> (v2::Request, Samples) {
    let request = v2::Request::decode(message).unwrap();
    assert_eq!(request.symbols[0], "");
    let mut samples = Samples::new();
    for one in &request.timeseries {
        let symbol = |n: &u32| &*request.symbols[*n as usize];
        let labels = one.labels_refs.chunks(2).map(|pair| (symbol(&pair[0]), symbol(&pair[1])));
        let of_series = samples.entry(series(&labels.collect::<Vec<_>>())).or_default();
        of_series.extend(one.samples.iter().map(|s| (s.timestamp, s.value)));
    }
    (request, samples)
}

/// What both versions say of [`lines`], with classic histograms.
fn assert_classic(samples: &Samples) {
    let of = |name: &str, more: &str| {
        let series = format!("wire_waits_{name}{{comm=\"a b\",dc=\"fra1\",host=\"box\"{more}}}");
        samples.get(&series).unwrap_or_else(|| panic!("no {series} in {samples:?}")).clone()
    };
    assert_eq!(of("seen_total", ""), [(900, 0.0), (1000, 8.0), (1100, 9.0)]);
    assert_eq!(of("us_count", ""), [(900, 0.0), (1000, 8.0), (1100, 9.0)]);
    assert_eq!(of("us_sum", ""), [(900, 0.0), (1000, 280.0), (1100, 284.0)]);
    for (name, value) in [("queue", -3.0), ("share", 0.25), ("busy", 1.0)] {
        assert_eq!(of(name, ""), [(1000, value), (1100, value)], "{name}");
    }
    assert_eq!(of("max_us", ""), [(1000, i64::MAX as f64), (1100, 4.0)]);
    // Below 2, 4, 8, 16 and 2^63 lie so many.
    for (le, first, second) in [
        ("2", 2.0, 2.0),
        ("4", 4.0, 4.0),
        ("8", 6.0, 7.0),
        ("16", 7.0, 8.0),
        ("9223372036854775808", 7.0, 8.0),
        ("+Inf", 8.0, 9.0),
    ] {
        let found = of("us_bucket", &format!(",le=\"{le}\""));
        assert_eq!(found, [(900, 0.0), (1000, first), (1100, second)], "{le}");
    }
    let buckets = samples.keys().filter(|series| series.starts_with("wire_waits_us_bucket"));
    assert_eq!(buckets.count(), 64);
    assert!(!samples.keys().any(|series| series.contains("state") || series.contains("interval")));
}

#[test]
fn version_1_has_every_number_and_its_metadata() {
    let lines = lines(Form::PROMETHEUS);
    let mut remote = RemoteWrite::new(Version::V1, false);
    let packed = remote.pack([&lines[..]].into_iter()).unwrap();
    assert_eq!(packed.media.kind, "application/x-protobuf");
    assert_eq!((packed.media.version, packed.refused.len()), (Some("0.1.0"), 0));
    let samples_sent = packed.samples;
    let (request, samples) = read_v1(&unsnapped(&packed));
    assert_classic(&samples);
    assert_eq!(samples.values().map(|s| s.len() as u64).sum::<u64>(), samples_sent);
    let mut told: Vec<_> = request.metadata.iter().collect();
    told.sort_by(|a, b| a.metric_family_name.cmp(&b.metric_family_name));
    let told: Vec<_> = told
        .iter()
        .map(|m| (&*m.metric_family_name, m.kind, &*m.help, &*m.unit))
        .filter(|(name, ..)| !name.contains("p50") && !name.contains("p9"))
        .collect();
    let (counter, gauge, histogram) = (1, 2, 3);
    assert_eq!(
        told,
        [
            ("wire_waits_busy", gauge, "Whether somebody waits.", ""),
            (
                "wire_waits_max_us",
                gauge,
                "The largest value of an interval: How long a thread waits.",
                "us"
            ),
            ("wire_waits_queue", gauge, "How many wait now.", ""),
            ("wire_waits_seen_total", counter, "How often it was seen.", ""),
            ("wire_waits_share", gauge, "In a share.", ""),
            ("wire_waits_us", histogram, "How long a thread waits.", "us"),
        ]
    );
    // Unless another test describes something meanwhile.
    let mut again = || {
        let packed = remote.pack([&lines[..]].into_iter()).unwrap();
        read_v1(&unsnapped(&packed)).0.metadata.is_empty()
    };
    assert!((0..3).any(|_| again()), "told once in a minute");
}

#[test]
fn version_2_has_the_same_and_metadata_in_each_series() {
    let lines = lines(Form::PROMETHEUS);
    let mut remote = RemoteWrite::new(Version::Auto, false);
    for _ in 0..2 {
        let packed = remote.pack([&lines[..]].into_iter()).unwrap();
        let kind = "application/x-protobuf;proto=io.prometheus.write.v2.Request";
        assert_eq!((packed.media.kind, packed.media.version), (kind, Some("2.0.0")));
        let (request, samples) = read_v2(&unsnapped(&packed));
        assert_classic(&samples);
        for one in &request.timeseries {
            let symbol = |n: u32| &*request.symbols[n as usize];
            let labels: Vec<_> = one.labels_refs.iter().map(|n| symbol(*n)).collect();
            let name = labels[labels.iter().position(|label| *label == "__name__").unwrap() + 1];
            let metadata = one.metadata.as_ref().unwrap();
            let said = (metadata.kind, symbol(metadata.help_ref), symbol(metadata.unit_ref));
            match name {
                "wire_waits_seen_total" => assert_eq!(said, (1, "How often it was seen.", "")),
                "wire_waits_queue" => assert_eq!(said, (2, "How many wait now.", "")),
                _ if name.starts_with("wire_waits_us_") => {
                    assert_eq!(said, (3, "How long a thread waits.", "us"));
                }
                _ => {}
            }
        }
    }
}

#[test]
fn a_native_histogram_has_our_buckets_and_a_zero_bucket_of_0_and_1() {
    let lines = lines(Form::PROMETHEUS);
    for (version, v2) in [(Version::V1, false), (Version::V2, true)] {
        let mut remote = RemoteWrite::new(version, true);
        let packed = remote.pack([&lines[..]].into_iter()).unwrap();
        let message = unsnapped(&packed);
        let histograms: Vec<_> = if v2 {
            let (request, samples) = read_v2(&message);
            assert!(samples.contains_key("wire_waits_us{comm=\"a b\",dc=\"fra1\",host=\"box\"}"));
            request.timeseries.into_iter().flat_map(|one| one.histograms).collect()
        } else {
            let (request, samples) = read_v1(&message);
            assert!(samples.contains_key("wire_waits_us{comm=\"a b\",dc=\"fra1\",host=\"box\"}"));
            request.timeseries.into_iter().flat_map(|one| one.histograms).collect()
        };
        let said: Vec<_> = histograms
            .iter()
            .map(|h| (h.timestamp, h.count_int, h.sum, h.zero_count_int, h.positive()))
            .collect();
        // From 2, below 4 is their number 2, which is above 2 and up to 4; and so on.
        let first = vec![(2, 2), (3, 2), (4, 1), (64, 1)];
        let second = vec![(2, 2), (3, 3), (4, 1), (64, 1)];
        assert_eq!(
            said,
            [
                (900, Some(0), 0.0, Some(0), vec![]),
                (1000, Some(8), 280.0, Some(2), first),
                (1100, Some(9), 284.0, Some(2), second),
            ]
        );
        assert!(histograms.iter().all(|h| (h.schema, h.zero_threshold) == (0, 1.0)));
    }
}

#[test]
fn two_values_of_a_series_in_a_millisecond_are_told_of_and_the_same_value_is_sent_once() {
    let lines = b"t,a=b n=1i 1000000\nt,a=b n=2i 1999999\nt,a=c n=2i 1999999\nt,a=b n=1i 1500000\n\
                  t_n,a=b m=1i 5\nt,a=b n_m=2i 6\n";
    for version in [Version::V1, Version::V2] {
        let mut remote = RemoteWrite::new(version, false);
        let packed = remote.pack([&lines[..]].into_iter()).unwrap();
        let refused: Vec<u64> = packed.refused.iter().map(|refusal| refusal.index).collect();
        assert_eq!(refused, [1, 5]);
        assert!(packed.refused[0].words.contains("in this millisecond"));
        assert_eq!(packed.samples, 3);
    }
}

#[test]
fn names_that_are_none_for_prometheus_are_escaped_and_stay_different() {
    let lines = b"net-x,a-b=1,a.b=2,a_b=3,host=h rx\\ bytes=1,n=2u 1000000\n";
    let mut remote = RemoteWrite::new(Version::V1, false);
    let packed = remote.pack([&lines[..]].into_iter()).unwrap();
    let (request, samples) = read_v1(&unsnapped(&packed));
    let labels = "U__a_2d_b=\"1\",U__a_2e_b=\"2\",a_b=\"3\",host=\"h\"";
    let expected =
        ["U__net_2d_x__n__total", "U__net_2d_x__rx_20_bytes"].map(|n| format!("{n}{{{labels}}}"));
    assert!(samples.keys().eq(&expected), "{samples:?}");
    let kinds: Vec<_> = request.metadata.iter().map(|m| m.kind).collect();
    assert_eq!(kinds, [0, 1], "a float that nobody describes is of no known kind");
}

#[test]
fn what_is_no_line_is_told_of() {
    for lines in [&b"t n=1i\n"[..], b"\xff n=1i 1\n"] {
        let mut remote = RemoteWrite::new(Version::V1, false);
        assert_eq!(remote.pack([lines].into_iter()).unwrap().refused.len(), 1);
        let mut otlp = Otlp::new(&Tags::new(), None);
        assert_eq!(otlp.pack([lines].into_iter()).unwrap().refused.len(), 1);
    }
}

fn metrics(request: &ExportMetricsServiceRequest) -> BTreeMap<&str, &Metric> {
    let resources = request.resource_metrics.iter();
    let scopes = resources.flat_map(|resource| &resource.scope_metrics);
    let metrics = scopes.flat_map(|scope| &scope.metrics);
    metrics.map(|metric| (&*metric.name, metric)).collect()
}

#[test]
fn otlp_has_deltas_from_the_tick_before_and_exponential_histograms() {
    let lines = lines(Form::OTLP);
    let mut otlp = Otlp::new(&tags(), None);
    let packed = otlp.pack([&lines[..]].into_iter()).unwrap();
    assert_eq!((packed.media.kind, packed.media.encoding), ("application/x-protobuf", None));
    let request = ExportMetricsServiceRequest::decode(&packed.body.concat()[..]).unwrap();
    assert_eq!(request.resource_metrics.len(), 1);
    let resource = &request.resource_metrics[0];
    let attributes = text(&resource.resource.as_ref().unwrap().attributes);
    assert_eq!(attributes, "service.name=collector,dc=fra1,host.name=box");
    let scope = resource.scope_metrics[0].scope.as_ref().unwrap();
    assert_eq!((&*scope.name, &*scope.version), ("collector", env!("CARGO_PKG_VERSION")));

    let metrics = metrics(&request);
    let seen = metrics["wire_waits_seen"];
    assert_eq!((&*seen.description, &*seen.unit), ("How often it was seen.", ""));
    let sum = seen.sum.as_ref().unwrap();
    assert_eq!((sum.aggregation_temporality, sum.is_monotonic), (DELTA, true));
    let points: Vec<_> = sum
        .data_points
        .iter()
        .map(|p| (p.start_time_unix_nano, p.time_unix_nano, p.as_int, text(&p.attributes)))
        .collect();
    let at = |ms: u64| ms * MS as u64;
    let comm = "comm=a b".to_owned();
    assert_eq!(
        points,
        [(at(900), at(1000), Some(8), comm.clone()), (at(1000), at(1100), Some(1), comm.clone()),],
        "an interval begins where the one before ends, however long it was measured to be"
    );

    let gauge = |name: &str| &metrics[name].gauge.as_ref().unwrap().data_points;
    assert_eq!(gauge("wire_waits_queue")[0].as_int, Some(-3));
    assert_eq!(gauge("wire_waits_queue")[0].start_time_unix_nano, 0);
    assert_eq!(gauge("wire_waits_share")[1].as_double, Some(0.25));
    assert_eq!(gauge("wire_waits_busy")[0].as_int, Some(1));
    assert_eq!(gauge("wire_waits_max_us")[1].as_int, Some(4));
    assert_eq!(metrics["wire_waits_max_us"].unit, "us");
    assert!(!metrics.contains_key("wire_waits_state"));

    let waits = metrics["wire_waits_us"];
    assert_eq!((&*waits.description, &*waits.unit), ("How long a thread waits.", "us"));
    let waits = waits.exponential_histogram.as_ref().unwrap();
    assert_eq!(waits.aggregation_temporality, DELTA);
    let [first, second] = &waits.data_points[..] else { panic!("two ticks") };
    assert_eq!((first.count, first.sum, first.max), (8, Some(280.0), Some(i64::MAX as f64)));
    assert_eq!((first.scale, first.zero_count, first.zero_threshold), (0, 2, 1.0));
    let positive = first.positive.as_ref().unwrap();
    let mut counts = vec![0; 63];
    (counts[0], counts[1], counts[2], counts[62]) = (2, 2, 1, 1);
    assert_eq!((positive.offset, &positive.bucket_counts), (1, &counts));
    assert_eq!((second.count, second.sum, second.max), (1, Some(4.0), Some(4.0)));
    let positive = second.positive.as_ref().unwrap();
    assert_eq!((positive.offset, &positive.bucket_counts[..]), (2, &[1][..]));
    assert_eq!(second.start_time_unix_nano, at(1000));
    assert_eq!(text(&second.attributes), comm);
}

/// What the conversion says of where values lie, for every value that is special.
#[test]
fn a_value_lies_in_the_exponential_bucket_of_its_power_or_is_its_lower_bound() {
    for value in (0..64).flat_map(|k| [(1u64 << k) - 1, 1 << k, (1 << k) + 1]).chain([u64::MAX]) {
        let mut wait = Snapshot::default();
        wait.add(value);
        let mut line = String::from("t count=1u,sum=0u,bucket_0_2=0u");
        for (number, (_, count)) in wait.powers().enumerate().filter(|(_, (_, n))| *n > 0) {
            let (from, below) = plugin_api::histogram::bucket(number);
            let below = below.map_or("inf".to_owned(), |below| below.to_string());
            line += &format!(",bucket_{from}_{below}={count}u");
        }
        line += ",interval_ns=5i 10\n";
        let mut otlp = Otlp::new(&Tags::new(), None);
        let packed = otlp.pack([line.as_bytes()].into_iter()).unwrap();
        let request = ExportMetricsServiceRequest::decode(&packed.body.concat()[..]).unwrap();
        let metrics = metrics(&request);
        let point = &metrics["t"].exponential_histogram.as_ref().unwrap().data_points[0];
        match &point.positive {
            None => assert!(value <= 1 && point.zero_count == 1, "{value}"),
            Some(positive) => {
                assert_eq!((&positive.bucket_counts[..], point.zero_count), (&[1][..], 0));
                let lower = 1u64 << positive.offset;
                let above = value > lower;
                // The one value that another implementation counts one bucket lower.
                assert!(above || value == lower, "{value} is not in (2^{}, ..]", positive.offset);
                let upper = lower.saturating_mul(2);
                assert!(value < upper || upper == u64::MAX, "{value}");
            }
        }
    }
}

#[test]
fn a_tag_of_a_line_that_is_another_than_the_global_one_is_another_resource() {
    let lines =
        b"t,dc=fra1,host=box n=1i 5\nt,dc=ams,host=box,x=y n=2i 5\nt,dc=fra1,host=box n=3i 6\n";
    let mut otlp = Otlp::new(&tags(), None);
    let packed = otlp.pack([&lines[..]].into_iter()).unwrap();
    let request = ExportMetricsServiceRequest::decode(&packed.body.concat()[..]).unwrap();
    let resources = request.resource_metrics.iter().map(|resource| {
        let points = &resource.scope_metrics[0].metrics[0].gauge.as_ref().unwrap().data_points;
        let values: Vec<_> = points.iter().filter_map(|point| point.as_int).collect();
        (text(&resource.resource.as_ref().unwrap().attributes), values)
    });
    let expected = [("fra1", vec![1, 3]), ("ams", vec![2])]
        .map(|(dc, v)| (format!("service.name=collector,dc={dc},host.name=box"), v));
    assert!(resources.eq(expected));
}

#[test]
fn an_empty_request_is_a_message_of_each_kind() {
    let none = || std::iter::empty::<&[u8]>();
    for (version, length) in [(Version::V1, 0), (Version::V2, 2)] {
        let mut remote = RemoteWrite::new(version, false);
        assert_eq!(unsnapped(&remote.pack(none()).unwrap()).len(), length);
    }
    let mut otlp = Otlp::new(&tags(), None);
    assert_eq!(otlp.pack(none()).unwrap().body.concat(), b"");
    let empty = ExportMetricsServiceRequest::default();
    assert!(empty.encode_to_vec().is_empty());
}
