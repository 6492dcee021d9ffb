//! Lines at the end of a file.

use super::{Failure, Output, Parcel};
use crate::trust::{self, Folder};
use anyhow::{Context, Result, anyhow};
use rustix::io::Errno;
use std::fs;
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// A file as it is configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileConfig {
    /// Where it lies.
    pub path: PathBuf,
    /// The permissions of a file that is made, now or after it was moved away.
    pub mode: u32,
}

impl FileConfig {
    /// With the usual permissions.
    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        Self { path, mode: 0o640 }
    }
}

/// A regular file that grows. Whoever rotates it may rename or remove it, or cut it to nothing (the file
/// is only ever appended to).
struct File {
    config: FileConfig,
    /// `None` when it is to be opened again.
    open: Option<Open>,
}

/// The file as it was opened.
struct Open {
    file: fs::File,
    /// Device and inode.
    id: (u64, u64),
    /// Bytes of the parcel's first line that stand in the file already, as they could not be cut off.
    begun: usize,
}

/// Opens a file, or makes it.
///
/// # Errors
/// Names the folder that is missing, who else may change where the lines go, or what the kernel says. A
/// link, a device or a named pipe is an error: standard output leads to those.
pub fn open(config: &FileConfig) -> Result<Box<dyn Output>> {
    let open = Open::new(open_to_append(config)?, &config.path)?;
    Ok(Box::new(File { config: config.clone(), open: Some(open) }))
}

fn open_to_append(FileConfig { path, mode }: &FileConfig) -> Result<fs::File> {
    let append = trust::Write::Append { mode: *mode };
    let file = Folder::of_file(path).and_then(|(folder, name)| folder.write(&name, append));
    file.map_err(|error| {
        // Root without CAP_DAC_OVERRIDE is a user like others.
        let denied = error.raw_os_error() == Some(Errno::ACCESS.raw_os_error());
        let hint = if denied { ": `chown` it to the collector's user" } else { "" };
        anyhow!("{} cannot be opened: {error}{hint}", path.display())
    })
}

/// Whether the last byte is no newline: someone was killed in the middle of a line.
fn ends_torn(file: &mut fs::File) -> io::Result<bool> {
    if file.metadata()?.len() == 0 {
        return Ok(false);
    }
    file.seek(SeekFrom::End(-1))?;
    let mut last = [0];
    file.read_exact(&mut last)?;
    Ok(last != *b"\n")
}

impl Open {
    fn new(mut file: fs::File, path: &Path) -> Result<Self> {
        let metadata = file.metadata()?;
        if ends_torn(&mut file).unwrap_or(false) {
            file.write_all(b"\n").with_context(|| path.display().to_string())?;
            log::warn!("{} ended within a line: a new one is begun", path.display());
        }
        Ok(Self { file, id: (metadata.dev(), metadata.ino()), begun: 0 })
    }

    /// Writes the parcel's first batch.
    fn write(&mut self, parcel: &mut Parcel) -> io::Result<()> {
        let lines = parcel.first();
        let mut done = self.begun;
        let result = loop {
            match self.file.write(&lines[done..]) {
                Ok(0) => break Err(ErrorKind::WriteZero.into()),
                Ok(written) => done += written,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => break Err(error),
            }
            if done == lines.len() {
                break Ok(());
            }
        };
        // A full disk takes part of a batch: whole lines stay, and the torn one is cut off.
        let whole = memchr::memrchr(b'\n', &lines[..done]).map_or(0, |newline| newline + 1);
        let count = memchr::memchr_iter(b'\n', &lines[..whole]).count() as u64;
        self.begun = self.cut(done - whole);
        parcel.delivered(count);
        result
    }

    /// Cuts the last bytes off; how many of them are still there.
    fn cut(&self, torn: usize) -> usize {
        let cut = || -> io::Result<()> {
            let length = self.file.metadata()?.len();
            // Shorter than that: somebody has cut all of it.
            length.checked_sub(torn as u64).map_or(Ok(()), |length| self.file.set_len(length))
        };
        if torn == 0 || cut().is_ok() { 0 } else { torn }
    }
}

