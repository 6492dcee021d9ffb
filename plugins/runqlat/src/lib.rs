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

options! {
    /// What `[plugin.runqlat]` takes.
    pub struct Options {
        /// `comm` adds the table runqlat_comm.
        by: String = String::new(),
    }
}

/// Names that get a line of their own.
const TOP: usize = 20;

/// The tool.
pub struct Runqlat {
    by_comm: bool,
}

impl Tool for Runqlat {
    type Options = Options;
    type Object = skel::Object;

    fn new(options: Options) -> Result<Self> {
        Ok(Self { by_comm: options.by == "comm" })
    }

    fn setup(&self, setup: &mut Setup<skel::Object>) -> Result<()> {
        setup.consts.by_comm = self.by_comm;
        if !self.by_comm {
            setup.without(skel::Map::comms);
        }
        Ok(())
    }

    fn rows(&mut self, _: &Tick, maps: &mut skel::Maps, lines: &mut Lines) -> Result<()> {
        let counts = maps.counts.take();
        lines.push(runqlat::Row {
            latency: maps.latency.take(0),
            unmatched: counts.unmatched,
            dropped: counts.dropped,
        })?;
        if self.by_comm {
            let (top, rest) = top(maps.comms.take(), TOP, |(_, waits)| waits.sum_ns);
            for (comm, waits) in top {
                lines.push(row(text(&comm.name), &[waits]))?;
            }
            let rest: Vec<_> = rest.into_iter().map(|(_, waits)| waits).collect();
            lines.push(row("other".into(), &rest))?;
        }
        Ok(())
    }
}

fn row(comm: String, waits: &[skel::types::waits]) -> runqlat_comm::Row {
    runqlat_comm::Row {
        comm: comm.into(),
        count: waits.iter().map(|w| w.count).sum(),
        sum_us: waits.iter().map(|w| w.sum_ns).sum::<u64>() / 1000,
    }
}

export_tool!(Runqlat: runqlat, runqlat_comm);
