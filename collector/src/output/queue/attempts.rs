//! Attempts: who may make one, and when the next one follows a failure.
//!
//! An output has one outage at a time, however many senders it has: it begins with the first failure, and
//! from then on only the sender that failed tries again. The others wait until it succeeds.

use super::backoff::Backoff;
use std::time::{Duration, Instant};

/// Before an output that needs a person's help is tried again.
const HOLD: Duration = Duration::from_secs(60);
/// While a pause lasts, the sender looks so often whether another attempt is worth it; random, so that a
/// fleet does not look as one.
const LOOK: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(3));

/// The attempts of all senders of an output.
#[derive(Debug, Default)]
pub struct Attempts {
    /// Failures that began or prolonged an outage.
    failures: u64,
    /// How often the output was told to open again what it writes to.
    reopened: u64,
    outage: Option<Outage>,
}

/// While nothing is delivered.
#[derive(Debug)]
struct Outage {
    since: Instant,
    /// Why the last attempt failed.
    why: String,
    /// Who tries again.
    sender: usize,
    again: Instant,
    look: Instant,
    /// The other end asked for this pause.
    asked: bool,
    backoff: Backoff,
}

/// What an attempt knows of those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempt {
    failures: u64,
    /// Changes when what is written to is to be opened again.
    pub reopened: u64,
}

/// How long to wait after a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pause {
    /// As the other end asks, or for a time of our own choice.
    Own(Option<Duration>),
    /// Until a person has helped.
    Hold,
}

/// What a sender is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// An attempt.
    Go(Attempt),
    /// See whether an attempt is worth it, and tell [`Attempts::looked`].
    Look,
    /// Wait, until this time at most.
    Wait(Option<Instant>),
}

impl Attempts {
    /// What a sender with a parcel is to do now.
    pub fn next(&self, sender: usize, now: Instant) -> Next {
        let attempt = Attempt { failures: self.failures, reopened: self.reopened };
        match &self.outage {
            None => Next::Go(attempt),
            Some(outage) if outage.sender != sender => Next::Wait(None),
            Some(outage) if now >= outage.again => Next::Go(attempt),
            Some(outage) if outage.asked => Next::Wait(Some(outage.again)),
            Some(outage) if now >= outage.look => Next::Look,
            Some(outage) => Next::Wait(Some(outage.again.min(outage.look))),
        }
    }

    /// The sender of an outage has looked.
    pub fn looked(&mut self, worth_it: bool, now: Instant) {
        let Some(outage) = &mut self.outage else { return };
        outage.look = now + look();
        if worth_it {
            outage.again = now;
        }
    }

    /// An attempt failed. Whether that is news: it fails for another reason than before.
    pub fn failed(
        &mut self,
        sender: usize,
        attempt: Attempt,
        why: &str,
        pause: Pause,
        now: Instant,
    ) -> bool {
        // It began before the last failure: the same outage, which this says nothing new about, but for
        // how long the other end wants to be left alone.
        if attempt.failures != self.failures
            && let Some(outage) = &mut self.outage
        {
            if let Pause::Own(Some(asked)) = pause {
                let again = now + outage.backoff.asked(asked, fastrand::f64());
                outage.asked |= again > outage.again;
                outage.again = outage.again.max(again);
            }
            return false;
        }
        self.failures += 1;
        let outage = self.outage.get_or_insert_with(|| Outage::new(now));
        let news = outage.why != why;
        why.clone_into(&mut outage.why);
        outage.sender = sender;
        outage.asked = matches!(pause, Pause::Own(Some(_)));
        outage.look = now + look();
        outage.again = now
            + match pause {
                Pause::Hold => HOLD,
                Pause::Own(None) => outage.backoff.next(fastrand::f64()),
                Pause::Own(Some(asked)) => outage.backoff.asked(asked, fastrand::f64()),
            };
        news
    }

    /// An attempt succeeded. Since when nothing was delivered, if that ends an outage: one that began
    /// before the last failure does not.
    pub fn worked(&mut self, attempt: Attempt) -> Option<Instant> {
        if attempt.failures != self.failures {
            return None;
        }
        Some(self.outage.take()?.since)
    }

    /// What is written to is to be opened again. A pause of our own choice ends.
    pub fn reopen(&mut self, now: Instant) {
        self.reopened += 1;
        if let Some(outage) = self.outage.as_mut().filter(|outage| !outage.asked) {
            outage.again = now;
        }
    }

    /// Little time is left: the next attempt may be the last.
    pub fn hurry(&mut self, now: Instant) {
        if let Some(outage) = &mut self.outage {
            outage.again = now;
        }
    }

