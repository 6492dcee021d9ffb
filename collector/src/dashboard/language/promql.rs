//! PromQL of Prometheus, and MetricsQL, which is VictoriaMetrics'. Their series have different names: Prometheus gets
//! metrics, VictoriaMetrics lines.

use super::Query;
use crate::dashboard::panel::{Ask, Counted, MOST, Panel};
use crate::output::http::{MetricKind, label_name, metric_name};

pub const HOSTS: &str = "label_values(collector_host_threads, host)";

/// Whose words they are.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    Prometheus,
    Victoria,
}

pub fn queries(panel: &Panel<'_>, dialect: Dialect) -> Vec<Query> {
    let names = Names { panel, dialect };
    let query = |name: &str, tags: &[&str], text: String| Query {
        text: if tags.is_empty() { text } else { names.most(&text) },
        legend: ["host"]
            .iter()
            .chain(tags)
            .fold(name.to_owned(), |legend, tag| format!("{legend} {{{{{}}}}}", names.label(tag))),
    };
    let of_host = |tags: &[&str]| names.labels(&[&["host"], tags].concat());
    match &panel.ask {
        Ask::Rates { fields, tags } => {
            let rate = |field: &&str| names.rate(&names.counter(field), &of_host(tags));
            fields.iter().map(|field| query(field, tags, rate(field))).collect()
        }
        Ask::Counts { suffix, tags } => {
            vec![query(
                "count",
                tags,
                names.rate(&names.histogram(suffix, "count"), &of_host(tags)),
            )]
        }
        Ask::Values { fields, tags, .. } => fields
            .iter()
            .map(|field| query(field, tags, names.largest(field, &of_host(tags))))
            .collect(),
        Ask::Quantiles { suffix, tags } => {
            let by = format!("{}, {}", of_host(tags), names.bound());
            let buckets = names.rate(&names.histogram(suffix, "bucket"), &by);
            let quantile =
                |q: &str, name| query(name, tags, format!("histogram_quantile({q}, {buckets})"));
            let longest = names.largest(&format!("max{suffix}"), &of_host(tags));
            vec![quantile("0.5", "p50"), quantile("0.99", "p99"), query("max", tags, longest)]
        }
        Ask::Heat { suffix } => {
            let bucket = names.series(&names.histogram(suffix, "bucket"));
            let text = match dialect {
                // What is shorter than two scrapes has no increase.
                Dialect::Prometheus => {
                    format!("sum(increase({bucket}[$__rate_interval])) by (le)")
                }
                Dialect::Victoria => {
                    format!("prometheus_buckets(sum(increase({bucket}[$__interval])) by (vmrange))")
                }
            };
            vec![Query { text, legend: "{{le}}".to_owned() }]
        }
        Ask::Top { counted, tags } => {
            let name = match counted {
                Counted::Counter(field) => names.counter(field),
                Counted::Histogram(suffix) => names.histogram(suffix, "count"),
            };
            let (series, by) = (names.series(&name), names.labels(tags));
            let text = format!("topk({MOST}, sum(increase({series}[$__range])) by ({by}))");
            vec![Query { text, legend: String::new() }]
        }
    }
}

/// What a panel's series are called.
struct Names<'a> {
    panel: &'a Panel<'a>,
    dialect: Dialect,
}

impl Names<'_> {
    fn counter(&self, field: &str) -> String {
        self.metric(field, MetricKind::Counter)
    }

    fn metric(&self, field: &str, kind: MetricKind) -> String {
        match self.dialect {
            Dialect::Prometheus => metric_name(self.panel.table, field, kind),
            Dialect::Victoria => format!("{}_{field}", self.panel.table),
        }
    }

    /// A part of the histogram.
    fn histogram(&self, suffix: &str, part: &str) -> String {
        match self.dialect {
            Dialect::Prometheus => {
                let unit = suffix.strip_prefix('_').unwrap_or(suffix);
                format!("{}_{part}", self.metric(unit, MetricKind::Histogram))
            }
            Dialect::Victoria => format!("{}_{part}", self.panel.table),
        }
    }

    /// The label of a bucket.
    const fn bound(&self) -> &'static str {
        match self.dialect {
            Dialect::Prometheus => "le",
            Dialect::Victoria => "vmrange",
        }
    }

    fn label(&self, tag: &str) -> String {
        match self.dialect {
            Dialect::Prometheus => label_name(tag).into_owned(),
            Dialect::Victoria => tag.to_owned(),
        }
    }

    fn labels(&self, tags: &[&str]) -> String {
        tags.iter().map(|tag| self.label(tag)).collect::<Vec<_>>().join(", ")
    }

    fn series(&self, metric: &str) -> String {
        let plugin =
            self.panel.plugin.map(|name| format!(",plugin=\"{name}\"")).unwrap_or_default();
        format!("{metric}{{host=~\"$host\"{plugin}}}")
    }

    fn rate(&self, metric: &str, by: &str) -> String {
        format!("sum(rate({}[$__rate_interval])) by ({by})", self.series(metric))
    }

    fn largest(&self, field: &str, by: &str) -> String {
        let series = self.series(&self.metric(field, MetricKind::Gauge));
        // A step of Prometheus may be shorter than what lies between two scrapes.
        let step = match self.dialect {
            Dialect::Prometheus => "$__rate_interval",
            Dialect::Victoria => "$__interval",
        };
        format!("max(max_over_time({series}[{step}])) by ({by})")
    }

    /// The largest lines; in Prometheus those at each moment.
    fn most(&self, text: &str) -> String {
        match self.dialect {
            Dialect::Prometheus => format!("topk({MOST}, {text})"),
            Dialect::Victoria => format!("topk_avg({MOST}, {text})"),
        }
    }
}
