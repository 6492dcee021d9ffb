//! What is known of every series: what it has counted since the collector began, its last values, and its past.
//!
//! Lines come as [`Form::OTLP`](crate::form::Form::OTLP) has them: what was counted since the line before. It is added
//! up here, so a plugin may end and begin again.

use super::history::{self, Budget, Heat, Ring, slot};
use crate::output::http::wire::names::{self, Histogram, Kind, MetricNames, Named};
use crate::typed::{self, Line, Value, unescaped};
use foldhash::fast::RandomState;
use plugin_api::histogram::BUCKETS;
use serde_json::Value as Json;
use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The most series of all tables; lines of others are dropped, and counted in the output's books.
pub const MAX_SERIES: usize = 25_000;
/// How long a series is shown after its last line, if its interval is not longer.
const SHOWN: Duration = Duration::from_secs(300);
/// Intervals that it is shown at least.
const SHOWN_INTERVALS: u64 = 3;
/// Between two looks for series that have ended.
const SWEEP: Duration = Duration::from_secs(5);

/// All of it.
pub struct Store {
    pub metrics: MetricNames,
    pub tables: Vec<Table>,
    by_name: HashMap<Box<str>, usize, RandomState>,
    named: Named,
    /// Of all metrics, so that two tables never have the same one.
    names: HashSet<String>,
    /// The numbers of metrics that are shown.
    shown: Vec<bool>,
    /// How many series there are.
    pub series: usize,
    most: usize,
    pub budget: Budget,
    origin: Instant,
    swept: Instant,
}

/// A table.
pub struct Table {
    /// As its description has it.
    pub name: String,
    /// Whose it was last.
    pub plugin: Arc<str>,
    /// The numbers of its metrics, in the order in which they came.
    pub metrics: Vec<usize>,
    /// In places that stay; those of others that have ended are free.
    pub series: Vec<Option<Series>>,
    free: Vec<usize>,
    /// Their places, by measurement and tags as they stand in lines.
    by_key: HashMap<Arc<str>, usize, RandomState>,
    /// The time of the last tick, and the seconds that ticks of a slot cover.
    pub time_ns: i64,
    pub covered: Ring,
}

/// A series.
pub struct Series {
    /// Measurement and tags as they stand in lines.
    pub key: Arc<str>,
    /// As they stand in a metric's line: `a="b",c="d"`.
    pub labels: Box<str>,
    pub cells: Vec<Cell>,
    pub histogram: Option<Box<Waits>>,
    /// The time of its last line, and the nanoseconds that it covers; none for a single event.
    pub time_ns: i64,
    pub interval_ns: Option<i64>,
    /// Seconds from the store's beginning.
    seen: u64,
}

/// A number of a series.
pub struct Cell {
    pub metric: usize,
    /// What was counted in all, or the last value.
    pub total: Value,
    pub last: Value,
    /// The time of the last line that has it.
    time_ns: i64,
    pub past: Ring,
}

/// A histogram of a series.
pub struct Waits {
    pub metric: usize,
    /// In all.
    pub total: Counts,
    /// Of the last line.
    pub last: Counts,
    pub past: Heat,
}

/// What a histogram has counted.
pub struct Counts {
    pub count: u64,
    pub sum: u64,
    pub buckets: [u64; BUCKETS],
}

/// What a slot of a number has in which nothing came.
fn nothing(kind: Kind) -> f32 {
    if kind == Kind::Counter { 0.0 } else { f32::NAN }
}

/// A value as a float.
pub fn float(value: Value) -> f64 {
    match value {
        Value::Count(n) => n as f64,
        Value::Whole(n) => n as f64,
        Value::Float(n) => n,
    }
}

/// The same as JSON, exactly.
pub fn json(value: Value) -> Json {
    match value {
        Value::Count(n) => n.into(),
        Value::Whole(n) => n.into(),
        Value::Float(n) => n.into(),
    }
}

