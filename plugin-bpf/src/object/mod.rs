//! An object's life: opened, prepared for this machine, loaded, its maps lent to the pieces.
//!
//! The build script compiles a tool's program twice (with and without fetching atomics) and describes it in a
//! [`Code`]; nothing of libbpf reaches a tool.

mod failure;
mod fetch;
mod file;
mod load;
mod prepare;
pub(crate) mod print;
pub(crate) mod record;
mod setup;
mod terms;
mod threads;
mod verdict;
mod verify;

pub use crate::exact::banks::banks as possible_cpus;
pub(crate) use failure::{Failure, reason_of};
pub(crate) use fetch::has_fetching_atomics;
pub use file::ObjectFile;
pub use load::Loaded;
pub(crate) use load::{load, rodata};
pub use record::{Record, bytes, from_bytes, text, zeroed};
pub use setup::{Settings, Setup};
pub(crate) use terms::Terms;
pub use threads::max_threads;
pub(crate) use threads::{is_gone, sees_all_threads};
pub(crate) use verify::processed;

use crate::exact::banks::Banks;
use crate::exact::{
    CounterArray, Counters, CpuPairs, Events, Histogram, Histograms, Named, Pairs, Piece,
    StackStore, Stacks, Table,
};
use crate::maps::RawMap;
use libbpf_rs::{Map, MapCore};
use plugin_api::Result;

/// A compiled program and what the build script read in it. Made by [`crate::skeleton!`].
#[derive(Debug)]
pub struct Code {
    /// Its name: that of the source.
    pub name: &'static str,
    /// For kernels with fetching atomics.
    pub fetch: &'static [u8],
    /// For the others.
    pub plain: &'static [u8],
    /// Its programs, in the order of the source.
    pub programs: &'static [ProgramDef],
    /// Its pieces.
    pub pieces: &'static [PieceDef],
    /// All maps that it declares, and data sections of this crate.
    pub maps: &'static [&'static str],
}

/// A BPF program.
#[derive(Debug)]
pub struct ProgramDef {
    /// Its function.
    pub name: &'static str,
    /// The section that says what it is for: `tp_btf/sched_switch`.
    pub section: &'static str,
    /// The maps that it uses.
    pub maps: &'static [&'static str],
}

/// A piece: a declaration of unity.bpf.h.
#[derive(Debug)]
pub struct PieceDef {
    /// Its map.
    pub name: &'static str,
    /// Its place among the losses.
    pub number: usize,
    /// What it was declared as.
    pub kind: PieceKind,
}

/// Kinds of pieces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PieceKind {
    /// `COUNTERS` and `COUNTER_ARRAY`.
    Counters,
    /// `HISTOGRAM`.
    Histogram,
    /// `HISTOGRAMS`, `TABLE` and `STACKS`: two hashes.
    Halves,
    /// `PAIRS`, `CPU_PAIRS` and `STACK_STORE`: state.
    Pairs,
    /// `EVENTS`.
    Events,
}

/// Memory of an object file, aligned as libelf likes it.
#[doc(hidden)]
#[repr(C, align(8))]
pub struct Aligned<const N: usize>(pub [u8; N]);

/// A program of a tool, as the build script describes it: `skel::Object`.
pub trait Object: 'static {
    /// Its pieces and plain maps.
    type Maps: Maps;
    /// Its constants (`const volatile`).
    type Consts: Consts;
    /// The names of its maps.
    type Map: Into<&'static str>;
    /// The object itself.
    const CODE: &'static Code;
}

/// The constants of an object, in the memory of its `.rodata`.
pub trait Consts: Sized {
    /// Reads them.
    fn read(bytes: &[u8]) -> Self;
    /// Writes them.
    fn write(&self, bytes: &mut [u8]);
}

/// The maps of an object, as fields. The build script writes it.
pub trait Maps: Sized + Send + 'static {
    /// Opens them.
    ///
    /// # Errors
    /// The kernel has no memory or descriptor left.
    fn of(loaded: &Lent<'_>) -> Result<Self>;
    /// The pieces with their numbers, in the order of the source.
    fn pieces(&mut self) -> Vec<(&'static PieceDef, &mut dyn Piece)>;
}

/// A loaded object, as [`Maps::of`] sees it. A map is `None` where no program that uses it was loaded.
pub struct Lent<'a>(pub(crate) &'a Loaded);

impl<'a> Lent<'a> {
    fn find(&self, name: &str) -> Option<Map<'a>> {
        self.0.map(name)
    }

    fn banks(&self, name: &str) -> Result<Option<Banks>> {
        self.find(name).map(|map| Banks::of(&map)).transpose()
    }

    fn halves(&self, name: &str) -> Result<Option<[RawMap; 2]>> {
        match (self.find(name), self.find(&format!("{name}__b"))) {
            (Some(a), Some(b)) => Ok(Some([RawMap::of(&a)?, RawMap::of(&b)?])),
            _ => Ok(None),
        }
    }

    #[doc(hidden)]
    pub fn counters<N: Named>(&self, name: &str, len: usize) -> Result<Counters<N>> {
        Ok(Counters::new(self.banks(name)?, len))
    }

    #[doc(hidden)]
    pub fn counter_array(&self, name: &str, len: usize) -> Result<CounterArray> {
        Ok(CounterArray::new(self.banks(name)?, len))
    }

    #[doc(hidden)]
    pub fn histogram(&self, name: &str, n: usize, divisor: u64) -> Result<Histogram> {
        let by_cpu = self.0.by_cpu.contains(&name);
        Ok(Histogram::new(self.banks(name)?, n, divisor, by_cpu))
    }

    #[doc(hidden)]
    pub fn histograms<K: Record>(&self, name: &str, divisor: u64) -> Result<Histograms<K>> {
        Ok(Histograms::new(self.halves(name)?, divisor))
    }

    #[doc(hidden)]
    pub fn table<K: Record, V: Record>(&self, name: &str) -> Result<Table<K, V>> {
        Ok(Table::new(self.halves(name)?))
    }

    #[doc(hidden)]
    pub fn stacks(&self, name: &str) -> Result<Stacks> {
        Ok(Stacks::new(self.halves(name)?))
    }

    #[doc(hidden)]
    pub fn stack_store(&self, name: &str) -> Result<StackStore> {
        Ok(StackStore::new(self.raw(name)?))
    }

    #[doc(hidden)]
    pub fn pairs<K: Record, V: Record>(&self, name: &str) -> Result<Pairs<K, V>> {
        Ok(Pairs::new(self.raw(name)?))
    }

    #[doc(hidden)]
    pub fn cpu_pairs(&self) -> Result<CpuPairs> {
        Ok(CpuPairs::default())
    }

    #[doc(hidden)]
    pub fn events<T: Record>(&self, name: &str, bytes: u32) -> Result<Events<T>> {
        let map = self.find(name);
        Events::new(map.as_ref().map(|map| map as _), bytes)
    }

    #[doc(hidden)]
    pub fn plain<R>(&self, name: &str, of: fn(&dyn MapCore) -> Result<R>) -> Result<Option<R>> {
        self.find(name).map(|map| of(&map)).transpose()
    }

    fn raw(&self, name: &str) -> Result<Option<RawMap>> {
        self.find(name).map(|map| RawMap::of(&map)).transpose()
    }
}
