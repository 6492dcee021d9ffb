//! The thread that looks up names.

use super::elf::Image;
use super::file::Identity;
use super::kernel::Kernel;
use super::module::{Answer, Module, ModuleId, Modules};
use super::process::{Missing, Process, Processes, What, began_of, clock};
use super::{Counts, Folded, Limits, Owner, name};
use crate::elf::read::Budget;
use crate::object::sees_all_threads;
use plugin_api::log;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

/// Of one file at one look: some million symbols.
const FILE_BYTES: usize = 96 << 20;
const FILE_TIME: Duration = Duration::from_millis(250);
/// How soon after it was sampled first a process's maps are read.
const WATCH_EVERY: Duration = Duration::from_millis(50);
/// At one look; more are for the next.
const WATCHED: usize = 64;
/// How often a process's maps are read for one batch, at most: an exec may lie between two stacks.
const TAKEN: u32 = 2;
/// Names can wait. Stacks are handed over here when all plugins are called. On a busy machine this thread was kept
/// waiting before, so the scheduler (EEVDF's lag) would run it first, and the others' calls would be late.
const OTHERS: Duration = Duration::from_millis(3);
/// Frames of a stack, at most, on each side.
pub(super) const FRAMES: usize = 127;

const UNKNOWN: &str = "[unknown]";

/// What is known of a sampled process: its id and an address where it ran.
pub(super) type Sightings = Box<dyn FnMut() -> Option<(u32, u64)> + Send>;

pub(super) enum Job {
    /// The kernel's list of functions, ahead of the first stack.
    Kernel,
    Watch(Sightings),
    /// Stacks, and how long it may take.
    Name(Vec<Asked>, Duration, Sender<(Vec<Folded>, Counts)>),
}

/// A stack that is asked for.
pub(super) struct Asked {
    pub owner: Option<Owner>,
    pub root: String,
    pub user: Vec<u64>,
    pub kernel: Vec<u64>,
}

/// Where an address of a process lies.
enum Place {
    /// In a file, at the address that its symbols have.
    Module(ModuleId, u64),
    Memory,
    /// Already a text.
    Text(String),
    Nowhere,
}

#[derive(Default)]
pub(super) struct Resolver {
    modules: Modules,
    processes: Processes,
    kernel: Kernel,
    vdso: Option<Vdso>,
    sightings: Option<Sightings>,
    /// Those of this batch: when they began, and how often their maps were read for it.
    lives: HashMap<u32, (Result<u64, Missing>, u32)>,
    said_denied: bool,
    limits: Limits,
}

struct Vdso {
    module: ModuleId,
    bytes: Vec<u8>,
}

impl Resolver {
    pub(super) fn new(limits: Limits) -> Self {
        let mut resolver = Self { limits, ..Self::default() };
        resolver.vdso = vdso(&mut resolver.modules);
        resolver
    }

