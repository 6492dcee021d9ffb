//! Rows to InfluxDB line protocol, into a buffer that is used again and again.
//!
//! A [`Schema`] is prepared once per table: everything that is the same in each of its lines is escaped
//! and sorted then, so that [`encode_row`] only copies, escapes values that need it, and prints numbers.

use crate::escape::{self, Place};
use anyhow::{Result, bail, ensure};
use plugin_api::abi::{TICK_TIME, Tick, Val};
use plugin_api::abi_stable::std_types::RStr;
use plugin_api::{Row, TableDef};
use smallvec::SmallVec;
use std::collections::BTreeMap;
use std::fmt;

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
const RESERVED: [(&str, &str); 4] = [
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
        })
    }
}

impl std::error::Error for Refused {}

/// A table, ready to be written.
#[derive(Debug)]
pub struct Schema {
    /// Measurement and the configured tags that sort before the first tag of a row.
    head: Vec<u8>,
    tags: Vec<TagSlot>,
    /// `key=` of each field.
    fields: Vec<Vec<u8>>,
    /// How long measurement and tags may be together.
    max_key: usize,
    uint: bool,
}

/// A tag whose value comes with the row.
#[derive(Debug)]
struct TagSlot {
    /// Where the row has it.
    index: usize,
    /// `,key=`
    key: Vec<u8>,
    /// The configured tags that sort behind it.
    after: Vec<u8>,
}

impl Schema {
    /// Prepares a table. `configured` are the tags of every line of the plugin; where the table has a
    /// tag or field of the same name, the table's own wins. `uint` writes `u64` as such (`1u`, not
    /// known to InfluxDB 1) instead of as a saturated `i64` (`1i`).
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
        check_name("the table's name", table)?;
        ensure!(!fields.is_empty(), "the table has no field");
        let tags = keys("tag", tags)?;
        let fields = keys("field", fields)?;
        if let Some(both) = fields.iter().find(|field| tags.contains(field)) {
            bail!("`{both}` is a tag and a field");
        }
        // Sorted as InfluxDB compares them: escaped. It then has nothing to sort itself.
        let mut slots: BTreeMap<Vec<u8>, Slot<'_>> = BTreeMap::new();
        for (key, value) in configured.iter().filter(|(_, value)| !value.is_empty()) {
            let key = escape::normal_name(key, Place::Tag).into_owned();
            if !tags.contains(&key) && !fields.contains(&key) {
                ensure!(
                    value.len() <= MAX_TAG,
                    "the configured tag `{key}` has a value of more than {MAX_TAG} bytes"
                );
                slots.insert(tag_key(&key), Slot::Fixed(value));
            }
        }
        slots.extend(tags.iter().enumerate().map(|(i, key)| (tag_key(key), Slot::OfRow(i))));
        ensure!(
            slots.len() <= MAX_TAGS,
            "{} tags, the configured ones among them; {MAX_TAGS} are the most",
            slots.len()
        );

        let mut schema =
            Self { head: Vec::new(), tags: Vec::new(), fields: Vec::new(), max_key: 0, uint };
        let measurement = escape::normal_name(table, Place::Measurement);
        escape::name(&mut schema.head, &measurement, Place::Measurement);
        for (key, slot) in slots {
            match slot {
                Slot::Fixed(value) => {
                    let end = schema.tags.last_mut().map_or(&mut schema.head, |t| &mut t.after);
                    end.extend(key);
                    escape::tag_value(end, value.as_bytes())?;
                }
                Slot::OfRow(index) => schema.tags.push(TagSlot { index, key, after: Vec::new() }),
            }
        }
        let mut longest = INTERVAL_FIELD.len();
        for field in &fields {
            ensure!(
                measurement.len() + 1 + field.len().max(INTERVAL_FIELD.len()) <= MAX_TAG,
                "the names of the table and of a field are longer than {MAX_TAG} bytes together"
            );
            let mut key = Vec::new();
            escape::name(&mut key, field, Place::FieldKey);
            longest = longest.max(key.len());
            key.push(b'=');
            schema.fields.push(key);
        }
        schema.max_key = MAX_KEY.saturating_sub(longest);
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
        Self::new(table.name, &tags, &fields, configured, uint)
    }
}

