//! `collector describe NAME`: what a plugin says of itself.

use super::grid;
use crate::cli::Settings;
use crate::folder;
use crate::stdout::print;
use anyhow::Result;
use plugin_api::Kind;
use plugin_api::describe::{Description, Field};
use plugin_api::histogram::wire_names;
use std::fmt::Write as _;

/// Shows a plugin's options, and the tables that it fills with the names that lines have.
///
/// # Errors
/// There is no such plugin.
pub fn describe(settings: &Settings, name: &str, json: bool) -> Result<u8> {
    let plugin = folder::one(folder::open(settings)?, name)?;
    print(&if json { format!("{}\n", plugin.json) } else { described(&plugin.description) });
    Ok(0)
}

fn described(plugin: &Description) -> String {
    let Description { name, version, text, tables, options, capabilities } = plugin;
    let mut out = format!("{name} {version}: {text}\n");
    if !capabilities.is_empty() {
        let _ = writeln!(out, "\nasks for {}", capabilities.join(", "));
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
