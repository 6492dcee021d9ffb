//! The cut: which half the programs of a plugin add to, and how the other one becomes quiet.
//!
//! A program enters before it touches a half and leaves at every return (`CUT` in unity/cut.h). Once per
//! tick [`Cut::flip`] turns the half over and waits until those who hold the old one have left: some loads
//! from mmapped memory. No grace period, no system call.
//!
//! # With fetching atomics
//! Entering is `half = fetch_add(word, 2) & 1`, leaving `fetch_add(left[half], 1)`. User space turns the half
//! over by `fetch_xor(word, 1)`. The word's modification order puts each entry before or after the xor: those
//! before hold the old half and are counted in what the xor returned, those after hold the new one. So the
//! old half is quiet when `left[old]` has reached the number of its entries, and newcomers cannot delay it.
//! An exit is a release (the fetching form is ordered on arm64 too) and the load an acquire, so what was
//! added precedes the reading.
//!
//! # Without
//! Entering is `word += 1`, then reading the half. Suppose a program read the old half. It has a full
//! barrier (x86's locked addition) between its announcement and that read; user space has one between its
//! store of the new half and its loads of the word. By store buffering each of these loads sees the
//! announcement, so a 0 comes after the program has left. Newcomers may keep the word above 0 where programs
//! overlap on a CPU; past the deadline a grace period decides. On other machines than x86 the announcement is
//! no barrier, and a grace period decides always.
//!
//! The halves of the CPUs turn over one after the other, in microseconds. That moves events between
//! neighbouring ticks; it neither loses nor splits one, since a run keeps the half that it got.

use crate::exact::banks::Banks;
use crate::maps::{RawMap, Update};
use libbpf_rs::MapType;
use plugin_api::Result;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::sync::atomic::Ordering::{Acquire, SeqCst};
use std::sync::atomic::{AtomicU64, fence};
use std::time::{Duration, Instant};

/// Cells of `struct unity_cell`.
const WORD: usize = 0;
const LEFT: usize = 1;
const HALF: usize = 3;
/// Cells of 8 bytes for one CPU.
#[cfg(test)]
const CELLS: usize = 8;

/// How long a flip waits for the programs that hold the old half. They are done within a microsecond, unless
/// one of them was preempted or sleeps. Eight times as long at each flip that a sleeping program puts off: a
/// plugin whose calls fail three times in a row is started anew, and that shall take seconds, not one fault.
const DEADLINE: Duration = Duration::from_millis(50);
/// How long it looks without sleeping.
const SPIN: Duration = Duration::from_micros(20);

/// How a plugin's programs enter the cut; the field `cut` of `collector_program`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CutKind {
    /// Entering chooses the half: x86-64 from Linux 5.12, arm64 from 5.18.
    Fetch,
    /// Programs announce themselves, then read the half: x86-64 before 5.12.
    Count,
    /// A grace period at each tick: where neither of the two is right.
    Grace,
}

impl CutKind {
    /// What this kernel can do, found by loading a program.
    #[must_use]
    pub fn of_this_kernel() -> Self {
        if crate::object::has_fetching_atomics() {
            Self::Fetch
        } else if cfg!(target_arch = "x86_64") {
            Self::Count
        } else {
            Self::Grace
        }
    }

    /// As a field's value.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Fetch => "fetch",
            Self::Count => "count",
            Self::Grace => "grace",
        }
    }
}

/// What a flip came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flip {
    /// Nobody adds to this half any more, until the next flip.
    Quiet(usize),
    /// A sleepable program still holds the old half: read nothing, and flip again at the next tick, which
    /// then covers both.
    Busy,
}

/// The cut of one plugin, through all of its objects.
pub struct Cut {
    cells: Banks,
    kind: CutKind,
    /// Sleepable programs are not waited for by a grace period.
    sleepable: bool,
    /// The half that programs add to.
    active: u64,
    /// A flip whose old half was not quiet at its deadline.
    pending: bool,
    cpus: Vec<Entries>,
    grace: Option<GracePeriod>,
    deadline: Duration,
}

/// What is known of a CPU's entries.
#[derive(Clone, Copy, Default)]
struct Entries {
    /// All of them, at the last flip.
    last: u64,
    /// By half.
    of: [u64; 2],
}

impl Cut {
    pub(crate) fn new(cells: Banks, kind: CutKind, sleepable: bool) -> Self {
        let cpus = vec![Entries::default(); cells.iter().count()];
        let deadline = DEADLINE;
        Self { cells, kind, sleepable, active: 0, pending: false, cpus, grace: None, deadline }
    }

    /// How programs enter.
    #[must_use]
    pub fn kind(&self) -> CutKind {
        self.kind
    }

    /// Turns the half over and waits until the old one is quiet.
    ///
    /// # Errors
    /// The kernel refused to wait for a grace period. Nothing may be read then; the next flip goes on.
    pub(crate) fn flip(&mut self) -> Result<Flip> {
        if !self.pending {
            self.turn();
            self.pending = true;
        }
        let old = (self.active ^ 1) as usize;
        let quiet = self.kind != CutKind::Grace && self.wait(old);
        if !quiet {
            if self.sleepable {
                self.deadline = (self.deadline * 8).min(DEADLINE * 64);
                return Ok(Flip::Busy);
            }
            self.grace()?.wait()?;
        }
        (self.pending, self.deadline) = (false, DEADLINE);
        Ok(Flip::Quiet(old))
    }

