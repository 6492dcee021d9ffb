//! Functions by their names.

use super::Elf;
use super::read::{Budget, Section, Symbol, read};
use plugin_api::{Context as _, Result, ensure};
use std::collections::BTreeMap;

/// A table of symbols and one of their names, each, in bytes: bash has 60 KiB.
const TABLE: u64 = 32 * 1024 * 1024;
const CHUNK: usize = 64 * 1024;
/// Places where a name stands, in one table.
const PLACES: usize = 256;
const STT_FUNC: u8 = 2;

impl Elf<'_> {
    /// Addresses of those names that have none yet.
    pub(super) fn find(
        &self,
        kind: u32,
        names: &[&str],
        addresses: &mut [Option<u64>],
    ) -> Result<()> {
        let Some((_, symbols)) = self.sections.iter().find(|(_, section)| section.kind == kind)
        else {
            return Ok(());
        };
        let texts = self.sections.get(symbols.link as usize);
        let (_, texts) = texts.context("its symbols have no names")?;
        for table in [symbols, texts] {
            ensure!(table.size <= TABLE, "a table of its symbols has {} bytes", table.size);
        }
        let places = self.places(texts, names)?;
        if places.is_empty() {
            return Ok(());
        }
        let layout = self.headers.layout;
        symbols.symbols(layout).stream(self.file, &mut Budget::of_headers(), |_, bytes| {
            let symbol = Symbol::of(layout, bytes)?;
            let is_defined = symbol.section != 0 && symbol.value != 0;
            if let Some(name) = places.get(&symbol.name)
                && is_defined
                && symbol.kind() == STT_FUNC
            {
                addresses[*name].get_or_insert(symbol.value);
            }
            Some(())
        })
    }

    /// Where the names stand, the ends of longer ones included, by which linkers save room.
    fn places(&self, texts: &Section, names: &[&str]) -> Result<BTreeMap<u32, usize>> {
        let mut places = BTreeMap::new();
        // Of a piece before, where a name may have begun.
        let overlap = names.iter().map(|name| name.len()).max().unwrap_or(0);
        let mut at = 0;
        while at < texts.size {
            let len = (texts.size - at).min((CHUNK + overlap) as u64) as usize;
            let place = texts.offset.checked_add(at).context("its sections make no sense")?;
            let chunk = read(self.file, place, len)?;
            for (i, name) in names.iter().enumerate() {
                let wanted = [name.as_bytes(), &[0]].concat();
                for place in memchr::memmem::find_iter(&chunk, &wanted) {
                    if places.len() < PLACES
                        && let Ok(place) = u32::try_from(at + place as u64)
                    {
                        places.insert(place, i);
                    }
                }
            }
            at += CHUNK as u64;
        }
        Ok(places)
    }
}
