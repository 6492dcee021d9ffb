//! Arrays.

use super::raw::record;
use super::{RawMap, Update, per_cpu, per_cpu_bytes};
use crate::Record;
use crate::object::record::{bytes, from_bytes};
use libbpf_rs::{MapCore, MapType};
use plugin_api::Result;
use std::marker::PhantomData;

/// An array: state by number, all of it there from the beginning, as zeros.
///
/// For settings, gauges, the last value of something; `.bss`, `.data` and `.rodata` are arrays of
/// one value.
///
/// There is no reset: what programs add between the reading and the writing of a zero is lost
/// (1,777 of 6,000,000 on 6.18), and entries cannot be removed. [`crate::Counters`] counts without
/// loss.
pub struct Array<V> {
    raw: RawMap,
    _type: PhantomData<fn() -> V>,
}

impl<V: Record> Array<V> {
    /// Reads a map of a loaded skeleton.
    ///
    /// # Errors
    /// It is of another kind, or its values are of another size.
    pub fn of(map: &dyn MapCore) -> Result<Self> {
        Self::from_raw(RawMap::of(map)?)
    }

    /// Reads a map that is known by its descriptor.
    ///
    /// # Errors
    /// As for [`Array::of`].
    pub fn from_raw(raw: RawMap) -> Result<Self> {
        let raw = raw.read_as::<Self>(&[MapType::Array], 4, size_of::<V>())?;
        Ok(Self { raw, _type: PhantomData })
    }

    /// How many entries it has, which are numbered from 0.
    #[must_use]
    pub fn entries(&self) -> u32 {
        self.raw.max_entries()
    }

    /// The value at a number; `None` past the end.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn lookup(&self, index: u32) -> Result<Option<V>> {
        record(|value| self.raw.lookup(&index.to_ne_bytes(), value))
    }

    /// Writes a value.
    ///
    /// # Errors
    /// The number is past the end ([`super::MapError::errno`] is `E2BIG`), the map is frozen as
    /// `.rodata` is, or the kernel refuses for another reason.
    pub fn update(&self, index: u32, value: &V) -> Result<()> {
        self.raw.update(&index.to_ne_bytes(), bytes(value), Update::Any).map(|_| ())
    }

    /// Shows every entry to `each`, in order.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn for_each(&self, mut each: impl FnMut(u32, V)) -> Result<()> {
        self.raw.lookup_batch(|index, value| each(from_bytes(index), from_bytes(value)))
    }

    /// The bytes beneath, for what is not offered here.
    #[must_use]
    pub fn raw(&self) -> &RawMap {
        &self.raw
    }
}

/// A per-CPU array: a value by number and CPU, written by programs without any sharing.
///
/// For scratch memory and per-CPU state that the tool only looks at. Values come as a slice, one
/// for every possible CPU. Batches since Linux 5.13 (f008d732ab18 "bpf: Add batched ops support for
/// percpu array"); one by one before.
///
/// There is no reset, and this is the worst map to try it on: a program that has read the old value
/// writes it back plus one over the zero, so a whole interval is counted twice (31,665 of 6,000,000
/// on 6.18). [`crate::Counters`] is as cheap for programs, and exact.
pub struct PerCpuArray<V> {
    raw: RawMap,
    _type: PhantomData<fn() -> V>,
}

impl<V: Record> PerCpuArray<V> {
    /// Reads a map of a loaded skeleton.
    ///
    /// # Errors
    /// It is of another kind, or its values are of another size.
    pub fn of(map: &dyn MapCore) -> Result<Self> {
        Self::from_raw(RawMap::of(map)?)
    }

    /// Reads a map that is known by its descriptor.
    ///
    /// # Errors
    /// As for [`PerCpuArray::of`].
    pub fn from_raw(raw: RawMap) -> Result<Self> {
        let raw = raw.read_as::<Self>(&[MapType::PercpuArray], 4, size_of::<V>())?;
        Ok(Self { raw, _type: PhantomData })
    }

    /// How many entries it has, which are numbered from 0.
    #[must_use]
    pub fn entries(&self) -> u32 {
        self.raw.max_entries()
    }

    /// Values of an entry: the number of possible CPUs.
    #[must_use]
    pub fn cpus(&self) -> usize {
        self.raw.cpus()
    }

    /// The values at a number; `None` past the end.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn lookup(&self, index: u32) -> Result<Option<Vec<V>>> {
        let mut value = vec![0; self.raw.value_len()];
        let found = self.raw.lookup(&index.to_ne_bytes(), &mut value)?;
        Ok(found.then(|| per_cpu(&value, self.raw.stride()).collect()))
    }

    /// Writes the values at a number, one for every possible CPU.
    ///
    /// # Errors
    /// The number is past the end, there are more or fewer values than CPUs, or the kernel refuses
    /// for another reason.
    pub fn update(&self, index: u32, values: &[V]) -> Result<()> {
        let value = per_cpu_bytes(&self.raw, values)?;
        self.raw.update(&index.to_ne_bytes(), &value, Update::Any).map(|_| ())
    }

    /// Shows every entry's values to `each`, in order.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn for_each(&self, mut each: impl FnMut(u32, &[V])) -> Result<()> {
        let (stride, mut values) = (self.raw.stride(), Vec::with_capacity(self.cpus()));
        self.raw.lookup_batch(|index, value| {
            values.clear();
            values.extend(per_cpu::<V>(value, stride));
            each(from_bytes(index), &values);
        })
    }

    /// The bytes beneath, for what is not offered here.
    #[must_use]
    pub fn raw(&self) -> &RawMap {
        &self.raw
    }
}
