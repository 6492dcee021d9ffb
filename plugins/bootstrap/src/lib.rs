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

/// Names that get a line of their own.
const TOP: usize = 20;

/// The tool.
pub struct Bootstrap {
    options: Options,
    timeline: Timeline,
}

impl Tool for Bootstrap {
    type Options = Options;
    type Object = skel::Object;

    fn new(options: Options) -> Result<Self> {
        Ok(Self { options, timeline: Timeline::default() })
    }

    fn setup(&self, setup: &mut Setup<skel::Object>) -> Result<()> {
        setup.consts.events = self.options.events;
        setup.consts.min_duration_ns = u64::try_from(self.options.min_duration.as_nanos())?;
        if !self.options.events {
            setup.without(skel::Map::events_ring);
        }
        Ok(())
    }

    fn hooks(&self) -> Hooks {
        let ways = ["exit_group_btf", "exit_btf", "exit_raw", "exit_group_tp", "exit_tp"];
        Hooks::all([Hook::of("exec"), Hook::of("exit").ways(&ways)])
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
        let (top, rest) = top(maps.comms.take(), TOP, |(_, lives)| lives.exits + lives.execs);
        for (comm, lives) in top {
            lines.push(by_comm(text(&comm.name), &[lives]))?;
        }
        let rest: Vec<_> = rest.into_iter().map(|(_, lives)| lives).collect();
        lines.push(by_comm("other".into(), &rest))?;
        let events = maps.events_ring.take();
        self.timeline.place(events, |e| e.ktime_ns, |time_ns, e| lines.push_at(time_ns, event(&e)))
    }
}

