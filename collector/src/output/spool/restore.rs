//! What is done when somebody has removed the folder while it is in use.

use super::Spool;
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

impl Spool {
    /// Makes the folder again when it was removed or moved away, and begins a new segment when the last
    /// one was. What is still open of the old ones can be read until the process ends.
    ///
    /// # Errors
    /// The folder cannot be made or locked.
    pub(super) fn restore(&mut self) -> io::Result<()> {
        if !self.lock.is_in(&self.folder) {
            let made = Self::folder(&self.config, &self.output);
            (self.folder, self.lock) = made.map_err(|why| io::Error::other(format!("{why:#}")))?;
            let path = self.folder.path().display();
            log::warn!("{path} was removed or moved away: it is made again");
            self.seal();
        } else if self.segments.back().is_some_and(|last| !self.sealed && !last.is_there()) {
            let path = self.folder.path().display();
            log::warn!("segments in {path} were removed: a new one is begun");
            self.seal();
        }
        Ok(())
    }
}

/// Whether a path leads to an open file; also when that cannot be said.
pub fn leads_to(path: &Path, file: &File) -> bool {
    match (fs::symlink_metadata(path), file.metadata()) {
        (Ok(there), Ok(open)) => (there.dev(), there.ino()) == (open.dev(), open.ino()),
        (Err(why), _) => !matches!(why.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory),
        (Ok(_), Err(_)) => true,
    }
}
