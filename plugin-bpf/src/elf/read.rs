//! Tables of an ELF file that nobody vouches for, read by pread into buffers of a few KiB.
//!
//! A file is never mapped: one that is cut meanwhile would end the process (SIGBUS). Nothing is read because of what the
//! file says of itself but the tables that are asked for, in a stream. So their size costs time up to a bound, and no
//! memory.

use plugin_api::{Context as _, Result, ensure};
use std::fs::File;
use std::io::{self, ErrorKind};
use std::time::{Duration, Instant};

pub(crate) const PT_LOAD: u32 = 1;
pub(crate) const PT_NOTE: u32 = 4;
pub(crate) const SHT_SYMTAB: u32 = 2;
pub(crate) const SHT_NOTE: u32 = 7;
pub(crate) const SHT_DYNSYM: u32 = 11;

/// Tables are streamed in pieces of about this size.
const PIECE: usize = 64 << 10;
/// Headers of segments: what linkers write is far below.
const SEGMENTS: u64 = 128;

/// Bytes at offsets.
pub(crate) trait ReadAt {
    fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<usize>;
}

impl ReadAt for File {
    fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<usize> {
        std::os::unix::fs::FileExt::read_at(self, buffer, at)
    }
}

impl ReadAt for [u8] {
    fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<usize> {
        let rest = usize::try_from(at).ok().and_then(|at| self.get(at..)).unwrap_or_default();
        let len = rest.len().min(buffer.len());
        buffer[..len].copy_from_slice(&rest[..len]);
        Ok(len)
    }
}

/// Up to `len` bytes, fewer at the end of the file.
pub(crate) fn read_some(file: &(impl ReadAt + ?Sized), at: u64, len: usize) -> Result<Vec<u8>> {
    ensure!(i64::try_from(at).is_ok(), "cut short");
    let mut bytes = vec![0; len];
    let mut filled = 0;
    while filled < len {
        match file.read_at(&mut bytes[filled..], at.saturating_add(filled as u64)) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
    bytes.truncate(filled);
    Ok(bytes)
}

/// So many bytes.
pub(crate) fn read(file: &(impl ReadAt + ?Sized), at: u64, len: usize) -> Result<Vec<u8>> {
    let bytes = read_some(file, at, len)?;
    ensure!(bytes.len() == len, "cut short: no {len} bytes at {at:#x}");
    Ok(bytes)
}

/// What looking at one file may cost.
pub(crate) struct Budget {
    pub until: Instant,
    pub bytes: usize,
}

impl Budget {
    /// For tables whose size is bounded elsewhere.
    pub(crate) fn of_headers() -> Self {
        Self { until: Instant::now() + Duration::from_secs(5), bytes: usize::MAX }
    }

    /// Takes bytes; `None` when there are no more, or no more time.
    pub(crate) fn spend(&mut self, bytes: usize) -> Option<()> {
        self.bytes = self.bytes.checked_sub(bytes)?;
        (Instant::now() < self.until).then_some(())
    }
}

/// Sizes and places of fields, which differ between 64 and 32 bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Layout {
    pub is_64: bool,
}

impl Layout {
    pub(crate) fn pick<T>(self, of_64: T, of_32: T) -> T {
        if self.is_64 { of_64 } else { of_32 }
    }

    /// An address, offset or size.
    pub(crate) fn word(self, bytes: &[u8], at: usize) -> Option<u64> {
        if self.is_64 { quad(bytes, at) } else { long(bytes, at).map(u64::from) }
    }
}

fn quad(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn long(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// Equal entries, one after the other in the file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Table {
    pub at: u64,
    pub entry: usize,
    pub entries: u64,
}

impl Table {
    /// Shows each entry with its number, as long as the budget lasts.
    pub(crate) fn stream(
        self,
        file: &(impl ReadAt + ?Sized),
        budget: &mut Budget,
        mut each: impl FnMut(u64, &[u8]) -> Option<()>,
    ) -> Result<()> {
        let per_piece = (PIECE / self.entry.max(1)).max(1) as u64;
        let mut number = 0;
        while number < self.entries {
            let entries = per_piece.min(self.entries - number);
            let len = entries as usize * self.entry;
            budget.spend(len).context("its tables take too long")?;
            let at = number.checked_mul(self.entry as u64).and_then(|at| self.at.checked_add(at));
            let piece = read(file, at.context("cut short")?, len)?;
            for entry in piece.chunks_exact(self.entry) {
                each(number, entry).context("its tables make no sense")?;
                number += 1;
            }
        }
        Ok(())
    }
}

/// What the headers of a program or library say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Headers {
    pub layout: Layout,
    pub machine: u16,
    pub segments: Vec<Segment>,
    /// Empty where there are none: strip and upx may leave none.
    pub sections: Table,
    /// Which section has the names of sections.
    pub names: u16,
}

