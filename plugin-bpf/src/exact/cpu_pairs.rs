//! `CPU_PAIRS`: the begin and the end of something on one CPU.

use super::{Extent, Idle, Lost, Piece};
use plugin_api::Result;

/// What a CPU has begun and not yet ended: state that no tick resets, and that programs keep by themselves.
#[derive(Default)]
pub struct CpuPairs {
    lost: Lost,
}

impl CpuPairs {
    /// Begins without an end (`twice`) and ends without a begin (`unmatched`), since the tick before.
    #[must_use]
    pub fn lost(&self) -> Lost {
        self.lost
    }
}

impl Piece for CpuPairs {
    fn cut(&mut self, _: Idle, lost: Lost) -> Result<()> {
        self.lost = lost;
        Ok(())
    }
    fn extent(&self) -> Option<Extent> {
        (self.lost != Lost::default()).then_some(Extent { keys: None, lost: self.lost })
    }
}
