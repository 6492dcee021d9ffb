//! What /proc says of a process. It may end, or become another program, between any two looks.

use plugin_api::{Context as _, Result, ensure};
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// Mapped files of a process, in bytes of /proc/PID/maps: some 40,000 of them.
const MAPS: u64 = 4 * 1024 * 1024;
/// The same of its mounts.
const MOUNTS: u64 = 1024 * 1024;

/// Device and inode number, as stat(2) tells them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Inode {
    /// The device, by `libc::makedev`.
    pub device: u64,
    /// The inode's number.
    pub number: u64,
}

/// What tells one file from another that got its inode's number later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Print {
    number: u64,
    size: u64,
    changed: (i64, u32),
    modified: (i64, u32),
}

impl Print {
    /// Whether two files may be one below overlays, of which each has a device of its own and shows all else of the
    /// file below; the upper half of its number says which file system that lies on (`xino`).
    pub(super) fn is_below(&self, other: &Self) -> bool {
        let low = |print: &Self| Self { number: print.number & u64::from(u32::MAX), ..*print };
        low(self) == low(other)
    }
}

/// A file, by a descriptor that only names it (O_PATH): neither its device nor its server has been asked for
/// anything yet.
#[derive(Debug)]
pub(super) struct Handle {
    file: File,
    pub(super) inode: Inode,
    pub(super) print: Print,
    pub(super) mode: u32,
}

impl Handle {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let flags = libc::O_PATH | libc::O_CLOEXEC;
        Self::of(File::options().read(true).custom_flags(flags).open(path)?)
    }

    fn of(file: File) -> io::Result<Self> {
        let (inode, print, mode) = about(&file)?;
        Ok(Self { file, inode, print, mode })
    }

    /// The same now.
    pub(super) fn print_now(&self) -> io::Result<Print> {
        Ok(about(&self.file)?.1)
    }

    /// A path that leads to this very file, whatever became of its name.
    pub(super) fn path(&self) -> PathBuf {
        format!("/proc/self/fd/{}", self.file.as_raw_fd()).into()
    }

    /// To read it. The caller has made sure that it is a regular file.
    pub(super) fn read(&self) -> io::Result<File> {
        let flags = libc::O_NONBLOCK | libc::O_NOCTTY | libc::O_CLOEXEC;
        File::options().read(true).custom_flags(flags).open(self.path())
    }
}

/// Without asking the server of a file system in user space.
fn about(file: &File) -> io::Result<(Inode, Print, u32)> {
    let flags = libc::AT_EMPTY_PATH | libc::AT_STATX_DONT_SYNC;
    // SAFETY: zeros are a struct of numbers; the empty path is a C string, the struct ours.
    let told = unsafe {
        let mut told: libc::statx = std::mem::zeroed();
        let path = c"".as_ptr();
        if libc::statx(file.as_raw_fd(), path, flags, libc::STATX_BASIC_STATS, &mut told) != 0 {
            return Err(io::Error::last_os_error());
        }
        told
    };
    let device = libc::makedev(told.stx_dev_major, told.stx_dev_minor);
    let time = |time: libc::statx_timestamp| (time.tv_sec, time.tv_nsec);
    let print = Print {
        number: told.stx_ino,
        size: told.stx_size,
        changed: time(told.stx_ctime),
        modified: time(told.stx_mtime),
    };
    Ok((Inode { device, number: told.stx_ino }, print, told.stx_mode.into()))
}

/// A process by its id and, as ids are used again, its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Process {
    /// Its id.
    pub pid: u32,
    /// In ticks of the clock since boot, as /proc/PID/stat has it.
    pub start: u64,
}

impl Process {
    /// The process that has this id now.
    pub(super) fn of(pid: u32) -> io::Result<Self> {
        let stat = fs::read(format!("/proc/{pid}/stat"))?;
        let gone = || io::Error::from(io::ErrorKind::NotFound);
        start(&stat).map(|start| Self { pid, start }).ok_or_else(gone)
    }

