//! Tools that count [`crate::calls`] in every way that the SDK has, and in a way that loses.

use plugin_api::options;
use plugin_bpf::prelude::*;
use plugin_bpf::{CutKind, Running};
use std::marker::PhantomData;

skeleton!(exact);

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
        /// Begun twice.
        twice: counter,
        /// Ended without a begin.
        unmatched: counter,
        /// Numbers past the end.
        past: counter,
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
plugin_api::exported!(exact, exact_dropped, exact_histogram);

options! {
    /// How the tools run.
    pub struct Options {
        /// Perf buffers, as before Linux 5.8.
        perf: bool = false,
        /// `count` or `grace`, in place of the best that the kernel can do.
        cut: String = String::new(),
        /// Readings of the clock between entering the cut and adding.
        pause: u64 [0..=256] = 0,
    }
}

/// A way to count.
pub trait Way: Sized + Send + 'static {
    /// Its BPF program.
    const PROGRAM: &'static str;
    /// Its lines.
    fn read(maps: &mut skel::Maps, lines: &mut Lines, timeline: &mut Timeline) -> Result<()>;
}

/// The tool of a way.
pub struct Exact<W> {
    timeline: Timeline,
    _way: PhantomData<W>,
}

/// The plugin of a way.
pub type Plugin<W> = Running<Exact<W>>;

impl<W: Way> Tool for Exact<W> {
    type Options = Options;
    type Object = skel::Object;

    fn new(options: Options, setup: &mut Setup<skel::Object>) -> Result<Self> {
        setup.consts.tester = std::process::id();
        setup.consts.pause = u32::try_from(options.pause)?;
        if options.perf {
            setup.perf_buffers();
        }
        match options.cut.as_str() {
            "" => {}
            "count" => setup.force_cut(CutKind::Count),
            _ => setup.force_cut(CutKind::Grace),
        }
        Ok(Self { timeline: Timeline::default(), _way: PhantomData })
    }

    fn hooks(&self) -> Hooks {
        Hooks::all([Hook::of(W::PROGRAM)]).without_others()
    }

    fn rows(&mut self, _: &Tick, maps: &mut skel::Maps, lines: &mut Lines) -> Result<()> {
        W::read(maps, lines, &mut self.timeline)
    }
}

fn push(lines: &mut Lines, key: impl ToString, count: u64) -> Result<()> {
    lines.push(exact::Row { key: key.to_string().into(), count })
}

fn dropped(lines: &mut Lines, lost: Lost) -> Result<()> {
    let Lost { full, busy, twice, unmatched, past, .. } = lost;
    lines.push(exact_dropped::Row { full, busy, twice, unmatched, past })
}

fn histogram(lines: &mut Lines, which: &'static str, keys: Snapshot) -> Result<()> {
    lines.push(exact_histogram::Row { which: which.into(), keys })
}

