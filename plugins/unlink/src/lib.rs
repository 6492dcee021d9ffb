//! Deletions of files: how many, their errors and how long they take.
//!
//! Hooks: do_unlinkat (filename_unlinkat since Linux 7.0), entry and return, by fentry, else kprobe; else the system
//! calls unlink and unlinkat by tp, else by raw_tp on sys_enter and sys_exit, which run for every system call.
//! Five tables and the modes make it longer than other tools.

use plugin_bpf::max_threads;
use plugin_bpf::prelude::*;
use skel::types::{calls, event};

skeleton!(unlink);
by!(By: Comm);

/// Calls that are noted as under way at a time, at most: 64 KiB; 320 KiB on Linux 5.10, which makes all room at once.
const CALLS: u32 = 4_096;

table! {
    /// Deletions of files that ended.
    unlink {
        tags { mode "`fentry` and `kprobe` see all; `tp` and `raw_tp` only system calls of 64-bit programs." }
        deleted: counter "Files that were deleted.",
        failed: counter "Calls that were answered with an error.",
        duration: histogram(us) "Both, from the begin of the call to its end.",
    }
}
table! {
    /// The errors of these calls.
    unlink_errno {
        tags { errno "The error, such as `ENOENT`; `other` is the sum beyond the first 20." }
        failed: counter "Calls that it answered.",
    }
}
table! {
    /// The process names that delete most; with `by = "comm"`.
    unlink_comm {
        tags { comm "The name; `other` is the sum of those beyond the first 20." }
        calls: counter "Calls.",
        failed: counter "Of these: answered with an error.",
        sum_us: counter(us) "Sum of their durations.",
    }
}
table! {
    /// One deletion, at the time of its end; with `events = true`.
    unlink_event {
        pid: gauge "The process.",
        comm: text "The thread's name.",
        path: text "As the caller gave it, at most 255 bytes; empty where the caller's pointer was wrong.",
        result: text "`ok`, or the error.",
        duration_us: float(us) "From the begin of the call to its end.",
    }
}
table! {
    /// What is not in the tables above.
    unlink_lost {
        unmatched: counter "Ends whose begin was not seen.",
        unended: counter "Begins whose end was not seen.",
        dropped: counter "Calls that found no room at their begin; their ends are unmatched.",
        dropped_names: counter "Calls in no row of unlink_comm: no room for another name.",
        dropped_events: counter "Calls that are in no unlink_event: no room for another.",
    }
}
choice! {
    /// By which mechanism it is attached.
    pub enum Mode {
        /// The best that works.
        Best = "",
        /// The function, by a trampoline.
        Fentry = "fentry",
        /// The function, by a breakpoint or a jump.
        Kprobe = "kprobe",
        /// The system calls, by their own tracepoints.
        Tp = "tp",
        /// The system calls, by the tracepoints of all system calls.
        RawTp = "raw_tp",
    }
}
options! {
    /// What `[plugin.unlink]` takes.
    pub struct Options {
        /// Only by this mechanism; empty: the first of these that works.
        mode: Mode = Mode::Best,
        /// Only these processes, at most 16, by their ids in the initial namespace; empty: all.
        pid: Vec<u64> [1..=4_194_304] = Vec::new(),
        /// Only threads with these names, at most 8; empty: all.
        comm: Vec<String> = Vec::new(),
        /// Only this cgroup and those below it, such as `/system.slice`; empty: all.
        cgroup: String = String::new(),
        /// `comm` adds the table unlink_comm.
        by: By = By::Nothing,
        /// One line of unlink_event per call.
        events: bool = false,
        /// Shorter calls have no event.
        min_duration: Duration [..=Duration::from_secs(1 << 32)] = Duration::ZERO,
    }
}

/// The tool.
pub struct Unlink {
    options: Options,
    mode: &'static str,
    names: Groups<calls>,
    timeline: Timeline,
}

impl Tool for Unlink {
    type Options = Options;
    type Object = skel::Object;

