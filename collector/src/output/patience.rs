//! How long one attempt may take on a reader that is slow, or stands still.

use super::Failure;
use anyhow::anyhow;
use std::time::{Duration, Instant};

/// A reader that reads nothing for so long stands still.
pub const STALL: Duration = Duration::from_secs(2);

/// How long one attempt may take.
#[derive(Debug)]
pub struct Patience {
    stall: Instant,
    deadline: Option<Instant>,
    /// Whether anything was written or read.
    pub moved: bool,
}

/// The attempt took as long as it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    /// The reader is slow, and all is well. It is over so that what arrived gets into the books, and so
    /// that a deadline that was set meanwhile is heard of.
    Slow,
    /// The reader stands still.
    Still,
    /// The deadline is reached.
    End,
}

impl Patience {
    /// From now on.
    #[must_use]
    pub fn new(deadline: Option<Instant>) -> Self {
        Self { stall: Instant::now() + STALL, deadline, moved: false }
    }

    /// The time that is left, which is not zero.
    ///
    /// # Errors
    /// There is none.
    pub fn left(&self) -> Result<Duration, Over> {
        let now = Instant::now();
        if self.deadline.is_some_and(|deadline| deadline <= now) {
            return Err(Over::End);
        }
        if self.stall <= now {
            return Err(if self.moved { Over::Slow } else { Over::Still });
        }
        Ok(self.deadline.map_or(self.stall, |deadline| deadline.min(self.stall)) - now)
    }
}

impl Over {
    /// What an output answers then. It has waited already: it may be called again at once.
    ///
    /// # Errors
    /// All but a slow reader.
    pub fn answer(self) -> Result<(), Failure> {
        let why = match self {
            Self::Slow => return Ok(()),
            Self::Still => anyhow!("its reader has read nothing for {} s", STALL.as_secs()),
            Self::End => anyhow!("its reader has not read everything in time"),
        };
        Err(Failure::Later { why, after: Some(Duration::ZERO) })
    }
}
