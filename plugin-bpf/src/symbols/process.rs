//! What a process has mapped, kept for a while after its end.

use super::file::{Folder, Seen};
use super::module::{ModuleId, Modules};
use super::perf_map::PerfMap;
use std::collections::HashMap;
use std::ffi::OsStr;
use std::io;
use std::ops::Range;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::Arc;

/// Of /proc/PID/maps; of one process, and of all.
const MAPS_BYTES: u64 = 8 << 20;
const MAPPINGS: usize = 4_096;
const ALL_MAPPINGS: usize = 20_000;
const PROCESSES: usize = 1_024;
/// Threads that are asked for the maps of a process whose first thread has ended.
const THREADS: usize = 16;
/// Batches of stacks after which a process that is in none of them is forgotten.
const KEPT: u64 = 3;

/// A part of an address space that can be executed.
#[derive(Clone, Debug)]
pub(super) struct Mapping {
    pub range: Range<u64>,
    /// Of its first byte in the file.
    pub offset: u64,
    pub what: What,
}

#[derive(Clone, Debug)]
pub(super) enum What {
    /// A file; its path as the process sees it.
    Module(ModuleId, Arc<Path>),
    /// A file that cannot be looked at; its name.
    File(Arc<str>),
    /// Memory: code of a compiler at run time.
    Anonymous,
    Vdso,
    /// What else the kernel maps, as `[uprobes]`.
    Special(Arc<str>),
}

/// A process as it was at a moment.
pub(super) struct Process {
    pub pid: u32,
    /// When it began, by CLOCK_BOOTTIME.
    pub began_ns: u64,
    /// Just before its maps were read, by CLOCK_MONOTONIC.
    pub taken_ns: u64,
    /// How long that took.
    pub cost_ns: u64,
    pub mappings: Vec<Mapping>,
    pub perf_map: PerfMap,
    /// The kernel shows its maps to this process, but not its root.
    pub is_closed: bool,
    used: u64,
}

/// Why there is no process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Missing {
    Gone,
    /// The kernel does not show its maps to this process.
    Denied,
}

impl From<io::Error> for Missing {
    fn from(error: io::Error) -> Self {
        let denied = matches!(error.raw_os_error(), Some(libc::EACCES | libc::EPERM));
        if denied { Self::Denied } else { Self::Gone }
    }
}

impl Process {
    pub(super) fn take(pid: u32, modules: &mut Modules) -> Result<Self, Missing> {
        let folder = Folder::open(&format!("/proc/{pid}"))?;
        let began_ns = began(&folder)?;
        let status = folder.read("status", 64 << 10)?;
        let taken_ns = clock(libc::CLOCK_MONOTONIC);
        let (base, maps) = maps(&folder)?;
        // Some kernels, 6.18 for one, show maps to whoever has CAP_PERFMON, and no more: then the file of that path
        // here may be the one.
        let root = folder.folder(&format!("{base}root"));
        let is_closed = root.is_err();
        let root = root.or_else(|_| Folder::open("/"));
        let mut files: HashMap<((u64, u64), u64), What> = HashMap::new();
        let mut mappings: Vec<Mapping> = Vec::new();
        for line in maps.split(|byte| *byte == b'\n').filter_map(Line::parse).take(MAPPINGS) {
            let mut what = || {
                let seen = match line.deleted() {
                    Some(_) => None,
                    None => root.as_ref().ok().and_then(|root| root.within(line.path())),
                };
                // Another file may have taken its place.
                let seen = seen.filter(|seen| match is_closed {
                    false => seen.identity.ino == line.ino || !seen.is_plain,
                    true => seen.identity.ino == line.ino && seen.identity.is_on(line.dev),
                });
                let (start, end) = (line.range.start, line.range.end);
                let seen =
                    seen.or_else(|| folder.linked(&format!("{base}map_files/{start:x}-{end:x}")));
                match seen.and_then(|seen| modules.identify(&seen, line.name())) {
                    Some(module) => What::Module(module, line.path().into()),
                    None => What::File(line.name().into()),
                }
            };
            let what = match line.text {
                [b'/', ..] if !line.is_memory() => {
                    files.entry((line.dev, line.ino)).or_insert_with(&mut what).clone()
                }
                b"[vdso]" => What::Vdso,
                b"[vsyscall]" | b"[uprobes]" | b"[vectors]" | b"[sigpage]" => {
                    What::Special(String::from_utf8_lossy(line.text).into())
                }
                _ => What::Anonymous,
            };
            // Compilers at run time map many pieces.
            if let (What::Anonymous, Some(last)) = (&what, mappings.last_mut())
                && matches!(last.what, What::Anonymous)
                && last.range.end == line.range.start
            {
                last.range.end = line.range.end;
                continue;
            }
            mappings.push(Mapping { range: line.range, offset: line.offset, what });
        }
        mappings.shrink_to_fit();
        let perf_map = PerfMap::new(own_id(&status).unwrap_or(pid), owner(&status).unwrap_or(0));
        let cost_ns = clock(libc::CLOCK_MONOTONIC).saturating_sub(taken_ns);
        Ok(Self { pid, began_ns, taken_ns, cost_ns, mappings, perf_map, is_closed, used: 0 })
    }

