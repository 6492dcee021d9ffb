//! Rows to InfluxDB line protocol, into a buffer that is used again and again.
//!
//! A [`Schema`] is prepared once per table: everything that is the same in each of its lines is escaped
//! and sorted then, so that [`encode_row`] only copies, escapes values that need it, and prints numbers.

use crate::escape::{self, Place};
use crate::form::Buckets;
use anyhow::{Result, bail, ensure};
use plugin_api::abi::{TICK_TIME, Tick, Val};
use plugin_api::abi_stable::std_types::RStr;
use plugin_api::describe::Table;
use plugin_api::histogram::{BUCKETS, wire_names, wire_names_1_0_0};
use plugin_api::{Kind, TableDef};
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

/// Configured tags by key.
pub type Tags = BTreeMap<String, String>;

/// The field that every line without its own time gets: the measured nanoseconds that it covers.
pub const INTERVAL_FIELD: &str = "interval_ns";

/// The longest text field in bytes; InfluxDB 2 takes no more.
pub const MAX_TEXT: usize = 64 * 1024;

/// The longest measurement, tags and field's key together, in bytes on the wire. VictoriaMetrics loses
/// all series of a request, and finds none of them ever again, when one of them comes to 32 KiB with what
/// it adds itself (measured with 1.79: its index keeps two items in a block of 64 KiB). InfluxDB takes
/// 4 bytes less than 64 KiB.
pub const MAX_KEY: usize = 31 * 1024;

/// The longest value of a tag in bytes, and the longest measurement and field's key together, which are
/// the value of the label `__name__`: VictoriaMetrics drops the series behind it (`-maxLabelValueLen`;
/// early versions cut the value at 16 KiB).
pub const MAX_TAG: usize = 4096;

/// The longest key of a tag in bytes; VictoriaMetrics cuts it there, or drops the series.
pub const MAX_TAG_KEY: usize = 256;

/// The most tags of a line. VictoriaMetrics drops what is over 30 labels (`-maxLabelsPerTimeseries`), and
/// makes the metric's name and a label `db` itself.
pub const MAX_TAGS: usize = 28;

/// Keys that a database keeps for itself.
pub(crate) const RESERVED: [(&str, &str); 4] = [
    ("time", "InfluxDB"),
    ("_field", "InfluxDB"),
    ("_measurement", "InfluxDB"),
    ("__name__", "VictoriaMetrics"),
];

/// Why a row became no line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The numbers of tags and fields are not the table's.
    Shape,
    /// No field has a value; NaN and infinity are none.
    NoField,
    /// A text field is longer than [`MAX_TEXT`].
    LongText,
    /// A tag is longer than [`MAX_TAG`], or measurement, tags and a field's key are longer than [`MAX_KEY`].
    LongTags,
    /// The row's own time does not lie after 1970 and before 2262.
    Time,
    /// A tag or text field is no UTF-8: the plugin broke the promise of `RStr`.
    NotText,
    /// The tick has a line of this series already, with the same fields.
    Duplicate,
    /// A new series, and the plugin has as many as it may.
    Series,
    /// The tick has no room left.
    Full,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Shape => "its numbers of tags and fields are not those of the table",
            Self::NoField => "none of its fields has a value",
            Self::LongText => "a text field is longer than 64 KiB",
            Self::LongTags => "a tag is longer than 4 KiB, or all of them are longer than 31 KiB",
            Self::Time => "its own time is not between 1970 and 2262",
            Self::NotText => "a tag or a text field is not UTF-8",
            Self::Duplicate => "the tick has a line with these tags already: the first one stays",
            Self::Series => "it would be one series more than `max_series`",
            Self::Full => "the tick has no room left",
        })
    }
}

impl std::error::Error for Refused {}

/// A table, ready to be written.
#[derive(Debug)]
pub struct Schema {
    /// The tags of a row, in the order of their lines.
    tags: Vec<TagSlot>,
    /// What stands behind the last of them.
    tail: Vec<u8>,
    pub(crate) fields: Vec<Field>,
    /// Where the row has the first bucket of its histogram; the others follow.
    pub(crate) buckets: Option<usize>,
    /// How many sums its series have at least: one more than the largest number of a field's sum.
    pub(crate) sums: usize,
    /// How long measurement and tags may be together.
    max_key: usize,
    uint: bool,
}

