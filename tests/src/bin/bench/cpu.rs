//! What a process takes of the CPUs.

use anyhow::{Context, Result};
use std::fmt::Display;
use std::fs;

/// User and system time of all threads that a process has, so far, to the nanosecond (schedstat, by thread).
pub fn seconds(pid: impl Display) -> Result<f64> {
    let mut sum = 0.0;
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let text = fs::read_to_string(task?.path().join("schedstat"))?;
        sum += text.split_whitespace().next().context("schedstat")?.parse::<f64>()? / 1e9;
    }
    Ok(sum)
}