/// Whether a line's values are in the store, or are lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    Yes,
    No,
}

impl Store {
    pub fn new(most: usize) -> Self {
        let now = Instant::now();
        Self {
            metrics: MetricNames::new(names::prometheus),
            tables: Vec::new(),
            by_name: HashMap::default(),
            named: Named::default(),
            names: HashSet::new(),
            shown: Vec::new(),
            series: 0,
            most,
            budget: Budget::new(history::BYTES),
            origin: now,
            swept: now,
        }
    }

    /// Takes the lines of a batch; what became of each goes to `kept`.
    pub fn take(
        &mut self,
        plugin: &Arc<str>,
        text: &[u8],
        now: Instant,
        mut kept: impl FnMut(Kept),
    ) {
        self.tend(now);
        for line in typed::lines(text) {
            let is = line.is_some_and(|line| self.line(plugin, &line, now));
            kept(if is { Kept::Yes } else { Kept::No });
        }
    }

    /// Before lines that came now: forgets what has ended, and looks descriptions up again that have changed.
    pub fn tend(&mut self, now: Instant) {
        self.metrics.describe_again();
        if now.saturating_duration_since(self.swept) >= SWEEP {
            self.swept = now;
            self.sweep(now);
        }
    }

    /// Takes a line. Whether its values are in the store.
    pub fn line(&mut self, plugin: &Arc<str>, line: &Line<'_>, now: Instant) -> bool {
        let mut named = std::mem::take(&mut self.named);
        self.metrics.name(line, &mut named);
        let kept = self.named_line(plugin, line, &named, now);
        self.named = named;
        kept
    }

    fn named_line(
        &mut self,
        plugin: &Arc<str>,
        line: &Line<'_>,
        named: &Named,
        now: Instant,
    ) -> bool {
        let at = match self.by_name.get(line.table) {
            Some(at) => *at,
            None => {
                let name = unescaped(line.table).into_owned();
                self.tables.push(Table::new(name, plugin));
                self.by_name.insert(line.table.into(), self.tables.len() - 1);
                self.tables.len() - 1
            }
        };
        self.show_new(at);
        let Self { metrics, tables, budget, series: count, shown, most, origin, .. } = self;
        let table = &mut tables[at];
        if table.plugin != *plugin {
            table.plugin = Arc::clone(plugin);
        }
        let Some(place) = table.place(line, count, *most) else { return false };
        let slot = slot(line.time_ns);
        let interval_ns = line.begin_ns.map(|begin| line.time_ns.saturating_sub(begin));
        if let Some(interval_ns) = interval_ns
            && table.time_ns != line.time_ns
        {
            table.time_ns = line.time_ns;
            table.covered.put(slot, interval_ns as f32 / 1e9, 0.0, budget);
        }
        let Some(series) = &mut table.series[place] else { return false };
        series.seen = now.saturating_duration_since(*origin).as_secs();
        (series.time_ns, series.interval_ns) = (line.time_ns, interval_ns);
        for (number, (metric, value)) in named.fields.iter().enumerate() {
            if shown.get(*metric) != Some(&true) {
                continue;
            }
            let kind = metrics.get(*metric).kind;
            let cell = series.cell(number, *metric, *value);
            cell.time_ns = line.time_ns;
            cell.put(kind, *value, slot, budget);
        }
        if let Some(histogram) = &named.histogram
            && shown.get(histogram.metric) == Some(&true)
        {
            series.waits(histogram).put(histogram, slot, budget);
        }
        true
    }

