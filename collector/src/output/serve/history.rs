//! The last 15 minutes of a number and of a histogram, in memory that is counted.
//!
//! Time is cut into slots. What counts is added up in each, of what is there is the last one. Nothing is kept of a
//! number that was 0 all the time.

use plugin_api::histogram::BUCKETS;

/// How many slots are kept.
pub const SLOTS: u32 = 180;
/// How long one is.
pub const SLOT_NS: i64 = 5_000_000_000;
/// Bytes of all that is kept; what comes then is kept without its past.
pub const BYTES: usize = 5 << 20;

/// The slot of a time.
pub fn slot(time_ns: i64) -> u32 {
    u32::try_from(time_ns / SLOT_NS).unwrap_or_default()
}

/// How much room is left.
#[derive(Debug)]
pub struct Budget(usize);

impl Budget {
    /// All of it.
    pub fn new(bytes: usize) -> Self {
        Self(bytes)
    }

    fn take(&mut self, bytes: usize) -> bool {
        let left = self.0.checked_sub(bytes);
        self.0 = left.unwrap_or(self.0);
        left.is_some()
    }

    /// Gives back what something took that is dropped.
    pub fn give(&mut self, bytes: usize) {
        self.0 += bytes;
    }
}

/// Forgets the slots between the newest one and this one, which becomes the newest. None when it is too old.
fn forward(head: &mut u32, slot: u32, mut clear: impl FnMut(usize)) -> Option<usize> {
    if *head >= slot.saturating_add(SLOTS) {
        return None;
    }
    if slot > *head {
        for gone in slot.saturating_sub(SLOTS - 1).max(*head + 1)..=slot {
            clear((gone % SLOTS) as usize);
        }
        *head = slot;
    }
    Some((slot % SLOTS) as usize)
}

/// A number's past.
#[derive(Debug, Default)]
pub struct Ring(Option<Box<Cells>>);

#[derive(Debug)]
struct Cells {
    head: u32,
    /// What a slot has in which nothing came.
    nothing: f32,
    values: [f32; SLOTS as usize],
}

impl Ring {
    /// Adds to a slot, or says what is in it. `nothing` is what the other slots have.
    pub fn put(&mut self, slot: u32, value: f32, nothing: f32, budget: &mut Budget) {
        if self.0.is_none() && (value == 0.0 || !budget.take(size_of::<Cells>())) {
            return;
        }
        let cells = self.0.get_or_insert_with(|| {
            Box::new(Cells { head: slot, nothing, values: [nothing; SLOTS as usize] })
        });
        let Cells { head, values, .. } = &mut **cells;
        let Some(at) = forward(head, slot, |gone| values[gone] = nothing) else { return };
        values[at] = if nothing == 0.0 { values[at] + value } else { value };
    }

    /// What a slot has; none when nothing is kept.
    pub fn get(&self, slot: u32) -> Option<f32> {
        let Cells { head, nothing, values } = &**self.0.as_ref()?;
        let kept = slot <= *head && *head < slot + SLOTS;
        Some(if kept { values[(slot % SLOTS) as usize] } else { *nothing })
    }

    /// What it takes.
    pub fn bytes(&self) -> usize {
        self.0.as_ref().map_or(0, |_| size_of::<Cells>())
    }
}

/// A histogram's past: a row of counts for each slot, of those buckets alone that ever had any.
#[derive(Debug, Default)]
pub struct Heat {
    head: u32,
    low: usize,
    width: usize,
    cells: Vec<u32>,
}

impl Heat {
    /// Adds the counts of an interval to a slot.
    pub fn add(&mut self, slot: u32, buckets: &[u64; BUCKETS], budget: &mut Budget) {
        let Some(first) = buckets.iter().position(|n| *n > 0) else { return };
        let last = buckets.iter().rposition(|n| *n > 0).unwrap_or(first);
        if !self.reach(first, last, slot, budget) {
            return;
        }
        let Self { head, low, width, cells } = self;
        let (low, width) = (*low, *width);
        let row = |at: usize| at * width..(at + 1) * width;
        let Some(at) = forward(head, slot, |gone| cells[row(gone)].fill(0)) else { return };
        for (cell, n) in cells[row(at)].iter_mut().zip(&buckets[low..]) {
            *cell = cell.saturating_add(u32::try_from(*n).unwrap_or(u32::MAX));
        }
    }

