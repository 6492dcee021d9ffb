//! How many threads a map must have room for.

use std::fs;

/// More live threads than this are a map's overflow, and counted: 65,536 entries of a preallocated hash
/// are 4 to 6 MiB of kernel memory on any host.
const MOST: u32 = 65_536;

/// Room for every thread that this machine can have (`kernel.pid_max`, `kernel.threads-max`), within
/// 65,536.
#[must_use]
pub fn max_threads() -> u32 {
    let limit = |name| -> Option<u32> {
        fs::read_to_string(format!("/proc/sys/kernel/{name}")).ok()?.trim().parse().ok()
    };
    let limits = [limit("pid_max"), limit("threads-max")];
    limits.into_iter().flatten().min().map_or(MOST, |n| n.clamp(1024, MOST))
}
