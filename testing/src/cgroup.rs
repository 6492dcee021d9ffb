//! A test in a cgroup of its own.

use std::fs;
use std::io::{Error, ErrorKind, Result};
use std::path::{Path, PathBuf};

/// This process in a cgroup of its own, two levels below the one that it comes from; dropping it goes back.
#[derive(Debug)]
pub struct Moved {
    home: PathBuf,
    parent: PathBuf,
}

impl Moved {
    /// Moves.
    ///
    /// # Errors
    /// No cgroup2 file system is mounted, or it does not let this process move.
    pub fn new() -> Result<Self> {
        let mounts = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"].map(Path::new);
        let mut mounts = mounts.into_iter().filter(|mount| mount.join("cgroup.procs").exists());
        let none = || Error::new(ErrorKind::NotFound, "no cgroup2 file system is mounted");
        let mount = mounts.next().ok_or_else(none)?;
        let own = fs::read_to_string("/proc/self/cgroup")?;
        let own = own.lines().find_map(|line| line.strip_prefix("0::/")).ok_or_else(none)?;
        let home = mount.join(own);
        let moved = Self { parent: home.join(format!("test-{}", std::process::id())), home };
        fs::create_dir_all(moved.child())?;
        fs::create_dir_all(moved.sibling())?;
        fs::write(moved.child().join("cgroup.procs"), "0")?;
        Ok(moved)
    }

    /// The cgroup that it comes from.
    #[must_use]
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// The one below that.
    #[must_use]
    pub fn parent(&self) -> &Path {
        &self.parent
    }

    /// The one below that, in which it is.
    #[must_use]
    pub fn child(&self) -> PathBuf {
        self.parent.join("child")
    }

    /// The other one below the parent.
    #[must_use]
    pub fn sibling(&self) -> PathBuf {
        self.parent.join("sibling")
    }
}

impl Drop for Moved {
    fn drop(&mut self) {
        // What cannot be removed is empty, and in nobody's way.
        let _ = fs::write(self.home.join("cgroup.procs"), "0");
        for folder in [&self.child(), &self.sibling(), &self.parent] {
            let _ = fs::remove_dir(folder);
        }
    }
}
