//! Measured times in messages.

use std::time::Duration;

/// `2.0 s`, `50.3 ms`, `50 ms`, `300 us`.
#[must_use]
pub fn short(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    if seconds >= 0.95 {
        format!("{seconds:.1} s")
    } else if seconds >= 0.001 {
        format!("{} ms", (seconds * 1e4).round() / 10.0)
    } else {
        format!("{:.0} us", seconds * 1e6)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_time_is_not_nothing() {
        for (us, text) in [
            (2_040_000, "2.0 s"),
            (1_000_000, "1.0 s"),
            (949_000, "949 ms"),
            (100_400, "100.4 ms"),
            (100_000, "100 ms"),
            (1_000, "1 ms"),
            (300, "300 us"),
        ] {
            assert_eq!(short(Duration::from_micros(us)), text);
        }
    }
}
