//! A loaded program, and what the kernel has counted about it.

use super::target::Target;
use crate::object::ProgramDef;
use libbpf_rs::{ProgramMut, ProgramType};
use plugin_api::{Context as _, Result};
use std::mem::offset_of;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};

/// A loaded program, by its own descriptor.
#[derive(Debug)]
pub struct Program {
    pub(super) name: &'static str,
    pub(super) hook: &'static str,
    fd: OwnedFd,
    counts_misses: bool,
    /// Its section says where it attaches.
    pub(super) declared: bool,
    /// What was reported before.
    pub(super) before: ProgramInfo,
}

/// What the kernel counted about a program since it was loaded.
#[derive(Clone, Copy, Debug, Default)]
pub struct ProgramInfo {
    /// Runs that were skipped; `None` where the kernel does not count them.
    pub missed: Option<u64>,
    /// Runs, while statistics were on.
    pub runs: u64,
    /// Nanoseconds in these runs.
    pub run_ns: u64,
    /// Instructions that the verifier followed; `None` where the kernel does not say.
    pub verified: Option<u32>,
}

impl Program {
    pub(super) fn of(
        def: &'static ProgramDef,
        program: &ProgramMut<'_>,
        target: &Target,
    ) -> Result<Self> {
        // These run under one guard for all of them (trace_call_bpf), whose skips are counted since
        // Linux 6.7 (dd8657894c11 "bpf: Count missed stats in trace_call_bpf").
        let counts_misses = match program.prog_type() {
            ProgramType::Kprobe | ProgramType::Tracepoint => kernel_at_least(6, 7),
            // `bpf_overflow_handler` skips them under that guard without a count.
            ProgramType::PerfEvent => false,
            _ => true,
        };
        let fd = program.as_fd().try_clone_to_owned();
        Ok(Self {
            name: def.name,
            hook: def.section.split('/').next().unwrap_or_default(),
            fd: fd.with_context(|| format!("program {}: no descriptor left", def.name))?,
            counts_misses,
            declared: matches!(target, Target::Declared),
            before: ProgramInfo::default(),
        })
    }

    /// Its function's name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Kind of hook, such as `tp_btf`.
    #[must_use]
    pub fn hook(&self) -> &'static str {
        self.hook
    }

    /// Asks the kernel (0.3 us).
    ///
    /// # Errors
    /// The kernel does not answer.
    pub fn info(&self) -> Result<ProgramInfo> {
        let mut info = libbpf_sys::bpf_prog_info::default();
        let mut len = size_of_val(&info) as u32;
        // SAFETY: `info` and `len` are ours, `len` says how large `info` is.
        let error = unsafe {
            libbpf_sys::bpf_prog_get_info_by_fd(self.fd.as_raw_fd(), &mut info, &mut len)
        };
        if error != 0 {
            return Err(std::io::Error::from_raw_os_error(-error))
                .with_context(|| format!("program {}: no information", self.name));
        }
        // The kernel fills as much as it knows: recursion_misses came with Linux 5.12, verified_insns with 5.16.
        let knows = |offset: usize, size: usize| offset + size <= len as usize;
        let misses = knows(offset_of!(libbpf_sys::bpf_prog_info, recursion_misses), 8);
        let verified = knows(offset_of!(libbpf_sys::bpf_prog_info, verified_insns), 4);
        Ok(ProgramInfo {
            missed: (misses && self.counts_misses).then_some(info.recursion_misses),
            runs: info.run_cnt,
            run_ns: info.run_time_ns,
            verified: verified.then_some(info.verified_insns),
        })
    }
}

/// Whether the running kernel is at least this version. For what a kernel says of itself; never to decide
/// how to attach.
#[must_use]
pub fn kernel_at_least(major: u32, minor: u32) -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut numbers = release.split(['.', '-']).map_while(|n| n.parse::<u32>().ok());
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= (major, minor)
}
