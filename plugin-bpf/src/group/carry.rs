//! What divisions leave, kept until the next tick.

use std::collections::HashMap;

/// Names whose remainders are kept.
const KEPT: usize = 1024;

/// Remainders by name, one for each divided column.
#[derive(Debug, Default)]
pub(super) struct Carry {
    columns: usize,
    names: HashMap<String, Kept>,
    /// Of the row `other`. What a forgotten name left may make them greater than the divisor.
    other: Vec<u64>,
    tick: u64,
}

#[derive(Debug)]
struct Kept {
    remainders: Vec<u64>,
    /// The last tick that showed the name.
    shown: u64,
}

impl Carry {
    pub(super) fn add_column(&mut self) {
        self.columns += 1;
        self.other.push(0);
    }

    /// The remainders of a name that is shown at this tick.
    pub(super) fn of(&mut self, name: &str) -> &mut [u64] {
        if !self.names.contains_key(name) {
            let remainders = vec![0; self.columns];
            self.names.insert(name.to_owned(), Kept { remainders, shown: 0 });
        }
        let kept = self.names.get_mut(name).expect("it was there or is now");
        kept.shown = self.tick;
        &mut kept.remainders
    }

    /// Ends the tick and gives the remainders of `other`. Of too many names those are forgotten that were
    /// not shown for longest; what they had is now `other`'s, so that no part of a total is lost.
    pub(super) fn of_other(&mut self) -> &mut [u64] {
        self.tick += 1;
        self.names.retain(|_, kept| kept.remainders.iter().any(|r| *r != 0));
        if self.names.len() > KEPT {
            let mut oldest: Vec<_> =
                self.names.iter().map(|(name, kept)| (kept.shown, name.clone())).collect();
            oldest.sort_unstable();
            for (_, name) in oldest.drain(..self.names.len() - KEPT) {
                let kept = self.names.remove(&name).into_iter().flat_map(|k| k.remainders);
                self.other.iter_mut().zip(kept).for_each(|(sum, r)| *sum += r);
            }
        }
        &mut self.other
    }
}

/// The quotient of a value and the remainder before it; the new remainder takes that one's place.
pub(super) fn divide(value: u64, remainder: &mut u64, by: u64) -> u64 {
    // Together they may exceed 64 bits.
    let (sum, by) = (u128::from(value) + u128::from(*remainder), u128::from(by));
    *remainder = u64::try_from(sum % by).expect("less than a u64 divisor");
    u64::try_from(sum / by).unwrap_or(u64::MAX)
}

#[cfg(test)]
impl Carry {
    /// A column's remainders of all names and `other`.
    pub(super) fn total(&self, column: usize) -> u64 {
        self.names.values().map(|kept| kept.remainders[column]).sum::<u64>() + self.other[column]
    }

    pub(super) fn kept(&self) -> usize {
        self.names.len()
    }
}
