//! From hooks to attached programs.

mod hook;
mod ladder;
mod program;
mod target;
pub(crate) mod tracepoint;

pub use hook::{Hook, Hooks, only_kind};
pub use ladder::Verdict;
pub use program::{Program, ProgramInfo, kernel_at_least};
pub use target::Target;

use crate::exact::CutKind;
use crate::object::{Code, Failure, Loaded, ProgramDef, Settings, Terms, load};
use hook::Resolved;
use ladder::{Ended, Ladder};
use libbpf_rs::{Link, ProgramInput};
use plugin_api::{Result, anyhow, bail};
use std::collections::BTreeSet;
use std::os::fd::AsFd as _;

/// The loaded objects of a plugin with their links; dropping it detaches and unloads.
pub struct Attached {
    // The order of fields is the order of drop: links go before the objects that they point into.
    _links: Vec<Link>,
    programs: Vec<Program>,
    verdicts: Vec<Verdict>,
    objects: Vec<Loaded>,
    cut: CutKind,
}

/// Tries the hooks' ways by loading and attaching, best first, until every hook that is needed has one.
///
/// # Errors
/// No set of hooks works; names each hook that failed with its ways and their reasons.
pub(crate) fn attach(
    codes: &[&'static Code],
    settings: &[Settings],
    hooks: &Hooks,
    cut: CutKind,
) -> Result<Attached> {
    let programs: Vec<&'static ProgramDef> =
        codes.iter().flat_map(|code| code.programs.iter()).collect();
    let mut verdicts = Vec::new();
    let mut reasons = Vec::new();
    for set in hooks.resolve(&programs)? {
        let climb = Climb { codes, settings, cut };
        match climb.up(&set, &mut verdicts) {
            Ok(mut attached) => {
                // Of a program that another set could not use and this one could: no verdict.
                verdicts.retain(|v| attached.programs.iter().all(|p| p.name() != v.program));
                let mut known = BTreeSet::new();
                verdicts.retain(|v| known.insert(v.program.clone()));
                attached.verdicts = verdicts;
                return Ok(attached);
            }
            Err(Ended(reason)) => reasons.push(reason),
        }
    }
    bail!("{}", reasons.join(" || "));
}

struct Climb<'a> {
    codes: &'a [&'static Code],
    settings: &'a [Settings],
    cut: CutKind,
}

impl Climb<'_> {
    fn up(&self, set: &[Resolved], verdicts: &mut Vec<Verdict>) -> Result<Attached, Ended> {
        let mut ladder = Ladder::new(set);
        let mut without_btf = false;
        let result = loop {
            match self.attempt(&ladder, without_btf) {
                Ok(attached) => break Ok(attached),
                // The object as a whole: perhaps for want of the kernel's BTF, which programs without
                // relocations do not need.
                Err(Failure { program: None, .. }) if !without_btf => without_btf = true,
                Err(failure) => {
                    if let Err(ended) = ladder.fall(&failure) {
                        break Err(ended);
                    }
                }
            }
        };
        verdicts.append(&mut ladder.verdicts);
        result
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
        let (mut links, mut attached) = (Vec::new(), Vec::new());
        for (hook, way) in ladder.ways() {
            for name in way {
                let found = objects.iter().find_map(|loaded| {
                    loaded.object().progs_mut().find(|program| program.name() == *name)
                });
                let Some(program) = found else { continue };
                links.extend(
                    hook.target
                        .attach(&program)
                        .map_err(|reason| Failure::of_program(name, reason))?,
                );
                attached.push(Program::of(&program).map_err(Failure::of_object)?);
            }
        }
        let cut = self.cut;
        Ok(Attached { _links: links, programs: attached, verdicts: Vec::new(), objects, cut })
    }
}

impl Attached {
    /// The attached programs.
    #[must_use]
    pub fn programs(&self) -> &[Program] {
        &self.programs
    }

    fn programs_mut(&mut self) -> &mut [Program] {
        &mut self.programs
    }

    pub(crate) fn objects(&self) -> &[Loaded] {
        &self.objects
    }

    pub(crate) fn cut(&self) -> CutKind {
        self.cut
    }

    /// Whether one of the loaded programs may sleep, so that no grace period waits for it.
    pub(crate) fn is_sleepable(&self) -> bool {
        let sections = self.objects.iter().flat_map(|loaded| loaded.code.programs);
        let loaded = |program: &&ProgramDef| self.programs.iter().any(|p| p.name() == program.name);
        sections.filter(loaded).any(|program| {
            program.section.split('/').next().is_some_and(|kind| kind.ends_with(".s"))
        })
    }

    /// Runs a program once by hand (BPF_PROG_TEST_RUN) with these bytes as its context, for tests; gives what
    /// it returned.
    #[doc(hidden)]
    pub fn test_run(&self, name: &str, context: &[u8]) -> Result<u32> {
        let mut context = context.to_vec();
        let input = ProgramInput { context_in: Some(&mut context), ..ProgramInput::default() };
        let mut programs = self.objects.iter().flat_map(|loaded| loaded.object().progs_mut());
        let program = programs.find(|program| program.name() == name);
        let program = program.ok_or_else(|| anyhow!("no program `{name}` is loaded"))?;
        Ok(program.test_run(input)?.return_value)
    }

    /// The verdicts, once.
    pub(crate) fn take_verdicts(&mut self) -> Vec<Verdict> {
        std::mem::take(&mut self.verdicts)
    }
}
