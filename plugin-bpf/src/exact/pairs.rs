//! `PAIRS`: the begin and the end of something.

use super::{Extent, Idle, Lost, Piece};
use crate::Record;
use crate::maps::RawMap;
use crate::object::record::{bytes, from_bytes};
use crate::object::{is_gone, sees_all_threads};
use plugin_api::{Result, Tick};
use std::marker::PhantomData;

/// What has begun and not yet ended: state that no tick resets.
///
/// Programs note begins and ends by themselves (`pairs_begin`, `pairs_end`, `pairs_died`). User space looks
/// for what will never end.
pub struct Pairs<K, V> {
    map: Option<RawMap>,
    lost: Lost,
    /// Entries that [`Pairs::retain`] removed in this tick.
    removed: u64,
    under_way: Option<u64>,
    _types: PhantomData<fn() -> (K, V)>,
}

impl<K: Record, V: Record> Pairs<K, V> {
    pub(crate) fn new(map: Option<RawMap>) -> Self {
        Self { map, lost: Lost::default(), removed: 0, under_way: None, _types: PhantomData }
    }

    /// Begins without an end and ends without a begin, since the tick before, by cause.
    #[must_use]
    pub fn lost(&self) -> Lost {
        Lost { died: self.lost.died + self.removed, ..self.lost }
    }

    /// Looks at all that is under way and removes what `keep` refuses: threads that are gone, sockets that
    /// never answered. What was removed counts as `died`. It walks the whole map: not for every tick.
    ///
    /// An entry that ends meanwhile is not counted here, and one that begins anew under the same key within
    /// the microseconds between looking and removing is removed too.
    ///
    /// # Errors
    /// The kernel refused to read.
    pub fn retain(&mut self, keep: impl FnMut(K, V) -> bool) -> Result<()> {
        self.remove(keep, |_| ())
    }

    /// The same, and shows what was removed to `removed`: those entries, and no others, end in no program.
    ///
    /// # Errors
    /// The kernel refused to read.
    pub fn remove(
        &mut self,
        mut keep: impl FnMut(K, V) -> bool,
        mut removed: impl FnMut(V),
    ) -> Result<()> {
        let Some(map) = &self.map else { return Ok(()) };
        let mut gone: Vec<(K, V)> = Vec::new();
        let mut kept = 0;
        map.lookup_batch(|key, value| {
            let (key, value) = (from_bytes(key), from_bytes(value));
            if keep(key, value) { kept += 1 } else { gone.push((key, value)) }
        })?;
        self.under_way = Some(kept);
        for (key, value) in gone {
            if map.delete(bytes(&key))? {
                self.removed += 1;
                removed(value);
            }
        }
        Ok(())
    }
}

impl<K: Record, V: Record> Pairs<K, V> {
    /// As [`Pairs::forget_ended_threads`], where the thread's id is a part of the key.
    ///
    /// # Errors
    /// The kernel refused to read.
    pub fn forget_ended(&mut self, tick: &Tick, thread: impl Fn(&K) -> u32) -> Result<()> {
        if tick.seq % 64 != 63 || !sees_all_threads() {
            return Ok(());
        }
        self.retain(|key, _| !is_gone(thread(&key)))
    }
}

impl<V: Record> Pairs<u32, V> {
    /// For begins noted by thread id: at each 64th tick removes those of threads that have ended, as
    /// [`Pairs::retain`] does. An end that no program saw would else keep its room for ever.
    ///
    /// In a namespace of process ids nobody knows which threads there are, and all stay.
    ///
    /// # Errors
    /// The kernel refused to read.
    pub fn forget_ended_threads(&mut self, tick: &Tick) -> Result<()> {
        self.forget_ended(tick, |tid| *tid)
    }
}

impl<K: Record, V: Record> Piece for Pairs<K, V> {
    fn cut(&mut self, _: Idle, lost: Lost) -> Result<()> {
        self.lost = lost;
        self.removed = 0;
        self.under_way = None;
        Ok(())
    }
    fn extent(&self) -> Option<Extent> {
        self.map.as_ref().map(|_| Extent { keys: self.under_way, lost: self.lost() })
    }
}
