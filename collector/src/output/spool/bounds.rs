//! What goes so that the bounds in bytes and age are kept.

use super::{Lost, Spool};
use crate::output::books::Cause;

impl Spool {
    /// What ended before that is too old.
    pub(super) fn since_ns(&self, now_ns: i64) -> i64 {
        now_ns.saturating_sub(i64::try_from(self.config.age.as_nanos()).unwrap_or(i64::MAX))
    }

    /// Removes the oldest segments as long as all that waits in them is too old.
    pub(super) fn expire(&mut self, now_ns: i64, lost: &mut Lost) {
        let since_ns = self.since_ns(now_ns);
        let mut at = 0;
        while let Some(segment) = self.segments.get(at) {
            if segment.is_in_flight() {
                at += 1;
            } else if segment.sums.newest_ns().is_some_and(|newest_ns| newest_ns < since_ns) {
                self.give_up(at, Cause::SpoolAge, lost);
            } else {
                break;
            }
        }
    }

    /// Removes segments until so many bytes may be written; nothing when that cannot be reached.
    pub(super) fn make_room(&mut self, bytes: u64, lost: &mut Lost) -> bool {
        let in_flight = self.segments.iter().filter(|segment| segment.is_in_flight());
        let must_stay: u64 = in_flight.map(|segment| segment.length).sum();
        if must_stay.saturating_add(bytes) > self.config.bytes {
            return false;
        }
        let mut at = 0;
        while self.disk_bytes() + bytes > self.config.bytes {
            if self.segments[at].is_in_flight() {
                at += 1;
            } else {
                self.give_up(at, Cause::SpoolFull, lost);
            }
        }
        true
    }

    /// Removes a segment. What waits in it is lost.
    pub(super) fn give_up(&mut self, at: usize, cause: Cause, lost: &mut Lost) {
        self.sealed |= at + 1 == self.segments.len();
        if let Some(mut segment) = self.segments.remove(at) {
            lost.extend(segment.sums.drain().map(|stretch| (stretch, cause)));
            segment.remove();
        }
    }
}
