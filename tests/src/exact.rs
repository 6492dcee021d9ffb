//! Tools that count [`crate::calls`] in every way that the SDK has, and in a way that loses.

use plugin_api::options;
use plugin_bpf::maps::Array;
use plugin_bpf::prelude::*;
use std::marker::PhantomData;

plugin_bpf::skeleton!(exact: event);

table! {
    /// What was counted.
    exact {
        tags {
            /// The key of the calls.
            key,
        }
        /// Calls.
        count: counter,
    }
}

table! {
    /// What was not.
    exact_dropped {
        /// Calls that found no room.
        full: counter,
        /// Calls that the kernel refused for another reason.
        busy: counter,
    }
}

table! {
    /// A histogram of the keys.
    exact_histogram {
        tags {
            /// Which one.
            which,
        }
        /// The keys.
        keys: histogram,
    }
}

options! {
    /// How the tools run.
    pub struct Options {
        /// Perf buffers, as before Linux 5.8.
        perf: bool = false,
        /// Waits by an update of a map-in-map, as on nohz_full kernels.
        no_membarrier: bool = false,
    }
}

/// A way to count.
pub trait Way: Sized + Send + 'static {
    /// Its BPF program.
    const PROGRAM: &'static str;
    /// Its maps.
    fn of(skel: &Loaded, options: &Options) -> Result<Self>;
    /// Its lines.
    fn read(&mut self, lines: &mut Lines) -> Result<()>;
}

/// The tool of a way.
pub struct Tool<W> {
    way: W,
    _skel: Loaded,
}

impl<W: Way> Plugin for Tool<W> {
    type Options = Options;

    fn init(options: Options) -> Result<Self> {
        let mut program = Skeleton::open().configure(|open| {
            if let Some(rodata) = &mut open.maps.rodata_data {
                rodata.tester = std::process::id();
            }
            Ok(())
        });
        if options.perf {
            program = program.perf_buffers();
        }
        let skel = program.attach(&[Rung::of(W::PROGRAM)])?;
        Ok(Self { way: W::of(&skel, &options)?, _skel: skel })
    }

    fn call(&mut self, _: &Tick, lines: &mut Lines) -> Result<()> {
        self.way.read(lines)
    }
}

fn push(lines: &mut Lines, key: u64, count: u64) -> Result<()> {
    lines.push(exact::Row { key: key.to_string().into(), count })
}

fn dropped(lines: &mut Lines, lost: Lost) -> Result<()> {
    lines.push(exact_dropped::Row { full: lost.full, busy: lost.busy })
}

fn halves(skel: &Loaded, options: &Options) -> Result<Halves> {
    let halves = Halves::of(skel)?;
    if options.no_membarrier { halves.without_membarrier() } else { Ok(halves) }
}

/// `COUNTERS`.
pub struct ByCounters(Counters);

impl Way for ByCounters {
    const PROGRAM: &'static str = "count_counters";
    fn of(skel: &Loaded, _: &Options) -> Result<Self> {
        Ok(Self(Counters::of(&skel.maps.counters)?))
    }
    fn read(&mut self, lines: &mut Lines) -> Result<()> {
        for key in 0..4096 {
            match self.0.take(key) {
                0 => {}
                count => push(lines, key as u64, count)?,
            }
        }
        Ok(())
    }
}

/// `HISTOGRAM`.
pub struct ByHistogram {
    halves: Halves,
    histograms: Histogram,
    scaled: Histogram,
}

impl Way for ByHistogram {
    const PROGRAM: &'static str = "count_histograms";
    fn of(skel: &Loaded, options: &Options) -> Result<Self> {
        Ok(Self {
            halves: halves(skel, options)?,
            histograms: Histogram::of(&skel.maps.histograms)?,
            scaled: Histogram::of(&skel.maps.scaled)?,
        })
    }
    fn read(&mut self, lines: &mut Lines) -> Result<()> {
        let idle = self.halves.flip()?;
        let snapshots = [
            ("even", self.histograms.take(&idle, 0)),
            ("odd", self.histograms.take(&idle, 1)),
            ("scaled", self.scaled.take(&idle, 0)),
        ];
        for (which, keys) in snapshots {
            lines.push(exact_histogram::Row { which: which.into(), keys })?;
        }
        Ok(())
    }
}

/// `TABLE`; with room for all keys, or for 16.
pub struct ByTable<Size> {
    halves: Halves,
    table: Table<u32, u64>,
    _size: PhantomData<Size>,
}

/// Room for all keys.
pub enum Roomy {}
/// Room for 16.
pub enum Small {}

impl<S: Send + 'static> ByTable<S> {
    fn new(halves: Halves, table: Table<u32, u64>) -> Self {
        Self { halves, table, _size: PhantomData }
    }
    fn lines(&mut self, lines: &mut Lines) -> Result<()> {
        let idle = self.halves.flip()?;
        let mut rows = Vec::new();
        self.table.drain(&idle, |key, count| rows.push((key, count)))?;
        rows.into_iter().try_for_each(|(key, count)| push(lines, key.into(), count))?;
        dropped(lines, self.table.lost())
    }
}

impl Way for ByTable<Roomy> {
    const PROGRAM: &'static str = "count_table";
    fn of(skel: &Loaded, options: &Options) -> Result<Self> {
        Ok(Self::new(halves(skel, options)?, Table::of(skel, &skel.maps.table)?))
    }
    fn read(&mut self, lines: &mut Lines) -> Result<()> {
        self.lines(lines)
    }
}

impl Way for ByTable<Small> {
    const PROGRAM: &'static str = "count_small_table";
    fn of(skel: &Loaded, options: &Options) -> Result<Self> {
        Ok(Self::new(halves(skel, options)?, Table::of(skel, &skel.maps.small_table)?))
    }
    fn read(&mut self, lines: &mut Lines) -> Result<()> {
        self.lines(lines)
    }
}

/// `EVENTS`; one line for all events of a key, and they carry the key.
pub struct ByEvents {
    events: Events<skel::types::event>,
    timeline: Timeline,
}

impl Way for ByEvents {
    const PROGRAM: &'static str = "count_events";
    fn of(skel: &Loaded, _: &Options) -> Result<Self> {
        Ok(Self { events: Events::of(skel, &skel.maps.events)?, timeline: Timeline::default() })
    }
    fn read(&mut self, lines: &mut Lines) -> Result<()> {
        let events = self.events.drain()?;
        self.timeline.place(
            events,
            |e| e.ktime_ns,
            |time, event| {
                lines.push_at(time, exact::Row { key: event.key.to_string().into(), count: 1 })
            },
        )?;
        dropped(lines, self.events.lost())
    }
}

/// The unity sample's way: look up, then write 0.
pub struct ByUnitySample(Array<u64>);

impl Way for ByUnitySample {
    const PROGRAM: &'static str = "count_unity_sample";
    fn of(skel: &Loaded, _: &Options) -> Result<Self> {
        Ok(Self(Array::of(&skel.maps.unity_sample)?))
    }
    fn read(&mut self, lines: &mut Lines) -> Result<()> {
        let count = self.0.lookup(0)?.unwrap_or(0);
        self.0.update(0, &0)?;
        push(lines, 0, count)
    }
}

/// The program `slot_of`, loaded but attached to nothing.
pub fn load_slot_of() -> Result<Loaded> {
    Skeleton::open().load(&["slot_of"])
}
