//! From hooks to attached programs.

mod attached;
mod files;
mod follow;
mod forbidden;
mod held;
mod hook;
mod info;
mod ladder;
mod links;
mod program;
mod target;
pub(crate) mod tracepoint;
mod trial;

pub use attached::Attached;
pub use files::{Files, Found, Inode, Probed, Process, Search};
pub use hook::{Hook, Hooks, by_hand, only_kind};
pub use info::{Program, ProgramInfo, kernel_at_least};
pub use ladder::Verdict;
pub use links::{Changes, Links};
pub use target::{Function, PerfEvent, Rate, Target};
pub use trial::Trial;

use crate::exact::CutKind;
use crate::object::{Code, Failure, Loaded, ProgramDef, Settings, Terms, load};
use forbidden::{Cause, Machine};
use hook::Resolved;
use ladder::{Ended, Ladder};
use plugin_api::{Result, bail, privileges};
use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::AsFd as _;
use std::sync::{Mutex, PoisonError};

/// Tries the hooks' ways by loading and attaching, best first, until every hook that is needed has one with which
/// the tool can `begin`.
///
/// # Errors
/// No set of hooks works; names each hook that failed with its ways and their reasons.
pub(crate) fn attach(
    codes: &[&'static Code],
    settings: &[Settings],
    hooks: &Hooks,
    cut: CutKind,
    begin: &mut dyn FnMut(&Attached) -> Result<Trial>,
) -> Result<Attached> {
    let programs: Vec<&'static ProgramDef> =
        codes.iter().flat_map(|code| code.programs.iter()).collect();
    let mut verdicts = Vec::new();
    let mut reasons = Vec::new();
    for set in hooks.resolve(&programs)? {
        let climb = Climb { codes, settings, cut };
        match climb.up(&set, &mut verdicts, begin) {
            Ok(mut attached) => {
                // Of a program that another set could not use and this one could: no verdict.
                verdicts.retain(|v| attached.programs().iter().all(|p| p.name() != v.program));
                let mut known = BTreeSet::new();
                verdicts.retain(|v| known.insert(v.program.clone()));
                let given_up = |v: &&Verdict| v.left_out || !reasons.is_empty();
                let mut given_up = verdicts.iter().filter(given_up);
                if let Some(hook) = given_up.find(|v| climb.wants_sys_admin(v)) {
                    bail!("{}: {}; CAP_SYS_ADMIN may help", hook.program, hook.reason);
                }
                log(&verdicts);
                attached.set_verdicts(verdicts);
                return Ok(attached);
            }
            Err(Ended(reason)) if privileges::is_short_of_files(&reason) => bail!("{reason}"),
            Err(Ended(reason)) if reasons.contains(&reason) => {}
            Err(Ended(reason)) => reasons.push(reason),
        }
    }
    bail!("{}", reasons.join(" || "));
}

/// Once for each program, and again when the reason is another one than at the start before.
fn log(verdicts: &[Verdict]) {
    static LOGGED: Mutex<BTreeMap<String, String>> = Mutex::new(BTreeMap::new());
    let mut logged = LOGGED.lock().unwrap_or_else(PoisonError::into_inner);
    for Verdict { program, reason, .. } in verdicts {
        if logged.insert(program.clone(), reason.clone()).as_ref() != Some(reason) {
            plugin_api::log::info!("{program} is not attached: {reason}");
        }
    }
}

struct Climb<'a> {
    codes: &'a [&'static Code],
    settings: &'a [Settings],
    cut: CutKind,
}

