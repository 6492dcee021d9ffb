//! What a plugin wraps its BPF skeleton with.
//!
//! | in BPF (`unity.bpf.h`) | in Rust | for | how it is exact |
//! |---|---|---|---|
//! | `COUNTERS` | [`Counters`] | bounded keys | monotonic; the difference to the reading before |
//! | `HISTOGRAM` | [`Histogram`] | latencies, sizes | two halves, the idle one is read ([`Halves`]) |
//! | `TABLE` | [`Table`] | unbounded keys | the same |
//! | `EVENTS` | [`Events`] | single events with their own time | ring buffer, what does not fit is counted |
//! | plain maps | [`maps`] | a tool's own state | read as they are; none is reset |
//!
//! A tool's skeleton is brought in by [`skeleton!`], loaded and attached by [`Skeleton::attach`], which
//! tries a ladder of [`Rung`]s, and kept as [`Attached`]. What won, what did not and why, and how often
//! the kernel skipped a program becomes the table `collector_program`, without the tool's doing.
#![deny(missing_docs)]

mod attach;
mod banks;
mod clock;
mod counters;
mod events;
pub mod group;
mod halves;
mod histogram;
mod load;
pub mod maps;
mod print;
mod programs;
mod record;
mod skeleton;
mod table;
mod threads;
pub mod tracepoint;

pub use attach::{Rung, Verdict};
pub use clock::Timeline;
pub use counters::Counters;
pub use events::Events;
pub use halves::{Halves, Idle};
pub use histogram::Histogram;
pub use programs::{Program, kernel_at_least};
pub use record::{Record, bytes, from_bytes, text};
pub use skeleton::{Attached, SkelObject, Skeleton};
pub use table::{Lost, Table, top};
pub use threads::max_threads;

#[doc(hidden)]
pub use libbpf_rs;

/// All that a BPF plugin's source needs in scope.
pub mod prelude {
    pub use crate::{
        Attached, Counters, Events, Halves, Histogram, Lost, Rung, Table, Timeline, skeleton, text,
        top,
    };
    pub use plugin_api::prelude::*;
}
