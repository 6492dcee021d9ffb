//! What a file is, read from its bytes before the dynamic linker sees it.
//!
//! `dlopen` maps a shared library by the sizes that its headers state. Of one that is cut short it maps
//! pages behind the end of the file, and the process dies of SIGBUS at the first touch. It also runs the library's
//! constructors, so what kind of plugin a file is must be known before.

use object::elf::{self, FileHeader64};
use object::endian::NativeEndian;
use object::read::SectionIndex;
use object::read::elf::{
    Dyn, FileHeader, ProgramHeader, SectionHeader, SectionTable, Sym, SymbolTable,
};
use plugin_api::abi::ISOLATED_SYMBOL;
use plugin_api::abi_stable::library::ROOT_MODULE_LOADER_NAME;

type Header = FileHeader64<NativeEndian>;

/// What `plugin_api::export_plugin!` leaves in a library's symbol table.
pub const HEADER_SYMBOL: &str = ROOT_MODULE_LOADER_NAME;

/// The functions that a C plugin exports, as plugins for unity do.
pub const C_SYMBOLS: [&str; 3] = ["init", "call", "deinit"];

/// Which of the two ABIs a library speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Abi {
    /// That of `plugin-api`: one symbol, [`HEADER_SYMBOL`].
    Rust,
    /// That of unity: the functions of [`C_SYMBOLS`].
    C,
}

/// What the loader has to know of a library.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Library {
    /// What it exports.
    pub abi: Abi,
    /// It asks for a process of its own.
    pub isolated: bool,
    /// The libraries that it names as needed.
    pub needed: Vec<String>,
    /// How much memory it takes from where it is loaded on.
    pub extent: usize,
}

/// The machine that this program was built for.
const MACHINE: elf::Machine = if cfg!(target_arch = "x86_64") {
    elf::EM_X86_64
} else if cfg!(target_arch = "aarch64") {
    elf::EM_AARCH64
} else if cfg!(target_arch = "riscv64") {
    elf::EM_RISCV
} else {
    elf::EM_NONE
};

/// Makes sure that the file is a whole shared library for this machine that exports a plugin.
///
/// # Errors
/// A sentence that says what it is instead.
pub fn check(bytes: &[u8]) -> Result<Library, String> {
    if bytes.is_empty() {
        return Err("the file is empty".to_owned());
    }
    if !bytes.starts_with(&elf::ELFMAG) {
        let text = std::str::from_utf8(&bytes[..bytes.len().min(64)]).is_ok();
        let what = if text { "a text file" } else { "something else" };
        return Err(format!("{what}, not a shared library (no ELF header)"));
    }
    let cut = |what: &str| format!("cut short: its {} bytes end before {what}", bytes.len());
    if bytes.len() < size_of::<Header>() {
        return Err(cut("the ELF header does; copy it again"));
    }
    let header = Header::parse(bytes)
        .map_err(|_| "an ELF file of another word size or byte order".to_owned())?;
    if header.e_type(NativeEndian) != elf::ET_DYN {
        return Err("an ELF file, but not a shared library (its type is not DYN)".to_owned());
    }
    if MACHINE != elf::EM_NONE && header.e_machine(NativeEndian) != MACHINE {
        return Err("a shared library for another machine's processor".to_owned());
    }
    let segments = header
        .program_headers(NativeEndian, bytes)
        .map_err(|_| cut("its program headers do; copy it again"))?;
    let sections = header
        .sections(NativeEndian, bytes)
        .map_err(|_| cut("its section headers do; copy it again"))?;
    let ends = segments.iter().map(|s| s.file_range(NativeEndian));
    let ends = ends.chain(sections.iter().filter_map(|s| s.file_range(NativeEndian)));
    let end = ends.map(|(offset, size)| offset.saturating_add(size)).max().unwrap_or(0);
    if end > bytes.len() as u64 {
        return Err(cut(&format!("its contents do, at {end}; copy it again")));
    }
    let loaded = segments.iter().filter(|s| s.p_type(NativeEndian) == elf::PT_LOAD);
    let place =
        |s: &elf::ProgramHeader64<NativeEndian>| (s.p_vaddr(NativeEndian), s.p_memsz(NativeEndian));
    let extent = loaded.map(place).map(|(at, size)| at.saturating_add(size)).max().unwrap_or(0);
    let symbols = Symbols::of(&sections, bytes)?;
    let abi = symbols.abi()?;
    let isolated = symbols.byte(ISOLATED_SYMBOL) == Some(1);
    let needed = needed(&sections, bytes);
    Ok(Library { abi, isolated, needed, extent: usize::try_from(extent).unwrap_or(usize::MAX) })
}

