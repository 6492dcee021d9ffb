//! What a tool has loaded, by hand: a program run with events of a test's own making, a map without room.

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::RawFd;

const BPF_MAP_UPDATE_ELEM: libc::c_long = 2;
const BPF_MAP_GET_NEXT_KEY: libc::c_long = 4;
const BPF_PROG_TEST_RUN: libc::c_long = 10;
const BPF_OBJ_GET_INFO_BY_FD: libc::c_long = 15;

/// The start of `union bpf_attr` for BPF_PROG_TEST_RUN.
#[derive(Default)]
#[repr(C)]
pub(crate) struct TestRun {
    pub(crate) fd: u32,
    pub(crate) retval: u32,
    pub(crate) data_size: [u32; 2],
    pub(crate) data: [u64; 2],
    pub(crate) repeat: u32,
    pub(crate) duration: u32,
    pub(crate) ctx_size: [u32; 2],
    pub(crate) ctx: [u64; 2],
    pub(crate) flags: u32,
    pub(crate) cpu: u32,
}

/// The same for BPF_OBJ_GET_INFO_BY_FD.
#[repr(C)]
struct GetInfo {
    fd: u32,
    len: u32,
    info: u64,
}

/// The same for BPF_MAP_UPDATE_ELEM, and for BPF_MAP_GET_NEXT_KEY, whose next key is in the place of the value.
#[repr(C)]
struct Update {
    fd: u64,
    key: u64,
    value: u64,
    flags: u64,
}

/// Where `struct bpf_prog_info` and `struct bpf_map_info` have the id.
const ID: usize = 4;
/// Where each of them has the name.
const PROGRAM_NAME: usize = 64;
const MAP_NAME: usize = 24;
/// Where `struct bpf_map_info` has the sizes of keys and values, and the number of entries.
const MAP_SIZES: usize = 8;

/// A raw_tp program of this process.
#[derive(Clone, Copy, Debug)]
pub struct RawProgram(RawFd);

impl RawProgram {
    /// The one that was loaded last under this name, of which the kernel keeps 15 characters. Do not use it when
    /// its tool has ended.
    ///
    /// # Panics
    /// There is none.
    #[must_use]
    pub fn of(name: &str) -> Self {
        Self(newest("bpf-prog", PROGRAM_NAME, name).0)
    }

    /// Runs it with these arguments, on the CPU that the thread runs on.
    ///
    /// # Panics
    /// The kernel does not run it.
    pub fn run(self, arguments: &[u64]) {
        let mut run = TestRun {
            fd: self.0 as u32,
            ctx_size: [size_of_val(arguments) as u32, 0],
            ctx: [arguments.as_ptr() as u64, 0],
            ..TestRun::default()
        };
        let done = bpf(BPF_PROG_TEST_RUN, &mut run);
        assert!(done >= 0, "running a program: {}", std::io::Error::last_os_error());
    }
}

/// Kernel memory of all BPF maps that this process holds, in bytes: what they take since Linux 6.4, before what
/// they may take.
#[must_use]
pub fn map_bytes() -> u64 {
    held(std::process::id(), "map_id:").into_values().sum()
}

/// What a process holds, by its id, with its kernel memory in bytes: maps (`map_id:`) or programs (`prog_id:`).
/// One of several descriptors is one.
#[must_use]
pub fn held(process: u32, key: &str) -> BTreeMap<u64, u64> {
    let folder = fs::read_dir(format!("/proc/{process}/fdinfo")).into_iter().flatten().flatten();
    let objects = folder.filter_map(|entry| {
        let text = fs::read_to_string(entry.path()).ok()?;
        let number = |key: &str| -> Option<u64> {
            text.lines().find_map(|line| line.strip_prefix(key)?.trim().parse().ok())
        };
        Some((number(key)?, number("memlock:")?))
    });
    objects.collect()
}

/// Fills a hash map of this process, the one that was made last under this name, with keys of 32 bits that are no
/// id of a thread or a CPU. Do not use it when its tool has ended.
///
/// # Panics
/// There is none, or it has other keys.
pub fn fill(map: &str) {
    let (fd, info) = newest("bpf-map", MAP_NAME, map);
    let number = |at: usize| u32::from_ne_bytes(std::array::from_fn(|i| info[MAP_SIZES + at + i]));
    let (key_size, value_size, entries) = (number(0), number(4), number(8));
    assert_eq!(key_size, 4, "the keys of {map}");
    let value = vec![0_u8; value_size.next_multiple_of(8) as usize];
    let is_added = |key: u32| {
        let (key, value) = (&raw const key as u64, value.as_ptr() as u64);
        bpf(BPF_MAP_UPDATE_ELEM, &mut Update { fd: fd as u64, key, value, flags: 0 }) >= 0
    };
    assert!((0..=entries).any(|i| !is_added(u32::MAX - i)), "{map} has no bound");
}

/// How many keys a map of this process has, the one that was made last under this name. Do not use it when its tool
/// has ended.
///
/// # Panics
/// There is none.
#[must_use]
pub fn keys(map: &str) -> usize {
    let (fd, info) = newest("bpf-map", MAP_NAME, map);
    let size = u32::from_ne_bytes(std::array::from_fn(|i| info[MAP_SIZES + i])) as usize;
    let (mut key, mut next) = (None::<Vec<u8>>, vec![0_u8; size]);
    for n in 0.. {
        let before = key.as_ref().map_or(0, |key| key.as_ptr() as u64);
        let after = next.as_mut_ptr() as u64;
        let mut walk = Update { fd: fd as u64, key: before, value: after, flags: 0 };
        if bpf(BPF_MAP_GET_NEXT_KEY, &mut walk) < 0 {
            return n;
        }
        key = Some(next.clone());
    }
    unreachable!("a map has an end")
}

/// Descriptor and `info` of the object of this process that was made last under a name, of which the kernel keeps
/// 15 characters.
fn newest(kind: &str, name_at: usize, name: &str) -> (RawFd, [u8; 128]) {
    let kept = &name.as_bytes()[..name.len().min(15)];
    let folder = fs::read_dir("/proc/self/fd").expect("/proc").flatten();
    let objects = folder.filter_map(|entry| {
        let target = fs::read_link(entry.path()).ok()?;
        let fd: RawFd = entry.file_name().to_str()?.parse().ok()?;
        let info = target.to_str()?.ends_with(kind).then(|| info(fd))??;
        let known = info[name_at..name_at + 16].split(|b| *b == 0).next()?;
        let id = u32::from_ne_bytes(info[ID..ID + 4].try_into().ok()?);
        (known == kept).then_some((id, fd, info))
    });
    let (_, fd, info) = objects.max().unwrap_or_else(|| panic!("no {kind} {name} is loaded"));
    (fd, info)
}

/// What the kernel knows of an object.
fn info(fd: RawFd) -> Option<[u8; 128]> {
    let mut info = [0u8; 128];
    let mut get = GetInfo { fd: fd as u32, len: 128, info: info.as_mut_ptr() as u64 };
    (bpf(BPF_OBJ_GET_INFO_BY_FD, &mut get) >= 0).then_some(info)
}

/// The system call: a descriptor or 0, or less when it failed.
pub(crate) fn bpf<A>(command: libc::c_long, attributes: &mut A) -> libc::c_long {
    let attributes = std::ptr::from_mut(attributes);
    // SAFETY: the kernel reads and writes the attributes within the size that it is told, and the memory that
    // they point to within the sizes in them; all of it outlives the call.
    unsafe { libc::syscall(libc::SYS_bpf, command, attributes, size_of::<A>()) }
}
