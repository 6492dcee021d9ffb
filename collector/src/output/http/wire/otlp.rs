//! OTLP over HTTP: `ExportMetricsServiceRequest` of opentelemetry-proto 1.x, in protobuf.
//!
//! What counts is a sum of delta temporality, from the time of the tick before. A histogram is an exponential one of
//! scale 0, whose bounds are the powers of two too. Our bucket n is from 2^n, below 2^(n+1); theirs is above 2^n, up to
//! 2^(n+1). All values are whole numbers, so that is another bucket for those alone that are a power of two: such a
//! value counts in the bucket above it. Our first bucket, of 0 and 1, is their zero bucket of the threshold 1.

use super::names::{self, Histogram, Kind, MetricNames, Named};
use super::protobuf::{begin, bytes, fixed, float, number, varint, zigzag};
use super::{Media, Packed};
use crate::encode::Tags;
use crate::output::http::payload::Gzip;
use crate::output::http::refusals::Refusal;
use crate::typed::{self, Line, Value, unescaped};
use plugin_api::Unit;
use std::collections::BTreeSet;
use std::io;

const PROTOBUF: Media = Media { kind: "application/x-protobuf", encoding: None, version: None };

/// The temporality of sums and histograms.
const DELTA: u64 = 1;

/// Makes requests.
pub struct Otlp {
    /// Tags of every line: they are the resource's.
    global: BTreeSet<String>,
    gzip: Option<Gzip>,
    metrics: MetricNames,
    named: Named,
    resources: Vec<Resource>,
    message: Vec<u8>,
}

/// Who is measured, and what is known of it.
struct Resource {
    /// Its attributes as fields.
    attributes: Vec<u8>,
    /// The points of each metric as fields, by the metric's number.
    points: Vec<Vec<u8>>,
}

impl Otlp {
    /// None was made yet.
    pub fn new(tags: &Tags, gzip: Option<Gzip>) -> Self {
        Self {
            global: tags.keys().cloned().collect(),
            gzip,
            metrics: MetricNames::new(names::joined),
            named: Named::default(),
            resources: Vec::new(),
            message: Vec::new(),
        }
    }

    /// As [`super::Wire::pack`].
    pub fn pack<'a>(
        &'a mut self,
        slices: impl Iterator<Item = &'a [u8]>,
    ) -> io::Result<Packed<'a>> {
        self.metrics.refresh();
        self.resources.clear();
        let mut refused = Vec::new();
        for (index, line) in (0..).zip(slices.flat_map(typed::lines)) {
            match line {
                Some(line) => self.line(&line),
                None => {
                    let words = "it cannot be read as a line".to_owned();
                    refused.push(Refusal { index, words });
                }
            }
        }
        self.end();
        let Self { gzip, message, .. } = self;
        let (body, encoding) = match gzip {
            Some(gzip) => (gzip.compress(std::iter::once(&**message))?, Some("gzip")),
            None => (&**message, None),
        };
        let media = Media { encoding, ..PROTOBUF };
        Ok(Packed { body: vec![body], media, refused, samples: 0 })
    }

    fn line(&mut self, line: &Line<'_>) {
        let mut named = std::mem::take(&mut self.named);
        self.metrics.name(line, &mut named);
        let (mut of_resource, mut of_number, mut of_histogram) =
            (Vec::new(), Vec::new(), Vec::new());
        for (key, value) in &line.tags {
            let (key, value) = (unescaped(key), unescaped(value));
            if self.global.contains(&*key) {
                let key = if key == "host" { "host.name" } else { &*key };
                attribute(1, key, &value, &mut of_resource);
            } else {
                attribute(7, &key, &value, &mut of_number);
                if named.histogram.is_some() {
                    attribute(1, &key, &value, &mut of_histogram);
                }
            }
        }
        let known = self.resources.iter().position(|known| known.attributes == of_resource);
        let at = known.unwrap_or_else(|| {
            self.resources.push(Resource { attributes: of_resource, points: Vec::new() });
            self.resources.len() - 1
        });
        let points = &mut self.resources[at].points;
        points.resize_with(self.metrics.len().max(points.len()), Vec::new);
        let mut point = Vec::with_capacity(128);
        for (metric, value) in &named.fields {
            point.clear();
            let counts = self.metrics.get(*metric).kind == Kind::Counter;
            times(line, counts, &mut point);
            match value {
                Value::Count(n) => {
                    fixed(6, i64::try_from(*n).unwrap_or(i64::MAX) as u64, &mut point)
                }
                Value::Whole(n) => fixed(6, *n as u64, &mut point),
                Value::Float(n) => float(4, *n, &mut point),
            }
            add(&of_number, &point, &mut points[*metric]);
        }
        if let Some(histogram) = &named.histogram {
            point.clear();
            times(line, true, &mut point);
            exponential(histogram, &mut point);
            add(&of_histogram, &point, &mut points[histogram.metric]);
        }
        self.named = named;
    }

    fn end(&mut self) {
        let Self { resources, message, metrics, .. } = self;
        message.clear();
        message.shrink_to(1 << 20);
        let mut scope = Vec::new();
        bytes(1, b"collector", &mut scope);
        bytes(2, env!("CARGO_PKG_VERSION").as_bytes(), &mut scope);
        for Resource { attributes, points } in resources {
            let mut of_resource = Vec::new();
            attribute(1, "service.name", "collector", &mut of_resource);
            of_resource.extend_from_slice(attributes);
            let mut of_scope = Vec::new();
            bytes(1, &scope, &mut of_scope);
            for (number, points) in points.iter().enumerate().filter(|(_, p)| !p.is_empty()) {
                metric(metrics.get(number), points, &mut of_scope);
            }
            let mut of_request = Vec::with_capacity(of_scope.len() + of_resource.len() + 16);
            bytes(1, &of_resource, &mut of_request);
            bytes(2, &of_scope, &mut of_request);
            bytes(1, &of_request, message);
        }
    }
}

