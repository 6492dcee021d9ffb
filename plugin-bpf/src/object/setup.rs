//! What a tool sets before its programs are loaded: constants, sizes, maps that its options leave out.

use super::{Consts, Object};
use crate::exact::CutKind;
use crate::group::Filter;

/// Settings of one object, which [`crate::Tool::new`] is lent.
pub struct Setup<O: Object> {
    /// The program's `const volatile` variables, with the values of the source.
    pub consts: O::Consts,
    pub(crate) settings: Settings,
}

/// Settings by map, and switches for tests.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Settings {
    pub(crate) entries: Vec<(&'static str, u32)>,
    pub(crate) without: Vec<&'static str>,
    pub(crate) preallocated: Vec<&'static str>,
    pub(crate) growing: Vec<(&'static str, u32)>,
    pub(crate) by_cpu: Vec<&'static str>,
    pub(crate) perf_buffers: bool,
    pub(crate) cut: Option<CutKind>,
    pub(crate) rodata: Vec<u8>,
    pub(crate) filter: Option<Vec<u8>>,
}

impl<O: Object> Setup<O> {
    pub(crate) fn new(rodata: Vec<u8>) -> Self {
        let consts = O::Consts::read(&rodata);
        Self { consts, settings: Settings { rodata, ..Settings::default() } }
    }

    /// Another size for a map than the declared one, in entries.
    pub fn entries(&mut self, map: O::Map, entries: u32) {
        self.settings.entries.push((map.into(), entries));
    }

    /// Takes the memory for all entries of a map when it is loaded, for programs that run where the kernel may
    /// have none to give: in a hard interrupt a new key finds but few entries ready, and the others would be lost
    /// as `busy`. Without this a map of many keys grows with them, since Linux 6.1.
    pub fn preallocate(&mut self, map: O::Map) {
        self.settings.preallocated.push(map.into());
    }

    /// Gives a map room for so many entries where it can take their memory as they come, since Linux 6.1; on older
    /// kernels it stays at its declared size. For programs of perf events, whose maps have their memory
    /// beforehand otherwise, and large values: a new key that finds no memory ready is lost as `busy`, which takes
    /// several of them at once on a CPU.
    pub fn grow(&mut self, map: O::Map, entries: u32) {
        self.settings.growing.push((map.into(), entries));
    }

    /// Reads a `HISTOGRAM` of each CPU for itself ([`Histogram::take_by_cpu`](crate::Histogram::take_by_cpu)).
    pub fn by_cpu(&mut self, map: O::Map) {
        self.settings.by_cpu.push(map.into());
    }

    /// Creates a map only if the options make use of it. Where they do not, the program must not reach it:
    /// guard its use by a constant.
    pub fn only_if(&mut self, used: bool, map: O::Map) {
        if !used {
            self.settings.without.push(map.into());
        }
    }

    /// The tasks that the program looks at (filter.bpf.h).
    pub fn filter(&mut self, filter: &Filter) {
        self.settings.filter = Some(filter.as_bytes().to_vec());
    }

    /// Uses perf buffers for `EVENTS`, as on kernels before 5.8, which have no fetching atomics either; for
    /// tests.
    #[doc(hidden)]
    pub fn perf_buffers(&mut self) {
        self.settings.perf_buffers = true;
        self.force_cut(CutKind::Count);
    }

    /// Enters the cut in this way, whatever the kernel can do; for tests and benchmarks.
    #[doc(hidden)]
    pub fn force_cut(&mut self, kind: CutKind) {
        self.settings.cut = Some(kind);
    }

    pub(crate) fn finish(mut self) -> Settings {
        self.consts.write(&mut self.settings.rodata);
        self.settings
    }
}
