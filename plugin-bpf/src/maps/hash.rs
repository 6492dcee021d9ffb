//! Hashes.

use super::raw::record;
use super::{RawMap, Update, per_cpu, per_cpu_bytes};
use crate::Record;
use crate::object::record::{bytes, from_bytes};
use libbpf_rs::{MapCore, MapType};
use plugin_api::Result;
use std::marker::PhantomData;

/// A hash or LRU hash: state by key that the tool and its programs share.
///
/// For what is under way (the start times of requests), for what the tool tells its programs (which
/// processes to watch), for what is looked at and stays. An LRU hash is never full, it drops old
/// entries instead; looking at an entry from here does not make it younger (Linux 5.2, 50b045a8c0cc
/// "bpf, lru: avoid messing with eviction heuristics upon syscall lookup").
///
/// There is no reset: a program that has looked a value up may add to it after it was read and
/// removed, and that addition is lost (lookup and delete lose most, lookup-and-delete some, whole
/// batches fewest; never none). [`crate::Table`] counts by unbounded keys without loss.
/// [`Hash::lookup_and_delete`] is exact for values that programs insert once and do not touch
/// again.
pub struct Hash<K, V> {
    raw: RawMap,
    _types: PhantomData<fn() -> (K, V)>,
}

impl<K: Record, V: Record> Hash<K, V> {
    /// Reads a map of a loaded skeleton.
    ///
    /// # Errors
    /// It is of another kind, or its keys or values are of another size.
    pub fn of(map: &dyn MapCore) -> Result<Self> {
        Self::from_raw(RawMap::of(map)?)
    }

    /// Reads a map that is known by its descriptor.
    ///
    /// # Errors
    /// As for [`Hash::of`].
    pub fn from_raw(raw: RawMap) -> Result<Self> {
        let kinds = [MapType::Hash, MapType::LruHash];
        let raw = raw.read_as::<Self>(&kinds, size_of::<K>(), size_of::<V>())?;
        Ok(Self { raw, _types: PhantomData })
    }

    /// The value of a key.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn lookup(&self, key: &K) -> Result<Option<V>> {
        record(|value| self.raw.lookup(bytes(key), value))
    }

    /// Writes a value; false when `update` rules it out.
    ///
    /// # Errors
    /// The map is full ([`super::MapError::errno`] is `E2BIG`), or the kernel refuses for another
    /// reason.
    pub fn update(&self, key: &K, value: &V, update: Update) -> Result<bool> {
        self.raw.update(bytes(key), bytes(value), update)
    }

    /// Removes a key; false when it was not there.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn delete(&self, key: &K) -> Result<bool> {
        self.raw.delete(bytes(key))
    }

    /// The value of a key, which is removed in the same moment. Linux 5.14 (3e87f192b405 "bpf: Add
    /// lookup_and_delete_elem support to hashtab").
    ///
    /// # Errors
    /// The kernel cannot do it, or refuses.
    pub fn lookup_and_delete(&self, key: &K) -> Result<Option<V>> {
        record(|value| self.raw.lookup_and_delete(bytes(key), value))
    }

    /// Shows every entry to `each`, in no order. Those that come or go meanwhile may be among them
    /// or not.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn for_each(&self, mut each: impl FnMut(K, V)) -> Result<()> {
        self.raw.lookup_batch(|key, value| each(from_bytes(key), from_bytes(value)))
    }

    /// The bytes beneath, for what is not offered here.
    #[must_use]
    pub fn raw(&self) -> &RawMap {
        &self.raw
    }
}

/// A per-CPU hash or per-CPU LRU hash: a value by key and CPU.
///
/// As [`crate::maps::Hash`], where programs on many CPUs write the same keys often and adding up
/// belongs to the reader. Values come as a slice, one for every possible CPU.
///
/// There is no reset: writing zeros races with programs that have read the old value and write it
/// back plus one (counted twice then), and taking an entry out loses what programs add that still
/// hold it. Use [`crate::Table`].
pub struct PerCpuHash<K, V> {
    raw: RawMap,
    _types: PhantomData<fn() -> (K, V)>,
}

impl<K: Record, V: Record> PerCpuHash<K, V> {
    /// Reads a map of a loaded skeleton.
    ///
    /// # Errors
    /// It is of another kind, or its keys or values are of another size.
    pub fn of(map: &dyn MapCore) -> Result<Self> {
        Self::from_raw(RawMap::of(map)?)
    }

    /// Reads a map that is known by its descriptor.
    ///
    /// # Errors
    /// As for [`PerCpuHash::of`].
    pub fn from_raw(raw: RawMap) -> Result<Self> {
        let kinds = [MapType::PercpuHash, MapType::LruPercpuHash];
        let raw = raw.read_as::<Self>(&kinds, size_of::<K>(), size_of::<V>())?;
        Ok(Self { raw, _types: PhantomData })
    }

    /// Values of a key: the number of possible CPUs.
    #[must_use]
    pub fn cpus(&self) -> usize {
        self.raw.cpus()
    }

    /// The values of a key.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn lookup(&self, key: &K) -> Result<Option<Vec<V>>> {
        let mut value = vec![0; self.raw.value_len()];
        let found = self.raw.lookup(bytes(key), &mut value)?;
        Ok(found.then(|| per_cpu(&value, self.raw.stride()).collect()))
    }

    /// Writes the values of a key, one for every possible CPU; false when `update` rules it out.
    ///
    /// # Errors
    /// There are more or fewer values than CPUs, the map is full, or the kernel refuses for another
    /// reason.
    pub fn update(&self, key: &K, values: &[V], update: Update) -> Result<bool> {
        self.raw.update(bytes(key), &per_cpu_bytes(&self.raw, values)?, update)
    }

    /// Removes a key; false when it was not there.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn delete(&self, key: &K) -> Result<bool> {
        self.raw.delete(bytes(key))
    }

    /// The values of a key, which is removed in the same moment. Linux 5.14.
    ///
    /// # Errors
    /// The kernel cannot do it, or refuses.
    pub fn lookup_and_delete(&self, key: &K) -> Result<Option<Vec<V>>> {
        let mut value = vec![0; self.raw.value_len()];
        let found = self.raw.lookup_and_delete(bytes(key), &mut value)?;
        Ok(found.then(|| per_cpu(&value, self.raw.stride()).collect()))
    }

    /// Shows every key with its values to `each`, in no order. Those that come or go meanwhile may
    /// be among them or not.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn for_each(&self, mut each: impl FnMut(K, &[V])) -> Result<()> {
        let (stride, mut values) = (self.raw.stride(), Vec::with_capacity(self.cpus()));
        self.raw.lookup_batch(|key, value| {
            values.clear();
            values.extend(per_cpu::<V>(value, stride));
            each(from_bytes(key), &values);
        })
    }

    /// The bytes beneath, for what is not offered here.
    #[must_use]
    pub fn raw(&self) -> &RawMap {
        &self.raw
    }
}
