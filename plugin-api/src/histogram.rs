//! Log-linear histograms: 4 slots per power of two, so a quantile is within 12.5 % of the truth.
//!
//! The kernel side (`unity.bpf.h`) computes the same slots; a test runs both over every 2^k-1, 2^k and
//! 2^k+1. On the wire a histogram is `count,sum_*,max_*,p50_*,p90_*,p99_*` and its non-empty powers of
//! two, see [`wire_names`].

use crate::abi::Val;

/// Slots of one histogram: one each for 0..8, then 4 for every power of two from 2^3 to 2^63.
pub const SLOTS: usize = 8 + (64 - 3) * 4;

/// The slot of a value, 0..[`SLOTS`].
#[must_use]
pub const fn slot(value: u64) -> usize {
    if value < 8 {
        return value as usize;
    }
    let power = 63 - value.leading_zeros() as usize;
    (power - 1) * 4 + ((value >> (power - 2)) & 3) as usize
}

/// The smallest value of a slot; with [`high`] the closed range of values that it counts.
#[must_use]
pub const fn low(slot: usize) -> u64 {
    if slot < 8 {
        return slot as u64;
    }
    let power = slot / 4 + 1;
    (1 << power) + ((slot as u64 & 3) << (power - 2))
}

/// The largest value of a slot.
#[must_use]
pub const fn high(slot: usize) -> u64 {
    if slot + 1 < SLOTS { low(slot + 1) - 1 } else { u64::MAX }
}

/// What one histogram counted in one tick.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Values per slot.
    pub slots: Box<[u64; SLOTS]>,
    /// Sum of the values, in the histogram's unit.
    pub sum: u64,
    /// The largest value, in the histogram's unit; 0 when there was none.
    pub max: u64,
}

impl Default for Snapshot {
    fn default() -> Self {
        Self { slots: Box::new([0; SLOTS]), sum: 0, max: 0 }
    }
}

impl Snapshot {
    /// Number of values.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.slots.iter().sum()
    }

    /// Adds one value.
    pub fn add(&mut self, value: u64) {
        self.slots[slot(value)] += 1;
        self.sum = self.sum.saturating_add(value);
        self.max = self.max.max(value);
    }

    /// Adds all values of another histogram of the same unit.
    pub fn merge(&mut self, other: &Self) {
        self.slots.iter_mut().zip(other.slots.iter()).for_each(|(a, b)| *a += b);
        self.sum = self.sum.saturating_add(other.sum);
        self.max = self.max.max(other.max);
    }

    /// The value below or at which the share `q` (0..=1) of all values lies: the middle of its slot, at
    /// most the maximum. `None` without values.
    #[must_use]
    pub fn quantile(&self, q: f64) -> Option<u64> {
        let count = self.count();
        if count == 0 {
            return None;
        }
        let rank = ((count as f64 * q).ceil() as u64).clamp(1, count);
        let mut seen = 0;
        let slot = self.slots.iter().position(|n| {
            seen += n;
            seen >= rank
        })?;
        let middle = low(slot) + (high(slot) - low(slot)) / 2;
        Some(middle.min(self.max))
    }

    /// Counts per power of two as they go on the wire: `(exclusive upper bound, count)`, `None` for the
    /// open one, empty ones included.
    pub fn powers(&self) -> impl Iterator<Item = (Option<u64>, u64)> + '_ {
        (1..=64).map(|power: u32| {
            let range = match power {
                1 => 0..2,
                2 => 2..4,
                3 => 4..8,
                p => (p as usize - 2) * 4..(p as usize - 1) * 4,
            };
            (1u64.checked_shl(power), self.slots[range].iter().sum())
        })
    }

    pub(crate) fn values<'a>(&self, out: &mut impl Extend<Val<'a>>) {
        let quantile = |q| self.quantile(q).map_or(Val::None, Val::U64);
        out.extend([Val::U64(self.count()), Val::U64(self.sum), Val::U64(self.max)]);
        out.extend([quantile(0.5), quantile(0.9), quantile(0.99)]);
        out.extend(self.powers().map(|(_, n)| if n == 0 { Val::None } else { Val::U64(n) }));
    }
}

/// Buckets on the wire: one per power of two.
pub const BUCKETS: usize = 64;

/// The values of a bucket on the wire: from the first, below the second; the last bucket has no end.
#[must_use]
pub const fn bucket(number: usize) -> (u64, Option<u64>) {
    let from = if number == 0 { 0 } else { 1 << number };
    (from, 1u64.checked_shl(number as u32 + 1))
}

