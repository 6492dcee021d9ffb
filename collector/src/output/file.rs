//! Lines at the end of a file.

use super::stream::Stream;
use super::{Failure, Output, Parcel};
use anyhow::{Context, Result};
use std::fs;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Instant;

/// A regular file that grows.
struct File(fs::File);

/// Opens a file, or makes it with mode 0644. A device or a named pipe is a [`Stream`].
///
/// # Errors
/// Names the folder that is missing, or what the kernel says.
pub fn open(path: &Path) -> Result<Box<dyn Output>> {
    if let Some(parent) = path.parent().filter(|p| !p.as_os_str().is_empty() && !p.is_dir()) {
        anyhow::bail!("its folder {} does not exist: make it first", parent.display());
    }
    let mut options = fs::OpenOptions::new();
    options.append(true).create(true).mode(0o644);
    // Reading tells whether the last line is whole; a file that may only be written works too.
    let file = options.clone().read(true).open(path).or_else(|_| options.open(path));
    let mut file = file.with_context(|| format!("{} cannot be opened", path.display()))?;
    if !file.metadata()?.is_file() {
        return Ok(Box::new(Stream::new(file)));
    }
    if ends_torn(&mut file).unwrap_or(false) {
        log::warn!("{} ends within a line: a new one is begun", path.display());
        file.write_all(b"\n").with_context(|| path.display().to_string())?;
    }
    Ok(Box::new(File(file)))
}

/// Whether the last byte is no newline: someone was killed in the middle of a line.
fn ends_torn(file: &mut fs::File) -> std::io::Result<bool> {
    if file.metadata()?.len() == 0 {
        return Ok(false);
    }
    file.seek(SeekFrom::End(-1))?;
    let mut last = [0];
    file.read_exact(&mut last)?;
    Ok(last != *b"\n")
}

impl Output for File {
    fn deliver(&mut self, parcel: &mut Parcel, _: Option<Instant>) -> Result<(), Failure> {
        while !parcel.is_done() {
            let before = self.0.metadata().map(|metadata| metadata.len());
            self.0.write_all(parcel.first()).map_err(|error| {
                // A full disk takes part of a batch: back to where it began, so that no line is torn.
                if let Ok(before) = before {
                    let _ = self.0.set_len(before);
                }
                Failure::later(error)
            })?;
            parcel.delivered(parcel.lines_of_first());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::parcel::testing::parcel;
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_file_is_appended_to() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lines");
        for _ in 0..2 {
            open(&path).unwrap().deliver(&mut parcel(&["a\n"]), None).unwrap();
        }
        assert_eq!(fs::read(&path).unwrap(), b"a\na\n");
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777 & !0o644, 0, "{mode:o}");
    }

    #[test]
    fn a_line_that_was_torn_stays_apart_from_new_ones() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lines");
        fs::write(&path, b"a\ntor").unwrap();
        open(&path).unwrap().deliver(&mut parcel(&["b\n"]), None).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"a\ntor\nb\n");
    }

    #[test]
    fn a_missing_folder_is_named_at_the_start() {
        let dir = tempfile::tempdir().unwrap();
        let error = open(&dir.path().join("none/lines")).err().unwrap().to_string();
        assert!(error.contains("/none does not exist"), "{error}");
    }

    #[test]
    fn a_full_disk_is_tried_again() {
        let mut file = open(Path::new("/dev/full")).unwrap();
        assert!(matches!(file.deliver(&mut parcel(&["a\n"]), None), Err(Failure::Later { .. })));
    }
}