/// What a library exports.
struct Symbols<'a> {
    sections: &'a SectionTable<'a, Header>,
    symbols: SymbolTable<'a, Header>,
    bytes: &'a [u8],
}

impl<'a> Symbols<'a> {
    fn of(sections: &'a SectionTable<'a, Header>, bytes: &'a [u8]) -> Result<Self, String> {
        let symbols = sections
            .symbols(NativeEndian, bytes, elf::SHT_DYNSYM)
            .map_err(|error| format!("a shared library with a broken symbol table ({error})"))?;
        Ok(Self { sections, symbols, bytes })
    }

    fn exported(&self, name: &str) -> Option<&'a elf::Sym64<NativeEndian>> {
        self.symbols.iter().find(|symbol| {
            symbol.is_definition(NativeEndian, self.symbols.strings())
                && self.symbols.symbol_name(NativeEndian, symbol) == Ok(name.as_bytes())
        })
    }

    fn abi(&self) -> Result<Abi, String> {
        if self.exported(HEADER_SYMBOL).is_some() {
            return Ok(Abi::Rust);
        }
        let is_function = |name: &&str| {
            self.exported(name).is_some_and(|symbol| {
                matches!(symbol.st_type(), elf::STT_FUNC | elf::STT_GNU_IFUNC)
            })
        };
        let missing: Vec<&str> = C_SYMBOLS.into_iter().filter(|name| !is_function(name)).collect();
        match missing.len() {
            0 => Ok(Abi::C),
            3 => Err(format!(
                "a shared library, but no plugin: it exports neither `{HEADER_SYMBOL}` (what \
                 plugin_api::export_plugin! makes) nor the functions init, call and deinit of a C plugin"
            )),
            _ => {
                let names = missing.join("` and `");
                let (plural, it) = if missing.len() == 1 { ("", "it") } else { ("s", "them") };
                Err(format!(
                    "a C plugin without the function{plural} `{names}`: define {it}, and neither as `static` nor hidden"
                ))
            }
        }
    }

    /// The first byte of a constant; none where the file does not hold it, which means 0.
    fn byte(&self, name: &str) -> Option<u8> {
        let symbol = self.exported(name)?;
        let section = SectionIndex(symbol.st_shndx(NativeEndian).index()?.into());
        let section = self.sections.section(section).ok()?;
        let data = section.data(NativeEndian, self.bytes).ok()?;
        let at = symbol.st_value(NativeEndian).checked_sub(section.sh_addr(NativeEndian))?;
        data.get(usize::try_from(at).ok()?).copied()
    }
}

/// What is said of libraries is for a message; the dynamic linker reads it for itself.
fn needed(sections: &SectionTable<'_, Header>, bytes: &[u8]) -> Vec<String> {
    let Ok(Some((entries, strings))) = sections.dynamic(NativeEndian, bytes) else {
        return Vec::new();
    };
    let Ok(strings) = sections.strings(NativeEndian, bytes, strings) else { return Vec::new() };
    let needed = entries.iter().filter(|entry| entry.tag(NativeEndian) == elf::DT_NEEDED);
    let name = |entry: &elf::Dyn64<NativeEndian>| entry.string(NativeEndian, strings).ok();
    needed.filter_map(name).map(|name| String::from_utf8_lossy(name).into_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// This test's own binary is an ELF file, if no plugin.
    fn own() -> Vec<u8> {
        std::fs::read("/proc/self/exe").unwrap()
    }

    fn reason(bytes: &[u8]) -> String {
        check(bytes).unwrap_err()
    }

    #[test]
    fn a_file_that_is_no_library_is_called_what_it_is() {
        assert_eq!(reason(b""), "the file is empty");
        assert!(reason(b"#!/bin/sh\n").starts_with("a text file"));
        assert!(reason(&[0xff, 0xfe, 0, 1]).starts_with("something else"));
        assert!(reason(b"\x7fELF").starts_with("cut short: its 4 bytes"));
        assert!(reason(&own()).contains("exports neither"));
    }

    #[test]
    fn a_library_for_another_machine_is_refused() {
        let mut bytes = own();
        bytes[18] ^= 0xff; // e_machine
        assert!(reason(&bytes).contains("another machine"));
        let mut bytes = own();
        bytes[4] = 1; // 32 bits
        assert!(reason(&bytes).contains("word size"));
        let mut bytes = own();
        bytes[16] = 1; // a relocatable object
        assert!(reason(&bytes).contains("not DYN"));
    }

    #[test]
    fn a_cut_at_any_place_is_noticed() {
        let bytes = own();
        for part in 1..200 {
            let cut = &bytes[..bytes.len() * part / 200];
            let reason = reason(cut);
            assert!(reason.starts_with("cut short"), "{} of {}: {reason}", cut.len(), bytes.len());
        }
    }
}
