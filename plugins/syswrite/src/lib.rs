//! write() calls: how many, the bytes that they ask for and write, and their errors.
//!
//! Hooks: sys_exit_write by tp with the kernel's BTF (`btf`), else sys_exit_write and sys_enter_write by tp, else
//! sys_exit by raw_tp, which runs for every system call.

use plugin_bpf::max_threads;
use plugin_bpf::prelude::*;
use skel::types::writes;

skeleton!(syswrite);
by!(By: Comm);

/// Calls that are noted as under way at a time, at most: 64 KiB; 320 KiB on Linux 5.10, which makes all room at once.
const CALLS: u32 = 4_096;

table! {
    /// Calls of write() that ended, by 64-bit programs.
    syswrite {
        calls: counter "Calls.",
        failed: counter "Of these: answered with an error.",
        partial: counter "Of these: wrote less than they were asked, and no error.",
        asked_bytes: counter(bytes) "Bytes that they were asked to write, of each call at most 2 GiB less 4 KiB.",
        written_bytes: counter(bytes) "Bytes that they wrote, by what they answered; of each call at most as many.",
    }
}
table! {
    /// The errors of these calls.
    syswrite_errno {
        tags { errno "The error, such as `EAGAIN`; `other` is the sum beyond the first 20." }
        failed: counter "Calls that it answered.",
    }
}
table! {
    /// The process names with the most calls; with `by = "comm"`.
    syswrite_comm {
        tags { comm "The name; `other` is the sum of those beyond the first 20." }
        calls: counter "Calls.",
        failed: counter "Of these: answered with an error.",
        asked_bytes: counter(bytes) "Bytes that they were asked to write.",
        written_bytes: counter(bytes) "Bytes that they wrote.",
    }
}
table! {
    /// What is not in the tables above.
    syswrite_lost {
        unmatched: counter "Calls whose begin was not seen: not in asked_bytes and partial.",
        unended: counter "Begins whose end was not seen: in no table.",
        dropped: counter "Begins that found no room: these calls are unmatched.",
        dropped_names: counter "Calls in no row of syswrite_comm: no room for another name.",
    }
}
options! {
    /// What `[plugin.syswrite]` takes.
    pub struct Options {
        /// Only these processes, at most 16, by their ids in the initial namespace; empty: all but the collector.
        pid: Vec<u64> [1..=4_194_304] = Vec::new(),
        /// Only threads with these names, at most 8; empty: all.
        comm: Vec<String> = Vec::new(),
        /// Only this cgroup and those below it, such as `/system.slice`; empty: all.
        cgroup: String = String::new(),
        /// `comm` adds the table syswrite_comm.
        by: By = By::Nothing,
    }
}

/// The tool.
pub struct Syswrite {
    names: Option<Groups<writes>>,
}

impl Tool for Syswrite {
    type Options = Options;
    type Object = skel::Object;

    fn new(options: Options, setup: &mut Setup<skel::Object>) -> Result<Self> {
        setup.filter(&Filter::of(&options.pid, &options.comm, &options.cgroup)?.except_own());
        setup.consts.by_comm = options.by == By::Comm;
        setup.only_if(setup.consts.by_comm, skel::Map::comms);
        setup.entries(skel::Map::begun, max_threads().min(CALLS));
        Ok(Self { names: setup.consts.by_comm.then(Groups::default) })
    }

    fn hooks(&self) -> Hooks {
        let exit = |kind| Hook::of("exit").only(kind);
        // In this order: whose begin is seen, its end is seen too.
        Hooks::all([exit("btf")]).or([exit("tp"), Hook::of("enter")]).or([exit("raw")])
    }

    fn rows(&mut self, tick: &Tick, maps: &mut skel::Maps, lines: &mut Lines) -> Result<()> {
        let (failed, errnos) = errno::take(&mut maps.errnos);
        let counts = maps.counts.take();
        lines.push(syswrite::Row {
            calls: counts.succeeded + failed,
            failed,
            partial: counts.partial,
            asked_bytes: counts.asked_bytes,
            written_bytes: counts.written_bytes,
        })?;
        for (errno, failed) in errnos {
            lines.push(syswrite_errno::Row { errno, failed })?;
        }
        if let Some(names) = &mut self.names {
            for (comm, sum) in names.rows(maps.comms.take(), |writes| writes.calls) {
                let writes { calls, failed, asked_bytes, written_bytes } = sum;
                let row = syswrite_comm::Row { comm, calls, failed, asked_bytes, written_bytes };
                lines.push(row)?;
            }
        }
        maps.begun.forget_ended_threads(tick)?;
        let Lost { unmatched, twice, died, full, busy, .. } = maps.begun.lost();
        let (unended, dropped) = (twice + died, full + busy);
        let dropped_names = maps.comms.lost().events();
        lines.push(syswrite_lost::Row { unmatched, unended, dropped, dropped_names })
    }
}

export_tool!(Syswrite: syswrite, syswrite_errno, syswrite_comm, syswrite_lost);
