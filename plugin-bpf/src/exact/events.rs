//! `EVENTS`: single events with a time of their own.

use super::{Extent, Idle, Lost, Piece};
use crate::Record;
use crate::exact::banks::banks;
use crate::maps::{PerfBuffer, RingBuffer};
use crate::object::record::from_bytes;
use libbpf_rs::{MapCore, MapType};
use plugin_api::Result;

/// Events that BPF programs hand over with `events_emit` or `events_submit`, read at the tick.
///
/// A ring buffer, or a perf buffer before Linux 5.8. What did not fit between two ticks is counted in
/// [`Events::lost`]: where single events can be many, count them in a table as well.
pub struct Events<T> {
    buffer: Option<Buffer<T>>,
    taken: Vec<T>,
    lost: Lost,
}

/// Pages of each CPU's perf buffer, a power of two, so that all of them together have the declared size.
fn pages(bytes: u32) -> usize {
    const PAGE: u32 = 4096;
    (bytes / PAGE / banks()).max(1).next_power_of_two() as usize
}

enum Buffer<T> {
    Ring(RingBuffer<Vec<T>>),
    Perf(PerfBuffer),
}

/// Takes an event out of its buffer.
fn push<T: Record>(taken: &mut Vec<T>, record: &[u8]) {
    // A perf buffer pads a record's end.
    taken.push(match size_of::<T>().saturating_sub(record.len()) {
        0 => from_bytes(record),
        missing => from_bytes(&[record, &vec![0; missing]].concat()),
    });
}

impl<T: Record> Events<T> {
    /// `bytes` is the declared size.
    pub(crate) fn new(map: Option<&dyn MapCore>, bytes: u32) -> Result<Self> {
        let buffer = match map {
            Some(map) if map.map_type() == MapType::RingBuf => {
                Some(Buffer::Ring(RingBuffer::taking(map, push)?))
            }
            Some(map) => Some(Buffer::Perf(PerfBuffer::with_pages(map, pages(bytes))?)),
            None => None,
        };
        Ok(Self { buffer, taken: Vec::new(), lost: Lost::default() })
    }

    /// The events since the tick before, at most what the buffer holds. Of one that was handed over in part
    /// the rest is zeros.
    pub fn take(&mut self) -> Vec<T> {
        std::mem::take(&mut self.taken)
    }

    /// Events that found no room since the tick before: counted where they happened.
    #[must_use]
    pub fn lost(&self) -> Lost {
        self.lost
    }
}

impl<T: Record> Piece for Events<T> {
    fn cut(&mut self, _: Idle, lost: Lost) -> Result<()> {
        self.lost = lost;
        let Some(buffer) = &mut self.buffer else { return Ok(()) };
        match buffer {
            Buffer::Ring(ring) if self.taken.is_empty() => self.taken = ring.drain()?,
            Buffer::Ring(ring) => self.taken.extend(ring.drain()?),
            Buffer::Perf(perf) => {
                perf.drain()?.records.iter().for_each(|record| push(&mut self.taken, record));
            }
        }
        Ok(())
    }
    fn forget(&mut self) {
        self.taken.clear();
    }
    fn extent(&self) -> Option<Extent> {
        self.buffer.as_ref().map(|_| Extent { keys: None, lost: self.lost })
    }
}
