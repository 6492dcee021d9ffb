//! Which of an output's URLs gets the next request.
//!
//! The one that works keeps the lines. When it fails, each of the others gets its chance before the output
//! counts as failing. The first one, which is the operator's choice, is tried again now and then.

use crate::output::Failure;
use anyhow::Error;
use std::time::{Duration, Instant};

/// Before the first URL is tried again; doubled each time that it fails.
const SHORTEST: Duration = Duration::from_secs(30);
const LONGEST: Duration = Duration::from_secs(600);

/// What is known of the URLs, which are counted from 0.
#[derive(Debug)]
pub struct Failover {
    count: usize,
    /// The one that worked last.
    current: usize,
    /// When the first is tried again, while another one works.
    back_at: Instant,
    pause: Duration,
    /// Those that failed since one has worked, or since the output failed.
    failed: Vec<(usize, Failure)>,
}

impl Failover {
    /// Nothing is known of them yet. There is at least one.
    pub fn new(count: usize) -> Self {
        let (back_at, pause) = (Instant::now(), SHORTEST);
        Self { count, current: 0, back_at, pause, failed: Vec::new() }
    }

    /// Who gets the next request.
    pub fn next(&self, now: Instant) -> usize {
        let untried = |at: &usize| self.failed.iter().all(|(failed, _)| failed != at);
        let first = (self.current != 0 && now >= self.back_at).then_some(0);
        let order = first.into_iter().chain([self.current]).chain(0..self.count);
        order.into_iter().find(untried).unwrap_or(self.current)
    }

    /// It took lines, or refused them with reason. When another one did before: why that changed.
    pub fn worked(&mut self, at: usize, now: Instant) -> Option<String> {
        let failed = std::mem::take(&mut self.failed);
        if at == self.current {
            return None;
        }
        self.current = at;
        self.pause = SHORTEST;
        self.back_at = now + self.pause;
        Some(words(&failed))
    }

    /// It failed. None when another one is to be tried at once, else the failure of all of them.
    pub fn failed(&mut self, at: usize, why: Failure, now: Instant) -> Option<Failure> {
        if at == 0 && self.current != 0 {
            self.pause = (self.pause * 2).min(LONGEST);
            self.back_at = now + self.pause;
        }
        self.failed.retain(|(failed, _)| *failed != at); // two senders may have failed there
        self.failed.push((at, why));
        (self.failed.len() >= self.count).then(|| all(std::mem::take(&mut self.failed)))
    }
}

/// One failure made of those of all: as soon as one may pass by itself, so may it.
fn all(failed: Vec<(usize, Failure)>) -> Failure {
    let (mut passes, mut earliest) = (false, Some(Duration::MAX));
    let why = Error::msg(words(&failed));
    for (_, failure) in failed {
        if let Failure::Later { after, .. } = failure {
            passes = true;
            earliest = earliest.min(after); // None, a time of our own choice, is the smallest
        }
    }
    if passes { Failure::Later { why, after: earliest } } else { Failure::Hold(why) }
}

fn words(failed: &[(usize, Failure)]) -> String {
    let words: Vec<String> = failed.iter().map(|(_, failure)| failure.to_string()).collect();
    words.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn later(after: Option<u64>) -> Failure {
        Failure::Later { why: Error::msg("later"), after: after.map(Duration::from_secs) }
    }

    fn hold() -> Failure {
        Failure::Hold(Error::msg("hold"))
    }

    #[test]
    fn the_one_that_works_keeps_the_lines_and_the_first_is_tried_again() {
        let begin = Instant::now();
        let at = |seconds| begin + Duration::from_secs(seconds);
        let mut urls = Failover::new(3);
        assert_eq!(urls.next(at(0)), 0);
        assert_eq!(urls.worked(0, at(0)), None);
        assert!(urls.failed(0, later(None), at(1)).is_none());
        assert_eq!(urls.next(at(1)), 1);
        assert!(urls.failed(1, later(None), at(1)).is_none());
        assert_eq!(urls.next(at(1)), 2);
        assert_eq!(urls.worked(2, at(1)).unwrap(), "later; later");
        assert_eq!(urls.worked(2, at(2)), None);
        assert_eq!((urls.next(at(30)), urls.next(at(31))), (2, 0));
        assert!(urls.failed(0, later(None), at(31)).is_none());
        assert_eq!(urls.next(at(31)), 2, "the one that worked, not the next in the list");
        assert_eq!(urls.worked(2, at(31)), None);
        assert_eq!((urls.next(at(90)), urls.next(at(91))), (2, 0), "after twice the time");
        assert_eq!(urls.worked(0, at(91)).unwrap(), "");
        assert_eq!(urls.next(at(9999)), 0);
    }

    #[test]
    fn when_all_have_failed_the_output_has_and_all_are_tried_anew() {
        let now = Instant::now();
        let mut urls = Failover::new(2);
        for _ in 0..2 {
            assert!(urls.failed(urls.next(now), later(None), now).is_none());
            assert!(urls.failed(urls.next(now), later(None), now).is_some());
            assert_eq!(urls.next(now), 0);
        }
    }

    #[test]
    fn the_shortest_wait_counts_and_a_person_is_asked_only_when_no_wait_helps() {
        let after = |failures: Vec<Failure>| match all(failures.into_iter().enumerate().collect()) {
            Failure::Later { why, after } => (why.to_string(), after.map(|after| after.as_secs())),
            failure => (failure.to_string(), Some(0)),
        };
        let joined = "later; later".to_owned();
        assert_eq!(after(vec![later(Some(9)), later(Some(5))]), (joined.clone(), Some(5)));
        assert_eq!(after(vec![later(Some(9)), later(None)]), (joined, None));
        assert_eq!(after(vec![hold(), later(Some(9))]), ("hold; later".to_owned(), Some(9)));
        assert_eq!(after(vec![hold(), hold()]).0, "hold; hold");
    }
}