    /// Whether its maps may be read again: so that it takes no more than 1/200 of a CPU.
    pub(super) fn is_due(&self) -> bool {
        let age = clock(libc::CLOCK_MONOTONIC).saturating_sub(self.taken_ns);
        age >= self.cost_ns.saturating_mul(200)
    }

    /// What is mapped at an address.
    pub(super) fn mapping(&self, address: u64) -> Option<&Mapping> {
        let at = self.mappings.partition_point(|mapping| mapping.range.end <= address);
        self.mappings.get(at).filter(|mapping| mapping.range.contains(&address))
    }

    /// Its root, if it is still there, and then this process's own.
    pub(super) fn roots(&self) -> impl Iterator<Item = Folder> {
        let own = Folder::open(&format!("/proc/{}", self.pid)).ok();
        let own = own.filter(|own| began(own).is_ok_and(|began| began == self.began_ns));
        let roots = [own.and_then(|own| own.folder("root").ok()), Folder::open("/").ok()];
        roots.into_iter().flatten()
    }

    /// A file that it has mapped, with the content that it had then.
    pub(super) fn file(&self, mapping: &Mapping, is: impl Fn(&Seen) -> bool) -> Option<Seen> {
        let What::Module(_, path) = &mapping.what else { return None };
        let named = self.roots().find_map(|root| root.within(path).filter(&is));
        named.or_else(|| {
            let (start, end) = (mapping.range.start, mapping.range.end);
            let folder = Folder::open(&format!("/proc/{}/map_files", self.pid)).ok()?;
            folder.linked(&format!("{start:x}-{end:x}")).filter(is)
        })
    }
}

/// When the process of an id began, by CLOCK_BOOTTIME.
pub(super) fn began_of(pid: u32) -> Result<u64, Missing> {
    began(&Folder::open(&format!("/proc/{pid}"))?)
}

fn began(folder: &Folder) -> Result<u64, Missing> {
    let stat = folder.read("stat", 4 << 10)?;
    // SAFETY: takes a number.
    let ticks = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    let per_tick = 1_000_000_000 / u64::try_from(ticks).unwrap_or(100).max(1);
    begin_of_stat(&stat).map(|ticks| ticks.saturating_mul(per_tick)).ok_or(Missing::Gone)
}

/// The 22nd field; the second is a name in parentheses, which may hold anything.
fn begin_of_stat(stat: &[u8]) -> Option<u64> {
    let end = stat.iter().rposition(|byte| *byte == b')')?;
    let fields = std::str::from_utf8(&stat[end + 1..]).ok()?;
    fields.split_ascii_whitespace().nth(19)?.parse().ok()
}

pub(super) fn clock(clock: libc::clockid_t) -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the time is written to ours.
    unsafe { libc::clock_gettime(clock, &mut time) };
    (time.tv_sec as u64).saturating_mul(1_000_000_000).saturating_add(time.tv_nsec as u64)
}

/// The maps, and below which folder: those of a first thread that has ended are empty.
fn maps(folder: &Folder) -> io::Result<(String, Vec<u8>)> {
    let maps = folder.read("maps", MAPS_BYTES)?;
    if !maps.is_empty() {
        return Ok((String::new(), maps));
    }
    let tasks = folder.children("task", THREADS);
    let others = tasks.into_iter().find_map(|tid| {
        let base = format!("task/{tid}/");
        let maps = folder.read(&format!("{base}maps"), MAPS_BYTES).ok()?;
        (!maps.is_empty()).then_some((base, maps))
    });
    Ok(others.unwrap_or_default())
}