impl File {
    /// Opens the file again if its path leads elsewhere, or nowhere.
    fn follow(&mut self) -> Result<&mut Open> {
        let Self { config, open } = self;
        let there = fs::metadata(&config.path).map(|metadata| (metadata.dev(), metadata.ino()));
        let same = |open: &Open| there.as_ref().is_ok_and(|there| *there == open.id);
        let found = match open.take().filter(same) {
            Some(found) => found,
            None => Open::new(open_to_append(config)?, &config.path)?,
        };
        Ok(open.insert(found))
    }
}

impl Output for File {
    fn deliver(&mut self, parcel: &mut Parcel, _: Option<Instant>) -> Result<(), Failure> {
        let open = self.follow().map_err(Failure::later)?;
        while !parcel.is_done() {
            open.write(parcel).map_err(Failure::later)?;
        }
        Ok(())
    }

    fn reopen(&mut self) {
        self.open = None;
    }
}

#[cfg(test)]
mod tests {
    use super::super::parcel::testing::parcel;
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn open(path: &Path) -> Result<Box<dyn Output>> {
        super::open(&FileConfig::new(path.to_owned()))
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    fn deliver(output: &mut dyn Output, lines: &str) {
        output.deliver(&mut parcel(&[lines]), None).unwrap();
    }

    #[test]
    fn a_file_is_appended_to() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lines");
        for _ in 0..2 {
            deliver(&mut *open(&path).unwrap(), "a\n");
        }
        assert_eq!(fs::read(&path).unwrap(), b"a\na\n");
    }