/// A tag whose value comes with the row, or with each bucket of it.
#[derive(Debug)]
struct TagSlot {
    value: TagValue,
    /// What stands between the slot before and its value: the measurement or configured tags, and `,key=` if the
    /// value comes with the row.
    lead: Vec<u8>,
    /// How much of it is the key.
    key: usize,
}

#[derive(Clone, Copy, Debug)]
enum TagValue {
    /// Where the row has it.
    Row(usize),
    /// It stands in lines of this form alone.
    Bucket(Buckets),
}

/// A field of a row.
#[derive(Debug)]
pub(crate) struct Field {
    /// `,key=`
    pub key: Vec<u8>,
    /// The same, filled up: of a length that is known when this is compiled, a copy is a move or two.
    padded: [u8; SHORT],
    /// A number that can be summed up, when it comes as `u64`.
    pub counter: bool,
    /// The number of its sum, which the encoder gives.
    pub sum: usize,
    /// A count, sum or bucket of the table's histogram.
    pub histogram: bool,
}

/// The longest key of a field that is copied that way.
const SHORT: usize = 32;

impl Field {
    fn new(key: Vec<u8>) -> Self {
        let mut padded = [0; SHORT];
        padded.iter_mut().zip(&key).for_each(|(to, byte)| *to = *byte);
        Self { key, padded, counter: false, sum: 0, histogram: false }
    }

    #[inline]
    fn push_key(&self, out: &mut Vec<u8>) {
        let end = out.len() + self.key.len();
        if self.key.len() <= SHORT {
            out.extend_from_slice(&self.padded);
            out.truncate(end);
        } else {
            out.extend_from_slice(&self.key);
        }
    }
}

/// Where the tags `le` and `vmrange` of a bucket's line stand in its series.
pub(crate) type Splits = [usize; 2];

/// The place of a form's tag in [`Splits`].
pub(crate) const fn split_of(form: Buckets) -> usize {
    match form {
        Buckets::Fields | Buckets::Le | Buckets::Typed => 0,
        Buckets::Vmrange => 1,
    }
}

/// The field of a bucket's line.
pub(crate) const BUCKET_FIELD: &[u8] = b" bucket=";
/// The longest that a bucket adds to its series.
const BUCKET_KEY: usize = 96;

impl Schema {
    /// Prepares a table of which only the names are known; its values stay as they are. `configured` are the tags
    /// of every line of the plugin; where the table has a tag or field of the same name, the table's own wins.
    /// `uint` writes `u64` as such (`1u`, not known to InfluxDB 1) instead of as a saturated `i64` (`1i`).
    ///
    /// # Errors
    /// Names a tag or field that no database could store, or that stands there twice.
    pub fn new(
        table: &str,
        tags: &[&str],
        fields: &[&str],
        configured: &Tags,
        uint: bool,
    ) -> Result<Self> {
        Self::with(table, tags, fields, None, configured, uint)
    }

    /// The same for a report of the SDK, which no description has: what comes as `u64` is a counter.
    #[must_use]
    pub fn counting(mut self) -> Self {
        self.fields.iter_mut().for_each(|field| field.counter = true);
        self
    }

    /// Prepares a table as its plugin registers it, with the kinds of its description.
    ///
    /// # Errors
    /// As [`Schema::new`].
    pub fn described(
        description: &Table,
        tags: &[&str],
        fields: &[&str],
        configured: &Tags,
        uint: bool,
    ) -> Result<Self> {
        // Plugins of 1.0.0 have older names for the buckets.
        let buckets = histogram_in(description, fields);
        let mut names = fields.to_vec();
        let newer = wire_names("");
        if let Some(at) = buckets {
            for (name, newer) in names[at..].iter_mut().zip(&newer[newer.len() - BUCKETS..]) {
                *name = newer;
            }
        }
        let mut schema = Self::with(&description.name, tags, &names, buckets, configured, uint)?;
        for (field, name) in schema.fields.iter_mut().zip(&names) {
            let kind = counts(description, name);
            field.counter = kind.is_some();
            field.histogram = buckets.is_some() && kind == Some(Kind::Histogram);
        }
        Ok(schema)
    }

