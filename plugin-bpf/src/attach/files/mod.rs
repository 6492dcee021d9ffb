//! Programs and libraries that are probed wherever they run, containers included.

mod process;

pub use process::{Inode, Process};

use super::attached::Attached;
use super::links::{Changes, Links};
use super::target::Target;
use crate::elf::Elf;
use crate::maps::Queue;
use crate::object::sees_all_threads;
use plugin_api::{Context as _, Result, anyhow, ensure, log};
use process::{Handle, Mounts, Print};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// Files that are probed at a time.
const FILES: usize = 64;
/// Processes of one file that are known; those of a file that a host keeps are known for their names only.
const PROCESSES: usize = 64;
/// A library may be mapped a while after the exec: how often a process is looked at again, once a tick.
const AGAIN: u8 = 3;
/// Processes that wait for that.
const WAITING: usize = 4096;
/// Ticks between looks at all processes, where the kernel's ids mean nothing (a namespace of process ids).
const BLIND: u64 = 8;

/// Which files a tool probes.
#[derive(Clone, Copy, Debug)]
pub struct Search {
    /// The tool's program that stands for them in `collector_program`, with why a file cannot be probed.
    pub program: &'static str,
    /// Names of programs; empty: any program may map the library.
    pub names: &'static [&'static str],
    /// How names of libraries begin that those programs map; empty: the programs themselves are meant.
    pub libraries: &'static [&'static str],
    /// Where this host keeps them, whether or not one runs; `*` is any one folder.
    pub places: &'static [&'static str],
}

/// The files that a tool probes, by inode, as processes that run them come and go.
///
/// One look at all processes when it starts, and one whenever more processes came than could be told of
/// (named.bpf.h); between them only at those that the kernel told of. What a file's processes did before the tick
/// at which it was found is not seen.
///
/// A file is kept while the host's own path leads to it, so that whoever runs it next is seen from the first moment.
/// One of a container, or one that was replaced, is kept while a process of it lives: a probe holds its file system
/// mounted. Two containers' mounts of one file are one file, and each event is counted once.
///
/// Looking into processes takes CAP_SYS_PTRACE ([`crate::Tool::CAPABILITIES`]).
pub struct Files {
    search: Search,
    told: Queue<u32>,
    tick: u64,
    known: BTreeMap<Inode, Known>,
    again: BTreeMap<Process, u8>,
    links: Links<Inode>,
    sees_all: bool,
    hidden: u64,
    left_out: u64,
    has_said: BTreeSet<&'static str>,
}

struct Known {
    /// Of one that is probed.
    handle: Option<Handle>,
    print: Print,
    is_overlay: bool,
    /// As its process named it.
    name: PathBuf,
    /// Where this host's own tree has it.
    place: Option<PathBuf>,
    targets: Result<Vec<(&'static str, Target)>, String>,
    /// With the device by which each has it.
    processes: BTreeMap<Process, u64>,
    has_more: bool,
}

/// A file that was found, for its targets.
pub struct Found<'a> {
    /// Its bytes.
    pub elf: Elf<'a>,
    /// Leads to this file. It is no name to show.
    pub path: PathBuf,
    /// Its path as the process has it, which that process may have chosen.
    pub name: &'a Path,
}

impl Found<'_> {
    /// Whether it is a library of those that were searched for.
    #[must_use]
    pub fn is_library(&self, search: &Search) -> bool {
        self.name.file_name().is_some_and(|name| search.is_library(name.as_encoded_bytes()))
    }
}

/// A file that is known.
pub struct Probed<'a> {
    /// Its path as the process has it, which that process may have chosen.
    pub name: &'a Path,
    /// Why it cannot be probed.
    pub refused: Option<&'a str>,
    /// Those of its processes that live, at most 64.
    pub processes: Vec<Process>,
}

impl Search {
    fn is_program(&self, name: &[u8]) -> bool {
        self.names.is_empty() || self.names.iter().any(|known| known.as_bytes() == name)
    }

    fn is_library(&self, name: &[u8]) -> bool {
        self.libraries.iter().any(|begin| name.starts_with(begin.as_bytes()))
    }

    /// Whether a program itself can be one of the files.
    fn wants_programs(&self) -> bool {
        !self.names.is_empty()
    }
}

