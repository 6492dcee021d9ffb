//! A collector and the processes that it has started for plugins.

use std::fs;

/// The processes that one has started and that are still there.
#[must_use]
pub fn children(pid: u32) -> Vec<u32> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let texts = tasks.filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
    texts
        .flat_map(|text| {
            text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>()
        })
        .collect()
}

/// The process and those that it has started.
#[must_use]
pub fn family(pid: u32) -> Vec<u32> {
    [vec![pid], children(pid)].concat()
}

/// The name of a process.
#[must_use]
pub fn comm(pid: u32) -> String {
    let comm = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    comm.trim_end_matches('\n').to_owned()
}