    /// Works until nobody can ask any more.
    pub(super) fn run(mut self, jobs: &Receiver<Job>) {
        loop {
            let job = match &self.sightings {
                None => jobs.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(_) => jobs.recv_timeout(WATCH_EVERY),
            };
            match job {
                Ok(Job::Kernel) => self.kernel.read_again(),
                Ok(Job::Watch(sightings)) => self.sightings = Some(sightings),
                Ok(Job::Name(stacks, time, reply)) => {
                    let until = Instant::now() + time;
                    thread::sleep(OTHERS.min(time / 10));
                    self.look(); // the processes of these stacks too
                    let _ = reply.send(self.answer(&stacks, until));
                }
                Err(RecvTimeoutError::Timeout) => self.look(),
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// Reads the maps of processes that are seen for the first time, or somewhere new.
    fn look(&mut self) {
        let Some(sightings) = &mut self.sightings else { return };
        for (pid, address) in std::iter::from_fn(sightings).take(WATCHED) {
            let known = self.processes.get(pid);
            let is_due = known.is_none_or(|of| of.mapping(address).is_none() && of.is_due());
            if is_due && let Ok(process) = Process::take(pid, &mut self.modules) {
                self.processes.insert(process);
            }
        }
    }

    pub(super) fn answer(&mut self, stacks: &[Asked], until: Instant) -> (Vec<Folded>, Counts) {
        self.processes.begin();
        self.lives.clear();
        let mut owners = HashMap::new();
        for owner in stacks.iter().filter_map(|stack| stack.owner) {
            let addresses = stacks.iter().filter(|stack| stack.owner == Some(owner));
            let addresses = addresses.flat_map(|stack| called(&stack.user));
            owners
                .entry(owner)
                .or_insert_with(|| self.know(owner, &addresses.collect::<Vec<_>>(), until));
        }
        self.find(stacks, &owners, until);
        let mut counts = Counts { stacks: stacks.len() as u64, ..Counts::default() };
        let folded = stacks.iter().map(|stack| {
            let frames = self.frames(stack, &owners, &mut counts);
            let (folded, truncated) = name::fold(&frames);
            counts.truncated += u64::from(truncated);
            folded
        });
        let folded = folded.collect();
        self.modules.bound(self.limits.cache_bytes);
        (folded, counts)
    }

    /// Makes sure that an owner's maps are known; whether they are those that its addresses belong to.
    fn know(&mut self, owner: Owner, addresses: &[u64], until: Instant) -> bool {
        let (lives, taken) =
            self.lives.entry(owner.pid).or_insert_with(|| (began_of(owner.pid), 0));
        let is_right = |process: &Process| {
            let of_this_program = match owner.exec_ns {
                0 => true,
                exec => (process.taken_ns > exec) == (owner.seen_ns > exec),
            };
            process.began_ns <= owner.began_before_ns && of_this_program
        };
        let known = self.processes.get(owner.pid).filter(|process| is_right(process));
        let is_known = known.is_some_and(|process| {
            lives.map_or(true, |began| began == process.began_ns)
                && addresses.iter().all(|address| process.mapping(*address).is_some())
        });
        // Addresses that are mapped nowhere, as code without frame pointers leaves them, are in no maps.
        let may_take = lives.is_ok_and(|began| began <= owner.began_before_ns) && *taken < TAKEN;
        if !is_known && may_take && Instant::now() < until {
            *taken += 1;
            match Process::take(owner.pid, &mut self.modules) {
                Ok(process) if is_right(&process) => self.processes.insert(process),
                Err(Missing::Denied) => self.say_denied(owner.pid),
                _ => {}
            }
        }
        if self.processes.get(owner.pid).is_some_and(|process| process.is_closed) {
            self.say_denied(owner.pid);
        }
        self.processes.touch(owner.pid);
        self.processes.get(owner.pid).is_some_and(is_right)
    }

    fn say_denied(&mut self, pid: u32) {
        if !std::mem::replace(&mut self.said_denied, true) {
            log::warn!(
                "functions of some processes have no names: maps or files of process {pid}, for one, may not be \
                 looked at. It needs CAP_SYS_PTRACE"
            );
        }
    }

    /// Looks up what is not known yet, each file once.
    fn find(&mut self, stacks: &[Asked], owners: &HashMap<Owner, bool>, until: Instant) {
        let mut files: BTreeMap<ModuleId, (u32, u64, BTreeSet<u64>)> = BTreeMap::new();
        let mut memory: BTreeMap<u32, BTreeSet<u64>> = BTreeMap::new();
        for stack in stacks {
            let Some(process) = self.process(stack, owners) else { continue };
            for address in called(&stack.user) {
                match self.place(process, address) {
                    Place::Module(id, at)
                        if self.modules.get(id).map(|of| of.look_up(at))
                            == Some(Answer::Unasked) =>
                    {
                        let of = files
                            .entry(id)
                            .or_insert_with(|| (process.pid, address, BTreeSet::new()));
                        of.2.insert(at);
                    }
                    Place::Memory => _ = memory.entry(process.pid).or_default().insert(address),
                    _ => {}
                }
            }
        }
        let budget = || Budget { until: until.min(Instant::now() + FILE_TIME), bytes: FILE_BYTES };
        for (id, (pid, address, at)) in files {
            let at: Vec<_> = at.into_iter().collect();
            if let Some(vdso) = self.vdso.as_ref().filter(|vdso| vdso.module == id) {
                if let Some(module) = self.modules.get_mut(id) {
                    module.find(&*vdso.bytes, &at, &mut budget(), || true);
                }
                continue;
            }
            let Some(module) = self.modules.get_mut(id) else { continue };
            let Some(process) = self.processes.get(pid) else { continue };
            let Some(mapping) = process.mapping(address) else { continue };
            let seen = process.file(mapping, |seen| seen.identity == module.identity);
            let Some(seen) = seen else { continue };
            let Some(file) = seen.open() else { continue };
            let has_its_time = Instant::now() + FILE_TIME <= until;
            let found = module.find(&file, &at, &mut budget(), || seen.is_unchanged());
            if found.is_none() && has_its_time {
                log::debug!("{}: no symbols can be read from this file", module.name);
                module.give_up(&at);
            }
        }
        for (pid, addresses) in memory {
            let Some(process) = self.processes.get_mut(pid) else { continue };
            let roots: Vec<_> = process.roots().collect();
            process.perf_map.look(roots.into_iter(), addresses, &mut budget());
        }
    }

    fn process(&self, stack: &Asked, owners: &HashMap<Owner, bool>) -> Option<&Process> {
        let owner = stack.owner.filter(|owner| owners.get(owner) == Some(&true))?;
        self.processes.get(owner.pid)
    }

    fn place(&self, process: &Process, address: u64) -> Place {
        let Some(mapping) = process.mapping(address) else { return Place::Nowhere };
        let offset = address - mapping.range.start + mapping.offset;
        match &mapping.what {
            What::Module(id, path) => match self.modules.get(*id) {
                Some(module) => Place::Module(*id, module.address(offset)),
                None => {
                    let name = path.file_name().unwrap_or_default();
                    let name = name::clean(name.as_encoded_bytes());
                    Place::Text(format!("{name}+{offset:#x}"))
                }
            },
            What::File(name) => Place::Text(format!("{name}+{offset:#x}")),
            What::Anonymous => Place::Memory,
            What::Vdso => match &self.vdso {
                // That of 32-bit programs is another.
                Some(vdso) if mapping.range.start > u64::from(u32::MAX) => {
                    let module = self.modules.get(vdso.module);
                    let at = module.map_or(offset, |module| module.address(offset));
                    Place::Module(vdso.module, at)
                }
                _ => Place::Text("[vdso]".to_owned()),
            },
            What::Special(text) => Place::Text(text.to_string()),
        }
    }

    /// The texts of a stack's frames, the outermost first.
    fn frames(
        &mut self,
        stack: &Asked,
        owners: &HashMap<Owner, bool>,
        counts: &mut Counts,
    ) -> Vec<String> {
        let mut frames = Vec::with_capacity(1 + stack.user.len() + stack.kernel.len());
        if !stack.root.is_empty() {
            frames.push(name::clean(stack.root.as_bytes()));
        }
        let outermost = if stack.user.is_empty() { &stack.kernel } else { &stack.user };
        if outermost.len() >= FRAMES {
            frames.push(name::TRUNCATED.to_owned());
        }
        let process = self.process(stack, owners);
        let user: Vec<_> = called(&stack.user).collect();
        for address in user.into_iter().rev() {
            counts.frames += 1;
            let place = process.map_or(Place::Nowhere, |process| self.place(process, address));
            frames.push(match place {
                Place::Module(id, at) => match self.modules.get(id) {
                    Some(module) => match module.look_up(at) {
                        Answer::Named(name) => name.to_string(),
                        Answer::Nameless | Answer::Unasked => {
                            counts.unnamed += 1;
                            module.offset(at)
                        }
                    },
                    None => unknown(counts),
                },
                Place::Memory => match process.and_then(|of| of.perf_map.name(address)) {
                    Some(name) => name.to_string(),
                    None => unknown(counts),
                },
                Place::Text(text) => {
                    counts.unnamed += 1;
                    text
                }
                Place::Nowhere => unknown(counts),
            });
        }
        let kernel: Vec<_> = called(&stack.kernel).collect();
        for address in kernel.into_iter().rev() {
            counts.frames += 1;
            let name = match self.kernel.name(address) {
                Some(name) => name.to_owned(),
                None => unknown(counts),
            };
            frames.push(name + "_[k]");
        }
        // Where there are no frame pointers, words of the stack are taken for addresses, each time others.
        frames.dedup_by(|a, b| a == b && a.starts_with(UNKNOWN));
        frames
    }
}

fn unknown(counts: &mut Counts) -> String {
    counts.unknown += 1;
    UNKNOWN.to_owned()
}

/// The addresses to look up: the innermost is where it ran, the others are where calls return to, which may be
/// behind the function's end.
fn called(addresses: &[u64]) -> impl Iterator<Item = u64> {
    let innermost = addresses.iter().take(1).copied();
    innermost.chain(addresses.iter().skip(1).map(|address| address.wrapping_sub(1)))
}

/// The library that the kernel maps into every process, from the own memory.
fn vdso(modules: &mut Modules) -> Option<Vdso> {
    let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
    let line = maps.lines().find(|line| line.ends_with("[vdso]"))?;
    let (start, end) = line.split_once(' ')?.0.split_once('-')?;
    let number = |text| usize::from_str_radix(text, 16).ok();
    let (start, end) = (number(start)?, number(end)?);
    let len = end.checked_sub(start).filter(|len| *len <= 64 << 10)?;
    // SAFETY: the kernel maps it for as long as the process lives, readable, and nobody writes to it.
    let bytes = unsafe { std::slice::from_raw_parts(start as *const u8, len) }.to_vec();
    let module = Module::new(Identity::NONE, "[vdso]".into(), Image::read(&*bytes));
    Some(Vdso { module: modules.insert(module), bytes })
}

/// The time by CLOCK_BOOTTIME that a time by CLOCK_MONOTONIC was.
pub(super) fn boot_time(monotonic_ns: u64) -> u64 {
    let ahead = clock(libc::CLOCK_BOOTTIME).saturating_sub(clock(libc::CLOCK_MONOTONIC));
    monotonic_ns.saturating_add(ahead)
}

/// Whether ids of processes, as programs see them, are those of /proc.
pub(super) fn knows_processes() -> bool {
    let knows = sees_all_threads();
    if !knows {
        log::warn!(
            "functions of processes have no names: in a namespace of process ids (a container without \
             `--pid=host`) they cannot be found"
        );
    }
    knows
}
