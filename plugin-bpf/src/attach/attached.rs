//! Objects with all that is attached of them.

use super::held::Held;
use super::info::Program;
use super::ladder::Verdict;
use super::target::{Function, Target, has_cookies};
use crate::exact::CutKind;
use crate::object::{Failure, Loaded, ProgramDef};
use libbpf_rs::{MapCore as _, MapFlags, ProgramInput};
use plugin_api::{Result, anyhow};
use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::FromRawFd as _;
use std::sync::Weak;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;

/// The loaded objects of a plugin with their links, those of [`crate::Links`] too; dropping it detaches and
/// unloads.
pub struct Attached {
    // The order of fields is the order of drop: links go before the objects, into which those of static probes
    // point (bpf_link_usdt_detach). Nothing hands a link out.
    held: Vec<Held>,
    late: BTreeMap<u64, Late>,
    programs: Vec<Program>,
    verdicts: Vec<Verdict>,
    /// Programs with what went wrong since the last report.
    troubles: Vec<(String, String)>,
    /// Threads that let go of links which nobody meets any more.
    leaving: Vec<JoinHandle<()>>,
    objects: Vec<Loaded>,
    /// How programs enter the cut, where one of them does.
    cut: Option<CutKind>,
}

/// What was attached for one key of a [`crate::Links`].
struct Late {
    /// Dead when the `Links` is gone.
    owner: Weak<()>,
    held: Vec<Held>,
    sites: Vec<(u32, u64)>,
}

impl Attached {
    pub(super) fn new(objects: Vec<Loaded>, cut: CutKind) -> Self {
        let enters = objects.iter().any(|object| object.map("unity_cut").is_some());
        Self {
            held: Vec::new(),
            late: BTreeMap::new(),
            programs: Vec::new(),
            verdicts: Vec::new(),
            troubles: Vec::new(),
            leaving: Vec::new(),
            objects,
            cut: enters.then_some(cut),
        }
    }

    /// The loaded programs.
    #[must_use]
    pub fn programs(&self) -> &[Program] {
        &self.programs
    }

    /// Attaches the program of a hook.
    pub(super) fn attach(&mut self, name: &str, target: &Target) -> Result<(), Failure> {
        self.place(target).map_err(|reason| Failure::of_program(name, reason))?;
        let found = self.objects.iter().find_map(|loaded| {
            let def = loaded.code.programs.iter().find(|def| def.name == name)?;
            Some((def, loaded.object().progs_mut().find(|program| program.name() == name)?))
        });
        let (def, program) = found.ok_or_else(|| Failure::of_program(name, "no such program"))?;
        let held = target.attach(&program).map_err(|reason| Failure::of_program(name, reason))?;
        self.programs.push(Program::of(def, &program, target).map_err(Failure::of_object)?);
        self.held.extend(held);
        Ok(())
    }

