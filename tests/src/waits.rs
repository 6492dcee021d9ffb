//! What the plugin `waits` has counted, by the lines that a collector wrote into the file `lines` of its home.

use crate::running::{Home, Running};
use collector::read::{Line, read};
use plugin_api::histogram::{BUCKETS, bucket};
use std::fs;

/// Its whole lines of a table so far.
///
/// # Panics
/// They are none.
#[must_use]
pub fn lines(home: &Home, table: &str) -> Vec<Line> {
    let text = fs::read_to_string(home.path("lines")).unwrap_or_default();
    let whole = text.rfind('\n').map_or("", |end| &text[..=end]);
    let lines = read(whole.as_bytes()).expect("line protocol");
    lines.into_iter().filter(|line| line.table == table).collect()
}

/// Waits for so many lines more.
pub fn wait_for_lines(collector: &mut Running, home: &Home, more: usize) {
    let before = lines(home, "waits").len();
    collector.wait_until("lines", |_| lines(home, "waits").len() >= before + more);
}

/// What the file says of a series: counts by the buckets' numbers, all of them, and the sum.
///
/// # Panics
/// A field is no number.
#[must_use]
pub fn counted(lines: &[Line], series: &str) -> ([u64; BUCKETS], u64, u64) {
    let (mut buckets, mut count, mut sum) = ([0; BUCKETS], 0, 0);
    for line in lines.iter().filter(|line| line.tag("series") == series) {
        count += line.u64("count");
        sum += line.u64("sum_us");
        for (number, n) in buckets.iter_mut().enumerate() {
            let (from, below) = bucket(number);
            let below = below.map_or("inf".to_owned(), |below| below.to_string());
            let field = format!("bucket_{from}_{below}");
            *n += line.get(&field).map_or(0, |_| line.u64(&field));
        }
    }
    (buckets, count, sum)
}

/// The value at p99 lies in the bucket of ours that holds it.
///
/// # Panics
/// It does not, or there is no value.
pub fn assert_quantile(what: &str, found: f64, buckets: &[u64; BUCKETS], count: u64) {
    let rank = (count as f64 * 0.99).ceil() as u64;
    let mut seen = 0;
    let number = buckets.iter().position(|n| {
        seen += n;
        seen >= rank
    });
    let (from, below) = bucket(number.expect("values"));
    let below = below.expect("small values") as f64;
    println!("{what}: p99 {found}, ours from {from}, below {below}");
    assert!((from as f64..=below).contains(&found), "{what}: {found}");
}