    /// Makes room for these buckets.
    fn reach(&mut self, first: usize, last: usize, slot: u32, budget: &mut Budget) -> bool {
        let (low, end) = match self.width {
            0 => (first, last + 1),
            width => (first.min(self.low), (last + 1).max(self.low + width)),
        };
        let width = end - low;
        if width == self.width {
            return true;
        }
        let bytes = |width: usize| SLOTS as usize * width * size_of::<u32>();
        if !budget.take(bytes(width) - bytes(self.width)) {
            return false;
        }
        let mut cells = vec![0; SLOTS as usize * width];
        if self.width == 0 {
            self.head = slot;
        } else {
            let shift = self.low - low;
            for (new, old) in cells.chunks_mut(width).zip(self.cells.chunks(self.width)) {
                new[shift..shift + old.len()].copy_from_slice(old);
            }
        }
        (self.low, self.width, self.cells) = (low, width, cells);
        true
    }

    /// The first bucket that is kept.
    pub fn low(&self) -> usize {
        self.low
    }

    /// The counts of a slot, from that bucket on.
    pub fn row(&self, slot: u32) -> &[u32] {
        let kept = slot <= self.head && self.head < slot + SLOTS && self.width > 0;
        let at = (slot % SLOTS) as usize * self.width;
        if kept { &self.cells[at..at + self.width] } else { &[] }
    }

    /// What it takes.
    pub fn bytes(&self) -> usize {
        self.cells.len() * size_of::<u32>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ring_keeps_the_last_slots_and_nothing_of_zeros() {
        let (mut ring, mut budget) = (Ring::default(), Budget::new(2000));
        ring.put(1000, 0.0, 0.0, &mut budget);
        assert_eq!((ring.get(1000), ring.bytes()), (None, 0));
        for (slot, value) in [(1000, 1.0), (1000, 2.0), (1002, 5.0), (1001, 7.0)] {
            ring.put(slot, value, 0.0, &mut budget);
        }
        let found = [999, 1000, 1001, 1002, 1003].map(|slot| ring.get(slot));
        assert_eq!(found, [Some(0.0), Some(3.0), Some(7.0), Some(5.0), Some(0.0)]);
        ring.put(1002 + SLOTS, 4.0, 0.0, &mut budget);
        assert_eq!(ring.get(1002), Some(0.0), "it is too old");
        ring.put(1002, 4.0, 0.0, &mut budget);
        assert_eq!(ring.get(1002 + SLOTS), Some(4.0), "what is too old changes nothing");
        ring.put(u32::MAX, 4.0, 0.0, &mut budget);

        let mut gauge = Ring::default();
        gauge.put(1, 3.0, f32::NAN, &mut budget);
        gauge.put(1, 2.0, f32::NAN, &mut budget);
        gauge.put(3, 0.0, f32::NAN, &mut budget);
        assert_eq!((gauge.get(1), gauge.get(3)), (Some(2.0), Some(0.0)));
        assert!(gauge.get(2).unwrap().is_nan());

        let mut third = Ring::default();
        third.put(1, 1.0, 0.0, &mut budget);
        assert_eq!(third.get(1), None, "there is no room");
        budget.give(gauge.bytes());
        third.put(1, 1.0, 0.0, &mut budget);
        assert_eq!(third.get(1), Some(1.0));
    }

    #[test]
    fn a_heat_map_grows_to_the_buckets_that_come() {
        let (mut heat, mut budget) = (Heat::default(), Budget::new(SLOTS as usize * 4 * 5));
        let buckets = |filled: &[(usize, u64)]| {
            let mut buckets = [0; BUCKETS];
            filled.iter().for_each(|(n, count)| buckets[*n] = *count);
            buckets
        };
        heat.add(7, &buckets(&[]), &mut budget);
        assert_eq!((heat.row(7), heat.bytes()), (&[][..], 0));
        heat.add(7, &buckets(&[(3, 2), (4, 1)]), &mut budget);
        heat.add(7, &buckets(&[(3, 2)]), &mut budget);
        heat.add(8, &buckets(&[(1, 9)]), &mut budget);
        assert_eq!(
            (heat.low(), heat.row(7), heat.row(8)),
            (1, &[0, 0, 4, 1][..], &[9, 0, 0, 0][..])
        );
        heat.add(9, &buckets(&[(63, 1)]), &mut budget);
        assert_eq!(heat.row(9), [0; 0], "there is no room for so many buckets");
        heat.add(8 + SLOTS, &buckets(&[(1, 1)]), &mut budget);
        assert_eq!((heat.row(8), heat.row(8 + SLOTS)), (&[][..], &[1, 0, 0, 0][..]));
    }
}