/// Names of a histogram's fields, in the order of [`Snapshot`]'s values, with the suffix of its unit (`_us`):
/// `count`, `sum_us`, `max_us`, `p50_us`, `p90_us`, `p99_us` (the last three only when there is a value), then
/// `bucket_0_2`, `bucket_2_4` .. `bucket_9223372036854775808_inf`: how many values lie at or above the first
/// bound and below the second. Empty ones are left out of the line. Outputs may ask for other forms of buckets.
#[must_use]
pub fn wire_names(suffix: &str) -> Vec<String> {
    let mut names = vec!["count".to_owned()];
    names.extend(["sum", "max", "p50", "p90", "p99"].map(|n| format!("{n}{suffix}")));
    names.extend((0..BUCKETS).map(|number| match bucket(number) {
        (from, Some(below)) => format!("bucket_{from}_{below}"),
        (from, None) => format!("bucket_{from}_inf"),
    }));
    names
}

/// The same as plugin-api 1.0.0 named them: buckets are `lt_2`, `lt_4` .. `inf`.
#[must_use]
pub fn wire_names_1_0_0(suffix: &str) -> Vec<String> {
    let mut names = wire_names(suffix);
    let buckets = names.len() - BUCKETS;
    for (number, name) in names[buckets..].iter_mut().enumerate() {
        *name = bucket(number).1.map_or("inf".to_owned(), |below| format!("lt_{below}"));
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edges() -> impl Iterator<Item = u64> {
        (0..64).flat_map(|k| [(1u64 << k) - 1, 1 << k, (1 << k) + 1]).chain([u64::MAX])
    }

    #[test]
    fn a_value_lies_in_its_slot_and_slots_tile_all_values() {
        for value in edges() {
            let slot = slot(value);
            assert!(low(slot) <= value && value <= high(slot), "{value} in slot {slot}");
        }
        for slot in 1..SLOTS {
            assert_eq!(low(slot), high(slot - 1) + 1, "slot {slot}");
        }
        assert_eq!(slot(u64::MAX), SLOTS - 1);
    }

    #[test]
    fn a_slots_middle_is_within_an_eighth_of_every_value_in_it() {
        for slot in 0..SLOTS {
            let middle = low(slot) + (high(slot) - low(slot)) / 2;
            for value in [low(slot), high(slot)] {
                assert!(middle.abs_diff(value) as f64 <= value as f64 * 0.125, "slot {slot}");
            }
        }
    }

    #[test]
    fn powers_hold_each_value_under_its_bound() {
        for value in edges() {
            let mut one = Snapshot::default();
            one.add(value);
            let filled: Vec<_> = one.powers().filter(|(_, n)| *n > 0).collect();
            let bound = value.checked_next_power_of_two().map(|p| match p {
                _ if value < 2 => 2,
                p if p == value => p.checked_mul(2).unwrap_or(0),
                p => p,
            });
            assert_eq!(filled, [(bound.filter(|b| *b != 0), 1)], "{value}");
        }
    }

    #[test]
    fn quantiles_are_ranks_and_never_pass_the_maximum() {
        let mut h = Snapshot::default();
        assert_eq!(h.quantile(0.5), None);
        (0..100).for_each(|v| h.add(v));
        assert_eq!((h.count(), h.sum, h.max), (100, 4950, 99));
        assert_eq!(h.quantile(0.0), Some(0));
        assert!(h.quantile(0.5).unwrap().abs_diff(49) <= 6);
        assert!(h.quantile(1.0).unwrap().abs_diff(99) <= 12);
        let mut one = Snapshot::default();
        one.add(1000);
        assert_eq!(one.quantile(0.99), Some(959.min(one.max)));
    }

    #[test]
    fn wire_names_match_the_values() {
        let mut values = Vec::new();
        Snapshot::default().values(&mut values);
        let names = wire_names("_us");
        assert_eq!(names.len(), values.len());
        assert_eq!(names[..3], ["count", "sum_us", "max_us"]);
        assert_eq!(names[6..8], ["bucket_0_2", "bucket_2_4"]);
        assert_eq!(names.last().unwrap(), "bucket_9223372036854775808_inf");
        let older = wire_names_1_0_0("_us");
        assert_eq!(older.len(), names.len());
        assert_eq!((&*older[6], &*older[69]), ("lt_2", "inf"));
        let bounds = Snapshot::default().powers().map(|(bound, _)| bound).collect::<Vec<_>>();
        assert_eq!(bounds, (0..BUCKETS).map(|n| bucket(n).1).collect::<Vec<_>>());
    }
}
