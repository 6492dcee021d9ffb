//! What a tool wraps its BPF program with.
//!
//! | in BPF (`unity.bpf.h`) | in Rust | for | how it is exact |
//! |---|---|---|---|
//! | `COUNTERS`, `COUNTER_ARRAY` | [`Counters`], [`CounterArray`] | bounded keys | monotonic; the difference to the reading before |
//! | `HISTOGRAM` | [`Histogram`] | latencies, sizes | two halves and a cut ([`Cut`]) |
//! | `HISTOGRAMS` | [`Histograms`] | the same, by key | the same |
//! | `TABLE` | [`Table`] | unbounded keys | the same |
//! | `STACKS` | [`Stacks`] | call stacks | the same |
//! | `STACK_STORE` | [`StackStore`] | call stacks that state names | state; stacks without room are counted |
//! | `PAIRS` | [`Pairs`] | begin and end of something | state, each fate counted |
//! | `CPU_PAIRS` | [`CpuPairs`] | the same on one CPU, as of interrupts | the same |
//! | `EVENTS` | [`Events`] | single events with their own time | ring buffer, what does not fit is counted |
//! | rows by name | [`group`] | top names and `other` | sums with their remainders |
//! | names of stacks | [`symbols`] | the stacks of a top list, folded | by process, file and time, in bounded memory |
//! | plain maps | [`maps`] | a tool's own state | read as they are; none is reset |
//!
//! A tool is a type that implements [`Tool`]: it says what it observes ([`Hooks`]) and how the maps of a tick
//! become rows. Where a section does not say where its program attaches, a [`Target`] does; what comes and goes
//! while the tool runs is followed by [`Links`], programs and libraries of any process by [`Files`]. [`skeleton!`] brings in its program, `skel::Maps` its pieces under the names of the program.
//! Loading, the ladder of ways to attach, the cut and the reports (`collector_program`, `collector_bpf`,
//! `collector_map`) are done here.
#![deny(missing_docs)]

mod attach;
mod destination;
pub mod elf;
pub mod errno;
mod exact;
pub mod group;
mod map_report;
pub mod maps;
pub mod net;
mod object;
pub mod signal;
mod status;
pub mod symbols;
mod tool;
#[doc(hidden)]
pub mod verify;

pub use attach::{
    Attached, Changes, Files, Found, Function, Hook, Hooks, Inode, Links, PerfEvent, Probed,
    Process, Program, ProgramInfo, Rate, Search, Target, Trial, Verdict, kernel_at_least,
};
pub use destination::Destination;
pub use exact::{
    CounterArray, Counters, CpuPairs, Cut, CutKind, Events, Extent, Histogram, Histograms, Idle,
    Lost, Named, Pairs, Piece, StackStore, Stacks, Table, Timed, Timeline,
};
pub use object::{
    ObjectFile, Record, Setup, bytes, from_bytes, max_threads, possible_cpus, text, zeroed,
};
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
        Attached, Destination, Files, Hook, Hooks, Links, Lost, PerfEvent, Rate, Search, Setup,
        Target, Timeline, Tool, Trial, by, errno, exit_status, export_tool,
        group::{Filter, Groups},
        net, possible_cpus, signal, skeleton, sums, text,
    };
    pub use plugin_api::prelude::*;
}
