//! How many instructions the kernel's verifier processes for a program, out of its log.
//!
//! `bpf_prog_info.verified_insns` says it too, but only since Linux 5.16.

use super::Code;
use super::failure::Failure;
use super::load::{load, ready};
use super::terms::Terms;
use libbpf_rs::AsRawLibbpf as _;
use std::collections::BTreeMap;

/// BPF_LOG_STATS: the log is the sums at its end, a few lines, and no trace (Linux 5.2).
const STATS: u32 = 4;
const LOG_BYTES: usize = 16 * 1024;

/// Loads the programs that are wanted, all at once, and unloads them: what the verifier processed of each.
///
/// # Errors
/// The kernel refuses one: which, and why.
pub(crate) fn processed(
    code: &'static Code,
    terms: &Terms<'_>,
) -> Result<BTreeMap<String, u64>, Failure> {
    let mut ready = ready(code, terms)?;
    let mut logs = Vec::new();
    for mut program in ready.open.progs_mut().filter(|program| program.autoload()) {
        let mut log = vec![0u8; LOG_BYTES];
        let name = program.name().to_string_lossy().into_owned();
        program.set_log_level(STATS);
        let raw = program.as_libbpf_object().as_ptr();
        // SAFETY: the program is open and not loaded. The buffer is on the heap, as large as is said, stays
        // where it is when the `Vec` moves, and outlives `ready`, which `load` below takes and drops.
        let error = unsafe {
            libbpf_sys::bpf_program__set_log_buf(raw, log.as_mut_ptr().cast(), LOG_BYTES as _)
        };
        if error != 0 {
            let error = std::io::Error::from_raw_os_error(-error);
            return Err(Failure::of_program(&name, error));
        }
        logs.push((name, log));
    }
    if ready.load().is_err() {
        // Once more as the tool does it, for the reason: a log of sums does not have it.
        load(code, terms)?;
        return Err(Failure::of_object("it loads without a log of sums and not with one"));
    }
    let sums = logs.into_iter().map(|(name, log)| {
        let log = String::from_utf8_lossy(&log);
        let sum = sum(&log);
        let sum =
            sum.ok_or_else(|| Failure::of_program(&name, format!("no sums in its log: {log}")));
        sum.map(|sum| (name, sum))
    });
    sums.collect()
}

/// The number in `processed 123 insns (limit 1000000) max_states_per_insn ...`.
fn sum(log: &str) -> Option<u64> {
    let line = log.lines().find_map(|line| line.strip_prefix("processed "))?;
    line.split_once(" insns")?.0.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::sum;

    #[test]
    fn the_sum_stands_in_one_line_of_the_log() {
        let log = "verification time 155 usec\nstack depth 56\n\
                   processed 87 insns (limit 1000000) max_states_per_insn 0 total_states 6 \
                   peak_states 6 mark_read 4\n\0\0";
        assert_eq!(sum(log), Some(87));
        assert_eq!(sum("\0"), None);
    }
}
