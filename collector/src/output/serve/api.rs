//! The JSON that the page and `collector top` read; `docs/http.md` promises it to others too.

use super::cost::tools;
use super::history::{SLOT_NS, SLOTS, slot};
use super::states::States;
use super::store::{Cell, Series, Store, Table, Waits, float, json as value};
use crate::descriptions;
use crate::output::http::wire::names::Kind;
use crate::sink::is_report;
use crate::typed::{series_parts, unescaped};
use form_urlencoded::parse;
use plugin_api::histogram::bucket;
use serde_json::{Map, Value as Json, json};
use std::borrow::Cow;
use std::cmp::Ordering;

/// How many series an answer has, if nothing is said, and at most.
const SERIES: usize = 20;
const MOST_SERIES: usize = 100;

/// `/api/tables`
pub fn tables(store: &Store, states: Option<&States>) -> Json {
    let plugins = states.map(|states| &*states.plugins).unwrap_or_default();
    let plugin = |it: &super::states::PluginState| json!({"name": it.name, "version": it.version, "state": it.state, "reason": it.reason});
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "series": store.series,
        "interval_ns": states.map(|it| u64::try_from(it.interval.as_nanos()).unwrap_or(u64::MAX)),
        "plugins": plugins.iter().map(plugin).collect::<Vec<_>>(),
        "tools": tools(store),
        "tables": store.tables.iter().map(|it| table(store, it)).collect::<Vec<_>>(),
    })
}

fn table(store: &Store, table: &Table) -> Json {
    let described = descriptions::table(&table.name);
    let tags: Vec<Json> = described
        .iter()
        .flat_map(|it| &it.tags)
        .map(|tag| json!({"name": tag.name, "text": tag.text}))
        .collect();
    let fields = table.metrics.iter().map(|number| {
        let metric = store.metrics.get(*number);
        let kind = match metric.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Unknown => "unknown",
            Kind::Histogram => "histogram",
        };
        json!({
            "name": unescaped(&metric.field), "metric": metric.name, "kind": kind,
            "unit": metric.unit.suffix().trim_start_matches('_'), "text": metric.help,
        })
    });
    json!({
        "name": table.name,
        "plugin": &*table.plugin,
        "text": described.as_ref().map(|it| &*it.text).unwrap_or_default(),
        "described": described.is_some(),
        "tags": tags,
        "fields": fields.collect::<Vec<_>>(),
        "series": table.series.iter().flatten().count(),
        "time_ns": table.time_ns,
    })
}

/// `/api/series`
///
/// # Errors
/// Status and sentence: there is no such table, or a key is wrong.
pub fn series(store: &Store, query: &str) -> Result<Json, (u16, String)> {
    let wrong = |words: String| (400, words + "\n");
    let (mut name, mut limit, mut since, mut sort) = (None, SERIES, i64::MIN, None);
    let (mut order, mut tag) = (Order::Past, None);
    for (key, value) in parse(query.as_bytes()) {
        match &*key {
            "table" => name = Some(value.into_owned()),
            "limit" => {
                limit = value.parse().map_err(|_| wrong(format!("limit={value} is no number")))?;
                limit = limit.min(MOST_SERIES);
            }
            "since" => {
                since =
                    value.parse().map_err(|_| wrong(format!("since={value} is no time in ns")))?
            }
            "sort" => sort = Some(value.into_owned()),
            "order" => {
                order = match &*value {
                    "past" => Order::Past,
                    "most" => Order::Most,
                    "least" => Order::Least,
                    _ => return Err(wrong(format!("order={value}: one of past, most, least"))),
                }
            }
            "tag" => {
                let pair =
                    value.split_once('=').map(|(key, value)| (key.to_owned(), value.to_owned()));
                tag = Some(pair.ok_or_else(|| wrong(format!("tag={value} is not KEY=VALUE")))?);
            }
            _ => {
                return Err(wrong(format!(
                    "there is no key {key:?}: table, limit, since, sort, order, tag"
                )));
            }
        }
    }
    let name = name.ok_or_else(|| wrong("table=NAME is missing".to_owned()))?;
    let table =
        store.table(&name).ok_or_else(|| (404, format!("there is no table {name:?} (yet)\n")))?;
    let by = match sort {
        None => By::First,
        Some(field) => {
            let is = |number: &&usize| *unescaped(&store.metrics.get(**number).field) == *field;
            match table.metrics.iter().find(is) {
                Some(metric) => By::Metric(*metric),
                None if field == "time" => By::Time,
                None if table.series.iter().flatten().any(|it| tag_of(it, &field).is_some()) => {
                    By::Tag(field)
                }
                None => return Err(wrong(format!("{name} has no field or tag {field:?}"))),
            }
        }
    };
    let newest = slot(table.time_ns);
    let oldest = newest.saturating_sub(SLOTS - 1);
    let first = if since < 0 { oldest } else { slot(since).max(oldest) };
    let slots = Slots {
        first,
        newest,
        covered: (first..=newest).map(|it| table.covered.get(it).unwrap_or_default()).collect(),
    };
    let wanted = |it: &&Series| {
        tag.as_ref().is_none_or(|(key, value)| tag_of(it, key).is_some_and(|it| it == *value))
    };
    let rank = |series| {
        let said_nothing = order != Order::Past && is_late(series, table);
        let weight = match (&by, order) {
            (By::Time, _) => series.time_ns as f64,
            (By::Tag(_), _) => 0.0,
            (By::Metric(by), Order::Past) => weight(store, series, Some(*by), oldest..=newest),
            (By::First, Order::Past) => weight(store, series, None, oldest..=newest),
            (By::Metric(by), _) => last(store, series, Some(*by)),
            (By::First, _) => last(store, series, None),
        };
        let text = if let By::Tag(tag) = &by { tag_of(series, tag) } else { None };
        Rank { said_nothing, weight, text, series }
    };
    let mut all: Vec<Rank<'_>> = table.series.iter().flatten().filter(wanted).map(rank).collect();
    let count = all.len();
    let compare = |a: &Rank<'_>, b: &Rank<'_>| a.compare(b, order == Order::Least);
    if limit < count && limit > 0 {
        all.select_nth_unstable_by(limit - 1, compare);
    }
    all.truncate(limit);
    all.sort_by(compare);
    Ok(json!({
        "table": name,
        "count": count,
        "time_ns": table.time_ns,
        "first_ns": i64::from(first) * SLOT_NS,
        "step_ns": SLOT_NS,
        "covered_s": slots.covered.iter().map(|it| short(*it)).collect::<Vec<_>>(),
        "series": all.into_iter().map(|it| one(store, it.series, &slots)).collect::<Vec<_>>(),
    }))
}

