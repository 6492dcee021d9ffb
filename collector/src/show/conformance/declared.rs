//! What a plugin says of itself, held against good practice and against the lines that come.

use crate::encode::INTERVAL_FIELD;
use crate::read::{Line, Value};
use crate::sink::is_report;
use plugin_api::Kind;
use plugin_api::describe::{Description, Field, Table};
use plugin_api::histogram::wire_names;
use std::collections::{BTreeMap, BTreeSet};

/// The first name that is there a second time.
fn twice<'a>(mut names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let mut seen = BTreeSet::new();
    names.find(|name| !seen.insert(*name))
}

/// What is wrong with a description alone.
pub(super) fn faults(plugin: &Description) -> Vec<String> {
    let mut faults = Vec::new();
    let mut text = |what: String, text: &str| {
        if text.trim().is_empty() {
            faults.push(format!("{what} has no text"));
        }
    };
    text("the plugin".to_owned(), &plugin.text);
    for option in &plugin.options {
        text(format!("option `{}`", option.name), &option.text);
    }
    for Table { name: table, text: of_table, tags, fields } in &plugin.tables {
        text(format!("table `{table}`"), of_table);
        tags.iter().for_each(|tag| text(format!("tag `{table}.{}`", tag.name), &tag.text));
        fields
            .iter()
            .for_each(|field| text(format!("field `{table}.{}`", field.name), &field.text));
    }
    if let Some(table) = twice(plugin.tables.iter().map(|table| table.name.as_str())) {
        faults.push(format!("table `{table}` is there twice"));
    }
    for Table { name: table, tags, fields, .. } in &plugin.tables {
        if is_report(table) {
            faults.push(format!("table `{table}`: names that begin so are the collector's own"));
        }
        if fields.is_empty() {
            faults.push(format!("table `{table}` has no field"));
        }
        let tags = tags.iter().map(|tag| tag.name.as_str());
        if let Some(name) = twice(tags.chain(fields.iter().map(|field| field.name.as_str()))) {
            faults.push(format!("`{table}.{name}` is there twice"));
        }
        for Field { name, kind, unit, .. } in fields {
            if *kind != Kind::Histogram && !name.ends_with(unit.suffix()) {
                faults.push(format!("field `{table}.{name}` does not end in `{}`", unit.suffix()));
            }
        }
    }
    faults
}

/// How lines compare with what was declared.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Compared {
    /// Lines that are no reports.
    pub lines: usize,
    /// What no declaration has, each once.
    pub wrong: BTreeSet<String>,
    /// Tables without a line.
    pub unseen: Vec<String>,
}

