//! Where lines lie, and which: of those that wait, were found, or are lost.

use crate::output::books::Cause;
use plugin_api::Tick;
use std::sync::Arc;

/// Where a batch lies in the spool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    pub(super) segment: u64,
    pub(super) offset: u64,
}

/// Batches of a plugin that the spool gave up, or found at the start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stretch {
    /// Whose.
    pub plugin: Arc<str>,
    /// How many lines.
    pub lines: u64,
    /// Begin of the first interval, and end of the last one: nanoseconds since 1970.
    pub from_ns: i64,
    /// See above.
    pub to_ns: i64,
}

impl Stretch {
    /// Lines of one tick.
    #[must_use]
    pub fn of(plugin: &Arc<str>, tick: &Tick, lines: u64) -> Self {
        let from_ns = tick.time_ns.saturating_sub_unsigned(tick.elapsed_ns);
        Self { plugin: Arc::clone(plugin), lines, from_ns, to_ns: tick.time_ns }
    }

    /// Takes in more lines of the same plugin.
    pub fn extend(&mut self, other: &Self) {
        self.lines += other.lines;
        self.from_ns = self.from_ns.min(other.from_ns);
        self.to_ns = self.to_ns.max(other.to_ns);
    }
}

/// Lines that the spool gave up, and why.
pub type Lost = Vec<(Stretch, Cause)>;

/// What waits in the spool and was not taken yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Waiting {
    /// Lines.
    pub lines: u64,
    /// Bytes of them.
    pub bytes: u64,
}
