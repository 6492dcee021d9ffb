//! `EVENTS`: single events with a time of their own.

use crate::banks::banks;
use crate::maps::{PerfBuffer, RingBuffer};
use crate::record::from_bytes;
use crate::skeleton::SkelObject;
use crate::table::{Lost, sibling};
use crate::{Counters, Record};
use libbpf_rs::{MapCore, MapType};
use plugin_api::Result;
use std::marker::PhantomData;

/// Events that BPF programs hand over with `events_emit`, read at the tick.
///
/// A ring buffer, or a perf buffer before Linux 5.8. What did not fit between two ticks is counted in
/// [`Events::lost`]: where single events can be many, count them in a [`crate::Table`] as well.
pub struct Events<T> {
    buffer: Buffer,
    lost: Counters,
    _type: PhantomData<fn() -> T>,
}

/// Of the `__lost` counters: what [`declare`] wrote.
const BYTES: usize = 7;

/// Writes the declared size where [`Events::of`] finds it, once the map is loaded.
pub(crate) fn declare(lost: &dyn MapCore, bytes: u64) -> Result<()> {
    Counters::of(lost)?.write(BYTES, bytes);
    Ok(())
}

/// Pages of each CPU's perf buffer, a power of two, so that all of them together have the declared size.
fn pages(bytes: u64) -> usize {
    const PAGE: u64 = 4096;
    (bytes / PAGE / u64::from(banks())).max(1).next_power_of_two() as usize
}

enum Buffer {
    Ring(RingBuffer),
    Perf(PerfBuffer),
}

impl<T: Record> Events<T> {
    /// Reads a map that was declared with `EVENTS(name, T, bytes)`.
    ///
    /// # Errors
    /// It was declared in another way, or the kernel gives no memory for it.
    pub fn of(skel: &impl SkelObject, map: &dyn MapCore) -> Result<Self> {
        let lost = Counters::of(&sibling(skel.skel_object(), map, "__lost")?)?;
        let buffer = match map.map_type() {
            MapType::RingBuf => Buffer::Ring(RingBuffer::of(map)?),
            _ => Buffer::Perf(PerfBuffer::with_pages(map, pages(lost.total(BYTES)))?),
        };
        Ok(Self { buffer, lost, _type: PhantomData })
    }

    /// The events since the last time; bounded by what the buffer holds.
    ///
    /// # Errors
    /// The kernel refused to read.
    pub fn drain(&mut self) -> Result<Vec<T>> {
        let records = match &mut self.buffer {
            Buffer::Ring(ring) => ring.drain()?,
            Buffer::Perf(perf) => perf.drain()?.records,
        };
        // A perf buffer pads a record's end.
        Ok(records.iter().filter(|r| r.len() >= size_of::<T>()).map(|r| from_bytes(r)).collect())
    }

    /// Events that found no room, since the last time that this was asked: counted where they happened.
    pub fn lost(&mut self) -> Lost {
        Lost::take(&mut self.lost)
    }
}
