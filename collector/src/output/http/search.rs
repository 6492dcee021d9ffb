//! Finding the bad lines of a parcel that a server refuses, in few requests.
//!
//! Halves are sent until a line is refused alone. What is known meanwhile is only that the first so many
//! lines hold a bad one: whatever is accepted is behind us. After the first bad line the rest goes as one;
//! after a further one they are taken to be many, and the next requests begin small and grow.
//!
//! One bad line among 5,000 costs at most 15 requests more: 13 parts, the line alone, and the rest. No
//! parcel costs more than [`BUDGET`] and one per batch: beyond it, each batch stands or falls as one, so
//! that a plugin whose lines are refused costs the others nothing.

/// Requests that one parcel may cost beyond its first, before lines are refused in whole batches.
pub const BUDGET: u32 = 256;

/// What is known of the parcel at hand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Search {
    /// The first so many lines hold a bad one; 0 when nothing is known.
    suspect: u64,
    /// The most lines to send when nothing is known.
    probe: u64,
    /// Whether there is more than one bad line.
    many: bool,
    /// Whether anything was refused.
    searching: bool,
    /// Requests since then.
    spent: u32,
}

impl Default for Search {
    fn default() -> Self {
        Self { suspect: 0, probe: u64::MAX, many: false, searching: false, spent: 0 }
    }
}

/// What to do with lines that were refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Look closer: the bad one is not found.
    Narrow,
    /// Give them up.
    GiveUp,
}

impl Search {
    /// How many lines to send next, of those that are left and of those of the first batch.
    pub fn next(&self, left: u64, of_first_batch: u64) -> u64 {
        match self.suspect {
            _ if self.exhausted() => of_first_batch,
            0 => self.probe.min(left),
            suspect => (suspect / 2).max(1),
        }
    }

    /// Whether the budget is used up.
    pub fn exhausted(&self) -> bool {
        self.spent >= BUDGET
    }

    /// The first so many lines were accepted.
    pub fn accepted(&mut self, lines: u64) {
        self.count();
        self.suspect = self.suspect.saturating_sub(lines);
        self.grow();
    }

    /// The server named the bad ones among the first so many lines, and accepted the others.
    pub fn named(&mut self) {
        self.count();
        self.suspect = 0;
        self.grow();
    }

    /// The first so many lines were refused; `dropped` when the server says how many of them are bad.
    pub fn refused(&mut self, lines: u64, dropped: Option<u64>) -> Verdict {
        self.count();
        self.searching = true;
        self.many |= dropped.is_some_and(|dropped| dropped > 1);
        if lines > 1 && dropped.is_none_or(|dropped| dropped < lines) && !self.exhausted() {
            self.suspect = lines;
            self.probe = u64::MAX;
            return Verdict::Narrow;
        }
        self.suspect = 0;
        self.probe = match (self.many, dropped) {
            (false, _) => u64::MAX,
            // It says when all are bad: a larger part may be so as well.
            (true, Some(_)) => lines.saturating_mul(2),
            (true, None) => 1,
        };
        self.many = true;
        Verdict::GiveUp
    }

    fn grow(&mut self) {
        self.probe = self.probe.saturating_mul(2);
    }

