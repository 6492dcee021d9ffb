//! The folder of a spool, and what an earlier run left in it.

use super::restore::leads_to;
use super::segment::Segment;
use anyhow::{Context, Result};
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Its name in the folder.
const LOCK: &str = "lock";

/// A folder's lock. It is let go on purpose: a child between fork and exec has the file open as well.
#[derive(Debug)]
pub struct Lock(File);

impl Lock {
    /// Makes the folder with mode 0700 unless it is there, and takes its lock.
    ///
    /// # Errors
    /// The folder cannot be made or locked, or another process holds it.
    pub fn take(folder: &Path) -> Result<Self> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .with_context(|| format!("the spool's folder {} cannot be made", folder.display()))?;
        let path = folder.join(LOCK);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let mut file = options.open(&path).with_context(|| path.display().to_string())?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                let _ = file.read_to_string(&mut holder);
                anyhow::bail!(
                    "the spool {} is in use by process {}: each collector needs its own",
                    folder.display(),
                    holder.trim()
                );
            }
            Err(TryLockError::Error(why)) => {
                return Err(why).with_context(|| format!("{} cannot be locked", path.display()));
            }
        }
        // For the message above only: a full disk may refuse it. Of the same length each time, since to
        // cut a file costs a write to the disk.
        let _ = file.write_all_at(format!("{:<10}\n", std::process::id()).as_bytes(), 0);
        Ok(Self(file))
    }
}

impl Lock {
    /// Whether it is the lock of the folder that is there now.
    pub fn is_in(&self, folder: &Path) -> bool {
        leads_to(&folder.join(LOCK), &self.0)
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        let _ = self.0.unlock();
    }
}

/// The numbers and paths of a folder's segments, oldest first.
///
/// # Errors
/// The folder cannot be listed.
pub fn list(folder: &Path) -> Result<Vec<(u64, PathBuf)>> {
    let entries = fs::read_dir(folder).and_then(Iterator::collect::<io::Result<Vec<_>>>);
    let entries = entries.with_context(|| format!("{} cannot be listed", folder.display()))?;
    let mut found: Vec<_> = entries
        .iter()
        .filter_map(|entry| Some((number(entry.file_name().to_str()?)?, entry.path())))
        .collect();
    found.sort_unstable();
    found.dedup_by_key(|(number, _)| *number);
    Ok(found)
}

fn number(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".spool")?;
    let digits = digits.bytes().all(|byte| byte.is_ascii_digit()).then_some(digits)?;
    // Eighteen digits leave room to count on.
    (digits.len() <= 18).then(|| digits.parse().ok()).flatten()
}

/// A segment with all its records counted that are not done. What is damaged is skipped, what is torn at
/// the end is cut, and both are said in the log.
///
/// # Errors
/// It cannot be opened.
pub fn segment(number: u64, path: &Path) -> io::Result<Segment> {
    let mut segment = Segment::found(path.to_owned(), number)?;
    if let Err(why) = count(&mut segment) {
        log::warn!("{}: only a part can be read: {why}", path.display());
    }
    segment.close();
    Ok(segment)
}

fn count(segment: &mut Segment) -> io::Result<()> {
    let mut offset = 0;
    while offset < segment.length {
        if let Some(header) = segment.header(offset)? {
            if !header.done {
                segment.sums.add(&header);
            }
            offset += header.record_length();
            continue;
        }
        let next = segment.next_header(offset + 1)?;
        let (path, bytes) = (segment.path().display(), next - offset);
        if next < segment.length {
            log::warn!("{path}: {bytes} bytes at {offset} are damaged and skipped");
            offset = next;
        } else {
            log::warn!("{path}: torn, the last {bytes} bytes at {offset} are cut");
            return segment.cut(offset);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lock_is_let_go_although_a_child_has_the_file_open() {
        let dir = tempfile::tempdir().unwrap();
        let lock = Lock::take(dir.path()).unwrap();
        let _inherited = lock.0.try_clone().unwrap();
        assert!(Lock::take(dir.path()).is_err());
        drop(lock);
        assert!(Lock::take(dir.path()).is_ok());
    }

    #[test]
    fn only_segments_are_listed() {
        let dir = tempfile::tempdir().unwrap();
        let names = ["00000010.spool", "9.spool", "lock", "x.spool", ".spool", "-1.spool"];
        for name in names.into_iter().chain(["9999999999999999999.spool", "1.spool.old"]) {
            fs::write(dir.path().join(name), "").unwrap();
        }
        let numbers: Vec<_> = list(dir.path()).unwrap().into_iter().map(|(n, _)| n).collect();
        assert_eq!(numbers, [9, 10]);
    }
}