/// The slots of an answer, and the seconds that each covers.
struct Slots {
    first: u32,
    newest: u32,
    covered: Vec<f32>,
}

/// Which series come first.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Order {
    /// Those that say most in the last 15 minutes.
    Past,
    /// Those with the largest last value, among those that have a line of the last tick.
    Most,
    /// Those with the smallest.
    Least,
}

/// What they are compared by.
enum By {
    /// Their histogram or first counter.
    First,
    Metric(usize),
    Tag(String),
    Time,
}

/// A series among others.
struct Rank<'a> {
    /// It has no line of the last tick.
    said_nothing: bool,
    weight: f64,
    text: Option<Cow<'a, str>>,
    series: &'a Series,
}

impl Rank<'_> {
    fn compare(&self, other: &Self, reverse: bool) -> Ordering {
        let order = other.weight.total_cmp(&self.weight).then_with(|| self.text.cmp(&other.text));
        let order = if reverse { order.reverse() } else { order };
        let late = self.said_nothing.cmp(&other.said_nothing);
        late.then(order).then_with(|| self.series.key.cmp(&other.series.key))
    }
}

/// Whether a series of intervals has no line of its table's last tick.
fn is_late(series: &Series, table: &Table) -> bool {
    series.interval_ns.is_some() && series.time_ns != table.time_ns && !is_report(&table.name)
}

/// The value of a series' tag.
fn tag_of<'a>(series: &'a Series, key: &str) -> Option<Cow<'a, str>> {
    let (_, tags) = series_parts(&series.key)?;
    tags.iter().find(|(name, _)| unescaped(name) == key).map(|(_, value)| unescaped(value))
}

/// What a series' last line says.
fn last(store: &Store, series: &Series, by: Option<usize>) -> f64 {
    let waits = series.histogram.as_ref().filter(|it| by.is_none_or(|by| by == it.metric));
    if let Some(waits) = waits {
        return waits.last.count as f64;
    }
    let kind = |cell: &Cell| store.metrics.get(cell.metric).kind;
    let cell = match by {
        Some(by) => series.cells.iter().find(|cell| cell.metric == by),
        None => series.cells.iter().find(|it| kind(it) == Kind::Counter).or(series.cells.first()),
    };
    cell.map_or(f64::NEG_INFINITY, |cell| float(cell.in_line(series, kind(cell))))
}