    /// Metrics that were not known before belong to this table, unless another one has such a metric already.
    fn show_new(&mut self, table: usize) {
        for number in self.shown.len()..self.metrics.len() {
            let metric = self.metrics.get(number);
            let mut all = vec![metric.name.clone()];
            match metric.kind {
                Kind::Histogram => {
                    all.extend(
                        ["_bucket", "_sum", "_count"].map(|it| format!("{}{it}", metric.name)),
                    );
                }
                Kind::Counter => all.push(family(&metric.name).to_owned()),
                Kind::Gauge | Kind::Unknown => {}
            }
            all.dedup();
            let free = !all.iter().any(|name| self.names.contains(name));
            if free {
                self.names.extend(all);
                self.tables[table].metrics.push(number);
            } else {
                let name = &self.tables[table].name;
                log::warn!(
                    "{name}: the metric {} is there already: its values are not shown",
                    metric.name
                );
            }
            self.shown.push(free);
        }
    }

    /// Forgets the series that have ended.
    fn sweep(&mut self, now: Instant) {
        let now = now.saturating_duration_since(self.origin).as_secs();
        for table in &mut self.tables {
            let Table { series, free, by_key, .. } = table;
            by_key.retain(|_, place| {
                let Some(known) = &series[*place] else { return false };
                let interval = known.interval_ns.unwrap_or_default().unsigned_abs() / 1_000_000_000;
                let shown = SHOWN.as_secs().max(interval * SHOWN_INTERVALS);
                let keep = now.saturating_sub(known.seen) <= shown;
                if !keep {
                    self.budget.give(known.bytes());
                    self.series -= 1;
                    series[*place] = None;
                    free.push(*place);
                }
                keep
            });
        }
    }

    /// A table by its name.
    pub fn table(&self, name: &str) -> Option<&Table> {
        self.tables.iter().find(|table| table.name == name)
    }
}

/// A counter's name without what makes it one.
pub fn family(name: &str) -> &str {
    name.strip_suffix("_total").unwrap_or(name)
}

impl Table {
    fn new(name: String, plugin: &Arc<str>) -> Self {
        Self {
            name,
            plugin: Arc::clone(plugin),
            metrics: Vec::new(),
            series: Vec::new(),
            free: Vec::new(),
            by_key: HashMap::default(),
            time_ns: 0,
            covered: Ring::default(),
        }
    }

    /// The place of a line's series; a new one, if there may be one more.
    fn place(&mut self, line: &Line<'_>, count: &mut usize, most: usize) -> Option<usize> {
        if let Some(place) = self.by_key.get(line.series) {
            return Some(*place);
        }
        if *count >= most {
            return None;
        }
        let key: Arc<str> = line.series.into();
        let series = Series {
            key: Arc::clone(&key),
            labels: labels(line).into(),
            cells: Vec::new(),
            histogram: None,
            time_ns: 0,
            interval_ns: None,
            seen: 0,
        };
        let place = match self.free.pop() {
            Some(place) => {
                self.series[place] = Some(series);
                place
            }
            None => {
                self.series.push(Some(series));
                self.series.len() - 1
            }
        };
        self.by_key.insert(key, place);
        *count += 1;
        Some(place)
    }
}

impl Series {
    /// The number of a metric. Lines have their fields in one order.
    fn cell(&mut self, number: usize, metric: usize, value: Value) -> &mut Cell {
        let is = |cell: &Cell| cell.metric == metric;
        let at = match self.cells.get(number) {
            Some(cell) if is(cell) => number,
            _ => self.cells.iter().position(is).unwrap_or_else(|| {
                let total = if let Value::Count(_) = value { Value::Count(0) } else { value };
                let (last, past) = (value, Ring::default());
                self.cells.push(Cell { metric, total, last, time_ns: 0, past });
                self.cells.len() - 1
            }),
        };
        &mut self.cells[at]
    }

    fn waits(&mut self, histogram: &Histogram) -> &mut Waits {
        let metric = histogram.metric;
        let zero = || Counts { count: 0, sum: 0, buckets: [0; BUCKETS] };
        let new = || Box::new(Waits { metric, total: zero(), last: zero(), past: Heat::default() });
        let waits = self.histogram.get_or_insert_with(new);
        if waits.metric != metric {
            **waits = *new(); // its unit is another one
        }
        waits
    }

