//! How much an output takes at once.

use std::time::Duration;

/// What a parcel is to hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Portion {
    /// Lines. A batch is never split for it: a single larger one comes alone.
    pub lines: u64,
    /// Bytes of line protocol, in the same way.
    pub bytes: usize,
    /// How long the first batch may wait for others.
    pub wait: Duration,
}

impl Portion {
    /// For outputs that gain nothing by waiting.
    pub const AT_ONCE: Self = Self { lines: u64::MAX, bytes: 1 << 20, wait: Duration::ZERO };
}
