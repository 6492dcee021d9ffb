//! A histogram in characters, as bcc's tools print theirs.

use crate::read::{Line, Value};
use plugin_api::Unit;
use plugin_api::histogram::{BUCKETS, wire_names};
use std::fmt::Write;

/// Width of the longest bar.
const STARS: u64 = 40;

/// What stands above the values.
pub(super) const fn label(unit: Unit) -> &'static str {
    match unit {
        Unit::None => "value",
        Unit::Ns => "nsecs",
        Unit::Us => "usecs",
        Unit::Ms => "msecs",
        Unit::S => "secs",
        Unit::Bytes => "bytes",
    }
}

/// The histogram of a line: its `bucket_*` fields as bars, the others below.
pub(super) fn shown(line: &Line, unit: Unit) -> String {
    let counts = counts(line);
    let mut out = String::new();
    if !counts.is_empty() {
        out.push_str(&bars(&counts, label(unit)));
        out.push('\n');
    }
    let suffix = unit.suffix();
    let of = |name: &str| line.get(&format!("{name}{suffix}")).map(Value::to_string);
    let count = number(line.get("count"));
    let mut facts = vec![format!("count {count}")];
    if count > 0 {
        let sum = number(line.get(&format!("sum{suffix}")));
        facts.push(format!("avg {:.1}", sum as f64 / count as f64));
    }
    for name in ["max", "p50", "p90", "p99"] {
        facts.extend(of(name).map(|value| format!("{name} {value}")));
    }
    let own = |key: &str| {
        key == "count"
            || key.starts_with("bucket_")
            || ["sum", "max", "p50", "p90", "p99"].iter().any(|n| key == format!("{n}{suffix}"))
    };
    let others = line.fields.iter().filter(|(key, _)| !own(key) && *key != "interval_ns");
    facts.extend(others.map(|(key, value)| format!("{key} {value}")));
    let _ = writeln!(out, "{}", facts.join(", "));
    out
}

fn number(value: Option<&Value>) -> u64 {
    match value {
        Some(Value::I64(v)) => u64::try_from(*v).unwrap_or(0),
        Some(Value::U64(v)) => *v,
        _ => 0,
    }
}

/// Counts per power of two: 0 and 1, 2 and 3, 4 to 7... up to the last that has any.
fn counts(line: &Line) -> Vec<u64> {
    let names = wire_names("");
    let buckets = &names[names.len() - BUCKETS..];
    let mut counts: Vec<u64> = buckets.iter().map(|name| number(line.get(name))).collect();
    counts.truncate(counts.iter().rposition(|n| *n > 0).map_or(0, |last| last + 1));
    counts
}

fn bars(counts: &[u64], label: &str) -> String {
    // Past 2^32 the columns are wider and the bars shorter, as in bcc.
    let wide = counts.len() > 33;
    let (indent, title, width) = if wide { (15, 29, 20) } else { (5, 19, 10) };
    let stars = if wide { STARS / 2 } else { STARS };
    let most = counts.iter().copied().max().unwrap_or(0).max(1);
    let mut out = format!("{:indent$}{label:<title$} : count    distribution\n", "");
    for (power, &count) in counts.iter().enumerate() {
        let low = if power == 0 { 0 } else { 1u64 << power };
        let high = (u64::MAX >> (63 - power)).max(1);
        let bar = u128::from(count) * u128::from(stars) / u128::from(most);
        let (bar, room) = ("*".repeat(bar as usize), stars as usize);
        let _ = writeln!(out, "{low:>width$} -> {high:<width$} : {count:<8} |{bar:<room$}|");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn line(fields: &[(&str, u64)]) -> Line {
        let fields = fields.iter().map(|(k, v)| (k.to_string(), Value::U64(*v))).collect();
        Line { table: "t".to_owned(), tags: BTreeMap::new(), fields, time_ns: 1 }
    }

    #[test]
    fn a_histogram_looks_like_bccs() {
        let line = line(&[
            ("count", 43),
            ("sum_us", 172),
            ("max_us", 9),
            ("p50_us", 2),
            ("p99_us", 8),
            ("bucket_0_2", 1),
            ("bucket_2_4", 40),
            ("bucket_8_16", 2),
            ("interval_ns", 5),
            ("missed", 0),
        ]);
        let expected = "
     usecs               : count    distribution
         0 -> 1          : 1        |*                                       |
         2 -> 3          : 40       |****************************************|
         4 -> 7          : 0        |                                        |
         8 -> 15         : 2        |**                                      |

count 43, avg 4.0, max 9, p50 2, p99 8, missed 0
";
        assert_eq!(format!("\n{}", shown(&line, Unit::Us)), expected);
    }

    #[test]
    fn the_largest_values_have_a_row_too() {
        let line =
            line(&[("count", 2), ("sum", 2), ("max", 2), ("bucket_9223372036854775808_inf", 2)]);
        let text = shown(&line, Unit::None);
        let last = "9223372036854775808 -> 18446744073709551615 : 2        |********************|";
        assert!(text.lines().any(|l| l.trim() == last), "{text}");
    }

    #[test]
    fn nothing_counted_is_said_in_a_line() {
        assert_eq!(
            shown(&line(&[("count", 0), ("sum_us", 0), ("max_us", 0)]), Unit::Us),
            "count 0, max 0\n"
        );
    }
}