impl Files {
    /// In [`crate::Tool::begin`]; `told` is the map of named.bpf.h.
    ///
    /// # Errors
    /// No file can be probed here; says why.
    pub fn begin(
        search: Search,
        attached: &Attached,
        told: &mut Option<Queue<u32>>,
    ) -> Result<Self> {
        let program = search.program;
        let refused = |reason: String| {
            let needs =
                if reason.contains("EACCES") { " (uprobes take CAP_SYS_ADMIN)" } else { "" };
            anyhow!("no way to observe `{program}` works here: {reason}{needs}")
        };
        attached.try_probe(program).map_err(refused)?;
        Ok(Self {
            search,
            told: told.take().context("the program has no named.bpf.h")?,
            tick: 0,
            known: BTreeMap::new(),
            again: BTreeMap::new(),
            links: Links::default(),
            sees_all: sees_all_threads(),
            hidden: 0,
            left_out: 0,
            has_said: BTreeSet::new(),
        })
    }

    /// Finds what is new, attaches it, and detaches what is gone; once in a tick, from [`crate::Tool::tend`].
    ///
    /// `targets` says where the tool's programs attach in a file, whose path must be `found.path`; its error is why
    /// the file is left alone.
    ///
    /// # Errors
    /// As of [`Links::follow`]. What is wrong with a process or file costs that file, and is in `collector_program`.
    pub fn follow(
        &mut self,
        attached: &mut Attached,
        mut targets: impl FnMut(&Found<'_>) -> Result<Vec<(&'static str, Target)>>,
    ) -> Result<Changes<Inode>> {
        let mut look = Look { targets: &mut targets, refused: Vec::new() };
        (self.hidden, self.left_out) = (0, 0);
        for inode in self.keep_those_in_use() {
            self.links.let_go(attached, &inode);
        }
        self.look_at_places(&mut look);
        let (mut told, mut tellings) = (BTreeSet::new(), 0);
        self.told.drain(|pid| {
            told.insert(pid);
            tellings += 1;
        })?;
        let all = self.tick == 0
            || tellings >= WHOLE_QUEUE
            || !self.sees_all && self.tick.is_multiple_of(BLIND);
        self.tick += 1;
        if all {
            told = all_processes();
        }
        let mut due = std::mem::take(&mut self.again);
        due.retain(|process, _| process.is_alive());
        let fresh = told.into_iter().filter_map(|pid| Process::of(pid).ok());
        due.extend(fresh.map(|process| (process, if all { 1 } else { AGAIN })));
        for (process, times) in due {
            self.look_at(process, &mut look);
            if times > 1 && self.again.len() < WAITING {
                self.again.insert(process, times - 1);
            }
        }
        for reason in look.refused {
            attached.trouble(self.search.program, reason);
        }
        let wanted = self.known.iter().filter_map(|(inode, known)| {
            let targets = known.targets.as_ref().ok().filter(|targets| !targets.is_empty());
            Some((*inode, targets?.clone()))
        });
        self.links.follow(attached, wanted.collect::<Vec<_>>())
    }

