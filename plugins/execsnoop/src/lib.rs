//! Programs that are started, and execs that fail.
//!
//! Hooks: sched_process_exec by tp_btf, else raw_tp, else tp. For failures sys_exit_execve and sys_exit_execveat
//! by tp, or not at all. Five tables make it longer than other tools.

use plugin_bpf::prelude::*;
use skel::types::{calls, exec};

skeleton!(execsnoop);
by!(By: Comm);

table! {
    /// Programs that were started, and execs that failed.
    execsnoop {
        execs: counter "Programs started: successful execs.",
        from_thread: counter "Of these, by a thread that was not the first of its process.",
        failed: counter [optional] "Calls of execve and execveat that failed; with `failures = true`.",
    }
}
table! {
    /// The errors of failed execs; with `failures = true`.
    execsnoop_errno {
        tags { errno "The error, such as `ENOENT`; `other` is the sum beyond the first 20." }
        failed: counter "Calls of execve and execveat that returned it.",
    }
}
table! {
    /// The names with the most execs; with `by = "comm"`.
    execsnoop_comm {
        tags { comm "The name; `other` is the sum of those beyond the first 20." }
        execs: counter "Programs started: under the new name.",
        failed: counter "Execs that failed: under the caller's name.",
    }
}
table! {
    /// One program that was started, at its own time; with `events = true`.
    execsnoop_event {
        pid: gauge "The process.",
        ppid: gauge [optional] "Its parent.",
        uid: gauge "The real user's id.",
        comm: text "Its new name.",
        filename: text "The file that was executed, at most 127 bytes of its path.",
        args: text [optional] "Its arguments, at most 2,048 bytes of them.",
        args_cut_bytes: gauge(bytes) [optional] "How much of them is missing in `args`.",
    }
}
table! {
    /// What is in no line of the tables above.
    execsnoop_lost {
        dropped_names: counter "Execs that found no room in the table of names.",
        dropped_events: counter "Programs started that found no room among the single events.",
        unread_args: counter "Single events without their arguments: not in memory.",
    }
}
options! {
    /// What `[plugin.execsnoop]` takes.
    pub struct Options {
        /// Also counts failed execs. All system calls of the host become a little slower by that.
        failures: bool = true,
        /// `comm` adds the table execsnoop_comm.
        by: By = By::Nothing,
        /// One line of execsnoop_event per program that was started.
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
pub struct Execsnoop {
    options: Options,
    sees_failures: bool,
    names: Groups<calls>,
    timeline: Timeline,
}

impl Tool for Execsnoop {
    type Options = Options;
    type Object = skel::Object;

    fn new(options: Options, setup: &mut Setup<skel::Object>) -> Result<Self> {
        (setup.consts.by_comm, setup.consts.events) = (options.by == By::Comm, options.events);
        setup.only_if(options.by == By::Comm, skel::Map::comms);
        setup.only_if(options.events, skel::Map::started);
        setup.filter(&Filter::of(&options.pid, &options.comm, &options.cgroup)?);
        let (names, timeline) = (Groups::default(), Timeline::default());
        Ok(Self { options, sees_failures: false, names, timeline })
    }

    fn hooks(&self) -> Hooks {
        let failures = ["execve", "execveat"].map(Hook::of);
        let failures = failures.map(|hook| hook.optional().only_if(self.options.failures));
        Hooks::all([Hook::of("exec")].into_iter().chain(failures))
    }

    fn tend(&mut self, attached: &mut Attached) -> Result<()> {
        self.sees_failures = attached.programs().iter().any(|p| p.name() == "execve_tp");
        Ok(())
    }

    fn rows(&mut self, _: &Tick, maps: &mut skel::Maps, lines: &mut Lines) -> Result<()> {
        let counts = maps.counts.take();
        let (all_failed, errnos) = errno::take(&mut maps.errnos);
        for (errno, failed) in errnos {
            lines.push(execsnoop_errno::Row { errno, failed })?;
        }
        lines.push(execsnoop::Row {
            execs: counts.execs,
            from_thread: counts.from_thread,
            failed: self.sees_failures.then_some(all_failed),
        })?;
        if self.options.by == By::Comm {
            for (comm, calls) in self.names.rows(maps.comms.take(), |n| n.execs + n.failed) {
                let calls { execs, failed } = calls;
                lines.push(execsnoop_comm::Row { comm, execs, failed })?;
            }
        }
        lines.push(execsnoop_lost::Row {
            dropped_names: maps.comms.lost().events(),
            dropped_events: maps.started.lost().events(),
            unread_args: counts.unread,
        })?;
        self.timeline.place(maps.started.take(), |ns, exec| lines.push_at(ns, row(&exec)))
    }
}

fn row(exec: &exec) -> execsnoop_event::Row {
    let bytes = usize::try_from(exec.args_bytes).ok();
    let kept = bytes.map(|bytes| &exec.args[..bytes.min(exec.args.len())]);
    execsnoop_event::Row {
        pid: exec.pid.into(),
        ppid: (exec.ppid != 0).then(|| exec.ppid.into()),
        uid: exec.uid.into(),
        comm: text(&exec.comm).into(),
        filename: text(&exec.filename).into(),
        args: kept.map(|kept| command_line(kept).into()),
        args_cut_bytes: bytes.zip(kept).map(|(bytes, kept)| (bytes - kept.len()) as i64),
    }
}

/// Arguments with a NUL at each one's end, one behind the other. What could be misread is in quotes, with
/// escapes: an empty one, and one with spaces, quotes, backslashes or control characters.
fn command_line(args: &[u8]) -> String {
    let args = args.strip_suffix(&[0]).unwrap_or(args).split(|byte| *byte == 0);
    let shown = args.map(|arg| {
        let arg = String::from_utf8_lossy(arg);
        let plain = |c: char| !c.is_whitespace() && !c.is_control() && !matches!(c, '"' | '\\');
        let bare = !arg.is_empty() && arg.chars().all(plain);
        if bare { arg.into_owned() } else { format!("{arg:?}") }
    });
    shown.collect::<Vec<_>>().join(" ")
}

export_tool!(Execsnoop: execsnoop, execsnoop_errno, execsnoop_comm, execsnoop_event, execsnoop_lost);
