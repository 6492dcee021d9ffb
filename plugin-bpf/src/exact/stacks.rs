//! `STACKS`: call stacks by a 64-bit hash.

use super::{Extent, Idle, Lost, Piece};
use crate::maps::RawMap;
use crate::object::record::from_bytes;
use plugin_api::Result;
use std::collections::HashMap;

/// Stacks that BPF programs stored with `stacks_add` since the tick before.
///
/// In the same cut as the tables that hold their ids: a stack is there whenever a row of this tick names it,
/// unless it is counted in [`Stacks::lost`]. Ids are hashes of the frames: they mean the same in every tick.
pub struct Stacks {
    halves: Option<[RawMap; 2]>,
    frames: HashMap<u64, Box<[u64]>>,
    lost: Lost,
}

impl Stacks {
    pub(crate) fn new(halves: Option<[RawMap; 2]>) -> Self {
        Self { halves, frames: HashMap::new(), lost: Lost::default() }
    }

    /// The addresses of a stack, innermost first. `None` for the id 0, which stands for no stack, and for one
    /// that is not of this tick.
    #[must_use]
    pub fn frames(&self, id: u64) -> Option<&[u64]> {
        self.frames.get(&id).map(AsRef::as_ref)
    }

    /// Stacks that found no room since the tick before, and those that were cut off (`truncated`).
    #[must_use]
    pub fn lost(&self) -> Lost {
        self.lost
    }
}

impl Piece for Stacks {
    fn cut(&mut self, idle: Idle, lost: Lost) -> Result<()> {
        self.lost = lost;
        self.frames.clear();
        let Some(halves) = &mut self.halves else { return Ok(()) };
        halves[idle.half()].drain_batch(|id, stack| {
            let len = from_bytes::<u64>(stack) as usize;
            let frames = stack[8..].chunks_exact(8).take(len).map(from_bytes::<u64>);
            self.frames.insert(from_bytes(id), frames.collect());
        })
    }
    fn extent(&self) -> Option<Extent> {
        let keys = Some(self.frames.len() as u64);
        self.halves.as_ref().map(|_| Extent { keys, lost: self.lost })
    }
}
