//! Files that programs run from, and the names in them that were asked for.

use super::elf::{Found, Image};
use super::file::{Identity, Seen};
use super::name;
use crate::elf::read::{Budget, ReadAt};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Files whose headers are kept.
const MODULES: usize = 4_096;
/// Bytes of a name's place in the map, about.
const ENTRY: usize = 96;

/// A file with its content; no other one gets the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct ModuleId(u64);

pub(super) struct Module {
    pub identity: Identity,
    pub name: Arc<str>,
    /// `None` for what is no program: its addresses are offsets in the file.
    image: Option<Image>,
    /// By the first address of a range, the first one behind it and the name.
    names: BTreeMap<u64, (u64, Option<Arc<str>>)>,
    bytes: usize,
    used: u64,
}

/// What is known of an address.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Named(Arc<str>),
    /// No symbol has it.
    Nameless,
    /// Nobody has looked yet.
    Unasked,
}

impl Module {
    pub(super) fn new(identity: Identity, name: Arc<str>, image: Option<Image>) -> Self {
        Self { identity, name, image, names: BTreeMap::new(), bytes: 0, used: 0 }
    }

    /// The address that symbols have for an offset in the file.
    pub(super) fn address(&self, offset: u64) -> u64 {
        self.image.as_ref().and_then(|image| image.address(offset)).unwrap_or(offset)
    }

    pub(super) fn look_up(&self, address: u64) -> Answer {
        if self.image.is_none() {
            return Answer::Nameless;
        }
        match self.names.range(..=address).next_back() {
            Some((_, (until, name))) if address < *until => {
                name.clone().map_or(Answer::Nameless, Answer::Named)
            }
            _ => Answer::Unasked,
        }
    }

    /// An address without a name: `libc.so.6[0123456789abcdef]+0x1234`.
    pub(super) fn offset(&self, address: u64) -> String {
        let id = self.image.as_ref().and_then(|image| image.build_id.as_deref());
        let id = id.map(|id| format!("[{}]", &id[..id.len().min(16)])).unwrap_or_default();
        format!("{}{id}+{address:#x}", self.name)
    }

    /// Looks for the symbols of addresses in rising order. `None`: the file does not give them, or not within
    /// the budget; ask [`Module::give_up`] or again.
    pub(super) fn find(
        &mut self,
        file: &(impl ReadAt + ?Sized),
        addresses: &[u64],
        budget: &mut Budget,
        is_unchanged: impl FnOnce() -> bool,
    ) -> Option<()> {
        let found = self.image.as_ref()?.find(file, addresses, budget)?;
        is_unchanged().then(|| found.into_iter().for_each(|found| self.keep(found)))
    }

    /// What the file does not give now it will not give later.
    pub(super) fn give_up(&mut self, addresses: &[u64]) {
        for at in addresses {
            self.keep(Found { within: *at..at.saturating_add(1), name: None });
        }
    }

    fn keep(&mut self, found: Found) {
        let name: Option<Arc<str>> = found.name.map(|raw| name::readable(&raw).into());
        let len = name.as_ref().map_or(0, |name| name.len());
        if self.names.insert(found.within.start, (found.within.end, name)).is_none() {
            self.bytes += ENTRY + len;
        }
    }

    fn forget(&mut self) {
        self.names.clear();
        self.bytes = 0;
    }
}

/// All of them.
#[derive(Default)]
pub(super) struct Modules {
    known: HashMap<ModuleId, Module>,
    ids: HashMap<Identity, ModuleId>,
    next: u64,
    batch: u64,
}

impl Modules {
    /// The module that a file is; reads its headers when it is new.
    pub(super) fn identify(&mut self, seen: &Seen, name: String) -> Option<ModuleId> {
        if let Some(id) = self.ids.get(&seen.identity).copied() {
            return Some(id);
        }
        let file = seen.open()?;
        let module = Module::new(seen.identity, name.into(), Image::read(&file));
        Some(self.insert(module))
    }

    pub(super) fn insert(&mut self, module: Module) -> ModuleId {
        let id = ModuleId(self.next);
        self.next += 1;
        self.ids.insert(module.identity, id);
        self.known.insert(id, Module { used: self.batch, ..module });
        id
    }

    pub(super) fn get(&self, id: ModuleId) -> Option<&Module> {
        self.known.get(&id)
    }

    /// For use in this batch.
    pub(super) fn get_mut(&mut self, id: ModuleId) -> Option<&mut Module> {
        let module = self.known.get_mut(&id)?;
        module.used = self.batch;
        Some(module)
    }

    /// Ends a batch: forgets names, of the files first that were of no use for longest, until the others take at
    /// most a number of bytes.
    pub(super) fn bound(&mut self, most: usize) {
        self.batch += 1;
        let mut bytes: usize = self.known.values().map(|module| module.bytes).sum();
        if bytes <= most && self.known.len() <= MODULES {
            return;
        }
        let mut by_use: Vec<_> = self.known.iter().map(|(id, of)| (of.used, *id)).collect();
        by_use.sort_unstable();
        let mut surplus = self.known.len().saturating_sub(MODULES);
        for (_, id) in by_use {
            if bytes <= most && surplus == 0 {
                break;
            }
            let Some(module) = self.known.get_mut(&id) else { continue };
            bytes -= module.bytes;
            module.forget();
            if surplus > 0 {
                surplus -= 1;
                self.ids.remove(&module.identity);
                self.known.remove(&id);
            }
        }
    }

    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.known.values().map(|module| module.bytes).sum()
    }
}
