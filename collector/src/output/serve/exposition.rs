//! What a scrape gets: the text of Prometheus, OpenMetrics, or protobuf with native histograms beside classic ones.
//!
//! <https://prometheus.io/docs/instrumenting/exposition_formats>, the specification of OpenMetrics 1.0, and
//! `io/prometheus/client/metrics.proto`. The answer is made piece by piece as it is read, so that neither many series
//! nor a reader that stands still take memory. Between two pieces a tick may come: what one series says is always of
//! one moment.

use super::store::{Cell, Series, Store, Waits, escape, family, float};
use crate::output::http::wire::names::{Kind, Metric};
use crate::output::http::wire::prometheus::{BOUNDS, span, sparse};
use crate::output::http::wire::protobuf::{self, varint};
use crate::typed::{Value, series_parts, unescaped};
use plugin_api::histogram::{BUCKETS, bucket};
use std::fmt::Write as _;
use std::sync::LazyLock;

/// What a piece is at least, unless it is the last one.
pub const PIECE: usize = 64 << 10;

/// How the answer is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Prometheus' own text, 0.0.4.
    Text,
    /// OpenMetrics, of the version that was asked for.
    OpenMetrics(&'static str),
    /// Messages, each with its length before it.
    Protobuf,
}

impl Format {
    /// `Content-Type`
    pub fn media(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics("0.0.1") => {
                "application/openmetrics-text; version=0.0.1; charset=utf-8"
            }
            Self::OpenMetrics(_) => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Protobuf => {
                "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"
            }
        }
    }

    /// What `Accept` asks for: the best of what it names, and the first of those that are as good.
    pub fn negotiate(accept: &str) -> Self {
        let mut best = (Self::Text, 0.0);
        for range in accept.split(',') {
            let mut parts = range.split(';').map(str::trim);
            let kind = parts.next().unwrap_or_default().to_ascii_lowercase();
            let (mut quality, mut version, mut proto, mut encoding) = (1.0, "", "", "");
            for (key, value) in parts.filter_map(|part| part.split_once('=')) {
                let value = value.trim().trim_matches('"');
                match key.trim() {
                    "q" => quality = value.parse().unwrap_or(0.0),
                    "version" => version = value,
                    "proto" => proto = value,
                    "encoding" => encoding = value,
                    _ => {}
                }
            }
            let format = match &*kind {
                "application/vnd.google.protobuf"
                    if proto == "io.prometheus.client.MetricFamily" && encoding == "delimited" =>
                {
                    Self::Protobuf
                }
                "application/openmetrics-text" => match version {
                    "0.0.1" => Self::OpenMetrics("0.0.1"),
                    "1.0.0" | "" => Self::OpenMetrics("1.0.0"),
                    _ => continue,
                },
                "text/plain" if matches!(version, "0.0.4" | "") => Self::Text,
                "*/*" | "text/*" => Self::Text,
                _ => continue,
            };
            if quality > best.1 {
                best = (format, quality);
            }
        }
        best.0
    }
}

/// A scrape under way: where it is.
pub struct Scrape {
    format: Format,
    table: usize,
    metric: usize,
    place: usize,
    /// Whether what the metric is was said.
    begun: bool,
    done: bool,
    /// The family's message that is being made.
    message: Vec<u8>,
    text: String,
}

impl Scrape {
    /// Nothing was written yet.
    pub fn new(format: Format) -> Self {
        Self {
            format,
            table: 0,
            metric: 0,
            place: 0,
            begun: false,
            done: false,
            message: Vec::new(),
            text: String::new(),
        }
    }

    /// Whether all is written.
    pub fn is_done(&self) -> bool {
        self.done
    }

