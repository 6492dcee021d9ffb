//! The process that is looked at: which object is its allocator, and where the functions are.

use plugin_api::{Context as _, Result, bail, ensure};
use plugin_bpf::Target;
use plugin_bpf::elf::Elf;
use std::fs::{self, File};
use std::ops::Range;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

/// Functions with their hooks. Who frees is attached first: what is allocated from then on is seen to be freed.
const ALLOCATOR: [(&str, &str); 13] = [
    ("free", "free"),
    ("dallocx", "free"),
    ("sdallocx", "free"),
    ("realloc", "realloc"),
    ("rallocx", "realloc"),
    ("posix_memalign", "posix"),
    ("memalign", "memalign"),
    ("aligned_alloc", "memalign"),
    ("calloc", "calloc"),
    ("malloc", "malloc"),
    ("mallocx", "malloc"),
    ("valloc", "malloc"),
    ("pvalloc", "malloc"),
];
/// Of the C library, whatever the allocator is.
const MAPPINGS: [(&str, &str); 4] =
    [("munmap", "munmap"), ("mremap", "mremap"), ("mmap", "mmap"), ("mmap64", "mmap")];

/// A running process.
pub(crate) struct Process {
    pub(crate) pid: u32,
    /// The name of its first thread.
    pub(crate) name: String,
    descriptor: OwnedFd,
    allocator: Object,
    /// The C library, where mappings are looked at.
    libc: Option<Object>,
    /// Hooks with the places where their programs attach.
    pub(crate) functions: Vec<(&'static str, Vec<Target>)>,
}

/// A file that the process executes from.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Object {
    /// As the process sees it.
    path: PathBuf,
    /// Two file systems may have the same inode.
    device: String,
    inode: u64,
    /// From the first executable page to the last.
    text: Range<u64>,
}

/// An object that may be the allocator.
struct Candidate {
    /// Lower is better.
    rank: u32,
    object: Object,
    /// Hooks with the places of their functions in the file.
    functions: Vec<(&'static str, u64)>,
}

impl Process {
    /// Looks at a process: its allocator is the one object that defines `malloc` and `free`, with `prefix` in front
    /// of the names, and is the program itself, a library of its own or the C library, in this order; or it is
    /// `library`, a file's name or the beginning of it.
    pub(crate) fn find(pid: u32, prefix: &str, library: &str, mappings: bool) -> Result<Self> {
        let descriptor = open(pid)?;
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        let name = name.trim_end_matches('\n').to_owned();
        let of_it = || format!("process {pid} ({name})");
        let allocator = allocator(pid, prefix, library).with_context(of_it)?;
        let mut places = allocator.object.places(pid, &allocator.functions)?;
        let mut libc = None;
        // A program with an allocator in it maps in its own name and in the allocator's, which look the same.
        if mappings && allocator.rank > 0 {
            libc = objects(pid)?.into_iter().find(Object::is_libc);
        }
        if let Some(object) = &libc {
            let offsets = object.functions(pid, MAPPINGS.map(|(name, _)| name))?;
            places.extend(object.places(pid, &at(&MAPPINGS, &offsets))?);
        }
        let mut functions: Vec<(&'static str, Vec<Target>)> = Vec::new();
        for (hook, target) in places {
            match functions.iter_mut().find(|(known, _)| *known == hook) {
                Some((_, targets)) => targets.push(target),
                None => functions.push((hook, vec![target])),
            }
        }
        Ok(Self { pid, name, descriptor, allocator: allocator.object, libc, functions })
    }

    /// Whether all its threads have ended.
    pub(crate) fn has_ended(&self) -> bool {
        let fd = self.descriptor.as_raw_fd();
        let mut poll = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
        // SAFETY: one struct of ours, which the kernel reads and writes.
        unsafe { libc::poll(&raw mut poll, 1, 0) > 0 }
    }

    /// An address at which it runs.
    pub(crate) fn address(&self) -> u64 {
        self.allocator.text.start
    }

    /// Where things lie in its memory now.
    pub(crate) fn layout(&self) -> Layout {
        let maps = maps(self.pid).unwrap_or_default();
        let objects = parse(&maps);
        let text = |of: Option<&Object>| {
            let found = of.and_then(|of| objects.iter().find(|it| it.is(of)));
            found.map_or(0..0, |it| it.text.clone())
        };
        let trampoline = maps.lines().find(|line| line.ends_with("[uprobes]"));
        let trampoline = trampoline.and_then(|line| line.split('-').next());
        Layout {
            allocator: text(self.libc.as_ref().map(|_| &self.allocator)),
            libc: text(self.libc.as_ref()),
            trampoline: trampoline.and_then(|hex| u64::from_str_radix(hex, 16).ok()).unwrap_or(0),
        }
    }
}

/// Addresses in a process.
pub(crate) struct Layout {
    /// Text of its allocator and of its C library; empty where mappings are not looked at.
    pub(crate) allocator: Range<u64>,
    pub(crate) libc: Range<u64>,
    /// Where probed functions return to; 0 before the first of them did.
    pub(crate) trampoline: u64,
}

impl Object {
    fn is(&self, other: &Self) -> bool {
        (&self.device, self.inode) == (&other.device, other.inode)
    }

