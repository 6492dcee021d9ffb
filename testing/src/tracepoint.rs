//! How often a tracepoint fires, by the kernel's own counters, to hold a tool's count against.

use std::fs::{self, File};
use std::io::Read as _;
use std::os::fd::FromRawFd as _;

/// Counters of a tracepoint (perf events), on each CPU that is online.
#[derive(Debug)]
pub struct Tracepoint(Vec<(usize, File)>);

impl Tracepoint {
    /// One such as `timer/hrtimer_expire_entry`.
    ///
    /// # Panics
    /// tracefs is not mounted, there is no such tracepoint, or the kernel has no perf events.
    #[must_use]
    pub fn open(name: &str) -> Self {
        const TRACEPOINT: u32 = 2;
        let path = format!("/sys/kernel/tracing/events/{name}/id");
        let id = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        // The first version of `struct perf_event_attr`.
        let mut attributes = [0u64; 8];
        attributes[0] = u64::from(TRACEPOINT) | 64 << 32;
        attributes[1] = id.trim().parse().expect("a number");
        let open = |cpu: usize| {
            // SAFETY: the kernel reads the attributes, which have the size that they name.
            let fd = unsafe {
                libc::syscall(libc::SYS_perf_event_open, attributes.as_ptr(), -1, cpu, -1, 0)
            };
            assert!(fd >= 0, "a counter of {name}: {}", std::io::Error::last_os_error());
            // SAFETY: the descriptor is new and ours alone.
            (cpu, unsafe { File::from_raw_fd(fd as i32) })
        };
        Self(crate::cpu::online().into_iter().map(open).collect())
    }

    /// The count of a CPU since it was opened.
    ///
    /// # Panics
    /// The CPU was not online then.
    #[must_use]
    pub fn count(&self, cpu: usize) -> u64 {
        let mut count = [0; 8];
        let mut counter = &self.0.iter().find(|(known, _)| *known == cpu).expect("a CPU").1;
        counter.read_exact(&mut count).expect("the kernel counts");
        u64::from_ne_bytes(count)
    }
}
