//! Garbage collections of Java virtual machines: how many, and how long they pause.
//!
//! Hooks: the static probes gc__begin, gc__end, mem__pool__gc__begin and mem__pool__gc__end of each libjvm.so, by
//! uprobes; task_rename by raw_tp, else tp, which tells of new JVMs. Files that are looked for, JVMs without probes
//! (`perfdata`) and names of JVMs make it longer than other tools.

mod main_class;
mod perfdata;

use perfdata::PerfData;
use plugin_bpf::{Found, Process, prelude::*};
use skel::types::collected;
use std::collections::BTreeMap;

skeleton!(javagc);
by!(By: Jvm);

/// Histograms of the program.
const KINDS: [(&str, &str); 4] = [("gc", "0"), ("gc", "1"), ("pool", "0"), ("pool", "1")];
const LATE: [&str; 4] =
    ["gc_end_uprobe", "gc_begin_uprobe", "pool_end_uprobe", "pool_begin_uprobe"];
/// JVMs with a row of their own, at most.
const JVMS: usize = 32;

const SEARCH: Search = Search {
    program: LATE[1],
    names: &[],
    libraries: &["libjvm.so"],
    places: &["/usr/lib/jvm/*/lib/server/libjvm.so", "/usr/lib/jvm/*/jre/lib/*/server/libjvm.so"],
};

table! {
    /// Collections of JVMs with static probes.
    javagc {
        tags {
            /// `gc`, whole collections: the JVM pauses, but for concurrent collectors, of which it is a phase;
            /// `pool`, the share of each memory pool in them.
            kind,
            full "`1`: full collections; `0`: all others.",
        }
        pause: histogram(us) "Those that ended since the last tick, from begin to end.",
    }
}
table! {
    /// The JVMs with most collections, those without probes too; with `by = "jvm"`.
    javagc_jvm {
        tags { jvm "Its main class, module or archive, at most 64 bytes; `other` is the sum beyond the first 32." }
        collections: counter "Collections that ended.",
        full: counter "Of these, full ones; not known of JVMs without probes.",
        sum_us: counter(us) "Sum of their durations.",
    }
}
table! {
    /// What JVMs without static probes count by themselves (hsperfdata).
    javagc_perfdata {
        tags { gc "The collector's name, such as `G1 young collection pauses`; `other` is the sum beyond the first 20." }
        collections: counter "Collections that ended.",
        sum_us: counter(us) "Sum of their durations.",
    }
}
table! {
    /// The JVMs of this host.
    javagc_jvms {
        probed: gauge "JVMs whose library has static probes, at most 64 of each library.",
        perfdata: gauge "JVMs without them, in javagc_perfdata, at most 64 of each library.",
        unseen: gauge "JVMs of which neither tells anything.",
        libraries: gauge "Files libjvm.so that are observed, wherever they run.",
    }
}
table! {
    /// What is in no line of the tables above.
    javagc_lost {
        unmatched: counter "Ends of collections and pools whose begin was not seen.",
        unended: counter "Begins whose end was not seen.",
        dropped_begins: counter "Begins that found no room: their ends are unmatched.",
        unread: counter "Begins and ends whose argument could not be read; such collections count as not full.",
        dropped_jvms: counter "Collections in no row of javagc_jvm: no room for another JVM.",
        hidden_processes: counter "New processes named like a JVM that may not be looked into, for want of CAP_SYS_PTRACE.",
    }
}
options! {
    /// What `[plugin.javagc]` takes.
    pub struct Options {
        /// `jvm` adds the table javagc_jvm.
        by: By = By::Nothing,
        /// Only these processes, at most 16, by their ids in the initial namespace; empty: all.
        pid: Vec<u64> [1..=4_194_304] = Vec::new(),
        /// Only this cgroup and those below it, such as `/system.slice`; empty: all. Not for JVMs without probes.
        cgroup: String = String::new(),
    }
}

/// The tool.
pub struct Javagc {
    pid: Vec<u64>,
    files: Option<Files>,
    perfdata: PerfData,
    collectors: Groups<collected>,
    jvms: Option<Groups<collected>>,
    /// Of JVMs that live, or ended since the last tick.
    names: BTreeMap<u32, (Process, String)>,
}

impl Tool for Javagc {
    type Options = Options;
    type Object = skel::Object;

