//! `HISTOGRAM`: distributions of latencies and sizes.

use super::{Extent, Idle, Lost, Piece};
use crate::exact::banks::Banks;
use plugin_api::histogram::{SLOTS, high, low};
use plugin_api::{Result, Snapshot};
use std::sync::atomic::{AtomicU64, Ordering};

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
    /// Of all CPUs together, or of each.
    parts: Vec<Part>,
    lost: Lost,
}

/// What is read as one.
struct Part {
    /// What each half of each histogram held when it was read before: slots and sum only grow.
    before: Vec<[u64; SLOTS + 1]>,
    /// What the division left over from sums already taken, by histogram.
    rest: Vec<u64>,
    taken: Vec<Snapshot>,
}

impl Part {
    /// What the quiet half of each histogram counted in these banks.
    fn cut<'a>(
        &mut self,
        banks: impl Iterator<Item = &'a [AtomicU64]> + Clone,
        idle: Idle,
        divisor: u64,
    ) {
        for i in 0..self.taken.len() {
            let half = 2 * i + idle.half();
            let mut now = [0; SLOTS + 1];
            let mut max = 0;
            for bank in banks.clone() {
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
            snapshot.sum = sum / divisor;
            self.rest[i] = sum % divisor;
            if let Some(top) = snapshot.slots.iter().rposition(|n| *n > 0) {
                snapshot.max = (max / divisor).clamp(low(top), high(top));
            }
            // Beside what a tick that failed did not take.
            self.taken[i].merge(&snapshot);
        }
    }
}

impl Histogram {
    pub(crate) fn new(banks: Option<Banks>, n: usize, divisor: u64, by_cpu: bool) -> Self {
        let parts = if by_cpu { banks.as_ref().map_or(0, |banks| banks.iter().count()) } else { 1 };
        let part = |_| Part {
            before: vec![[0; SLOTS + 1]; 2 * n],
            rest: vec![0; n],
            taken: vec![Snapshot::default(); n],
        };
        Self { banks, divisor, parts: (0..parts).map(part).collect(), lost: Lost::default() }
    }

    /// What the i-th histogram counted since the tick before, in the unit that it shows (what was given,
    /// divided by `div`). Empty when it is taken a second time.
    ///
    /// # Panics
    /// `i` is not below the declared `n`.
    pub fn take(&mut self, i: usize) -> Snapshot {
        let mut all = Snapshot::default();
        self.take_by_cpu(i).for_each(|(_, taken)| all.merge(&taken));
        all
    }

    /// The same of each possible CPU, by its number, where the tool asked for that
    /// ([`Setup::by_cpu`](crate::Setup::by_cpu)).
    ///
    /// # Panics
    /// `i` is not below the declared `n`.
    pub fn take_by_cpu(&mut self, i: usize) -> impl Iterator<Item = (u32, Snapshot)> {
        let parts = self.parts.iter_mut().zip(0..);
        parts.map(move |(part, cpu)| (cpu, std::mem::take(&mut part.taken[i])))
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
        match &mut *self.parts {
            [all] => all.cut(banks.iter(), idle, self.divisor),
            each => {
                let cpus = each.iter_mut().zip(banks.iter());
                cpus.for_each(|(part, bank)| part.cut([bank].into_iter(), idle, self.divisor));
            }
        }
        Ok(())
    }
    fn forget(&mut self) {
        self.parts.iter_mut().for_each(|part| part.taken.fill(Snapshot::default()));
    }
    fn extent(&self) -> Option<Extent> {
        (self.lost != Lost::default()).then_some(Extent { keys: None, lost: self.lost })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cpu_is_counted_for_itself_where_that_was_asked_for() {
        for by_cpu in [false, true] {
            let banks = Banks::in_memory(4 * CELLS, 2).expect("memory");
            let mut histogram = Histogram::new(Some(banks), 2, 1000, by_cpu);
            for tick in 0..3 {
                for (cpu, bank) in (1..).zip(histogram.banks.iter().flat_map(Banks::iter)) {
                    let cells = &bank[2 * CELLS..];
                    cells[7].fetch_add(cpu, Ordering::Relaxed);
                    cells[SUM].fetch_add(cpu * 7_400, Ordering::Relaxed);
                    cells[MAX].store(7_100 + cpu * 100, Ordering::Relaxed);
                }
                histogram.cut(Idle::new(0), Lost::default()).expect("nothing fails");
                let taken: Vec<_> = histogram.take_by_cpu(1).collect();
                let taken: Vec<_> = taken.iter().map(|(i, s)| (*i, s.count(), s.max)).collect();
                let expected = if by_cpu { vec![(0, 1, 7), (1, 2, 7)] } else { vec![(0, 3, 7)] };
                assert_eq!(taken, expected, "tick {tick}");
                assert_eq!(histogram.take(0).count() + histogram.take(1).count(), 0);
            }
        }
    }
}
