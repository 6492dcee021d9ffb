//! The model of a table and of single events.
//!
//! Hooks: sched_process_exec and sched_process_exit, by tp_btf, else raw_tp, else tp.

use plugin_bpf::prelude::*;
use skel::types::{event, lives};

skeleton!(bootstrap);
by!(By: Comm);

table! {
    /// Programs that were started and processes that ended.
    bootstrap {
        execs: counter "Programs started: successful execs.",
        exits: counter "Processes that ended, with their last thread.",
        failed: counter "Ends with an exit status other than 0.",
        signaled: counter "Ends by a signal.",
        short_lived: counter "Ends before `min_duration`.",
        lifetime: histogram(ms) "Lifetimes from the fork, of ends whose start is known.",
        dropped_names: counter "Starts and ends that found no room in the table of names.",
        dropped_events: counter "Starts and ends that found no room among the single events.",
    }
}

table! {
    /// The process names with the most ends and starts; with `by = "comm"`.
    bootstrap_comm {
        tags { comm "The name; `other` is the sum of those beyond the first 20." }
        execs: counter "Programs started.",
        exits: counter "Processes that ended.",
        life_sum_ms: counter(ms) "Sum of their lifetimes, where known.",
    }
}

table! {
    /// One start or end, at its own time; with `events = true`.
    bootstrap_event {
        tags { event "`exec` or `exit`." }
        pid: gauge "The process.",
        ppid: gauge [optional] "Its parent.",
        comm: text "Its name.",
        filename: text [optional] "The file that was executed, at most 127 bytes of its path.",
        exit_code: gauge [optional] "Exit status, 0 to 255, of a process that ended by itself.",
        signal: gauge [optional] "The signal that ended it.",
        lifetime_ms: float(ms) [optional] "From the fork to the end.",
    }
}

options! {
    /// What `[plugin.bootstrap]` takes.
    pub struct Options {
        /// `comm` adds the table bootstrap_comm.
        by: By = By::Nothing,
        /// One line of bootstrap_event per start and end.
        events: bool = false,
        /// Shorter lives have no event and count as short_lived; starts then have no event either.
        min_duration: Duration [..=Duration::from_secs(1 << 32)] = Duration::ZERO,
    }
}

/// The tool.
pub struct Bootstrap {
    names: Option<Groups<lives>>,
    timeline: Timeline,
}

impl Tool for Bootstrap {
    type Options = Options;
    type Object = skel::Object;

    fn new(options: Options, setup: &mut Setup<skel::Object>) -> Result<Self> {
        setup.consts.events = options.events;
        setup.consts.by_comm = options.by == By::Comm;
        setup.consts.min_duration_ns = options.min_duration.as_nanos() as u64;
        setup.only_if(options.events, skel::Map::events_ring);
        setup.only_if(setup.consts.by_comm, skel::Map::comms);
        let names = Groups::<lives>::default().divide(|lives| &mut lives.sum_ns, 1_000_000);
        let names = setup.consts.by_comm.then_some(names);
        Ok(Self { names, timeline: Timeline::default() })
    }

    fn rows(&mut self, _: &Tick, maps: &mut skel::Maps, lines: &mut Lines) -> Result<()> {
        let counts = maps.counts.take();
        lines.push(bootstrap::Row {
            execs: counts.execs,
            exits: counts.exits,
            failed: counts.failed,
            signaled: counts.signaled,
            short_lived: counts.short_lived,
            lifetime: maps.lifetime.take(0),
            dropped_names: maps.comms.lost().events(),
            dropped_events: maps.events_ring.lost().events(),
        })?;
        if let Some(names) = &mut self.names {
            for (comm, lives) in names.rows(maps.comms.take(), |lives| lives.exits + lives.execs) {
                let lives { execs, exits, sum_ns: life_sum_ms } = lives;
                lines.push(bootstrap_comm::Row { comm, execs, exits, life_sum_ms })?;
            }
        }
        self.timeline.place(maps.events_ring.take(), |ns, e| lines.push_at(ns, row(&e)))
    }
}

fn row(event: &event) -> bootstrap_event::Row {
    let (exit_code, signal) = exit_status(event.status);
    bootstrap_event::Row {
        event: if event.exit == 0 { "exec" } else { "exit" }.into(),
        pid: event.pid.into(),
        ppid: (event.ppid != 0).then(|| event.ppid.into()),
        comm: text(&event.comm).into(),
        filename: (event.exit == 0).then(|| text(&event.filename).into()),
        exit_code,
        signal,
        lifetime_ms: (event.life_ns != 0).then(|| event.life_ns as f64 / 1e6),
    }
}

export_tool!(Bootstrap: bootstrap, bootstrap_comm, bootstrap_event);
