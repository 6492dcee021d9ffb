//! What fields of lines are called as metrics, and what is known of each.

use crate::descriptions;
use crate::sink::is_report;
use crate::typed::{Line, Value, unescaped};
use plugin_api::Unit;
use plugin_api::histogram::BUCKETS;
use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt::Write as _;

/// How a metric behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It counts.
    Counter,
    /// It is.
    Gauge,
    /// Nobody says: a field of a C plugin.
    Unknown,
    /// The counts, sums and buckets of a line together.
    Histogram,
}

/// A metric.
#[derive(Debug, PartialEq, Eq)]
pub struct Metric {
    /// The field's name in lines; empty for the table's histogram.
    pub field: Box<str>,
    /// The table, and the field of it by which the description is found.
    described: [Box<str>; 2],
    /// How it behaves.
    pub kind: Kind,
    /// Table and field.
    pub name: String,
    /// What it says.
    pub help: String,
    /// What it counts.
    pub unit: Unit,
}

/// Makes a metric's name of that of a table and a field.
pub type Style = fn(table: &str, field: &str, kind: Kind) -> String;

/// All metrics, each with a number from 0.
#[derive(Debug)]
pub struct MetricNames {
    style: Style,
    metrics: Vec<Metric>,
    /// Their numbers by the table as it stands in lines.
    tables: HashMap<Box<str>, Vec<usize>>,
    edition: u64,
}

/// A line's values by their metrics' numbers.
#[derive(Debug, Default)]
pub struct Named {
    /// Of all fields but those of the histogram.
    pub fields: Vec<(usize, Value)>,
    /// The histogram.
    pub histogram: Option<Histogram>,
}

/// What a line's histogram says.
#[derive(Clone, Debug)]
pub struct Histogram {
    /// The metric's number.
    pub metric: usize,
    /// How many values.
    pub count: u64,
    /// Their sum.
    pub sum: u64,
    /// The largest of the interval.
    pub max: Option<u64>,
    /// How many values each bucket has.
    pub buckets: [u64; BUCKETS],
}

impl MetricNames {
    /// None is known yet.
    pub fn new(style: Style) -> Self {
        let edition = descriptions::edition();
        Self { style, metrics: Vec::new(), tables: HashMap::new(), edition }
    }

    /// Forgets all of them when what they mean may have changed; whether it did.
    pub fn refresh(&mut self) -> bool {
        let edition = descriptions::edition();
        let changed = std::mem::replace(&mut self.edition, edition) != edition;
        if changed {
            self.tables.clear();
            self.metrics.clear();
        }
        changed
    }

    /// The same for one who keeps the numbers: texts and units are looked up again when they may have changed.
    pub fn describe_again(&mut self) {
        let edition = descriptions::edition();
        if std::mem::replace(&mut self.edition, edition) == edition {
            return;
        }
        for metric in &mut self.metrics {
            let [table, field] = &metric.described;
            if let Some(meaning) = descriptions::meaning(table, field) {
                metric.help = meaning.text;
                if metric.kind != Kind::Histogram {
                    metric.unit = meaning.unit; // a histogram's stands in its name
                }
            }
        }
    }

    /// A metric.
    pub fn get(&self, number: usize) -> &Metric {
        &self.metrics[number]
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.metrics.len()
    }

    /// Finds the metrics of a line.
    pub fn name(&mut self, line: &Line<'_>, out: &mut Named) {
        let Self { style, metrics, tables, .. } = self;
        if !tables.contains_key(line.table) {
            tables.insert(line.table.into(), Vec::new());
        }
        let Some(known) = tables.get_mut(line.table) else { return };
        let mut next = 0;
        let mut find = |field: &str, kind: Kind| {
            let is = |number: &usize| {
                let metric = &metrics[*number];
                metric.kind == kind && *metric.field == *field
            };
            // Lines have their fields in one order.
            let at = known.iter().skip(next).position(is).map(|at| next + at);
            let at = at.or_else(|| known.iter().position(is)).unwrap_or_else(|| {
                metrics.push(metric(*style, line, field, kind));
                known.push(metrics.len() - 1);
                known.len() - 1
            });
            next = at + 1;
            known[at]
        };
        let described = || descriptions::is_known(&unescaped(line.table)) || is_report(line.table);
        let has_histogram = line.buckets.is_some();
        out.fields.clear();
        for (field, value) in &line.fields {
            let metric = match value {
                Value::Count(_) if has_histogram && is_of_histogram(field) => continue,
                Value::Count(_) => find(field, Kind::Counter),
                Value::Float(_) if !described() => find(field, Kind::Unknown),
                _ => find(field, Kind::Gauge),
            };
            out.fields.push((metric, *value));
        }
        out.histogram = line.buckets.map(|buckets| Histogram {
            metric: find("", Kind::Histogram),
            count: line.count(|field| field == "count").unwrap_or_else(|| buckets.iter().sum()),
            sum: line.count(|field| unit_of(field, "sum").is_some()).unwrap_or_default(),
            max: line.fields.iter().find_map(|(field, value)| match value {
                Value::Whole(max) if unit_of(field, "max").is_some() => u64::try_from(*max).ok(),
                _ => None,
            }),
            buckets,
        });
    }
}

/// Whether a field is the count or the sum of the line's histogram.
fn is_of_histogram(field: &str) -> bool {
    field == "count" || unit_of(field, "sum").is_some()
}

/// The unit of `sum_us`.
fn unit_of(field: &str, what: &str) -> Option<Unit> {
    let suffix = field.strip_prefix(what)?;
    let units = [Unit::None, Unit::Ns, Unit::Us, Unit::Ms, Unit::S, Unit::Bytes];
    units.into_iter().find(|unit| unit.suffix() == suffix)
}

