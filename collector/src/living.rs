//! A folder that is looked at while the collector runs: when something is told of it, and now and then.

use crate::event::Seen;
use crate::settle::{Changes, Listing, SETTLED, Settling, Stamp};
use crate::watch::{Wanted, Watch};
use anyhow::Result;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How often it is looked at when nothing is told: there are file systems that tell of nothing, and the number of watches
/// of a user is limited.
const NOW_AND_THEN: Duration = Duration::from_secs(10);

/// Which files of a folder matter.
type Files = Box<dyn Fn() -> Result<Vec<PathBuf>>>;

/// Files of a folder.
pub struct Living {
    dir: PathBuf,
    files: Files,
    wanted: Wanted,
    watch: Option<i32>,
    settling: Settling,
    /// When it was last looked at, and whether something is not complete yet.
    looked: Instant,
    more: bool,
    /// Something was told of it since.
    told: bool,
    /// It could not be read when it was last looked at.
    failing: bool,
}

impl Living {
    /// Takes the files as they are: what becomes of them from now on is a change.
    #[must_use]
    pub fn new(dir: &Path, wanted: Wanted, files: Files, watch: &Watch) -> Self {
        let number = watch.folder(dir, &wanted); // before the files are listed, so that no change is missed
        let listing = files().map(|files| listing(&files)).unwrap_or_default();
        Self {
            dir: dir.to_owned(),
            settling: Settling::new(listing),
            files,
            wanted,
            watch: number,
            looked: Instant::now(),
            more: false,
            told: false,
            failing: false,
        }
    }

    /// Something was seen somewhere.
    pub fn hear(&mut self, seen: &Seen) {
        let overflow = seen.watch == -1;
        if overflow || Some(seen.watch) == self.watch {
            self.settling.hear(&seen.name, seen.what);
            self.told = true;
        }
    }

    /// How long nothing needs to be done.
    #[must_use]
    pub fn sleep(&self, now: Instant) -> Duration {
        if self.told {
            return Duration::ZERO;
        }
        let pause = if self.more { SETTLED } else { NOW_AND_THEN };
        (self.looked + pause).saturating_duration_since(now)
    }

    /// Looks at it, if it is time to.
    pub fn look(&mut self, watch: &Watch, now: Instant) -> Changes {
        if !self.sleep(now).is_zero() {
            return Changes::default();
        }
        if !self.told {
            // Another folder may have come to its place.
            self.watch = watch.folder(&self.dir, &self.wanted);
        }
        (self.looked, self.told) = (now, false);
        let files = match (self.files)() {
            Ok(files) => files,
            Err(error) => {
                if !std::mem::replace(&mut self.failing, true) {
                    log::error!("{error:#}: what runs goes on");
                }
                return Changes::default();
            }
        };
        self.failing = false;
        let changes = self.settling.look(&listing(&files), now);
        self.more = changes.more;
        changes
    }

    /// Where a file lies.
    #[must_use]
    pub fn path(&self, name: &std::ffi::OsStr) -> PathBuf {
        self.dir.join(name)
    }

    /// The files that are there.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn files(&self) -> Result<Vec<PathBuf>> {
        (self.files)()
    }
}

fn listing(files: &[PathBuf]) -> Listing {
    let stamped =
        |path: &PathBuf| Some((path.file_name()?.to_owned(), Stamp::of(&fs::metadata(path).ok()?)));
    files.iter().filter_map(stamped).collect()
}