    /// The files that are known.
    pub fn iter(&self) -> impl Iterator<Item = Probed<'_>> {
        self.known.values().map(|known| Probed {
            name: &known.name,
            refused: known.targets.as_ref().err().map(String::as_str),
            processes: known.processes.keys().copied().filter(Process::is_alive).collect(),
        })
    }

    /// How many are probed.
    #[must_use]
    pub fn probed(&self) -> usize {
        self.links.len()
    }

    /// Files that could not be probed: refused, or beyond the first 64.
    #[must_use]
    pub fn unprobed(&self) -> u64 {
        let wanted = |known: &&Known| !known.targets.as_ref().is_ok_and(Vec::is_empty);
        let wanted = self.known.values().filter(wanted).count();
        wanted.saturating_sub(self.links.len()) as u64 + self.left_out
    }

    /// Processes that were to be looked into at this tick, and may not be.
    #[must_use]
    pub fn hidden(&self) -> u64 {
        self.hidden
    }

    /// Forgets files that the host does not keep and nobody runs; gives those that are left to nobody.
    fn keep_those_in_use(&mut self) -> Vec<Inode> {
        let (mut orphans, mut left) = (Vec::new(), Vec::new());
        self.known.retain(|inode, known| {
            if known.targets.is_err() && !known.processes.is_empty() {
                known.processes.retain(|process, _| process.is_alive());
                return !known.processes.is_empty();
            }
            let is_there = |path: &mut PathBuf| {
                Handle::open(path).is_ok_and(|now| {
                    now.inode == *inode && (known.handle.is_some() || now.print == known.print)
                })
            };
            if known.place.take_if(|place| !is_there(place)).is_some() {
                known.has_more = true; // who forked a process of it, nobody told
            }
            if known.place.is_none() || known.processes.len() >= PROCESSES {
                known.processes.retain(|process, _| process.is_alive());
            }
            if known.place.is_some() {
                return true;
            }
            if known.has_more && known.processes.is_empty() {
                known.has_more = false;
                known.processes = users(&self.search, *inode);
            }
            // By a mount that only others use, the file system of a container that is gone would stay.
            let is_used = known.processes.values().any(|device| *device == inode.device);
            if !is_used {
                // By another mount it is attached at once, so this link must have gone by then.
                orphans.extend(known.processes.keys().copied());
                left.extend(known.processes.is_empty().then_some(*inode));
            }
            is_used
        });
        self.again.extend(orphans.into_iter().map(|process| (process, 1)));
        left
    }

    fn look_at_places(&mut self, look: &mut Look<'_>) {
        for place in self.search.places.iter().flat_map(|pattern| matching(pattern)) {
            if let Ok(handle) = Handle::open(&place)
                && self.known.get(&handle.inode).is_none_or(|known| known.place.is_none())
            {
                let seen = Seen { name: &place, place: Some(place.clone()), process: None };
                self.note(handle, seen, look);
            }
        }
    }

    fn look_at(&mut self, process: Process, look: &mut Look<'_>) {
        match self.look_into(process, look) {
            Ok(()) => {}
            // It has ended, or is a thread of the kernel.
            Err(error) if is_gone(&error) => {}
            Err(error) if is_hidden(&error) => {
                self.hidden += 1;
                self.say_once("hidden", || {
                    format!(
                        "cannot look into process {} and others like it ({error:#}), which takes CAP_SYS_PTRACE; \
                         what they run is probed only if this host keeps it in its usual place",
                        process.pid
                    )
                });
            }
            Err(error) => look.refused.push(format!("process {}: {error:#}", process.pid)),
        }
    }

    fn look_into(&mut self, process: Process, look: &mut Look<'_>) -> Result<()> {
        if self.search.wants_programs() {
            let program = process.program()?;
            let name = program.file_name().unwrap_or_default();
            if !self.search.is_program(name.as_encoded_bytes()) {
                return Ok(());
            }
            let handle = Handle::open(&process.at("exe"))?;
            let place = process.shares_mounts().then(|| program.clone());
            let seen = Seen { name: &program, place, process: Some(process) };
            self.note(handle, seen, look);
        }
        if self.search.libraries.is_empty() {
            return Ok(());
        }
        for mapped in process.mapped(|name| self.search.is_library(name))? {
            ensure!(
                !process.mounts()?.serves(mapped.device, &mapped.path),
                "{}: {SERVED}",
                mapped.path.display()
            );
            // The name may lead to another file by now; the mapping's own file takes more privileges.
            let below = mapped.path.strip_prefix("/").unwrap_or(&mapped.path);
            let by_name = Handle::open(&process.at("root").join(below));
            // An overlay may put a number of its own into the upper half.
            let low = |number: u64| number & u64::from(u32::MAX);
            let is_it = |handle: &Handle| low(handle.inode.number) == low(mapped.number);
            let handle = match by_name.ok().filter(|handle| !mapped.is_deleted && is_it(handle)) {
                Some(handle) => handle,
                None => {
                    Handle::open(&process.at("map_files").join(&mapped.range)).map_err(|error| {
                        let name = mapped.path.display();
                        anyhow!("{name} is no longer what is mapped, or out of reach ({error})")
                    })?
                }
            };
            let place = process.shares_mounts().then(|| mapped.path.clone());
            let seen = Seen { name: &mapped.path, place, process: Some(process) };
            self.note(handle, seen, look);
        }
        Ok(())
    }

    /// A file, and a process of it.
    fn note(&mut self, handle: Handle, seen: Seen<'_>, look: &mut Look<'_>) {
        let by = handle.inode;
        let mounts = seen.process.map_or_else(Mounts::own, |process| process.mounts());
        let mounts = mounts.unwrap_or_default();
        let is_overlay = mounts.is_overlay(by.device);
        let inode = self.same_file(&handle, is_overlay).unwrap_or(by);
        let is_another = |known: &Known| known.handle.is_none() && known.print != handle.print;
        if self.known.get(&inode).is_some_and(is_another) {
            self.known.remove(&inode);
        }
        if !self.known.contains_key(&inode) {
            let refused = self.known.iter().find(|(_, known)| known.targets.is_err());
            let refused = refused.map(|(inode, _)| *inode);
            let n = self.known.values().filter(|known| known.targets.is_ok()).count();
            if n >= FILES {
                self.left_out += 1;
                let name = seen.name.display();
                return self.say_once("full", || {
                    format!("{name} and others are not probed: {FILES} files are")
                });
            }
            // Of refused ones no more are kept: each is asked again when it comes again.
            if let Some(refused) = refused.filter(|_| self.known.len() - n >= FILES) {
                self.known.remove(&refused);
            }
            let targets = look.targets_of(&handle, &mounts, &seen);
            let known = Known {
                print: handle.print,
                is_overlay,
                handle: targets.is_ok().then_some(handle),
                name: seen.name.to_owned(),
                place: None,
                targets,
                processes: BTreeMap::new(),
                has_more: false,
            };
            self.known.insert(inode, known);
        }
        let Some(known) = self.known.get_mut(&inode) else { return };
        if known.place.is_none() && by == inode {
            known.place = seen.place;
        }
        match seen.process {
            Some(process) if known.processes.len() < PROCESSES => {
                known.processes.insert(process, by.device);
            }
            Some(_) => known.has_more = true,
            None => {}
        }
    }

    /// A known file that this one is, by its inode or below another overlay.
    fn same_file(&self, handle: &Handle, is_overlay: bool) -> Option<Inode> {
        if self.known.contains_key(&handle.inode) {
            return Some(handle.inode);
        }
        let is_same = |known: &Known| {
            let now = known.handle.as_ref().map_or(Ok(known.print), Handle::print_now);
            (is_overlay || known.is_overlay) && now.is_ok_and(|now| now.is_below(&handle.print))
        };
        self.known.iter().find(|(_, known)| is_same(known)).map(|(inode, _)| *inode)
    }

    fn say_once(&mut self, what: &'static str, text: impl FnOnce() -> String) {
        if self.has_said.insert(what) {
            log::warn!("{}: {}", self.search.program, text());
        }
    }
}

