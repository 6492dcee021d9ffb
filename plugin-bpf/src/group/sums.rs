//! Values that can be added up.

use plugin_api::Snapshot;

/// The values of a row. Rows that become one are added, field by field.
///
/// Implemented for `u64`, arrays and tuples of sums, and [`Snapshot`]; for the structs of a BPF program by
/// [`sums!`](crate::sums).
pub trait Summable {
    /// The values of a row without events.
    fn zero() -> Self;

    /// Adds another row's values. A sum that exceeds a `u64` stays at its maximum.
    fn add(&mut self, other: Self);
}

impl Summable for u64 {
    fn zero() -> Self {
        0
    }

    fn add(&mut self, other: Self) {
        *self = self.saturating_add(other);
    }
}

impl<S: Summable, const N: usize> Summable for [S; N] {
    fn zero() -> Self {
        std::array::from_fn(|_| S::zero())
    }

    fn add(&mut self, other: Self) {
        self.iter_mut().zip(other).for_each(|(sum, value)| sum.add(value));
    }
}

impl Summable for Snapshot {
    fn zero() -> Self {
        Self::default()
    }

    fn add(&mut self, other: Self) {
        self.merge(&other);
    }
}

macro_rules! tuples {
    ($(($($name:ident $at:tt),+))+) => {
        $(impl<$($name: Summable),+> Summable for ($($name,)+) {
            fn zero() -> Self {
                ($($name::zero(),)+)
            }

            fn add(&mut self, other: Self) {
                $(self.$at.add(other.$at);)+
            }
        })+
    };
}
tuples! {
    (A 0)
    (A 0, B 1)
    (A 0, B 1, C 2)
    (A 0, B 1, C 2, D 3)
    (A 0, B 1, C 2, D 3, E 4)
    (A 0, B 1, C 2, D 3, E 4, F 5)
}

/// Says how the rows of a struct are added: implements [`Summable`](crate::group::Summable) for it.
///
/// ```
/// # #[derive(Clone, Copy, Default)]
/// # struct Waits { count: u64, sum: u64, max: u64, slots: [u64; 27] }
/// plugin_bpf::sums!(Waits { count, sum, max: max, slots });
/// ```
///
/// Every field is named, so a field that is new in the BPF program and forgotten here is a compile error;
/// `..` at the end leaves the remaining ones as they are, as for padding. `field: max` keeps the greater
/// of both values. The struct needs `Default`, which generated ones have.
#[macro_export]
macro_rules! sums {
    ($type:path { $($field:ident $(: $how:ident)?),+ $(,)? }) => {
        $crate::sums!(@impl $type, { $($field $(: $how)?),+ }, {});
    };
    ($type:path { $($field:ident $(: $how:ident)?),+, .. }) => {
        $crate::sums!(@impl $type, { $($field $(: $how)?),+ }, { .. });
    };
    (@impl $type:path, { $($field:ident $(: $how:ident)?),+ }, { $($rest:tt)* }) => {
        impl $crate::group::Summable for $type {
            fn zero() -> Self {
                ::std::default::Default::default()
            }

            fn add(&mut self, other: Self) {
                let $type { $($field,)+ $($rest)* } = other;
                $($crate::sums!(@add self.$field, $field $(, $how)?);)+
            }
        }
    };
    (@add $sum:expr, $value:ident) => { $crate::group::Summable::add(&mut $sum, $value) };
    (@add $sum:expr, $value:ident, max) => { $sum = $sum.max($value) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Copy, Debug, Default, PartialEq)]
    struct Waits {
        count: u64,
        max: u64,
        slots: [u64; 3],
        pad: u32,
    }
    crate::sums!(Waits { count, max: max, slots, .. });

    #[allow(non_camel_case_types)] // as generated
    mod types {
        #[derive(Default)]
        pub struct lives {
            pub exits: u64,
        }
    }
    crate::sums!(types::lives { exits });

    fn sum<S: Summable>(rows: impl IntoIterator<Item = S>) -> S {
        rows.into_iter().fold(S::zero(), |mut sum, row| {
            sum.add(row);
            sum
        })
    }

    #[test]
    fn structs_arrays_tuples_and_histograms_are_added_field_by_field() {
        let row = |count, max| Waits { count, max, slots: [count, 0, 1], pad: 7 };
        let waits = sum([row(1, 9), row(2, 5)]);
        assert_eq!(waits, Waits { count: 3, max: 9, slots: [3, 0, 2], pad: 0 });
        assert_eq!(sum([types::lives { exits: 2 }, types::lives { exits: 3 }]).exits, 5);
        assert_eq!(sum([(1, [2, 3]), (10, [20, 30])]), (11, [22, 33]));
        let mut one = Snapshot::default();
        one.add(7);
        let both = sum([one.clone(), one]);
        assert_eq!((both.count(), both.sum, both.max), (2, 14, 7));
    }

    #[test]
    fn a_sum_beyond_64_bits_stays_at_the_maximum() {
        assert_eq!(sum([u64::MAX, 1]), u64::MAX);
    }
}
