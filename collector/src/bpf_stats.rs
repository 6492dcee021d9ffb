//! The kernel's switch for statistics of BPF programs.

use std::io;
use std::os::fd::{FromRawFd as _, OwnedFd};

/// While this lives, the kernel counts the runs of all BPF programs of the machine and the time in them, which
/// costs each run two readings of the clock.
#[derive(Debug)]
pub struct BpfStats {
    _switch: OwnedFd,
}

/// `enum bpf_cmd`, and `union bpf_attr` of this command (include/uapi/linux/bpf.h).
const BPF_ENABLE_STATS: libc::c_long = 32;
const BPF_STATS_RUN_TIME: u32 = 0;

impl BpfStats {
    /// Takes CAP_SYS_ADMIN, and Linux 5.8 (d46edd671a14 "bpf: Sharing bpf runtime stats with
    /// BPF_ENABLE_STATS").
    ///
    /// # Errors
    /// The kernel's.
    pub fn enable() -> io::Result<Self> {
        let kind = BPF_STATS_RUN_TIME;
        // SAFETY: the kernel reads as many bytes of `kind` as it is told.
        let switch = unsafe {
            libc::syscall(libc::SYS_bpf, BPF_ENABLE_STATS, &raw const kind, size_of_val(&kind))
        };
        let Ok(switch @ 0..) = i32::try_from(switch) else {
            return Err(io::Error::last_os_error());
        };
        // SAFETY: the kernel made this descriptor for us (with O_CLOEXEC), and nobody else knows it.
        Ok(Self { _switch: unsafe { OwnedFd::from_raw_fd(switch) } })
    }

    /// As the configuration asks; where it cannot be done, that is said and all else goes on.
    pub fn enable_or_say() -> Option<Self> {
        Self::enable()
            .map_err(|error| {
                log::warn!(
                    "bpf_stats: {error}: it takes CAP_SYS_ADMIN at the start, and Linux 5.8; or set \
                     `sysctl kernel.bpf_stats_enabled=1`"
                );
            })
            .ok()
    }
}