/// As many are told of at most (named.bpf.h): then there may have been more.
const WHOLE_QUEUE: usize = 1024;

type Targets<'a> = &'a mut dyn FnMut(&Found<'_>) -> Result<Vec<(&'static str, Target)>>;

/// A tick's look at what is there.
struct Look<'a> {
    targets: Targets<'a>,
    refused: Vec<String>,
}

/// How a file was come upon.
struct Seen<'a> {
    name: &'a Path,
    /// Where this host's own tree has it.
    place: Option<PathBuf>,
    process: Option<Process>,
}

const SERVED: &str = "a program serves its file system (FUSE), and might not answer";

impl Look<'_> {
    fn targets_of(
        &mut self,
        handle: &Handle,
        mounts: &Mounts,
        seen: &Seen<'_>,
    ) -> Result<Vec<(&'static str, Target)>, String> {
        let name = seen.name;
        let mut targets = || {
            ensure!(handle.mode & libc::S_IFMT == libc::S_IFREG, "no regular file");
            // It is at hand already, whatever the way to it was.
            ensure!(!mounts.serves(handle.inode.device, Path::new("/")), "{SERVED}");
            let file = handle.read()?;
            let found = Found { elf: Elf::read(&file)?, path: handle.path(), name };
            (self.targets)(&found)
        };
        targets().map_err(|error: plugin_api::Error| {
            let reason = format!("{}: {error:#}", name.display());
            self.refused.push(reason.clone());
            reason
        })
    }
}

fn is_gone(error: &plugin_api::Error) -> bool {
    let io = error.downcast_ref::<std::io::Error>();
    io.is_some_and(|io| io.kind() == ErrorKind::NotFound || io.raw_os_error() == Some(libc::ESRCH))
}

fn is_hidden(error: &plugin_api::Error) -> bool {
    let io = error.downcast_ref::<std::io::Error>();
    io.is_some_and(|io| io.kind() == ErrorKind::PermissionDenied)
}

fn all_processes() -> BTreeSet<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// Who runs or maps a file, of all processes.
fn users(search: &Search, inode: Inode) -> BTreeMap<Process, u64> {
    let mut users = BTreeMap::new();
    for process in all_processes().into_iter().filter_map(|pid| Process::of(pid).ok()) {
        if users.len() >= PROCESSES {
            break;
        }
        let program = Handle::open(&process.at("exe")).ok().filter(|_| search.wants_programs());
        let runs = program.filter(|handle| handle.inode == inode);
        if let Some(handle) = runs {
            users.insert(process, handle.inode.device);
        } else if !search.libraries.is_empty() {
            let mapped = process.mapped(|name| search.is_library(name)).unwrap_or_default();
            if mapped.iter().any(|file| file.number == inode.number) {
                users.insert(process, inode.device);
            }
        }
    }
    users
}

/// The paths that a pattern stands for.
fn matching(pattern: &str) -> Vec<PathBuf> {
    let mut paths = vec![PathBuf::from("/")];
    for part in pattern.split('/').filter(|part| !part.is_empty()) {
        let inside = |folder: &PathBuf| -> Vec<PathBuf> {
            let entries = fs::read_dir(folder).into_iter().flatten().flatten();
            entries.take(FILES).map(|entry| entry.path()).collect()
        };
        paths = match part {
            "*" => paths.iter().flat_map(inside).collect(),
            name => paths.into_iter().map(|path| path.join(name)).collect(),
        };
    }
    paths
}
