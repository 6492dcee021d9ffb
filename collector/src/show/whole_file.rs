//! A file that is there as a whole or not at all.

use anyhow::{Context, Result};
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// A file to be written at the end of something that takes its time. Whether it can be made is known at the begin.
#[derive(Debug)]
pub(super) struct WholeFile {
    path: PathBuf,
    /// Beside it, until it is complete; `None` for what is no regular file, as a pipe.
    draft: Option<PathBuf>,
    file: File,
}

impl WholeFile {
    /// # Errors
    /// It cannot be made; says what to do.
    pub(super) fn create(path: &Path) -> Result<Self> {
        let failed = || {
            let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
            let folder = folder.unwrap_or(Path::new(".")).display();
            format!(
                "{}: cannot be written: name a file in a folder that is there and can be written to, not in {folder}",
                path.display()
            )
        };
        if fs::metadata(path).is_ok_and(|there| !there.is_file()) {
            let file = File::options().write(true).open(path).with_context(failed)?;
            return Ok(Self { path: path.to_owned(), draft: None, file });
        }
        // Where a link leads, and not in the place of the link.
        let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let mut name = path.file_name().with_context(failed)?.to_owned();
        name.push(format!(".{}.draft", std::process::id()));
        let draft = path.with_file_name(name);
        let file = File::create(&draft).with_context(failed)?;
        Ok(Self { path, draft: Some(draft), file })
    }

    /// Writes it, and gives its path. A file that was there before is replaced in one moment.
    ///
    /// # Errors
    /// There is no room, or the folder has gone; the old file is still there.
    pub(super) fn write(mut self, bytes: &[u8]) -> Result<PathBuf> {
        let path = self.path.clone();
        let failed = |what: &str| format!("{}: {what}", path.display());
        self.file.write_all(bytes).with_context(|| failed("writing it"))?;
        if let Some(draft) = self.draft.take() {
            let renamed =
                fs::rename(&draft, &path).with_context(|| failed("putting it in its place"));
            renamed.inspect_err(|_| _ = fs::remove_file(&draft))?;
        }
        Ok(path)
    }
}

impl Drop for WholeFile {
    fn drop(&mut self) {
        if let Some(draft) = &self.draft {
            let _ = fs::remove_file(draft);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn files(folder: &Path) -> Vec<String> {
        let names = fs::read_dir(folder).unwrap().flatten();
        let mut names: Vec<_> =
            names.map(|entry| entry.file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_is_replaced_as_a_whole_or_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.svg");
        WholeFile::create(&path).unwrap().write(b"old").unwrap();
        drop(WholeFile::create(&path).unwrap());
        assert_eq!(fs::read(&path).unwrap(), b"old");
        let file = WholeFile::create(&path).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"old");
        file.write(b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        let link = folder.path().join("b.svg");
        symlink(&path, &link).unwrap();
        WholeFile::create(&link).unwrap().write(b"newer").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"newer");
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(files(folder.path()), ["a.svg", "b.svg"]);
    }

    #[test]
    fn what_cannot_be_written_is_told_at_the_begin() {
        let folder = tempfile::tempdir().unwrap();
        for path in ["no/a.svg", "..", ""] {
            let error = WholeFile::create(&folder.path().join(path)).unwrap_err().to_string();
            assert!(error.contains("cannot be written: name a file"), "{path}: {error}");
        }
        WholeFile::create(Path::new("/dev/null")).unwrap().write(b"gone").unwrap();
        assert!(files(folder.path()).is_empty());
    }
}