fn metric(style: Style, line: &Line<'_>, field: &str, kind: Kind) -> Metric {
    let (table, mut name) = (unescaped(line.table), unescaped(field));
    let mut described = name.clone();
    if kind == Kind::Histogram {
        let sum = line.fields.iter().map(|(field, _)| *field).find(|f| unit_of(f, "sum").is_some());
        described = sum.unwrap_or("count").into();
        let unit = unit_of(&described, "sum").unwrap_or(Unit::None);
        name = unit.suffix().trim_start_matches('_').into();
    }
    let meaning = descriptions::meaning(&table, &described);
    let unit = match kind {
        Kind::Histogram => unit_of(&described, "sum").unwrap_or(Unit::None),
        _ => meaning.as_ref().map_or(Unit::None, |meaning| meaning.unit),
    };
    let name = style(&table, &name, kind);
    let help = meaning.map(|meaning| meaning.text).unwrap_or_default();
    let described = [(*table).into(), (*described).into()];
    Metric { field: field.into(), described, kind, name, help, unit }
}

/// `TABLE_FIELD`, for a histogram `TABLE_UNIT`.
pub fn joined(table: &str, field: &str, _: Kind) -> String {
    if field.is_empty() { table.to_owned() } else { format!("{table}_{field}") }
}

/// The same as Prometheus takes it; what counts ends in `_total`.
pub fn prometheus(table: &str, field: &str, kind: Kind) -> String {
    let mut name = joined(table, field, kind);
    if kind == Kind::Counter && !name.ends_with("_total") {
        name += "_total";
    }
    match legal(&name, true) {
        Cow::Borrowed(_) => name,
        Cow::Owned(name) => name,
    }
}

/// A tag's name as Prometheus takes it.
pub fn label(name: &str) -> Cow<'_, str> {
    legal(name, false)
}

/// A name of letters, digits and `_` alone, which stays different from all others: what is none already is
/// written as Prometheus escapes it ("values" of `escaping`, in its documentation of UTF-8 names): `U__`, `__` for
/// `_`, and `_2d_` for `-`.
fn legal(name: &str, colon: bool) -> Cow<'_, str> {
    let plain = |(at, c): (usize, char)| {
        c.is_ascii_alphabetic() || c == '_' || (c.is_ascii_digit() && at > 0) || (c == ':' && colon)
    };
    // Names that begin with `__` are Prometheus' own.
    let escapes = name.starts_with("U__") || name.starts_with("__");
    if !escapes && !name.is_empty() && name.char_indices().all(plain) {
        return name.into();
    }
    let mut escaped = String::from("U__");
    for (at, c) in name.char_indices() {
        match c {
            '_' => escaped.push_str("__"),
            c if plain((at, c)) => escaped.push(c),
            c => _ = write!(escaped, "_{:x}_", u32::from(c)),
        }
    }
    escaped.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_legal_and_stay_different() {
        for (name, expected) in [
            ("comm", "comm"),
            ("_a1", "_a1"),
            ("net-name", "U__net_2d_name"),
            ("net.name", "U__net_2e_name"),
            ("net_name", "net_name"),
            ("9p", "U___39_p"),
            ("ü", "U___fc_"),
            ("a_b c", "U__a__b_20_c"),
            ("__name__", "U______name____"),
            ("U__a_2d_b", "U__U____a__2d__b"),
            ("a:b", "U__a_3a_b"),
            ("", "U__"),
        ] {
            assert_eq!(label(name), expected, "{name}");
        }
        assert_eq!(prometheus("runqlat", "max_us", Kind::Gauge), "runqlat_max_us");
        assert_eq!(prometheus("t", "call_ns", Kind::Counter), "t_call_ns_total");
        assert_eq!(prometheus("t", "seen_total", Kind::Counter), "t_seen_total");
        assert_eq!(prometheus("runqlat", "us", Kind::Histogram), "runqlat_us");
        assert_eq!(prometheus("a b", "c", Kind::Gauge), "U__a_20_b__c");
        assert_eq!(joined("runqlat", "", Kind::Histogram), "runqlat");
    }

    #[test]
    fn a_line_with_buckets_is_a_histogram_and_the_rest() {
        let text = b"named_waits count=3u,sum_us=9u,max_us=4i,seen=1u,share=0.5,bucket_0_2=3u,interval_ns=5i 9\n";
        let line = crate::typed::lines(text).next().unwrap().unwrap();
        let (mut metrics, mut named) = (MetricNames::new(prometheus), Named::default());
        for _ in 0..2 {
            metrics.name(&line, &mut named);
            let found = named.fields.iter().map(|(number, _)| *number);
            let histogram = named.histogram.as_ref().unwrap();
            let found = found.chain([histogram.metric]);
            let found: Vec<_> =
                found.map(|n| (n, &*metrics.get(n).name, metrics.get(n).kind)).collect();
            let expected = [
                (0, "named_waits_max_us", Kind::Gauge),
                (1, "named_waits_seen_total", Kind::Counter),
                (2, "named_waits_share", Kind::Unknown),
                (3, "named_waits_us", Kind::Histogram),
            ];
            assert_eq!(found, expected);
            assert_eq!((histogram.count, histogram.sum, histogram.max), (3, 9, Some(4)));
            assert_eq!(histogram.buckets[0], 3);
        }
        assert_eq!((metrics.len(), metrics.get(3).unit), (4, Unit::Us));
    }
}
