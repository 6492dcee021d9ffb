//! Ring buffers.

use super::error::kind_name;
use libbpf_rs::{MapCore, MapType, RingBufferBuilder};
use plugin_api::{Context as _, Result, anyhow, ensure};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Single records in the order in which programs of all CPUs handed them over (Linux 5.8).
///
/// For maps that a tool declares by itself; [`crate::Events`] is this with a type, with the perf
/// buffer for older kernels, and with the count of what did not fit.
///
/// Reading is exact: a record is taken once. What finds no room is known to the program only, from
/// `bpf_ringbuf_output()` or `bpf_ringbuf_reserve()`, so count it there.
pub struct RingBuffer<S = Records> {
    ring: libbpf_rs::RingBuffer<'static>,
    taken: Arc<Mutex<Taken<S>>>,
    name: String,
    /// Bytes that the ring holds.
    size: usize,
}

/// What a drain has taken so far.
struct Taken<S> {
    records: S,
    /// Bytes in the ring that this was.
    room: usize,
}

/// A record's header, and what its end is aligned to.
const HEADER: usize = 8;

impl RingBuffer {
    /// Reads a map of a loaded skeleton.
    ///
    /// # Errors
    /// It is of another kind, or there is no memory to map it into.
    pub fn of(map: &dyn MapCore) -> Result<Self> {
        Self::taking(map, Records::push)
    }
}

impl<S: Default + 'static> RingBuffer<S> {
    /// The same into something else: each record is copied out of the ring into its place, and nowhere between.
    pub(crate) fn taking(map: &dyn MapCore, push: fn(&mut S, &[u8])) -> Result<Self> {
        let name = map.name().to_string_lossy().into_owned();
        let kind = map.map_type();
        ensure!(kind == MapType::RingBuf, "map `{name}` is a {}, no ringbuf", kind_name(kind));
        let size = map.max_entries() as usize;
        let taken = Arc::new(Mutex::new(Taken { records: S::default(), room: 0 }));
        let sink = Arc::clone(&taken);
        let mut builder = RingBufferBuilder::new();
        // Called in C's frames, which a panic must not cross: this only copies bytes.
        let take = move |record: &[u8]| {
            let mut taken = lock(&sink);
            push(&mut taken.records, record);
            taken.room += HEADER + record.len().next_multiple_of(HEADER);
            // The record is taken all the same; libbpf stops behind it.
            if taken.room < size { 0 } else { -libc::ECANCELED }
        };
        let added = builder.add(map, take).map(|_| ());
        let ring = added.and_then(|()| builder.build());
        let ring = ring.with_context(|| format!("map `{name}` cannot be read"))?;
        Ok(Self { ring, taken, name, size })
    }

    /// The records since the last time. At most a buffer full, so that a tick ends however fast
    /// programs write; what is left comes with the next one.
    ///
    /// # Errors
    /// libbpf refuses; what was read comes with the next time.
    pub fn drain(&mut self) -> Result<S> {
        lock(&self.taken).room = 0;
        let returned = self.ring.consume_raw_n((self.size / HEADER).max(1));
        if returned < 0 && returned != -libc::ECANCELED {
            let error = std::io::Error::from_raw_os_error(-returned);
            return Err(anyhow!("map `{}` (ringbuf): consume: {error}", self.name));
        }
        Ok(std::mem::take(&mut lock(&self.taken).records))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Records of any length, one after the other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Records {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Records {
    pub(super) fn push(&mut self, record: &[u8]) {
        self.bytes.extend_from_slice(record);
        self.ends.push(self.bytes.len());
    }

    /// How many.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Each record's bytes, in the order in which they were read.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, end)| &self.bytes[start..*end])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_keep_their_bounds() {
        let mut records = Records::default();
        let written: [&[u8]; 4] = [b"one", b"", b"three", b"4"];
        written.iter().for_each(|record| records.push(record));
        assert_eq!((records.len(), records.is_empty()), (4, false));
        assert_eq!(records.iter().collect::<Vec<_>>(), written);
        assert!(Records::default().iter().next().is_none());
    }
}
