//! The folder of a spool, and what an earlier run left in it.

use super::restore::leads_to;
use super::segment::Segment;
use crate::trust::{Folder, Write};
use anyhow::{Context, Result, bail};
use std::ffi::{OsStr, OsString};
use std::fs::{File, TryLockError};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

/// Its name in the folder.
const LOCK: &str = "lock";
/// The file that says whose lines the folder holds.
pub const OUTPUT: &str = "output";

/// A folder's lock. It is let go on purpose: a child between fork and exec has the file open as well.
#[derive(Debug)]
pub struct Lock(File);

impl Lock {
    /// Takes a folder's lock.
    ///
    /// # Errors
    /// The folder cannot be locked, or another process holds it.
    pub fn take(folder: &Folder) -> Result<Self> {
        let path = folder.path().join(LOCK);
        let file = folder.write(OsStr::new(LOCK), Write::Update);
        let mut file = file.with_context(|| path.display().to_string())?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                let _ = file.read_to_string(&mut holder);
                bail!(
                    "the spool {} is in use by process {}: each collector needs its own",
                    folder.path().display(),
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
    pub fn is_in(&self, folder: &Folder) -> bool {
        leads_to(&folder.path().join(LOCK), &self.0)
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        let _ = self.0.unlock();
    }
}

/// Makes sure that a folder holds lines for this output and no other: its name says so, but anybody may
/// have copied or renamed it.
///
/// # Errors
/// The lines are for another output.
pub fn claim(folder: &Folder, output: &str) -> Result<()> {
    let path = || folder.path().join(OUTPUT).display().to_string();
    let mut file = match folder.write(OsStr::new(OUTPUT), Write::Update) {
        // A full disk is no reason not to start: what lies there goes out, which makes room.
        Err(why) if matches!(why.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded) => {
            return Ok(());
        }
        file => file.with_context(path)?,
    };
    let mut said = String::new();
    file.read_to_string(&mut said).with_context(path)?;
    match said.strip_suffix('\n') {
        Some(said) if said == output => Ok(()),
        Some(other) => bail!(
            "the spool {} holds lines for {other}, not for {output}: move it away",
            folder.path().display()
        ),
        // Not said yet, or a part of it by somebody who was killed.
        None => {
            let _ = file.write_all_at(format!("{output}\n").as_bytes(), 0);
            Ok(())
        }
    }
}

/// The numbers and names of a folder's segments, oldest first.
///
/// # Errors
/// The folder cannot be listed.
pub fn list(folder: &Folder) -> Result<Vec<(u64, OsString)>> {
    let names = folder.names();
    let names = names.with_context(|| format!("{} cannot be listed", folder.path().display()))?;
    let mut found: Vec<_> =
        names.into_iter().filter_map(|name| Some((number(name.to_str()?)?, name))).collect();
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
pub fn segment(number: u64, folder: &Arc<Folder>, name: OsString) -> io::Result<Segment> {
    let mut segment = Segment::found(folder, name, number)?;
    if let Err(why) = count(&mut segment) {
        log::warn!("{}: only a part can be read: {why}", segment.path().display());
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
        let (path, bytes) = (segment.path().display().to_string(), next - offset);
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
        let folder = Folder::open(dir.path()).unwrap();
        let lock = Lock::take(&folder).unwrap();
        let _inherited = lock.0.try_clone().unwrap();
        assert!(Lock::take(&folder).is_err());
        drop(lock);
        assert!(Lock::take(&folder).is_ok());
    }

    #[test]
    fn only_segments_are_listed() {
        let dir = tempfile::tempdir().unwrap();
        let names = ["00000010.spool", "9.spool", "lock", "x.spool", ".spool", "-1.spool"];
        for name in names.into_iter().chain(["9999999999999999999.spool", "1.spool.old"]) {
            std::fs::write(dir.path().join(name), "").unwrap();
        }
        let folder = Folder::open(dir.path()).unwrap();
        let numbers: Vec<_> = list(&folder).unwrap().into_iter().map(|(n, _)| n).collect();
        assert_eq!(numbers, [9, 10]);
    }
}
