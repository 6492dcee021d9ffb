//! What the kernel says about attached programs: the table `collector_program`.

use super::attached::Attached;
use super::target::Target;
use crate::exact::CutKind;
use libbpf_rs::{ProgramMut, ProgramType};
use plugin_api::{Context as _, Lines, Result, table};
use std::mem::offset_of;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};

table! {
    /// One BPF program of a plugin. A program that is refused or left out has a line in the first tick only.
    collector_program {
        tags {
            /// The program's function.
            program,
        }
        /// 1 while it is attached, else 0.
        attached: gauge,
        /// `attached`; `waiting`, for something to attach to; `refused`, so that the next way was tried;
        /// `left out`, an optional one.
        state: text,
        /// Kind of hook: the section's name in the object.
        hook: text [optional],
        /// Where it is attached, when its section does not say it: the perf event (`cycles`, `cpu-clock`), a
        /// file with a function or static probe, a cgroup. Left out when the places come and go.
        target: text [optional],
        /// In how many places it is attached: CPUs of a perf event, processes or files that the tool follows.
        /// Left out when its section says where.
        links: gauge [optional],
        /// How the plugin's programs enter its cut: `fetch`, `count` or `grace` (plugin_bpf::CutKind). Left out
        /// where it has no cut.
        cut: text [optional],
        /// Why it is not attached, in the kernel's words; of an attached or waiting program, where it could
        /// not be attached, in the tick in which that was found.
        reason: text [optional],
        /// Events that the kernel did not run the program for, because it was running on that CPU
        /// already. Left out where the kernel does not count them.
        missed: counter [optional],
        /// Runs of the program; only while the sysctl kernel.bpf_stats_enabled is 1.
        runs: counter [optional],
        /// Time in the program; as `runs`.
        run_ns: counter(ns) [optional],
    }
}

/// A loaded program, by its own descriptor.
#[derive(Debug)]
pub struct Program {
    name: String,
    hook: String,
    fd: OwnedFd,
    counts_misses: bool,
    /// Its section says where it attaches.
    declared: bool,
    /// What was reported before.
    before: ProgramInfo,
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
}

impl Program {
    pub(super) fn of(program: &ProgramMut<'_>, target: &Target) -> Result<Self> {
        // These run under one guard for all of them (trace_call_bpf), whose skips are counted since
        // Linux 6.7 (dd8657894c11 "bpf: Count missed stats in trace_call_bpf").
        let guarded = matches!(
            program.prog_type(),
            ProgramType::Kprobe | ProgramType::Tracepoint | ProgramType::PerfEvent
        );
        let program_name = program.name().to_string_lossy().into_owned();
        let section = program.section().to_string_lossy();
        let hook = section.split('/').next().unwrap_or_default();
        let fd = program
            .as_fd()
            .try_clone_to_owned()
            .with_context(|| format!("program {program_name}: no descriptor left"))?;
        Ok(Self {
            name: program_name,
            hook: hook.to_owned(),
            fd,
            counts_misses: !guarded || kernel_at_least(6, 7),
            declared: matches!(target, Target::Declared),
            before: ProgramInfo::default(),
        })
    }

    /// Its function's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Kind of hook, such as `tp_btf`.
    #[must_use]
    pub fn hook(&self) -> &str {
        &self.hook
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
        // The kernel fills as much as it knows: recursion_misses came with Linux 5.12.
        let known = offset_of!(libbpf_sys::bpf_prog_info, recursion_misses) + 8 <= len as usize;
        Ok(ProgramInfo {
            missed: (known && self.counts_misses).then_some(info.recursion_misses),
            runs: info.run_cnt,
            run_ns: info.run_time_ns,
        })
    }
}

impl Attached {
    /// A line of `collector_program` for each loaded program, and once for each that is not.
    pub(crate) fn report(&mut self, lines: &mut Lines) -> Result<()> {
        let cut = self.cut().map(CutKind::name);
        let links = self.links();
        let targets: Vec<_> = self.programs().iter().map(|p| self.target(p.name())).collect();
        let mut troubles = self.take_troubles();
        for (program, target) in self.programs_mut().iter_mut().zip(targets) {
            let links = links.get(&program.name).copied().unwrap_or_default();
            let now = program.info()?;
            let before = std::mem::replace(&mut program.before, now);
            let counted = now.runs > before.runs;
            lines.push(collector_program::Row {
                program: program.name.clone().into(),
                attached: i64::from(links > 0),
                state: if links == 0 { "waiting" } else { "attached" }.into(),
                hook: Some(program.hook.clone().into()),
                target: target.map(Into::into),
                links: (!program.declared).then(|| i64::try_from(links)).transpose()?,
                cut: cut.map(Into::into),
                reason: troubles.remove(&program.name).map(Into::into),
                missed: now.missed.map(|n| n - before.missed.unwrap_or(0)),
                runs: counted.then(|| now.runs - before.runs),
                run_ns: counted.then(|| now.run_ns - before.run_ns),
            })?;
        }
        for verdict in self.take_verdicts() {
            lines.push(collector_program::Row {
                program: verdict.program.into(),
                attached: 0,
                state: if verdict.left_out { "left out" } else { "refused" }.into(),
                hook: None,
                target: None,
                links: None,
                cut: None,
                reason: Some(verdict.reason.into()),
                missed: None,
                runs: None,
                run_ns: None,
            })?;
        }
        Ok(())
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
