//! Opens of files: how many, with which results, by whom, and each by itself.
//!
//! Hooks: do_sys_openat2 by fexit; else the returns of open, openat, openat2 and creat by tp, which read what was
//! asked out of the registers of the thread; else, and for the latency, their entries too. Six tables make it
//! longer than other tools.

use plugin_bpf::prelude::*;
use skel::types::{event, opens};

skeleton!(opensnoop);
by!(By: Comm);

table! {
    /// Calls of open, openat, openat2 and creat that ended.
    opensnoop {
        opens: counter "Calls, whatever their result.",
        failed: counter "Calls that ended with an error.",
        for_writing: counter "Calls that asked for a file to write, whatever their result.",
        creating: counter "Calls that asked to create a file that is not there, whatever their result.",
    }
}
table! {
    /// The most frequent errors.
    opensnoop_errno {
        tags { errno "The error, such as `ENOENT`; `other` is the sum beyond the first 20." }
        failed: counter "Calls that ended with it.",
    }
}
table! {
    /// How long the calls took; with `latency = true`.
    opensnoop_latency {
        latency: histogram(us) "The calls that ended since the last tick, from the entry to the return.",
    }
}
table! {
    /// The threads that opened most, by name; with `by = "comm"`.
    opensnoop_comm {
        tags { comm "The thread's name; `other` is the sum of those beyond the first 20." }
        opens: counter "Calls.",
        failed: counter "Calls that ended with an error.",
    }
}
table! {
    /// One call, at the time of its return; with `events = true`.
    opensnoop_event {
        pid: gauge "The process.",
        comm: text "The thread's name.",
        path: text [optional] "As it was given, at most 255 bytes; left out when it cannot be read.",
        flags: gauge "As fcntl.h numbers them.",
        fd: gauge [optional] "The file descriptor.",
        errno: text [optional] "The error.",
    }
}
table! {
    /// What is in no line of the tables above.
    opensnoop_lost {
        unmatched: counter "Calls in opensnoop whose entry was not seen: no flags, path or latency.",
        unended: counter "Entries whose return was not seen.",
        dropped_entries: counter "Entries that found no room: their returns are unmatched.",
        dropped_comms: counter "Calls in no row of opensnoop_comm: no room for another name.",
        dropped_events: counter "Calls without an event: no room for another.",
    }
}
options! {
    /// What `[plugin.opensnoop]` takes.
    pub struct Options {
        /// Also measures how long the calls take.
        latency: bool = false,
        /// `comm` adds the table opensnoop_comm.
        by: By = By::Nothing,
        /// One line of opensnoop_event per call.
        events: bool = false,
        /// Only these processes, at most 16, by their ids in the initial namespace; empty: all.
        pid: Vec<u64> [1..=4_194_304] = Vec::new(),
        /// Only threads with these names, at most 8; empty: all.
        comm: Vec<String> = Vec::new(),
        /// Only this cgroup and those below it, such as `/system.slice`; empty: all.
        cgroup: String = String::new(),
    }
}

/// The tool.
pub struct Opensnoop {
    latency: bool,
    errors: Groups<u64>,
    comms: Option<Groups<opens>>,
    timeline: Timeline,
}

impl Tool for Opensnoop {
    type Options = Options;
    type Object = skel::Object;

    fn new(options: Options, setup: &mut Setup<skel::Object>) -> Result<Self> {
        let Options { latency, by, events, pid, comm, cgroup } = options;
        let by_comm = by == By::Comm;
        setup.filter(&Filter::of(&pid, &comm, &cgroup)?);
        let consts = &mut setup.consts;
        (consts.latency, consts.by_comm, consts.events) = (latency, by_comm, events);
        setup.only_if(latency, skel::Map::times);
        setup.only_if(by_comm, skel::Map::comms);
        setup.only_if(events, skel::Map::singles);
        let comms = by_comm.then(Groups::default);
        Ok(Self { latency, errors: Groups::default(), comms, timeline: Timeline::default() })
    }

    fn hooks(&self) -> Hooks {
        // Not every machine and kernel has the other three.
        let optional = |name| Hook::of(name).optional();
        // In this order: whose entry is seen, its return is seen too.
        let pairs = [
            Hook::of("exit_openat"),
            Hook::of("enter_openat"),
            optional("exit_openat2"),
            optional("enter_openat2"),
            optional("exit_open"),
            optional("enter_open"),
            optional("exit_creat"),
            optional("enter_creat"),
        ];
        if self.latency {
            return Hooks::all(pairs).without_others();
        }
        let others = ["regs_openat2", "regs_open", "regs_creat"].map(optional);
        let registers = [Hook::of("regs_openat")].into_iter().chain(others);
        Hooks::all([Hook::of("open")]).or(registers).or(pairs)
    }

    fn rows(&mut self, _: &Tick, maps: &mut skel::Maps, lines: &mut Lines) -> Result<()> {
        let counts = maps.counts.take();
        let mut results: Vec<_> = maps.results.take_all().collect();
        let opens = results.iter().map(|(_, calls)| calls).sum();
        results.retain(|(error, _)| *error > 0);
        let failed = results.iter().map(|(_, calls)| calls).sum();
        let skel::counts { for_writing, creating } = counts;
        lines.push(opensnoop::Row { opens, failed, for_writing, creating })?;
        let errors = results.into_iter().map(|(error, calls)| (errno::name(error as u32), calls));
        for (errno, failed) in self.errors.rows(errors, |calls| *calls) {
            lines.push(opensnoop_errno::Row { errno, failed })?;
        }
        if self.latency {
            lines.push(opensnoop_latency::Row { latency: maps.times.take(0) })?;
        }
        if let Some(comms) = &mut self.comms {
            for (comm, sum) in comms.rows(maps.comms.take(), |opens| opens.opens) {
                let opens { opens, failed } = sum;
                lines.push(opensnoop_comm::Row { comm, opens, failed })?;
            }
        }
        let Lost { unmatched, twice, died, .. } = maps.calls.lost();
        lines.push(opensnoop_lost::Row {
            unmatched,
            unended: twice + died,
            dropped_entries: maps.calls.lost().events(),
            dropped_comms: maps.comms.lost().events(),
            dropped_events: maps.singles.lost().events(),
        })?;
        self.timeline.place(maps.singles.take(), |ns, event| lines.push_at(ns, row(&event)))
    }
}

fn row(event: &event) -> opensnoop_event::Row {
    let error = u32::try_from(-i64::from(event.result)).ok().filter(|error| *error > 0);
    opensnoop_event::Row {
        pid: event.pid.into(),
        comm: text(&event.comm).into(),
        path: (event.path_bytes > 0).then(|| text(&event.path).into()),
        flags: event.flags as i64,
        fd: error.is_none().then(|| event.result.into()),
        errno: error.map(errno::name),
    }
}

export_tool!(
    Opensnoop: opensnoop, opensnoop_errno, opensnoop_latency, opensnoop_comm, opensnoop_event, opensnoop_lost
);
