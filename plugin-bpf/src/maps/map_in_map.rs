//! Maps of maps.

use super::raw::record;
use super::{RawMap, Update, error::kind_name};
use crate::Record;
use crate::object::record::{bytes, from_bytes};
use libbpf_rs::{MapCore, MapType};
use plugin_api::Result;
use std::marker::PhantomData;
use std::os::fd::{AsFd as _, AsRawFd as _};

/// An array of maps (`K` is `u32`) or hash of maps: maps that the tool exchanges while its programs
/// run.
///
/// For a map per container or device that comes and goes, or a table that is rebuilt and switched
/// as a whole. Since Linux 4.20 [`MapInMap::put`] and [`MapInMap::remove`] return only after every
/// program that may have seen the old inner map has ended (1ae80cf31938 "bpf: wait for running BPF
/// programs when updating map-in-map"): some 10 ms of waiting, and the old map may then be read as
/// a whole. Sleepable programs are not waited for.
///
/// That is an exact read and reset; [`crate::Table`] does the same with one wait for all maps of a
/// tool.
pub struct MapInMap<K> {
    raw: RawMap,
    _type: PhantomData<fn() -> K>,
}

impl<K: Record> MapInMap<K> {
    /// Reads a map of a loaded skeleton.
    ///
    /// # Errors
    /// It is of another kind, or its keys are of another size.
    pub fn of(map: &dyn MapCore) -> Result<Self> {
        Self::from_raw(RawMap::of(map)?)
    }

    /// Reads a map that is known by its descriptor.
    ///
    /// # Errors
    /// As for [`MapInMap::of`].
    pub fn from_raw(raw: RawMap) -> Result<Self> {
        let kinds = [MapType::ArrayOfMaps, MapType::HashOfMaps];
        let raw = raw.read_as::<Self>(&kinds, size_of::<K>(), 4)?;
        Ok(Self { raw, _type: PhantomData })
    }

    /// Lets a key hold this map, in place of the one that it holds.
    ///
    /// # Errors
    /// The map differs from what the outer one was declared with (kind, sizes, flags, and for most
    /// kinds the number of entries), the outer one is full, or the kernel refuses for another
    /// reason.
    pub fn put(&self, key: &K, inner: &RawMap) -> Result<()> {
        let fd = inner.as_fd().as_raw_fd();
        let put = self.raw.update(bytes(key), &fd.to_ne_bytes(), Update::Any);
        put.map(|_| ()).map_err(|error| {
            error.context(format!(
                "map `{}` ({}, {} entries) as an inner map of `{}`",
                inner.name(),
                kind_name(inner.kind()),
                inner.max_entries(),
                self.raw.name()
            ))
        })
    }

    /// Takes the map of a key out; false when it held none.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn remove(&self, key: &K) -> Result<bool> {
        self.raw.delete(bytes(key))
    }

    /// The kernel's number for the map that a key holds.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn id(&self, key: &K) -> Result<Option<u32>> {
        record(|value| self.raw.lookup(bytes(key), value))
    }

    /// The map that a key holds, by a descriptor of its own. Needs `CAP_SYS_ADMIN`; keep the maps
    /// that you put instead.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn inner(&self, key: &K) -> Result<Option<RawMap>> {
        self.id(key)?.map_or(Ok(None), RawMap::by_id)
    }

    /// Shows every key that holds a map, and the map's number, to `each`.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn for_each(&self, mut each: impl FnMut(K, u32)) -> Result<()> {
        self.raw.lookup_batch(|key, id| each(from_bytes(key), from_bytes(id)))
    }

    /// The bytes beneath, for what is not offered here.
    #[must_use]
    pub fn raw(&self) -> &RawMap {
        &self.raw
    }
}
