//! `TABLE`: counts of unbounded keys.

use crate::maps::RawMap;
use crate::record::from_bytes;
use crate::skeleton::SkelObject;
use crate::{Counters, Idle, Record};
use libbpf_rs::{Map, MapCore, Object};
use plugin_api::{Result, anyhow, ensure};
use std::marker::PhantomData;

/// A hash of keys that nobody knows beforehand: processes, names, stacks, addresses.
///
/// There are two of it. After [`crate::Halves::flip`] nobody writes the idle one, and
/// [`Table::drain`] empties it: every event is in exactly one tick. At most the declared number of keys
/// fits between two ticks; what comes later is counted in [`Table::lost`].
pub struct Table<K, V> {
    halves: [RawMap; 2],
    lost: Counters,
    _types: PhantomData<fn() -> (K, V)>,
}

/// Events that a map had no place for since they were last asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lost {
    /// It was full.
    pub full: u64,
    /// The kernel refused the insertion for another reason, as for a program that interrupted another
    /// one on the same bucket.
    pub busy: u64,
}

impl Lost {
    /// Both.
    #[must_use]
    pub fn total(self) -> u64 {
        self.full + self.busy
    }

    pub(crate) fn take(lost: &mut Counters) -> Self {
        Self { full: lost.take(0), busy: lost.take(1) }
    }
}

/// A map that a macro declared beside another one.
pub(crate) fn sibling<'a>(object: &'a Object, map: &dyn MapCore, end: &str) -> Result<Map<'a>> {
    let name = map.name().to_string_lossy();
    let wanted = format!("{name}{end}");
    let found = object.maps().find(|m| m.name().to_string_lossy() == wanted);
    found
        .ok_or_else(|| anyhow!("map `{name}` was not declared with TABLE or EVENTS: no `{wanted}`"))
}

impl<K: Record, V: Record> Table<K, V> {
    /// Reads a map that was declared with `TABLE(name, K, V, n)`.
    ///
    /// # Errors
    /// It was declared in another way, or with types of another size.
    pub fn of(skel: &impl SkelObject, map: &dyn MapCore) -> Result<Self> {
        let object = skel.skel_object();
        let (key, value) = (map.key_size() as usize, map.value_size() as usize);
        ensure!(
            key == size_of::<K>() && value == size_of::<V>(),
            "map `{}` has keys of {key} and values of {value} bytes; {} and {} have {} and {}",
            map.name().to_string_lossy(),
            std::any::type_name::<K>(),
            std::any::type_name::<V>(),
            size_of::<K>(),
            size_of::<V>(),
        );
        Ok(Self {
            halves: [RawMap::of(map)?, RawMap::of(&sibling(object, map, "__b")?)?],
            lost: Counters::of(&sibling(object, map, "__lost")?)?,
            _types: PhantomData,
        })
    }

    /// Empties the idle half: `each` sees every key once.
    ///
    /// # Errors
    /// The kernel refused to read; what `each` did not see stays and comes with the next flip but one. What
    /// it saw is gone from the map: push it before passing the error on.
    pub fn drain(&mut self, idle: &Idle<'_>, mut each: impl FnMut(K, V)) -> Result<()> {
        self.halves[idle.half()].drain_batch(|key, value| each(from_bytes(key), from_bytes(value)))
    }

    /// Events without a place since the last time that this was asked.
    pub fn lost(&mut self) -> Lost {
        Lost::take(&mut self.lost)
    }
}

/// The `k` rows with the greatest weight, in falling order, and the rest, to be merged into one row named
/// `other`, so that sums stay exact.
pub fn top<T, W: Ord>(mut rows: Vec<T>, k: usize, weight: impl Fn(&T) -> W) -> (Vec<T>, Vec<T>) {
    rows.sort_by_key(|row| std::cmp::Reverse(weight(row)));
    let rest = rows.split_off(rows.len().min(k));
    (rows, rest)
}