    /// Attaches programs that are loaded already, all of them or none. The number is for [`Self::detach_late`].
    pub(super) fn attach_late(
        &mut self,
        owner: Weak<()>,
        targets: &[(&'static str, Target)],
    ) -> Result<u64, Failure> {
        // Unique in the process: a number means nothing to any other object.
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let mut held = Vec::new(); // what it has at a failure detaches
        let mut sites = Vec::new();
        for (name, target) in targets {
            let site = self.place(target).map_err(|reason| Failure::of_program(name, reason))?;
            sites.extend(site);
            let found = self.objects.iter().find_map(|loaded| {
                loaded.object().progs_mut().find(|program| program.name() == *name)
            });
            let program = found.ok_or_else(|| Failure::of_program(name, "no such program"))?;
            let one = target.attach(&program);
            held.extend(one.map_err(|reason| Failure::of_program(name, reason))?);
        }
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        self.late.insert(number, Late { owner, held, sites });
        Ok(number)
    }

    /// Tells the programs where a static probe's site has its argument, where the kernel has no cookies that say it
    /// (probe.bpf.h).
    fn place(&self, target: &Target) -> Result<Option<(u32, u64)>, String> {
        let Target::Uprobe { function: Function::Site(site), .. } = target else { return Ok(None) };
        let Some(argument) = site.argument.filter(|_| !has_cookies()) else { return Ok(None) };
        let (key, place) = ((site.offset & 0xfff) as u32, argument.0);
        let mut known = self.late.values().flat_map(|late| &late.sites);
        if known.any(|(other, elsewhere)| *other == key && *elsewhere != place) {
            return Err("another file has a static probe at the same place of a page, and this kernel cannot tell \
                        the two apart (Linux 5.15)"
                .to_owned());
        }
        let map = self.objects.iter().find_map(|object| object.map("unity_sites"));
        let map = map.ok_or("the program has no probe.bpf.h")?;
        map.update(&key.to_ne_bytes(), &place.to_ne_bytes(), MapFlags::ANY)
            .map_err(|error| format!("map `unity_sites`: {error}"))?;
        Ok(Some((key, place)))
    }

    /// Whether a program that is attached later can be attached at all: by a probe of a file that nobody maps.
    ///
    /// # Errors
    /// The kernel's reason. A kernel that wants CAP_SYS_ADMIN for it gives that one at the start or never.
    pub(super) fn try_probe(&self, name: &str) -> Result<(), String> {
        // SAFETY: the name is a C string; the result is checked.
        let fd = unsafe { libc::memfd_create(c"probe".as_ptr(), libc::MFD_CLOEXEC) };
        if fd < 0 {
            return Err(std::io::Error::last_os_error().to_string());
        }
        // SAFETY: the descriptor is new and ours alone.
        let file = unsafe { File::from_raw_fd(fd) };
        file.set_len(4096).map_err(|error| error.to_string())?;
        let target = Target::uprobe_at(format!("/proc/self/fd/{fd}"), 0);
        let mut programs = self.objects.iter().flat_map(|loaded| loaded.object().progs_mut());
        let program = programs.find(|program| program.name() == name).ok_or("no such program")?;
        target.attach(&program).map(drop)
    }

    /// Detaches what was attached under a number.
    pub(super) fn detach_late(&mut self, number: u64) {
        self.late.remove(&number);
    }

    /// The same without waiting: the kernel takes a grace period of some 100 ms to end a uprobe. For places that no
    /// process is left to come to.
    pub(super) fn let_go(&mut self, number: u64) {
        let Some(late) = self.late.remove(&number) else { return };
        self.leaving.retain(|thread| !thread.is_finished());
        self.leaving.push(std::thread::spawn(move || drop(late.held)));
    }

    /// For the next report.
    pub(super) fn trouble(&mut self, program: &str, reason: String) {
        plugin_api::log::info!("{program}: {reason}");
        self.troubles.push((program.to_owned(), reason));
    }

    /// Follows CPUs that come and go, and detaches what tools have forgotten; before each cut.
    pub(crate) fn refresh(&mut self) {
        self.late.retain(|_, late| late.owner.strong_count() > 0);
        let late = self.late.values_mut().flat_map(|late| &mut late.held);
        let troubles: Vec<_> = self
            .held
            .iter_mut()
            .chain(late)
            .filter_map(|held| held.refresh().map(|reason| (held.program().to_owned(), reason)))
            .collect();
        troubles.into_iter().for_each(|(program, reason)| self.trouble(&program, reason));
    }

    /// In how many places a program is attached.
    pub(super) fn links(&self, program: &str) -> usize {
        let late = self.late.values().flat_map(|late| &late.held);
        let of_it = self.held.iter().chain(late).filter(|held| held.program() == program);
        of_it.map(Held::links).sum()
    }

    /// Where a program is attached, when its section does not say it and it is in one place.
    pub(super) fn target(&self, program: &str) -> Option<String> {
        let held = self.held.iter().find(|held| held.program() == program)?;
        held.target().map(str::to_owned)
    }

    /// What the probes missed before they came to a program.
    pub(super) fn missed(&self, program: &str) -> u64 {
        self.held.iter().filter(|held| held.program() == program).map(Held::missed).sum()
    }

    pub(super) fn programs_mut(&mut self) -> &mut [Program] {
        &mut self.programs
    }

    pub(crate) fn objects(&self) -> &[Loaded] {
        &self.objects
    }

    pub(super) fn cut(&self) -> Option<CutKind> {
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

    /// Runs an attached iterator (`SEC("iter/task")`) and gives all that it wrote with `bpf_seq_write`. Ask for it
    /// in [`crate::Tool::tend`].
    ///
    /// # Errors
    /// No such program is attached, or the kernel refused.
    pub fn iterate(&self, program: &str) -> Result<Vec<u8>> {
        let held = self.held.iter().find(|held| held.program() == program);
        held.ok_or_else(|| anyhow!("no iterator `{program}` is attached"))?.iterate()
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

    pub(super) fn set_verdicts(&mut self, verdicts: Vec<Verdict>) {
        self.verdicts = verdicts;
    }

    /// The verdicts, once.
    pub(super) fn take_verdicts(&mut self) -> Vec<Verdict> {
        std::mem::take(&mut self.verdicts)
    }

    /// What went wrong since the last time, in one text for each program.
    pub(super) fn take_troubles(&mut self) -> BTreeMap<String, String> {
        let mut by_program: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (program, reason) in self.troubles.drain(..) {
            by_program.entry(program).or_default().push(reason);
        }
        by_program.into_iter().map(|(program, reasons)| (program, in_one(&reasons))).collect()
    }
}

impl Drop for Attached {
    /// No link outlives the objects.
    fn drop(&mut self) {
        self.leaving.drain(..).for_each(|thread| drop(thread.join()));
    }
}

/// The first reasons, and how many there are beyond them.
fn in_one(reasons: &[String]) -> String {
    const SHOWN: usize = 3;
    let shown = reasons[..reasons.len().min(SHOWN)].join(" | ");
    match reasons.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} | and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::in_one;

    #[test]
    fn many_reasons_become_a_few_and_a_number() {
        let reasons = ["a", "b", "c", "d", "e"].map(str::to_owned);
        assert_eq!(in_one(&reasons[..1]), "a");
        assert_eq!(in_one(&reasons[..3]), "a | b | c");
        assert_eq!(in_one(&reasons), "a | b | c | and 2 more");
    }
}
