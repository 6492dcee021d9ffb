//! Names of addresses, by the symbols of a file that nobody vouches for ([`crate::elf::read`]).

use crate::elf::read::{
    Budget, Headers, PT_LOAD, PT_NOTE, ReadAt, SHT_DYNSYM, SHT_SYMTAB, Section, Symbol, Table,
    notes, read, read_some,
};
use plugin_api::Result;
use std::ops::Range;

/// Headers of sections that are looked at.
const SECTIONS: u64 = 1 << 16;
/// Of a segment of notes, and of a symbol's name.
const NOTES: u64 = 16 << 10;
const NAME: u64 = 1 << 10;

const SHN_LORESERVE: u16 = 0xff00;
const SHN_XINDEX: u16 = 0xffff;
const STT_NOTYPE: u8 = 0;
const STT_FUNC: u8 = 2;
const STT_GNU_IFUNC: u8 = 10;
const NT_GNU_BUILD_ID: u32 = 3;

/// The headers of a program or library.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Image {
    /// With the loaded segments alone.
    headers: Headers,
    /// In hexadecimal.
    pub build_id: Option<Box<str>>,
}

/// A table of symbols and that of their names.
#[derive(Clone, Copy, Debug)]
struct Symbols {
    table: Table,
    /// It has all functions of the file, so that a label reaches up to the next symbol.
    is_whole: bool,
    names_at: u64,
    names_len: u64,
}

/// What an address belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// Every address in here has the same answer.
    pub within: Range<u64>,
    /// The symbol's name as it stands in the file, or its first KiB; `None`: no symbol has the address.
    pub name: Option<Vec<u8>>,
}

/// An address, while symbols pass by.
#[derive(Clone, Debug)]
struct Want {
    at: u64,
    /// Nearest borders of symbols.
    low: u64,
    high: u64,
    best: Option<Best>,
    /// A symbol without a size, such as a label of an assembler; it reaches up to the next border.
    label: Option<Best>,
}

/// A symbol that has an address; the greatest is the one to name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Best {
    start: u64,
    /// Global before weak before local.
    binding: u8,
    /// Of equals the first in the file, the first table's before the second's.
    order: std::cmp::Reverse<(usize, u64)>,
    name: u32,
}

impl Image {
    /// Reads the headers; `None` for what is no ELF file of this machine's byte order, or one that is cut there.
    pub(super) fn read(file: &(impl ReadAt + ?Sized)) -> Option<Self> {
        let mut headers = Headers::read(file).ok()?;
        headers.sections.entries = headers.sections.entries.min(SECTIONS);
        let of_notes = headers.segments.iter().filter(|segment| segment.kind == PT_NOTE);
        let mut ids = of_notes.filter_map(|segment| {
            let bytes = read_some(file, segment.offset, segment.size.min(NOTES) as usize).ok()?;
            build_id(&bytes, if segment.align == 8 { 8 } else { 4 })
        });
        let build_id = ids.next();
        // Many of them are kept.
        headers.segments.retain(|segment| segment.kind == PT_LOAD);
        headers.segments.shrink_to_fit();
        Some(Self { headers, build_id })
    }

    /// The address of a byte of the file, as symbols have it.
    pub(super) fn address(&self, offset: u64) -> Option<u64> {
        self.headers.segments.iter().find_map(|segment| {
            let into = offset.checked_sub(segment.offset).filter(|into| *into < segment.size)?;
            segment.address.checked_add(into)
        })
    }

    /// The symbols that addresses belong to, which are in rising order; `None` when the file cannot be read to
    /// the end of its symbols within the budget.
    pub(super) fn find(
        &self,
        file: &(impl ReadAt + ?Sized),
        addresses: &[u64],
        budget: &mut Budget,
    ) -> Option<Vec<Found>> {
        let want = |at| Want { at, low: 0, high: u64::MAX, best: None, label: None };
        let mut wants: Vec<Want> = addresses.iter().copied().map(want).collect();
        let tables = self.tables(file, budget).ok()?;
        for (number, symbols) in tables.iter().enumerate() {
            let met = symbols.table.stream(file, budget, |order, bytes| {
                let symbol = Symbol::of(self.headers.layout, bytes)?;
                meet(&mut wants, &symbol, (number, order), symbols.is_whole);
                Some(())
            });
            met.ok()?;
        }
        settle(&mut wants);
        let found = wants.into_iter().map(|want| {
            let labelled = want.label.filter(|label| label.start >= want.low);
            let best = want.best.or(labelled);
            let name = best.and_then(|best| {
                let names = tables.get(best.order.0.0)?;
                name_at(file, names, best.name)
            });
            Found { within: want.low..want.high, name }
        });
        Some(found.collect())
    }

