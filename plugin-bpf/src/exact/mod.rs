//! What can be read without losing or doubling a count.
//!
//! Each piece is one declaration of unity.bpf.h. The build script writes the plugin's pieces as the fields of
//! `skel::Maps`; at every tick each is read once, behind one cut, before the tool makes its rows.

pub(crate) mod banks;
mod clock;
mod counters;
mod cpu_pairs;
pub(crate) mod cut;
mod events;
mod histogram;
mod histograms;
pub(crate) mod losses;
mod pairs;
mod stack_store;
mod stacks;
mod table;

pub use clock::{Timed, Timeline};
pub use counters::{CounterArray, Counters, Named};
pub use cpu_pairs::CpuPairs;
pub use cut::{Cut, CutKind};
pub use events::Events;
pub use histogram::Histogram;
pub use histograms::Histograms;
pub use losses::Lost;
pub use pairs::Pairs;
pub use stack_store::StackStore;
pub use stacks::Stacks;
pub use table::Table;

use plugin_api::Result;

/// The half that nobody adds to.
#[derive(Clone, Copy, Debug)]
pub struct Idle(usize);

impl Idle {
    pub(crate) fn new(half: usize) -> Self {
        Self(half)
    }
    pub(crate) fn half(self) -> usize {
        self.0
    }
}

/// How far a piece is filled, for `collector_map`.
#[derive(Clone, Copy, Debug)]
pub struct Extent {
    /// Keys of this tick, where it knows them.
    pub keys: Option<u64>,
    /// What it lost.
    pub lost: Lost,
}

/// A declared map, or two of them, as the tick sees it.
pub trait Piece {
    /// Takes what was added to the idle half, and what was lost meanwhile.
    ///
    /// # Errors
    /// The kernel refused to read. What was read before is kept.
    fn cut(&mut self, idle: Idle, lost: Lost) -> Result<()>;

    /// Drops what the tool did not take. Not called after a tick that failed: what it did not come to is in the
    /// next one.
    fn forget(&mut self) {}

    /// What `collector_map` says about it; `None` for one that has nothing to lose.
    fn extent(&self) -> Option<Extent>;
}
