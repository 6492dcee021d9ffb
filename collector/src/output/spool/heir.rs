//! Spools whose output is not configured any more: most likely its address was corrected, and the lines
//! wait for that.

use super::super::folder::folder_name;
use super::recover::{self, Lock, OUTPUT};
use crate::trust::Folder;
use anyhow::{Context, Result};
use std::ffi::{OsStr, OsString};
use std::io::ErrorKind;
use std::path::Path;

/// Gives the lines that wait in a folder of spools for an output of another name to the one output that has
/// no spool there yet. Where it is not clear whose they are, the log tells of them.
///
/// # Errors
/// The folder cannot be used, or the spool cannot be renamed.
pub fn inherit(dir: &Path, outputs: &[String]) -> Result<()> {
    let dir = match Folder::open(dir) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        dir => dir.context("the spool's folder cannot be used")?,
    };
    let there = dir.names().with_context(|| dir.path().display().to_string())?;
    let own: Vec<OsString> = outputs.iter().map(|name| folder_name(name).into()).collect();
    let left = left_behind(&dir, there.iter().filter(|name| !own.contains(name)));
    let mut heirs = outputs.iter().zip(&own).filter(|(_, folder)| !there.contains(folder));
    match (&*left, heirs.next(), heirs.next()) {
        ([(name, left, _lock)], Some((output, own)), None) if may_take_over(output, left) => {
            let from = left.path().display();
            // First what says whose it is: whoever is killed in between finds it left behind once more.
            let _ = left.remove(OsStr::new(OUTPUT));
            dir.rename(name, own).with_context(|| format!("{from} cannot be renamed"))?;
            log::info!(
                "output {output}: takes over the lines in {from}, whose output is not configured any more"
            );
        }
        _ => {
            for (_, left, _) in left {
                let path = left.path().display();
                log::warn!(
                    "{path} holds lines of an output that is not configured: they wait for it"
                );
            }
        }
    }
    Ok(())
}

/// Whether lines of a spool mean the same to an output. Those of outputs that make something else of lines, or whose
/// counters are sums since the start, mean it to their own kind alone.
fn may_take_over(output: &str, left: &Folder) -> bool {
    let kind = |name: &str| {
        let kind = name.split([':', '+']).next().unwrap_or_default();
        ["prometheus", "otlp", "victoriametrics"].into_iter().find(|known| *known == kind)
    };
    // Without the file, the folder's name begins with the kind.
    let whose = std::fs::read_to_string(left.path().join(OUTPUT)).unwrap_or_default();
    let whose = match whose.trim_end() {
        "" => left.path().file_name().unwrap_or_default().to_string_lossy().replace('_', ":"),
        whose => whose.to_owned(),
    };
    kind(output) == kind(&whose)
}

/// The spools of others that hold something, and that no other process has.
fn left_behind<'a>(
    dir: &Folder,
    names: impl Iterator<Item = &'a OsString>,
) -> Vec<(OsString, Folder, Lock)> {
    let left = |name: &OsString| {
        let folder = Folder::open(&dir.path().join(name)).ok()?;
        if recover::list(&folder).ok()?.is_empty() {
            return None;
        }
        let lock = Lock::take(&folder).ok()?;
        Some((name.clone(), folder, lock))
    };
    names.filter_map(left).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

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
    fn lines_are_not_taken_over_by_an_output_to_which_they_mean_something_else() {
        for (left, output, taken) in [
            ("otlp://a:1", "otlp://b:1", true),
            ("otlp+https://a", "otlp://b:1", true),
            ("otlp://a:1", "prometheus://a:1", false),
            ("victoriametrics://a:1", "prometheus://a:1", false),
            ("prometheus://a:1", "influxdb1://a:1/d", false),
            ("victoriametrics://a:1", "influxdb1://a:1/d", false),
            ("influxdb1://a:1/d", "victoriametrics://a:1", false),
            ("victoriametrics://a:1", "victoriametrics+https://b", true),
            ("influxdb1://a:1/d", "influxdb2://a:1/o/b", true),
        ] {
            for said in [true, false] {
                let dir = folder(&[left]);
                if said {
                    let file = dir.path().join(folder_name(left)).join(OUTPUT);
                    fs::write(file, format!("{left}\n")).unwrap();
                }
                let found = inherited(dir.path(), &[output])[0].is_some();
                assert_eq!(found, taken, "{left} to {output}");
            }
        }
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
        let lock = Lock::take(&Folder::open(&dir.path().join("a")).unwrap()).unwrap();
        fs::create_dir(dir.path().join("empty")).unwrap();
        fs::write(dir.path().join("x.rejected"), "").unwrap();
        assert_eq!(inherited(dir.path(), &["c"]), [None]);
        drop(lock);
        assert_eq!(inherited(dir.path(), &["c"]), [Some("a".to_owned())]);
        inherit(&dir.path().join("none"), &["c".to_owned()]).unwrap();
    }
}
