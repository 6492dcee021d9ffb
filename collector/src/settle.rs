//! Which files of a folder have changed and are complete: pure decisions.
//!
//! A file that somebody writes to is complete when it is closed, one that is moved into its place at once. Where nobody
//! tells of that, or a file was linked into its place, it is complete when it has not changed for a while.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

/// How long a file must stay as it is when nobody tells that it is complete.
pub const SETTLED: Duration = Duration::from_secs(2);

/// What has happened to a file of a folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// It is there, and perhaps about to be written.
    Created,
    /// Somebody writes to it.
    Written,
    /// Whoever wrote to it has closed it, or it was moved there as a whole.
    Complete,
    /// Something else.
    Changed,
    /// More has happened than was told.
    Overflow,
}

/// By what a change of a file is noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    file: (u64, u64),
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    /// Of a file.
    #[must_use]
    pub fn of(metadata: &Metadata) -> Self {
        Self {
            file: (metadata.dev(), metadata.ino()),
            size: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// The files of a folder.
pub type Listing = BTreeMap<OsString, Stamp>;

#[derive(Clone, Copy, Debug)]
struct Noted {
    /// What it was when it was last taken.
    taken: Option<Stamp>,
    /// What it is, and since when.
    now: Option<(Stamp, Instant)>,
    last: What,
}

/// What has become of a folder.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// These are to be taken.
    pub complete: Vec<OsString>,
    /// These are gone.
    pub gone: Vec<OsString>,
    /// Others may be complete after [`SETTLED`].
    pub more: bool,
}

/// What is known of a folder.
#[derive(Debug)]
pub struct Settling(BTreeMap<OsString, Noted>);

impl Settling {
    /// All files are taken as they are.
    #[must_use]
    pub fn new(listing: Listing) -> Self {
        let known = |stamp| Noted { taken: Some(stamp), now: None, last: What::Changed };
        Self(listing.into_iter().map(|(name, stamp)| (name, known(stamp))).collect())
    }

    /// Something has happened to a file.
    pub fn hear(&mut self, name: &OsStr, what: What) {
        if what == What::Overflow {
            self.0.values_mut().for_each(|known| known.last = What::Changed);
            return;
        }
        let new = Noted { taken: None, now: None, last: What::Changed };
        let known = self.0.entry(name.to_owned()).or_insert(new);
        match what {
            What::Created if known.last == What::Written => {}
            What::Changed | What::Overflow => {}
            what => known.last = what,
        }
    }

    /// Looks at all files.
    pub fn look(&mut self, listing: &Listing, now: Instant) -> Changes {
        let mut changes = Changes::default();
        self.0.retain(|name, known| {
            let here = listing.contains_key(name);
            if !here && known.taken.is_some() {
                changes.gone.push(name.clone());
            }
            here
        });
        for (name, stamp) in listing {
            let new = Noted { taken: None, now: None, last: What::Changed };
            let known = self.0.entry(name.clone()).or_insert(new);
            if known.taken == Some(*stamp) {
                continue;
            }
            let since = match known.now {
                Some((before, since)) if before == *stamp => since,
                _ => now,
            };
            known.now = Some((*stamp, since));
            let complete = match known.last {
                What::Complete => true,
                What::Written => false,
                _ => stamp.size > 0 && now.duration_since(since) >= SETTLED,
            };
            if complete {
                *known = Noted { taken: Some(*stamp), now: None, last: What::Changed };
                changes.complete.push(name.clone());
            } else if known.last != What::Written {
                changes.more = true;
            }
        }
        changes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(size: u64) -> Stamp {
        Stamp { file: (1, 1), size, modified: (0, 0), changed: (0, 0) }
    }

    fn listing(size: u64) -> Listing {
        Listing::from([("x.so".into(), stamp(size))])
    }

    fn taken(changes: &Changes) -> bool {
        changes.complete == ["x.so"]
    }

    #[test]
    fn a_file_that_is_written_is_taken_when_it_is_closed_and_once() {
        let now = Instant::now();
        let mut folder = Settling::new(Listing::new());
        let name = OsStr::new("x.so");
        folder.hear(name, What::Created);
        assert!(!taken(&folder.look(&listing(0), now)));
        for (size, s) in [(10, 1), (10, 100), (20, 1000)] {
            folder.hear(name, What::Written);
            let later = now + Duration::from_secs(s);
            assert_eq!(folder.look(&listing(size), later), Changes::default(), "{s}");
        }
        folder.hear(name, What::Complete);
        assert!(taken(&folder.look(&listing(20), now)));
        assert_eq!(folder.look(&listing(20), now), Changes::default());
        folder.hear(name, What::Complete); // opened to write, and closed
        assert_eq!(folder.look(&listing(20), now), Changes::default());
    }

    #[test]
    fn a_file_that_nobody_tells_of_is_taken_when_it_stays_as_it_is() {
        let now = Instant::now();
        let mut folder = Settling::new(listing(5));
        let at = |s: f64| now + Duration::from_secs_f64(s);
        assert_eq!(folder.look(&listing(5), at(0.0)), Changes::default());
        for (size, s, complete) in
            [(6, 1.0, false), (7, 2.9, false), (7, 4.8, false), (7, 4.9, true)]
        {
            let changes = folder.look(&listing(size), at(s));
            assert_eq!((taken(&changes), changes.more), (complete, !complete), "{s}");
        }
        let gone = folder.look(&Listing::new(), at(5.0));
        assert_eq!(gone.gone, ["x.so"]);
        assert_eq!(folder.look(&Listing::new(), at(6.0)), Changes::default());
    }

    #[test]
    fn when_more_has_happened_than_was_told_time_decides() {
        let now = Instant::now();
        let mut folder = Settling::new(Listing::new());
        folder.hear(OsStr::new("x.so"), What::Written);
        folder.hear(OsStr::new(""), What::Overflow);
        assert!(!taken(&folder.look(&listing(5), now)));
        assert!(taken(&folder.look(&listing(5), now + SETTLED)));
    }
}
