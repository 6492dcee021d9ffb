//! A time as a person writes it.

use humantime::{parse_duration, parse_rfc3339_weak};
use std::time::UNIX_EPOCH;

const DAY: i64 = 86_400;
const S: i64 = 1_000_000_000;
/// A smaller number means seconds: as nanoseconds it is a moment of 1970.
const NANOSECONDS: i64 = 1_000_000_000_000_000;

/// Nanoseconds since 1970. `end_ns` is the time of the last line.
///
/// # Errors
/// What can be written.
pub fn parse(text: &str, end_ns: i64) -> Result<i64, String> {
    let text = text.trim();
    let wrong = || {
        format!(
            "{text:?} is no time: write 2026-01-31T12:00:00Z, 12:00:00 (the day of the last line, UTC), -5m (before the \
             end), or nanoseconds since 1970"
        )
    };
    if let Some(before) = text.strip_prefix('-') {
        let before = parse_duration(before.trim()).map_err(|_| wrong())?;
        return Ok(end_ns.saturating_sub(i64::try_from(before.as_nanos()).unwrap_or(i64::MAX)));
    }
    if let Ok(number) = text.parse::<i64>() {
        let ns = if number < NANOSECONDS { number.checked_mul(S) } else { Some(number) };
        return ns.ok_or_else(wrong);
    }
    if let Some(seconds) = of_day(text) {
        let day = end_ns.div_euclid(DAY * S);
        return Ok((day * DAY + seconds) * S);
    }
    let time = parse_rfc3339_weak(text).map_err(|_| wrong())?;
    let since = time.duration_since(UNIX_EPOCH).map_err(|_| wrong())?;
    i64::try_from(since.as_nanos()).map_err(|_| wrong())
}

/// `12:00` and `12:00:00`
fn of_day(text: &str) -> Option<i64> {
    let parts: Vec<&str> = text.split(':').collect();
    let part = |at: usize, below: i64| {
        let part = parts.get(at).copied().unwrap_or("0");
        let digits = matches!(part.len(), 1 | 2) && part.bytes().all(|b| b.is_ascii_digit());
        part.parse::<i64>().ok().filter(|n| digits && *n < below)
    };
    if !(2..=3).contains(&parts.len()) {
        return None;
    }
    Some(part(0, 24)? * 3600 + part(1, 60)? * 60 + part(2, 60)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_read_in_each_way_that_it_is_written() {
        let end = 1_700_000_000 * S + 5; // 2023-11-14T22:13:20Z
        for (text, expected) in [
            ("2023-11-14T22:13:20Z", Some(1_700_000_000 * S)),
            ("2023-11-14 22:13:20", Some(1_700_000_000 * S)),
            ("22:13:20", Some(1_700_000_000 * S)),
            ("22:13", Some(1_699_999_980 * S)),
            (" 0:00 ", Some(1_699_920_000 * S)),
            ("-5m", Some(end - 300 * S)),
            ("-1h 30m", Some(end - 5400 * S)),
            ("1700000000", Some(1_700_000_000 * S)),
            ("1700000000000000001", Some(1_700_000_000 * S + 1)),
            ("24:00", None),
            ("1:2:3:4", None),
            ("-", None),
            ("soon", None),
            ("1969-01-01T00:00:00Z", None),
            ("", None),
        ] {
            assert_eq!(parse(text, end).ok(), expected, "{text:?}");
        }
        assert!(parse("x", 0).unwrap_err().contains("12:00:00"));
    }
}
