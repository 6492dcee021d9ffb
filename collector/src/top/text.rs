//! Texts as they stand on a terminal: without control characters, in columns of its cells, in ASCII but for names.

use crate::duration::short;
use ratatui::text::Span;
use serde_json::Value as Json;
use std::time::{Duration, UNIX_EPOCH};

/// A text of others, which must not say anything to the terminal: control characters, and those that change the
/// direction of what follows, become `?`.
pub fn clean(text: &str) -> String {
    let acts = |c: char| {
        c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
    };
    text.chars().map(|c| if acts(c) { '?' } else { c }).collect()
}

/// How many cells it takes.
pub fn width(text: &str) -> usize {
    Span::raw(text).width()
}

/// At most so many cells of it; `~` says that there is more.
pub fn cut(text: &str, most: usize) -> String {
    if width(text) <= most {
        return text.to_owned();
    }
    let mut kept = String::new();
    let mut used = 0;
    for c in text.chars() {
        let mut one = [0; 4];
        let cells = width(c.encode_utf8(&mut one));
        if used + cells + 1 > most {
            break;
        }
        used += cells;
        kept.push(c);
    }
    if most > 0 {
        kept.push('~');
    }
    kept
}

/// Just so many cells.
pub fn pad(text: &str, cells: usize, right: bool) -> String {
    let text = cut(text, cells);
    let space = " ".repeat(cells.saturating_sub(width(&text)));
    if right { space + &text } else { text + &space }
}

/// A number as the line has it.
pub fn number(value: &Json) -> String {
    match value {
        Json::Number(n) if n.is_f64() => n.as_f64().map_or(String::new(), |n| format!("{n:.3}")),
        Json::Number(n) => n.to_string(),
        Json::Null => String::new(),
        other => clean(&other.to_string()),
    }
}

/// `4096`, `12.3K`, `1.2M`.
pub fn bytes(n: i64) -> String {
    let mut value = n as f64;
    for unit in ["", "K", "M", "G", "T"] {
        if value.abs() < 1024.0 || unit == "T" {
            return if unit.is_empty() { n.to_string() } else { format!("{value:.1}{unit}") };
        }
        value /= 1024.0;
    }
    n.to_string()
}

/// A share of a CPU.
pub fn percent(share: f64) -> String {
    format!("{:.2}", share * 100.0)
}

/// A time of the day, UTC.
pub fn clock(time_ns: i64) -> String {
    let whole = whole_time(time_ns, false);
    whole.get(11..19).unwrap_or(&whole).to_owned()
}

/// A time with its day, UTC; `exact` has its milliseconds.
pub fn whole_time(time_ns: i64, exact: bool) -> String {
    // Later than any that can be written there is none: 2^63 ns end in 2262.
    let time = UNIX_EPOCH + Duration::from_nanos(time_ns.max(0).unsigned_abs());
    match exact {
        true => humantime::format_rfc3339_millis(time).to_string(),
        false => humantime::format_rfc3339_seconds(time).to_string(),
    }
}

/// A length of time in nanoseconds.
pub fn duration(ns: u64) -> String {
    short(Duration::from_nanos(ns))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_others_say_does_nothing_to_the_terminal() {
        let text = "a\x1b[2Jb\u{9b}31m\r\nc\u{202e}d\u{200b}\x07größe 日本";
        assert_eq!(clean(text), "a?[2Jb?31m??c?d??größe 日本");
    }

    #[test]
    fn texts_take_just_so_many_cells() {
        for (text, cells, expected) in [
            ("abc", 5, "abc  "),
            ("abcdef", 4, "abc~"),
            ("日本語", 4, "日~ "),
            ("日本語", 5, "日本~"),
            ("abc", 1, "~"),
            ("abc", 0, ""),
            ("", 2, "  "),
        ] {
            assert_eq!(pad(text, cells, false), expected, "{text} {cells}");
            assert_eq!(width(&pad(text, cells, true)), cells);
        }
        assert_eq!(pad("7", 3, true), "  7");
    }

    #[test]
    fn numbers_are_those_of_the_lines() {
        for (value, expected) in [
            (json!(18_446_744_073_709_551_615u64), "18446744073709551615"),
            (json!(-3), "-3"),
            (json!(0.5), "0.500"),
            (json!(null), ""),
        ] {
            assert_eq!(number(&value), expected);
        }
        for (n, expected) in
            [(0, "0"), (1023, "1023"), (4096, "4.0K"), (5 << 20, "5.0M"), (i64::MAX, "8388608.0T")]
        {
            assert_eq!(bytes(n), expected);
        }
        assert_eq!(percent(0.01234), "1.23");
    }

    #[test]
    fn times_are_utc() {
        assert_eq!(clock(1_700_000_000_123_000_000), "22:13:20");
        assert_eq!(whole_time(1_700_000_000_123_000_000, true), "2023-11-14T22:13:20.123Z");
        assert_eq!(whole_time(-5, false), "1970-01-01T00:00:00Z");
        assert_eq!(clock(i64::MAX), "23:47:16");
    }
}
