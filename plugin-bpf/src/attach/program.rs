//! How programs are attached and how often they ran: the table `collector_program`.

use super::attached::Attached;
use super::info::Program;
use crate::exact::CutKind;
use plugin_api::{Lines, Result, table};

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
        /// already, or because a kretprobe followed as many returns as it can. Left out where the kernel does
        /// not count them.
        missed: counter [optional],
        /// Runs of the program; only with `bpf_stats = true`, or while the sysctl kernel.bpf_stats_enabled is 1.
        runs: counter [optional],
        /// Time in the program; as `runs`.
        run_ns: counter(ns) [optional],
        /// Instructions that the verifier followed when the program was loaded. Left out before Linux 5.16.
        verified: gauge [optional],
    }
}
plugin_api::exported!(collector_program);

impl Attached {
    /// A line of `collector_program` for each loaded program, and once for each that is not.
    pub(crate) fn report(&mut self, lines: &mut Lines) -> Result<()> {
        let cut = self.cut().map(CutKind::name);
        let programs = self.programs().iter().map(Program::name);
        let held: Vec<_> =
            programs.map(|name| (self.links(name), self.missed(name), self.target(name))).collect();
        let mut troubles = self.take_troubles();
        for (program, (links, probes, target)) in self.programs_mut().iter_mut().zip(held) {
            let mut now = program.info()?;
            now.missed = now.missed.map(|n| n + probes);
            let before = std::mem::replace(&mut program.before, now);
            let counted = now.runs > before.runs;
            lines.push(collector_program::Row {
                program: program.name.into(),
                attached: i64::from(links > 0),
                state: if links == 0 { "waiting" } else { "attached" }.into(),
                hook: Some(program.hook.into()),
                target: target.map(Into::into),
                links: (!program.declared).then(|| i64::try_from(links)).transpose()?,
                cut: cut.map(Into::into),
                reason: troubles.remove(program.name).map(Into::into),
                missed: now.missed.map(|n| n - before.missed.unwrap_or(0)),
                runs: counted.then(|| now.runs - before.runs),
                run_ns: counted.then(|| now.run_ns - before.run_ns),
                verified: now.verified.map(i64::from),
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
                verified: None,
            })?;
        }
        Ok(())
    }
}
