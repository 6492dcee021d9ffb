//! The top K rows and the sum of the rest.

use super::carry::{Carry, divide};
use super::names::{OTHER, shown};
use super::sums::Summable;
use plugin_api::{Result, Text, ensure};
use std::cmp::Reverse;
use std::collections::HashMap;
use std::fmt;

/// Names with a row of their own unless a tool says otherwise.
const TOP: usize = 20;
/// The most that a tool may ask for: each is a series in somebody's database.
const MOST: usize = 100;

/// Turns the rows of a tick into at most K + 1 rows with different tag texts, whose sums are exact.
///
/// It lives as long as the tool, because it keeps the remainders of divided columns from tick to tick. A
/// table that is grouped by something else has `Groups` of its own.
#[derive(Debug)]
pub struct Groups<S> {
    top: usize,
    columns: Vec<Column<S>>,
    carry: Carry,
}

/// A column that is shown divided.
#[derive(Debug)]
struct Column<S> {
    of: fn(&mut S) -> &mut u64,
    by: u64,
}

impl<S: Summable> Default for Groups<S> {
    /// 20 names.
    fn default() -> Self {
        Self { top: TOP, columns: Vec::new(), carry: Carry::default() }
    }
}

impl<S: Summable> Groups<S> {
    /// At most `top` names, from 1 to 100.
    ///
    /// # Errors
    /// `top` is out of that range. It usually comes from a tool's options.
    pub fn new(top: usize) -> Result<Self> {
        ensure!(
            (1..=MOST).contains(&top),
            "top = {top}: between 1 and {MOST} names can have a line of their own"
        );
        Ok(Self { top, ..Self::default() })
    }

    /// Divides a column of every row, as from nanoseconds to microseconds with 1000.
    ///
    /// What a division leaves is added at the next tick that shows the name, so over all ticks each series
    /// is exact to below one unit. The remainders of the 1024 names that were shown last are kept; those of
    /// a forgotten name are added to `other`, so that the total stays exact.
    ///
    /// # Panics
    /// `by` is 0.
    #[must_use]
    pub fn divide(mut self, column: fn(&mut S) -> &mut u64, by: u64) -> Self {
        assert!(by > 0, "a column cannot be divided by 0");
        self.columns.push(Column { of: column, by });
        self.carry.add_column();
        self
    }

    /// The rows to push, once a tick: the `top` with the greatest weight in falling order, equal ones by
    /// name, and the sum of all others as `other`, which is always there and always last.
    ///
    /// Rows whose names become the same tag text are one row. So are an empty name and `_`, because an empty
    /// tag would be left out of the line. A process named `other` is shown as `other_`, `other_` as
    /// `other__`. `weight` sees values that are not divided yet.
    pub fn rows<N: Into<String>>(
        &mut self,
        drained: impl IntoIterator<Item = (N, S)>,
        weight: impl Fn(&S) -> u64,
    ) -> Vec<(Text, S)> {
        let mut sums: HashMap<String, S> = HashMap::new();
        for (name, values) in drained {
            sums.entry(shown(name.into())).or_insert_with(S::zero).add(values);
        }
        let mut rows: Vec<_> =
            sums.into_iter().map(|(name, sum)| (weight(&sum), name, sum)).collect();
        rows.sort_unstable_by(|a, b| (Reverse(a.0), &a.1).cmp(&(Reverse(b.0), &b.1)));

        let mut other = S::zero();
        rows.drain(self.top.min(rows.len())..).for_each(|(_, _, sum)| other.add(sum));
        let mut shown: Vec<(Text, S)> = Vec::with_capacity(rows.len() + 1);
        for (_, name, mut sum) in rows {
            if !self.columns.is_empty() {
                divide_columns(&self.columns, &mut sum, self.carry.of(&name));
            }
            shown.push((name.into(), sum));
        }
        divide_columns(&self.columns, &mut other, self.carry.of_other());
        shown.push((OTHER.into(), other));
        shown
    }

