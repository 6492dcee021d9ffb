//! Spools whose output is not configured any more: most likely its address was corrected, and the lines
//! wait for that.

use super::super::folder::folder_name;
use super::recover::{self, Lock};
use anyhow::{Context, Result};
use std::fs;
use std::path::{Path, PathBuf};

/// Gives the lines that wait in a folder of spools for an output of another name to the one output that has
/// no spool there yet. Where it is not clear whose they are, the log tells of them.
///
/// # Errors
/// The spool cannot be renamed.
pub fn inherit(dir: &Path, outputs: &[String]) -> Result<()> {
    let own: Vec<PathBuf> = outputs.iter().map(|name| dir.join(folder_name(name))).collect();
    let left = left_behind(dir, &own);
    let mut heirs = outputs.iter().zip(&own).filter(|(_, folder)| !folder.exists());
    match (&*left, heirs.next(), heirs.next()) {
        ([(left, _lock)], Some((output, own)), None) => {
            fs::rename(left, own).with_context(|| {
                format!("{} cannot be renamed to {}", left.display(), own.display())
            })?;
            log::info!(
                "output {output}: takes over the lines in {}, whose output is not configured any more",
                left.display()
            );
        }
        _ => {
            for (left, _) in left {
                log::warn!(
                    "{} holds lines of an output that is not configured: they wait for it",
                    left.display()
                );
            }
        }
    }
    Ok(())
}

/// The spools of others that hold something, and that no other process has.
fn left_behind(dir: &Path, own: &[PathBuf]) -> Vec<(PathBuf, Lock)> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let folders = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    let folders = folders.map(|entry| entry.path()).filter(|path| !own.contains(path));
    let spools = folders.filter(|path| recover::list(path).is_ok_and(|found| !found.is_empty()));
    spools.filter_map(|path| Lock::take(&path).ok().map(|lock| (path, lock))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder with these spools, each with a segment.
    fn folder(outputs: &[&str]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for output in outputs {
            let spool = dir.path().join(folder_name(output));
            fs::create_dir(&spool).unwrap();
            fs::write(spool.join("00000001.spool"), output).unwrap();
        }
        dir
    }

    /// What of those spools the outputs have after that.
    fn inherited(dir: &Path, outputs: &[&str]) -> Vec<Option<String>> {
        let names: Vec<String> = outputs.iter().map(|&name| name.to_owned()).collect();
        inherit(dir, &names).unwrap();
        let segment = |name: &String| dir.join(folder_name(name)).join("00000001.spool");
        names.iter().map(|name| fs::read_to_string(segment(name)).ok()).collect()
    }

    #[test]
    fn an_output_that_got_another_name_keeps_its_lines() {
        let dir = folder(&["a", "b"]);
        let found = inherited(dir.path(), &["a", "c"]);
        assert_eq!(found, [Some("a".to_owned()), Some("b".to_owned())]);
        assert!(!dir.path().join("b").exists());
    }

    #[test]
    fn lines_that_several_outputs_could_have_stay_where_they_are() {
        let dir = folder(&["a", "b"]);
        for outputs in [&["c"][..], &["a", "c", "d"], &["a"], &[]] {
            inherited(dir.path(), outputs);
            assert!(dir.path().join("b/00000001.spool").exists(), "{outputs:?}");
        }
    }

    #[test]
    fn what_another_process_has_and_what_holds_nothing_is_left_alone() {
        let dir = folder(&["a"]);
        let lock = Lock::take(&dir.path().join("a")).unwrap();
        fs::create_dir(dir.path().join("empty")).unwrap();
        fs::write(dir.path().join("x.rejected"), "").unwrap();
        assert_eq!(inherited(dir.path(), &["c"]), [None]);
        drop(lock);
        assert_eq!(inherited(dir.path(), &["c"]), [Some("a".to_owned())]);
        inherit(&dir.path().join("none"), &["c".to_owned()]).unwrap();
    }
}
