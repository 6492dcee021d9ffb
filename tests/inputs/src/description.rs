//! A plugin's description of itself, in JSON.

use crate::{below, byte, some};
use arbitrary::Unstructured;
use collector::config::options::{GivenOption, to_json};
use collector::encode::{Schema, Tags};
use collector::encoder::{Encoder, Room};
use collector::form::Form;
use collector::read::read;
use plugin_api::abi::{TICK_TIME, Val};
use plugin_api::abi_stable::std_types::RStr;
use plugin_api::describe::{Description, Field};
use plugin_api::histogram::wire_names;
use plugin_api::{Kind, Tick};
use std::fmt::Write as _;
use std::time::Instant;

const NAMES: [&str; 16] = [
    "runqlat",
    "count",
    "time",
    "host",
    "collector_plugin",
    "",
    " ",
    "a b",
    "a,b=c",
    "\\",
    "#!~#",
    "wait",
    "wait_us",
    "interval_ns",
    "bucket_2_4",
    "é",
];
const KINDS: [&str; 7] = ["counter", "gauge", "float", "flag", "text", "histogram", "other"];
const UNITS: [&str; 7] = ["none", "ns", "us", "ms", "s", "bytes", "other"];
const VALUES: [&str; 10] =
    ["null", "true", "1", "-1", "1.5", "1e999", "\"\"", "[]", "[1]", "{\"a\":[{}]}"];

/// A name, in quotes; most often one of its own.
fn name(bytes: &mut Unstructured<'_>, number: usize) -> String {
    let text = match byte(bytes) {
        ..192 => format!("n{number}"),
        192..248 => NAMES[below(bytes, NAMES.len())].to_owned(),
        _ => String::from_utf8_lossy(&some(bytes, 40)).into_owned(),
    };
    let mut json = String::from('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => json.extend(['\\', c]),
            c if c.is_control() => _ = write!(json, "\\u{:04x}", u32::from(c)),
            c => json.push(c),
        }
    }
    json.push('"');
    json
}

fn list(
    bytes: &mut Unstructured<'_>,
    most: usize,
    one: impl Fn(&mut Unstructured<'_>, usize) -> String,
) -> String {
    let count = below(bytes, most + 1);
    let all: Vec<String> = (0..count).map(|number| one(bytes, number)).collect();
    format!("[{}]", all.join(","))
}

/// One of the words, most often no other than the first ones.
fn word(bytes: &mut Unstructured<'_>, words: &[&'static str]) -> &'static str {
    let all = words.len() - usize::from(byte(bytes) < 250);
    words[below(bytes, all)]
}

fn json(bytes: &mut Unstructured<'_>) -> String {
    let tag = |bytes: &mut Unstructured<'_>, number| {
        let (name, text) = (name(bytes, number), name(bytes, number));
        format!(r#"{{"name":{name},"text":{text}}}"#)
    };
    let field = |bytes: &mut Unstructured<'_>, number| {
        let (name, text) = (name(bytes, 100 + number), name(bytes, number));
        let (kind, unit) = (word(bytes, &KINDS), word(bytes, &UNITS));
        format!(r#"{{"name":{name},"text":{text},"kind":"{kind}","unit":"{unit}"}}"#)
    };
    let table = |bytes: &mut Unstructured<'_>, number| {
        let (name, text) = (name(bytes, number), name(bytes, number));
        let (tags, fields) = (list(bytes, 6, tag), list(bytes, 6, field));
        format!(r#"{{"name":{name},"text":{text},"tags":{tags},"fields":{fields}}}"#)
    };
    let option = |bytes: &mut Unstructured<'_>, number| {
        let (name, text) = (name(bytes, number), name(bytes, number));
        let default = VALUES[below(bytes, VALUES.len())];
        format!(r#"{{"name":{name},"text":{text},"kind":"whole number","default":{default}}}"#)
    };
    let (name, text) = (name(bytes, 0), name(bytes, 0));
    let (tables, options) = (list(bytes, 3, table), list(bytes, 3, option));
    let json = format!(
        r#"{{"name":{name},"version":"1","text":{text},"tables":{tables},"options":{options}}}"#
    );
    match byte(bytes) {
        ..224 => json,
        224..240 => json[..json.floor_char_boundary(below(bytes, json.len() + 1))].to_owned(),
        240.. => String::from_utf8_lossy(&some(bytes, 4096)).into_owned(),
    }
}

/// It is a description or none; what it declares is a table that takes rows, whose lines can be read, or is refused.
/// Whether there were lines.
///
/// # Panics
/// That is not so.
pub fn description(bytes: &[u8]) -> bool {
    let mut bytes = Unstructured::new(bytes);
    let json = json(&mut bytes);
    let Ok(plugin) = Description::from_json(&json) else { return false };
    for option in &plugin.options {
        let value = option.default.clone();
        let given =
            GivenOption { name: option.name.clone(), value, place: "c.toml:1:1".to_owned() };
        // Of two options of one name the first one counts.
        let _ = to_json(&[given], &plugin);
        drop(option.expected());
    }
    let lines = rows(&plugin, byte(&mut bytes) < 128);
    if let Err(why) = read(&lines) {
        // A field of a table is there twice: the last one counts, for every database.
        assert!(format!("{why:#}").contains("a key is there twice"), "{why:#}\n{json}");
    }
    !lines.is_empty()
}

/// A row of each table, as the plugin would push it.
fn rows(plugin: &Description, uint: bool) -> Vec<u8> {
    let mut encoder = Encoder::new(&[Form::default()]);
    let tick = Tick { seq: 0, time_ns: 1_700_000_000_000_000_000, elapsed_ns: 1_000_000_000 };
    encoder.begin(tick, Instant::now());
    let configured: Tags = [("host".to_owned(), "a b".to_owned())].into();
    for table in &plugin.tables {
        let tags: Vec<&str> = table.tags.iter().map(|tag| tag.name.as_str()).collect();
        let (mut names, mut values) = (Vec::new(), Vec::new());
        for Field { name, kind, unit, .. } in &table.fields {
            let value = match kind {
                Kind::Counter | Kind::Histogram => Val::U64(1),
                Kind::Gauge => Val::I64(-1),
                Kind::Float => Val::F64(0.5),
                Kind::Flag => Val::Bool(true),
                Kind::Text => Val::Str(RStr::from_str("a\nb")),
            };
            match kind {
                Kind::Histogram => names.extend(wire_names(unit.suffix())),
                _ => names.push(name.clone()),
            }
            values.resize(names.len(), value);
        }
        let fields: Vec<&str> = names.iter().map(String::as_str).collect();
        let Ok(schema) = Schema::described(table, &tags, &fields, &configured, uint) else {
            continue;
        };
        let schema = encoder.add(&table.name, schema);
        let values_of_tags: Vec<RStr<'_>> = tags.iter().map(|tag| RStr::from_str(tag)).collect();
        // A second row of the same series is refused, as is one that no database could store.
        let _ = encoder.push(schema, &values_of_tags, &values, TICK_TIME, 1_000_000_000, Room::ANY);
    }
    let pages = encoder.take().into_iter().map(|page| {
        let ends = page.bytes.iter().filter(|byte| **byte == b'\n').count();
        assert_eq!(ends as u64, page.lines);
        page.bytes
    });
    pages.collect::<Vec<_>>().concat()
}