    fn count(&mut self) {
        self.spent += u32::from(self.searching);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// How a server refuses.
    #[derive(Clone, Copy, Debug)]
    enum Manner {
        /// All lines of a request that holds a bad one.
        Whole,
        /// The bad lines, and says how many they are.
        Counting,
    }

    #[derive(Debug, Default)]
    struct Worked {
        requests: u32,
        /// Lines given up, by their place.
        given_up: Vec<usize>,
    }

    /// Works off batches, of which some lines are bad, against a server.
    fn work_off(batches: &[Vec<bool>], manner: Manner) -> Worked {
        let lines = batches.concat();
        let mut ends = batches.iter().scan(0, |end, batch| {
            *end += batch.len();
            Some(*end)
        });
        let mut end = ends.next().unwrap();
        let (mut at, mut search, mut outcome) = (0, Search::default(), Worked::default());
        while at < lines.len() {
            while at >= end {
                end = ends.next().unwrap();
            }
            let (left, of_first) = ((lines.len() - at) as u64, (end - at) as u64);
            let sent = search.next(left, of_first);
            assert!((1..=left).contains(&sent), "{search:?}");
            outcome.requests += 1;
            let part = &lines[at..at + sent as usize];
            let bad = part.iter().filter(|&&bad| bad).count() as u64;
            let dropped = matches!(manner, Manner::Counting).then_some(bad);
            if bad == 0 {
                search.accepted(sent);
                at += sent as usize;
            } else if search.refused(sent, dropped) == Verdict::GiveUp {
                outcome.given_up.extend(at..at + sent as usize);
                at += sent as usize;
            }
        }
        outcome
    }

    fn bad_at(lines: usize, bad: impl IntoIterator<Item = usize>) -> Vec<Vec<bool>> {
        let mut batch = vec![false; lines];
        bad.into_iter().for_each(|i| batch[i] = true);
        vec![batch]
    }

    #[test]
    fn one_bad_line_among_5000_costs_few_requests_wherever_it_is() {
        for manner in [Manner::Whole, Manner::Counting] {
            let mut most = 0;
            for bad in 0..5000 {
                let outcome = work_off(&bad_at(5000, [bad]), manner);
                assert_eq!(outcome.given_up, [bad]);
                most = most.max(outcome.requests - 1);
            }
            assert!(most <= 15, "{manner:?}: {most}");
        }
    }

    #[test]
    fn a_run_of_bad_lines_that_are_counted_is_passed_in_strides() {
        let outcome = work_off(&bad_at(5000, 1000..1400), Manner::Counting);
        assert_eq!(outcome.given_up, (1000..1400).collect::<Vec<_>>());
        assert!(outcome.requests <= 60, "{}", outcome.requests);
    }

    #[test]
    fn a_run_of_bad_lines_costs_one_request_each_and_not_more() {
        let outcome = work_off(&bad_at(5000, 1000..1150), Manner::Whole);
        assert_eq!(outcome.given_up, (1000..1150).collect::<Vec<_>>());
        assert!(outcome.requests <= 150 + 50, "{}", outcome.requests);
    }

    #[test]
    fn beyond_the_budget_a_plugin_whose_lines_are_bad_costs_the_others_nothing() {
        let mut batches = vec![vec![true; 3000]];
        batches.extend(vec![vec![false; 100]; 20]);
        let outcome = work_off(&batches, Manner::Whole);
        assert_eq!(outcome.given_up, (0..3000).collect::<Vec<_>>());
        assert!(outcome.requests <= BUDGET + 22, "{}", outcome.requests);
    }

    proptest! {
        #[test]
        fn within_the_budget_exactly_the_bad_lines_are_given_up(
            batches in prop::collection::vec(
                (0.0..1.0f64, prop::collection::vec(0.0..1.0f64, 1..400)), 1..20),
            counting: bool,
        ) {
            let batches: Vec<Vec<bool>> = batches
                .into_iter()
                .map(|(share, lines)| lines.into_iter().map(|l| l < share.powi(8)).collect())
                .collect();
            let manner = if counting { Manner::Counting } else { Manner::Whole };
            let outcome = work_off(&batches, manner);
            let lines = batches.concat();
            let bad: Vec<usize> = (0..lines.len()).filter(|&i| lines[i]).collect();
            prop_assert!(bad.iter().all(|line| outcome.given_up.contains(line)));
            if outcome.requests <= BUDGET {
                prop_assert_eq!(outcome.given_up, bad);
            }
            prop_assert!(outcome.requests <= 1 + BUDGET + batches.len() as u32);
        }
    }
}
