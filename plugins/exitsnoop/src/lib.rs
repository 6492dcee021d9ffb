//! Ends of processes: by which cause, and at which age.
//!
//! Hooks: sched_process_exit by tp_btf, else raw_tp, else tp. Six tables make it longer than other tools.

use plugin_bpf::prelude::*;
use skel::types::{ends, event};
use std::collections::BTreeMap;

skeleton!(exitsnoop);
by!(By: Comm);

/// Numbers of causes, as in the program.
const SIGNALED: u32 = 256;
const UNKNOWN: u32 = 512;
/// Among them, of a signal: it left a core.
const CORE: u32 = 0x80;

table! {
    /// Processes that ended, with their last thread.
    exitsnoop {
        exits: counter "Ends of processes: the sum of the causes.",
        ok: counter "With exit status 0.",
        failed: counter "With another exit status.",
        signaled: counter "By a signal.",
        cores: counter "Of these, with a core that was dumped.",
        unknown: counter "Without a known cause.",
        threads: counter "Ends of threads whose process went on, apart from these.",
        short_lived: counter "Ends before `min_duration`.",
        age: histogram(ms) "Ages from the fork, of ends whose start is known.",
    }
}
table! {
    /// Ends by a signal, a line for each signal that there was.
    exitsnoop_signal {
        tags { sig "Its name, such as `SIGKILL`." }
        exits: counter "Processes that it ended.",
        cores: counter "Of these, with a core that was dumped.",
    }
}
table! {
    /// Ends with an exit status other than 0: the 20 with most.
    exitsnoop_code {
        tags { code "The status, 1 to 255; `other` is the sum of those beyond the first 20." }
        exits: counter "Processes that ended with it.",
    }
}
table! {
    /// The process names with the most ends; with `by = "comm"`.
    exitsnoop_comm {
        tags { comm "The name; `other` is the sum of those beyond the first 20." }
        exits: counter "Processes that ended.",
        failed: counter "Of these, with an exit status other than 0.",
        signaled: counter "Of these, by a signal.",
        age_sum_ms: counter(ms) "Sum of their ages, where known.",
    }
}
table! {
    /// One process that ended, at its own time; with `events = true`.
    exitsnoop_event {
        tags { cause "`ok`, `failed`, `signaled`, `core` or `unknown`, as above." }
        pid: gauge "The process.",
        ppid: gauge [optional] "Its parent.",
        comm: text "The name of its first thread.",
        code: gauge [optional] "Exit status, 0 to 255, of a process that ended by itself.",
        signal: gauge [optional] "The signal that ended it.",
        age_ms: float(ms) [optional] "From the fork to the end.",
    }
}
table! {
    /// What is in no line of the tables above.
    exitsnoop_lost {
        dropped_names: counter "Ends that found no room in the table of names.",
        dropped_events: counter "Ends that found no room among the single events.",
    }
}
options! {
    /// What `[plugin.exitsnoop]` takes.
    pub struct Options {
        /// `comm` adds the table exitsnoop_comm.
        by: By = By::Nothing,
        /// One line of exitsnoop_event per process that ended.
        events: bool = false,
        /// Younger processes have no event and count as short_lived.
        min_duration: Duration [..=Duration::from_secs(1 << 32)] = Duration::ZERO,
        /// Only these processes, at most 16, by their ids in the initial namespace; empty: all.
        pid: Vec<u64> [1..=4_194_304] = Vec::new(),
        /// Only processes whose first thread has one of these names, at most 8; empty: all.
        comm: Vec<String> = Vec::new(),
        /// Only this cgroup and those below it, such as `/system.slice`; empty: all.
        cgroup: String = String::new(),
    }
}

/// The tool.
pub struct Exitsnoop {
    by_comm: bool,
    codes: Groups<u64>,
    names: Groups<ends>,
    timeline: Timeline,
}

impl Tool for Exitsnoop {
    type Options = Options;
    type Object = skel::Object;

