//! Files and folders of /proc, and files as a process sees them, opened without trust in what they are.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// statfs: whose files show other numbers in /proc/PID/maps than in stat, before Linux 6.8.
const OVERLAYFS_SUPER_MAGIC: u64 = 0x794c_7630;

/// What tells a file, and each of its contents, from all others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Identity {
    dev: u64,
    pub ino: u64,
    pub size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Identity {
    /// Of no file.
    pub(super) const NONE: Self =
        Self { dev: 0, ino: 0, size: 0, modified: (0, 0), changed: (0, 0) };

    /// Whether it lies on the device with these numbers.
    pub(super) fn is_on(&self, (major, minor): (u64, u64)) -> bool {
        (u64::from(libc::major(self.dev)), u64::from(libc::minor(self.dev))) == (major, minor)
    }
}

/// A regular file that is not opened yet: looking at it does nothing to it, not even to a device.
pub(super) struct Seen {
    path: File,
    pub identity: Identity,
    pub uid: u32,
    /// Its inode number is the one that a process's maps show.
    pub is_plain: bool,
}

impl Seen {
    fn of(path: OwnedFd) -> Option<Self> {
        let path = File::from(path);
        let meta = path.metadata().ok().filter(std::fs::Metadata::is_file)?;
        // SAFETY: zeros are a statfs, which the kernel fills.
        let is_plain = unsafe {
            let mut fs: libc::statfs = std::mem::zeroed();
            libc::fstatfs(path.as_raw_fd(), &mut fs) == 0
                && fs.f_type as u64 & 0xffff_ffff != OVERLAYFS_SUPER_MAGIC
        };
        let identity = Identity {
            dev: meta.dev(),
            ino: meta.ino(),
            size: meta.size(),
            modified: (meta.mtime(), meta.mtime_nsec()),
            changed: (meta.ctime(), meta.ctime_nsec()),
        };
        Some(Self { path, identity, uid: meta.uid(), is_plain })
    }

    /// Opens it for reading.
    pub(super) fn open(&self) -> Option<File> {
        let path = CString::new(format!("/proc/self/fd/{}", self.path.as_raw_fd())).ok()?;
        let flags = libc::O_RDONLY | libc::O_NONBLOCK | libc::O_NOCTTY;
        openat(None, &path, flags).ok().map(File::from)
    }

    /// Whether its content is still that of the identity.
    pub(super) fn is_unchanged(&self) -> bool {
        let again = self.path.try_clone().ok().and_then(|path| Self::of(path.into()));
        again.is_some_and(|again| again.identity == self.identity)
    }
}

/// A folder.
pub(super) struct Folder(OwnedFd);

impl Folder {
    pub(super) fn open(path: &str) -> io::Result<Self> {
        let flags = libc::O_PATH | libc::O_DIRECTORY;
        openat(None, &CString::new(path)?, flags).map(Self)
    }

    /// A folder below it; links are followed, as that of /proc/PID/root.
    pub(super) fn folder(&self, path: &str) -> io::Result<Self> {
        let flags = libc::O_PATH | libc::O_DIRECTORY;
        openat(Some(self.0.as_fd()), &CString::new(path)?, flags).map(Self)
    }

    /// What a file of /proc below it says, up to a number of bytes.
    pub(super) fn read(&self, path: &str, most: u64) -> io::Result<Vec<u8>> {
        let file = openat(Some(self.0.as_fd()), &CString::new(path)?, libc::O_RDONLY)?;
        let mut bytes = Vec::new();
        File::from(file).take(most).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// Names in a folder of /proc below it, up to a number.
    pub(super) fn children(&self, path: &str, most: usize) -> Vec<String> {
        let path = format!("/proc/self/fd/{}/{path}", self.0.as_raw_fd());
        let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.file_name().into_string().ok()).take(most).collect()
    }

    /// A file that a link of /proc leads to.
    pub(super) fn linked(&self, path: &str) -> Option<Seen> {
        Seen::of(openat(Some(self.0.as_fd()), &CString::new(path).ok()?, libc::O_PATH).ok()?)
    }

    /// A file by its path from here as the root: no link leads out of it.
    pub(super) fn within(&self, path: &Path) -> Option<Seen> {
        let path = CString::new(path.as_os_str().as_bytes()).ok()?;
        // SAFETY: zeros are an open_how without flags.
        let mut how: libc::open_how = unsafe { std::mem::zeroed() };
        how.flags = (libc::O_PATH | libc::O_CLOEXEC) as u64;
        how.resolve = libc::RESOLVE_IN_ROOT | libc::RESOLVE_NO_MAGICLINKS;
        // SAFETY: the kernel reads a C string, and the struct as far as it is told (Linux 5.6).
        let fd = unsafe {
            let (root, how) = (self.0.as_raw_fd(), &raw const how);
            libc::syscall(libc::SYS_openat2, root, path.as_ptr(), how, size_of::<libc::open_how>())
        };
        let fd = i32::try_from(fd).ok().filter(|fd| *fd >= 0)?;
        // SAFETY: the descriptor is new and ours alone.
        Seen::of(unsafe { OwnedFd::from_raw_fd(fd) })
    }
}

fn openat(folder: Option<BorrowedFd<'_>>, path: &CStr, flags: i32) -> io::Result<OwnedFd> {
    let folder = folder.map_or(libc::AT_FDCWD, |folder| folder.as_raw_fd());
    // SAFETY: the kernel reads a C string.
    let fd = unsafe { libc::openat(folder, path.as_ptr(), flags | libc::O_CLOEXEC) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is new and ours alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