/// How much a series has to say: what it has counted in the last 15 minutes, or its last value.
fn weight(
    store: &Store,
    series: &Series,
    by: Option<usize>,
    mut slots: std::ops::RangeInclusive<u32>,
) -> f64 {
    let waits = series.histogram.as_ref().filter(|it| by.is_none_or(|by| by == it.metric));
    if let Some(waits) = waits {
        let past: u64 =
            slots.map(|slot| waits.past.row(slot).iter().map(|n| u64::from(*n)).sum::<u64>()).sum();
        return past.max(waits.last.count) as f64;
    }
    let counts = |cell: &&Cell| store.metrics.get(cell.metric).kind == Kind::Counter;
    let cell = match by {
        Some(by) => series.cells.iter().find(|cell| cell.metric == by),
        None => series.cells.iter().find(counts).or(series.cells.first()),
    };
    let Some(cell) = cell else { return f64::NEG_INFINITY };
    let last = float(cell.last);
    if !counts(&cell) {
        return last;
    }
    let past = slots.try_fold(0.0, |sum, slot| Some(sum + f64::from(cell.past.get(slot)?)));
    past.unwrap_or_default().max(last)
}

fn one(store: &Store, series: &Series, slots: &Slots) -> Json {
    let (_, tags) = series_parts(&series.key).unwrap_or_default();
    let tags: Map<String, Json> = tags
        .iter()
        .map(|(key, value)| (unescaped(key).into_owned(), unescaped(value).into()))
        .collect();
    let fields: Map<String, Json> = series
        .cells
        .iter()
        .map(|cell| {
            (
                unescaped(&store.metrics.get(cell.metric).field).into_owned(),
                number(store, series, cell, slots),
            )
        })
        .collect();
    let mut one = json!({
        "tags": tags,
        "time_ns": series.time_ns,
        "interval_ns": series.interval_ns,
        "fields": fields,
    });
    if let Some(waits) = &series.histogram {
        one["histogram"] = histogram(waits, slots);
    }
    one
}

fn number(store: &Store, series: &Series, cell: &Cell, slots: &Slots) -> Json {
    let kind = store.metrics.get(cell.metric).kind;
    let counts = kind == Kind::Counter;
    let mut number = json!({"last": value(cell.in_line(series, kind))});
    if counts {
        number["total"] = value(cell.total);
    }
    let points: Option<Vec<Json>> = (slots.first..=slots.newest)
        .zip(&slots.covered)
        .map(|(slot, covered)| {
            let value = cell.past.get(slot)?;
            Some(short(if counts { value / covered } else { value }))
        })
        .collect();
    if let Some(points) = points {
        number["points"] = points.into();
    }
    number
}

fn histogram(waits: &Waits, slots: &Slots) -> Json {
    let counts = |buckets: &[u64]| -> Vec<Json> {
        let filled = buckets.iter().enumerate().filter(|(_, n)| **n > 0);
        filled.map(|(number, n)| json!([bucket(number).0, n])).collect()
    };
    let rows: Vec<&[u32]> = (slots.first..=slots.newest).map(|slot| waits.past.row(slot)).collect();
    json!({
        "count": waits.last.count,
        "sum": waits.last.sum,
        "buckets": counts(&waits.last.buckets),
        "total_count": waits.total.count,
        "total_sum": waits.total.sum,
        "total_buckets": counts(&waits.total.buckets),
        "low": waits.past.low(),
        "rows": rows,
    })
}

/// Four digits are enough to draw it; what is no number is null.
fn short(value: f32) -> Json {
    if !value.is_finite() {
        return Json::Null;
    }
    let value = f64::from(value);
    if value == value.trunc() && value.abs() < 1e15 {
        return (value as i64).into();
    }
    let scale = 10f64.powi(3 - value.abs().log10().floor() as i32);
    let rounded = (value * scale).round() / scale;
    if rounded.is_finite() { rounded.into() } else { value.into() }
}

#[cfg(test)]
mod tests {
    use super::super::store::testing::{add, store};
    use super::*;

    #[test]
    fn numbers_are_short() {
        for (value, text) in [
            (1.0, "1"),
            (0.123456, "0.1235"),
            (1234.567, "1235.0"),
            (f32::NAN, "null"),
            (1e-40, "1e-40"),
            (0.0, "0"),
        ] {
            assert_eq!(short(value).to_string(), text);
        }
    }

    #[test]
    fn tables_say_what_there_is() {
        let store = store("t,a=b n=1u,g=2i,interval_ns=1i 1\nt,a=c n=1u,interval_ns=1i 1\n");
        let json = tables(&store, None);
        let table = &json["tables"][0];
        assert_eq!(
            (&table["name"], &table["plugin"], &table["series"]),
            (&json!("t"), &json!("p"), &json!(2))
        );
        assert_eq!(table["fields"][0]["metric"], "t_n_total");
        assert_eq!(
            (&table["fields"][1]["kind"], &table["described"]),
            (&json!("gauge"), &json!(false))
        );
    }

