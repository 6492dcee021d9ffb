//! `TABLE`: values of unbounded keys.

use super::{Extent, Idle, Lost, Piece};
use crate::Record;
use crate::maps::RawMap;
use crate::object::record::from_bytes;
use plugin_api::Result;

/// A hash of keys that nobody knows beforehand: processes, names, addresses.
///
/// There are two of it. The cut makes one of them quiet, and the tick empties it: every event is in exactly
/// one tick. At most the declared number of keys fits between two ticks; what comes later is counted in
/// [`Table::lost`].
pub struct Table<K, V> {
    halves: Option<[RawMap; 2]>,
    rows: Vec<(K, V)>,
    lost: Lost,
    keys: u64,
}

impl<K: Record, V: Record> Table<K, V> {
    pub(crate) fn new(halves: Option<[RawMap; 2]>) -> Self {
        Self { halves, rows: Vec::new(), lost: Lost::default(), keys: 0 }
    }

    /// The keys of this tick with their values, each once, in no order. Empty when they are taken a second
    /// time, and where no program that uses the map is loaded.
    pub fn take(&mut self) -> Vec<(K, V)> {
        std::mem::take(&mut self.rows)
    }

    /// What found no room since the tick before.
    #[must_use]
    pub fn lost(&self) -> Lost {
        self.lost
    }
}

impl<K: Record, V: Record> Piece for Table<K, V> {
    fn cut(&mut self, idle: Idle, lost: Lost) -> Result<()> {
        self.lost = lost;
        let Some(halves) = &mut self.halves else { return Ok(()) };
        let before = self.rows.len();
        let rows = &mut self.rows;
        // What an error leaves in the map comes with the next cut but one; what was read is a row.
        let drained = halves[idle.half()]
            .drain_batch(|key, value| rows.push((from_bytes(key), from_bytes(value))));
        self.keys = (rows.len() - before) as u64;
        drained
    }
    fn forget(&mut self) {
        self.rows.clear();
    }
    fn extent(&self) -> Option<Extent> {
        self.halves.as_ref().map(|_| Extent { keys: Some(self.keys), lost: self.lost })
    }
}
