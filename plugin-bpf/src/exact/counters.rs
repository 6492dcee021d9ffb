//! `COUNTERS` and `COUNTER_ARRAY`: counts of few, known keys.

use super::{Extent, Idle, Lost, Piece};
use crate::exact::banks::Banks;
use plugin_api::Result;
use std::marker::PhantomData;
use std::sync::atomic::Ordering;

/// The names of a `COUNTERS` map, as a struct of numbers. The build script writes it from the C enum.
pub trait Named {
    /// The counts, in the enum's order.
    fn of(counts: &[u64]) -> Self;
}

/// Counts that BPF programs add to with `counters_add`, since the tick before.
///
/// They are never reset: a counter only grows, in a bank of its CPU, and a tick's count is the difference
/// to the reading before. So nothing is lost, nothing is counted twice, and a tick costs no system call.
/// Use it for keys that are known and few: signals, errno values, states.
pub struct Counters<N> {
    array: CounterArray,
    _names: PhantomData<fn() -> N>,
}

impl<N: Named> Counters<N> {
    pub(crate) fn new(banks: Option<Banks>, len: usize) -> Self {
        Self { array: CounterArray::new(banks, len), _names: PhantomData }
    }

    /// How much each grew since the tick before; 0 when they are taken a second time.
    pub fn take(&mut self) -> N {
        let counts = N::of(&self.array.grown);
        self.array.grown.fill(0);
        counts
    }

    /// The same up to now rather than up to the last cut, for a tool that tries out its hooks
    /// ([`crate::Tool::begin`]).
    pub fn take_now(&mut self) -> N {
        self.array.read();
        self.take()
    }
}

impl<N> Piece for Counters<N> {
    fn cut(&mut self, idle: Idle, lost: Lost) -> Result<()> {
        self.array.cut(idle, lost)
    }
    fn forget(&mut self) {
        self.array.forget();
    }
    fn extent(&self) -> Option<Extent> {
        None // the compiler checks its names: it loses nothing
    }
}

/// The same by number, for `COUNTER_ARRAY(name, n)`.
pub struct CounterArray {
    banks: Option<Banks>,
    before: Vec<u64>,
    grown: Vec<u64>,
    lost: Lost,
}

impl CounterArray {
    pub(crate) fn new(banks: Option<Banks>, len: usize) -> Self {
        Self { banks, before: vec![0; len], grown: vec![0; len], lost: Lost::default() }
    }

    /// How much the i-th counter grew since the tick before; 0 when it is taken a second time.
    ///
    /// # Panics
    /// `i` is not below the declared `n`.
    pub fn take(&mut self, i: usize) -> u64 {
        std::mem::take(&mut self.grown[i])
    }

    /// All of them that grew, with their numbers; each is taken.
    pub fn take_all(&mut self) -> impl Iterator<Item = (usize, u64)> {
        let grown = self.grown.iter_mut().map(std::mem::take).enumerate();
        grown.filter(|(_, n)| *n > 0)
    }

    /// Forgets what was counted up to now, as before the first tick.
    pub fn skip(&mut self) {
        self.read();
        self.grown.fill(0);
    }

    /// Additions past the end.
    #[must_use]
    pub fn lost(&self) -> Lost {
        self.lost
    }

    fn read(&mut self) {
        let Some(banks) = &self.banks else { return };
        for (i, (before, grown)) in self.before.iter_mut().zip(&mut self.grown).enumerate() {
            // Modulo 2^64, as programs add: sums of bytes that were asked for may get there.
            let banks = banks.iter().map(|bank| bank[i].load(Ordering::Relaxed));
            let now = banks.fold(0, u64::wrapping_add);
            // Beside what a tick that failed did not take.
            *grown = grown.wrapping_add(now.wrapping_sub(std::mem::replace(before, now)));
        }
    }
}

impl Piece for CounterArray {
    fn cut(&mut self, _: Idle, lost: Lost) -> Result<()> {
        self.lost = lost;
        self.read();
        Ok(())
    }
    fn forget(&mut self) {
        self.grown.fill(0);
    }
    fn extent(&self) -> Option<Extent> {
        Some(Extent { keys: None, lost: self.lost })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_that_passes_2_to_the_64_goes_on() {
        let banks = Banks::in_memory(1, 2).expect("memory");
        banks.iter().for_each(|bank| bank[0].store(u64::MAX - 1, Ordering::Relaxed));
        let mut array = CounterArray::new(Some(banks), 1);
        array.cut(Idle::new(0), Lost::default()).expect("read");
        array.take(0);
        for bank in array.banks.as_ref().expect("banks").iter() {
            bank[0].fetch_add(3, Ordering::Relaxed);
        }
        array.cut(Idle::new(0), Lost::default()).expect("read");
        assert_eq!(array.take(0), 6);
    }
}
