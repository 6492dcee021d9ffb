//! What a map operation's failure says.

use libbpf_rs::MapType;
use std::{fmt, io};

/// `ENOTSUPP`, which the kernel keeps to itself (include/linux/errno.h) and returns all the same.
pub(super) const ENOTSUPP: i32 = 524;

/// Why an operation was not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// By the kernel, with this error number.
    Errno(i32),
    /// By us: the key is not as long as the map's.
    Key { given: usize, wanted: usize },
    /// By us: the value, or batch of values, is not as long as the map's.
    Value { given: usize, wanted: usize },
}

/// A failed operation on a map: which, on what, and why, in the kernel's words and in ours.
///
/// It is what the errors of this module's readers are made of; `error.downcast_ref::<MapError>()`
/// gives it back.
#[derive(Debug)]
pub struct MapError {
    operation: &'static str,
    map: String,
    kind: MapType,
    max_entries: u32,
    refusal: Refusal,
}

impl MapError {
    pub(super) fn new(
        operation: &'static str,
        map: &str,
        kind: MapType,
        max_entries: u32,
        refusal: Refusal,
    ) -> Self {
        Self { operation, map: map.to_owned(), kind, max_entries, refusal }
    }

    /// The kernel's error number; `None` when the kernel was not asked, because a size was wrong.
    #[must_use]
    pub fn errno(&self) -> Option<i32> {
        match self.refusal {
            Refusal::Errno(errno) => Some(errno),
            Refusal::Key { .. } | Refusal::Value { .. } => None,
        }
    }

    /// What the number means for this operation on this kind of map, where that is known.
    fn meaning(&self, errno: i32) -> Option<String> {
        use libc::{E2BIG, EFAULT, EINVAL, ENOSPC, EOPNOTSUPP, EPERM};
        let hash = matches!(self.kind, MapType::HashOfMaps) || self.kind.is_hash_map();
        Some(match (self.operation, errno) {
            ("update" | "update_batch", E2BIG) if hash => {
                format!("all {} are taken", self.max_entries)
            }
            ("update", E2BIG) if matches!(self.kind, MapType::Queue | MapType::Stack) => {
                format!("all {} are taken", self.max_entries)
            }
            ("update" | "update_batch", E2BIG) => format!("it has {} entries", self.max_entries),
            ("update" | "update_batch", ENOSPC) if self.kind == MapType::LpmTrie => {
                format!("all {} are taken", self.max_entries)
            }
            ("lookup_and_delete", ENOTSUPP | EOPNOTSUPP | EINVAL) => {
                "this kernel has it for queues and stacks since Linux 4.20, for hashes since 5.14, \
                 for other kinds never"
                    .into()
            }
            ("drain", EFAULT) => "entries may have been removed unread".into(),
            (_, EPERM) => "is the map frozen, or does the process lack CAP_BPF?".into(),
            (_, ENOTSUPP | EOPNOTSUPP) => "this kernel cannot do it with this kind of map".into(),
            _ => return None,
        })
    }
}

impl fmt::Display for MapError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "map `{}` ({}): {}: ", self.map, kind_name(self.kind), self.operation)?;
        let errno = match self.refusal {
            Refusal::Errno(errno) => errno,
            Refusal::Key { given, wanted } => {
                return write!(f, "the key has {given} bytes, the map's have {wanted}");
            }
            Refusal::Value { given, wanted } => {
                return write!(f, "the value has {given} bytes, the map's have {wanted}");
            }
        };
        match errno {
            ENOTSUPP => f.write_str("Operation not supported (os error 524)")?,
            errno => write!(f, "{}", io::Error::from_raw_os_error(errno))?,
        }
        self.meaning(errno).map_or(Ok(()), |meaning| write!(f, ": {meaning}"))
    }
}

impl std::error::Error for MapError {}

/// A kind of map as the kernel's sources and `bpftool` name it.
pub(super) fn kind_name(kind: MapType) -> &'static str {
    match kind {
        MapType::Hash => "hash",
        MapType::Array => "array",
        MapType::ProgArray => "prog_array",
        MapType::PerfEventArray => "perf_event_array",
        MapType::PercpuHash => "percpu_hash",
        MapType::PercpuArray => "percpu_array",
        MapType::StackTrace => "stack_trace",
        MapType::CgroupArray => "cgroup_array",
        MapType::LruHash => "lru_hash",
        MapType::LruPercpuHash => "lru_percpu_hash",
        MapType::LpmTrie => "lpm_trie",
        MapType::ArrayOfMaps => "array_of_maps",
        MapType::HashOfMaps => "hash_of_maps",
        MapType::Queue => "queue",
        MapType::Stack => "stack",
        MapType::RingBuf => "ringbuf",
        MapType::UserRingBuf => "user_ringbuf",
        MapType::BloomFilter => "bloom_filter",
        MapType::TaskStorage => "task_storage",
        MapType::SkStorage => "sk_storage",
        MapType::InodeStorage => "inode_storage",
        MapType::CGrpStorage => "cgrp_storage",
        MapType::Arena => "arena",
        _ => "map of another kind",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(operation: &'static str, kind: MapType, refusal: Refusal) -> String {
        MapError::new(operation, "m", kind, 8, refusal).to_string()
    }

    #[test]
    fn an_error_names_operation_map_and_reason() {
        let cases = [
            ("update", MapType::Hash, Refusal::Errno(libc::E2BIG), "all 8 are taken"),
            ("update", MapType::Array, Refusal::Errno(libc::E2BIG), "it has 8 entries"),
            ("update", MapType::LpmTrie, Refusal::Errno(libc::ENOSPC), "all 8 are taken"),
            ("lookup_and_delete", MapType::PercpuHash, Refusal::Errno(ENOTSUPP), "since 5.14"),
            ("delete", MapType::Array, Refusal::Errno(libc::EINVAL), "Invalid argument"),
            ("lookup", MapType::Hash, Refusal::Key { given: 2, wanted: 4 }, "has 2 bytes"),
        ];
        for (operation, kind, refusal, end) in cases {
            let said = said(operation, kind, refusal);
            assert!(said.starts_with(&format!("map `m` ({}): {operation}: ", kind_name(kind))));
            assert!(said.contains(end), "{said}");
        }
        let said = said("lookup", MapType::Hash, Refusal::Errno(ENOTSUPP));
        assert!(!said.contains("Unknown error"), "{said}");
    }
}