fn status<'a>(status: &'a [u8], key: &[u8]) -> Option<&'a str> {
    let lines = status.split(|byte| *byte == b'\n');
    lines.filter_map(|line| line.strip_prefix(key)).find_map(|line| std::str::from_utf8(line).ok())
}

/// Its id in its own namespace, which its compiler at run time knows.
fn own_id(text: &[u8]) -> Option<u32> {
    status(text, b"NSpid:")?.split_ascii_whitespace().next_back()?.parse().ok()
}

/// Its effective user.
fn owner(text: &[u8]) -> Option<u32> {
    status(text, b"Uid:")?.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// An executable line of /proc/PID/maps.
struct Line<'a> {
    range: Range<u64>,
    offset: u64,
    dev: (u64, u64),
    ino: u64,
    text: &'a [u8],
}

impl<'a> Line<'a> {
    fn parse(line: &'a [u8]) -> Option<Self> {
        let mut rest = line;
        let mut field = || {
            let end = rest.iter().position(|byte| *byte == b' ').unwrap_or(rest.len());
            let (field, behind) = rest.split_at(end);
            rest = behind.get(1..).unwrap_or_default();
            std::str::from_utf8(field).ok()
        };
        let (start, end) = field()?.split_once('-')?;
        let is_executable = field()?.as_bytes().get(2) == Some(&b'x');
        let (offset, (major, minor)) = (field()?, field()?.split_once(':')?);
        let ino = field()?.parse().ok()?;
        let hex = |text| u64::from_str_radix(text, 16).ok();
        is_executable.then_some(Self {
            range: hex(start)?..hex(end)?,
            offset: hex(offset)?,
            dev: (hex(major)?, hex(minor)?),
            ino,
            text: rest.trim_ascii_start(),
        })
    }

    /// The path of a file that has been removed.
    fn deleted(&self) -> Option<&'a [u8]> {
        self.text.strip_suffix(b" (deleted)")
    }

    /// Memory that has a name only, where compilers at run time put code.
    fn is_memory(&self) -> bool {
        ["/memfd:", "/dev/zero", "/anon_hugepage", "/SYSV"]
            .iter()
            .any(|prefix| self.text.starts_with(prefix.as_bytes()))
            && self.deleted().is_some()
    }

    fn path(&self) -> &'a Path {
        Path::new(OsStr::from_bytes(self.deleted().unwrap_or(self.text)))
    }

    /// The last part of the path.
    fn name(&self) -> String {
        let name = self.path().file_name().unwrap_or_default();
        super::name::clean(name.as_bytes())
    }
}

/// The processes of the last batches.
#[derive(Default)]
pub(super) struct Processes {
    known: HashMap<u32, Process>,
    batch: u64,
}

impl Processes {
    pub(super) fn get(&self, pid: u32) -> Option<&Process> {
        self.known.get(&pid)
    }

    pub(super) fn get_mut(&mut self, pid: u32) -> Option<&mut Process> {
        self.known.get_mut(&pid)
    }

    /// Marks one as in use.
    pub(super) fn touch(&mut self, pid: u32) {
        if let Some(process) = self.known.get_mut(&pid) {
            process.used = self.batch;
        }
    }

    pub(super) fn insert(&mut self, mut process: Process) {
        process.used = self.batch;
        self.known.insert(process.pid, process);
        let mappings = |known: &HashMap<u32, Process>| -> usize {
            known.values().map(|process| process.mappings.len()).sum()
        };
        while self.known.len() > PROCESSES || mappings(&self.known) > ALL_MAPPINGS {
            let oldest = self.known.values().min_by_key(|process| (process.used, process.taken_ns));
            let Some(oldest) = oldest.map(|process| process.pid) else { break };
            self.known.remove(&oldest);
        }
    }

    /// Begins a batch; forgets those that were in none of the last.
    pub(super) fn begin(&mut self) {
        self.batch += 1;
        self.known.retain(|_, process| process.used + KEPT >= self.batch);
        self.known.shrink_to(64);
    }
}
