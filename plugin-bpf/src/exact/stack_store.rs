//! `STACK_STORE`: call stacks by a 64-bit hash, which stay.

use super::{Extent, Idle, Lost, Piece};
use crate::maps::RawMap;
use crate::object::record::{bytes, from_bytes};
use plugin_api::Result;

/// Stacks that BPF programs stored with `stack_store_add` and nobody removed since: for state that no tick resets,
/// such as what is held.
///
/// Ids are hashes of the frames, as those of [`crate::Stacks`]. Frames are read one stack at a time: ask for those
/// that get a line.
pub struct StackStore {
    map: Option<RawMap>,
    lost: Lost,
}

impl StackStore {
    pub(crate) fn new(map: Option<RawMap>) -> Self {
        Self { map, lost: Lost::default() }
    }

    /// The addresses of a stack, innermost first. `None` for the id 0, which stands for no stack, and for one
    /// that was removed.
    ///
    /// # Errors
    /// The kernel refused to read.
    pub fn frames(&self, id: u64) -> Result<Option<Box<[u64]>>> {
        let Some(map) = &self.map else { return Ok(None) };
        let mut stack = vec![0; map.value_len()];
        if !map.lookup(bytes(&id), &mut stack)? {
            return Ok(None);
        }
        let len = from_bytes::<u64>(&stack) as usize;
        Ok(Some(stack[8..].chunks_exact(8).take(len).map(from_bytes).collect()))
    }

    /// Makes room; false when there is no such stack. A program that has just got the id stores the stack again
    /// when it meets it the next time.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn remove(&self, id: u64) -> Result<bool> {
        self.map.as_ref().map_or(Ok(false), |map| map.delete(bytes(&id)))
    }

    /// Stacks that found no room since the tick before, and those that were cut off (`truncated`).
    #[must_use]
    pub fn lost(&self) -> Lost {
        self.lost
    }
}

impl Piece for StackStore {
    fn cut(&mut self, _: Idle, lost: Lost) -> Result<()> {
        self.lost = lost;
        Ok(())
    }
    fn extent(&self) -> Option<Extent> {
        self.map.as_ref().map(|_| Extent { keys: None, lost: self.lost })
    }
}