    /// Whether it still runs; a zombie does not.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        Self::of(self.pid).is_ok_and(|now| now == *self)
    }

    /// Its arguments, each with a NUL at its end; at most as many bytes.
    ///
    /// # Errors
    /// It has ended.
    pub fn arguments(&self, most: u64) -> io::Result<Vec<u8>> {
        let mut text = Vec::new();
        File::open(self.at("cmdline"))?.take(most).read_to_end(&mut text)?;
        Ok(text)
    }

    /// What it has in memory of a file that it maps: the begin of the mapping, at most as many bytes. `None` when it
    /// maps no such file. The file itself, whose name may lead elsewhere by now, is not opened.
    ///
    /// # Errors
    /// It has ended, or may not be looked into (CAP_SYS_PTRACE).
    pub fn read_mapped(
        &self,
        is_wanted: impl Fn(&Path) -> bool,
        most: usize,
    ) -> Result<Option<Vec<u8>>> {
        let mut text = Vec::new();
        File::open(self.at("maps"))?.take(MAPS).read_to_end(&mut text)?;
        let is_wanted = |file: &Mapped| is_wanted(&file.path);
        let Some(file) = mapped(&text, "", |_| true).into_iter().find(is_wanted) else {
            return Ok(None);
        };
        ensure!(
            !self.mounts()?.serves(file.device, Path::new("/")),
            "a program serves its file system"
        );
        let range = file.range.split_once('-').and_then(|(from, to)| {
            Some((usize::from_str_radix(from, 16).ok()?, usize::from_str_radix(to, 16).ok()?))
        });
        let (from, to) = range.context("no range of memory")?;
        let mut bytes = vec![0u8; most.min(to.saturating_sub(from))];
        let here = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
        let there = libc::iovec { iov_base: from as *mut _, iov_len: bytes.len() };
        // SAFETY: the kernel writes into `bytes`, whose length it is told; of the other process it only reads.
        let read =
            unsafe { libc::process_vm_readv(self.pid.cast_signed(), &here, 1, &there, 1, 0) };
        bytes.truncate(usize::try_from(read).map_err(|_| io::Error::last_os_error())?);
        Ok(Some(bytes))
    }

    pub(super) fn at(&self, name: &str) -> PathBuf {
        format!("/proc/{}/{name}", self.pid).into()
    }

    /// The path of what it executes, as its own root has it.
    pub(super) fn program(&self) -> io::Result<PathBuf> {
        let path = fs::read_link(self.at("exe"))?.into_os_string().into_vec();
        let path = path.strip_suffix(b" (deleted)").map(<[u8]>::to_vec).unwrap_or(path);
        Ok(OsString::from_vec(path).into())
    }

    /// The files that it may execute code of, whose names a caller likes.
    pub(super) fn mapped(&self, is_wanted: impl Fn(&[u8]) -> bool) -> io::Result<Vec<Mapped>> {
        let mut text = Vec::new();
        File::open(self.at("maps"))?.take(MAPS).read_to_end(&mut text)?;
        Ok(mapped(&text, "x", is_wanted))
    }

    /// Its file systems of special kinds.
    pub(super) fn mounts(&self) -> Result<Mounts> {
        let mut text = Vec::new();
        let file = self.at("mountinfo");
        let mounts = File::open(&file).with_context(|| format!("{}", file.display()))?;
        mounts.take(MOUNTS).read_to_end(&mut text)?;
        Ok(Mounts::of(&text))
    }

    /// Whether it sees the same mounts as this process.
    pub(super) fn shares_mounts(&self) -> bool {
        let own = fs::read_link("/proc/self/ns/mnt");
        own.is_ok_and(|own| fs::read_link(self.at("ns/mnt")).is_ok_and(|its| its == own))
            && fs::read_link(self.at("root")).is_ok_and(|root| root == Path::new("/"))
    }
}

/// The 22nd field. The name before it may hold anything.
fn start(stat: &[u8]) -> Option<u64> {
    let after_name = stat.iter().rposition(|byte| *byte == b')')? + 1;
    let mut fields = stat[after_name..].split(|byte| *byte == b' ').skip(1);
    if matches!(fields.next()?, b"Z" | b"X") {
        return None;
    }
    std::str::from_utf8(fields.nth(18)?).ok()?.parse().ok()
}

