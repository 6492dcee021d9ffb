//! Batches on their way to an output.

use super::books::{ByCause, Cause, Sent};
use super::spool::Place;
use crate::batch::Batch;
use std::sync::Arc;

/// Batches on their way: what of them is left to deliver, and what became of the rest. An output works
/// from the front and says of every line what became of it, exactly once.
#[derive(Debug)]
pub struct Parcel {
    items: Vec<Item>,
    /// The first item with lines left.
    at: usize,
    /// Which of the output's senders has it.
    pub(super) sender: usize,
    /// Where it goes at the moment, and what went where; what is not yet in the books.
    sent: Vec<(Arc<str>, Sent)>,
}

/// One batch of a parcel.
#[derive(Debug)]
pub(super) struct Item {
    pub batch: Arc<Batch>,
    /// Where the spool has it.
    pub place: Option<Place>,
    /// What is not yet in the books.
    pub fate: Fate,
    lines_left: u64,
    /// Offset of the first line that is left.
    offset: usize,
}

/// What became of lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Fate {
    pub delivered: u64,
    pub bytes: u64,
    pub dropped: ByCause,
}

impl Item {
    /// Whether every line of it was delivered or given up.
    pub fn is_done(&self) -> bool {
        self.lines_left == 0
    }

    /// Lines still to be delivered.
    pub fn lines_left(&self) -> u64 {
        self.lines_left
    }

    fn rest(&self) -> &[u8] {
        &self.batch.bytes[self.offset..]
    }

    /// What is left to be delivered.
    pub fn rest_as_batch(&self) -> Batch {
        let Batch { plugin, tick, .. } = &*self.batch;
        let (plugin, tick) = (Arc::clone(plugin), *tick);
        Batch { plugin, tick, lines: self.lines_left, bytes: self.rest().to_vec() }
    }

    /// Length of the first so many lines that are left.
    fn length(&self, lines: u64) -> usize {
        if lines == self.lines_left {
            return self.rest().len();
        }
        memchr::memchr_iter(b'\n', self.rest())
            .take(usize::try_from(lines).unwrap_or(usize::MAX))
            .last()
            .map_or(0, |newline| newline + 1)
    }

    fn advance(&mut self, lines: u64) -> usize {
        let length = self.length(lines);
        self.offset += length;
        self.lines_left -= lines;
        length
    }
}

impl Parcel {
    /// A parcel of batches, none of them empty, and where the spool has each.
    #[must_use]
    pub fn new(batches: impl IntoIterator<Item = (Arc<Batch>, Option<Place>)>) -> Self {
        let item = |(batch, place): (Arc<Batch>, _)| {
            let lines_left = batch.lines;
            Item { batch, place, fate: Fate::default(), lines_left, offset: 0 }
        };
        let items = batches.into_iter().map(item).collect();
        Self { items, at: 0, sender: 0, sent: Vec::new() }
    }

    /// Whether nothing is left.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.at == self.items.len()
    }

    /// Whether all of it comes from a spool.
    #[must_use]
    pub fn is_spooled(&self) -> bool {
        self.items.iter().all(|item| item.place.is_some())
    }

    /// Lines that are left.
    #[must_use]
    pub fn lines(&self) -> u64 {
        self.items[self.at..].iter().map(|item| item.lines_left).sum()
    }

    /// Lines that are left of the first unfinished batch.
    #[must_use]
    pub fn lines_of_first(&self) -> u64 {
        self.items.get(self.at).map_or(0, |item| item.lines_left)
    }

    /// Who made the first unfinished batch.
    #[must_use]
    pub fn plugin_of_first(&self) -> Option<&Arc<str>> {
        self.items.get(self.at).map(|item| &item.batch.plugin)
    }

    /// What is left of the first unfinished batch: whole lines; empty when nothing is left.
    #[must_use]
    pub fn first(&self) -> &[u8] {
        self.items.get(self.at).map_or(&[], Item::rest)
    }

    /// The first so many of the lines that are left, as slices of whole lines in order.
    pub fn front(&self, lines: u64) -> impl Iterator<Item = &[u8]> {
        self.items[self.at..]
            .iter()
            .scan(lines, |wanted, item| {
                let lines = item.lines_left.min(*wanted);
                *wanted -= lines;
                Some(&item.rest()[..item.length(lines)])
            })
            .take_while(|slice| !slice.is_empty())
    }

    /// The last line that is left, unless it is the first one too.
    #[must_use]
    pub fn last_of_several(&self) -> Option<&[u8]> {
        let rest = self.items.last().filter(|_| self.lines() > 1)?.rest();
        rest.split_inclusive(|&byte| byte == b'\n').next_back()
    }

    /// How many of the lines that are left fit into so many bytes; at least one, if there is one.
    #[must_use]
    pub fn lines_within(&self, bytes: usize) -> u64 {
        let (mut lines, mut room) = (0, bytes);
        for item in &self.items[self.at..] {
            let rest = item.rest();
            if let Some(left) = room.checked_sub(rest.len()) {
                (lines, room) = (lines + item.lines_left, left);
            } else {
                lines += memchr::memchr_iter(b'\n', &rest[..room]).count() as u64;
                break;
            }
        }
        lines.max(u64::from(!self.is_done()))
    }

    /// What is delivered from here on goes to this one of several URLs.
    pub fn goes_to(&mut self, url: &Arc<str>) {
        if self.sent.last().is_none_or(|(last, _)| last != url) {
            self.sent.push((Arc::clone(url), Sent::default()));
        }
    }

    /// A request there failed.
    pub fn failed(&mut self) {
        if let Some((_, sent)) = self.sent.last_mut() {
            sent.errors += 1;
        }
    }

    /// The first so many lines were delivered.
    pub fn delivered(&mut self, lines: u64) {
        let mut sum = Sent::default();
        self.pass(lines, |item, lines, length| {
            let bytes = length as u64;
            item.fate.delivered += lines;
            item.fate.bytes += bytes;
            sum += Sent { lines, bytes, errors: 0 };
        });
        if let Some((_, sent)) = self.sent.last_mut() {
            *sent += sum;
        }
    }

    /// What went to which URL since this was last asked.
    pub(super) fn take_sent(&mut self) -> Vec<(Arc<str>, Sent)> {
        std::mem::take(&mut self.sent)
    }

    /// The first so many lines are given up.
    pub fn give_up(&mut self, lines: u64, cause: Cause) {
        self.pass(lines, |item, lines, _| item.fate.dropped[cause] += lines);
    }

    fn pass(&mut self, mut lines: u64, mut settle: impl FnMut(&mut Item, u64, usize)) {
        while lines > 0 && !self.is_done() {
            let item = &mut self.items[self.at];
            let now = lines.min(item.lines_left);
            let length = item.advance(now);
            settle(item, now, length);
            self.at += usize::from(item.is_done());
            lines -= now;
        }
    }

    pub(super) fn items(&mut self) -> &mut [Item] {
        &mut self.items
    }
}

