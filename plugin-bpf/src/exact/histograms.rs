//! `HISTOGRAMS`: a histogram for every key of an unbounded set.

use super::{Extent, Idle, Lost, Piece};
use crate::Record;
use crate::maps::RawMap;
use crate::object::record::{bytes, from_bytes};
use plugin_api::histogram::{SLOTS, high, low};
use plugin_api::{Result, Snapshot};
use std::collections::HashMap;

/// Keys whose remainder of a division is remembered.
const REMEMBERED: usize = 4096;

/// Histograms by key, that BPF programs add to with `histograms_add`.
///
/// Kept as one cell for every slot that a key has values in, so a key with few values costs little. The
/// declared number of cells fits between two ticks; what comes later is counted in [`Histograms::lost`].
/// The maximum of a key may be understated where the kernel has no fetching atomics, within its quarter of
/// a power of two.
pub struct Histograms<K> {
    halves: Option<[RawMap; 2]>,
    divisor: u64,
    taken: Vec<(K, Snapshot)>,
    /// What the division left over, by key; of keys that are forgotten, in sum.
    rest: HashMap<Box<[u8]>, u64>,
    forgotten: u64,
    lost: Lost,
    cells: u64,
}

/// `struct unity_sums`.
type Sums = [u64; 3];

impl<K: Record> Histograms<K> {
    pub(crate) fn new(halves: Option<[RawMap; 2]>, divisor: u64) -> Self {
        Self {
            halves,
            divisor,
            taken: Vec::new(),
            rest: HashMap::new(),
            forgotten: 0,
            lost: Lost::default(),
            cells: 0,
        }
    }

    /// What each key counted since the tick before, in the unit that it shows. In no order.
    pub fn take(&mut self) -> Vec<(K, Snapshot)> {
        std::mem::take(&mut self.taken)
    }

    /// What found no room since the tick before.
    #[must_use]
    pub fn lost(&self) -> Lost {
        self.lost
    }

    /// A key's sum in the unit that it shows; what the division leaves over comes with a later tick.
    fn divided(&mut self, key: &K, sum: u64) -> u64 {
        if self.rest.len() >= REMEMBERED && !self.rest.contains_key(bytes(key)) {
            self.forgotten += self.rest.drain().map(|(_, rest)| rest).sum::<u64>();
        }
        let rest = self.rest.entry(bytes(key).into()).or_default();
        let sum = sum + *rest + std::mem::take(&mut self.forgotten);
        *rest = sum % self.divisor;
        sum / self.divisor
    }
}

impl<K: Record> Piece for Histograms<K> {
    fn cut(&mut self, idle: Idle, lost: Lost) -> Result<()> {
        self.lost = lost;
        let Some(halves) = &mut self.halves else { return Ok(()) };
        let mut by_key: HashMap<Box<[u8]>, (Snapshot, u64)> = HashMap::new();
        let mut cells = 0;
        let drained = halves[idle.half()].drain_batch(|cell, value| {
            cells += 1;
            let slot_at = size_of::<K>().next_multiple_of(4);
            let slot = from_bytes::<u32>(&cell[slot_at..]) as usize;
            let [count, sum, max]: Sums = from_bytes(value);
            if slot >= SLOTS {
                return; // no program writes that
            }
            let (snapshot, given) = by_key.entry(cell[..size_of::<K>()].into()).or_default();
            snapshot.slots[slot] += count;
            *given += sum;
            let max = (max / self.divisor).clamp(low(slot), high(slot));
            snapshot.max = snapshot.max.max(max);
        });
        self.cells = cells;
        for (key, (mut snapshot, given)) in by_key {
            let key = from_bytes(&key);
            snapshot.sum = self.divided(&key, given);
            self.taken.push((key, snapshot));
        }
        drained
    }
    fn forget(&mut self) {
        self.taken.clear();
    }
    fn extent(&self) -> Option<Extent> {
        self.halves.as_ref().map(|_| Extent { keys: Some(self.cells), lost: self.lost })
    }
}