/// A file that is mapped.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Mapped {
    /// As /proc/PID/map_files calls the mapping.
    pub(super) range: String,
    /// As the mapping has it, which need not be what stat(2) says.
    pub(super) device: u64,
    pub(super) number: u64,
    pub(super) path: PathBuf,
    pub(super) is_deleted: bool,
}

/// `7f0a..-7f0b.. r-xp 00001000 fe:01 1234   /usr/lib/libjvm.so`, each file once.
fn mapped(maps: &[u8], mode: &str, is_wanted: impl Fn(&[u8]) -> bool) -> Vec<Mapped> {
    let mut files: Vec<Mapped> = Vec::new();
    for line in maps.split(|byte| *byte == b'\n') {
        let mut rest = line;
        let mut field = || {
            let end = rest.iter().position(|byte| *byte == b' ').unwrap_or(rest.len());
            let (field, after) = rest.split_at(end);
            let next = after.iter().position(|byte| *byte != b' ').unwrap_or(after.len());
            rest = &after[next..];
            String::from_utf8_lossy(field).into_owned()
        };
        let [range, modes, _, device, number] = [(); 5].map(|()| field());
        let (path, is_deleted) = match rest.strip_suffix(b" (deleted)") {
            Some(path) => (path, true),
            None => (rest, false),
        };
        let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
        if !path.starts_with(b"/") || !modes.contains(mode) || !is_wanted(name) {
            continue;
        }
        let device = device.split_once(':').and_then(|(major, minor)| {
            let [major, minor] = [major, minor].map(|n| u32::from_str_radix(n, 16).ok());
            Some(libc::makedev(major?, minor?))
        });
        let (Some(device), Ok(number)) = (device, number.parse()) else { continue };
        if files.iter().all(|file| (file.device, file.number) != (device, number)) {
            let path = OsStr::from_bytes(&unescaped(path)).into();
            files.push(Mapped { range, device, number, path, is_deleted });
        }
    }
    files
}

/// /proc writes some bytes of a path as `\012`.
fn unescaped(path: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some((byte, after)) = rest.split_first() {
        let octal = after
            .get(..3)
            .filter(|_| *byte == b'\\')
            .and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        bytes.push(octal.unwrap_or(*byte));
        rest = if octal.is_some() { &after[3..] } else { after };
    }
    bytes
}

/// File systems of two kinds. Those whose server is a program (FUSE): one that does not answer would hold this
/// thread up for ever. And overlays, as containers have them.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Mounts {
    served: Vec<u64>,
    served_folders: Vec<Vec<u8>>,
    overlays: Vec<u64>,
}

impl Mounts {
    /// Those of this process.
    pub(super) fn own() -> Result<Self> {
        Process { pid: std::process::id(), start: 0 }.mounts()
    }

    /// `36 35 98:0 /in /mnt rw,noatime master:1 - fuse.sshfs host: rw`
    fn of(mountinfo: &[u8]) -> Self {
        let mut mounts = Self::default();
        for line in mountinfo.split(|byte| *byte == b'\n') {
            let fields: Vec<_> = line.split(|byte| *byte == b' ').collect();
            let end = fields.iter().position(|field| *field == b"-");
            let kind = end.and_then(|at| fields.get(at + 1)).copied().unwrap_or_default();
            let device = fields.get(2).and_then(|text| {
                let (major, minor) = std::str::from_utf8(text).ok()?.split_once(':')?;
                Some(libc::makedev(major.parse().ok()?, minor.parse().ok()?))
            });
            if kind.starts_with(b"fuse") {
                mounts.served.extend(device);
                mounts.served_folders.extend(fields.get(4).map(|folder| unescaped(folder)));
            } else if kind == b"overlay" {
                mounts.overlays.extend(device);
            }
        }
        mounts
    }

