//! `HISTOGRAM`: distributions of latencies and sizes.

use super::{Extent, Idle, Lost, Piece};
use crate::exact::banks::Banks;
use plugin_api::histogram::{SLOTS, high, low};
use plugin_api::{Result, Snapshot};
use std::sync::atomic::Ordering;

/// Cells of `struct unity_histogram`: the slots, then sum and maximum.
const CELLS: usize = 256;
const SUM: usize = SLOTS;
const MAX: usize = SLOTS + 1;

/// Histograms that BPF programs add to with `histogram_add`.
///
/// Each has two halves for every CPU. A tick reads the one that the cut made quiet, so that count, sum,
/// maximum and slots speak of the very same events, and of the same ones as the plugin's tables.
pub struct Histogram {
    banks: Option<Banks>,
    divisor: u64,
    /// What each half of each histogram held when it was read before: slots and sum only grow.
    before: Vec<[u64; SLOTS + 1]>,
    /// What the division left over from sums already taken, by histogram.
    rest: Vec<u64>,
    taken: Vec<Snapshot>,
    lost: Lost,
}

impl Histogram {
    pub(crate) fn new(banks: Option<Banks>, n: usize, divisor: u64) -> Self {
        Self {
            banks,
            divisor,
            before: vec![[0; SLOTS + 1]; 2 * n],
            rest: vec![0; n],
            taken: vec![Snapshot::default(); n],
            lost: Lost::default(),
        }
    }

    /// What the i-th histogram counted since the tick before, in the unit that it shows (what was given,
    /// divided by `div`). Empty when it is taken a second time.
    ///
    /// # Panics
    /// `i` is not below the declared `n`.
    pub fn take(&mut self, i: usize) -> Snapshot {
        std::mem::take(&mut self.taken[i])
    }

    /// Values for histograms past the end.
    #[must_use]
    pub fn lost(&self) -> Lost {
        self.lost
    }
}

impl Piece for Histogram {
    fn cut(&mut self, idle: Idle, lost: Lost) -> Result<()> {
        self.lost = lost;
        let Some(banks) = &self.banks else { return Ok(()) };
        for i in 0..self.taken.len() {
            let half = 2 * i + idle.half();
            let mut now = [0; SLOTS + 1];
            let mut max = 0;
            for bank in banks.iter() {
                let cells = &bank[half * CELLS..][..CELLS];
                for (sum, cell) in now.iter_mut().zip(cells) {
                    *sum += cell.load(Ordering::Relaxed);
                }
                if cells[MAX].load(Ordering::Relaxed) > 0 {
                    max = max.max(cells[MAX].swap(0, Ordering::Relaxed));
                }
            }
            let before = std::mem::replace(&mut self.before[half], now);
            let mut snapshot = Snapshot::default();
            for (slot, count) in snapshot.slots.iter_mut().enumerate() {
                *count = now[slot] - before[slot];
            }
            let sum = now[SUM] - before[SUM] + self.rest[i];
            snapshot.sum = sum / self.divisor;
            self.rest[i] = sum % self.divisor;
            if let Some(top) = snapshot.slots.iter().rposition(|n| *n > 0) {
                snapshot.max = (max / self.divisor).clamp(low(top), high(top));
            }
            // Beside what a tick that failed did not take.
            self.taken[i].merge(&snapshot);
        }
        Ok(())
    }
    fn forget(&mut self) {
        self.taken.fill(Snapshot::default());
    }
    fn extent(&self) -> Option<Extent> {
        (self.lost != Lost::default()).then_some(Extent { keys: None, lost: self.lost })
    }
}
