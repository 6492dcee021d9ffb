//! Which keys to attach and detach at a tick. Pure.

use std::collections::{BTreeMap, BTreeSet};

/// Ticks between two tries of a key that goes on failing, at most.
const SELDOM: u64 = 64;

/// A key that is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Under this number of the attached object.
    Attached(u64),
    /// It was refused.
    Refused {
        /// How often.
        times: u32,
        /// The tick of the next try.
        next: u64,
        /// Why, the last time.
        reason: String,
    },
}

impl State {
    /// After another refusal at a tick. Tries come after 1, 2, 4, .. ticks, from the seventh on every 64.
    pub(super) fn refused(before: Option<&Self>, tick: u64, reason: String) -> Self {
        let times = match before {
            Some(Self::Refused { times, .. }) => times.saturating_add(1),
            _ => 1,
        };
        let wait = 1u64.checked_shl(times - 1).map_or(SELDOM, |wait| wait.min(SELDOM));
        Self::Refused { times, next: tick + wait, reason }
    }
}

/// What to do so that exactly the wanted keys are attached.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Plan<K> {
    pub(super) attach: Vec<K>,
    /// Keys to detach, or to forget when they never were attached.
    pub(super) detach: Vec<K>,
}

pub(super) fn plan<K: Ord + Clone>(
    known: &BTreeMap<K, State>,
    wanted: &BTreeSet<&K>,
    tick: u64,
) -> Plan<K> {
    let due = |key: &K| match known.get(key) {
        None => true,
        Some(State::Attached(_)) => false,
        Some(State::Refused { next, .. }) => *next <= tick,
    };
    Plan {
        attach: wanted.iter().filter(|key| due(key)).map(|key| (*key).clone()).collect(),
        detach: known.keys().filter(|key| !wanted.contains(key)).cloned().collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(next: u64) -> State {
        State::Refused { times: 1, next, reason: "no".into() }
    }

    #[test]
    fn new_keys_are_attached_and_gone_ones_detached_and_the_others_left_alone() {
        type Row<'a> = (&'a [(u32, State)], &'a [u32], &'a [u32], &'a [u32]);
        // known, wanted, to attach, to detach; at tick 10
        let table: [Row<'_>; 7] = [
            (&[], &[1, 2], &[1, 2], &[]),
            (&[(1, State::Attached(0)), (2, State::Attached(1))], &[1, 2], &[], &[]),
            (&[(1, State::Attached(0)), (2, State::Attached(1))], &[2, 3], &[3], &[1]),
            (&[(1, State::Attached(0))], &[], &[], &[1]),
            (&[(1, refused(11))], &[1], &[], &[]),
            (&[(1, refused(10))], &[1], &[1], &[]),
            // Forgotten, so that it is new when it comes back.
            (&[(1, refused(11))], &[], &[], &[1]),
        ];
        for (known, wanted, attach, detach) in table {
            let known = known.iter().cloned().collect();
            let plan = plan(&known, &wanted.iter().collect(), 10);
            assert_eq!((&*plan.attach, &*plan.detach), (attach, detach), "{known:?} {wanted:?}");
        }
    }

    #[test]
    fn a_key_that_goes_on_failing_is_tried_ever_more_seldom() {
        let mut state = None;
        let mut tries = Vec::new();
        for tick in 1..=300 {
            let known: BTreeMap<u32, State> =
                state.iter().map(|s: &State| (7, s.clone())).collect();
            if !plan(&known, &BTreeSet::from([&7]), tick).attach.is_empty() {
                tries.push(tick);
                state = Some(State::refused(state.as_ref(), tick, "no".into()));
            }
        }
        assert_eq!(tries, [1, 2, 4, 8, 16, 32, 64, 128, 192, 256]);
    }

    #[test]
    fn the_wait_has_an_end_however_often_it_failed() {
        let before = State::Refused { times: u32::MAX, next: 5, reason: "no".into() };
        let State::Refused { next, .. } = State::refused(Some(&before), 5, "no".into()) else {
            panic!("a refusal");
        };
        assert_eq!(next, 5 + SELDOM);
    }
}
