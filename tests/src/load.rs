//! The load of a test: what the plugin `stream` is told, and what is known of its lines.

use crate::Stored;
use crate::running::Home;
use collector::read::{Line, Value};
use std::fs;
use std::ops::RangeInclusive;
use std::time::Duration;

/// Numbered lines, from 1 on.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Between ticks, of the plugin and of the collector itself.
    pub interval: Duration,
    /// Lines per tick.
    pub lines: u64,
    /// Lines in all; 0: without end.
    pub total: u64,
    /// Distinct tags of them.
    pub series: u64,
    /// The line that goes to the table `odd`; 0: none.
    pub odd: u64,
}

impl Default for Load {
    /// 5,000 lines a second, of some 100 bytes each; their times are those of the ticks, and so many
    /// milliseconds after them, as long as no tick is missed.
    fn default() -> Self {
        let interval = Duration::from_millis(100);
        Self { interval, lines: 500, total: 0, series: 5, odd: 0 }
    }
}

impl Load {
    /// The configuration of a collector with this load and some outputs, each a section.
    #[must_use]
    pub fn config(&self, home: &Home, outputs: &[&str]) -> String {
        let Self { interval, lines, total, series, odd } = self;
        format!(
            "interval = \"{}ms\"\n[plugin.stream]\nmax_lines = 1000000\nlines = {lines}\n\
             total = {total}\nseries = {series}\nodd = {odd}\nprogress = \"{}\"\n{}",
            interval.as_millis(),
            home.path("progress").display(),
            outputs.concat()
        )
    }

    /// So many lines as are made in a time.
    #[must_use]
    pub fn within(&self, time: Duration) -> u64 {
        (self.lines as f64 * time.as_secs_f64() / self.interval.as_secs_f64()) as u64
    }
}

/// The number of the last line that was made in a home.
#[must_use]
pub fn pushed(home: &Home) -> u64 {
    let text = fs::read_to_string(home.path("progress")).unwrap_or_default();
    text.parse().unwrap_or_default()
}

/// Checks that every line's number is stored, and none of them twice.
///
/// # Panics
/// It says what is missing, or too much.
pub fn assert_all(stored: &dyn Stored, expected: RangeInclusive<u64>) {
    assert_all_of(&stored.numbers("stream", "value"), expected);
}

/// Checks that sorted numbers are all of those, and none of them is there twice.
///
/// # Panics
/// It says what is missing, or too much.
pub fn assert_all_of(numbers: &[i64], expected: RangeInclusive<u64>) {
    let wanted = expected.clone().map(|number| number as i64);
    if numbers.iter().copied().eq(wanted.clone()) {
        return;
    }
    let missing: Vec<i64> = wanted.filter(|n| numbers.binary_search(n).is_err()).collect();
    let twice = numbers.windows(2).filter(|pair| pair[0] == pair[1]).count();
    panic!(
        "of {expected:?} {} are stored, {twice} of them twice; {} are missing: {:?}...",
        numbers.len(),
        missing.len(),
        &missing[..missing.len().min(5)]
    );
}

/// A field of 0 and more, also from a database that knows floats only.
///
/// # Panics
/// The line has no such field.
#[must_use]
pub fn whole(line: &Line, field: &str) -> u64 {
    match line.get(field) {
        Some(Value::F64(v)) => *v as u64,
        _ => line.u64(field),
    }
}
