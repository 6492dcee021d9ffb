//! Parts of other people's ELF files: functions, static probes.
//!
//! Whoever runs a program or maps a library wrote that file, in a container too, and may change it while it is
//! read. So nothing is mapped (a file that is cut short would end this process by SIGBUS), every size is bounded,
//! and a name in the file is never a path to follow.

mod argument;
pub(crate) mod read;
mod symbols;

pub use argument::Argument;

use plugin_api::{Context as _, Result, bail, ensure};
use read::{
    Budget, Headers, PT_LOAD, PT_NOTE, SHT_DYNSYM, SHT_NOTE, SHT_SYMTAB, Section, Segment, notes,
};
use std::fs::File;

/// Headers of sections.
const SECTIONS: u64 = 1024;
/// Notes of static probes, in bytes: a JVM has 64 KiB.
const NOTES: u64 = 1024 * 1024;
/// The longest name of a section that is looked for is shorter.
const NAME: usize = 32;

const PF_X: u32 = 1;
const NT_STAPSDT: u32 = 3;

/// Machines whose programs run here (elf.h), of either word size.
const MACHINES: &[u16] = if cfg!(target_arch = "x86_64") {
    &[62, 3]
} else if cfg!(target_arch = "aarch64") {
    &[183]
} else if cfg!(target_arch = "riscv64") {
    &[243]
} else {
    &[]
};

/// What an ELF file's headers say.
#[derive(Debug)]
pub struct Elf<'a> {
    file: &'a File,
    len: u64,
    headers: Headers,
    /// With their names.
    sections: Vec<(Vec<u8>, Section)>,
}

/// A site of a static probe: an instruction at which it is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    /// The instruction, in bytes of the file.
    pub offset: u64,
    /// Where the file has the counter of who listens (a semaphore), by which some probes are switched on; 0: none.
    pub semaphore: u64,
    /// Where the argument that was asked for is found.
    pub argument: Option<Argument>,
}

impl<'a> Elf<'a> {
    /// Reads the headers.
    ///
    /// # Errors
    /// What is wrong with the file.
    pub fn read(file: &'a File) -> Result<Self> {
        let about = file.metadata()?;
        ensure!(about.is_file(), "no regular file");
        let headers = Headers::read(file)?;
        ensure!(MACHINES.contains(&headers.machine), "an ELF file for another processor");
        ensure!(headers.sections.entries <= SECTIONS, "its section headers make no sense");
        let mut sections = Vec::new();
        headers.sections.stream(file, &mut Budget::of_headers(), |_, header| {
            sections.push(Section::of(headers.layout, header)?);
            Some(())
        })?;
        let names = sections.get(usize::from(headers.names)).map(|section| section.offset);
        let named = |section: Section| {
            let at = names.map(|at| at.saturating_add(section.name.into()));
            let name = at.and_then(|at| read::read_some(file, at, NAME).ok()).unwrap_or_default();
            let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
            (name.to_vec(), section)
        };
        let sections = sections.into_iter().map(named).collect();
        Ok(Self { file, len: about.len(), headers, sections })
    }

    /// Where in the file functions begin, by their names in `.dynsym` or else `.symtab`; `None` for those that it
    /// does not have.
    ///
    /// # Errors
    /// The file is cut short, or its tables are larger than those of any program.
    pub fn functions<const N: usize>(&self, names: [&str; N]) -> Result<[Option<u64>; N]> {
        let mut addresses = [None; N];
        for kind in [SHT_DYNSYM, SHT_SYMTAB] {
            if addresses.contains(&None) {
                self.find(kind, &names, &mut addresses)?;
            }
        }
        let offset = |address: Option<u64>| address.map(|at| self.offset(at, PF_X)).transpose();
        let mut offsets = [None; N];
        for (place, address) in offsets.iter_mut().zip(addresses) {
            *place = offset(address)?;
        }
        Ok(offsets)
    }

