//! What tables and fields mean, for outputs whose receivers want to know: the descriptions of all plugins that this
//! process has loaded, and of its own tables.
//!
//! One collection for the process. Lines may come out of a spool long after their plugin has gone, and plugins come
//! while outputs run. Lines say themselves what counts ([`Buckets::Typed`](crate::form::Buckets::Typed)); without a
//! description they lack a help text and a unit, nothing else.

use plugin_api::Unit;
use plugin_api::describe::{Field, Table};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{LazyLock, PoisonError, RwLock};

static KNOWN: LazyLock<RwLock<HashMap<String, Table>>> = LazyLock::new(RwLock::default);

/// Counts the changes.
static EDITION: AtomicU64 = AtomicU64::new(0);

/// What is known of a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meaning {
    /// What it says.
    pub text: String,
    /// What it counts.
    pub unit: Unit,
}

/// Takes in what a plugin, or the collector itself, says of its tables.
pub fn learn(tables: &[Table]) {
    let mut known = KNOWN.write().unwrap_or_else(PoisonError::into_inner);
    for table in tables {
        let before = known.insert(table.name.clone(), table.clone());
        let said = |table: &Table| serde_json::to_string(table).unwrap_or_default();
        if before.is_none_or(|before| said(&before) != said(table)) {
            EDITION.fetch_add(1, Ordering::Release);
        }
    }
}

/// Another number as soon as a field may have another meaning than before.
pub fn edition() -> u64 {
    EDITION.load(Ordering::Acquire)
}

/// Whether a table was described.
pub fn is_known(table: &str) -> bool {
    KNOWN.read().unwrap_or_else(PoisonError::into_inner).contains_key(table)
}

/// A table's description.
pub fn table(name: &str) -> Option<Table> {
    KNOWN.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
}

/// What a field of a line means, if that was described.
pub fn meaning(table: &str, field: &str) -> Option<Meaning> {
    let known = KNOWN.read().unwrap_or_else(PoisonError::into_inner);
    let fields = &known.get(table)?.fields;
    if let Some(found) = fields.iter().find(|known| known.name == field) {
        return Some(Meaning { text: found.text.clone(), unit: found.unit });
    }
    let histogram = fields.iter().find(|field| field.kind == plugin_api::Kind::Histogram)?;
    of_histogram(histogram, field)
}

/// What a histogram's fields mean: its own name stands in no line.
fn of_histogram(histogram: &Field, field: &str) -> Option<Meaning> {
    let text = &histogram.text;
    if field == "count" {
        return Some(Meaning { text: text.clone(), unit: Unit::None });
    }
    let text = match field.strip_suffix(histogram.unit.suffix())? {
        "sum" => text.clone(),
        "max" => format!("The largest value of an interval: {text}"),
        "p50" => format!("The median of an interval: {text}"),
        "p90" => format!("The 90th percentile of an interval: {text}"),
        "p99" => format!("The 99th percentile of an interval: {text}"),
        _ => return None,
    };
    Some(Meaning { text, unit: histogram.unit })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn fields_have_the_meaning_that_their_plugin_gives_them() {
        assert_eq!(meaning("described_waits", "count"), None);
        let before = edition();
        let table = json!({"name": "described_waits", "text": "", "tags": [], "fields": [
            {"name": "wait", "text": "How long.", "kind": "histogram", "unit": "us"},
            {"name": "lost_bytes", "text": "Lost.", "kind": "counter", "unit": "bytes"},
        ]});
        learn(&[serde_json::from_value(table).unwrap()]);
        assert_ne!(edition(), before);
        for (field, expected) in [
            ("lost_bytes", Some(("Lost.", Unit::Bytes))),
            ("count", Some(("How long.", Unit::None))),
            ("sum_us", Some(("How long.", Unit::Us))),
            ("max_us", Some(("The largest value of an interval: How long.", Unit::Us))),
            ("max_ns", None),
            ("other_us", None),
        ] {
            let found = meaning("described_waits", field);
            let expected = expected.map(|(text, unit)| Meaning { text: text.to_owned(), unit });
            assert_eq!(found, expected, "{field}");
        }
        assert!(is_known("described_waits") && !is_known("nobody's"));
    }
}
