//! Shared by the tests of the whole and the benchmarks.

pub mod calls;
pub mod exact;
