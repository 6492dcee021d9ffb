//! Process starts, ends and lifetimes, and the model of a table and of single events.
//!
//! Hooks: sched_process_exec and sched_process_exit, by tp_btf, else raw_tp, else tp (which needs no BTF of
//! the kernel, and knows neither exit status nor the time of the fork).

use plugin_bpf::prelude::*;
use std::time::Duration;

skeleton!(bootstrap);

table! {
    /// Programs that were started and processes that ended.
    bootstrap {
        /// Programs started: successful execs.
        execs: counter,
        /// Processes that ended, with their last thread.
        exits: counter,
        /// Ends with an exit status other than 0.
        failed: counter,
        /// Ends by a signal.
        signaled: counter,
        /// Ends before `min_duration`.
        short_lived: counter,
        /// Lifetimes of processes that ended, from the fork; its count is less than `exits` where a start
        /// is not known (rung tp).
        lifetime: histogram(ms),
        /// Starts and ends that found no room in the table of names.
        dropped_names: counter,
        /// Starts and ends that found no room among the single events.
        dropped_events: counter,
    }
}

table! {
    /// The process names with the most ends and starts.
    bootstrap_comm {
        tags {
            /// The name; `other` is the sum of those beyond the first 20.
            comm,
        }
        /// Programs started.
        execs: counter,
        /// Processes that ended.
        exits: counter,
        /// Sum of their lifetimes, where known.
        life_sum_ms: counter(ms),
    }
}

table! {
    /// One start or end, at its own time; with `events = true`.
    bootstrap_event {
        tags {
            /// `exec` or `exit`.
            event,
        }
        /// The process.
        pid: gauge,
        /// Its parent.
        ppid: gauge [optional],
        /// Its name.
        comm: text,
        /// The file that was executed, at most 127 bytes of its path.
        filename: text [optional],
        /// Exit status, 0 to 255, of a process that ended by itself.
        exit_code: gauge [optional],
        /// The signal that ended it.
        signal: gauge [optional],
        /// From the fork to the end.
        lifetime_ms: float(ms) [optional],
    }
}

options! {
    /// What `[plugin.bootstrap]` takes.
    pub struct Options {
        /// One line of bootstrap_event per start and end.
        events: bool = false,
        /// Ends of processes that lived shorter have no event, and count as short_lived; when it is set,
        /// starts have no event either.
        min_duration: Duration = Duration::ZERO,
    }
}

/// The tool.
pub struct Bootstrap {
    options: Options,
    names: Groups<skel::types::lives>,
    timeline: Timeline,
}
sums!(skel::types::lives { execs, exits, sum_ns });

impl Tool for Bootstrap {
    type Options = Options;
    type Object = skel::Object;

    fn new(options: Options) -> Result<Self> {
        let names =
            Groups::default().divide(|lives: &mut skel::types::lives| &mut lives.sum_ns, 1_000_000);
        Ok(Self { options, names, timeline: Timeline::default() })
    }

    fn setup(&self, setup: &mut Setup<skel::Object>) -> Result<()> {
        setup.consts.events = self.options.events;
        setup.consts.min_duration_ns = u64::try_from(self.options.min_duration.as_nanos())?;
        setup.only_if(self.options.events, skel::Map::events_ring);
        Ok(())
    }

    fn hooks(&self) -> Hooks {
        let ways = ["exit_group_btf", "exit_btf", "exit_raw", "exit_group_tp", "exit_tp"];
        Hooks::all([Hook::of("exec"), Hook::of("exit").ways(&ways)])
    }

    fn rows(&mut self, _: &Tick, maps: &mut skel::Maps, lines: &mut Lines) -> Result<()> {
        let skel::counts { execs, exits, failed, signaled, short_lived } = maps.counts.take();
        lines.push(bootstrap::Row {
            execs,
            exits,
            failed,
            signaled,
            short_lived,
            lifetime: maps.lifetime.take(0),
            dropped_names: maps.comms.lost().events(),
            dropped_events: maps.events_ring.lost().events(),
        })?;
        let rows = maps.comms.take().into_iter().map(|(comm, lives)| (text(&comm.name), lives));
        for (comm, lives) in self.names.rows(rows, |lives| lives.exits + lives.execs) {
            let skel::types::lives { execs, exits, sum_ns: life_sum_ms } = lives;
            lines.push(bootstrap_comm::Row { comm, execs, exits, life_sum_ms })?;
        }
        let events = maps.events_ring.take();
        self.timeline.place(events, |e| e.ktime_ns, |time_ns, e| lines.push_at(time_ns, event(&e)))
    }
}

fn event(event: &skel::types::event) -> bootstrap_event::Row {
    let exec = event.kind == 0;
    let status = (event.status >= 0 && !exec).then_some(event.status);
    let signal = status.map(|s| i64::from(s & 0x7f)).filter(|s| *s != 0);
    bootstrap_event::Row {
        event: if exec { "exec" } else { "exit" }.into(),
        pid: event.pid.into(),
        ppid: (event.ppid != 0).then(|| event.ppid.into()),
        comm: text(&event.comm).into(),
        filename: exec.then(|| text(&event.filename).into()),
        exit_code: status.filter(|_| signal.is_none()).map(|s| i64::from(s >> 8 & 0xff)),
        signal,
        lifetime_ms: (event.life_ns != 0).then(|| event.life_ns as f64 / 1e6),
    }
}

export_tool!(Bootstrap: bootstrap, bootstrap_comm, bootstrap_event);
