//! What is under way: a parcel per sender, and of its lines those that only memory has.

use crate::batch::Batch;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The parcels of all senders.
#[derive(Debug, Default)]
pub struct UnderWay {
    /// By sender: bytes of its parcel that were read from the spool. One that ended stays here.
    senders: BTreeMap<usize, usize>,
    /// Lines that lie in no spool, by plugin.
    unspooled: BTreeMap<Arc<str>, u64>,
}

impl UnderWay {
    /// A sender takes a parcel, with so many bytes from the spool. Or it has ended: then the others are
    /// not to wait for it.
    pub fn depart(&mut self, sender: usize, read_back: usize) {
        self.senders.insert(sender, read_back);
    }

    /// A sender has nothing under way.
    pub fn land(&mut self, sender: usize) {
        self.senders.remove(&sender);
    }

    /// How many senders are busy.
    pub fn senders(&self) -> usize {
        self.senders.len()
    }

    /// Bytes in memory that were read from the spool.
    pub fn read_back(&self) -> usize {
        self.senders.values().sum()
    }

    /// A batch departs that lies in no spool.
    pub fn add(&mut self, batch: &Batch) {
        *self.unspooled.entry(Arc::clone(&batch.plugin)).or_default() += batch.lines;
    }

    /// So many of its lines have arrived, or were given up.
    pub fn subtract(&mut self, plugin: &Arc<str>, lines: u64) {
        if let Some(under_way) = self.unspooled.get_mut(plugin) {
            *under_way -= lines;
        }
    }

    /// Lines that lie in no spool, by plugin. They are under way no longer.
    pub fn drain(&mut self) -> impl Iterator<Item = (Arc<str>, u64)> + use<> {
        std::mem::take(&mut self.unspooled).into_iter()
    }

    /// Whether the spool has all that is under way.
    pub fn is_spooled(&self) -> bool {
        self.unspooled.values().all(|lines| *lines == 0)
    }
}