    fn new(options: Options, setup: &mut Setup<skel::Object>) -> Result<Self> {
        let by_comm = options.by == By::Comm;
        (setup.consts.by_comm, setup.consts.events) = (by_comm, options.events);
        setup.consts.min_duration_ns = options.min_duration.as_nanos() as u64;
        setup.only_if(by_comm, skel::Map::comms);
        setup.only_if(options.events, skel::Map::ended);
        setup.filter(&Filter::of(&options.pid, &options.comm, &options.cgroup)?);
        let names = Groups::default().divide(|ends: &mut ends| &mut ends.sum_ns, 1_000_000);
        Ok(Self { by_comm, codes: Groups::default(), names, timeline: Timeline::default() })
    }

    fn rows(&mut self, _: &Tick, maps: &mut skel::Maps, lines: &mut Lines) -> Result<()> {
        let (mut ok, mut unknown, mut codes) = (0, 0, Vec::new());
        let mut signals: BTreeMap<u32, (u64, u64)> = BTreeMap::new();
        for (cause, exits) in maps.causes.take_all() {
            match cause as u32 {
                0 => ok = exits,
                code @ 1..SIGNALED => codes.push((code.to_string(), exits)),
                cause @ SIGNALED..UNKNOWN => {
                    let sum = signals.entry(cause & 0x7f).or_default();
                    sum.0 += exits;
                    sum.1 += if cause & CORE != 0 { exits } else { 0 };
                }
                _ => unknown = exits,
            }
        }
        let failed = codes.iter().map(|(_, exits)| exits).sum::<u64>();
        let (signaled, cores) = signals.values().fold((0, 0), |sum, n| (sum.0 + n.0, sum.1 + n.1));
        let counts = maps.counts.take();
        lines.push(exitsnoop::Row {
            exits: ok + failed + signaled + unknown,
            ok,
            failed,
            signaled,
            cores,
            unknown,
            threads: counts.threads,
            short_lived: counts.short_lived,
            age: maps.ages.take(0),
        })?;
        for (number, (exits, cores)) in signals {
            lines.push(exitsnoop_signal::Row { sig: signal::name(number as i32), exits, cores })?;
        }
        for (code, exits) in self.codes.rows(codes, |exits| *exits) {
            lines.push(exitsnoop_code::Row { code, exits })?;
        }
        if self.by_comm {
            for (comm, ends) in self.names.rows(maps.comms.take(), |ends| ends.exits) {
                let ends { exits, failed, signaled, sum_ns: age_sum_ms } = ends;
                lines.push(exitsnoop_comm::Row { comm, exits, failed, signaled, age_sum_ms })?;
            }
        }
        let dropped_names = maps.comms.lost().events();
        let dropped_events = maps.ended.lost().events();
        lines.push(exitsnoop_lost::Row { dropped_names, dropped_events })?;
        self.timeline.place(maps.ended.take(), |ns, event| lines.push_at(ns, row(&event)))
    }
}

fn row(event: &event) -> exitsnoop_event::Row {
    let code = (event.cause < SIGNALED).then(|| event.cause.into());
    let signal = (SIGNALED..UNKNOWN).contains(&event.cause).then_some(event.cause & 0x7f);
    let cause = match (code, signal) {
        (Some(0), _) => "ok",
        (Some(_), _) => "failed",
        (_, Some(_)) if event.cause & CORE != 0 => "core",
        (_, Some(_)) => "signaled",
        _ => "unknown",
    };
    exitsnoop_event::Row {
        cause: cause.into(),
        pid: event.pid.into(),
        ppid: (event.ppid != 0).then(|| event.ppid.into()),
        comm: text(&event.comm).into(),
        code,
        signal: signal.map(i64::from),
        age_ms: (event.age_ns != 0).then(|| event.age_ns as f64 / 1e6),
    }
}

export_tool!(
    Exitsnoop: exitsnoop, exitsnoop_signal, exitsnoop_code, exitsnoop_comm, exitsnoop_event, exitsnoop_lost,
);