    /// Whether a program serves a file, or the way to it leads through what a program serves.
    pub(super) fn serves(&self, device: u64, path: &Path) -> bool {
        let leads = |folder: &Vec<u8>| path.starts_with(OsStr::from_bytes(folder));
        self.served.contains(&device) || self.served_folders.iter().any(leads)
    }

    pub(super) fn is_overlay(&self, device: u64) -> bool {
        self.overlays.contains(&device)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_is_the_22nd_field_whatever_the_name_holds() {
        let rest = "S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 777 20";
        for name in ["bash", "a b) S 1 (", ") Z 5", "", "\n"] {
            assert_eq!(start(format!("12 ({name}) {rest}").as_bytes()), Some(777), "{name:?}");
        }
        assert_eq!(start(b"12 (bash) Z 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 777 20"), None);
        assert_eq!(start(b"12 (bash) S 1"), None);
        assert_eq!(start(b""), None);
    }

    #[test]
    fn mapped_files_are_those_of_the_wanted_names_once() {
        let maps = b"55e0-55e1 r--p 00000000 fe:01 11                  /usr/bin/java\n\
            7f00-7f01 r--p 00000000 fe:01 12                         /l/libjvm.so\n\
            7f01-7f02 r-xp 00001000 fe:01 12                         /l/libjvm.so\n\
            7f02-7f03 r-xp 00002000 fe:01 12                         /l/libjvm.so\n\
            7f03-7f04 r-xp 00001000 00:2a 13                         /o l/d\\012/libjvm.so (deleted)\n\
            7f04-7f05 r-xp 00001000 fe:01 14                         /l/libjvm.so.old\n\
            7f05-7f06 r-xp 00000000 00:00 0                          [vdso]\n\
            7f06-7f07 r-xp 00000000 zz:zz 15                         /l/libjvm.so\n\
            7f07 r-xp\n\n";
        let found = mapped(maps, "x", |name| name == b"libjvm.so");
        let found: Vec<_> = found
            .iter()
            .map(|f| (f.range.as_str(), f.device, f.number, f.path.to_str().unwrap(), f.is_deleted))
            .collect();
        let disk = libc::makedev(0xfe, 1);
        let expected = [
            ("7f01-7f02", disk, 12, "/l/libjvm.so", false),
            ("7f03-7f04", libc::makedev(0, 0x2a), 13, "/o l/d\n/libjvm.so", true),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn what_a_program_serves_is_known_by_device_and_by_the_way_to_it() {
        let mounts = b"22 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw\n\
            36 22 0:45 / /mnt/a\\040b rw,nosuid - fuse.sshfs host: rw\n\
            37 22 0:46 / /c rw - fuseblk /dev/sdb rw\n\
            38 22 0:47 / /fuse rw - tmpfs fuse rw\n\
            39 22 0:48 / /o rw - overlay overlay rw,lowerdir=/l\n\
            broken\n";
        let served = Mounts::of(mounts);
        let ext4 = libc::makedev(254, 1);
        for (device, path, is_served) in [
            (libc::makedev(0, 45), "/bash", true),
            (ext4, "/mnt/a b/bin/bash", true),
            (ext4, "/mnt/a bc/bash", false),
            (ext4, "/c/bash", true),
            (ext4, "/fuse/bash", false),
            (libc::makedev(0, 47), "/fuse/bash", false),
        ] {
            assert_eq!(served.serves(device, Path::new(path)), is_served, "{path}");
        }
        assert!(served.is_overlay(libc::makedev(0, 48)) && !served.is_overlay(ext4));
    }

    #[test]
    fn this_process_is_known_by_its_start_and_another_start_is_another_process() {
        let own = Process::of(std::process::id()).unwrap();
        assert!(own.is_alive());
        assert!(!Process { start: own.start + 1, ..own }.is_alive());
        assert!(own.shares_mounts());
        let program = Handle::open(&own.at("exe")).unwrap();
        assert_eq!(program.inode.number, program.print_now().unwrap().number);
        assert!(program.read().unwrap().metadata().unwrap().is_file());
    }
}