    /// Prepares a declared table.
    ///
    /// # Errors
    /// As [`Schema::new`].
    pub fn of(table: &TableDef, configured: &Tags, uint: bool) -> Result<Self> {
        let tags: Vec<&str> = table.tags.iter().map(|tag| tag.name).collect();
        let fields = table.wire_fields();
        let fields: Vec<&str> = fields.iter().map(AsRef::as_ref).collect();
        Self::described(&Table::new(table), &tags, &fields, configured, uint)
    }

    fn with(
        table: &str,
        tags: &[&str],
        fields: &[&str],
        buckets: Option<usize>,
        configured: &Tags,
        uint: bool,
    ) -> Result<Self> {
        check_name("the table's name", table)?;
        ensure!(!fields.is_empty(), "the table has no field");
        let tags = keys("tag", tags)?;
        let fields = keys("field", fields)?;
        if let Some(both) = fields.iter().find(|field| tags.contains(field)) {
            bail!("`{both}` is a tag and a field");
        }
        let of_buckets = [Buckets::Le, Buckets::Vmrange].into_iter().filter(|_| buckets.is_some());
        let of_buckets: Vec<_> =
            of_buckets.filter_map(|form| form.tag().map(|tag| (tag, form))).collect();
        if let Some((taken, _)) = of_buckets.iter().find(|(tag, _)| tags.iter().any(|t| t == tag)) {
            bail!("a tag named `{taken}`: lines of the table's buckets have it");
        }
        // Sorted as InfluxDB compares them: escaped. It then has nothing to sort itself.
        let mut slots: BTreeMap<Vec<u8>, Slot<'_>> = BTreeMap::new();
        // Of two that are the same key on the wire the last one stands.
        let named = |key| escape::normal_name(key, Place::Tag).into_owned();
        let fixed = configured.iter().filter(|(_, value)| !value.is_empty());
        let mut fixed: BTreeMap<String, &str> =
            fixed.map(|(key, it)| (named(key), &**it)).collect();
        fixed.retain(|key, _| !tags.contains(key) && !fields.contains(key));
        for (key, value) in &fixed {
            ensure!(
                value.len() <= MAX_TAG,
                "the configured tag `{key}` has a value of more than {MAX_TAG} bytes"
            );
            slots.insert(tag_key(key), Slot::Fixed(value));
        }
        slots.extend(
            tags.iter().enumerate().map(|(i, key)| (tag_key(key), Slot::Given(TagValue::Row(i)))),
        );
        slots.extend(
            of_buckets
                .iter()
                .map(|(tag, form)| (tag_key(tag), Slot::Given(TagValue::Bucket(*form)))),
        );
        // Of `le` and `vmrange` a line has one.
        let count = slots.len() - of_buckets.len() / 2;
        ensure!(
            count <= MAX_TAGS,
            "{count} tags, the configured ones among them; {MAX_TAGS} are the most"
        );

        let mut schema = Self {
            tags: Vec::new(),
            tail: Vec::new(),
            fields: Vec::new(),
            buckets,
            sums: 0,
            max_key: 0,
            uint,
        };
        let measurement = escape::normal_name(table, Place::Measurement);
        let mut lead = Vec::new();
        escape::name(&mut lead, &measurement, Place::Measurement);
        for (key, slot) in slots {
            match slot {
                Slot::Fixed(value) => {
                    lead.extend(key);
                    escape::tag_value(&mut lead, value.as_bytes())?;
                }
                Slot::Given(value) => {
                    let key = if matches!(value, TagValue::Row(_)) { key } else { Vec::new() };
                    lead.extend_from_slice(&key);
                    let lead = std::mem::take(&mut lead);
                    schema.tags.push(TagSlot { value, lead, key: key.len() });
                }
            }
        }
        schema.tail = lead;
        let mut longest = INTERVAL_FIELD.len();
        if buckets.is_some() {
            longest = longest.max(BUCKET_KEY);
        }
        for field in &fields {
            ensure!(
                measurement.len() + 1 + field.len().max(INTERVAL_FIELD.len()) <= MAX_TAG,
                "the names of the table and of a field are longer than {MAX_TAG} bytes together"
            );
            let mut key = vec![b','];
            escape::name(&mut key, field, Place::FieldKey);
            longest = longest.max(key.len() - 1);
            key.push(b'=');
            schema.fields.push(Field::new(key));
        }
        schema.max_key = MAX_KEY.saturating_sub(longest);
        Ok(schema)
    }

