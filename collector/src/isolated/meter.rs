//! The processor time of plugins' processes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What the processes of a plugin have used together, in nanoseconds.
#[derive(Clone, Debug, Default)]
pub struct CpuTime(Arc<AtomicU64>);

impl CpuTime {
    /// What was added since this was last asked.
    pub fn take(&self) -> u64 {
        self.0.swap(0, Ordering::Relaxed)
    }
}

/// The clock of one process, which must not have been reaped.
#[derive(Debug)]
pub struct Meter {
    /// None when the process was reaped, and its number may be another one's.
    clock: Option<libc::clockid_t>,
    seen: u64,
    sum: CpuTime,
}

impl Meter {
    /// Of a process that has just been started.
    pub fn of(process: u32, sum: &CpuTime) -> Self {
        // `clock_getcpuclockid(3)`: the process in the upper bits, and CPUCLOCK_SCHED.
        let clock = (!process.cast_signed() << 3) | 2;
        Self { clock: Some(clock), seen: 0, sum: sum.clone() }
    }

    /// Whether the process was not reaped.
    pub fn runs(&self) -> bool {
        self.clock.is_some()
    }

    /// Reads it for the last time: the process is about to be reaped.
    pub fn end(&mut self) {
        self.read();
        self.clock = None;
    }

    /// Adds what it has used since this was last done.
    pub fn read(&mut self) {
        let Some(clock) = self.clock else { return };
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: the pointer is to a timespec of ours; of a clock that is none the kernel says so.
        if unsafe { libc::clock_gettime(clock, &raw mut time) } != 0 {
            return;
        }
        let now = time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs();
        self.sum.0.fetch_add(now.saturating_sub(self.seen), Ordering::Relaxed);
        self.seen = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};
    use std::process::Command;

    #[test]
    fn what_a_process_has_used_is_known_until_it_is_reaped() {
        let sum = CpuTime::default();
        let mut child = Command::new("sh")
            .args(["-c", "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done"])
            .spawn()
            .unwrap();
        let mut meter = Meter::of(child.id(), &sum);
        waitid(WaitId::Pid(Pid::from_child(&child)), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT)
            .unwrap();
        meter.read();
        let used = sum.take();
        assert!((500_000..10_000_000_000).contains(&used), "{used} ns");
        meter.end();
        child.wait().unwrap();
        meter.read();
        assert_eq!((sum.take(), meter.runs()), (0, false));
    }
}