fn by_comm(comm: String, lives: &[skel::types::lives]) -> bootstrap_comm::Row {
    bootstrap_comm::Row {
        comm: comm.into(),
        execs: lives.iter().map(|l| l.execs).sum(),
        exits: lives.iter().map(|l| l.exits).sum(),
        life_sum_ms: lives.iter().map(|l| l.sum_ns).sum::<u64>() / 1_000_000,
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

<<<<<<< HEAD
export_tool!(Bootstrap: bootstrap, bootstrap_comm, bootstrap_event);
=======
/// What the tp rung reads; `None` where there is no tracefs, and so no tp either.
fn offsets() -> Result<Option<skel::types::offsets>> {
    let sched = |name| Format::read("sched", name);
    let (Some(exec), Some(exit)) = (sched("sched_process_exec"), sched("sched_process_exit"))
    else {
        return Ok(None);
    };
    let group_dead = if exit.has("group_dead") { exit.offset("group_dead")? } else { 0 };
    Ok(Some(skel::types::offsets { filename: exec.offset("filename")?, group_dead }))
}

export_plugin!(Bootstrap: bootstrap, bootstrap_comm, bootstrap_event);

#[cfg(test)]
mod tests {
    use super::*;
    use plugin_testing::{Harness, Line};
    use std::os::unix::process::CommandExt as _;
    use std::process::{Child, Command};

    /// `sh` under a name of its own, so that nobody else's processes count.
    fn sh(script: &str) -> Child {
        // A busybox goes by its first argument.
        let mut command = Command::new("/tmp/bootstrap-sh");
        command.arg0("sh").args(["-c", script]).spawn().expect("a shell")
    }

    fn link() {
        let shell = std::fs::canonicalize("/bin/sh").expect("a shell");
        let _ = std::fs::remove_file("/tmp/bootstrap-sh");
        std::fs::copy(shell, "/tmp/bootstrap-sh").expect("a copy in /tmp");
    }

    fn sum(lines: &[Line], table: &str, comm: &str, field: &str) -> u64 {
        let of = |l: &&Line| l.table == table && l.tag("comm") == comm;
        lines.iter().filter(of).map(|l| l.u64(field)).sum()
    }

    #[test]
    fn every_start_and_end_is_counted_with_its_status() {
        link();
        let mut tool = Harness::<Bootstrap>::init(r#"{"events":true}"#).expect("it attaches");
        tool.call().expect("a tick");
        for _ in 0..20 {
            sh("exit 0").wait().expect("an end");
            sh("exit 3").wait().expect("an end");
        }
        let mut killed = sh("kill -9 $$");
        killed.wait().expect("an end");
        let lines = tool.call().expect("a tick");

        let comm = "bootstrap-sh";
        let (execs, exits) = ("execs", "exits");
        assert_eq!(sum(&lines, "bootstrap_comm", comm, execs), 41);
        assert_eq!(sum(&lines, "bootstrap_comm", comm, exits), 41);
        let whole = lines.iter().find(|l| l.table == "bootstrap").expect("a line");
        assert!(whole.u64("failed") >= 20 && whole.u64("signaled") >= 1);
        assert_eq!(whole.u64("count"), whole.u64(exits), "every lifetime is known");
        // Names and totals are one cut, but for what happened between its end and the counters' reading.
        let named: u64 =
            lines.iter().filter(|l| l.table == "bootstrap_comm").map(|l| l.u64(exits)).sum();
        assert!(whole.u64(exits) >= named);

        let events = |event: &str| {
            let of = |l: &&Line| {
                l.table == "bootstrap_event" && l.tag("event") == event && l.text("comm") == comm
            };
            lines.iter().filter(of).cloned().collect::<Vec<_>>()
        };
        let code = |l: &Line| l.get("exit_code").map(|_| l.u64("exit_code"));
        let (started, ended) = (events("exec"), events("exit"));
        assert_eq!((started.len(), ended.len()), (41, 41));
        assert!(started.iter().all(|l| l.text("filename") == "/tmp/bootstrap-sh"));
        let parent = u64::from(std::process::id());
        assert!(started.iter().all(|l| l.u64("ppid") == parent), "{:?}", started[0]);
        assert_eq!(ended.iter().filter(|l| code(l) == Some(3)).count(), 20);
        let end = ended.iter().find(|l| code(l).is_none()).expect("the killed one");
        assert_eq!((end.u64("pid"), end.u64("signal")), (u64::from(killed.id()), 9));
    }

    #[test]
    fn a_process_of_many_threads_ends_once() {
        let ended = |tool: &mut Bootstrap| {
            let idle = tool.halves.flip().expect("a grace period");
            let mut exits = 0;
            tool.comms
                .drain(&idle, |comm, lives| {
                    if text(&comm.name).starts_with("rs:") {
                        exits += lives.exits;
                    }
                })
                .expect("a drain");
            exits
        };
        let mut worked = 0;
        let tp = ladder().len() - 1;
        for (i, rung) in ladder().iter().enumerate() {
            let options = Options { events: false, min_duration: Duration::ZERO };
            let mut tool = match Bootstrap::start(&options, std::slice::from_ref(rung)) {
                Ok(tool) => tool,
                Err(error) => {
                    println!("refused: {error:#}");
                    continue;
                }
            };
            worked += 1;
            ended(&mut tool);
            for leader_first in [false, true] {
                (0..20).for_each(|_| fork_with_threads(leader_first));
            }
            let ends = ended(&mut tool);
            // tp before 6.16 takes the first thread's end for the process's, under any name.
            if i < tp
                || Format::read("sched", "sched_process_exit").is_some_and(|f| f.has("group_dead"))
            {
                assert_eq!(ends, 40, "{rung:?}");
            }
        }
        assert!(worked >= 2);
    }

    /// A process of 8 threads named `rs:..` whose first thread ends before or with the others.
    fn fork_with_threads(leader_first: bool) {
        // SAFETY: this test's process has other threads, so the child calls nothing but system calls and
        // the threads' start, which musl and glibc allow after fork in practice.
        let child = unsafe { libc::fork() };
        if child == 0 {
            // SAFETY: prctl with a C string of ours.
            unsafe { libc::prctl(libc::PR_SET_NAME, c"rs:leader".as_ptr()) };
            for _ in 0..7 {
                let _ = std::thread::Builder::new()
                    .name("rs:worker".into())
                    .spawn(|| std::thread::sleep(Duration::from_millis(2)));
            }
            if leader_first {
                // SAFETY: ends this thread alone; the others go on.
                unsafe { libc::syscall(libc::SYS_exit, 0) };
            }
            // SAFETY: ends the process without running the parent's destructors.
            unsafe { libc::_exit(0) };
        }
        let mut status = 0;
        // SAFETY: waits for the child of this very process.
        assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
    }

    #[test]
    fn short_lives_have_no_event() {
        link();
        let options = r#"{"events":true,"min_duration":"100ms"}"#;
        let mut tool = Harness::<Bootstrap>::init(options).expect("it attaches");
        tool.call().expect("a tick");
        sh("exit 0").wait().expect("an end");
        sh("sleep 0.2; exit 0").wait().expect("an end");
        let lines = tool.call().expect("a tick");
        let ours: Vec<_> = lines
            .iter()
            .filter(|l| l.table == "bootstrap_event" && l.text("comm") == "bootstrap-sh")
            .collect();
        assert_eq!(ours.len(), 1, "{ours:?}");
        let line = lines.iter().find(|l| l.table == "bootstrap").expect("a line");
        assert!(line.u64("short_lived") >= 1);
    }
}
>>>>>>> options