    /// Appends a piece.
    pub fn fill(&mut self, store: &Store, out: &mut Vec<u8>) {
        let enough = out.len() + PIECE;
        while !self.done && out.len() < enough {
            let Some(table) = store.tables.get(self.table) else {
                if let Format::OpenMetrics(_) = self.format {
                    out.extend_from_slice(b"# EOF\n");
                }
                self.done = true;
                break;
            };
            let Some(number) = table.metrics.get(self.metric) else {
                (self.table, self.metric) = (self.table + 1, 0);
                continue;
            };
            let metric = store.metrics.get(*number);
            while let Some(series) = table.series.get(self.place) {
                if out.len() + self.message.len() >= enough {
                    break;
                }
                self.place += 1;
                // A single event is over: to scrape it again and again would make many of it.
                let Some(series) = series.as_ref().filter(|series| series.interval_ns.is_some())
                else {
                    continue;
                };
                if metric.kind == Kind::Histogram {
                    if let Some(waits) = series.histogram.as_ref().filter(|it| it.metric == *number)
                    {
                        self.begin(metric, out);
                        self.histogram(metric, series, waits, out);
                    }
                } else if let Some(cell) = series.cells.iter().find(|it| it.metric == *number) {
                    self.begin(metric, out);
                    self.number(metric, series, cell, out);
                }
            }
            if !self.message.is_empty() {
                // A family of many series comes in several messages of the same name.
                varint(self.message.len() as u64, out);
                out.append(&mut self.message);
                self.begun = false;
            }
            if self.place >= table.series.len() {
                (self.metric, self.place, self.begun) = (self.metric + 1, 0, false);
            }
        }
    }

    /// Says what a metric is, before its first sample.
    fn begin(&mut self, metric: &Metric, out: &mut Vec<u8>) {
        if std::mem::replace(&mut self.begun, true) {
            return;
        }
        let open = matches!(self.format, Format::OpenMetrics(_));
        let name = if open { family_of(metric) } else { &*metric.name };
        if self.format == Format::Protobuf {
            let kind = match metric.kind {
                Kind::Counter => 0,
                Kind::Gauge => 1,
                Kind::Unknown => 3,
                Kind::Histogram => 4,
            };
            protobuf::bytes(1, name.as_bytes(), &mut self.message);
            protobuf::bytes(2, metric.help.as_bytes(), &mut self.message);
            protobuf::number(3, kind, &mut self.message);
            protobuf::bytes(5, unit_of(metric).unwrap_or_default().as_bytes(), &mut self.message);
            return;
        }
        let kind = match metric.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Unknown if open => "unknown",
            Kind::Unknown => "untyped",
            Kind::Histogram => "histogram",
        };
        let text = &mut self.text;
        text.clear();
        let _ = writeln!(text, "# TYPE {name} {kind}");
        if let Some(unit) = unit_of(metric).filter(|_| open) {
            let _ = writeln!(text, "# UNIT {name} {unit}");
        }
        if !metric.help.is_empty() {
            let _ = write!(text, "# HELP {name} ");
            escape(&metric.help, open, text);
            text.push('\n');
        }
        out.extend_from_slice(text.as_bytes());
    }

    fn number(&mut self, metric: &Metric, series: &Series, cell: &Cell, out: &mut Vec<u8>) {
        if self.format != Format::Protobuf {
            out.extend_from_slice(metric.name.as_bytes());
            labels(series, out);
            return value(cell.total, out);
        }
        let mut number = Vec::new();
        protobuf::float(1, float(cell.total), &mut number);
        let field = match metric.kind {
            Kind::Gauge => 2,
            Kind::Counter => 3,
            Kind::Unknown | Kind::Histogram => 5,
        };
        self.sample(series, field, &number);
    }

    fn histogram(&mut self, metric: &Metric, series: &Series, waits: &Waits, out: &mut Vec<u8>) {
        let total = &waits.total;
        let mut below = 0u64;
        if self.format == Format::Protobuf {
            let mut message = Vec::with_capacity(1500);
            protobuf::number(1, total.count, &mut message);
            protobuf::float(2, total.sum as f64, &mut message);
            for (number, count) in total.buckets.iter().enumerate() {
                below = below.saturating_add(*count);
                let bound = bucket(number).1.map_or(f64::INFINITY, |bound| bound as f64);
                let mut one = Vec::with_capacity(20);
                protobuf::number(1, below, &mut one);
                protobuf::float(2, bound, &mut one);
                protobuf::bytes(3, &one, &mut message);
            }
            let (spans, deltas) = sparse(&total.buckets);
            protobuf::float(6, 1.0, &mut message); // schema 0 is what is not there
            varint(7 << 3, &mut message);
            varint(total.buckets[0], &mut message);
            for (offset, length) in spans {
                protobuf::bytes(12, &span(offset, length), &mut message);
            }
            if !deltas.is_empty() {
                protobuf::bytes(13, &deltas, &mut message);
            }
            return self.sample(series, 7, &message);
        }
        let mut begin = Vec::with_capacity(256);
        begin.extend_from_slice(metric.name.as_bytes());
        begin.extend_from_slice(b"_bucket{");
        if !series.labels.is_empty() {
            begin.extend_from_slice(series.labels.as_bytes());
            begin.push(b',');
        }
        begin.extend_from_slice(b"le=\"");
        let bounds = if self.format == Format::Text { &BOUNDS } else { &CANONICAL };
        let mut digits = itoa::Buffer::new();
        for (count, bound) in total.buckets.iter().zip(bounds.iter()) {
            below = below.saturating_add(*count);
            out.extend_from_slice(&begin);
            out.extend_from_slice(bound.as_bytes());
            out.extend_from_slice(b"\"} ");
            out.extend_from_slice(digits.format(below).as_bytes());
            out.push(b'\n');
        }
        for (suffix, n) in [("_sum", total.sum), ("_count", total.count)] {
            out.extend_from_slice(metric.name.as_bytes());
            out.extend_from_slice(suffix.as_bytes());
            labels(series, out);
            value(Value::Count(n), out);
        }
    }

    /// Appends a metric's message.
    fn sample(&mut self, series: &Series, field: u32, number: &[u8]) {
        let mut message = Vec::with_capacity(number.len() + 128);
        let (_, tags) = series_parts(&series.key).unwrap_or_default();
        for (name, text) in tags {
            let mut pair = Vec::new();
            protobuf::bytes(1, label(name).as_bytes(), &mut pair);
            protobuf::bytes(2, unescaped(text).as_bytes(), &mut pair);
            protobuf::bytes(1, &pair, &mut message);
        }
        protobuf::bytes(field, number, &mut message);
        protobuf::bytes(4, &message, &mut self.message);
    }
}

