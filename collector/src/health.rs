//! What becomes of a plugin that fails: pure decisions, taken by its [runner](crate::runner).

use crate::instance::PluginError;

/// How a plugin is, as `collector_plugin` shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// `init` has not ended yet.
    Loading,
    /// The last call succeeded.
    Running,
    /// A call is under way past its deadline.
    Late,
    /// The last call failed.
    Failed,
    /// Ended after failures; until it was started again and a call succeeded.
    Quarantined,
    /// Ended on request.
    Stopped,
    /// Never started: its file or its options are wrong.
    Refused,
}

impl State {
    /// The word for it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Loading => "loading",
            Self::Running => "running",
            Self::Late => "late",
            Self::Failed => "failed",
            Self::Quarantined => "quarantined",
            Self::Stopped => "stopped",
            Self::Refused => "refused",
        }
    }

    /// The state of a word.
    #[must_use]
    pub fn of_word(word: &str) -> Option<Self> {
        let all = [
            Self::Loading,
            Self::Running,
            Self::Late,
            Self::Failed,
            Self::Quarantined,
            Self::Stopped,
            Self::Refused,
        ];
        all.into_iter().find(|state| state.word() == word)
    }

    /// Its number, which never changes: databases without texts have it.
    #[must_use]
    pub const fn code(self) -> i64 {
        match self {
            Self::Running => 0,
            Self::Loading => 1,
            Self::Late => 2,
            Self::Failed => 3,
            Self::Quarantined => 4,
            Self::Stopped => 5,
            Self::Refused => 6,
        }
    }

    /// Whether it gives lines: its last call succeeded, and none is late.
    #[must_use]
    pub const fn is_up(self) -> bool {
        matches!(self, Self::Running)
    }
}

/// Failed calls in a row that end a plugin's patience.
const PATIENCE: u32 = 3;

/// Intervals to wait before the next start, by number of starts that came to nothing.
const BACK_OFF: [u32; 5] = [1, 2, 4, 8, 10];

/// What to do after a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// Call again at the next tick.
    Call,
    /// End it now, start it again after so many intervals.
    Restart {
        /// How many.
        after: u32,
    },
}

/// A plugin's record of failures.
#[derive(Clone, Copy, Debug, Default)]
pub struct Health {
    failed_calls: u32,
    restarts: usize,
}

impl Health {
    /// A call succeeded: all is forgiven.
    pub fn succeeded(&mut self) {
        *self = Self::default();
    }

    /// Whether it was ended for its failures, and has not recovered since.
    #[must_use]
    pub fn in_quarantine(&self) -> bool {
        self.restarts > 0
    }

    /// A call failed.
    pub fn call_failed(&mut self, error: &PluginError) -> Remedy {
        self.failed_calls += 1;
        let patient = error.goes_on() && self.failed_calls < PATIENCE;
        if patient { Remedy::Call } else { self.restart() }
    }

    /// A start failed.
    pub fn init_failed(&mut self) -> Remedy {
        self.restart()
    }

    fn restart(&mut self) -> Remedy {
        let after = BACK_OFF[self.restarts.min(BACK_OFF.len() - 1)];
        self.restarts += 1;
        self.failed_calls = 0;
        Remedy::Restart { after }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn no() -> PluginError {
        PluginError::of_answer("no".to_owned())
    }

    #[test]
    fn three_failed_calls_in_a_row_end_it_and_fewer_do_not() {
        let mut health = Health::default();
        assert_eq!(health.call_failed(&no()), Remedy::Call);
        assert_eq!(health.call_failed(&no()), Remedy::Call);
        health.succeeded();
        assert_eq!(health.call_failed(&no()), Remedy::Call);
        assert_eq!(health.call_failed(&no()), Remedy::Call);
        assert_eq!(health.call_failed(&no()), Remedy::Restart { after: 1 });
    }

    #[test]
    fn a_panic_or_the_end_of_its_process_ends_it_at_once() {
        for error in [
            PluginError::of_answer("panic at src/lib.rs:1: no".to_owned()),
            PluginError::Died("killed by SIGSEGV".to_owned()),
        ] {
            let mut health = Health::default();
            assert!(!health.in_quarantine());
            assert_eq!(health.call_failed(&error), Remedy::Restart { after: 1 });
            assert!(health.in_quarantine());
        }
    }

    #[test]
    fn the_back_off_grows_to_ten_intervals_and_no_further() {
        let mut health = Health::default();
        for after in [1, 2, 4, 8, 10, 10, 10] {
            assert_eq!(health.init_failed(), Remedy::Restart { after });
        }
        health.succeeded();
        assert_eq!(health.init_failed(), Remedy::Restart { after: 1 });
    }

    #[test]
    fn a_start_that_only_fails_again_does_not_shorten_the_back_off() {
        let mut health = Health::default();
        for after in [1, 2, 4] {
            health.call_failed(&no());
            health.call_failed(&no());
            assert_eq!(health.call_failed(&no()), Remedy::Restart { after });
        }
    }
}
