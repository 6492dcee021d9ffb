//! What a tool wraps its BPF program with.
//!
//! | in BPF (`unity.bpf.h`) | in Rust | for | how it is exact |
//! |---|---|---|---|
//! | `COUNTERS`, `COUNTER_ARRAY` | [`Counters`], [`CounterArray`] | bounded keys | monotonic; the difference to the reading before |
//! | `HISTOGRAM` | [`Histogram`] | latencies, sizes | two halves and a cut ([`Cut`]) |
//! | `HISTOGRAMS` | [`Histograms`] | the same, by key | the same |
//! | `TABLE` | [`Table`] | unbounded keys | the same |
//! | `STACKS` | [`Stacks`] | call stacks | the same |
//! | `PAIRS` | [`Pairs`] | begin and end of something | state, each fate counted |
//! | `CPU_PAIRS` | [`CpuPairs`] | the same on one CPU, as of interrupts | the same |
//! | `EVENTS` | [`Events`] | single events with their own time | ring buffer, what does not fit is counted |
//! | rows by name | [`group`] | top names and `other` | sums with their remainders |
//! | plain maps | [`maps`] | a tool's own state | read as they are; none is reset |
//!
//! A tool is a type that implements [`Tool`]: it says what it observes ([`Hooks`]) and how the maps of a tick
//! become rows. Where a section does not say where its program attaches, a [`Target`] does; what comes and goes
//! while the tool runs is followed by [`Links`]. [`skeleton!`] brings in its program, `skel::Maps` its pieces under the names of the program.
//! Loading, the ladder of ways to attach, the cut and the reports (`collector_program`, `collector_map`) are
//! done here.
#![deny(missing_docs)]

mod attach;
pub mod errno;
mod exact;
pub mod group;
mod map_report;
pub mod maps;
mod object;
pub mod signal;
mod status;
mod tool;
#[doc(hidden)]
pub mod verify;

pub use attach::{
    Attached, Changes, Function, Hook, Hooks, Links, PerfEvent, Program, ProgramInfo, Rate, Target,
    Verdict, kernel_at_least,
};
pub use exact::{
    CounterArray, Counters, CpuPairs, Cut, CutKind, Events, Extent, Histogram, Histograms, Idle,
    Lost, Named, Pairs, Piece, Stacks, Table, Timed, Timeline,
};
pub use object::{Record, Setup, bytes, from_bytes, max_threads, possible_cpus, text, zeroed};
pub use status::exit_status;
pub use tool::{ObjectSet, Running, Tool};

#[doc(hidden)]
pub use object::{
    Aligned, Code, Consts, Lent, Maps, Object, PieceDef, PieceKind, ProgramDef, Settings,
};
#[doc(hidden)]
pub use {attach::by_hand, attach::only_kind, tool::last_wait};
#[doc(hidden)]
pub use {libbpf_rs, plugin_api};

/// Brings in the program of `src/NAME.bpf.c` as the module `skel`: `skel::Object` for
/// [`Tool::Object`], `skel::Maps` with its pieces by name, `skel::types` with its keys, values and events,
/// and `skel::Consts` with its constants. The build script writes it (`plugin_bpf_build::skeletons()`).
#[macro_export]
macro_rules! skeleton {
    ($name:ident) => {
        $crate::skeleton!($name as skel);
    };
    ($name:ident as $module:ident) => {
        #[allow(
            clippy::all,
            clippy::pedantic,
            missing_docs,
            unused,
            unused_qualifications,
            non_camel_case_types
        )]
        mod $module {
            include!(concat!(env!("OUT_DIR"), "/", stringify!($name), ".skel.rs"));
        }
    };
}

/// All that a BPF plugin's source needs in scope.
pub mod prelude {
    pub use crate::{
        Attached, Hook, Hooks, Links, Lost, PerfEvent, Rate, Setup, Target, Timeline, Tool, by,
        errno, exit_status, export_tool,
        group::{Filter, Groups},
        possible_cpus, signal, skeleton, sums, text,
    };
    pub use plugin_api::prelude::*;
}
