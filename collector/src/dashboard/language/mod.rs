//! Questions in the words of a database. They stand for the forms of lines that its outputs get by default: counts of an
//! interval and a field per bucket for InfluxDB, counters that go on and `vmrange` for VictoriaMetrics, metrics with
//! classic histograms for Prometheus.

mod flux;
mod influxql;
mod promql;
mod sql;

use super::panel::Panel;
use clap::ValueEnum;
use plugin_api::histogram::wire_names;
use promql::Dialect;

/// A query language.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Language {
    /// InfluxDB 1, and 2 and 3 with a mapping
    Influxql,
    /// InfluxDB 2
    Flux,
    /// InfluxDB 3
    Sql,
    /// VictoriaMetrics
    Metricsql,
    /// Prometheus, Mimir, Thanos
    Promql,
}

/// A query of a panel, and the name of its lines.
pub(super) struct Query {
    pub text: String,
    pub legend: String,
}

impl Language {
    /// As it is called on the command line.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Influxql => "influxql",
            Self::Flux => "flux",
            Self::Sql => "sql",
            Self::Metricsql => "metricsql",
            Self::Promql => "promql",
        }
    }

    /// The query by which the variable `host` gets its values.
    pub(super) const fn hosts(self) -> &'static str {
        match self {
            Self::Influxql => influxql::HOSTS,
            Self::Flux => flux::HOSTS,
            Self::Sql => sql::HOSTS,
            Self::Metricsql | Self::Promql => promql::HOSTS,
        }
    }

    /// A panel's queries.
    pub(super) fn queries(self, panel: &Panel<'_>) -> Vec<Query> {
        match self {
            Self::Influxql => vec![influxql::query(panel)],
            Self::Flux => flux::queries(panel),
            Self::Sql => sql::queries(panel),
            Self::Metricsql => promql::queries(panel, Dialect::Victoria),
            Self::Promql => promql::queries(panel, Dialect::Prometheus),
        }
    }
}

/// Fields of the buckets, the smallest first, and the lower bound of each.
pub(super) fn buckets() -> impl Iterator<Item = (String, String)> {
    let buckets = wire_names("").into_iter().filter(|name| name.starts_with("bucket_"));
    buckets.map(|name| {
        let from = name.split('_').nth(1).unwrap_or_default().to_owned();
        (name, from)
    })
}
