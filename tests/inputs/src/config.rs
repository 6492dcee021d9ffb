//! A configuration's text.

use crate::{below, byte, some};
use arbitrary::Unstructured;
use collector::config::{Config, SHORTEST_INTERVAL};

/// The file with every key.
const EXAMPLE: &str = include_str!("../../../etc/collector.toml");

/// What may stand for a value, or between two.
const WORDS: [&str; 24] = [
    "=",
    "\"",
    "[",
    "]",
    "{ ",
    " }",
    "[[output]]\n",
    "[plugin.x]\n",
    "kind = \"",
    "\n",
    "1",
    "-1",
    "9223372036854775808",
    "1e400",
    "nan",
    "true",
    "\"10s\"",
    "\"\"",
    "\\u0000",
    "'",
    "\u{feff}",
    "http://u:p@h:1/",
    "# ",
    "1979-05-27T07:32:00Z",
];

/// A line of the file with what is commented out there, but not what is said about it.
fn uncommented(line: &str) -> &str {
    match line.strip_prefix('#') {
        Some(key) if !key.starts_with(' ') => key,
        _ => line,
    }
}

fn text(bytes: &mut Unstructured<'_>) -> String {
    if byte(bytes) < 160 { sound(bytes) } else { wild(bytes) }
}

/// Some sections of that file, perhaps without a line here and there, and with a few changes.
fn sound(bytes: &mut Unstructured<'_>) -> String {
    let mut text = String::new();
    for section in EXAMPLE.split("\n\n") {
        if byte(bytes) >= 64 {
            continue;
        }
        for line in section.lines() {
            if byte(bytes) < 250 {
                text += uncommented(line);
                text.push('\n');
            }
        }
    }
    for _ in 0..below(bytes, 8).saturating_sub(5) {
        let at = text.floor_char_boundary(below(bytes, text.len() + 1));
        let word = WORDS[below(bytes, WORDS.len())];
        match byte(bytes) % 2 {
            0 => text.insert_str(at, word),
            _ => text
                .replace_range(at..text.ceil_char_boundary(text.len().min(at + word.len())), word),
        }
    }
    text
}

/// Lines of it in any order, and other texts between them.
fn wild(bytes: &mut Unstructured<'_>) -> String {
    let lines: Vec<&str> = EXAMPLE.lines().map(uncommented).collect();
    let mut text = String::new();
    while !bytes.is_empty() && text.len() < 1 << 16 {
        match byte(bytes) {
            ..128 => {
                text += lines[below(bytes, lines.len())];
                text.push('\n');
            }
            128..192 => text += WORDS[below(bytes, WORDS.len())],
            192..224 => text += &String::from_utf8_lossy(&some(bytes, 16)),
            // A line that is cut somewhere.
            224.. => {
                let line = lines[below(bytes, lines.len())];
                text += &line[..line.floor_char_boundary(below(bytes, line.len() + 1))];
            }
        }
    }
    text
}

/// It is a configuration, the same each time (true); or each thing that is wrong has its place in the file.
///
/// # Panics
/// Neither is so.
pub fn config(bytes: &[u8]) -> bool {
    let text = text(&mut Unstructured::new(bytes));
    let read = Config::parse("c.toml", &text);
    assert_eq!(read, Config::parse("c.toml", &text), "{text}");
    match &read {
        Ok(config) => {
            assert!(config.interval >= SHORTEST_INTERVAL, "{text}");
            let intervals = config.sections.values().filter_map(|section| section.interval);
            assert!(intervals.into_iter().all(|it| it >= SHORTEST_INTERVAL), "{text}");
            config.outputs.iter().for_each(|output| drop(output.target.to_string()));
        }
        Err(why) => {
            let place = why.strip_prefix("c.toml:").and_then(|rest| rest.split_once(": "));
            let (place, why) = place.unwrap_or_else(|| panic!("{why}\n{text}"));
            let numbers =
                place.split(':').filter(|number| number.parse::<usize>().is_ok_and(|n| n > 0));
            assert!(numbers.count() == 2 && !why.is_empty(), "{place} {why}\n{text}");
        }
    }
    read.is_ok()
}
