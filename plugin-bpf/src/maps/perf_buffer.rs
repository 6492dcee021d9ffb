//! Perf buffers.

use super::error::kind_name;
use super::raw::{PerfRings, PerfSink};
use super::ring_buffer::Records;
use libbpf_rs::{MapCore, MapType, num_possible_cpus};
use plugin_api::{Context as _, Result, anyhow, ensure};

/// Pages of memory for every CPU, unless one says otherwise: 256 KiB on most machines.
const PAGES: usize = 64;

/// Single records of `bpf_perf_event_output()`, in a buffer for every CPU.
///
/// For kernels before 5.8, and for programs that come from bcc or coolbpf; a [`super::RingBuffer`]
/// takes less memory and keeps the order among CPUs. [`crate::Events`] chooses by itself. CPUs that
/// come online later have no buffer: programs on them get `ENOENT`.
///
/// Reading is exact: a record is taken once. What found no room is counted by the kernel, which
/// says so in front of the next record that finds some.
pub struct PerfBuffer {
    rings: PerfRings<Drained>,
    name: String,
    cpus: usize,
}

/// What was read out of a [`PerfBuffer`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Drained {
    /// The records, CPU by CPU. The kernel pads each so that its length plus 4 is a multiple of 8.
    pub records: Records,
    /// The CPU that each record comes from.
    pub cpus: Vec<u32>,
    /// By CPU, how many records found no room before the ones read.
    pub lost: Vec<u64>,
}

impl PerfSink for Drained {
    fn record(&mut self, cpu: u32, bytes: &[u8]) {
        self.records.push(bytes);
        self.cpus.push(cpu);
    }

    fn lost(&mut self, cpu: u32, records: u64) {
        if let Some(lost) = self.lost.get_mut(cpu as usize) {
            *lost = lost.saturating_add(records);
        }
    }
}

impl PerfBuffer {
    /// Reads a map of a loaded skeleton, with 64 pages of memory for every CPU that is online.
    ///
    /// # Errors
    /// It is of another kind, or there is not that much memory (or not that much that the process
    /// may lock).
    pub fn of(map: &dyn MapCore) -> Result<Self> {
        Self::with_pages(map, PAGES)
    }

    /// The same with this many pages for every CPU, a power of two.
    ///
    /// # Errors
    /// As for [`PerfBuffer::of`].
    pub fn with_pages(map: &dyn MapCore, pages: usize) -> Result<Self> {
        let name = map.name().to_string_lossy().into_owned();
        let kind = map.map_type();
        ensure!(
            kind == MapType::PerfEventArray,
            "map `{name}` is a {}, no perf_event_array",
            kind_name(kind)
        );
        ensure!(pages.is_power_of_two(), "map `{name}`: {pages} pages: not a power of two");
        let cpus = num_possible_cpus().context("cannot count the possible CPUs")?;
        let fd = map.as_fd().try_clone_to_owned();
        let fd = fd.with_context(|| format!("map `{name}`: no descriptor"))?;
        let rings = PerfRings::new(fd, pages, empty(cpus)).map_err(|error| {
            anyhow!("map `{name}`: no perf buffer of {pages} pages for every CPU: {error}")
        })?;
        Ok(Self { rings, name, cpus })
    }

    /// The records since the last time. Of every CPU at most a buffer full, so that a tick ends
    /// however fast programs write; what is left comes with the next one.
    ///
    /// # Errors
    /// libbpf refuses; what was read comes with the next time.
    pub fn drain(&mut self) -> Result<Drained> {
        let mut result = Ok(());
        for ring in 0..self.rings.len() {
            result = result.and(self.rings.consume(ring));
        }
        result.map_err(|errno| {
            let error = std::io::Error::from_raw_os_error(errno);
            anyhow!("map `{}` (perf_event_array): consume: {error}", self.name)
        })?;
        let cpus = self.cpus;
        Ok(self.rings.sink(|sink| std::mem::replace(sink, empty(cpus))))
    }
}

fn empty(cpus: usize) -> Drained {
    Drained { lost: vec![0; cpus], ..Drained::default() }
}