    fn bytes(&self) -> usize {
        let cells: usize = self.cells.iter().map(|cell| cell.past.bytes()).sum();
        cells + self.histogram.as_ref().map_or(0, |waits| waits.past.bytes())
    }
}

impl Cell {
    /// What the series' last line says of it. Reports leave out counters of 0, and gauges that are what they were.
    pub fn in_line(&self, series: &Series, kind: Kind) -> Value {
        let left_out = self.time_ns != series.time_ns;
        if left_out && kind == Kind::Counter { Value::Count(0) } else { self.last }
    }

    fn put(&mut self, kind: Kind, value: Value, slot: u32, budget: &mut Budget) {
        self.last = value;
        self.total = match (self.total, value) {
            (Value::Count(total), Value::Count(more)) => Value::Count(total.wrapping_add(more)),
            _ => value,
        };
        self.past.put(slot, float(value) as f32, nothing(kind), budget);
    }
}

impl Waits {
    fn put(&mut self, histogram: &Histogram, slot: u32, budget: &mut Budget) {
        let Histogram { count, sum, buckets, .. } = histogram;
        self.total.count = self.total.count.wrapping_add(*count);
        self.total.sum = self.total.sum.wrapping_add(*sum);
        for (total, more) in self.total.buckets.iter_mut().zip(buckets) {
            *total = total.wrapping_add(*more);
        }
        self.last = Counts { count: *count, sum: *sum, buckets: *buckets };
        self.past.add(slot, buckets, budget);
    }
}

/// A tag's name as a label. A bucket's label is the server's own.
pub fn label(tag: &str) -> Cow<'_, str> {
    if tag == "le" { "U__le".into() } else { names::label(tag) }
}

/// A line's tags as labels.
fn labels(line: &Line<'_>) -> String {
    let mut labels = String::new();
    for (key, value) in &line.tags {
        let key = unescaped(key);
        let key = label(&key);
        let separator = if labels.is_empty() { "" } else { "," };
        let _ = write!(labels, "{separator}{key}=\"");
        escape(&unescaped(value), true, &mut labels);
        labels.push('"');
    }
    labels
}

/// Appends a text as it stands in the exposition, in quotes or in a comment of the older format.
pub fn escape(text: &str, quoted: bool, out: &mut String) {
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '"' if quoted => out.push_str("\\\""),
            c => out.push(c),
        }
    }
}

#[cfg(test)]
pub mod testing {
    use super::*;

    /// A store with these lines in it.
    pub fn store(text: &str) -> Store {
        let mut store = Store::new(100);
        add(&mut store, text);
        store
    }

    pub fn add(store: &mut Store, text: &str) {
        store
            .take(&"p".into(), text.as_bytes(), Instant::now(), |kept| assert_eq!(kept, Kept::Yes));
    }
}

#[cfg(test)]
mod tests {
    use super::testing::{add, store};
    use super::*;

    const S: i64 = 1_000_000_000;

    fn total(store: &Store, table: &str, cell: usize) -> Value {
        let table = store.table(table).unwrap();
        table.series[0].as_ref().unwrap().cells[cell].total
    }

    #[test]
    fn what_counts_is_added_up_and_the_rest_is_what_it_was_last() {
        let mut store = store("t,a=b n=3u,g=7i,interval_ns=1000000000i 10000000000\n");
        add(&mut store, "t,a=b n=4u,g=5i,interval_ns=1000000000i 11000000000\n");
        assert_eq!(
            (total(&store, "t", 0), total(&store, "t", 1)),
            (Value::Count(7), Value::Whole(5))
        );
        let series = store.tables[0].series[0].as_ref().unwrap();
        assert_eq!(
            (series.cells[0].past.get(2), series.cells[1].past.get(2)),
            (Some(7.0), Some(5.0))
        );
        assert_eq!(store.tables[0].covered.get(2), Some(2.0));
        assert_eq!((&*series.labels, series.interval_ns), ("a=\"b\"", Some(S)));
        // A line without some of the fields.
        add(&mut store, "t,a=b g=6i,interval_ns=1000000000i 12000000000\n");
        assert_eq!(
            (total(&store, "t", 0), total(&store, "t", 1)),
            (Value::Count(7), Value::Whole(6))
        );
    }

