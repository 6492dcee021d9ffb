//! What waits in one segment, as sums: the only knowledge of its lines that is kept in memory.

use super::record::RecordHeader;
use super::stretch::{Stretch, Waiting};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Lines that wait, by plugin, and bytes of them all.
#[derive(Debug, Default)]
pub struct Sums {
    plugins: BTreeMap<Arc<str>, Stretch>,
    waiting: Waiting,
}

impl Sums {
    /// Counts a record in.
    pub fn add(&mut self, header: &RecordHeader) {
        let stretch = header.stretch();
        match self.plugins.get_mut(&header.plugin) {
            Some(sum) => sum.extend(&stretch),
            None => drop(self.plugins.insert(Arc::clone(&header.plugin), stretch)),
        }
        self.waiting.lines += header.lines;
        self.waiting.bytes += header.bytes;
    }

    /// Whether a record can be among what was counted in: one that is not has come from elsewhere.
    pub fn holds(&self, header: &RecordHeader) -> bool {
        header.bytes <= self.waiting.bytes
            && self.plugins.get(&header.plugin).is_some_and(|sum| header.lines <= sum.lines)
    }

    /// Counts a record out that they hold. When it was the oldest of its plugin (`in_order`), what is
    /// left begins where it ended.
    pub fn subtract(&mut self, header: &RecordHeader, in_order: bool) {
        let Some(sum) = self.plugins.get_mut(&header.plugin) else { return };
        sum.lines -= header.lines;
        if sum.lines == 0 {
            self.plugins.remove(&header.plugin);
        } else if in_order {
            sum.from_ns = header.tick.time_ns.clamp(sum.from_ns, sum.to_ns);
        }
        self.waiting.lines -= header.lines;
        self.waiting.bytes -= header.bytes;
    }

    /// All that waits, which is no longer counted.
    pub fn drain(&mut self) -> impl Iterator<Item = Stretch> + use<> {
        self.waiting = Waiting::default();
        std::mem::take(&mut self.plugins).into_values()
    }

    /// By plugin.
    pub fn stretches(&self) -> impl Iterator<Item = &Stretch> {
        self.plugins.values()
    }

    /// All together.
    pub fn waiting(&self) -> Waiting {
        self.waiting
    }

    /// The end of the last interval.
    pub fn newest_ns(&self) -> Option<i64> {
        self.plugins.values().map(|sum| sum.to_ns).max()
    }
}
