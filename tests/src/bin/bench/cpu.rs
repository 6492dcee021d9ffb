//! What a process takes of the CPUs.

use anyhow::{Context, Result};
use std::fmt::Display;
use std::fs;
use std::path::Path;

/// User and system time of all threads that a process has, so far, to the nanosecond (schedstat, by thread).
pub fn seconds(pid: impl Display) -> Result<f64> {
    let mut sum = 0.0;
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        sum += seconds_of(task?.path().join("schedstat"))?;
    }
    Ok(sum)
}

/// The same of one thread.
pub fn seconds_of(schedstat: impl AsRef<Path>) -> Result<f64> {
    let text = fs::read_to_string(schedstat)?;
    Ok(text.split_whitespace().next().context("schedstat")?.parse::<f64>()? / 1e9)
}

/// Of a process whose threads come and go, those that have ended among them: to the hundredth of a second (stat).
pub fn seconds_of_all(pid: impl Display) -> Result<f64> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let (_, rest) = text.rsplit_once(')').context("stat")?;
    let ticks = rest.split_whitespace().skip(11).take(2).map(str::parse::<f64>);
    Ok(ticks.sum::<Result<f64, _>>()? / 100.0)
}