/// Holds lines, made with `uint` and no tags of their own, against the tables that were declared.
pub(super) fn compare(tables: &[Table], lines: &[Line]) -> Compared {
    let fields: BTreeMap<&str, BTreeMap<String, Vec<Type>>> =
        tables.iter().map(|table| (table.name.as_str(), on_the_wire(table))).collect();
    let mut compared = Compared::default();
    let mut seen = BTreeSet::new();
    for line in lines.iter().filter(|line| !is_report(&line.table)) {
        compared.lines += 1;
        let name = &line.table;
        let Some(table) = tables.iter().find(|table| table.name == *name) else {
            compared.wrong.insert(format!("table `{name}` is not declared"));
            continue;
        };
        seen.insert(name.as_str());
        for tag in line.tags.keys() {
            if !table.tags.iter().any(|known| known.name == *tag) {
                compared.wrong.insert(format!("tag `{name}.{tag}` is not declared"));
            }
        }
        for (field, value) in &line.fields {
            match fields[name.as_str()].get(field) {
                _ if field == INTERVAL_FIELD => {}
                None => {
                    _ = compared.wrong.insert(format!("field `{name}.{field}` is not declared"))
                }
                Some(types) if types.contains(&Type::of(value)) => {}
                Some(types) => {
                    let (is, declared) = (Type::of(value).word(), types[0].word());
                    let text = format!("field `{name}.{field}` is {is}, declared is {declared}");
                    compared.wrong.insert(text);
                }
            }
        }
    }
    let unseen = tables.iter().filter(|table| !seen.contains(table.name.as_str()));
    compared.unseen = unseen.map(|table| table.name.clone()).collect();
    compared
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Type {
    Unsigned,
    Signed,
    Float,
    Bool,
    Text,
}

impl Type {
    fn of(value: &Value) -> Self {
        match value {
            Value::U64(_) => Self::Unsigned,
            Value::I64(_) => Self::Signed,
            Value::F64(_) => Self::Float,
            Value::Bool(_) => Self::Bool,
            Value::Text(_) => Self::Text,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Unsigned => "a count",
            Self::Signed => "a whole number with a sign",
            Self::Float => "a float",
            Self::Bool => "true or false",
            Self::Text => "a text",
        }
    }
}

/// The fields of a table as lines have them.
fn on_the_wire(table: &Table) -> BTreeMap<String, Vec<Type>> {
    let one = |field: &Field, types: Vec<Type>| vec![(field.name.clone(), types)];
    let fields = table.fields.iter().flat_map(|field| match field.kind {
        Kind::Counter => one(field, vec![Type::Unsigned]),
        Kind::Gauge => one(field, vec![Type::Signed]),
        Kind::Float => one(field, vec![Type::Float]),
        Kind::Flag => one(field, vec![Type::Bool]),
        Kind::Text => one(field, vec![Type::Text]),
        Kind::Histogram => {
            let names = wire_names(field.unit.suffix());
            names.into_iter().map(|name| (name, vec![Type::Unsigned, Type::Signed])).collect()
        }
    });
    fields.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::read::read;

    fn plugin() -> Description {
        let field = |name: &str, kind: &str, unit: &str| {
            format!(r#"{{"name":"{name}","text":"t","kind":"{kind}","unit":"{unit}"}}"#)
        };
        let fields = [field("n", "counter", "none"), field("age_us", "gauge", "us")].join(",");
        let wait = field("wait", "histogram", "us");
        let json = format!(
            r#"{{"name":"p","version":"1","text":"t","options":[],"tables":[
                {{"name":"a","text":"t","tags":[{{"name":"cpu","text":"t"}}],"fields":[{fields}]}},
                {{"name":"b","text":"t","tags":[],"fields":[{wait}]}}]}}"#
        );
        Description::from_json(&json).unwrap()
    }

    fn compared(lines: &str) -> Compared {
        compare(&plugin().tables, &read(lines.as_bytes()).unwrap())
    }

    #[test]
    fn lines_as_declared_are_right() {
        let lines = "a,cpu=1 n=1u,age_us=-2i,interval_ns=5i 1\na n=0u 1\n\
                     b count=1u,sum_us=2u,max_us=2u,p50_us=2u,bucket_2_4=1u 1\n\
                     collector_program,program=x state=\"attached\" 1\n";
        let right = compared(lines);
        assert_eq!(right, Compared { lines: 3, ..Compared::default() });
        assert_eq!(compared("b count=1u 1\n").unseen, ["a"]);
    }

    #[test]
    fn what_was_not_declared_is_named_once() {
        let lines = "a,cpu=1,disk=x n=1i,more=1u 1\na,disk=y n=2i 2\nc n=1u 1\n";
        let wrong: Vec<String> = compared(lines).wrong.into_iter().collect();
        let expected = [
            "field `a.more` is not declared",
            "field `a.n` is a whole number with a sign, declared is a count",
            "table `c` is not declared",
            "tag `a.disk` is not declared",
        ];
        assert_eq!(wrong, expected);
    }

    #[test]
    fn a_description_has_texts_and_units_and_each_name_once() {
        assert_eq!(faults(&plugin()), Vec::<String>::new());
        let mut bad = plugin();
        bad.text.clear();
        bad.tables[0].fields[1].name = "age".to_owned();
        bad.tables[0].tags[0].name = "n".to_owned();
        bad.tables[1].fields[0].text = " ".to_owned();
        bad.tables[1].name = "collector_b".to_owned();
        let expected = [
            "the plugin has no text",
            "field `collector_b.wait` has no text",
            "`a.n` is there twice",
            "field `a.age` does not end in `_us`",
            "table `collector_b`: names that begin so are the collector's own",
        ];
        assert_eq!(faults(&bad), expected);
    }
}
