//! Prometheus' remote write, versions 1.0 and 2.0: protobuf, compressed with snappy.
//!
//! <https://prometheus.io/docs/specs/prw/remote_write_spec> and `remote_write_spec_2_0` beside it;
//! `prompb/remote.proto`, `prompb/types.proto` and `prompb/io/prometheus/write/v2/types.proto` of Prometheus.
//!
//! A line becomes a sample of a series for each of its numbers. Its histogram becomes 66 series as in a classic one,
//! or one sample of a native one. Times are in milliseconds. A bucket of ours holds its lower bound and one of theirs
//! its upper bound, so a value that is a power of two counts in the bucket above it.

use super::names::{self, Histogram, Kind, MetricNames, Named};
use super::protobuf::{begin, bytes, float, number, varint, varint_length, zigzag};
use super::request::{Labels, WriteRequest};
use super::{Heard, Media, Packed};
use crate::output::http::answer::{Answer, Reply};
use crate::output::http::refusals::{self, Refusal};
use crate::typed::{self, Line, Value};
use foldhash::fast::RandomState;
use plugin_api::histogram::{BUCKETS, bucket};
use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, Hasher};
use std::io;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

/// Which messages are sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Version {
    /// Of 2.0, and of 1.0 once the server has shown that it knows no other.
    #[default]
    Auto,
    /// `prometheus.WriteRequest`
    V1,
    /// `io.prometheus.write.v2.Request`
    V2,
}

impl Version {
    /// As in the configuration.
    pub const NAMED: [(&'static str, Self); 3] =
        [("auto", Self::Auto), ("1", Self::V1), ("2", Self::V2)];
}

const V1: Media =
    Media { kind: "application/x-protobuf", encoding: Some("snappy"), version: Some("0.1.0") };
const V2: Media = Media {
    kind: "application/x-protobuf;proto=io.prometheus.write.v2.Request",
    encoding: Some("snappy"),
    version: Some("2.0.0"),
};

/// Metadata of version 1 are told again after this time.
const METADATA: Duration = Duration::from_secs(60);
/// More than this is not kept between requests.
const KEPT: usize = 1 << 20;

/// Makes requests.
pub struct RemoteWrite {
    asked: Version,
    v2: bool,
    native: bool,
    metrics: MetricNames,
    /// Metrics whose metadata were told, and since when.
    told: HashSet<usize>,
    told_since: Instant,
    named: Named,
    request: WriteRequest,
    labels: Labels,
    sample: Vec<u8>,
    seed: RandomState,
    /// What each series has in a millisecond, as hashes.
    seen: HashMap<u64, u64, RandomState>,
    snappy: snap::raw::Encoder,
    message: Vec<u8>,
    body: Vec<u8>,
}

impl RemoteWrite {
    /// None was made yet.
    pub fn new(asked: Version, native: bool) -> Self {
        let seed = RandomState::default();
        Self {
            asked,
            v2: asked != Version::V1,
            native,
            metrics: MetricNames::new(names::prometheus),
            told: HashSet::new(),
            told_since: Instant::now(),
            named: Named::default(),
            request: WriteRequest::default(),
            labels: Labels::default(),
            sample: Vec::new(),
            seen: HashMap::with_hasher(seed.clone()),
            seed,
            snappy: snap::raw::Encoder::new(),
            message: Vec::new(),
            body: Vec::new(),
        }
    }

    /// As [`super::Wire::pack`].
    pub fn pack<'a>(
        &'a mut self,
        slices: impl Iterator<Item = &'a [u8]>,
    ) -> io::Result<Packed<'a>> {
        self.begin();
        let mut refused = Vec::new();
        for (index, line) in (0..).zip(slices.flat_map(typed::lines)) {
            let words = match line {
                None => Some(UNREADABLE),
                Some(line) => (!self.line(&line)).then_some(TWICE),
            };
            refused.extend(words.map(|words| Refusal { index, words: words.to_owned() }));
        }
        self.end()?;
        let (media, samples) = (if self.v2 { V2 } else { V1 }, self.request.samples);
        Ok(Packed { body: vec![&self.body[..]], media, refused, samples })
    }

    fn begin(&mut self) {
        if self.metrics.refresh() || self.told_since.elapsed() >= METADATA {
            self.told.clear();
            self.told_since = Instant::now();
        }
        self.seen.clear();
        self.message.clear();
        self.message.shrink_to(KEPT);
        self.request.begin(self.v2);
    }

