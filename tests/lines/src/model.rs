//! What must come of a case: the documented normal form and the documented refusals, written a second
//! time and in other words than the encoder's.

use crate::{Case, Cell, Row};
use line_encoder::encode::{MAX_KEY, MAX_TAG, MAX_TAG_KEY, MAX_TAGS, MAX_TEXT, Refused};
use line_encoder::read::{Line, Value};
use plugin_api::abi::TICK_TIME;
use std::collections::BTreeMap;

/// A table that is taken, its names as a reader finds them.
#[derive(Debug)]
pub struct Model<'a> {
    case: &'a Case,
    table: String,
    tags: Vec<String>,
    fields: Vec<String>,
    /// Configured tags that the table leaves room for.
    configured: BTreeMap<String, String>,
}

impl<'a> Model<'a> {
    /// `None` for a table that must be refused.
    #[must_use]
    pub fn of(case: &'a Case) -> Option<Self> {
        let tags: Vec<String> = case.tags.iter().map(|tag| name(tag, Place::Tag)).collect();
        let fields: Vec<String> =
            case.fields.iter().map(|field| name(field, Place::Field)).collect();
        let mut configured = BTreeMap::new();
        for (key, value) in &case.configured {
            let key = name(key, Place::Tag);
            if !value.is_empty() && !tags.contains(&key) && !fields.contains(&key) {
                configured.insert(key, name(value, Place::Tag));
            }
        }
        let model = Self { case, table: name(&case.table, Place::Table), tags, fields, configured };
        model.can_be_stored().then_some(model)
    }

    fn can_be_stored(&self) -> bool {
        let own: Vec<&String> = self.tags.iter().chain(&self.fields).collect();
        let all_different = own.iter().enumerate().all(|(i, key)| !own[..i].contains(key));
        let configured = self.configured.iter();
        let mut tags = self.tags.iter().chain(configured.clone().map(|(key, _)| key));
        let mut given =
            [&self.case.table].into_iter().chain(&self.case.tags).chain(&self.case.fields);
        let begins_well = |name: &String| !name.is_empty() && !name.starts_with('#');
        let taken = ["time", "_field", "_measurement", "__name__", "interval_ns"];
        let longest = self.fields.iter().map(String::len).max().max(Some("interval_ns".len()));
        given.all(begins_well)
            && !self.fields.is_empty()
            && all_different
            && !own.iter().any(|key| taken.contains(&key.as_str()))
            && self.tags.len() + self.configured.len() <= MAX_TAGS
            && self.table.len() + "_".len() + longest.unwrap_or_default() <= MAX_TAG
            && tags.all(|key| key.len() <= MAX_TAG_KEY)
            && configured.map(|(_, value)| value.len()).all(|length| length <= MAX_TAG)
    }

    /// Why a row must be refused; empty when it must become a line.
    #[must_use]
    pub fn refusals(&self, row: &Row) -> Vec<Refused> {
        if row.tags.len() != self.tags.len() || row.cells.len() != self.fields.len() {
            return vec![Refused::Shape];
        }
        let line = self.line(row);
        let long = |cell: &Cell| matches!(cell, Cell::Text(text) if text.len() > MAX_TEXT);
        let no_field = row.cells.iter().all(|cell| value(cell, self.case.uint).is_none());
        [
            (line.time_ns <= 0 || line.time_ns == i64::MAX, Refused::Time),
            (no_field, Refused::NoField),
            (row.cells.iter().any(long), Refused::LongText),
            (row.tags.iter().any(|tag| tag.len() > MAX_TAG), Refused::LongTags),
            (self.key_length(&line) > MAX_KEY, Refused::LongTags),
        ]
        .into_iter()
        .filter_map(|(is, why)| is.then_some(why))
        .collect()
    }

    /// Bytes of the measurement, the tags and the longest field's key on the wire.
    fn key_length(&self, line: &Line) -> usize {
        let escaped = |text: &str, special: &[char]| text.len() + text.matches(special).count();
        let tag = |text: &str| escaped(text, &[',', ' ', '=']);
        let tags = line.tags.iter().map(|(key, value)| 2 + tag(key) + tag(value));
        let field = self.fields.iter().map(|key| tag(key)).max().unwrap_or_default();
        escaped(&line.table, &[',', ' ']) + tags.sum::<usize>() + field.max("interval_ns".len())
    }

    /// What a reader must find.
    #[must_use]
    pub fn line(&self, row: &Row) -> Line {
        let mut tags = self.configured.clone();
        let values = row.tags.iter().map(|value| name(value, Place::Tag));
        tags.extend(self.tags.iter().cloned().zip(values).filter(|(_, value)| !value.is_empty()));
        let values = row.cells.iter().map(|cell| value(cell, self.case.uint));
        let mut fields: BTreeMap<String, Value> = self
            .fields
            .iter()
            .zip(values)
            .filter_map(|(key, value)| Some((key.clone(), value?)))
            .collect();
        let mut time_ns = row.time_ns;
        if time_ns == TICK_TIME {
            let covered = self.case.tick.elapsed_ns.min(i64::MAX as u64) as i64;
            fields.insert("interval_ns".to_owned(), Value::I64(covered));
            time_ns = self.case.tick.time_ns;
        }
        Line { table: self.table.clone(), tags, fields, time_ns }
    }
}

/// Where a name stands.
#[derive(Clone, Copy, PartialEq)]
enum Place {
    Table,
    /// A tag's key or value.
    Tag,
    Field,
}

/// What a name or a tag's value reads back as.
fn name(text: &str, place: Place) -> String {
    let chars: Vec<char> = text.chars().collect();
    let normal = (0..chars.len()).map(|at| match chars[at..] {
        ['\\'] | ['\\', '\\' | ',' | '=' | ' ', ..] => '_',
        ['\\', '"', ..] if place == Place::Table => '_',
        ['#', '!', '~'] | ['#', '!', '~', '#', ..] => '_',
        ['"', ..] if place == Place::Field => '_',
        ['\0'..='\x1f' | '\x7f', ..] => '_',
        _ => chars[at],
    });
    normal.collect()
}

/// What a field reads back as; `None` when it is left out.
fn value(cell: &Cell, uint: bool) -> Option<Value> {
    Some(match cell {
        Cell::None => return None,
        Cell::F64(v) => Value::F64(Some(*v).filter(|v| v.is_finite())?),
        Cell::I64(v) => Value::I64(*v),
        Cell::U64(v) if uint => Value::U64(*v),
        Cell::U64(v) => Value::I64((*v).min(i64::MAX as u64) as i64),
        Cell::Bool(v) => Value::Bool(*v),
        Cell::Text(v) => {
            let text = v.replace('\n', "\\n").replace('\r', "\\r").replace('\t', "\\t");
            Value::Text(text.replace(|c| matches!(c, '\0'..='\x1f' | '\x7f'), "_"))
        }
    })
}
