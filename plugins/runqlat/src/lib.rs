//! Run-queue latency: how long runnable threads wait for a CPU, and the model of a histogram.
//!
//! Hooks: sched_wakeup, sched_wakeup_new, sched_switch and sched_process_free, by tp_btf, else raw_tp, else
//! tp (which needs no BTF of the kernel).

use plugin_bpf::prelude::*;

skeleton!(runqlat);

table! {
    /// How long threads waited for a CPU: from the wakeup or the preemption until they ran.
    runqlat {
        /// The waits that ended since the last tick.
        latency: histogram(us),
        /// Threads that began to run, but nobody saw them begin to wait: they waited already when the
        /// collector started.
        unmatched: counter,
        /// Waits that found no room in the kernel's map of threads.
        dropped: counter,
    }
}

table! {
    /// The threads that waited longest in sum, by name; with `by = "comm"`.
    runqlat_comm {
        tags {
            /// The thread's name; `other` is the sum of those beyond the first 20.
            comm,
        }
        /// Waits.
        count: counter,
        /// Their sum.
        sum_us: counter(us),
    }
}

choice! {
    /// What waits are grouped by.
    pub enum By {
        /// Nothing.
        Nothing = "",
        /// The thread's name.
        Comm = "comm",
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
    by_comm: bool,
    names: Groups<skel::types::waits>,
}
sums!(skel::types::waits { count, sum_ns });

impl Tool for Runqlat {
    type Options = Options;
    type Object = skel::Object;

    fn new(options: Options) -> Result<Self> {
        let names =
            Groups::default().divide(|waits: &mut skel::types::waits| &mut waits.sum_ns, 1000);
        Ok(Self { by_comm: options.by == By::Comm, names })
    }

    fn setup(&self, setup: &mut Setup<skel::Object>) -> Result<()> {
        setup.consts.by_comm = self.by_comm;
        setup.only_if(self.by_comm, skel::Map::comms);
        Ok(())
    }

    fn rows(&mut self, _: &Tick, maps: &mut skel::Maps, lines: &mut Lines) -> Result<()> {
        let skel::counts { unmatched, dropped } = maps.counts.take();
        lines.push(runqlat::Row { latency: maps.latency.take(0), unmatched, dropped })?;
        if !self.by_comm {
            return Ok(());
        }
        let rows = maps.comms.take().into_iter().map(|(comm, waits)| (text(&comm.name), waits));
        for (comm, waits) in self.names.rows(rows, |waits| waits.sum_ns) {
            lines.push(runqlat_comm::Row { comm, count: waits.count, sum_us: waits.sum_ns })?;
        }
        Ok(())
    }
}

export_tool!(Runqlat: runqlat, runqlat_comm);
