//! How much memory the plugins take that are tried: what a container should ask for.

use super::conformance::holdings::Holdings;
use super::conformance::onlooker::Onlooker;
use crate::process::trim_memory;
use std::io;

const MIB: u64 = 1 << 20;
/// A request is a multiple of it.
const STEP: u64 = 16 * MIB;

/// What plugins take together that were tried one after the other.
#[derive(Debug, Default)]
pub(super) struct Memory {
    /// Of the collector's process without a plugin's data, and of what plugins added to it or had in processes of their
    /// own.
    resident: u64,
    /// Of BPF maps, as the kernel accounts them: it charges who made them.
    maps: u64,
    /// Of the collector's process before the plugin that is tried now.
    own: u64,
    /// Why something was not seen.
    unseen: Option<io::Error>,
}

impl Memory {
    /// Before any plugin is tried.
    pub fn before(onlooker: &Onlooker) -> Self {
        let mut memory = Self::default();
        memory.look(onlooker, std::process::id());
        memory
    }

    /// Before a plugin is tried: what the one before has left free is not the next one's.
    pub fn begin(&mut self, onlooker: &Onlooker) {
        trim_memory();
        match onlooker.holdings(Some(std::process::id())) {
            Ok(held) => self.own = held.resident,
            Err(why) => self.unseen = Some(why),
        }
    }

    /// What a plugin takes that has been called and not ended; `process` is its own one.
    pub fn add(&mut self, onlooker: &Onlooker, process: Option<u32>) {
        self.look(onlooker, std::process::id());
        if let Some(process) = process {
            self.look(onlooker, process);
        }
    }

    fn look(&mut self, onlooker: &Onlooker, process: u32) {
        match onlooker.holdings(Some(process)) {
            Ok(held) => self.count(&held, process == std::process::id()),
            Err(why) => self.unseen = Some(why),
        }
    }

    /// What stays of a plugin in the collector's process, such as its code, counts once.
    fn count(&mut self, held: &Holdings, own: bool) {
        self.maps += held.maps.values().sum::<u64>();
        if own {
            self.resident += held.resident.saturating_sub(self.own);
        } else {
            self.resident += held.resident;
        }
    }

    /// What a container should ask for: a quarter more than what was seen, for what grows while plugins run: tables of
    /// kernels that fill them as keys come, names, stacks.
    fn request(&self) -> u64 {
        let seen = self.resident + self.maps;
        (seen + seen / 4).next_multiple_of(STEP)
    }

    /// In words.
    ///
    /// # Errors
    /// Why something was not seen.
    pub fn text(&self) -> Result<String, String> {
        if let Some(why) = &self.unseen {
            return Err(format!("what a plugin's process holds cannot be seen: {why}"));
        }
        let mib = |bytes: u64| bytes as f64 / MIB as f64;
        let (resident, maps) = (mib(self.resident), mib(self.maps));
        let request = self.request() / MIB;
        Ok(format!(
            "{resident:.1} MiB resident, {maps:.1} MiB of maps; a container's request: {request}Mi"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(resident: u64, maps: u64) -> Holdings {
        Holdings { resident: resident * MIB, maps: [(1, maps * MIB)].into(), ..Holdings::default() }
    }

    #[test]
    fn what_stays_of_a_plugin_counts_once_and_each_process_whole() {
        let mut memory = Memory::default();
        memory.count(&held(10, 0), true);
        for (before, with) in [(10, held(14, 3)), (12, held(13, 1)), (13, held(13, 0))] {
            memory.own = before * MIB;
            memory.count(&with, true);
        }
        memory.count(&held(8, 2), false);
        let text = memory.text().unwrap();
        assert_eq!(text, "23.0 MiB resident, 6.0 MiB of maps; a container's request: 48Mi");
    }

    #[test]
    fn what_was_not_seen_is_no_request() {
        let unseen = Some(io::Error::other("no such process"));
        let memory = Memory { unseen, ..Memory::default() };
        assert!(memory.text().unwrap_err().contains("cannot be seen: no such process"));
    }
}
