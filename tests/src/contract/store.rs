//! Points, as a database keeps them: one per table, tags and time; the type of a field is what came first.

use collector::read::{Line, Value};
use influxdb_line_protocol::{FieldValue, ParsedLine};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// A key that many points share.
type Key = Arc<str>;
type Tags = BTreeMap<String, String>;
type Points = BTreeMap<i64, Vec<(Key, Value)>>;

/// All points.
#[derive(Clone, Default)]
pub struct Store {
    tables: HashMap<String, Table>,
}

#[derive(Clone, Default)]
struct Table {
    types: HashMap<Key, Type>,
    series: HashMap<Tags, Points>,
}

/// A field's type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    Integer,
    Unsigned,
    Float,
    String,
    Boolean,
}

impl Type {
    /// InfluxDB's word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Integer => "integer",
            Self::Unsigned => "unsigned",
            Self::Float => "float",
            Self::String => "string",
            Self::Boolean => "boolean",
        }
    }
}

/// A field that has another type already.
#[derive(Debug)]
pub struct Conflict {
    pub field: String,
    pub got: Type,
    pub has: Type,
}

impl Store {
    /// Writes a point, over one of the same table, tags and time: fields that it has not stay.
    pub fn write(&mut self, line: &ParsedLine<'_>, time_ns: i64) -> Result<(), Conflict> {
        let table = self.tables.entry(line.series.measurement.to_string()).or_default();
        let mut fields = Vec::with_capacity(line.field_set.len());
        for (key, value) in &line.field_set {
            let (kind, value) = typed(value);
            let (key, has) = match table.types.get_key_value(key.as_str()) {
                Some((key, has)) => (Arc::clone(key), *has),
                None => (Key::from(key.as_str()), kind),
            };
            if has != kind {
                return Err(Conflict { field: key.to_string(), got: kind, has });
            }
            fields.push((key, value));
        }
        table.types.extend(fields.iter().map(|(key, value)| (Arc::clone(key), type_of(value))));
        let tags: Tags = tags(line).collect();
        let point = table.series.entry(tags).or_default().entry(time_ns).or_default();
        point.retain(|(key, _)| !fields.iter().any(|(new, _)| new == key));
        point.extend(fields);
        Ok(())
    }

    /// How many there are.
    pub fn points(&self) -> usize {
        let series = self.tables.values().flat_map(|table| table.series.values());
        series.map(BTreeMap::len).sum()
    }

    /// How many of a table there are.
    pub fn count(&self, table: &str) -> usize {
        self.tables.get(table).map_or(0, |table| table.series.values().map(BTreeMap::len).sum())
    }

    pub fn lines(&self, table: &str) -> Vec<Line> {
        let mut lines = Vec::new();
        for (tags, points) in self.tables.get(table).iter().flat_map(|table| &table.series) {
            lines.extend(points.iter().map(|(time_ns, fields)| Line {
                table: table.to_owned(),
                tags: tags.clone(),
                fields: fields.iter().map(|(k, v)| (k.to_string(), v.clone())).collect(),
                time_ns: *time_ns,
            }));
        }
        lines
    }

    pub fn numbers(&self, table: &str, field: &str) -> Vec<i64> {
        let series = self.tables.get(table).into_iter().flat_map(|table| table.series.values());
        let fields = series.flat_map(BTreeMap::values).flatten().filter(|(key, _)| &**key == field);
        let number = |value: &Value| match value {
            Value::I64(n) => *n,
            Value::U64(n) => i64::try_from(*n).expect("a number of the tests' size"),
            other => panic!("{table}.{field} is {other:?}"),
        };
        let mut numbers: Vec<i64> = fields.map(|(_, value)| number(value)).collect();
        numbers.sort_unstable();
        numbers
    }
}

fn tags(line: &ParsedLine<'_>) -> impl Iterator<Item = (String, String)> {
    let tags = line.series.tag_set.iter().flatten();
    tags.map(|(key, value)| (key.to_string(), value.to_string()))
}

fn typed(value: &FieldValue<'_>) -> (Type, Value) {
    let value = match value {
        FieldValue::I64(v) => Value::I64(*v),
        FieldValue::U64(v) => Value::U64(*v),
        FieldValue::F64(v) => Value::F64(*v),
        FieldValue::String(v) => Value::Text(v.to_string()),
        FieldValue::Boolean(v) => Value::Bool(*v),
    };
    (type_of(&value), value)
}

fn type_of(value: &Value) -> Type {
    match value {
        Value::I64(_) => Type::Integer,
        Value::U64(_) => Type::Unsigned,
        Value::F64(_) => Type::Float,
        Value::Text(_) => Type::String,
        Value::Bool(_) => Type::Boolean,
    }
}