    fn turn(&mut self) {
        self.active ^= 1;
        for (cell, entries) in self.cells.iter().zip(&mut self.cpus) {
            if self.kind == CutKind::Fetch {
                let word = cell[WORD].fetch_xor(1, SeqCst);
                let (half, all) = ((word & 1) as usize, word >> 1);
                entries.of[half] += all - entries.last;
                entries.last = all;
            } else {
                cell[HALF].store(self.active, SeqCst);
            }
        }
        fence(SeqCst);
    }

    /// Whether the old half became quiet before the deadline.
    fn wait(&self, old: usize) -> bool {
        let begin = Instant::now();
        let mut pause = Duration::from_micros(50);
        for (cell, entries) in self.cells.iter().zip(&self.cpus) {
            while !self.is_quiet(cell, entries, old) {
                let waited = begin.elapsed();
                if waited >= self.deadline {
                    return false;
                } else if waited < SPIN {
                    std::hint::spin_loop();
                } else {
                    std::thread::sleep(pause);
                    pause = (pause * 2).min(Duration::from_millis(1));
                }
            }
        }
        true
    }

    fn is_quiet(&self, cell: &[AtomicU64], entries: &Entries, old: usize) -> bool {
        match self.kind {
            CutKind::Fetch => cell[LEFT + old].load(Acquire) == entries.of[old],
            CutKind::Count => cell[WORD].load(Acquire) == 0,
            CutKind::Grace => false,
        }
    }

    fn grace(&mut self) -> Result<&GracePeriod> {
        if self.grace.is_none() {
            self.grace = Some(GracePeriod::new()?);
        }
        Ok(self.grace.as_ref().expect("made above"))
    }
}

/// Waits until every BPF program that runs now has ended, but for sleepable ones: an update of a map-in-map
/// waits for them before it returns (Linux 4.20, 1ae80cf31938 "bpf: wait for running BPF programs when
/// updating map-in-map"). Unlike membarrier it waits on one CPU too.
struct GracePeriod {
    outer: RawMap,
    inner: RawMap,
}

impl GracePeriod {
    fn new() -> Result<Self> {
        let inner = RawMap::create(MapType::Array, "unity_grace", 4, 4, 1, 0)?;
        let outer = RawMap::create_outer(MapType::ArrayOfMaps, "unity_grace", 4, 1, &inner)?;
        Ok(Self { outer, inner })
    }

    fn wait(&self) -> Result<()> {
        let fd = self.inner.as_fd().as_raw_fd().to_ne_bytes();
        self.outer.update(&0u32.to_ne_bytes(), &fd, Update::Any).map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a program does, on the first CPU.
    struct Program<'a>(&'a [AtomicU64]);

    impl Program<'_> {
        fn enter(&self) -> usize {
            (self.0[WORD].fetch_add(2, SeqCst) & 1) as usize
        }
        fn leave(&self, half: usize) {
            self.0[LEFT + half].fetch_add(1, SeqCst);
        }
    }

    fn cut(kind: CutKind, sleepable: bool) -> Cut {
        Cut::new(Banks::in_memory(CELLS, 2).expect("memory"), kind, sleepable)
    }

    #[test]
    fn halves_alternate_and_newcomers_delay_nothing() {
        let mut cut = cut(CutKind::Fetch, true);
        for tick in 0..10 {
            let old = cut.flip().unwrap();
            assert_eq!(old, Flip::Quiet(tick % 2));
            let first = cut.cells.iter().next().unwrap();
            assert_eq!(Program(first).enter(), (tick + 1) % 2);
            Program(first).leave((tick + 1) % 2);
        }
    }

    #[test]
    fn a_half_that_is_held_is_not_read_and_the_next_flip_goes_on() {
        let mut cut = cut(CutKind::Fetch, true);
        let half = Program(cut.cells.iter().next().unwrap()).enter();
        assert_eq!(cut.flip().unwrap(), Flip::Busy);
        // A newcomer gets the other half, and stays: the old half is quiet all the same.
        let newcomer = Program(cut.cells.iter().next().unwrap()).enter();
        assert_eq!((half, newcomer), (0, 1));
        assert_eq!(cut.flip().unwrap(), Flip::Busy);
        Program(cut.cells.iter().next().unwrap()).leave(half);
        assert_eq!(cut.flip().unwrap(), Flip::Quiet(0));
        assert_eq!(cut.flip().unwrap(), Flip::Busy, "the newcomer holds it");
    }

    #[test]
    fn without_fetching_atomics_the_half_is_a_word_of_its_own() {
        let mut cut = cut(CutKind::Count, true);
        let cells: Vec<_> = cut.cells.iter().next().unwrap().iter().collect();
        cells[WORD].fetch_add(1, SeqCst);
        assert_eq!(cells[HALF].load(SeqCst), 0);
        drop(cells);
        assert_eq!(cut.flip().unwrap(), Flip::Busy);
        let first = cut.cells.iter().next().unwrap();
        assert_eq!(first[HALF].load(SeqCst), 1);
        first[WORD].fetch_sub(1, SeqCst);
        assert_eq!(cut.flip().unwrap(), Flip::Quiet(0));
    }

    /// Newcomers may keep the word of this cut above 0 for ever, where programs overlap on a CPU.
    #[test]
    fn past_the_deadline_a_grace_period_decides() {
        let mut cut = cut(CutKind::Count, false);
        cut.cells.iter().next().unwrap()[WORD].fetch_add(1, SeqCst);
        let begin = Instant::now();
        match cut.flip() {
            Ok(flip) => assert_eq!(flip, Flip::Quiet(0)),
            Err(error) => return println!("SKIPPED: no map-in-map for this user: {error:#}"),
        }
        assert!(begin.elapsed() >= DEADLINE);
        let half = cut.cells.iter().next().unwrap()[HALF].load(SeqCst);
        assert_eq!(half, 1, "programs that come now add to the other half");
    }
}
