//! What a plugin's maps could not store, by piece and cause (`unity_lose` in unity/base.h).

use crate::exact::banks::Banks;
use std::sync::atomic::Ordering;

/// Causes of a piece: cells of `struct unity_losses`.
const CAUSES: usize = 8;

/// What one piece lost since the tick before, by cause.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lost {
    /// No room for a new key or event. Raise the declared size, or filter.
    pub full: u64,
    /// The kernel refused for another reason, as for a program that interrupted another one on the same
    /// bucket, or scratch memory was taken.
    pub busy: u64,
    /// Stored, but the end was cut off.
    pub truncated: u64,
    /// Begun while it was under way already; the later begin counts.
    pub twice: u64,
    /// Ended without a known begin.
    pub unmatched: u64,
    /// Begun by something that is gone.
    pub died: u64,
    /// A number past the end of a piece: a mistake of the BPF program.
    pub past: u64,
}

impl Lost {
    /// Events that are in no row: `full`, `busy` and `past`.
    #[must_use]
    pub fn events(self) -> u64 {
        self.full + self.busy + self.past
    }

    fn of(n: [u64; CAUSES]) -> Self {
        let [full, busy, truncated, twice, unmatched, died, past, _] = n;
        Self { full, busy, truncated, twice, unmatched, died, past }
    }
}

/// The counts of all pieces of one object. They only grow; a tick's count is the difference.
pub(crate) struct Losses {
    banks: Banks,
    before: Vec<[u64; CAUSES]>,
}

impl Losses {
    pub(crate) fn new(banks: Banks) -> Self {
        let pieces = banks.iter().next().map_or(0, |bank| bank.len() / CAUSES);
        Self { banks, before: vec![[0; CAUSES]; pieces] }
    }

    /// What a piece lost since this was last asked.
    pub(crate) fn take(&mut self, piece: usize) -> Lost {
        let mut now = [0; CAUSES];
        for bank in self.banks.iter() {
            for (sum, cell) in now.iter_mut().zip(&bank[piece * CAUSES..][..CAUSES]) {
                *sum += cell.load(Ordering::Relaxed);
            }
        }
        let before = std::mem::replace(&mut self.before[piece], now);
        let mut grown = now;
        grown.iter_mut().zip(before).for_each(|(n, before)| *n -= before);
        Lost::of(grown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loss_is_told_once_and_summed_over_cpus() {
        let mut losses = Losses::new(Banks::in_memory(2 * CAUSES, 2).expect("memory"));
        for (cpu, bank) in losses.banks.iter().enumerate() {
            bank[CAUSES].store(cpu as u64 + 1, Ordering::Relaxed);
        }
        assert_eq!(losses.take(0), Lost::default());
        assert_eq!(losses.take(1), Lost { full: 3, ..Lost::default() });
        assert_eq!(losses.take(1), Lost::default());
    }
}
