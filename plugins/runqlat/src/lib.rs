//! The model of a histogram.
//!
//! Hooks: sched_wakeup, sched_wakeup_new, sched_switch and sched_process_free, by tp_btf, else raw_tp, else
//! tp (which needs no BTF of the kernel). Five tables make it longer than other tools, and
//! its program knows a thread in two ways, with types of the kernel and without.

use plugin_bpf::group::Cgroups;
use plugin_bpf::prelude::*;
use skel::types::{group, waits};

skeleton!(runqlat);
by!(By: Comm, Cgroup, PidNs);

/// As the program numbers them.
const CAUSES: [&str; 6] = [
    "woken",
    "preempted_same",
    "preempted_other",
    "preempted_system",
    "preempted_unknown",
    "throttled",
];

table! {
    /// How long threads waited for a CPU: from the wakeup or the preemption until they ran.
    runqlat {
        latency: histogram(us) "The waits that ended since the last tick.",
        /// Threads that began to run, but nobody saw them begin to wait: they waited already when the
        /// collector started.
        unmatched: counter,
        unended: counter "Waits that the tool saw begin and not end, of all threads.",
        /// Waits of threads of which the tool does not know yet whether the options want them; only without
        /// the kernel's BTF.
        unknown: counter,
        dropped: counter "Waits that found no room in the kernel's map of threads.",
        dropped_names: counter "Waits that are in no row of the table of `by`: no room for another name.",
    }
}
table! {
    /// The same waits by what began them; with `causes = true`.
    runqlat_cause {
        tags { cause "`woken`; `preempted_..`: by whom; `throttled`: the CPU had nothing else to run." }
        latency: histogram(us) "The waits that ended since the last tick.",
    }
}
table! {
    /// The threads that waited longest in sum, by name; with `by = "comm"`.
    runqlat_comm {
        tags { comm "The thread's name; `other` is the sum of those beyond the first 20." }
        count: counter "Waits.",
        sum_us: counter(us) "Their sum.",
    }
}
table! {
    /// The cgroups whose threads waited longest in sum; with `by = "cgroup"`.
    runqlat_cgroup {
        tags { cgroup "Its path in cgroup2; `other` is the sum of those beyond the first 20." }
        count: counter "Waits.",
        sum_us: counter(us) "Their sum.",
    }
}
table! {
    /// The pid namespaces whose threads waited longest in sum; with `by = "pid_ns"`.
    runqlat_pid_ns {
        tags { pid_ns "Its number, as in /proc/PID/ns/pid; `other` is the sum of those beyond the first 20." }
        count: counter "Waits.",
        sum_us: counter(us) "Their sum.",
    }
}
options! {
    /// What `[plugin.runqlat]` takes.
    pub struct Options {
        /// `comm`, `cgroup` or `pid_ns` adds the table runqlat_comm, runqlat_cgroup or runqlat_pid_ns.
        by: By = By::Nothing,
        /// `true` adds the table runqlat_cause.
        causes: bool = false,
        /// Only these processes, at most 16, by their ids in the initial namespace; empty: all.
        pid: Vec<u64> [1..=4_194_304] = Vec::new(),
        /// Only threads with these names, at most 8; empty: all.
        comm: Vec<String> = Vec::new(),
        /// Only this cgroup and those below it, such as `/system.slice`; empty: all.
        cgroup: String = String::new(),
    }
}

/// The tool.
pub struct Runqlat {
    by: By,
    causes: bool,
    names: Groups<waits>,
    cgroups: Option<Cgroups>,
}

impl Tool for Runqlat {
    type Options = Options;
    type Object = skel::Object;

    fn new(options: Options, setup: &mut Setup<skel::Object>) -> Result<Self> {
        let by = options.by;
        let causes = options.causes;
        (setup.consts.by, setup.consts.by_cause) = (by as u32, causes);
        setup.only_if(causes, skel::Map::causes);
        setup.only_if(!causes, skel::Map::latency);
        setup.only_if(by != By::Nothing, skel::Map::groups);
        setup.filter(&Filter::of(&options.pid, &options.comm, &options.cgroup)?);
        let cgroups = (by == By::Cgroup).then(Cgroups::find).transpose()?;
        let names = Groups::<waits>::default().divide(|waits| &mut waits.sum_ns, 1000);
        Ok(Self { by, causes, names, cgroups })
    }

    fn rows(&mut self, _: &Tick, maps: &mut skel::Maps, lines: &mut Lines) -> Result<()> {
        let skel::counts { unmatched, unended, unknown, dropped } = maps.counts.take();
        let dropped_names = maps.groups.lost().events();
        let causes = if self.causes { &CAUSES[..] } else { &[] };
        let causes = causes.iter().enumerate().map(|(i, cause)| (*cause, maps.causes.take(i)));
        let causes: Vec<_> = causes.collect();
        let mut latency = if self.causes { Snapshot::default() } else { maps.latency.take(0) };
        causes.iter().for_each(|(_, waits)| latency.merge(waits));
        let row = runqlat::Row { latency, unmatched, unended, unknown, dropped, dropped_names };
        lines.push(row)?;
        for (cause, latency) in causes {
            lines.push(runqlat_cause::Row { cause: cause.into(), latency })?;
        }
        if self.by == By::Nothing {
            return Ok(());
        }
        let Self { by, names, cgroups, .. } = self;
        cgroups.iter_mut().for_each(Cgroups::refresh);
        let named = maps
            .groups
            .take()
            .into_iter()
            .map(|(group, waits)| (name(*by, &group, cgroups.as_mut()), waits));
        for (name, waits { count, sum_ns: sum_us }) in names.rows(named, |waits| waits.sum_ns) {
            match by {
                By::Cgroup => lines.push(runqlat_cgroup::Row { cgroup: name, count, sum_us })?,
                By::PidNs => lines.push(runqlat_pid_ns::Row { pid_ns: name, count, sum_us })?,
                _ => lines.push(runqlat_comm::Row { comm: name, count, sum_us })?,
            }
        }
        Ok(())
    }
}

/// What a row is named by; without the kernel's BTF a cgroup or namespace may be unknown.
fn name(by: By, group: &group, cgroups: Option<&mut Cgroups>) -> String {
    match cgroups {
        _ if by == By::Comm => text(&group.comm.name),
        _ if group.id == 0 => "unknown".to_owned(),
        Some(cgroups) => cgroups.text(group.id),
        None => group.id.to_string(),
    }
}

export_tool!(Runqlat: runqlat, runqlat_cause, runqlat_comm, runqlat_cgroup, runqlat_pid_ns);