    /// The same for names that each have values on several CPUs: the `top` of a name on a CPU, and the sum of
    /// all others, whose CPU is `other` too.
    pub fn rows_by_cpu<N: fmt::Display>(
        &mut self,
        drained: impl IntoIterator<Item = (N, u32, S)>,
        weight: impl Fn(&S) -> u64,
    ) -> Vec<(Text, Text, S)> {
        let joined = drained.into_iter().map(|(name, cpu, sum)| (format!("{name}/{cpu}"), sum));
        let rows = self.rows(joined, weight).into_iter();
        rows.map(|(joined, sum)| {
            let (name, cpu) = joined.rsplit_once('/').unwrap_or((OTHER, OTHER));
            (name.to_owned().into(), cpu.to_owned().into(), sum)
        })
        .collect()
    }
}

fn divide_columns<S>(columns: &[Column<S>], row: &mut S, remainders: &mut [u64]) {
    for (column, remainder) in columns.iter().zip(remainders) {
        let value = (column.of)(row);
        *value = divide(*value, remainder, column.by);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    /// The rows with their tag texts, weighed by themselves.
    fn rows(groups: &mut Groups<u64>, drained: &[(&str, u64)]) -> Vec<(String, u64)> {
        let rows = groups.rows(drained.iter().copied(), |n| *n);
        rows.into_iter().map(|(name, n)| (name.into_owned(), n)).collect()
    }

    fn expected(rows: &[(&str, u64)]) -> Vec<(String, u64)> {
        rows.iter().map(|(name, n)| ((*name).to_owned(), *n)).collect()
    }

    #[test]
    fn the_rest_is_one_row_that_is_always_there_and_last() {
        let mut two = Groups::new(2).expect("in range");
        let drained = [("a", 1), ("b", 5), ("c", 3), ("d", 3), ("e", 1)];
        assert_eq!(rows(&mut two, &drained), expected(&[("b", 5), ("c", 3), ("other", 5)]));
        assert_eq!(rows(&mut two, &[("a", 1)]), expected(&[("a", 1), ("other", 0)]));
        assert_eq!(rows(&mut two, &[]), expected(&[("other", 0)]));
    }

    #[test]
    fn names_with_the_same_tag_text_are_one_row() {
        let lossy = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (one, two) = (lossy(b"kw\xff"), lossy(b"kw\xfe"));
        let drained =
            [(&*one, 1), (&two, 2), ("a\tb", 3), ("a\nb", 4), ("end\\", 5), ("end_", 6), ("", 7)];
        let shown = rows(&mut Groups::default(), &drained);
        let merged = [("end_", 11), ("_", 7), ("a_b", 7), ("kw\u{fffd}", 3), ("other", 0)];
        assert_eq!(shown, expected(&merged));
    }

    #[test]
    fn a_process_named_other_is_not_the_rest() {
        let mut two = Groups::new(2).expect("in range");
        let shown = rows(&mut two, &[("other", 9), ("other_", 8), ("x", 1)]);
        assert_eq!(shown, expected(&[("other_", 9), ("other__", 8), ("other", 1)]));
    }

    #[test]
    fn a_name_has_a_row_for_each_of_its_cpus() {
        let mut three = Groups::<u64>::new(3).expect("in range");
        let drained = [("a/b", 0, 5), ("a/b", 11, 4), ("other", 0, 3), ("a/b", 2, 1), ("", 3, 1)];
        let shown = three.rows_by_cpu(drained, |n| *n);
        let shown: Vec<_> = shown.iter().map(|(name, cpu, n)| (&**name, &**cpu, *n)).collect();
        let rows = [("a/b", "0", 5), ("a/b", "11", 4), ("other", "0", 3), ("other", "other", 2)];
        assert_eq!(shown, rows);
    }

    #[test]
    fn parts_of_a_unit_are_added_up_over_the_ticks() {
        let mut names = Groups::<(u64, u64)>::default().divide(|life| &mut life.1, 1_000_000);
        let mut sum_ms = 0;
        for _ in 0..1000 {
            let shown = names.rows([("sh", (1, 400_000))], |life| life.1);
            assert_eq!(shown[0].1.0, 1, "the count is not divided");
            sum_ms += shown[0].1.1;
        }
        assert_eq!(sum_ms, 400);
    }

    #[test]
    fn a_value_near_the_maximum_is_divided_with_its_remainder() {
        let mut names = Groups::<u64>::default().divide(|n| n, 1000);
        assert_eq!(rows(&mut names, &[("a", 999)])[0].1, 0);
        assert_eq!(rows(&mut names, &[("a", u64::MAX)])[0].1, u64::MAX / 1000 + 1);
    }

    #[test]
    fn how_many_names_are_shown_is_bounded() {
        for top in [0, 101] {
            let error = Groups::<u64>::new(top).expect_err("refused").to_string();
            assert!(error.contains("between 1 and 100"), "{error}");
        }
        assert!(Groups::<u64>::new(1).is_ok() && Groups::<u64>::new(100).is_ok());
    }

    /// Numbers that look random and are the same in every run.
    struct Random(u64);

    impl Random {
        fn below(&mut self, n: u64) -> u64 {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (self.0 >> 33) % n
        }
    }

    #[test]
    fn nothing_is_lost_or_doubled_whatever_is_drained() {
        const BY: [u64; 2] = [1000, 7];
        for seed in 0..60 {
            let mut random = Random(seed);
            let top = 1 + random.below(30) as usize;
            // Few names that come back, or more than are remembered.
            let names = [3, 50, 5000][(seed % 3) as usize];
            let mut groups = Groups::<[u64; 3]>::new(top)
                .expect("in range")
                .divide(|row| &mut row[0], BY[0])
                .divide(|row| &mut row[1], BY[1]);
            let (mut given, mut emitted) = ([0; 3], [0; 3]);
            for _ in 0..100 {
                let drained: Vec<_> = (0..random.below(100))
                    .map(|_| {
                        let end = ["", "\n", "\\", "_"][random.below(4) as usize];
                        let word = ["p", "other", ""][random.below(3) as usize];
                        let number = random.below(names);
                        (format!("{word}{number}{end}"), [0; 3].map(|_: u64| random.below(3000)))
                    })
                    .collect();
                drained.iter().for_each(|(_, row)| given.add(*row));
                let shown = groups.rows(drained, |row| row[0]);
                assert!(shown.len() <= top + 1);
                let texts: HashSet<_> = shown.iter().map(|(name, _)| name.clone()).collect();
                assert_eq!(texts.len(), shown.len(), "{shown:?}");
                assert!(!texts.contains("") && shown.last().is_some_and(|(n, _)| n == OTHER));
                shown.iter().for_each(|(_, row)| emitted.add(*row));
            }
            assert!(groups.carry.kept() <= 1024);
            for (column, by) in BY.into_iter().enumerate() {
                let carried = groups.carry.total(column);
                assert_eq!(emitted[column] * by + carried, given[column], "seed {seed}");
            }
            assert_eq!(emitted[2], given[2], "seed {seed}");
        }
    }

    #[test]
    fn what_a_forgotten_name_left_goes_to_other() {
        let mut groups = Groups::<u64>::new(100).expect("in range").divide(|n| n, 1000);
        let mut other = 0;
        for tick in 0..30 {
            let drained = (0..100).map(|i| (format!("{tick}-{i}"), 900));
            let shown = groups.rows(drained, |n| *n);
            assert!(shown[..100].iter().all(|(_, n)| *n == 0));
            other += shown[100].1;
        }
        assert_eq!(groups.carry.kept(), 1024);
        assert_eq!(other, (3000 - 1024) * 900 / 1000);
        assert_eq!(rows(&mut groups, &[("29-7", 100)])[0].1, 1, "the newest are remembered");
    }

    #[test]
    fn every_series_is_exact_to_below_one_unit() {
        let mut random = Random(1);
        let mut groups = Groups::<u64>::default().divide(|n| n, 1000);
        let (mut given, mut emitted) = ([0; 20], [0; 20]);
        for _ in 0..1000 {
            // Not every name at every tick.
            let of = |name: u64| (name, random.below(1500));
            let drained: Vec<_> = (0..20).map(of).filter(|(_, n)| *n > 500).collect();
            drained.iter().for_each(|(name, n)| given[*name as usize] += n);
            let named = drained.iter().map(|(name, n)| (format!("{name}"), *n));
            for (name, n) in groups.rows(named, |n| *n) {
                if let Ok(name) = name.parse::<usize>() {
                    emitted[name] += n;
                }
            }
        }
        assert_eq!(emitted, given.map(|n| n / 1000));
    }
}
