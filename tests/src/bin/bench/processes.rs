//! What a collector takes, with the processes of its plugins. For any other program: what that alone takes, with what
//! it has started.

use crate::cpu;
use anyhow::Result;
use std::collections::BTreeMap;
use std::fs;
use system_tests::family::{children, family};

/// User and system time so far.
pub fn seconds(pid: u32) -> Result<f64> {
    family(pid).into_iter().map(cpu::seconds).sum()
}

/// Programs (`prog_id:`) or maps (`map_id:`) with their kernel memory in bytes, each once.
pub fn held(pid: u32, key: &str) -> BTreeMap<u64, u64> {
    family(pid).into_iter().flat_map(|pid| plugin_testing::held(pid, key)).collect()
}

/// Resident memory of the first, and what is not shared of the others: they run the same program.
pub fn resident_mib(pid: u32) -> Result<f64> {
    let others =
        children(pid).into_iter().map(|pid| memory(pid, &["Private_Clean:", "Private_Dirty:"]));
    Ok((memory(pid, &["Rss:"])? + others.sum::<Result<f64>>()?) / 1024.0)
}

/// Sums of /proc/PID/smaps_rollup, in KiB.
pub fn memory(pid: u32, keys: &[&str]) -> Result<f64> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let of = |line: &str| -> Option<f64> {
        let (key, value) = line.split_once(' ')?;
        keys.contains(&key).then(|| value.trim().trim_end_matches(" kB").parse().ok())?
    };
    Ok(text.lines().filter_map(of).sum())
}
