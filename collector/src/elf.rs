//! What a file is, read from its bytes before the dynamic linker sees it.
//!
//! `dlopen` maps a shared library by the sizes that its headers state. Of one that is cut short it maps
//! pages behind the end of the file, and the process dies of SIGBUS at the first touch.

use object::elf::{self, FileHeader64};
use object::endian::NativeEndian;
use object::read::elf::{FileHeader, ProgramHeader, SectionHeader, SectionTable, Sym};
use plugin_api::abi_stable::library::ROOT_MODULE_LOADER_NAME;

type Header = FileHeader64<NativeEndian>;

/// What `plugin_api::export_plugin!` leaves in a library's symbol table.
pub const HEADER_SYMBOL: &str = ROOT_MODULE_LOADER_NAME;

/// What a plugin for unity exports.
const C_SYMBOLS: [&str; 3] = ["init", "call", "deinit"];

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
pub fn check(bytes: &[u8]) -> Result<(), String> {
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
    exports_a_plugin(&sections, bytes)
}

fn exports_a_plugin(sections: &SectionTable<'_, Header>, bytes: &[u8]) -> Result<(), String> {
    let symbols = sections
        .symbols(NativeEndian, bytes, elf::SHT_DYNSYM)
        .map_err(|error| format!("a shared library with a broken symbol table ({error})"))?;
    let exports = |name: &str| {
        symbols.iter().any(|symbol| {
            symbol.is_definition(NativeEndian, symbols.strings())
                && symbols.symbol_name(NativeEndian, symbol) == Ok(name.as_bytes())
        })
    };
    if exports(HEADER_SYMBOL) {
        Ok(())
    } else if C_SYMBOLS.into_iter().all(exports) {
        Err("a C (unity) plugin: not supported yet".to_owned())
    } else {
        Err(format!(
            "a shared library, but no plugin: it exports no `{HEADER_SYMBOL}` \
             (what plugin_api::export_plugin! makes)"
        ))
    }
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
        assert!(reason(&own()).contains("exports no"));
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