    /// The sites of a static probe (`.note.stapsdt`), with the argument of this number, or none.
    ///
    /// # Errors
    /// The file is cut short, or a note says what cannot be.
    pub fn sites(&self, provider: &str, name: &str, argument: Option<usize>) -> Result<Vec<Site>> {
        let mut sites = Vec::new();
        let is_note = |(name, section): &&(Vec<u8>, Section)| {
            section.kind == SHT_NOTE && name == b".note.stapsdt"
        };
        let Some((_, section)) = self.sections.iter().find(is_note) else { return Ok(sites) };
        ensure!(section.size <= NOTES, "its notes of static probes have {} bytes", section.size);
        let bytes = read::read(self.file, section.offset, section.size as usize)?;
        for note in notes(&bytes, 4) {
            if note.kind == NT_STAPSDT && note.name == b"stapsdt\0" {
                sites.extend(self.site(note.content, provider, name, argument)?);
            }
        }
        Ok(sites)
    }

    /// A note's site, where it is of this probe.
    fn site(
        &self,
        note: &[u8],
        provider: &str,
        name: &str,
        argument: Option<usize>,
    ) -> Result<Option<Site>> {
        let word = self.headers.layout.pick(8, 4);
        let Some((numbers, texts)) = note.split_at_checked(3 * word) else {
            bail!("a note of a static probe is cut short");
        };
        let mut texts = texts.split(|byte| *byte == 0);
        let mut text = || texts.next().unwrap_or_default();
        if (text(), text()) != (provider.as_bytes(), name.as_bytes()) {
            return Ok(None);
        }
        let arguments = String::from_utf8_lossy(text());
        let number = |i| self.headers.layout.word(numbers, i * word).unwrap_or_default();
        let [address, base, semaphore] = [0, 1, 2].map(number);
        // What prelink moved.
        let is_base = |(name, _): &&(Vec<u8>, Section)| name == b".stapsdt.base";
        let moved = match self.sections.iter().find(is_base) {
            Some((_, section)) if base != 0 => section.address.wrapping_sub(base),
            _ => 0,
        };
        let offset = self.offset(address.wrapping_add(moved), PF_X)?;
        let semaphore = match semaphore {
            0 => 0,
            address => self.offset(address.wrapping_add(moved), 0)?,
        };
        let argument = match argument {
            Some(i) => {
                Some(Argument::of(self.headers.machine, &arguments, i).with_context(|| {
                    format!("argument {i} of {provider}:{name} cannot be read: `{arguments}`")
                })?)
            }
            None => None,
        };
        Ok(Some(Site { offset, semaphore, argument }))
    }

    /// Whether Go's linker made it.
    #[must_use]
    pub fn is_go(&self) -> bool {
        let names: [&[u8]; 3] = [b".gopclntab", b".go.buildinfo", b".note.go.buildid"];
        self.sections.iter().any(|(name, _)| names.contains(&&**name)) || self.has_go_note()
    }

    /// Of a program whose section headers were taken away.
    fn has_go_note(&self) -> bool {
        let of_notes = self.headers.segments.iter().filter(|segment| segment.kind == PT_NOTE);
        let mut bytes = of_notes.filter_map(|segment| {
            read::read(self.file, segment.offset, segment.size.min(NOTES) as usize).ok()
        });
        bytes.any(|bytes| notes(&bytes, 4).any(|note| note.name == b"Go\0\0"))
    }

    /// Where the file has what is loaded at an address, in a segment with these flags.
    fn offset(&self, address: u64, flags: u32) -> Result<u64> {
        let loaded = |s: &&Segment| {
            s.kind == PT_LOAD
                && s.flags & flags == flags
                && address.checked_sub(s.address).is_some_and(|into| into < s.size)
        };
        let segment = self.headers.segments.iter().find(loaded);
        let segment = segment.with_context(|| format!("nothing is loaded at {address:#x}"))?;
        let offset = segment.offset.checked_add(address - segment.address);
        offset.filter(|at| *at < self.len).with_context(|| format!("cut short before {address:#x}"))
    }
}

#[cfg(test)]
mod tests;
