//! `HISTOGRAM`: distributions of latencies and sizes.

use crate::Idle;
use crate::banks::Banks;
use libbpf_rs::MapCore;
use plugin_api::histogram::{SLOTS, high, low};
use plugin_api::{Result, Snapshot, ensure};
use std::sync::atomic::Ordering;

/// Cells of `struct unity_histogram`: the slots, then sum and maximum.
const CELLS: usize = 256;
const SUM: usize = SLOTS;
const MAX: usize = SLOTS + 1;
/// Of the first histogram of the first bank: what [`declare`] wrote.
const DIVISOR: usize = SLOTS + 2;

/// Histograms that BPF programs add to with `histogram_add`.
///
/// Each has two halves for every CPU. [`Histogram::take`] reads the one that [`crate::Halves::flip`]
/// made idle, so that count, sum, maximum and slots of a tick speak of the very same events.
pub struct Histogram {
    banks: Banks,
    divisor: u64,
    /// What each half of each histogram held when it was read before: slots and sum only grow, so that
    /// even a straggler's event is never lost.
    before: Vec<[u64; SLOTS + 1]>,
    /// What the division left over from sums already taken, by histogram.
    rest: Vec<u64>,
}

impl Histogram {
    /// Reads a map that was declared with `HISTOGRAM(name, n, div)`.
    ///
    /// # Errors
    /// It was declared in another way.
    pub fn of(map: &dyn MapCore) -> Result<Self> {
        let banks = Banks::of(map, "HISTOGRAM")?;
        ensure!(
            is_value_size(map.value_size()),
            "map `{}` was not declared with HISTOGRAM",
            map.name().to_string_lossy()
        );
        let halves = banks.bank_len() / CELLS;
        let divisor = banks.iter().next().map_or(0, |bank| bank[DIVISOR].load(Ordering::Relaxed));
        ensure!(divisor > 0, "a histogram's map must be loaded by plugin_bpf::Skeleton");
        Ok(Self { banks, divisor, before: vec![[0; SLOTS + 1]; halves], rest: vec![0; halves / 2] })
    }

    /// What the i-th histogram counted until the flip, in the unit that it shows (what was given, divided
    /// by `div`).
    ///
    /// # Panics
    /// `i` is not below the declared `n`.
    pub fn take(&mut self, idle: &Idle<'_>, i: usize) -> Snapshot {
        let half = 2 * i + idle.half();
        let mut now = [0; SLOTS + 1];
        let mut max = 0;
        for bank in self.banks.iter() {
            let cells = &bank[half * CELLS..][..CELLS];
            for (sum, cell) in now.iter_mut().zip(cells) {
                *sum += cell.load(Ordering::Relaxed);
            }
            max = max.max(cells[MAX].swap(0, Ordering::Relaxed));
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
        snapshot
    }
}

/// Writes the declared divisor where [`Histogram::of`] finds it, once the map is loaded.
pub(crate) fn declare(map: &dyn MapCore, divisor: u64) -> Result<()> {
    if let Some(bank) = Banks::of(map, "HISTOGRAM")?.iter().next() {
        bank[DIVISOR].store(divisor, Ordering::Relaxed);
    }
    Ok(())
}

/// Whether a map has `struct unity_histogram` for its values.
pub(crate) fn is_value_size(value_size: u32) -> bool {
    value_size as usize == CELLS * 8
}
