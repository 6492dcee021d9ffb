//! Interactive commands: how many are entered into bash, and by whom.
//!
//! Hooks: the returns of readline_internal_teardown() and readline(), by uretprobes on each file of bash or
//! libreadline; task_rename by raw_tp, else tp, which tells of new shells. Four programs on files that are looked
//! for and five tables make it longer than other tools.

use plugin_bpf::{Found, prelude::*};
use skel::types::{entered, event};

skeleton!(bashreadline);
by!(By: Uid);

/// The programs of bash's own readline, and those of the library's.
const OWN: [&str; 2] = ["torn_uretprobe", "line_uretprobe"];
const LIBRARY: [&str; 2] = ["torn_lib_uretprobe", "line_lib_uretprobe"];

const SEARCH: Search = Search {
    program: OWN[1],
    names: &["bash"],
    libraries: &["libreadline.so"],
    places: &["/bin/bash", "/usr/bin/bash", "/usr/local/bin/bash"],
};

table! {
    /// Lines that were entered into interactive shells.
    bashreadline {
        commands: counter "Lines with something in them: a command, a part of one, an answer to `read -e`.",
        empty: counter "Empty lines.",
        eofs: counter "Ends of the input (^D), by which a shell ends.",
        shells: gauge "Processes that these came from.",
    }
}
table! {
    /// The users who entered most; with `by = "uid"`.
    bashreadline_uid {
        tags { uid "The user's number, in the initial user namespace; `other` is the sum beyond the first 20." }
        commands: counter "Lines with something in them.",
        empty: counter "Empty lines.",
        eofs: counter "Ends of the input.",
    }
}
table! {
    /// One line, at the time it was entered; with `text = true`. It may hold a password.
    bashreadline_event {
        pid: gauge "The shell.",
        uid: gauge "The user, in the initial user namespace.",
        text: text "The first 1023 bytes.",
        truncated: flag "There are more.",
    }
}
table! {
    /// Which files of bash and libreadline are observed.
    bashreadline_files {
        probed: gauge "Files that are observed, wherever they run.",
        unprobed: gauge "Files that cannot be observed, or find no room among 64; `collector_program` has the reasons.",
    }
}
table! {
    /// What is in no line of the tables above.
    bashreadline_lost {
        unread: counter "Lines whose text could not be read.",
        dropped_shells: counter "Lines of shells that are not in `shells`: there were too many.",
        dropped_uids: counter "Lines in no row of bashreadline_uid: no room for another user.",
        dropped_events: counter "Lines without an event: no room for another.",
        hidden_processes: counter "New processes named like bash that may not be looked into, for want of CAP_SYS_PTRACE.",
    }
}
options! {
    /// What `[plugin.bashreadline]` takes.
    pub struct Options {
        /// `uid` adds the table bashreadline_uid.
        by: By = By::Nothing,
        /// One line of bashreadline_event per command, with its text.
        text: bool = false,
        /// Only these processes, at most 16, by their ids in the initial namespace; empty: all.
        pid: Vec<u64> [1..=4_194_304] = Vec::new(),
        /// Only shells with these names, at most 8; empty: all.
        comm: Vec<String> = Vec::new(),
        /// Only this cgroup and those below it, such as `/system.slice`; empty: all.
        cgroup: String = String::new(),
    }
}

/// The tool.
pub struct Bashreadline {
    files: Option<Files>,
    uids: Option<Groups<entered>>,
    timeline: Timeline,
}

impl Tool for Bashreadline {
    type Options = Options;
    type Object = skel::Object;

    /// Of uprobes: since Linux 6.16, and in stable kernels since then, CAP_PERFMON is not enough for a perf event of
    /// one (ba677dbe77af "perf: Revert to requiring CAP_SYS_ADMIN for uprobes"). To see what other users' processes
    /// execute: CAP_SYS_PTRACE.
    const CAPABILITIES: &'static [&'static str] = &["CAP_SYS_ADMIN", "CAP_SYS_PTRACE"];

    /// It reads the files of any program named bash.
    const ISOLATED: bool = true;

    fn new(options: Options, setup: &mut Setup<skel::Object>) -> Result<Self> {
        setup.filter(&Filter::of(&options.pid, &options.comm, &options.cgroup)?);
        let by_uid = options.by == By::Uid;
        (setup.consts.by_uid, setup.consts.texts) = (by_uid, options.text);
        setup.only_if(by_uid, skel::Map::uids);
        setup.only_if(options.text, skel::Map::typed);
        let uids = by_uid.then(Groups::default);
        Ok(Self { files: None, uids, timeline: Timeline::default() })
    }

    fn hooks(&self) -> Hooks {
        Hooks::all([Hook::of("named")]).later(&OWN).later(&LIBRARY)
    }

    fn begin(&mut self, attached: &Attached, maps: &mut skel::Maps) -> Result<Trial> {
        self.files = Some(Files::begin(SEARCH, attached, &mut maps.unity_named)?);
        Ok(Trial::Passed)
    }

    fn tend(&mut self, attached: &mut Attached) -> Result<()> {
        let Some(files) = &mut self.files else { return Ok(()) };
        files.follow(attached, targets).map(drop)
    }

    fn rows(&mut self, _: &Tick, maps: &mut skel::Maps, lines: &mut Lines) -> Result<()> {
        let skel::counts { commands, empty, eofs, unread } = maps.counts.take();
        let shells = maps.shells.take().len() as i64;
        lines.push(bashreadline::Row { commands, empty, eofs, shells })?;
        if let Some(uids) = &mut self.uids {
            let drained = maps.uids.take().into_iter().map(|(uid, sum)| (uid.to_string(), sum));
            for (uid, sum) in uids.rows(drained, |sum| sum.commands + sum.empty + sum.eofs) {
                let entered { commands, empty, eofs } = sum;
                lines.push(bashreadline_uid::Row { uid, commands, empty, eofs })?;
            }
        }
        let files = self
            .files
            .as_ref()
            .map(|files| (files.probed() as i64, files.unprobed() as i64, files.hidden()));
        let (probed, unprobed, hidden_processes) = files.unwrap_or_default();
        lines.push(bashreadline_files::Row { probed, unprobed })?;
        lines.push(bashreadline_lost::Row {
            unread,
            dropped_shells: maps.shells.lost().events(),
            dropped_uids: maps.uids.lost().events(),
            dropped_events: maps.typed.lost().events(),
            hidden_processes,
        })?;
        self.timeline.place(maps.typed.take(), |ns, event| lines.push_at(ns, row(&event)))
    }
}

/// In a file without readline of its own there is nothing to probe: bash has it from the library then.
fn targets(found: &Found<'_>) -> Result<Vec<(&'static str, Target)>> {
    let places = found.elf.functions(["readline_internal_teardown", "readline"])?;
    let is_library = found.is_library(&SEARCH);
    ensure!(!is_library || places[1].is_some(), "has no function `readline`");
    let programs = if is_library { LIBRARY } else { OWN };
    let targets = programs
        .into_iter()
        .zip(places)
        .filter_map(|(program, place)| Some((program, Target::uprobe_at(&found.path, place?))));
    Ok(targets.collect())
}

fn row(event: &event) -> bashreadline_event::Row {
    bashreadline_event::Row {
        pid: event.pid.into(),
        uid: event.uid.into(),
        text: text(&event.text).into(),
        truncated: event.is_truncated != 0,
    }
}

export_tool!(
    Bashreadline: bashreadline, bashreadline_uid, bashreadline_event, bashreadline_files, bashreadline_lost
);
