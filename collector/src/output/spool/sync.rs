//! When the disk is told to keep what was written.

use super::segment::Segment;
use super::{Place, Spool};
use std::io;
use std::time::{Duration, Instant};

/// At most so often; and what is done sooner never has to reach the disk.
const PAUSE: Duration = Duration::from_secs(1);

/// Looks once in [`PAUSE`] whether something is still there that was there the last time.
#[derive(Debug)]
pub struct Pace {
    looked: Instant,
    /// Where the spool ended then.
    end: Place,
}

impl Pace {
    pub fn new(now: Instant, end: Place) -> Self {
        Self { looked: now, end }
    }

    /// Whether it is time. `oldest` is the first record that is not done, `end` where the next one goes.
    pub fn is_due(&mut self, now: Instant, oldest: Option<Place>, end: Place) -> bool {
        if now.duration_since(self.looked) < PAUSE {
            return false;
        }
        let due = oldest.is_some_and(|oldest| oldest < self.end);
        *self = Self::new(now, end);
        due
    }

    /// A segment is written again from its start.
    pub fn cleared(&mut self, segment: u64) {
        if self.end.segment == segment {
            self.end.offset = 0;
        }
    }
}

impl Spool {
    /// Has the disk keep a backlog, so that a loss of power costs about a second of it.
    pub(super) fn sync_backlog(&mut self) {
        let oldest = self.segments.iter().find_map(Segment::oldest);
        let end = self.segments.back().map_or(Place { segment: self.next, offset: 0 }, |last| {
            Place { segment: last.number, offset: last.length }
        });
        if !self.pace.is_due(Instant::now(), oldest, end) {
            return;
        }
        match self.sync() {
            Ok(()) => self.sync_failed = false,
            Err(why) => {
                if !std::mem::replace(&mut self.sync_failed, true) {
                    log::warn!("{} does not reach the disk: {why}", self.folder.path().display());
                }
            }
        }
    }

    fn sync(&mut self) -> io::Result<()> {
        let last = self.segments.len().saturating_sub(1);
        for (at, segment) in self.segments.iter_mut().enumerate() {
            segment.sync()?;
            if at < last {
                segment.close();
            }
        }
        if self.new_file {
            self.folder.sync()?;
            self.new_file = false;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(segment: u64, offset: u64) -> Place {
        Place { segment, offset }
    }

    #[test]
    fn only_what_stays_longer_than_a_second_is_synced_and_once_a_second() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut pace = Pace::new(start, place(0, 0));
        assert!(!pace.is_due(at(500), Some(place(0, 0)), place(0, 90)), "too early");
        assert!(!pace.is_due(at(1000), Some(place(0, 50)), place(0, 90)), "all of it is young");
        assert!(!pace.is_due(at(1900), Some(place(0, 50)), place(0, 95)), "too early");
        assert!(pace.is_due(at(2000), Some(place(0, 50)), place(1, 10)));
        assert!(!pace.is_due(at(2001), Some(place(0, 50)), place(1, 20)), "just done");
        assert!(pace.is_due(at(3000), Some(place(1, 0)), place(1, 30)));
        assert!(!pace.is_due(at(4000), None, place(1, 30)), "nothing is left");
        assert!(!pace.is_due(at(5000), Some(place(1, 30)), place(1, 40)), "all of it is young");
    }

    #[test]
    fn what_was_written_over_is_not_taken_for_old() {
        let start = Instant::now();
        let mut pace = Pace::new(start, place(3, 90));
        pace.cleared(3);
        assert!(!pace.is_due(start + PAUSE, Some(place(3, 0)), place(3, 50)));
    }
}
