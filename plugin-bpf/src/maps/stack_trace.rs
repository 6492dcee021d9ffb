//! Stack traces.

use super::RawMap;
use crate::object::record::from_bytes;
use libbpf_rs::{MapCore, MapType};
use plugin_api::{Result, ensure};

/// Stacks by the id that `bpf_get_stackid()` gave a program.
///
/// For tools that count by stack: the id is a part of a [`crate::Table`]'s key, and its frames are
/// read here before the line is pushed.
///
/// There is no reset. An id is a hash of the frames, so the same stack has it again at the next
/// tick; delete an id when it was read, or the map fills with stacks that do not come back. A
/// program may meet the same stack between reading and deletion and hold an id without frames then,
/// so treat that as an unknown stack.
pub struct StackTrace {
    raw: RawMap,
}

impl StackTrace {
    /// Reads a map of a loaded skeleton.
    ///
    /// # Errors
    /// It is of another kind, or keeps build ids in place of addresses (`BPF_F_STACK_BUILD_ID`).
    pub fn of(map: &dyn MapCore) -> Result<Self> {
        Self::from_raw(RawMap::of(map)?)
    }

    /// Reads a map that is known by its descriptor.
    ///
    /// # Errors
    /// As for [`StackTrace::of`].
    pub fn from_raw(raw: RawMap) -> Result<Self> {
        let frames = raw.value_size().next_multiple_of(8);
        let raw = raw.read_as::<Self>(&[MapType::StackTrace], 4, frames)?;
        ensure!(
            raw.flags() & libbpf_sys::BPF_F_STACK_BUILD_ID == 0,
            "map `{}` keeps build ids, not addresses (BPF_F_STACK_BUILD_ID)",
            raw.name()
        );
        Ok(Self { raw })
    }

    /// Frames that a stack is cut off after.
    #[must_use]
    pub fn depth(&self) -> usize {
        self.raw.value_size() / 8
    }

    /// The frames of an id as addresses, the innermost first; `None` when there is no stack of that
    /// id.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn frames(&self, id: u32) -> Result<Option<Vec<u64>>> {
        let mut value = vec![0; self.raw.value_len()];
        let found = self.raw.lookup(&id.to_ne_bytes(), &mut value)?;
        let frames = value.chunks_exact(8).map(from_bytes);
        Ok(found.then(|| frames.take_while(|frame: &u64| *frame != 0).collect()))
    }

    /// Removes the stack of an id; false when there was none.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn delete(&self, id: u32) -> Result<bool> {
        self.raw.delete(&id.to_ne_bytes())
    }

    /// The bytes beneath, for what is not offered here.
    #[must_use]
    pub fn raw(&self) -> &RawMap {
        &self.raw
    }
}
