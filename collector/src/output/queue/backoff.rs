//! How long to wait before the next attempt.

use std::time::Duration;

/// The bound of the first pause; each further one is twice as long.
const FIRST: Duration = Duration::from_millis(250);
/// No pause of our own is longer.
const LONGEST: Duration = Duration::from_secs(30);
/// And none is shorter, so that a server that comes up is not hammered.
const SHORTEST: Duration = Duration::from_millis(20);
/// The longest that a server may ask for.
const LONGEST_ASKED: Duration = Duration::from_secs(600);

/// Pauses between attempts: exponential with full jitter, so that a fleet does not come back as one.
#[derive(Debug, Default)]
pub struct Backoff {
    attempts: u32,
}

impl Backoff {
    /// The next pause; `share` is a random number from 0 to 1.
    pub fn next(&mut self, share: f64) -> Duration {
        let bound = LONGEST.min(FIRST.saturating_mul(1 << self.attempts.min(16)));
        self.attempts = self.attempts.saturating_add(1);
        bound.mul_f64(share).max(SHORTEST)
    }

    /// The next pause when the server asks for one, which is never undercut.
    pub fn asked(&mut self, asked: Duration, share: f64) -> Duration {
        asked.min(LONGEST_ASKED) + self.next(share).min(Duration::from_secs(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_their_bound_and_are_anywhere_below() {
        let mut backoff = Backoff::default();
        let bounds: Vec<u128> = (0..9).map(|_| backoff.next(1.0).as_millis()).collect();
        assert_eq!(bounds, [250, 500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000]);
        assert_eq!(backoff.next(0.5), LONGEST / 2);
        assert_eq!(backoff.next(0.0), SHORTEST);
    }

    #[test]
    fn what_the_server_asks_for_is_kept_but_not_for_ever() {
        let mut backoff = Backoff::default();
        let second = Duration::from_secs(1);
        for (asked, least) in [(30, 30), (3600, 600), (0, 0)] {
            let pause = backoff.asked(second * asked, 0.7);
            assert!(pause >= second * least && pause <= second * (least + 1), "{pause:?}");
        }
    }
}
