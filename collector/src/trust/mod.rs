//! Which files and folders this process may rely on: those that nobody can change who could not become
//! this process's user anyway.
//!
//! A path is walked one component after the other ([`walk`]), every check is made on an open descriptor,
//! and files are opened relative to the [`Folder`] that was checked. So nobody can put another file in a
//! path's place between the check and the use.

mod folder;
mod walk;

pub use folder::{Folder, Write};
pub use walk::{open, open_secret};

use rustix::fs::Stat;
use rustix::process::{getegid, geteuid, getgroups};
use rustix::thread::capabilities;
use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

/// Permission bits by which others than the owner may write.
const OTHERS_WRITE: u32 = 0o022;
/// The bit of a folder in which nobody may rename or remove what belongs to somebody else.
const STICKY: u32 = 0o1000;

/// `--allow-insecure`
static ALLOWED: AtomicBool = AtomicBool::new(false);

/// From now on it is only a warning when others may read or change what this process relies on.
pub fn allow_insecure() {
    ALLOWED.store(true, Ordering::Relaxed);
}

/// Whether the process may do more than its user: it runs as root, or was started with capabilities. One
/// that may not checks nobody, since it can do no more harm than whoever started it.
fn privileged() -> bool {
    static PRIVILEGED: OnceLock<bool> = OnceLock::new();
    *PRIVILEGED.get_or_init(|| {
        geteuid().is_root() || capabilities(None).is_ok_and(|sets| !sets.permitted.is_empty())
    })
}

/// What is wrong with a file or folder, and what to do.
#[derive(Debug, PartialEq, Eq)]
pub struct Untrusted {
    path: PathBuf,
    fault: Flaw,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flaw {
    /// It belongs to this user.
    Owner(u32),
    /// Others than its owner may change it.
    Writable,
    /// Others may read a secret.
    Readable,
}

impl fmt::Display for Untrusted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        match self.fault {
            Flaw::Owner(owner) => write!(
                f,
                "{path} is owned by user {owner}, who is neither root nor the collector's: `chown root {path}`"
            ),
            Flaw::Writable => {
                write!(f, "others than its owner may change {path}: `chmod go-w {path}`")
            }
            Flaw::Readable => {
                write!(f, "others may read the secret in {path}: `chmod go-rwx {path}`")
            }
        }
    }
}

impl std::error::Error for Untrusted {}

impl From<Untrusted> for io::Error {
    fn from(untrusted: Untrusted) -> Self {
        io::Error::new(io::ErrorKind::PermissionDenied, untrusted)
    }
}

/// What a check is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Subject {
    /// A folder on the way, or one in which files of our own lie beside those of others.
    Way,
    /// A folder that holds nothing but ours, or a file.
    Own,
    /// A symbolic link: its mode means nothing.
    Link,
    /// A file that is only written to.
    Written,
}

/// Pure: the fault that `us` finds with an owner and mode.
fn fault(subject: Subject, owner: u32, mode: u32, us: u32) -> Option<Flaw> {
    if owner != 0 && owner != us {
        return Some(Flaw::Owner(owner));
    }
    let closed = match subject {
        Subject::Way => mode & OTHERS_WRITE == 0 || mode & STICKY != 0,
        Subject::Own => mode & OTHERS_WRITE == 0,
        Subject::Link | Subject::Written => true,
    };
    (!closed).then_some(Flaw::Writable)
}

fn check(subject: Subject, stat: &Stat, path: &Path) -> Result<(), Untrusted> {
    match fault(subject, stat.st_uid, stat.st_mode, geteuid().as_raw()) {
        Some(fault) if privileged() => judge(Untrusted { path: path.to_owned(), fault }),
        _ => Ok(()),
    }
}

/// The check of a secret's file; also for a process that may do nothing else than its user.
fn check_readers(stat: &Stat, path: &Path) -> Result<(), Untrusted> {
    let ours = |gid| {
        gid == 0
            || gid == getegid().as_raw()
            || getgroups().is_ok_and(|groups| groups.iter().any(|group| group.as_raw() == gid))
    };
    if stat.st_mode & 0o007 == 0 && (stat.st_mode & 0o070 == 0 || ours(stat.st_gid)) {
        return Ok(());
    }
    judge(Untrusted { path: path.to_owned(), fault: Flaw::Readable })
}

/// An error, or with `--allow-insecure` a warning, once.
fn judge(untrusted: Untrusted) -> Result<(), Untrusted> {
    static WARNED: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());
    if !ALLOWED.load(Ordering::Relaxed) {
        return Err(untrusted);
    }
    if WARNED.lock().unwrap_or_else(PoisonError::into_inner).insert(untrusted.path.clone()) {
        if log::max_level() == log::LevelFilter::Off {
            // The configuration is read before it says how much is logged.
            eprintln!("collector: warn: {untrusted} (allowed by --allow-insecure)");
        } else {
            log::warn!("{untrusted} (allowed by --allow-insecure)");
        }
    }
    Ok(())
}

#[cfg(test)]
pub mod testing {
    //! For tests that need a secret.

    use std::fs::File;
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    use std::path::Path;

    /// Writes a file that nobody else may read.
    pub fn write_secret(path: &Path, text: &str) {
        let mut options = File::options();
        let file = options.write(true).create(true).truncate(true).mode(0o600).open(path);
        file.unwrap().write_all(text.as_bytes()).unwrap();
    }
}
#[cfg(test)]
mod tests;