/// A tag's name as a label.
fn label(name: &str) -> String {
    super::store::label(&unescaped(name)).into_owned()
}

fn labels(series: &Series, out: &mut Vec<u8>) {
    if !series.labels.is_empty() {
        out.push(b'{');
        out.extend_from_slice(series.labels.as_bytes());
        out.push(b'}');
    }
    out.push(b' ');
}

fn value(value: Value, out: &mut Vec<u8>) {
    match value {
        Value::Count(n) => out.extend_from_slice(itoa::Buffer::new().format(n).as_bytes()),
        Value::Whole(n) => out.extend_from_slice(itoa::Buffer::new().format(n).as_bytes()),
        Value::Float(n) => out.extend_from_slice(n.to_string().as_bytes()),
    }
    out.push(b'\n');
}

fn family_of(metric: &Metric) -> &str {
    if metric.kind == Kind::Counter { family(&metric.name) } else { &metric.name }
}

/// The unit, where the family's name ends in it, as OpenMetrics wants it.
fn unit_of(metric: &Metric) -> Option<&'static str> {
    let suffix = metric.unit.suffix();
    let ends = !suffix.is_empty() && family_of(metric).ends_with(suffix);
    ends.then(|| suffix.trim_start_matches('_'))
}

/// The bounds of classic buckets as OpenMetrics writes numbers.
static CANONICAL: LazyLock<[String; BUCKETS]> = LazyLock::new(|| {
    std::array::from_fn(|n| bucket(n).1.map_or("+Inf".to_owned(), |below| format!("{below}.0")))
});

#[cfg(test)]
mod tests {
    use super::super::store::testing::{add, store};
    use super::*;

    fn all(store: &Store, format: Format) -> Vec<u8> {
        let (mut scrape, mut out) = (Scrape::new(format), Vec::new());
        while !scrape.is_done() {
            scrape.fill(store, &mut out);
        }
        out
    }

    fn text(store: &Store, format: Format) -> String {
        String::from_utf8(all(store, format)).unwrap()
    }