    fn new(options: Options, setup: &mut Setup<skel::Object>) -> Result<Self> {
        setup.filter(&Filter::of(&options.pid, &options.comm, &options.cgroup)?);
        setup.consts.events = options.events;
        setup.consts.by_comm = options.by == By::Comm;
        setup.consts.min_duration_ns = options.min_duration.as_nanos() as u64;
        setup.only_if(setup.consts.by_comm, skel::Map::comms);
        setup.entries(skel::Map::begun, max_threads().min(CALLS));
        setup.only_if(options.events, skel::Map::named);
        setup.only_if(options.events, skel::Map::events_ring);
        let names = Groups::<calls>::default().divide(|calls| &mut calls.sum_ns, 1000);
        Ok(Self { options, mode: "", names, timeline: Timeline::default() })
    }

    fn hooks(&self) -> Hooks {
        let all = |names: &[&'static str]| names.iter().map(|name| Hook::of(name)).collect();
        // arm64 has no unlink.
        let plain = ["plain_exit", "plain_enter"].map(|name| Hook::of(name).optional());
        let calls = [plain.to_vec(), all(&["at_exit", "at_enter"])].concat();
        let modes: [(_, Vec<Hook>); 4] = [
            (Mode::Fentry, vec![Hook::of("del").only("fentry")]),
            (Mode::Kprobe, vec![Hook::of("del").only("kprobe")]),
            (Mode::Tp, calls),
            (Mode::RawTp, all(&["sys_exit", "sys_enter"])),
        ];
        let wanted = |mode| [mode, Mode::Best].contains(&self.options.mode);
        let modes = modes.into_iter().filter(|(mode, _)| wanted(*mode));
        modes.fold(Hooks::default(), |hooks, (_, set)| hooks.or(set)).without_others()
    }

    fn tend(&mut self, attached: &mut Attached) -> Result<()> {
        self.mode = match attached.programs().first().map(|program| program.hook()) {
            Some("fentry" | "fexit") => Mode::Fentry.text(),
            Some("kprobe" | "kretprobe") => Mode::Kprobe.text(),
            Some("tp") => Mode::Tp.text(),
            _ => Mode::RawTp.text(),
        };
        Ok(())
    }

    fn rows(&mut self, tick: &Tick, maps: &mut skel::Maps, lines: &mut Lines) -> Result<()> {
        let (failed, errnos) = errno::take(&mut maps.errnos);
        lines.push(unlink::Row {
            mode: self.mode.into(),
            deleted: maps.counts.take().deleted,
            failed,
            duration: maps.durations.take(0),
        })?;
        for (errno, failed) in errnos {
            lines.push(unlink_errno::Row { errno, failed })?;
        }
        if self.options.by == By::Comm {
            for (comm, sum) in self.names.rows(maps.comms.take(), |calls| calls.count) {
                let calls { count: calls, failed, sum_ns: sum_us } = sum;
                lines.push(unlink_comm::Row { comm, calls, failed, sum_us })?;
            }
        }
        maps.begun.forget_ended_threads(tick)?;
        maps.named.forget_ended_threads(tick)?;
        let Lost { unmatched, twice, died, full, busy, .. } = maps.begun.lost();
        let (unended, dropped) = (twice + died, full + busy);
        let dropped_names = maps.comms.lost().events();
        let dropped_events = maps.named.lost().events() + maps.events_ring.lost().events();
        lines.push(unlink_lost::Row {
            unmatched,
            unended,
            dropped,
            dropped_names,
            dropped_events,
        })?;
        self.timeline.place(maps.events_ring.take(), |ns, e| lines.push_at(ns, row(&e)))
    }
}

fn row(event: &event) -> unlink_event::Row {
    unlink_event::Row {
        pid: event.pid.into(),
        comm: text(&event.comm).into(),
        path: text(&event.path).into(),
        result: match event.result {
            ..0 => errno::name(event.result.unsigned_abs()),
            _ => "ok".into(),
        },
        duration_us: event.duration_ns as f64 / 1e3,
    }
}

export_tool!(Unlink: unlink, unlink_errno, unlink_comm, unlink_event, unlink_lost);