    /// Whether a row has the table's numbers of tags and fields, and a value.
    #[inline]
    pub(crate) fn check(&self, tags: &[RStr<'_>], fields: &[Val<'_>]) -> Result<(), Refused> {
        if tags.len() != self.row_tags() || fields.len() != self.fields.len() {
            Err(Refused::Shape)
        } else if fields.iter().all(is_none) {
            Err(Refused::NoField)
        } else {
            Ok(())
        }
    }

    /// Whether rows of two tables could write the same field.
    pub(crate) fn overlaps(&self, other: &Self) -> bool {
        self.fields.iter().any(|a| other.fields.iter().any(|b| a.key == b.key))
    }

    fn row_tags(&self) -> usize {
        self.tags.len() - if self.buckets.is_some() { 2 } else { 0 }
    }

    /// Appends measurement and tags.
    #[inline]
    pub(crate) fn series(&self, tags: &[RStr<'_>], out: &mut Vec<u8>) -> Result<Splits, Refused> {
        let start = out.len();
        let mut splits = Splits::default();
        for slot in &self.tags {
            out.extend_from_slice(&slot.lead);
            match slot.value {
                TagValue::Row(index) => {
                    let value = tags[index].as_rslice().as_slice();
                    if value.len() > MAX_TAG {
                        return Err(Refused::LongTags);
                    }
                    if value.is_empty() {
                        out.truncate(out.len() - slot.key);
                    } else {
                        escape::tag_value(out, value).map_err(|_| Refused::NotText)?;
                    }
                }
                TagValue::Bucket(form) => splits[split_of(form)] = out.len() - start,
            }
        }
        out.extend_from_slice(&self.tail);
        if out.len() - start > self.max_key {
            return Err(Refused::LongTags);
        }
        Ok(splits)
    }

    /// Appends fields, those of `skipped` left out; false when none has a value. `u64` is unsigned by `uint`.
    #[inline]
    pub(crate) fn fields<'a>(
        &self,
        skipped: &Range<usize>,
        uint: bool,
        value: impl Fn(usize, &Field) -> Val<'a>,
        out: &mut Vec<u8>,
    ) -> Result<bool, Refused> {
        let start = out.len();
        for (index, field) in self.fields.iter().enumerate() {
            if skipped.contains(&index) {
                continue;
            }
            let value = value(index, field);
            match value {
                Val::Str(v) if v.len() > MAX_TEXT => return Err(Refused::LongText),
                _ if is_none(&value) => continue,
                _ => {}
            }
            field.push_key(out);
            field_value(&value, uint, out)?;
        }
        match out.get_mut(start) {
            Some(separator) => *separator = b' ',
            None => return Ok(false),
        }
        Ok(true)
    }

    /// Whether `u64` stays unsigned on the wire.
    pub(crate) fn uint(&self) -> bool {
        self.uint
    }
}

/// Appends a value; `u64` is unsigned by `uint`.
#[inline]
pub(crate) fn field_value(value: &Val<'_>, uint: bool, out: &mut Vec<u8>) -> Result<(), Refused> {
    match *value {
        Val::F64(v) => out.extend_from_slice(zmij::Buffer::new().format_finite(v).as_bytes()),
        Val::I64(v) => integer(v, b"i", out),
        Val::U64(v) if uint => integer(v, b"u", out),
        Val::U64(v) => integer(saturated(v), b"i", out),
        Val::Bool(v) => out.extend_from_slice(if v { b"true" } else { b"false" }),
        Val::Str(v) => {
            return escape::text(out, v.as_rslice().as_slice()).map_err(|_| Refused::NotText);
        }
        Val::None => {}
    }
    Ok(())
}

/// Whether a value leaves its field out.
#[inline]
fn is_none(value: &Val<'_>) -> bool {
    match value {
        Val::None => true,
        Val::F64(v) => !v.is_finite(),
        _ => false,
    }
}

