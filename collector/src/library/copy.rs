//! A private copy of a plugin's file. It is read once; what is checked and what is loaded is the copy. So a file that is
//! cut short, overwritten or replaced meanwhile costs nothing: pages of a mapped file would change under the plugin, or
//! be gone (SIGBUS).
//!
//! The copy is a file without a name on disk, or a sealed memfd where there is none. Sixteen release builds of tools,
//! 25.9 MB, loaded from the one and from the other: resident 6.8 and 5.5 MB of mapped pages, 5 and 7 ms per file. But a
//! memfd keeps all of its file in memory (25.9 MB that can only be swapped out), while of a file on disk the kernel takes
//! back what is not used. As a library is never closed, this counts for each replaced one too.

use libc::{MAP_FAILED, MAP_PRIVATE, PROT_READ, c_void, mmap, munmap};
use rustix::fs::{
    CWD, MemfdFlags, Mode, OFlags, SealFlags, StatVfsMountFlags, fcntl_add_seals, fstatvfs,
    memfd_create, openat,
};
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::ops::Deref;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::ptr::null_mut;
use std::slice;

/// Where files without a name are made. Unlike /tmp and /run it is on disk.
const DIR: &str = "/var/tmp";

/// No plugin is larger; what is, is something else.
const MOST: u64 = 512 << 20;

/// Copies a file from its beginning on. Nobody can write to the copy.
pub fn private(file: &mut File) -> io::Result<File> {
    let state = |file: &File| file.metadata().map(|it| (it.len(), it.mtime(), it.mtime_nsec()));
    let before = state(file)?;
    let copy = on_disk(file).or_else(|why| {
        log::debug!("no private copy in {DIR}: {why}; in memory instead");
        in_memory(file)
    })?;
    if state(file)? != before {
        return Err(io::Error::other("somebody writes to it at this moment"));
    }
    Ok(copy)
}

fn on_disk(file: &mut File) -> io::Result<File> {
    let flags = OFlags::TMPFILE | OFlags::EXCL | OFlags::RDWR | OFlags::CLOEXEC;
    let copy = File::from(openat(CWD, DIR, flags, Mode::RUSR | Mode::WUSR)?);
    if fstatvfs(&copy)?.f_flag.contains(StatVfsMountFlags::NOEXEC) {
        return Err(io::Error::other("it is mounted with noexec"));
    }
    fill(file, &copy)?;
    // The descriptor by which it could be written to is closed; without a name there is no other way to it.
    File::open(format!("/proc/self/fd/{}", copy.as_raw_fd()))
}

fn in_memory(file: &mut File) -> io::Result<File> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    // Kernels before 6.3 do not know that flag; later ones want to be told that it is to be executed.
    let copy = memfd_create("plugin", flags | MemfdFlags::EXEC)
        .or_else(|_| memfd_create("plugin", flags))?;
    let copy = File::from(copy);
    fill(file, &copy)?;
    fcntl_add_seals(
        &copy,
        SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL,
    )?;
    Ok(copy)
}

fn fill(file: &mut File, mut copy: &File) -> io::Result<()> {
    file.rewind()?;
    let copied = io::copy(&mut file.take(MOST + 1), &mut copy)?; // copy_file_range(2) where that is possible
    if copied > MOST {
        return Err(io::Error::other(format!("it has more than {} MiB", MOST >> 20)));
    }
    copy.flush()
}

/// The bytes of a private copy. They are mapped: an allocator would keep memory of that size with every thread that
/// loads a plugin.
pub struct Mapped {
    start: *mut c_void,
    length: usize,
}

impl Mapped {
    /// Of a copy as [`private`] makes it.
    ///
    /// # Errors
    /// A sentence.
    pub fn of(copy: &File) -> Result<Self, String> {
        let map = || {
            let length = usize::try_from(copy.metadata()?.len()).unwrap_or(usize::MAX);
            if length == 0 {
                return Ok(Self { start: null_mut(), length });
            }
            let descriptor = copy.as_raw_fd();
            // SAFETY: a new mapping, which touches no other.
            let start = unsafe { mmap(null_mut(), length, PROT_READ, MAP_PRIVATE, descriptor, 0) };
            if start == MAP_FAILED {
                return Err(io::Error::last_os_error());
            }
            Ok(Self { start, length })
        };
        map().map_err(|error| format!("cannot be read: {error}"))
    }
}

impl Deref for Mapped {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        if self.length == 0 {
            return &[];
        }
        // SAFETY: mapped as long as this lives. Nobody can write to the copy or cut it.
        unsafe { slice::from_raw_parts(self.start.cast(), self.length) }
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        if self.length > 0 {
            // SAFETY: mapped by `of`, and lent to nobody any more.
            unsafe { munmap(self.start, self.length) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::FileExt as _;

    /// What is left of a copy when its source is overwritten in place; and who may write to it.
    fn survives(make: fn(&mut File) -> io::Result<File>) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.so");
        fs::write(&path, [7; 100_000]).unwrap();
        let mut file = File::open(&path).unwrap();
        let copy = make(&mut file).unwrap();
        fs::write(&path, "short").unwrap();
        let mut bytes = vec![0; 100_001];
        assert_eq!(copy.read_at(&mut bytes, 0).unwrap(), 100_000);
        assert!(bytes[..100_000].iter().all(|byte| *byte == 7));
        assert!(copy.write_at(b"x", 0).is_err());
        assert_eq!(copy.metadata().unwrap().nlink(), 0);
    }

    #[test]
    fn a_copy_keeps_what_its_file_loses_and_cannot_be_written_to() {
        survives(private);
        survives(in_memory);
    }
}
