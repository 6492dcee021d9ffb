//! Typed readers of every kind of map that a tool may declare for itself.
//!
//! | BPF side | Rust side | for |
//! |---|---|---|
//! | hash, LRU hash | [`struct@Hash`] | state by key: configuration, what is under way |
//! | per-CPU hash, per-CPU LRU hash | [`PerCpuHash`] | the same, a value for every CPU |
//! | array, per-CPU array | [`Array`], [`PerCpuArray`] | state by number |
//! | queue, stack | [`Queue`], [`Stack`] | values that are handed over, each taken once |
//! | LPM trie | [`LpmTrie`] | what a network address belongs to |
//! | stack trace | [`StackTrace`] | the frames behind the id of `bpf_get_stackid()` |
//! | array of maps, hash of maps | [`MapInMap`] | maps that are exchanged while programs run |
//! | ring buffer, perf event array | [`RingBuffer`], [`PerfBuffer`] | single events |
//! | all of them | [`RawMap`] | bytes, where no type above fits |
//!
//! Every reader is made by `of(&skel.maps.NAME)`, which checks kind and sizes, and owns its map: it
//! may outlive the skeleton and move to another thread.
//!
//! # Reading and resetting
//! There is no reset here. Between reading a value and writing zero to it a program may add to it,
//! on a per-CPU map it may even write the old count back; and a program that holds a hash's value
//! while the entry is removed adds to memory that nobody reads any more, however the removal is
//! done. All of it was measured, see each type. What is exact has a name of its own:
//! [`crate::Counters`] and [`crate::Histogram`] for bounded keys, [`crate::Table`] for unbounded
//! ones, [`crate::Events`] for single events.

mod array;
mod error;
mod hash;
mod lpm_trie;
mod map_in_map;
mod perf_buffer;
mod queue;
mod raw;
mod ring_buffer;
mod stack_trace;

pub use array::{Array, PerCpuArray};
pub use error::MapError;
pub use hash::{Hash, PerCpuHash};
pub use lpm_trie::{LpmTrie, Prefix};
pub use map_in_map::MapInMap;
pub use perf_buffer::{Drained, PerfBuffer};
pub use queue::{Queue, Stack};
pub use raw::RawMap;
pub(crate) use raw::made_here;
pub use ring_buffer::{Records, RingBuffer};
pub use stack_trace::StackTrace;

use crate::Record;
use crate::object::record::from_bytes;
use error::kind_name;
use libbpf_rs::MapType;
use plugin_api::{Result, ensure};
use std::any::type_name;

/// Which entries an update may write (`BPF_ANY`, `BPF_NOEXIST`, `BPF_EXIST`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Update {
    /// New ones and those that are there.
    #[default]
    Any,
    /// New ones only.
    NoExist,
    /// Only those that are there.
    Exist,
}

impl Update {
    fn bits(self) -> u64 {
        match self {
            Self::Any => u64::from(libbpf_sys::BPF_ANY),
            Self::NoExist => u64::from(libbpf_sys::BPF_NOEXIST),
            Self::Exist => u64::from(libbpf_sys::BPF_EXIST),
        }
    }

    /// What the kernel says when this rules an entry out.
    fn ruled_out(self) -> Option<i32> {
        match self {
            Self::Any => None,
            Self::NoExist => Some(libc::EEXIST),
            Self::Exist => Some(libc::ENOENT),
        }
    }
}

/// Whether a map is of one of the kinds, with keys of `key` and values of `value` bytes.
fn check<Reader>(raw: &RawMap, kinds: &[MapType], key: usize, value: usize) -> Result<()> {
    let (has_key, has_value) = (raw.key_size(), raw.value_size());
    ensure!(
        kinds.contains(&raw.kind()) && has_key == key && has_value == value,
        "map `{}` is a {} with keys of {has_key} and values of {has_value} bytes; \
         {} reads {} with keys of {key} and values of {value} bytes",
        raw.name(),
        kind_name(raw.kind()),
        reader_name::<Reader>(),
        kinds.iter().map(|kind| kind_name(*kind)).collect::<Vec<_>>().join(" or "),
    );
    Ok(())
}

/// A type as its author writes it: `Hash<u32, u64>`.
fn reader_name<Reader>() -> String {
    let mut name = String::new();
    for part in type_name::<Reader>().split_inclusive(['<', ',', ' ', '>', '[', ';', ']']) {
        name.push_str(part.rsplit("::").next().unwrap_or(part));
    }
    name
}

/// A per-CPU value: one for every possible CPU, each `stride` bytes after the one before.
fn per_cpu<V: Record>(bytes: &[u8], stride: usize) -> impl Iterator<Item = V> {
    bytes.chunks_exact(stride).map(from_bytes)
}

/// The bytes of a per-CPU value, padded as the kernel wants it.
fn per_cpu_bytes<V: Record>(raw: &RawMap, values: &[V]) -> Result<Vec<u8>> {
    ensure!(
        values.len() == raw.cpus(),
        "map `{}` wants a value for each of the {} possible CPUs, got {}",
        raw.name(),
        raw.cpus(),
        values.len()
    );
    let mut bytes = vec![0; raw.value_len()];
    for (place, value) in bytes.chunks_exact_mut(raw.stride()).zip(values) {
        place[..size_of::<V>()].copy_from_slice(crate::object::record::bytes(value));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_is_named_as_its_author_writes_it() {
        assert_eq!(reader_name::<Hash<u32, [u64; 3]>>(), "Hash<u32, [u64; 3]>");
        assert_eq!(reader_name::<Queue<Update>>(), "Queue<Update>");
    }
}