impl Headers {
    /// Reads them.
    ///
    /// # Errors
    /// It is no ELF file of this machine's byte order, or one that is cut there.
    pub(crate) fn read(file: &(impl ReadAt + ?Sized)) -> Result<Self> {
        const NATIVE: u8 = if cfg!(target_endian = "little") { 1 } else { 2 };
        let bytes = read_some(file, 0, 64)?;
        ensure!(bytes.starts_with(b"\x7fELF") && bytes.len() >= 52, "no ELF file");
        let is_known = matches!(bytes[4], 1 | 2) && bytes[5] == NATIVE;
        ensure!(is_known, "an ELF file of another byte order");
        let layout = Layout { is_64: bytes[4] == 2 };
        let word = |of_64, of_32| layout.word(&bytes, layout.pick(of_64, of_32)).unwrap_or(0);
        let count = |of_64, of_32| half(&bytes, layout.pick(of_64, of_32)).unwrap_or(0);
        let table = |at, entry: u16, entries: u16| {
            let (entry, entries) = (entry.into(), entries.into());
            Table { at, entry, entries }
        };
        let of_segments = table(word(32, 28), count(54, 42), count(56, 44));
        let mut sections = table(word(40, 32), count(58, 46), count(60, 48));
        let is_sane = of_segments.entry >= layout.pick(56, 32) && of_segments.entries <= SEGMENTS;
        ensure!(of_segments.entries == 0 || is_sane, "its program headers make no sense");
        if sections.at == 0 || sections.entry < layout.pick(64, 40) {
            sections = Table::default();
        } else if sections.entries == 0 {
            // More than fit into the header: in the size of the first section.
            let first = read(file, sections.at, sections.entry)?;
            sections.entries = Section::of(layout, &first).map_or(0, |first| first.size);
        }
        let mut segments = Vec::new();
        of_segments.stream(file, &mut Budget::of_headers(), |_, header| {
            segments.push(Segment::of(layout, header)?);
            Some(())
        })?;
        let machine = half(&bytes, 18).unwrap_or(0);
        Ok(Self { layout, machine, segments, sections, names: count(62, 50) })
    }
}

/// A part of the file that is loaded, or tells something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    pub kind: u32,
    pub flags: u32,
    pub offset: u64,
    pub address: u64,
    pub size: u64,
    pub align: u64,
}

impl Segment {
    pub(crate) fn of(layout: Layout, bytes: &[u8]) -> Option<Self> {
        let word = |of_64, of_32| layout.word(bytes, layout.pick(of_64, of_32));
        Some(Self {
            kind: long(bytes, 0)?,
            flags: long(bytes, layout.pick(4, 24))?,
            offset: word(8, 4)?,
            address: word(16, 8)?,
            size: word(32, 16)?,
            align: word(48, 28)?,
        })
    }
}

/// A section's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Section {
    /// In the section of names.
    pub name: u32,
    pub kind: u32,
    pub address: u64,
    pub offset: u64,
    pub size: u64,
    pub link: u32,
    /// Bytes of an entry, where it has equal ones.
    pub entry: u64,
}

impl Section {
    pub(crate) fn of(layout: Layout, bytes: &[u8]) -> Option<Self> {
        let word = |of_64, of_32| layout.word(bytes, layout.pick(of_64, of_32));
        Some(Self {
            name: long(bytes, 0)?,
            kind: long(bytes, 4)?,
            address: word(16, 12)?,
            offset: word(24, 16)?,
            size: word(32, 20)?,
            link: long(bytes, layout.pick(40, 24))?,
            entry: word(56, 36)?,
        })
    }

    /// A section of symbols as a table.
    pub(crate) fn symbols(&self, layout: Layout) -> Table {
        let entry = Symbol::len(layout);
        Table { at: self.offset, entry, entries: self.size / entry as u64 }
    }
}

/// A symbol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Symbol {
    /// In the section of its names.
    pub name: u32,
    pub info: u8,
    pub section: u16,
    pub value: u64,
    pub size: u64,
}

impl Symbol {
    pub(crate) const fn len(layout: Layout) -> usize {
        if layout.is_64 { 24 } else { 16 }
    }

    pub(crate) fn of(layout: Layout, bytes: &[u8]) -> Option<Self> {
        Some(Self {
            name: long(bytes, 0)?,
            info: *bytes.get(layout.pick(4, 12))?,
            section: half(bytes, layout.pick(6, 14))?,
            value: layout.word(bytes, layout.pick(8, 4))?,
            size: layout.word(bytes, layout.pick(16, 8))?,
        })
    }

    /// `STT_FUNC` and others.
    pub(crate) fn kind(&self) -> u8 {
        self.info & 0xf
    }
}

/// A note.
pub(crate) struct Note<'a> {
    pub kind: u32,
    pub name: &'a [u8],
    pub content: &'a [u8],
}

/// Notes, up to the first that is larger than what is there.
pub(crate) fn notes(bytes: &[u8], align: usize) -> impl Iterator<Item = Note<'_>> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let (name, len) = (long(rest, 0)? as usize, long(rest, 4)? as usize);
        let at = (12 + name).next_multiple_of(align);
        let note = Note {
            kind: long(rest, 8)?,
            name: rest.get(12..12 + name)?,
            content: rest.get(at..at + len)?,
        };
        rest = rest.get((at + len).next_multiple_of(align)..).unwrap_or_default();
        Some(note)
    })
}