    #[test]
    fn a_line_that_was_torn_stays_apart_from_new_ones() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lines");
        fs::write(&path, b"a\ntor").unwrap();
        deliver(&mut *open(&path).unwrap(), "b\n");
        assert_eq!(fs::read(&path).unwrap(), b"a\ntor\nb\n");
    }

    #[test]
    fn a_missing_folder_is_named_at_the_start() {
        let dir = tempfile::tempdir().unwrap();
        let error = open(&dir.path().join("none/lines")).err().unwrap().to_string();
        assert!(error.contains("/none does not exist"), "{error}");
    }

    #[test]
    fn it_has_its_mode_whatever_the_umask_and_also_when_it_is_made_anew() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lines");
        let mut output = open(&path).unwrap();
        assert_eq!(mode(&path), 0o640);
        fs::remove_file(&path).unwrap();
        let wide = FileConfig { path: path.clone(), mode: 0o664 };
        let mut other = super::open(&wide).unwrap();
        assert_eq!(mode(&path), 0o664, "wider than what a umask leaves");
        for output in [&mut output, &mut other] {
            fs::rename(&path, dir.path().join("lines.1")).unwrap();
            output.reopen();
            deliver(&mut **output, "a\n");
        }
        assert_eq!(mode(&path), 0o664);
        assert_eq!(mode(&dir.path().join("lines.1")), 0o640);
        // What somebody has decided about a file that is there stays.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        other.reopen();
        deliver(&mut *other, "b\n");
        assert_eq!(mode(&path), 0o600);
    }

    #[test]
    fn a_full_disk_is_tried_again() {
        let full = fs::File::options().write(true).open("/dev/full").unwrap();
        let mut open = Open { file: full, id: (0, 0), begun: 0 };
        let mut parcel = parcel(&["a\n"]);
        assert_eq!(open.write(&mut parcel).unwrap_err().kind(), ErrorKind::StorageFull);
        assert!(!parcel.is_done());
    }

    #[test]
    fn only_a_regular_file_with_one_name_is_written_to() {
        let dir = tempfile::tempdir().unwrap();
        let (path, other) = (dir.path().join("lines"), dir.path().join("other"));
        fs::write(&other, "kept").unwrap();
        let refused = |words: &str| {
            let error = format!("{:#}", open(&path).err().unwrap());
            assert!(error.contains(words), "{error}");
            fs::remove_file(&path).unwrap();
        };
        std::os::unix::fs::symlink(&other, &path).unwrap();
        refused("is a symbolic link to ");
        fs::hard_link(&other, &path).unwrap();
        refused("it has another name");
        rustix::fs::mkfifoat(rustix::fs::CWD, &path, rustix::fs::Mode::RWXU).unwrap();
        refused("a named pipe, not a regular file");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        refused("a socket, not a regular file");
        assert_eq!(fs::read(&other).unwrap(), b"kept");
        for device in ["/dev/null", "/dev/full"] {
            let error = format!("{:#}", open(Path::new(device)).err().unwrap());
            assert!(error.contains("a device, not a regular file"), "{error}");
        }
        let error = format!("{:#}", open(Path::new("/dev/stdout")).err().unwrap());
        assert!(error.contains("/dev/stdout is a symbolic link"), "{error}");
    }

    #[test]
    fn a_file_that_is_renamed_or_removed_is_made_anew() {
        let dir = tempfile::tempdir().unwrap();
        let (path, old) = (dir.path().join("lines"), dir.path().join("lines.1"));
        let mut output = open(&path).unwrap();
        deliver(&mut *output, "a\n");
        fs::rename(&path, &old).unwrap();
        deliver(&mut *output, "b\n");
        assert_eq!(fs::read(&old).unwrap(), b"a\n");
        assert_eq!(fs::read(&path).unwrap(), b"b\n");
        fs::remove_file(&path).unwrap();
        deliver(&mut *output, "c\n");
        assert_eq!(fs::read(&path).unwrap(), b"c\n");
        // Whoever rotates may put a new file there too.
        fs::rename(&path, &old).unwrap();
        fs::write(&path, "new\n").unwrap();
        deliver(&mut *output, "d\n");
        assert_eq!(fs::read(&path).unwrap(), b"new\nd\n");
    }

    #[test]
    fn a_file_that_is_cut_to_nothing_grows_from_its_start() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lines");
        let mut output = open(&path).unwrap();
        deliver(&mut *output, "a\n");
        fs::write(&path, "").unwrap();
        deliver(&mut *output, "b\n");
        assert_eq!(fs::read(&path).unwrap(), b"b\n");
    }

    #[test]
    fn a_folder_that_vanished_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("folder");
        let path = folder.join("lines");
        fs::create_dir(&folder).unwrap();
        let mut output = open(&path).unwrap();
        fs::remove_dir_all(&folder).unwrap();
        let mut parcel = parcel(&["a\n"]);
        let Err(Failure::Later { why, .. }) = output.deliver(&mut parcel, None) else { panic!() };
        assert!(why.to_string().contains("/folder does not exist: make it first"), "{why}");
        fs::create_dir(&folder).unwrap();
        output.deliver(&mut parcel, None).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"a\n");
    }

    #[test]
    fn what_takes_the_place_of_a_file_is_not_written_to_unless_it_is_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lines");
        let mut output = open(&path).unwrap();
        fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("/dev/full", &path).unwrap();
        let Err(Failure::Later { why, .. }) = output.deliver(&mut parcel(&["a\n"]), None) else {
            panic!()
        };
        assert!(why.to_string().contains("is a symbolic link to /dev/full"), "{why}");
    }

    #[test]
    fn a_torn_line_is_cut_off_and_one_that_somebody_else_has_cut_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lines");
        fs::write(&path, "a\nbc\n").unwrap();
        let open =
            Open::new(open_to_append(&FileConfig::new(path.clone())).unwrap(), &path).unwrap();
        (&open.file).write_all(b"tor").unwrap();
        assert_eq!(open.cut(3), 0);
        assert_eq!(fs::read(&path).unwrap(), b"a\nbc\n");
        fs::write(&path, "").unwrap();
        assert_eq!(open.cut(3), 0);
        assert_eq!(fs::read(&path).unwrap(), b"");
    }
}
