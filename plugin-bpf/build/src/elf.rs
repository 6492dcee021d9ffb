//! What relocations say: which maps a program uses.

use crate::Result;
use object::{Object as _, ObjectSection as _, ObjectSymbol as _, RelocationTarget, SectionKind};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// A program.
pub struct Program {
    pub name: String,
    pub section: String,
    /// Maps, and data sections of ours (`.rodata.unity`).
    pub maps: BTreeSet<String>,
}

/// What an object's ELF says.
pub struct Elf {
    /// In the order of sections, and within each of addresses, as libbpf has them.
    pub programs: Vec<Program>,
    /// Where constants lie in `.rodata`.
    pub constants: BTreeMap<String, u64>,
}

pub fn read(path: &Path) -> Result<Elf> {
    let bytes = std::fs::read(path).map_err(|e| format!("{}: {e}", path.display()))?;
    let file = object::File::parse(&*bytes).map_err(|e| format!("{}: {e}", path.display()))?;
    let section_name = |index| -> Option<String> {
        Some(file.section_by_index(index).ok()?.name().ok()?.to_owned())
    };
    let mut programs = Vec::new();
    let mut constants = BTreeMap::new();
    // Functions that are not inlined lie in `.text`, and any program may call any of them.
    let mut shared = BTreeSet::new();
    // Maps in the initial values of other maps.
    let mut inner = BTreeSet::new();
    for section in file.sections() {
        let name = section.name().unwrap_or_default().to_owned();
        let mut functions: Vec<(u64, u64, String)> = file
            .symbols()
            .filter(|s| s.section_index() == Some(section.index()) && s.is_global())
            .filter_map(|s| Some((s.address(), s.size(), s.name().ok()?.to_owned())))
            .collect();
        functions.sort();
        if name == ".rodata" {
            constants = functions.iter().map(|(at, _, name)| (name.clone(), *at)).collect();
        }
        let mut uses: Vec<(u64, String)> = Vec::new();
        let mut calls = false;
        for (offset, relocation) in section.relocations() {
            let RelocationTarget::Symbol(index) = relocation.target() else { continue };
            let Ok(symbol) = file.symbol_by_index(index) else { continue };
            let Some(target) = symbol.section_index().and_then(section_name) else { continue };
            match target.as_str() {
                ".maps" => uses.push((offset, symbol.name().unwrap_or_default().to_owned())),
                ".text" => calls = true,
                data if data.starts_with(".rodata.") => uses.push((offset, target.clone())),
                _ => {}
            }
        }
        match (section.kind(), name.as_str()) {
            (_, ".maps") => inner.extend(uses.into_iter().map(|(_, map)| map)),
            (SectionKind::Text, ".text") => shared.extend(uses.into_iter().map(|(_, map)| map)),
            (SectionKind::Text, _) => {
                for (at, size, function) in functions {
                    let within = uses.iter().filter(|(o, _)| (at..at + size).contains(o));
                    let maps = within.map(|(_, map)| map.clone()).collect();
                    programs.push((Program { name: function, section: name.clone(), maps }, calls));
                }
            }
            _ => {}
        }
    }
    let programs = programs
        .into_iter()
        .map(|(mut program, calls)| {
            if calls {
                program.maps.extend(shared.iter().cloned());
            }
            program.maps.extend(inner.iter().cloned());
            program
        })
        .collect();
    Ok(Elf { programs, constants })
}