    #[test]
    fn a_histogram_is_added_up_bucket_by_bucket() {
        let mut store = store(
            "w count=3u,sum_us=9u,max_us=4i,bucket_0_2=1u,bucket_4_8=2u,interval_ns=1i 10000000000\n",
        );
        add(
            &mut store,
            "w count=1u,sum_us=5u,max_us=5i,bucket_0_2=0u,bucket_4_8=1u,interval_ns=1i 11000000000\n",
        );
        let waits = store.tables[0].series[0].as_ref().unwrap().histogram.as_ref().unwrap();
        assert_eq!((waits.total.count, waits.total.sum), (4, 14));
        assert_eq!((waits.total.buckets[0], waits.total.buckets[2]), (1, 3));
        assert_eq!((waits.last.count, waits.last.buckets[2]), (1, 1));
        assert_eq!((waits.past.low(), waits.past.row(2)), (0, &[1, 0, 3][..]));
    }

    #[test]
    fn series_that_are_too_many_are_refused_and_those_that_ended_make_room() {
        let mut store = Store::new(2);
        let now = Instant::now();
        let take = |store: &mut Store, text: &str, at: Duration| {
            let mut all = Vec::new();
            store.take(&"p".into(), text.as_bytes(), now + at, |kept| all.push(kept == Kept::Yes));
            all
        };
        let text = "t,a=1 n=1u,interval_ns=1i 1\nt,a=2 n=1u,interval_ns=1i 1\nt,a=3 n=1u,interval_ns=1i 1\nno line\n";
        assert_eq!(take(&mut store, text, Duration::ZERO), [true, true, false, false]);
        let minutes = |n: u64| Duration::from_secs(n * 60);
        assert_eq!(take(&mut store, "t,a=1 n=1u,interval_ns=1i 1\n", minutes(4)), [true]);
        assert_eq!(store.series, 2);
        assert_eq!(take(&mut store, "t,a=3 n=1u,interval_ns=1i 1\n", minutes(6)), [true]);
        assert_eq!((store.series, store.tables[0].by_key.len()), (2, 2));
        // One of a longer interval lives longer.
        let slow = "t,a=1 n=1u,interval_ns=600000000000i 1\n";
        assert_eq!(take(&mut store, slow, minutes(6)), [true]);
        assert_eq!(take(&mut store, slow, minutes(36)), [true]);
        assert_eq!((store.series, total(&store, "t", 0)), (1, Value::Count(4)));
        assert_eq!(take(&mut store, "t,a=2 n=1u,interval_ns=1i 1\n", minutes(67)), [true]);
        assert_eq!(store.series, 1);
    }

    #[test]
    fn two_tables_never_have_one_metric() {
        let mut store = store("a_b c=1i,interval_ns=1i 1\n");
        add(&mut store, "a b_c=1i,d=2i,interval_ns=1i 1\n");
        let names = |table: &str| -> Vec<String> {
            let metrics = store.table(table).unwrap().metrics.iter();
            metrics.map(|number| store.metrics.get(*number).name.clone()).collect()
        };
        assert_eq!((names("a_b"), names("a")), (vec!["a_b_c".to_owned()], vec!["a_d".to_owned()]));
        assert_eq!(store.table("a").unwrap().series[0].as_ref().unwrap().cells.len(), 1);
    }

    #[test]
    fn labels_are_legal() {
        let store = store("t,le=x,a-b=c\\ \"d\\,\\\\e n=1i,interval_ns=1i 1\n");
        let labels = &store.tables[0].series[0].as_ref().unwrap().labels;
        assert_eq!(&**labels, "U__le=\"x\",U__a_2d_b=\"c \\\"d,\\\\\\\\e\"");
    }
}
