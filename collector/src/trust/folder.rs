//! A folder that was checked, and the files in it: opened by its descriptor, never through a link.

use super::{Subject, check};
use rustix::fs::{
    AtFlags, Dir, FileType, Mode, OFlags, fchmod, fstat, fsync, openat, renameat, statat, unlinkat,
};
use rustix::io::{Errno, retry_on_intr};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// An open folder.
#[derive(Debug)]
pub struct Folder {
    fd: OwnedFd,
    path: PathBuf,
    /// On the way to it lies a folder that its owner alone may enter, or it is one.
    private: bool,
}

/// How a file is opened for writing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Write {
    /// At its end only, for whoever may read it too.
    Append {
        /// The permissions of a file that is made; those of one that is there stay.
        mode: u32,
    },
    /// Anywhere, and to be read; made with mode 0600 unless it is there.
    Update,
    /// The same, if it is there.
    Found,
    /// The same, if it is not there yet.
    New,
}

impl AsFd for Folder {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Folder {
    pub(super) fn new(fd: OwnedFd, path: PathBuf, private: bool) -> Self {
        Self { fd, path, private }
    }

    pub(super) fn is_private(&self) -> bool {
        self.private
    }

    /// Where it lies, without links.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether somebody has removed it.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        fstat(&self.fd).is_ok_and(|stat| stat.st_nlink == 0)
    }

    /// The names in it, in no order.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn names(&self) -> io::Result<Vec<OsString>> {
        let mut names = Vec::new();
        for entry in Dir::new(self.readable()?)? {
            let name = OsStr::from_bytes(entry?.file_name().to_bytes()).to_owned();
            if name != "." && name != ".." {
                names.push(name);
            }
        }
        Ok(names)
    }

    /// Opens a file to read it.
    ///
    /// # Errors
    /// It is not there, a link, no regular file, or others may change it. The kernel's errors come as they
    /// are: the caller knows the file's name.
    pub fn read(&self, name: &OsStr) -> io::Result<File> {
        self.file(name, OFlags::RDONLY, Mode::empty(), Subject::Own)
    }

    /// Opens a file to write to it.
    ///
    /// # Errors
    /// It is a link, no regular file, has another name too, or is not ours. As with [`Folder::read`] the
    /// file's name is left to the caller.
    pub fn write(&self, name: &OsStr, write: Write) -> io::Result<File> {
        let open = |flags, mode| self.file(name, flags, mode, Subject::Written);
        let private = Mode::RUSR | Mode::WUSR;
        match write {
            Write::Append { mode } => self.append(name, Mode::from_raw_mode(mode)),
            Write::Update => open(OFlags::RDWR | OFlags::CREATE, private),
            Write::Found => open(OFlags::RDWR, private),
            Write::New => open(OFlags::RDWR | OFlags::CREATE | OFlags::EXCL, private),
        }
    }

    fn append(&self, name: &OsStr, mode: Mode) -> io::Result<File> {
        let open = |flags| self.file(name, flags | OFlags::APPEND, mode, Subject::Written);
        loop {
            // Reading tells whether the last line is whole; a file that may only be written works too.
            let there = open(OFlags::RDWR).or_else(|error| match error.kind() {
                io::ErrorKind::PermissionDenied => open(OFlags::WRONLY),
                _ => Err(error),
            });
            match there {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                there => return there,
            }
            match open(OFlags::RDWR | OFlags::CREATE | OFlags::EXCL) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
                Ok(file) => {
                    fchmod(&file, mode)?; // whatever the umask is
                    return Ok(file);
                }
            }
        }
    }

    fn file(&self, name: &OsStr, flags: OFlags, mode: Mode, what: Subject) -> io::Result<File> {
        // To open a device may do something; this look is for the message, and to leave it alone.
        if let Some(found) = kind_of(self, name) {
            kind(found)?;
        }
        // Without NONBLOCK a named pipe that was put there meanwhile would hold us up.
        let flags = flags | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
        let file = retry_on_intr(|| openat(&self.fd, name, flags, mode))?;
        let stat = fstat(&file)?;
        kind(FileType::from_raw_mode(stat.st_mode))?;
        check(what, &stat, &self.path.join(name))?;
        if what == Subject::Written && stat.st_nlink > 1 {
            let text = "it has another name (a hard link) and may be another program's: remove it";
            return Err(io::Error::other(text));
        }
        Ok(File::from(file))
    }

    /// Removes a file.
    ///
    /// # Errors
    /// The kernel's.
    pub fn remove(&self, name: &OsStr) -> io::Result<()> {
        Ok(unlinkat(&self.fd, name, AtFlags::empty())?)
    }

    /// Renames a file within the folder.
    ///
    /// # Errors
    /// The kernel's.
    pub fn rename(&self, from: &OsStr, to: &OsStr) -> io::Result<()> {
        Ok(renameat(&self.fd, from, &self.fd, to)?)
    }

    /// Has the disk keep the list of its files.
    ///
    /// # Errors
    /// The disk's.
    pub fn sync(&self) -> io::Result<()> {
        Ok(fsync(self.readable()?)?)
    }

    /// A descriptor that may be read; its own only stands for the place.
    fn readable(&self) -> io::Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        openat(&self.fd, ".", flags, Mode::empty()).map_err(|errno| failed(errno, &self.path))
    }
}

/// Only regular files are opened.
fn kind(kind: FileType) -> io::Result<()> {
    if kind == FileType::RegularFile { Ok(()) } else { Err(not_a_file(kind)) }
}

pub(super) fn not_a_file(kind: FileType) -> io::Error {
    let what = match kind {
        FileType::Directory => "a directory",
        FileType::Symlink => "a symbolic link",
        FileType::Fifo => "a named pipe",
        FileType::Socket => "a socket",
        FileType::CharacterDevice | FileType::BlockDevice => "a device",
        FileType::RegularFile | FileType::Unknown => "a special file",
    };
    io::Error::new(io::ErrorKind::InvalidInput, format!("{what}, not a regular file"))
}

/// An error that names the place.
pub(super) fn failed(errno: Errno, at: &Path) -> io::Error {
    let error = io::Error::from(errno);
    io::Error::new(error.kind(), format!("{}: {error}", at.display()))
}

/// What a name in a folder is, without following it; none when there is nothing.
fn kind_of(folder: &Folder, name: &OsStr) -> Option<FileType> {
    let stat = statat(folder, name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
    Some(FileType::from_raw_mode(stat.st_mode))
}