    #[test]
    fn the_best_of_what_is_asked_for_is_given() {
        let proto = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited";
        let prometheus = "application/openmetrics-text;version=1.0.0;q=0.8,\
                          application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        for (accept, format) in [
            ("", Format::Text),
            ("*/*", Format::Text),
            ("text/html, nonsense;;=, */*;q=0.1", Format::Text),
            (prometheus, Format::OpenMetrics("1.0.0")),
            (&*format!("{proto},{prometheus}"), Format::Protobuf),
            (&*format!("{proto};q=0.1,{prometheus}"), Format::OpenMetrics("1.0.0")),
            ("application/openmetrics-text; version=0.0.1", Format::OpenMetrics("0.0.1")),
            ("application/openmetrics-text; version=9", Format::Text),
            ("application/openmetrics-text;q=0,text/plain", Format::Text),
            ("application/vnd.google.protobuf;proto=x;encoding=text", Format::Text),
        ] {
            assert_eq!(Format::negotiate(accept), format, "{accept}");
        }
    }

    #[test]
    fn both_texts_say_the_same_in_their_own_ways() {
        let mut store = store(
            "t,a=b drops=3u,g=-7i,f=0.5,interval_ns=1i 1\nt,a=c drops=0u,interval_ns=1i 1\nt n=1u,interval_ns=1i 1\n\
             single,x=y size=5i 1\n",
        );
        add(&mut store, "t,a=b drops=1u,g=-8i,interval_ns=1i 2\n");
        assert_eq!(
            text(&store, Format::Text),
            "# TYPE t_drops_total counter\nt_drops_total{a=\"b\"} 4\nt_drops_total{a=\"c\"} 0\n\
             # TYPE t_g gauge\nt_g{a=\"b\"} -8\n# TYPE t_f untyped\nt_f{a=\"b\"} 0.5\n\
             # TYPE t_n_total counter\nt_n_total 1\n"
        );
        let open = text(&store, Format::OpenMetrics("1.0.0"));
        assert!(open.starts_with("# TYPE t_drops counter\nt_drops_total{a=\"b\"} 4\n"), "{open}");
        assert!(
            open.contains("# TYPE t_f unknown\n") && open.ends_with("t_n_total 1\n# EOF\n"),
            "{open}"
        );
    }

    #[test]
    fn a_histogram_has_64_buckets_in_text() {
        let line =
            "w,s=x count=3u,sum_us=9u,max_us=4i,bucket_0_2=1u,bucket_4_8=2u,interval_ns=1i 1\n";
        let store = store(line);
        let found = text(&store, Format::Text);
        for line in [
            "# TYPE w_us histogram\nw_us_bucket{s=\"x\",le=\"2\"} 1\n",
            "w_us_bucket{s=\"x\",le=\"4\"} 1\nw_us_bucket{s=\"x\",le=\"8\"} 3\n",
            "w_us_bucket{s=\"x\",le=\"+Inf\"} 3\nw_us_sum{s=\"x\"} 9\nw_us_count{s=\"x\"} 3\n",
            "w_max_us{s=\"x\"} 4\n",
        ] {
            assert!(found.contains(line), "{line}{found}");
        }
        assert_eq!(found.matches("_bucket{").count(), BUCKETS);
        let open = text(&store, Format::OpenMetrics("1.0.0"));
        assert!(open.contains("# UNIT w_us us\nw_us_bucket{s=\"x\",le=\"2.0\"} 1\n"), "{open}");
    }

    #[test]
    fn an_answer_of_many_series_comes_in_pieces() {
        let lines: String = (0..100)
            .map(|n| format!("w,s={n} count=1u,sum_us=9u,bucket_0_2=1u,interval_ns=1i 1\n"))
            .collect();
        let store = store(&lines);
        for format in [Format::Text, Format::OpenMetrics("1.0.0"), Format::Protobuf] {
            let mut scrape = Scrape::new(format);
            let (mut pieces, mut whole) = (0, Vec::new());
            while !scrape.is_done() {
                let mut out = Vec::new();
                scrape.fill(&store, &mut out);
                assert!(out.len() < PIECE + 8192, "{}", out.len());
                whole.extend(out);
                pieces += 1;
            }
            assert!(pieces > 1 && whole == all(&store, format), "{format:?}: {pieces}");
            if format != Format::Protobuf {
                assert_eq!(String::from_utf8(whole).unwrap().matches("# TYPE w_us ").count(), 1);
            }
        }
    }
}