    /// Of uprobes: since Linux 6.16, and in stable kernels since then, CAP_PERFMON is not enough for a perf event of
    /// one (ba677dbe77af "perf: Revert to requiring CAP_SYS_ADMIN for uprobes"). To see what other users' processes
    /// map: CAP_SYS_PTRACE.
    const CAPABILITIES: &'static [&'static str] = &["CAP_SYS_ADMIN", "CAP_SYS_PTRACE"];

    /// It reads the files of any library named libjvm.so.
    const ISOLATED: bool = true;

    fn new(options: Options, setup: &mut Setup<skel::Object>) -> Result<Self> {
        setup.filter(&Filter::of(&options.pid, &[], &options.cgroup)?);
        setup.consts.by_jvm = options.by == By::Jvm;
        setup.only_if(setup.consts.by_jvm, skel::Map::jvms);
        let us = |groups: Groups<collected>| groups.divide(|sum| &mut sum.sum_ns, 1000);
        let jvms = setup.consts.by_jvm.then(|| Groups::new(JVMS).map(us)).transpose()?;
        Ok(Self {
            pid: options.pid,
            files: None,
            perfdata: PerfData::begin()?,
            collectors: us(Groups::default()),
            jvms,
            names: BTreeMap::new(),
        })
    }

    fn hooks(&self) -> Hooks {
        Hooks::all([Hook::of("named")]).later(&LATE)
    }

    fn begin(&mut self, attached: &Attached, maps: &mut skel::Maps) -> Result<Trial> {
        self.files = Some(Files::begin(SEARCH, attached, &mut maps.unity_named)?);
        Ok(Trial::Passed)
    }

    fn tend(&mut self, attached: &mut Attached) -> Result<()> {
        let Some(files) = &mut self.files else { return Ok(()) };
        files.follow(attached, targets).map(drop)
    }

    fn rows(&mut self, tick: &Tick, maps: &mut skel::Maps, lines: &mut Lines) -> Result<()> {
        for (i, (kind, full)) in KINDS.into_iter().enumerate() {
            let pause = maps.pauses.take(i);
            lines.push(javagc::Row { kind: kind.into(), full: full.into(), pause })?;
        }
        let mut by_jvm = self.take_perfdata(lines)?;
        if let Some(jvms) = &mut self.jvms {
            let name = |pid: u32| self.names.get(&pid).map_or("_", |(_, name)| name).to_owned();
            by_jvm.extend(maps.jvms.take());
            let named = by_jvm.into_iter().map(|(pid, sum)| (name(pid), sum));
            for (jvm, sum) in jvms.rows(named, |sum| sum.sum_ns) {
                let collected { collections, full, sum_ns: sum_us } = sum;
                lines.push(javagc_jvm::Row { jvm, collections, full, sum_us })?;
            }
            self.names.retain(|_, (process, _)| process.is_alive());
        }
        let forgotten = maps.gcs.forget_ended(tick, |thread| *thread);
        let forgotten = forgotten.and(maps.pools.forget_ended(tick, |pool| pool.thread));
        let (gcs, pools) = (maps.gcs.lost(), maps.pools.lost());
        lines.push(javagc_lost::Row {
            unmatched: gcs.unmatched + pools.unmatched,
            unended: gcs.twice + gcs.died + pools.twice + pools.died,
            dropped_begins: gcs.events() + pools.events(),
            unread: maps.counts.take().unread,
            dropped_jvms: maps.jvms.lost().events(),
            hidden_processes: self.files.as_ref().map_or(0, Files::hidden),
        })?;
        forgotten
    }
}

impl Javagc {
    /// The rows of JVMs without probes, and those of all JVMs; what the former did, by process.
    fn take_perfdata(&mut self, lines: &mut Lines) -> Result<Vec<(u32, collected)>> {
        let Some(files) = &self.files else { return Ok(Vec::new()) };
        let (mut probed, mut others) = (Vec::new(), Vec::new());
        for file in files.iter() {
            if file.refused.is_none() { &mut probed } else { &mut others }.extend(file.processes);
        }
        if self.jvms.is_some() {
            for process in probed.iter().chain(&others) {
                if self.names.get(&process.pid).is_none_or(|(known, _)| known != process) {
                    let name = main_class::of(process).unwrap_or_else(|| "_".to_owned());
                    self.names.insert(process.pid, (*process, name));
                }
            }
        }
        let wanted = |jvm: &Process| self.pid.is_empty() || self.pid.contains(&jvm.pid.into());
        others.retain(wanted);
        let (mut by_name, mut by_jvm, mut unseen) = (Vec::new(), Vec::new(), 0);
        for (jvm, collectors) in self.perfdata.take(&others) {
            let Ok(collectors) = collectors else {
                unseen += 1;
                continue;
            };
            for collector in collectors {
                let (collections, sum_ns) = (collector.invocations, collector.ns);
                let sum = collected { collections, full: 0, sum_ns };
                by_name.push((collector.name, sum));
                by_jvm.push((jvm.pid, sum));
            }
        }
        for (gc, sum) in self.collectors.rows(by_name, |sum| sum.sum_ns) {
            let collected { collections, sum_ns: sum_us, .. } = sum;
            lines.push(javagc_perfdata::Row { gc, collections, sum_us })?;
        }
        lines.push(javagc_jvms::Row {
            probed: probed.len() as i64,
            perfdata: others.len() as i64 - unseen,
            unseen,
            libraries: files.probed() as i64,
        })?;
        Ok(by_jvm)
    }
}

fn targets(found: &Found<'_>) -> Result<Vec<(&'static str, Target)>> {
    const PROBES: [(&str, Option<usize>); 4] = [
        ("gc__end", None),
        ("gc__begin", Some(0)),
        ("mem__pool__gc__end", Some(2)),
        ("mem__pool__gc__begin", Some(2)),
    ];
    let mut targets = Vec::new();
    for (program, (probe, argument)) in LATE.into_iter().zip(PROBES) {
        let sites = found.elf.sites("hotspot", probe, argument)?;
        ensure!(
            !sites.is_empty() && sites.len() <= 16,
            "{} static probes hotspot:{probe}: its JVMs' own counts (hsperfdata) are read instead",
            sites.len()
        );
        targets.extend(sites.into_iter().map(|site| (program, Target::site(&found.path, site))));
    }
    Ok(targets)
}

export_tool!(Javagc: javagc, javagc_jvm, javagc_perfdata, javagc_jvms, javagc_lost);
