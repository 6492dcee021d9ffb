//! What the thread that reads other people's files may do: no more than that takes.

/// linux/capability.h: the layout of two words for each set.
const VERSION_3: u32 = 0x2008_0522;

const CAP_SYS_ADMIN: u32 = 21;
const CAP_BPF: u32 = 39;
/// CAP_DAC_READ_SEARCH, CAP_SYS_PTRACE, CAP_SYSLOG, CAP_PERFMON, CAP_BPF, CAP_CHECKPOINT_RESTORE.
const KEPT: [u32; 6] = [2, 19, 34, 38, CAP_BPF, 40];

#[repr(C)]
struct Header {
    version: u32,
    pid: i32,
}

/// Of the lower 32 capabilities, then of the upper.
#[derive(Clone, Copy, Default)]
#[repr(C)]
struct Sets {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// Gives up all other capabilities of the calling thread, for good. What cannot be given up is kept.
pub(super) fn keep_least() {
    let header = Header { version: VERSION_3, pid: 0 };
    let mut sets = [Sets::default(); 2];
    // SAFETY: the kernel reads the header, and writes the two sets of this thread.
    let got = unsafe { libc::syscall(libc::SYS_capget, &raw const header, sets.as_mut_ptr()) };
    if got != 0 {
        return;
    }
    let held = u64::from(sets[1].effective) << 32 | u64::from(sets[0].effective);
    let kept = held & mask(held);
    for (set, half) in sets.iter_mut().zip([kept as u32, (kept >> 32) as u32]) {
        *set = Sets { effective: half, permitted: half, inheritable: 0 };
    }
    // SAFETY: the kernel reads both.
    unsafe { libc::syscall(libc::SYS_capset, &raw const header, sets.as_ptr()) };
}

/// CAP_SYS_ADMIN stands in for CAP_BPF where there is none.
fn mask(held: u64) -> u64 {
    let kept = KEPT.iter().fold(0, |kept, capability| kept | 1 << capability);
    if held >> CAP_BPF & 1 == 1 { kept } else { kept | 1 << CAP_SYS_ADMIN }
}