/// Parcels for tests.
#[cfg(test)]
pub(super) mod testing {
    use super::*;
    use plugin_api::Tick;

    /// One batch per text.
    pub fn parcel(batches: &[impl AsRef<str>]) -> Parcel {
        let tick = Tick { seq: 0, time_ns: 1, elapsed_ns: 1 };
        Parcel::new(batches.iter().map(|text| {
            let text = text.as_ref();
            let lines = text.matches('\n').count() as u64;
            let batch = Batch { plugin: "p".into(), tick, lines, bytes: text.as_bytes().to_vec() };
            (Arc::new(batch), None)
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::testing::parcel;
    use super::*;

    fn front(parcel: &Parcel, lines: u64) -> Vec<&str> {
        parcel.front(lines).map(|slice| std::str::from_utf8(slice).unwrap()).collect()
    }

    #[test]
    fn the_front_crosses_batches_in_whole_lines() {
        let parcel = parcel(&["a\nbb\n", "c\n", "d\ne\n"]);
        assert_eq!(parcel.lines(), 5);
        assert_eq!(front(&parcel, 0), [""; 0]);
        assert_eq!(front(&parcel, 1), ["a\n"]);
        assert_eq!(front(&parcel, 4), ["a\nbb\n", "c\n", "d\n"]);
        assert_eq!(parcel.first(), b"a\nbb\n");
    }

    #[test]
    fn lines_are_counted_that_fit_into_bytes() {
        let mut parcel = parcel(&["a\nbb\n", "c\n", "d\ne\n"]);
        for (bytes, lines) in [(0, 1), (2, 1), (4, 1), (5, 2), (7, 3), (8, 3), (11, 5), (99, 5)] {
            assert_eq!(parcel.lines_within(bytes), lines, "{bytes}");
        }
        parcel.delivered(4);
        assert_eq!(parcel.lines_within(2), 1);
        parcel.delivered(1);
        assert_eq!(parcel.lines_within(99), 0);
    }

    #[test]
    fn what_went_where_is_the_sum_of_what_was_delivered() {
        let mut parcel = parcel(&["a\nbb\n", "c\n", "d\ne\n"]);
        let (one, two): (Arc<str>, Arc<str>) = ("one".into(), "two".into());
        parcel.goes_to(&one);
        parcel.delivered(1);
        parcel.failed();
        parcel.goes_to(&two);
        parcel.give_up(1, Cause::Rejected);
        parcel.delivered(2);
        parcel.goes_to(&two);
        parcel.delivered(9);
        let sent = |lines, bytes, errors| Sent { lines, bytes, errors };
        assert_eq!(parcel.take_sent(), [(one, sent(1, 2, 1)), (two, sent(3, 6, 0))]);
        assert!(parcel.take_sent().is_empty());
        let fates = parcel.items().iter().map(|item| item.fate.delivered);
        assert_eq!(fates.sum::<u64>(), 4);
    }

    #[test]
    fn every_line_is_accounted_for_once() {
        let mut parcel = parcel(&["a\nbb\n", "c\n", "d\ne\n"]);
        parcel.delivered(1);
        assert_eq!((parcel.first(), parcel.lines_of_first()), (&b"bb\n"[..], 1));
        parcel.give_up(2, Cause::Rejected);
        assert_eq!(front(&parcel, 9), ["d\ne\n"]);
        parcel.delivered(9);
        assert!(parcel.is_done() && parcel.first().is_empty() && parcel.lines() == 0);
        let fates: Vec<_> = parcel
            .items()
            .iter()
            .map(|item| (item.fate.delivered, item.fate.bytes, item.fate.dropped[Cause::Rejected]))
            .collect();
        assert_eq!(fates, [(1, 2, 1), (0, 0, 1), (2, 4, 0)]);
    }
}