macro_rules! ways {
    ($($(#[doc = $doc:literal])+ $name:ident $program:literal |$maps:ident, $lines:ident, $timeline:ident| $read:block)+) => {
        $(
            $(#[doc = $doc])+
            pub enum $name {}
            impl Way for $name {
                const PROGRAM: &'static str = $program;
                #[allow(unused_variables)]
                fn read($maps: &mut skel::Maps, $lines: &mut Lines, $timeline: &mut Timeline) -> Result<()> $read
            }
        )+
    };
}

ways! {
    /// `COUNTER_ARRAY`, and beside it `COUNTERS`.
    ByCounters "count_counters" |maps, lines, timeline| {
        maps.counters.take_all().try_for_each(|(key, count)| push(lines, key, count))?;
        let named = maps.named.take();
        lines.push(exact_dropped::Row {
            full: 0, busy: 0, past: 0, twice: named.even, unmatched: named.odd,
        })
    }
    /// Half of the numbers are past the end.
    PastTheEnd "count_past" |maps, lines, timeline| {
        maps.counters.take_all().try_for_each(|(key, count)| push(lines, key, count))?;
        dropped(lines, maps.counters.lost())
    }
    /// `HISTOGRAM`.
    ByHistogram "count_histograms" |maps, lines, timeline| {
        histogram(lines, "even", maps.histograms.take(0))?;
        histogram(lines, "odd", maps.histograms.take(1))?;
        histogram(lines, "scaled", maps.scaled.take(0))
    }
    /// `TABLE` with room for all keys.
    ByTable "count_table" |maps, lines, timeline| {
        maps.table.take().into_iter().try_for_each(|(key, count)| push(lines, key, count))?;
        dropped(lines, maps.table.lost())
    }
    /// `TABLE` with room for 16.
    BySmallTable "count_small_table" |maps, lines, timeline| {
        maps.small_table.take().into_iter().try_for_each(|(key, count)| push(lines, key, count))?;
        dropped(lines, maps.small_table.lost())
    }
    /// Each call in a histogram, a table and a histogram by key.
    ByAll "count_all" |maps, lines, timeline| {
        histogram(lines, "scaled", maps.scaled.take(0))?;
        let calls: u64 = maps.table.take().into_iter().map(|(_, count)| count).sum();
        push(lines, "table", calls)?;
        let mut all = Snapshot::default();
        maps.by_name.take().iter().for_each(|(_, keys)| all.merge(keys));
        histogram(lines, "by_name", all)?;
        let lost = maps.table.lost().events() + maps.by_name.lost().events();
        dropped(lines, Lost { full: lost, ..Lost::default() })
    }
    /// `STACKS`, and a table of their ids.
    ByStacks "count_stacks" |maps, lines, timeline| {
        for (id, count) in maps.by_stack.take() {
            // A stack without its frames counts under the key 1.
            push(lines, u8::from(maps.stacks.frames(id).is_none_or(<[u64]>::is_empty)), count)?;
        }
        dropped(lines, maps.stacks.lost())
    }
    /// `PAIRS`: begins under the key 0, pairs under 1.
    ByPairs "count_pairs" |maps, lines, timeline| {
        let named = maps.named.take();
        push(lines, 0, named.even)?;
        push(lines, 1, named.odd)?;
        dropped(lines, maps.pairs.lost())
    }
    /// `EVENTS`.
    ByEvents "count_events" |maps, lines, timeline| {
        timeline.place(maps.events.take(), |time, event| {
            lines.push_at(time, exact::Row { key: event.key.to_string().into(), count: 1 })
        })?;
        dropped(lines, maps.events.lost())
    }
    /// `EVENTS` filled in place.
    ByLargeEvents "count_large_events" |maps, lines, timeline| {
        timeline.place(maps.large.take(), |time, event| {
            // Its end is its own, or the key does not count.
            let count = u64::from(event.tail[125] == event.key);
            lines.push_at(time, exact::Row { key: event.key.to_string().into(), count })
        })?;
        dropped(lines, maps.large.lost())
    }
    /// `EVENTS` of which a part is handed over.
    ByParts "count_parts" |maps, lines, timeline| {
        timeline.place(maps.large.take(), |time, event| {
            let tail = if event.key & 1 == 1 { event.key } else { 0 };
            let count = u64::from(event.tail[125] == tail);
            lines.push_at(time, exact::Row { key: event.key.to_string().into(), count })
        })?;
        dropped(lines, maps.large.lost())
    }
    /// Calls of `exact_called`, by a program that can be preempted.
    ByCalled "count_called" |maps, lines, timeline| {
        maps.table.take().into_iter().try_for_each(|(key, count)| push(lines, key, count))?;
        dropped(lines, maps.table.lost())
    }
    /// Calls of `exact_sleeps`, by a program that can sleep.
    BySleeps "count_sleeps" |maps, lines, timeline| {
        maps.table.take().into_iter().try_for_each(|(key, count)| push(lines, key, count))?;
        dropped(lines, maps.table.lost())
    }
    /// The unity sample's way: look up, then write 0.
    ByUnitySample "count_unity_sample" |maps, lines, timeline| {
        let sample = maps.unity_sample.as_mut().expect("its program is loaded");
        let count = sample.lookup(0)?.unwrap_or(0);
        // An emulator whose CPUs take turns seldom stops between the two.
        std::thread::sleep(Duration::from_micros(20));
        sample.update(0, &0)?;
        push(lines, 0, count)
    }
    /// Nothing: the program `slot_of` is there to be run by hand.
    SlotOf "slot_of" |maps, lines, timeline| {
        Ok(())
    }
}