/// Where the buckets of a described histogram begin among the fields of a row.
fn histogram_in(description: &Table, fields: &[&str]) -> Option<usize> {
    description.fields.iter().find(|field| field.kind == Kind::Histogram)?;
    [wire_names(""), wire_names_1_0_0("")].iter().find_map(|names| {
        let buckets = &names[names.len() - BUCKETS..];
        let at = fields.iter().position(|field| *field == buckets[0])?;
        fields.get(at..at + BUCKETS)?.iter().eq(buckets).then_some(at)
    })
}

/// Of what kind a field is that counts since the tick before; those of a histogram do, but for maximum and quantiles.
fn counts(description: &Table, name: &str) -> Option<Kind> {
    let counts = |field: &&plugin_api::describe::Field| match field.kind {
        Kind::Counter => field.name == name,
        Kind::Histogram => {
            let suffix = field.unit.suffix();
            name == "count"
                || name.strip_suffix(suffix) == Some("sum")
                || name.starts_with("bucket_")
        }
        Kind::Gauge | Kind::Float | Kind::Flag | Kind::Text => false,
    };
    description.fields.iter().find(counts).map(|field| field.kind)
}

/// Where a tag's value comes from.
enum Slot<'a> {
    Fixed(&'a str),
    Given(TagValue),
}

fn tag_key(key: &str) -> Vec<u8> {
    let mut out = vec![b','];
    escape::name(&mut out, key, Place::Tag);
    out.push(b'=');
    out
}

/// The names as they read back, all different and allowed.
fn keys(what: &str, names: &[&str]) -> Result<Vec<String>> {
    let mut keys: Vec<String> = Vec::with_capacity(names.len());
    for name in names {
        let key = checked_key(what, name)?;
        ensure!(!keys.contains(&key), "the {what} `{key}` is there twice");
        keys.push(key);
    }
    Ok(keys)
}

/// Refuses a key that no tag or field may have; `what` is `tag` or `field` and begins the sentence.
///
/// # Errors
/// The key is empty, begins with `#`, is too long for a tag, or reads back as one that is taken.
pub fn check_key(what: &str, key: &str) -> Result<()> {
    checked_key(what, key).map(drop)
}

/// A key as it reads back.
fn checked_key(what: &str, key: &str) -> Result<String> {
    check_name(&format!("the name of a {what}"), key)?;
    let place = if what == "field" { Place::FieldKey } else { Place::Tag };
    let key = escape::normal_name(key, place).into_owned();
    if let Some((_, owner)) = RESERVED.iter().find(|(name, _)| *name == key) {
        bail!("a {what} named `{key}`: {owner} keeps that name for itself");
    }
    ensure!(key != INTERVAL_FIELD, "a {what} named `{key}`: the collector adds that field itself");
    ensure!(
        place != Place::Tag || key.len() <= MAX_TAG_KEY,
        "a {what} whose name is longer than {MAX_TAG_KEY} bytes: `{key}`"
    );
    Ok(key)
}

fn check_name(what: &str, name: &str) -> Result<()> {
    ensure!(!name.is_empty(), "{what} is empty");
    ensure!(!name.starts_with('#'), "{what} `{name}` begins with `#`, which makes a comment");
    Ok(())
}

/// The time of a row: its own, or the tick's for [`TICK_TIME`].
///
/// # Errors
/// No database could store it.
#[inline]
pub(crate) fn time_of(time_ns: i64, tick: &Tick) -> Result<i64, Refused> {
    let time = if time_ns == TICK_TIME { tick.time_ns } else { time_ns };
    if time <= 0 || time == i64::MAX { Err(Refused::Time) } else { Ok(time) }
}

/// Appends the end of a line: the time that it covers, if it covers any, its own time and the newline.
#[inline]
pub(crate) fn end_of_line(elapsed_ns: Option<u64>, time_ns: i64, out: &mut Vec<u8>) {
    if let Some(elapsed_ns) = elapsed_ns {
        out.extend_from_slice(b",interval_ns=");
        integer(saturated(elapsed_ns), b"i", out);
    }
    out.push(b' ');
    integer(time_ns, b"\n", out);
}

#[inline]
fn integer(value: impl itoa::Integer, suffix: &[u8; 1], out: &mut Vec<u8>) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
    out.extend_from_slice(suffix);
}

pub(crate) fn saturated(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