    /// By the names of the GNU library and of musl.
    fn is_libc(&self) -> bool {
        let file = self.file_name();
        ["libc.", "libc-", "ld-musl"].iter().any(|name| file.starts_with(name))
    }

    fn file_name(&self) -> String {
        self.path.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// A path by which we get at the very file, also in a container and after it was replaced.
    fn reachable(&self, pid: u32) -> Result<PathBuf> {
        let inside = self.path.strip_prefix("/").unwrap_or(&self.path);
        let path = Path::new(&format!("/proc/{pid}/root")).join(inside);
        if fs::metadata(&path).is_ok_and(|file| file.ino() == self.inode) {
            return Ok(path);
        }
        let folder = format!("/proc/{pid}/map_files");
        let entries = fs::read_dir(&folder).with_context(|| folder.clone())?.flatten();
        let mut paths = entries.map(|entry| entry.path());
        let is_it = |path: &PathBuf| fs::metadata(path).is_ok_and(|file| file.ino() == self.inode);
        paths.find(is_it).with_context(|| {
            format!("{} was replaced, and {folder} does not show the old one", self.path.display())
        })
    }

    fn functions<const N: usize>(&self, pid: u32, names: [&str; N]) -> Result<[Option<u64>; N]> {
        let path = self.reachable(pid)?;
        let file = File::open(&path).with_context(|| path.display().to_string())?;
        Elf::read(&file)?.functions(names)
    }

    /// Where the hooks' programs attach: each place once, for one function may have several names.
    fn places(
        &self,
        pid: u32,
        functions: &[(&'static str, u64)],
    ) -> Result<Vec<(&'static str, Target)>> {
        let path = self.reachable(pid)?;
        let mut places: Vec<(&'static str, u64)> = Vec::new();
        for (hook, offset) in functions {
            if places.iter().all(|(_, known)| known != offset) {
                places.push((hook, *offset));
            }
        }
        let process = i32::try_from(pid).unwrap_or_default();
        let target = |offset| Target::uprobe_at(&path, offset).of_pid(process);
        Ok(places.into_iter().map(|(hook, offset)| (hook, target(offset))).collect())
    }
}

/// A descriptor of a process, by which nobody else is meant when its id is given to another one.
fn open(pid: u32) -> Result<OwnedFd> {
    // SAFETY: takes two numbers.
    let descriptor = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    if descriptor < 0 {
        let error = std::io::Error::last_os_error();
        bail!("pid = {pid}: no such process, or a thread that is not its first ({error})");
    }
    // SAFETY: the descriptor is new and ours alone.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor as i32) })
}

/// The one object that is best.
fn allocator(pid: u32, prefix: &str, library: &str) -> Result<Candidate> {
    let exe = format!("/proc/{pid}/exe");
    let program = File::open(&exe)?;
    ensure!(word_size(&program) == 8, "a 32-bit program");
    ensure!(
        !Elf::read(&program)?.is_go(),
        "a program in Go, which a probe of a function's return would crash"
    );
    let exe = fs::read_link(&exe)?;
    let names = ALLOCATOR.map(|(name, _)| format!("{prefix}{name}"));
    let mut found: Vec<Candidate> = Vec::new();
    for object in objects(pid)? {
        let file = object.file_name();
        if file.starts_with("ld-linux") || !file.starts_with(library) {
            continue;
        }
        let names = names.each_ref().map(String::as_str);
        let Ok(offsets) = object.functions(pid, names) else { continue };
        let functions = at(&ALLOCATOR, &offsets);
        let has = |hook| functions.iter().any(|(known, _)| *known == hook);
        if has("malloc") && has("free") {
            let rank = if is_program(&object, &exe) { 0 } else { 1 + u32::from(object.is_libc()) };
            found.push(Candidate { rank, object, functions });
        }
    }
    let best = found.iter().map(|candidate| candidate.rank).min();
    found.retain(|candidate| Some(candidate.rank) == best);
    let paths: Vec<_> = found.iter().map(|it| it.object.path.display().to_string()).collect();
    let Some(one) = found.pop() else {
        let which = if library.is_empty() {
            String::new()
        } else {
            format!(" and begins with `{library}`")
        };
        bail!(
            "no object that it executes defines {prefix}malloc and {prefix}free{which}; `nm -D FILE` lists \
             functions: set `prefix`, such as je_, or `library`"
        );
    };
    let paths = paths.join(", ");
    ensure!(found.is_empty(), "several libraries define malloc: {paths}: name one by `library`");
    Ok(one)
}

/// Whether it is the program itself, by what `/proc/PID/exe` links to.
fn is_program(object: &Object, exe: &Path) -> bool {
    let exe = exe.to_string_lossy();
    object.path.as_path() == Path::new(exe.strip_suffix(" (deleted)").unwrap_or(&exe))
}

/// Those of the functions that are there, by their hooks.
fn at(functions: &[(&str, &'static str)], offsets: &[Option<u64>]) -> Vec<(&'static str, u64)> {
    let all = functions.iter().zip(offsets);
    all.filter_map(|((_, hook), offset)| Some((*hook, (*offset)?))).collect()
}

/// Bytes of a pointer in an ELF file.
fn word_size(file: &File) -> u8 {
    let mut head = [0; 5];
    let read = file.read_at(&mut head, 0).unwrap_or(0);
    if read == head.len() && head[4] == 1 { 4 } else { 8 }
}

/// The files that a process executes from, in the order of their addresses.
fn objects(pid: u32) -> Result<Vec<Object>> {
    Ok(parse(&maps(pid)?))
}

fn maps(pid: u32) -> Result<String> {
    let path = format!("/proc/{pid}/maps");
    let maps = fs::read(&path).with_context(|| format!("{path}: CAP_SYS_PTRACE may be missing"))?;
    Ok(String::from_utf8_lossy(&maps).into_owned())
}

/// `from-to r-xp offset device inode   path`
fn parse(maps: &str) -> Vec<Object> {
    let mut objects: Vec<Object> = Vec::new();
    for line in maps.lines() {
        let mut words = line.splitn(6, ' ');
        let mut word = || words.next().unwrap_or_default();
        let (range, rights, _offset, device, inode, path) =
            (word(), word(), word(), word(), word(), word().trim_start());
        let hex = |text| u64::from_str_radix(text, 16).ok();
        let range = range.split_once('-').and_then(|(from, to)| Some(hex(from)?..hex(to)?));
        let (Some(text), Ok(inode @ 1..)) = (range, inode.parse()) else { continue };
        if rights.as_bytes().get(2) != Some(&b'x') || !path.starts_with('/') {
            continue;
        }
        let known = |object: &&mut Object| object.inode == inode && object.device == device;
        match objects.iter_mut().find(known) {
            Some(object) => object.text.end = text.end,
            None => {
                let path = path.strip_suffix(" (deleted)").unwrap_or(path).replace("\\012", "\n");
                let (path, device) = (path.into(), device.to_owned());
                objects.push(Object { path, device, inode, text });
            }
        }
    }
    objects
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_executes_from_the_files_that_it_maps_so() {
        let maps = "\
            5581a000-5581b000 r--p 00000000 fe:00 11                         /usr/bin/a program\n\
            5581b000-5581c000 r-xp 00001000 fe:00 11                         /usr/bin/a program\n\
            7f00-7f10 rw-p 00000000 00:00 0 \n\
            7f10-7f20 r-xp 00000000 fe:00 12                         /lib/libc.so.6 (deleted)\n\
            7f20-7f30 ---p 00000000 fe:00 12                         /lib/libc.so.6 (deleted)\n\
            7f30-7f40 r-xp 00000000 fe:00 12                         /lib/libc.so.6 (deleted)\n\
            7f50-7f60 r-xp 00000000 00:1f 12                         /tmp/new\\012line\n\
            7fff-8000 r-xp 00000000 00:00 0                          [vdso]\n\
            nonsense\n";
        let object = |path: &str, device: &str, inode, text| {
            let (path, device) = (path.into(), device.to_owned());
            Object { path, device, inode, text }
        };
        let expected = [
            object("/usr/bin/a program", "fe:00", 11, 0x5581b000..0x5581c000),
            object("/lib/libc.so.6", "fe:00", 12, 0x7f10..0x7f40),
            object("/tmp/new\nline", "00:1f", 12, 0x7f50..0x7f60),
        ];
        assert_eq!(parse(maps), expected);
    }
}