    /// Appends a line's series; whether all of its values are there.
    fn line(&mut self, line: &Line<'_>) -> bool {
        let mut named = std::mem::take(&mut self.named);
        self.metrics.name(line, &mut named);
        self.labels.set(line, &mut self.request);
        let time_ms = line.time_ns.div_euclid(1_000_000);
        let mut whole = true;
        for (metric, value) in &named.fields {
            let value = match value {
                Value::Count(n) => *n as f64,
                Value::Whole(n) => *n as f64,
                Value::Float(n) => *n,
            };
            match self.earlier(*metric, time_ms, value.to_bits()) {
                None => self.sample(*metric, "", None, value, time_ms),
                Some(earlier) => whole &= earlier == value.to_bits(),
            }
        }
        if let Some(histogram) = &named.histogram {
            let mut said = self.seed.build_hasher();
            said.write_u64(histogram.sum);
            histogram.buckets.iter().for_each(|n| said.write_u64(*n));
            let said = said.finish();
            match self.earlier(histogram.metric, time_ms, said) {
                None if self.native => self.native(histogram, time_ms),
                None => self.classic(histogram, time_ms),
                Some(earlier) => whole &= earlier == said,
            }
        }
        self.named = named;
        whole
    }

    /// What the series has in this millisecond already, or nothing: then it has this.
    fn earlier(&mut self, metric: usize, time_ms: i64, said: u64) -> Option<u64> {
        let mut series = self.seed.build_hasher();
        series.write(self.metrics.get(metric).name.as_bytes());
        self.labels.0.iter().for_each(|labels| {
            series.write_usize(labels.len());
            series.write(labels);
        });
        series.write_i64(time_ms);
        match self.seen.entry(series.finish()) {
            std::collections::hash_map::Entry::Occupied(earlier) => Some(*earlier.get()),
            std::collections::hash_map::Entry::Vacant(place) => {
                place.insert(said);
                None
            }
        }
    }

    fn sample(&mut self, metric: usize, suffix: &str, le: Option<&str>, value: f64, time_ms: i64) {
        self.sample.clear();
        begin(2, 9 + 1 + varint_length(time_ms as u64), &mut self.sample);
        float(1, value, &mut self.sample);
        varint(2 << 3, &mut self.sample);
        varint(time_ms as u64, &mut self.sample);
        self.series(metric, suffix, le);
    }

    /// A series of each bucket, and of sum and count.
    fn classic(&mut self, histogram: &Histogram, time_ms: i64) {
        let metric = histogram.metric;
        let mut below = 0u64;
        for (count, bound) in histogram.buckets.iter().zip(BOUNDS.iter()) {
            below = below.saturating_add(*count);
            self.sample(metric, "_bucket", Some(bound), below as f64, time_ms);
        }
        self.sample(metric, "_sum", None, histogram.sum as f64, time_ms);
        self.sample(metric, "_count", None, histogram.count as f64, time_ms);
    }

    /// Schema 0: bucket n of theirs is above 2^(n-1), up to 2^n. Our first one, of 0 and 1, is their zero bucket.
    fn native(&mut self, histogram: &Histogram, time_ms: i64) {
        let buckets = &histogram.buckets;
        let mut message = Vec::new();
        // A oneof is there also when it is 0.
        varint(1 << 3, &mut message);
        varint(histogram.count, &mut message);
        float(3, histogram.sum as f64, &mut message);
        float(5, 1.0, &mut message);
        varint(6 << 3, &mut message);
        varint(buckets[0], &mut message);
        let (spans, deltas) = sparse(buckets);
        for (offset, length) in spans {
            bytes(11, &span(offset, length), &mut message);
        }
        if !deltas.is_empty() {
            bytes(12, &deltas, &mut message);
        }
        number(15, time_ms as u64, &mut message);
        self.sample.clear();
        bytes(if self.v2 { 3 } else { 4 }, &message, &mut self.sample);
        self.series(histogram.metric, "", None);
    }

