//! Walking a path: one component after the other, each opened without following a link, and checked.

use super::folder::{Folder, failed, not_a_file};
use super::{Subject, check, check_readers};
use rustix::fs::{CWD, FileType, Mode, OFlags, fstat, mkdirat, openat, readlinkat};
use rustix::io::Errno;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};

/// As many links as the kernel follows.
const LINKS: u32 = 40;

/// Where a path leads.
enum Reached {
    Folder(Folder),
    /// Something else of that name, which is no link and no folder.
    Other(Folder, OsString),
    /// Nothing of that name; whether it was the path's last component.
    Missing(Folder, OsString, bool),
}

/// A path's last component.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Last {
    /// Followed when it is a link, as those before it are.
    Followed,
    /// Must be no link.
    NoLink,
}

/// Walks a path. Folders and links on the way must belong to root or to us, and folders be closed to
/// others' writing, or sticky: then nobody else can change where it leads.
fn walk(path: &Path, last: Last) -> io::Result<Reached> {
    let path = std::path::absolute(path)?;
    let mut rest: Vec<OsString> = components(&path);
    let mut links = 0;
    let mut here = root()?;
    while let Some(name) = rest.pop() {
        let at = here.path().join(&name);
        if name == ".." {
            let mut above = here.path().to_owned();
            above.pop();
            here = enter(&here, &name, above)?;
            continue;
        }
        match enter(&here, &name, at.clone()) {
            Ok(folder) => here = folder,
            Err(error) => match Errno::from_io_error(&error) {
                Some(Errno::NOENT) => return Ok(Reached::Missing(here, name, rest.is_empty())),
                Some(Errno::NOTDIR | Errno::LOOP) => {
                    let Some(target) = link(&here, &name, &at)? else {
                        return if rest.is_empty() {
                            Ok(Reached::Other(here, name))
                        } else {
                            Err(failed(Errno::NOTDIR, &at))
                        };
                    };
                    if rest.is_empty() && last == Last::NoLink {
                        return Err(io::Error::other(format!(
                            "{} is a symbolic link to {}: name the file itself",
                            at.display(),
                            target.display()
                        )));
                    }
                    links += 1;
                    if links > LINKS {
                        return Err(failed(Errno::LOOP, &at));
                    }
                    if target.is_absolute() {
                        here = root()?;
                    }
                    rest.extend(components(&target));
                }
                _ => return Err(error),
            },
        }
    }
    Ok(Reached::Folder(here))
}

/// The components of a path, the first one last.
fn components(path: &Path) -> Vec<OsString> {
    let named = path.components().rev().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    });
    named.collect()
}

fn root() -> io::Result<Folder> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    folder(openat(CWD, "/", flags, Mode::empty())?, PathBuf::from("/"), false)
}

fn enter(here: &Folder, name: &OsStr, at: PathBuf) -> io::Result<Folder> {
    // With DIRECTORY the kernel mounts what is mounted on demand.
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match openat(here, name, flags, Mode::empty()) {
        Ok(fd) => folder(fd, at, here.is_private() && name != ".."),
        Err(errno @ (Errno::NOENT | Errno::NOTDIR | Errno::LOOP)) => Err(errno.into()),
        Err(errno) => Err(failed(errno, &at)),
    }
}

fn folder(fd: OwnedFd, at: PathBuf, private: bool) -> io::Result<Folder> {
    let stat = fstat(&fd)?;
    check(Subject::Way, &stat, &at)?;
    Ok(Folder::new(fd, at, private || stat.st_mode & 0o011 == 0))
}

/// Where a symbolic link leads; none when it is something else.
fn link(here: &Folder, name: &OsStr, at: &Path) -> io::Result<Option<PathBuf>> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = openat(here, name, flags, Mode::empty()).map_err(|errno| failed(errno, at))?;
    let stat = fstat(&fd)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::Symlink {
        return Ok(None);
    }
    check(Subject::Link, &stat, at)?;
    let target = readlinkat(&fd, "", Vec::new()).map_err(|errno| failed(errno, at))?;
    Ok(Some(PathBuf::from(OsString::from_vec(target.into_bytes()))))
}

fn missing(folder: &Folder, name: &OsStr) -> io::Error {
    let text = format!("{} does not exist", folder.path().join(name).display());
    io::Error::new(io::ErrorKind::NotFound, text)
}

impl Folder {
    /// Opens a folder of which nobody but root and our user may change the list of files.
    ///
    /// # Errors
    /// It is not there, no folder, or others may change it or where its path leads.
    pub fn open(path: &Path) -> io::Result<Self> {
        match walk(path, Last::Followed)? {
            Reached::Folder(folder) => folder.closed(),
            Reached::Other(folder, name) => Err(failed(Errno::NOTDIR, &folder.path().join(name))),
            Reached::Missing(folder, name, _) => Err(missing(&folder, &name)),
        }
    }

    /// The same, and makes it with mode 0700 unless it is there, with all folders above it.
    ///
    /// # Errors
    /// As [`Folder::open`].
    pub fn make(path: &Path) -> io::Result<Self> {
        while let Reached::Missing(folder, name, _) = walk(path, Last::Followed)? {
            match mkdirat(&folder, &name, Mode::RWXU) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(errno) => return Err(failed(errno, &folder.path().join(name))),
            }
        }
        Self::open(path)
    }

    /// The folder in which a file lies or is to be made, and the file's name. Others may have files of
    /// their own there, as in /tmp.
    ///
    /// # Errors
    /// It is not there, the file is a link or a folder, or others may change what lies there.
    pub fn of_file(path: &Path) -> io::Result<(Self, OsString)> {
        match walk(path, Last::NoLink)? {
            Reached::Other(folder, name) | Reached::Missing(folder, name, true) => {
                Ok((folder, name))
            }
            Reached::Missing(folder, name, false) => {
                let text = format!("its folder {}: make it first", missing(&folder, &name));
                Err(io::Error::new(io::ErrorKind::NotFound, text))
            }
            Reached::Folder(_) => Err(not_a_file(FileType::Directory)),
        }
    }

    fn closed(self) -> io::Result<Self> {
        check(Subject::Own, &fstat(&self)?, self.path())?;
        Ok(self)
    }
}

/// Opens a file to read it, through links that only trusted users can change, and checks that it is a
/// regular file that only they can change. Also where it really lies.
///
/// # Errors
/// It is not there, cannot be read, is something else than a file, or is not to be trusted: see
/// [`super::Untrusted`].
pub fn open(path: &Path) -> io::Result<(File, PathBuf)> {
    let (folder, name) = find(path)?;
    let file = folder.read(&name)?;
    Ok((file, folder.path().join(name)))
}

/// The same for a file that only its owner may read, or a group that is ours or root's.
///
/// # Errors
/// As [`open`], or others may read it.
pub fn open_secret(path: &Path) -> io::Result<File> {
    let (folder, name) = find(path)?;
    let file = folder.read(&name)?;
    if !folder.is_private() {
        check_readers(&fstat(&file)?, &folder.path().join(name))?;
    }
    Ok(file)
}

fn find(path: &Path) -> io::Result<(Folder, OsString)> {
    match walk(path, Last::Followed)? {
        Reached::Other(folder, name) => Ok((folder, name)),
        Reached::Missing(folder, name, _) => Err(missing(&folder, &name)),
        Reached::Folder(_) => Err(not_a_file(FileType::Directory)),
    }
}
