//! The counts of a file, InfluxDB, VictoriaMetrics and Prometheus, over ten minutes with a restart of the collector in
//! the middle: all are equal, or it ends with an error.

use anyhow::{Context as _, Result};
use std::time::Duration;
use system_tests::same::{Plan, run as compare};

const SECONDS: u64 = 600;

/// For ten minutes, or the seconds behind the word `same`.
pub fn run() -> Result<()> {
    let argument = std::env::args().skip_while(|word| word != "same").nth(1);
    let seconds = match argument {
        Some(text) => text.parse().with_context(|| format!("`same {text}`: how many seconds?"))?,
        None => SECONDS,
    };
    let plan = Plan {
        interval: Duration::from_secs(5),
        scrape: Duration::from_secs(5),
        time: Duration::from_secs(seconds),
    };
    println!("{}", compare(plan));
    Ok(())
}
