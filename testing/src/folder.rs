//! A folder of one test.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// A new folder for temporary files, which is removed with what is in it when this is dropped.
#[derive(Debug)]
pub struct Folder(PathBuf);

impl Folder {
    /// With a word of its own in its name.
    ///
    /// # Panics
    /// There is no room for another one.
    #[must_use]
    pub fn new(word: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("{word}-{}-{number}", std::process::id()));
        fs::create_dir_all(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Self(path)
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// A place in it.
    #[must_use]
    pub fn at(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Writes a file in it, with the folders above, in place of what is there: a new inode, as packages do it.
    ///
    /// # Panics
    /// It cannot be written.
    pub fn write(&self, name: &str, content: &[u8]) -> PathBuf {
        let (new, path) = (self.at(".new"), self.at(name));
        let folder = path.parent().expect("it has a name");
        fs::create_dir_all(folder)
            .and_then(|()| fs::write(&new, content))
            .and_then(|()| fs::rename(&new, &path))
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        path
    }

    /// The same with a copy of a file, and its mode.
    ///
    /// # Panics
    /// It cannot be written, or the other one cannot be read.
    pub fn copy(&self, from: &Path, name: &str) -> PathBuf {
        let (new, path) = (self.at(".new"), self.at(name));
        fs::copy(from, &new)
            .and_then(|_| fs::rename(&new, &path))
            .unwrap_or_else(|error| panic!("{} as {}: {error}", from.display(), path.display()));
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // A file system may be mounted in it that is gone before it.
        let _ = fs::remove_dir_all(&self.0);
    }
}