    #[test]
    fn series_have_their_past_and_the_largest_come_first() {
        let mut store = store(
            "t,a=b n=1u,g=2i,interval_ns=5000000000i 10000000000\nt,a=c n=9u,interval_ns=5000000000i 10000000000\n",
        );
        add(&mut store, "t,a=b n=3u,g=4i,interval_ns=5000000000i 15000000000\n");
        let json = series(&store, "table=t").unwrap();
        assert_eq!((&json["count"], &json["time_ns"]), (&json!(2), &json!(15_000_000_000i64)));
        let points = |at: usize, field: &str| {
            let points = json["series"][at]["fields"][field]["points"].as_array().unwrap();
            points[points.len() - 2..].to_vec()
        };
        assert_eq!(json["series"][0]["tags"], json!({"a": "c"}));
        assert_eq!(points(0, "n"), [json!(1.8), json!(0)]);
        assert_eq!(points(1, "n"), [json!(0.2), json!(0.6)]);
        assert_eq!(points(1, "g"), [json!(2), json!(4)]);
        assert_eq!(json["series"][1]["fields"]["n"]["total"], 4);
        let json = series(&store, "table=t&limit=1&since=15000000000&sort=g").unwrap();
        assert_eq!(json["series"][0]["tags"], json!({"a": "b"}));
        assert_eq!(json["series"][0]["fields"]["n"]["points"], json!([0.6]));
        assert_eq!((&json["first_ns"], &json["count"]), (&json!(15_000_000_000i64), &json!(2)));
        assert!(
            series(&store, "table=t&limit=0").unwrap()["series"].as_array().unwrap().is_empty()
        );
    }

    #[test]
    fn series_are_ordered_by_what_their_last_lines_say() {
        let mut store = store(
            "t,a=b n=9u,g=2i,interval_ns=1i 10\nt,a=c n=9u,interval_ns=1i 10\nt,a=d n=1u,g=5i,interval_ns=1i 10\n",
        );
        add(&mut store, "t,a=c n=2u,interval_ns=1i 20\nt,a=d n=4u,g=3i,interval_ns=1i 20\n");
        let tags = |query: &str| -> Vec<String> {
            let json = series(&store, &format!("table=t&{query}")).unwrap();
            let tag = |it: &Json| it["tags"]["a"].as_str().unwrap().to_owned();
            json["series"].as_array().unwrap().iter().map(tag).collect()
        };
        assert_eq!(tags("order=most"), ["d", "c", "b"], "b has no line of the tick");
        assert_eq!(tags("order=least"), ["c", "d", "b"]);
        assert_eq!(tags("order=most&sort=g"), ["d", "c", "b"]);
        assert_eq!(tags("order=most&sort=a"), ["c", "d", "b"]);
        assert_eq!(tags("order=least&sort=a"), ["d", "c", "b"]);
        assert_eq!(tags("order=most&sort=time&limit=2"), ["c", "d"]);
        assert_eq!(tags("tag=a=d"), ["d"]);
        assert!(tags("tag=x=d").is_empty());
        // What a line leaves out is 0 if it counts, else what it was.
        add(&mut store, "t,a=d x=1u,interval_ns=1i 30\n");
        let json = series(&store, "table=t&tag=a=d").unwrap();
        let fields = &json["series"][0]["fields"];
        assert_eq!((&fields["n"]["last"], &fields["g"]["last"]), (&json!(0), &json!(3)));
    }

    #[test]
    fn a_histogram_has_its_buckets_by_their_lower_bounds() {
        let store =
            store("w count=3u,sum_us=9u,bucket_0_2=1u,bucket_4_8=2u,interval_ns=1i 10000000000\n");
        let json = series(&store, "table=w&since=10000000000").unwrap();
        let histogram = &json["series"][0]["histogram"];
        assert_eq!(
            (&histogram["buckets"], &histogram["low"]),
            (&json!([[0, 1], [4, 2]]), &json!(0))
        );
        assert_eq!(histogram["rows"], json!([[1, 0, 2]]));
    }

    #[test]
    fn what_is_wrong_is_said() {
        let store = store("t n=1u,interval_ns=1i 1\n");
        for (query, status) in [
            ("", 400),
            ("table=nobody", 404),
            ("table=t&limit=x", 400),
            ("table=t&since=1.5", 400),
            ("table=t&sort=x", 400),
            ("table=t&x=1", 400),
            ("table=t&order=x", 400),
            ("table=t&tag=x", 400),
            ("%ff=%00&table", 400),
        ] {
            assert_eq!(series(&store, query).unwrap_err().0, status, "{query}");
        }
    }
}
