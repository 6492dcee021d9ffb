//! Walking a path: one component after the other, each opened without following a link, and checked.

use super::folder::{Folder, not_a_file};
use super::{Subject, check, check_readers};
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, fstat, openat, readlinkat, statat};
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
pub(super) enum End {
    Folder(Folder),
    /// Something else of that name, which is no link and no folder.
    Other(Folder, OsString),
    /// Nothing of that name; whether it was the path's last component.
    Missing(Folder, OsString, bool),
}

/// A path's last component.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Last {
    /// Followed when it is a link, as those before it are.
    Followed,
    /// Must be no link.
    NoLink,
}

/// Walks a path. Folders and links on the way must belong to root or to us, and folders be closed to
/// others' writing, or sticky: then nobody else can change where it leads.
pub(super) fn walk(path: &Path, last: Last) -> io::Result<End> {
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
                Some(Errno::NOENT) => return Ok(End::Missing(here, name, rest.is_empty())),
                Some(Errno::NOTDIR | Errno::LOOP) => {
                    let Some(target) = link(&here, &name, &at)? else {
                        return if rest.is_empty() {
                            Ok(End::Other(here, name))
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
    Ok(End::Folder(here))
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

/// An error that names the place.
pub(super) fn failed(errno: Errno, at: &Path) -> io::Error {
    let error = io::Error::from(errno);
    io::Error::new(error.kind(), format!("{}: {error}", at.display()))
}

pub(super) fn missing(folder: &Folder, name: &OsStr) -> io::Error {
    let text = format!("{} does not exist", folder.path().join(name).display());
    io::Error::new(io::ErrorKind::NotFound, text)
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
        End::Other(folder, name) => Ok((folder, name)),
        End::Missing(folder, name, _) => Err(missing(&folder, &name)),
        End::Folder(_) => Err(not_a_file(FileType::Directory)),
    }
}

/// What a name in a folder is, without following it; none when there is nothing.
pub(super) fn kind_of(folder: &Folder, name: &OsStr) -> Option<FileType> {
    let stat = statat(folder, name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
    Some(FileType::from_raw_mode(stat.st_mode))
}