    /// Who tries again, while there is an outage.
    pub fn sender(&self) -> Option<usize> {
        Some(self.outage.as_ref()?.sender)
    }

    /// Why nothing is delivered.
    pub fn why(&self) -> Option<&str> {
        Some(&self.outage.as_ref()?.why)
    }
}

impl Outage {
    fn new(now: Instant) -> Self {
        Self {
            since: now,
            why: String::new(),
            sender: 0,
            again: now,
            look: now,
            asked: false,
            backoff: Backoff::default(),
        }
    }
}

fn look() -> Duration {
    let (shortest, longest) = LOOK;
    shortest + (longest - shortest).mul_f64(fastrand::f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    fn go(attempts: &Attempts, sender: usize, now: Instant) -> Attempt {
        match attempts.next(sender, now) {
            Next::Go(attempt) => attempt,
            other => panic!("{other:?}"),
        }
    }

    /// Attempts of three senders, of which the second has failed.
    fn outage(pause: Pause, now: Instant) -> (Attempts, Attempt) {
        let mut attempts = Attempts::default();
        let attempt = go(&attempts, 1, now);
        assert!(attempts.failed(1, attempt, "down", pause, now));
        (attempts, attempt)
    }

    #[test]
    fn after_a_failure_only_who_failed_tries_again_until_it_succeeds() {
        let now = Instant::now();
        let (mut attempts, _) = outage(Pause::Own(None), now);
        let later = now + 30 * S;
        for sender in [0, 2] {
            assert_eq!(attempts.next(sender, later), Next::Wait(None));
        }
        let attempt = go(&attempts, 1, later);
        assert!(!attempts.failed(1, attempt, "down", Pause::Own(None), later), "no news");
        let attempt = go(&attempts, 1, later + 30 * S);
        assert!(attempts.failed(1, attempt, "still down", Pause::Own(None), later));
        assert_eq!((attempts.sender(), attempts.why()), (Some(1), Some("still down")));
        let attempt = go(&attempts, 1, later + 60 * S);
        assert_eq!(attempts.worked(attempt), Some(now));
        assert!((0..3).all(|sender| matches!(attempts.next(sender, later), Next::Go(_))));
        assert_eq!((attempts.sender(), attempts.why()), (None, None));
    }

    #[test]
    fn what_was_under_way_when_the_outage_began_neither_ends_nor_prolongs_it() {
        let now = Instant::now();
        let (mut attempts, earlier) = outage(Pause::Own(None), now);
        assert_eq!(attempts.worked(earlier), None);
        assert!(!attempts.failed(0, earlier, "another word", Pause::Own(None), now));
        assert_eq!((attempts.sender(), attempts.why()), (Some(1), Some("down")));
        // The first pause of all is at most a quarter of a second.
        go(&attempts, 1, now + S);
    }

    #[test]
    fn whoever_hears_how_long_the_server_wants_to_be_left_alone_all_senders_obey() {
        let now = Instant::now();
        let (mut attempts, earlier) = outage(Pause::Own(None), now);
        attempts.failed(2, earlier, "busy", Pause::Own(Some(40 * S)), now);
        for sender in 0..3 {
            let next = attempts.next(sender, now + 40 * S - S / 100);
            assert!(matches!(next, Next::Wait(_)), "{sender}: {next:?}");
        }
        go(&attempts, 1, now + 41 * S);
        // Neither a look nor SIGHUP shortens it, but the end of the process does.
        attempts.reopen(now);
        assert!(matches!(attempts.next(1, now + 5 * S), Next::Wait(Some(_))));
        attempts.hurry(now);
        go(&attempts, 1, now);
    }

    #[test]
    fn while_it_waits_it_looks_every_few_seconds_and_goes_at_once_when_that_is_worth_it() {
        let now = Instant::now();
        let (mut attempts, _) = outage(Pause::Hold, now);
        assert_eq!(attempts.next(1, now + 3 * S), Next::Look);
        attempts.looked(false, now + 3 * S);
        assert!(matches!(attempts.next(1, now + 3 * S + S / 2), Next::Wait(Some(_))));
        assert_eq!(attempts.next(1, now + 6 * S), Next::Look);
        attempts.looked(true, now + 6 * S);
        go(&attempts, 1, now + 6 * S);
    }

    #[test]
    fn a_person_is_waited_for_a_minute_or_until_it_says_that_it_has_helped() {
        let now = Instant::now();
        let (mut attempts, before) = outage(Pause::Hold, now);
        assert_eq!(attempts.next(1, now + 59 * S), Next::Look);
        go(&attempts, 1, now + 60 * S);
        attempts.reopen(now + S);
        assert_ne!(go(&attempts, 1, now + S).reopened, before.reopened);
    }
}
