//! `COUNTERS`: counts of few, known keys.

use crate::banks::Banks;
use libbpf_rs::MapCore;
use plugin_api::Result;
use std::sync::atomic::Ordering;

/// Counters that BPF programs add to with `counters_add`.
///
/// They are never reset: a counter only grows, in a bank of its CPU, and a tick's count is the difference
/// to the reading before. So nothing is lost, nothing is counted twice, and a tick costs no system call.
/// Use it for keys that are known and few: signals, errno values, states. For unbounded keys there is
/// [`crate::Table`].
pub struct Counters {
    banks: Banks,
    before: Vec<u64>,
}

impl Counters {
    /// Reads a map that was declared with `COUNTERS(name, n)`.
    ///
    /// # Errors
    /// It was declared in another way.
    pub fn of(map: &dyn MapCore) -> Result<Self> {
        let banks = Banks::of(map, "COUNTERS")?;
        let before = vec![0; banks.bank_len()];
        Ok(Self { banks, before })
    }

    /// Sets a cell that no program adds to.
    pub(crate) fn write(&self, i: usize, value: u64) {
        if let Some(bank) = self.banks.iter().next() {
            bank[i].store(value, Ordering::Relaxed);
        }
    }

    /// How much the i-th counter grew since it was taken before.
    ///
    /// # Panics
    /// `i` is not below the declared `n`, rounded up to 8.
    pub fn take(&mut self, i: usize) -> u64 {
        let now = self.total(i);
        now - std::mem::replace(&mut self.before[i], now)
    }

    /// The i-th counter since it was loaded.
    ///
    /// # Panics
    /// As [`Counters::take`].
    #[must_use]
    pub fn total(&self, i: usize) -> u64 {
        self.banks.iter().map(|bank| bank[i].load(Ordering::Relaxed)).sum()
    }
}
