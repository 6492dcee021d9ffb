//! The model of a histogram.
//!
//! Hooks: sched_wakeup, sched_wakeup_new, sched_switch and sched_process_free, by tp_btf, else raw_tp, else
//! tp (which needs no BTF of the kernel).

use plugin_bpf::prelude::*;
use skel::types::waits;

skeleton!(runqlat);
by!(By: Comm);

table! {
    /// How long threads waited for a CPU: from the wakeup or the preemption until they ran.
    runqlat {
        latency: histogram(us) "The waits that ended since the last tick.",
        /// Threads that began to run, but nobody saw them begin to wait: they waited already when the
        /// collector started.
        unmatched: counter,
        dropped: counter "Waits that found no room in the kernel's map of threads.",
        dropped_names: counter "Waits that are in no row of runqlat_comm: no room for another name.",
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

options! {
    /// What `[plugin.runqlat]` takes.
    pub struct Options {
        /// `comm` adds the table runqlat_comm.
        by: By = By::Nothing,
    }
}

/// The tool.
pub struct Runqlat {
    names: Option<Groups<waits>>,
}

impl Tool for Runqlat {
    type Options = Options;
    type Object = skel::Object;

    fn new(options: Options, setup: &mut Setup<skel::Object>) -> Result<Self> {
        setup.consts.by_comm = options.by == By::Comm;
        setup.only_if(setup.consts.by_comm, skel::Map::comms);
        let names = Groups::<waits>::default().divide(|waits| &mut waits.sum_ns, 1000);
        Ok(Self { names: setup.consts.by_comm.then_some(names) })
    }

    fn rows(&mut self, _: &Tick, maps: &mut skel::Maps, lines: &mut Lines) -> Result<()> {
        let skel::counts { unmatched, dropped } = maps.counts.take();
        let (latency, dropped_names) = (maps.latency.take(0), maps.comms.lost().events());
        lines.push(runqlat::Row { latency, unmatched, dropped, dropped_names })?;
        if let Some(names) = &mut self.names {
            for (comm, waits) in names.rows(maps.comms.take(), |waits| waits.sum_ns) {
                lines.push(runqlat_comm::Row { comm, count: waits.count, sum_us: waits.sum_ns })?;
            }
        }
        Ok(())
    }
}

export_tool!(Runqlat: runqlat, runqlat_comm);
