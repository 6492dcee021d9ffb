//! Lines read back from line protocol, by the `influxdb-line-protocol` crate: for tables on a terminal
//! and for tests, so that both see what a database would.

use anyhow::{Context, Result, ensure};
use influxdb_line_protocol::{FieldValue, parse_lines};
use std::collections::BTreeMap;
use std::fmt;

/// One line.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// The measurement.
    pub table: String,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
    /// Its fields, `interval_ns` among them.
    pub fields: BTreeMap<String, Value>,
    /// Nanoseconds since 1970 UTC.
    pub time_ns: i64,
}

/// A field's value.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// `1i`: also what `u64` is sent as.
    I64(i64),
    /// `1u`, with `uint = true`.
    U64(u64),
    /// `1.0`
    F64(f64),
    /// `true`
    Bool(bool),
    /// `"text"`
    Text(String),
}

impl Line {
    /// A field, when the line has it.
    #[must_use]
    pub fn get(&self, field: &str) -> Option<&Value> {
        self.fields.get(field)
    }

    /// A whole, non-negative number.
    ///
    /// # Panics
    /// The line has no such field: a test's expectation failed.
    #[must_use]
    pub fn u64(&self, field: &str) -> u64 {
        match self.get(field) {
            Some(Value::I64(v)) if *v >= 0 => v.unsigned_abs(),
            Some(Value::U64(v)) => *v,
            other => panic!("{self:?}: `{field}` is {other:?}, no number of 0 and more"),
        }
    }

    /// A text.
    ///
    /// # Panics
    /// The line has no such field: a test's expectation failed.
    #[must_use]
    pub fn text(&self, field: &str) -> &str {
        match self.get(field) {
            Some(Value::Text(v)) => v,
            other => panic!("{self:?}: `{field}` is {other:?}, no text"),
        }
    }

    /// A tag; empty when the line does not have it.
    #[must_use]
    pub fn tag(&self, key: &str) -> &str {
        self.tags.get(key).map_or("", String::as_str)
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::I64(v) => v.fmt(f),
            Self::U64(v) => v.fmt(f),
            Self::F64(v) => v.fmt(f),
            Self::Bool(v) => v.fmt(f),
            Self::Text(v) => v.fmt(f),
        }
    }
}

/// Reads lines.
///
/// # Errors
/// Names the line that is none, that has no time, or a key twice.
pub fn read(bytes: &[u8]) -> Result<Vec<Line>> {
    let text = std::str::from_utf8(bytes).context("line protocol is UTF-8")?;
    parse_lines(text)
        .map(|line| {
            let line = line.with_context(|| format!("among the lines\n{text}"))?;
            let tags = line.series.tag_set.iter().flatten();
            let fields = line.field_set.iter();
            let keys = tags.clone().count() + fields.len();
            let read = Line {
                table: line.series.measurement.to_string(),
                tags: tags.map(|(k, v)| (k.to_string(), v.to_string())).collect(),
                fields: fields.map(|(k, v)| (k.to_string(), value(v))).collect(),
                time_ns: line.timestamp.with_context(|| format!("no time: {line}"))?,
            };
            ensure!(keys == read.tags.len() + read.fields.len(), "a key is there twice: {line}");
            Ok(read)
        })
        .collect()
}

fn value(value: &FieldValue<'_>) -> Value {
    match value {
        FieldValue::I64(v) => Value::I64(*v),
        FieldValue::U64(v) => Value::U64(*v),
        FieldValue::F64(v) => Value::F64(*v),
        FieldValue::String(v) => Value::Text(v.to_string()),
        FieldValue::Boolean(v) => Value::Bool(*v),
    }
}