impl Climb<'_> {
    fn up(
        &self,
        set: &[Resolved],
        verdicts: &mut Vec<Verdict>,
        begin: &mut dyn FnMut(&Attached) -> Result<Trial>,
    ) -> Result<Attached, Ended> {
        let mut ladder = Ladder::new(set);
        let mut without_btf = false;
        let result = loop {
            let failure = match self.attempt(&ladder, without_btf) {
                Ok(attached) => match begin(&attached) {
                    Ok(Trial::Passed) => break Ok(attached),
                    Ok(Trial::Failed(program, reason)) => Failure::of_program(program, reason),
                    Err(error) => break Err(Ended(format!("{error:#}"))),
                },
                Err(failure) => match self.explained(failure) {
                    Ok(failure) => failure,
                    Err(ended) => break Err(ended),
                },
            };
            match failure {
                // A worse way would do, and stay. The next start may have the best one.
                Failure { reason, .. } if privileges::is_short_of_files(&reason) => {
                    break Err(Ended(reason));
                }
                // The object as a whole: perhaps for want of the kernel's BTF, which programs without
                // relocations do not need.
                Failure { program: None, .. } if !without_btf => without_btf = true,
                // Then no program can be loaded whose hook is a type of the kernel's BTF.
                Failure { program: None, reason } => {
                    match ladder.fall_where(|program| self.needs_btf(program), &reason) {
                        Ok(true) => {}
                        Ok(false) => break Err(Ended(reason)),
                        Err(ended) => break Err(ended),
                    }
                }
                failure => {
                    if let Err(ended) = ladder.fall(&failure) {
                        break Err(ended);
                    }
                }
            }
        };
        verdicts.append(&mut ladder.verdicts);
        result
    }

    /// The failure with what the kernel lacks or forbids, where that is the cause. Without privileges no other
    /// way works either.
    fn explained(&self, failure: Failure) -> Result<Failure, Ended> {
        let section = failure.program.as_deref().map_or("", |program| self.section(program));
        if let Some(function) = forbidden::missing_function(section, &failure.reason) {
            let reason = format!("this kernel has no function `{function}`");
            return Ok(Failure { reason, ..failure });
        }
        match Machine::read().explains(section, &failure.reason) {
            Some(Cause::Process(missing)) => Err(Ended(missing)),
            Some(Cause::Kernel(why)) => {
                Ok(Failure { reason: format!("{} ({why})", failure.reason), ..failure })
            }
            None => Ok(failure),
        }
    }

    /// Whether the second start, with CAP_SYS_ADMIN, may attach it: perf events were refused, as they are where the
    /// sysctl kernel.perf_event_paranoid is above 2.
    fn wants_sys_admin(&self, verdict: &Verdict) -> bool {
        let kind = self.section(&verdict.program).split(['/', '.']).next().unwrap_or_default();
        matches!(
            kind,
            "tp" | "kprobe" | "kretprobe" | "uprobe" | "uretprobe" | "usdt" | "perf_event"
        ) && forbidden::is_access_denied(&verdict.reason)
            && privileges::spares_sys_admin()
    }

    fn section(&self, program: &str) -> &'static str {
        let mut programs = self.codes.iter().flat_map(|code| code.programs);
        programs.find(|def| def.name == program).map_or("", |def| def.section)
    }

    /// Whether a program is attached by a type of the kernel's BTF (libbpf's `prog_needs_vmlinux_btf`).
    fn needs_btf(&self, program: &str) -> bool {
        let kind = self.section(program).split(['/', '.']).next().unwrap_or_default();
        matches!(kind, "tp_btf" | "fentry" | "fexit" | "fmod_ret" | "lsm" | "lsm_cgroup" | "iter")
    }

    /// One try of the ladder's present ways. What was attached before a failure detaches.
    fn attempt(&self, ladder: &Ladder<'_>, without_btf: bool) -> Result<Attached, Failure> {
        let programs = ladder.programs();
        let mut objects: Vec<Loaded> = Vec::new();
        for (code, settings) in self.codes.iter().zip(self.settings) {
            let cells = objects.iter().find_map(|object| object.map("unity_cut"));
            let cells = cells.as_ref().map(|map| map.as_fd());
            let terms = Terms { programs: &programs, settings, cut: self.cut, cells, without_btf };
            let loaded = load(code, &terms)?;
            objects.push(loaded);
        }
        let mut attached = Attached::new(objects, self.cut);
        for (hook, way) in ladder.ways() {
            for name in way {
                attached.attach(name, &hook.target)?;
            }
        }
        Ok(attached)
    }
}