    /// Appends a series of which the sample is known.
    fn series(&mut self, metric: usize, suffix: &str, le: Option<&str>) {
        let Self { metrics, request, labels, sample, told, message, .. } = self;
        let metric_of = metrics.get(metric);
        let name: Cow<'_, str> = match suffix {
            "" => (&*metric_of.name).into(),
            _ => format!("{}{suffix}", metric_of.name).into(),
        };
        let kind = match metric_of.kind {
            Kind::Unknown => 0,
            Kind::Counter => 1,
            Kind::Gauge => 2,
            Kind::Histogram => 3,
        };
        let unit = metric_of.unit.suffix().trim_start_matches('_');
        if !request.v2 && told.insert(metric) {
            let mut metadata = Vec::new();
            number(1, kind, &mut metadata);
            bytes(2, metric_of.name.as_bytes(), &mut metadata);
            bytes(4, metric_of.help.as_bytes(), &mut metadata);
            bytes(5, unit.as_bytes(), &mut metadata);
            bytes(3, &metadata, message);
        }
        request.add(&name, le, labels, sample, (kind, &metric_of.help, unit));
    }

    fn end(&mut self) -> io::Result<()> {
        let Self { request, message, snappy, body, .. } = self;
        message.extend_from_slice(&request.symbol_fields);
        message.extend_from_slice(&request.series);
        body.clear();
        body.shrink_to(KEPT);
        body.resize(snap::raw::max_compress_len(message.len()), 0);
        let length = snappy.compress(message, body).map_err(io::Error::other)?;
        body.truncate(length);
        Ok(())
    }

    /// As [`super::Wire::heard`]. A server of 1.0 that does not look at the content type finds no series in what it
    /// takes for a message of 1.0, and answers that all is well; one of 2.0 says how much it has written.
    pub fn heard(&mut self, reply: &Reply, samples: u64, lines: u64) -> Heard {
        let understood = match (reply.status, reply.written) {
            _ if !self.v2 || samples == 0 => return Heard::Any,
            (415, _) | (200..=299, None) => false,
            _ => true,
        };
        let words = format!("{} {}", reply.status, refusals::shorten(&refusals::text(&reply.body)));
        let words = words.trim_end().to_owned();
        match (reply.status, reply.written) {
            _ if !understood && self.asked == Version::Auto => {
                self.v2 = false;
                Heard::Again
            }
            _ if !understood => Heard::Answer(Answer::Hold(format!(
                "{words}: it does not say that it has written anything, as a receiver of remote write 2.0 does: \
                 set `version` to \"auto\" or \"1\""
            ))),
            (200..=299, Some(written)) if written >= samples => Heard::Any,
            (200..=299 | 400 | 409 | 422, Some(written)) => {
                // What it has written is not to be sent again, and which samples those are it does not say.
                let missing = samples.saturating_sub(written).min(lines);
                Heard::Answer(match written {
                    0 => Answer::Refused(words),
                    _ => Answer::Partial { dropped: missing, words },
                })
            }
            _ => Heard::Any,
        }
    }

    /// As [`super::Wire::failed`].
    pub fn failed(&mut self) {
        self.v2 = self.asked != Version::V1;
        self.told.clear();
    }
}

/// Why a line is not sent, or not with all its values.
const TWICE: &str = "another value of a series of it in this millisecond: the first one stays";
const UNREADABLE: &str = "it cannot be read as a line";

/// The positive buckets of a native histogram of schema 0: spans of buckets that are not empty, each with its distance
/// from the one before, and the counts as differences.
pub fn sparse(buckets: &[u64; BUCKETS]) -> (Vec<(i64, u64)>, Vec<u8>) {
    let (mut spans, mut deltas) = (Vec::<(i64, u64)>::new(), Vec::new());
    let (mut end, mut before) = (0, 0);
    for (number, count) in (1i64..).zip(&buckets[1..]).filter(|(_, count)| **count > 0) {
        let index = number + 1;
        match spans.last_mut() {
            Some((_, length)) if index == end => *length += 1,
            _ => spans.push((index - end, 1)),
        }
        end = index + 1;
        varint(zigzag((*count as i64).wrapping_sub(before)), &mut deltas);
        before = *count as i64;
    }
    (spans, deltas)
}

/// A span as a message.
pub fn span(offset: i64, length: u64) -> Vec<u8> {
    let mut span = Vec::new();
    number(1, zigzag(offset), &mut span);
    number(2, length, &mut span);
    span
}

/// The bounds of classic buckets.
pub static BOUNDS: LazyLock<[String; BUCKETS]> = LazyLock::new(|| {
    std::array::from_fn(|n| bucket(n).1.map_or("+Inf".to_owned(), |below| below.to_string()))
});