    /// The symbol tables, that of the linker first.
    fn tables(&self, file: &(impl ReadAt + ?Sized), budget: &mut Budget) -> Result<Vec<Symbols>> {
        let (layout, sections) = (self.headers.layout, self.headers.sections);
        let mut tables = Vec::new();
        sections.stream(file, budget, |_, header| {
            let section = Section::of(layout, header)?;
            if matches!(section.kind, SHT_SYMTAB | SHT_DYNSYM) && tables.len() < 2 {
                tables.push(section);
            }
            Some(())
        })?;
        tables.sort_by_key(|section| section.kind);
        let mut symbols = Vec::new();
        for section in tables {
            let link = u64::from(section.link);
            if section.entry != Symbol::len(layout) as u64 || link >= sections.entries {
                continue;
            }
            let header = sections.at.saturating_add(link * sections.entry as u64);
            let names = read(file, header, sections.entry)?;
            let Some(names) = Section::of(layout, &names) else { continue };
            symbols.push(Symbols {
                table: section.symbols(layout),
                is_whole: section.kind == SHT_SYMTAB,
                names_at: names.offset,
                names_len: names.size,
            });
        }
        Ok(symbols)
    }
}

/// A symbol passes by.
fn meet(wants: &mut [Want], symbol: &Symbol, order: (usize, u64), labels: bool) {
    let Symbol { name, info, section, value: start, size } = *symbol;
    let is_function = match symbol.kind() {
        STT_FUNC | STT_GNU_IFUNC => true,
        // Of assemblers. Elsewhere they tell code from data ($x, $d).
        STT_NOTYPE => cfg!(target_arch = "x86_64"),
        _ => false,
    };
    // Undefined ones and constants (SHN_ABS) have no code.
    let is_defined = section != 0 && (section < SHN_LORESERVE || section == SHN_XINDEX);
    if !is_function || start == 0 || !is_defined || size == 0 && !labels {
        return;
    }
    let end = start.saturating_add(size);
    let first = wants.partition_point(|want| want.at < start);
    let past = first + wants[first..].partition_point(|want| want.at < end);
    border(wants, first, start);
    if size > 0 {
        border(wants, past, end);
    }
    let binding = match info >> 4 {
        1 => 2,
        2 => 1,
        _ => 0,
    };
    let best = Best { start, binding, order: std::cmp::Reverse(order), name };
    for want in &mut wants[first..past] {
        want.best = want.best.max(Some(best));
    }
    if size == 0
        && let Some(want) = wants.get_mut(first)
    {
        want.label = want.label.max(Some(best));
    }
}

/// A symbol begins or ends here; `first` is the first address at or behind it.
fn border(wants: &mut [Want], first: usize, at: u64) {
    if let Some(behind) = wants.get_mut(first) {
        behind.low = behind.low.max(at);
    }
    if let Some(before) = first.checked_sub(1).and_then(|i| wants.get_mut(i)) {
        before.high = before.high.min(at);
    }
}

/// Borders and labels were noted at the nearest address alone.
fn settle(wants: &mut [Want]) {
    for i in 1..wants.len() {
        wants[i].low = wants[i].low.max(wants[i - 1].low);
        wants[i].label = wants[i].label.max(wants[i - 1].label);
    }
    for i in (1..wants.len()).rev() {
        wants[i - 1].high = wants[i - 1].high.min(wants[i].high);
    }
}

fn name_at(file: &(impl ReadAt + ?Sized), symbols: &Symbols, name: u32) -> Option<Vec<u8>> {
    let len = symbols.names_len.checked_sub(name.into())?.min(NAME) as usize;
    let mut bytes = read_some(file, symbols.names_at.checked_add(name.into())?, len).ok()?;
    if let Some(end) = bytes.iter().position(|byte| *byte == 0) {
        bytes.truncate(end);
    }
    (!bytes.is_empty()).then_some(bytes)
}

/// Looks for it in notes.
fn build_id(bytes: &[u8], align: usize) -> Option<Box<str>> {
    let mut notes = notes(bytes, align);
    let note = notes.find(|note| {
        let is_id = note.kind == NT_GNU_BUILD_ID && note.name == b"GNU\0";
        is_id && (4..=64).contains(&note.content.len())
    });
    Some(note?.content.iter().map(|byte| format!("{byte:02x}")).collect())
}
