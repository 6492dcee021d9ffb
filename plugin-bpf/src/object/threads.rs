//! How many threads a map must have room for.

use crate::exact::banks::banks;
use std::fs;

/// More live threads than this are a map's overflow, and counted: 65,536 entries of a preallocated hash
/// are 4 to 6 MiB of kernel memory on any host.
const MOST: u32 = 65_536;
/// The same on a host of few CPUs, for each of them.
const MOST_PER_CPU: u32 = 8_192;

/// Room for every thread that this machine can have (`kernel.pid_max`, `kernel.threads-max`), within 8,192 for
/// each CPU and 65,536.
#[must_use]
pub fn max_threads() -> u32 {
    let limit = |name| -> Option<u32> {
        fs::read_to_string(format!("/proc/sys/kernel/{name}")).ok()?.trim().parse().ok()
    };
    let limits = [limit("pid_max"), limit("threads-max")];
    let most = MOST.min(MOST_PER_CPU.saturating_mul(banks()));
    limits.into_iter().flatten().min().map_or(most, |n| n.clamp(1024, most))
}