/// Appends a metric as a field of its scope.
fn metric(metric: &names::Metric, points: &[u8], out: &mut Vec<u8>) {
    let mut data = Vec::new();
    let field = match metric.kind {
        Kind::Gauge | Kind::Unknown => 5,
        Kind::Counter => {
            number(2, DELTA, &mut data);
            number(3, 1, &mut data); // it never decreases
            7
        }
        Kind::Histogram => {
            number(2, DELTA, &mut data);
            10
        }
    };
    let mut head = Vec::new();
    bytes(1, metric.name.as_bytes(), &mut head);
    bytes(2, metric.help.as_bytes(), &mut head);
    bytes(3, ucum(metric.unit).as_bytes(), &mut head);
    begin(field, points.len() + data.len(), &mut head);
    begin(2, head.len() + points.len() + data.len(), out);
    out.extend_from_slice(&head);
    out.extend_from_slice(points);
    out.extend_from_slice(&data);
}

/// Appends a point as a field of its metric.
fn add(attributes: &[u8], point: &[u8], out: &mut Vec<u8>) {
    begin(1, attributes.len() + point.len(), out);
    out.extend_from_slice(attributes);
    out.extend_from_slice(point);
}

fn times(line: &Line<'_>, counts: bool, out: &mut Vec<u8>) {
    if let Some(begin_ns) = line.begin_ns.filter(|_| counts) {
        fixed(2, begin_ns as u64, out);
    }
    fixed(3, line.time_ns as u64, out);
}

fn exponential(histogram: &Histogram, out: &mut Vec<u8>) {
    let Histogram { count, sum, max, buckets, .. } = histogram;
    fixed(4, *count, out);
    float(5, *sum as f64, out);
    fixed(7, buckets[0], out);
    let above = &buckets[1..];
    if let (Some(first), Some(last)) =
        (above.iter().position(|n| *n > 0), above.iter().rposition(|n| *n > 0))
    {
        let mut counts = Vec::new();
        above[first..=last].iter().for_each(|n| varint(*n, &mut counts));
        let mut positive = Vec::new();
        number(1, zigzag(first as i64 + 1), &mut positive);
        bytes(2, &counts, &mut positive);
        bytes(8, &positive, out);
    }
    if let Some(max) = max.filter(|_| *count > 0) {
        float(13, max as f64, out);
    }
    float(14, 1.0, out);
}

/// Appends a text as a field.
fn attribute(field: u32, key: &str, value: &str, out: &mut Vec<u8>) {
    let (mut any, mut pair) = (Vec::with_capacity(value.len() + 4), Vec::new());
    bytes(1, value.as_bytes(), &mut any);
    bytes(1, key.as_bytes(), &mut pair);
    bytes(2, &any, &mut pair);
    bytes(field, &pair, out);
}

/// As the Unified Code for Units of Measure has it.
fn ucum(unit: Unit) -> &'static str {
    match unit {
        Unit::None => "",
        Unit::Ns => "ns",
        Unit::Us => "us",
        Unit::Ms => "ms",
        Unit::S => "s",
        Unit::Bytes => "By",
    }
}
