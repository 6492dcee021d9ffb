//! DataFusion, which answers SQL in InfluxDB 3. The lines are laid into tables as InfluxDB 3 does it: tags are
//! dictionaries of texts, fields have the types of line protocol, `time` is a timestamp in nanoseconds. What is not here
//! is the server itself: how it stores, caches and sends.

use super::{said, script};
use crate::servers::executable;
use collector::read::{Line, Value};
use serde_json::{Map, Value as Json, json};
use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

/// What a query comes to.
#[derive(Clone, Debug)]
pub struct Answer {
    pub columns: Vec<String>,
    pub rows: Vec<Vec<Json>>,
}

impl Answer {
    /// The values of a column.
    ///
    /// # Panics
    /// There is no such column.
    #[must_use]
    pub fn column(&self, name: &str) -> Vec<&Json> {
        let at = self.columns.iter().position(|column| column == name);
        let at = at.unwrap_or_else(|| panic!("no column {name}: {:?}", self.columns));
        self.rows.iter().map(|row| &row[at]).collect()
    }
}

/// Answers queries from lines; an error is in the engine's words.
///
/// # Panics
/// The engine is missing.
#[must_use]
pub fn datafusion(lines: &[Line], queries: &[String]) -> Vec<Result<Answer, String>> {
    let mut by_table = BTreeMap::<&str, Vec<&Line>>::new();
    for line in lines {
        by_table.entry(&line.table).or_default().push(line);
    }
    let tables: Map<String, Json> =
        by_table.iter().map(|(name, lines)| ((*name).to_owned(), table(lines))).collect();
    let input = json!({"tables": tables, "queries": queries}).to_string();
    let python = executable("datafusion/bin/python");
    let answers = said(Command::new(python).arg(script("answer_sql.py")), input);
    let answers: Vec<Json> = serde_json::from_str(&answers).expect("a list of answers");
    assert_eq!(answers.len(), queries.len());
    let answer = |json: Json| match json["error"].as_str() {
        Some(error) => Err(error.to_owned()),
        None => Ok(Answer {
            columns: serde_json::from_value(json["columns"].clone()).expect("names"),
            rows: serde_json::from_value(json["rows"].clone()).expect("rows"),
        }),
    };
    answers.into_iter().map(answer).collect()
}

/// A table's columns.
fn table(lines: &[&Line]) -> Json {
    let tags: BTreeSet<&String> = lines.iter().flat_map(|line| line.tags.keys()).collect();
    let mut types = BTreeMap::<&String, &str>::new();
    for (name, value) in lines.iter().flat_map(|line| &line.fields) {
        let of = match value {
            Value::I64(_) => "i64",
            Value::U64(_) => "u64",
            Value::F64(_) => "f64",
            Value::Bool(_) => "bool",
            Value::Text(_) => "text",
        };
        let known = *types.entry(name).or_insert(of);
        assert_eq!(known, of, "{name} has two types, which no InfluxDB takes");
    }
    let value = |line: &Line, name: &str| match line.get(name) {
        Some(Value::I64(n)) => json!(n),
        Some(Value::U64(n)) => json!(n),
        Some(Value::F64(n)) => json!(n),
        Some(Value::Bool(is)) => json!(is),
        Some(Value::Text(text)) => json!(text),
        None => Json::Null,
    };
    let tag = |name: &String| lines.iter().map(|line| json!(line.tags.get(name))).collect::<Json>();
    let field = |name: &String| lines.iter().map(|line| value(line, name)).collect::<Json>();
    json!({
        "time": lines.iter().map(|line| line.time_ns).collect::<Vec<_>>(),
        "tags": tags.iter().map(|name| ((*name).clone(), tag(name))).collect::<Map<_, _>>(),
        "fields": types.iter().map(|(name, of)| {
            ((*name).clone(), json!({"type": of, "values": field(name)}))
        }).collect::<Map<_, _>>(),
    })
}
