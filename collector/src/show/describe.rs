//! `collector describe NAME`: what a plugin says of itself.

use super::grid;
use super::trial::trial;
use crate::capabilities;
use crate::elf::Abi;
use crate::encode::{INTERVAL_FIELD, Tags};
use crate::folder;
use crate::isolated::Isolation;
use crate::read::{Line, Value};
use crate::settings::Settings;
use crate::sink::is_report;
use crate::stdout::print;
use anyhow::{Result, anyhow};
use log::Level;
use plugin_api::describe::{Description, Field, Table, Tag};
use plugin_api::histogram::wire_names;
use plugin_api::{Kind, Unit};
use std::fmt::Write as _;
use std::time::Duration;

/// How long a C plugin runs until it is asked for lines.
const TRIAL: Duration = Duration::from_secs(1);

/// Shows a plugin's options, and the tables that it fills with the names that lines have. A C plugin says nothing of
/// itself: it is run, and its lines are looked at.
///
/// # Errors
/// There is no such plugin, or a C plugin fails.
pub fn describe(settings: &Settings, name: &str, json: bool) -> Result<u8> {
    let mut plugin = folder::one(settings, name)?;
    if plugin.abi() == Abi::C {
        capabilities::keep(folder::asked(settings, &[&plugin]), Level::Debug);
        let lines = trial(settings, &plugin, TRIAL, |_| {}).map_err(|why| {
            anyhow!("{name} is a C plugin, which is run to see its tables, and its {why}")
        })?;
        plugin.description.tables = seen(&lines, &settings.config.tags);
        plugin.json = serde_json::to_string(&plugin.description)?;
    }
    print(&if json {
        format!("{}\n", plugin.json)
    } else {
        described(&plugin.description, plugin.isolation())
    });
    Ok(0)
}

/// The tables that lines have, without the tags that all lines get.
fn seen(lines: &[Line], configured: &Tags) -> Vec<Table> {
    let mut tables: Vec<Table> = Vec::new();
    for line in lines.iter().filter(|line| !is_report(&line.table)) {
        let table = match tables.iter_mut().find(|table| table.name == line.table) {
            Some(table) => table,
            None => {
                let (name, text) = (line.table.clone(), "as seen in one call".to_owned());
                tables.push(Table { name, text, tags: Vec::new(), fields: Vec::new() });
                tables.last_mut().expect("it was pushed just now")
            }
        };
        for name in line.tags.keys().filter(|name| !configured.contains_key(*name)) {
            if !table.tags.iter().any(|tag| tag.name == *name) {
                table.tags.push(Tag { name: name.clone(), text: String::new() });
            }
        }
        for (name, value) in &line.fields {
            if *name != INTERVAL_FIELD && !table.fields.iter().any(|field| field.name == *name) {
                let kind = if matches!(value, Value::Text(_)) { Kind::Text } else { Kind::Float };
                let (name, text) = (name.clone(), String::new());
                table.fields.push(Field { name, text, kind, unit: Unit::None });
            }
        }
    }
    tables
}

fn described(plugin: &Description, isolation: Isolation) -> String {
    let Description { name, version, text, tables, options, capabilities } = plugin;
    let mut out = format!("{name} {version}: {text}\n");
    if isolation == Isolation::Process {
        let _ = writeln!(out, "\nruns in a process of its own");
    }
    if !capabilities.is_empty() {
        let _ = writeln!(out, "\nasks for {}", capabilities.join(", "));
    }
    for option in options.iter().filter(|option| !option.capabilities.is_empty()) {
        let needed = option.capabilities.join(", ");
        let _ = writeln!(out, "\nasks for {needed} where `{}` is set", option.name);
    }
    if options.is_empty() {
        let _ = writeln!(out, "\nno options of its own\n");
    } else {
        let _ = writeln!(out, "\noptions, in [plugin.{name}] with their defaults:");
        let rows: Vec<_> = options
            .iter()
            .map(|o| [format!("  {} = {}", o.name, o.default), o.kind.clone(), o.text.clone()])
            .collect();
        let _ = writeln!(out, "{}", grid::aligned(&rows, |_| false, None));
    }
    for table in tables {
        let _ = writeln!(out, "table {}: {}", table.name, table.text);
        let tags = table.tags.iter().map(|tag| {
            [format!("  {}", tag.name), "tag".to_owned(), String::new(), tag.text.clone()]
        });
        let fields = table.fields.iter().flat_map(rows);
        let rows: Vec<_> = tags.chain(fields).collect();
        let _ = writeln!(out, "{}", grid::aligned(&rows, |_| false, None));
    }
    out.truncate(out.trim_end().len());
    out + "\n"
}

/// A field as it is on the wire. A histogram is several fields there.
fn rows(field: &Field) -> Vec<[String; 4]> {
    let unit = field.unit.suffix().trim_start_matches('_');
    let row = |name: &str, kind: &str, unit: &str, text: &str| {
        [format!("  {name}"), kind.to_owned(), unit.to_owned(), text.to_owned()]
    };
    if field.kind != Kind::Histogram {
        let kind = format!("{:?}", field.kind).to_lowercase();
        return vec![row(&field.name, &kind, unit, &field.text)];
    }
    let names = wire_names(field.unit.suffix());
    let [count, sum, max, p50, p90, p99, first, second, ..] = &names[..] else {
        unreachable!("a histogram has 6 fields and 64 buckets");
    };
    let kind = "histogram";
    vec![
        row(count, kind, "", &field.text),
        row(sum, kind, unit, "Sum of the values."),
        row(max, kind, unit, "Largest value."),
        row(p50, kind, unit, "Half of the values are at most this; within 12.5 %."),
        row(p90, kind, unit, "90 % of the values are at most this."),
        row(p99, kind, unit, "99 % of the values are at most this."),
        row(
            &format!("{first}, {second} .."),
            kind,
            "",
            "Values from 0 and below 2, from 2 and below 4 and so on.",
        ),
    ]
}