/// Where a tag's value comes from.
enum Slot<'a> {
    Fixed(&'a str),
    OfRow(usize),
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

/// Appends one line, with its newline. `time_ns` is the row's own time, or [`TICK_TIME`] for a line
/// that speaks of the time since the last tick: it gets the tick's time and `interval_ns`.
///
/// # Errors
/// Why it is no line; `out` is then as it was.
#[inline]
pub fn encode_row(
    schema: &Schema,
    tags: &[RStr<'_>],
    fields: &[Val<'_>],
    time_ns: i64,
    tick: &Tick,
    out: &mut Vec<u8>,
) -> Result<(), Refused> {
    let start = out.len();
    let result = line(schema, tags, fields, time_ns, tick, out);
    if result.is_err() {
        out.truncate(start);
    }
    result
}

/// Appends one line of a declared table, at the tick's time.
///
/// # Errors
/// As [`encode_row`].
pub fn encode<R: Row>(
    schema: &Schema,
    row: &R,
    tick: &Tick,
    out: &mut Vec<u8>,
) -> Result<(), Refused> {
    let mut tags = SmallVec::new();
    let mut fields = SmallVec::new();
    row.values(&mut tags, &mut fields);
    encode_row(schema, &tags, &fields, TICK_TIME, tick, out)
}

fn line(
    schema: &Schema,
    tags: &[RStr<'_>],
    fields: &[Val<'_>],
    time_ns: i64,
    tick: &Tick,
    out: &mut Vec<u8>,
) -> Result<(), Refused> {
    if tags.len() != schema.tags.len() || fields.len() != schema.fields.len() {
        return Err(Refused::Shape);
    }
    let time = if time_ns == TICK_TIME { tick.time_ns } else { time_ns };
    if time <= 0 || time == i64::MAX {
        return Err(Refused::Time);
    }
    let start = out.len();
    out.extend_from_slice(&schema.head);
    for slot in &schema.tags {
        let value = tags[slot.index].as_rslice().as_slice();
        if value.len() > MAX_TAG {
            return Err(Refused::LongTags);
        }
        if !value.is_empty() {
            out.extend_from_slice(&slot.key);
            escape::tag_value(out, value).map_err(|_| Refused::NotText)?;
        }
        out.extend_from_slice(&slot.after);
    }
    if out.len() - start > schema.max_key {
        return Err(Refused::LongTags);
    }
    let mut separator = b' ';
    for (key, value) in schema.fields.iter().zip(fields) {
        match value {
            Val::None => continue,
            Val::F64(v) if !v.is_finite() => continue,
            Val::Str(v) if v.len() > MAX_TEXT => return Err(Refused::LongText),
            _ => {}
        }
        out.push(separator);
        separator = b',';
        out.extend_from_slice(key);
        field_value(value, schema.uint, out)?;
    }
    if separator == b' ' {
        return Err(Refused::NoField);
    }
    if time_ns == TICK_TIME {
        out.extend_from_slice(b",interval_ns=");
        integer(saturated(tick.elapsed_ns), b"i", out);
    }
    out.push(b' ');
    integer(time, b"\n", out);
    Ok(())
}

fn field_value(value: &Val<'_>, uint: bool, out: &mut Vec<u8>) -> Result<(), Refused> {
    match *value {
        Val::F64(v) => out.extend_from_slice(ryu::Buffer::new().format_finite(v).as_bytes()),
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

fn integer(value: impl itoa::Integer, suffix: &[u8; 1], out: &mut Vec<u8>) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
    out.extend_from_slice(suffix);
}

fn saturated(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
