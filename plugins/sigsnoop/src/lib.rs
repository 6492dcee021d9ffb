//! Signals: which, sent by a process or by the kernel, and what became of them.
//!
//! Hooks: signal_generate, by tp_btf, else raw_tp, else tp.

use plugin_bpf::prelude::*;
use skel::types::sent;
use std::collections::BTreeMap;

skeleton!(sigsnoop);
by!(By: Comm);

/// What the kernel says of a signal: delivered, ignored, pending, failed, lost its siginfo.
const RESULTS: usize = 5;

table! {
    /// Signals that were generated; a line for each that was, and for both kinds of senders.
    sigsnoop {
        tags { sig "Its name, such as `SIGTERM` or `SIGRTMIN+3`.", src "Who sent it: `user`, a process; or `kernel`." }
        sent: counter "All of them, whatever became of them.",
        ignored: counter "Of these: the process ignores the signal.",
        pending: counter "Of these: the same signal was pending already.",
        failed: counter "Of these: too many signals were pending, and the sender got an error.",
        lost_info: counter "Of these: delivered without its siginfo, because too many were pending.",
    }
}
table! {
    /// The threads that sent most, by name; with `by = "comm"`.
    sigsnoop_comm {
        tags { comm "The sender's name; `other` is the sum of those beyond the first 20." }
        sent: counter "Signals of the kind `user`.",
        failed: counter "Of these: too many signals were pending.",
    }
}
table! {
    /// What is in no line of the tables above.
    sigsnoop_lost {
        unknown: counter "Signals of a number or with a result that the tool does not know.",
        dropped_comms: counter "Signals in no row of sigsnoop_comm: no room for another name.",
    }
}
options! {
    /// What `[plugin.sigsnoop]` takes.
    pub struct Options {
        /// `comm` adds the table sigsnoop_comm.
        by: By = By::Nothing,
        /// Only signals to these processes, at most 16, by their ids in the initial namespace; empty: all.
        pid: Vec<u64> [1..=4_194_304] = Vec::new(),
        /// Only signals to threads with these names, at most 8; empty: all.
        comm: Vec<String> = Vec::new(),
        /// Only signals to this cgroup and those below it, such as `/system.slice`; empty: all.
        cgroup: String = String::new(),
    }
}

/// The tool.
pub struct Sigsnoop {
    filtered: bool,
    comms: Option<Groups<sent>>,
}

impl Tool for Sigsnoop {
    type Options = Options;
    type Object = skel::Object;

    fn new(options: Options, setup: &mut Setup<skel::Object>) -> Result<Self> {
        let filter = Filter::of(&options.pid, &options.comm, &options.cgroup)?;
        setup.filter(&filter);
        setup.consts.by_comm = options.by == By::Comm;
        setup.only_if(setup.consts.by_comm, skel::Map::comms);
        let comms = setup.consts.by_comm.then(Groups::default);
        Ok(Self { filtered: filter != Filter::default(), comms })
    }

    fn hooks(&self) -> Hooks {
        let by = |kind| [Hook::of("generate").only(kind)];
        let with_task = Hooks::all(by("btf")).or(by("raw"));
        // A record tells neither the target's process nor its cgroup.
        if self.filtered { with_task } else { with_task.or(by("tp")) }
    }

    fn rows(&mut self, _: &Tick, maps: &mut skel::Maps, lines: &mut Lines) -> Result<()> {
        let mut rows = BTreeMap::<_, [u64; RESULTS]>::new();
        for (i, signals) in maps.signals.take_all() {
            rows.entry(i / RESULTS).or_default()[i % RESULTS] = signals;
        }
        for (i, results) in rows {
            let (sig, src) = (signal::name((i / 2) as i32), ["kernel", "user"][i % 2].into());
            let [_, ignored, pending, failed, lost_info] = results;
            let sent = results.iter().sum();
            lines.push(sigsnoop::Row { sig, src, sent, ignored, pending, failed, lost_info })?;
        }
        if let Some(comms) = &mut self.comms {
            for (comm, sum) in comms.rows(maps.comms.take(), |sent| sent.sent) {
                lines.push(sigsnoop_comm::Row { comm, sent: sum.sent, failed: sum.failed })?;
            }
        }
        let (unknown, dropped_comms) = (maps.signals.lost().events(), maps.comms.lost().events());
        lines.push(sigsnoop_lost::Row { unknown, dropped_comms })
    }
}

export_tool!(Sigsnoop: sigsnoop, sigsnoop_comm, sigsnoop_lost);
