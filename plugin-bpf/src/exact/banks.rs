//! An array map in this process's memory, with a bank for every possible CPU.

use libbpf_rs::{MapCore, MapType};
use memmap2::{MmapOptions, MmapRaw};
use plugin_api::{Context as _, Result, ensure};
use std::os::fd::AsRawFd as _;
use std::sync::OnceLock;
use std::sync::atomic::AtomicU64;

/// The highest possible CPU's number plus one, which is what `bpf_get_smp_processor_id()` stays under.
#[must_use]
pub fn banks() -> u32 {
    static BANKS: OnceLock<u32> = OnceLock::new();
    *BANKS.get_or_init(|| {
        let possible = std::fs::read_to_string("/sys/devices/system/cpu/possible").ok();
        possible.as_deref().and_then(highest_cpu).map_or_else(configured_cpus, |cpu| cpu + 1)
    })
}

/// The last number of a CPU list such as `0-1,4-7`: lists are sorted.
fn highest_cpu(list: &str) -> Option<u32> {
    list.trim().rsplit([',', '-']).next()?.parse().ok()
}

/// What is left without sysfs: the kernel numbers the configured CPUs without holes almost everywhere.
fn configured_cpus() -> u32 {
    std::thread::available_parallelism().map_or(1, |n| n.get() as u32).max(
        // SAFETY: sysconf has no preconditions.
        u32::try_from(unsafe { libc::sysconf(libc::_SC_NPROCESSORS_CONF) }).unwrap_or(1),
    )
}

/// The cells of all banks.
pub(crate) struct Banks {
    memory: MmapRaw,
    /// Cells of 8 bytes in one bank.
    bank: usize,
    banks: usize,
}

impl Banks {
    /// Maps the memory of a banked array that this crate loaded.
    pub(crate) fn of(map: &dyn MapCore) -> Result<Self> {
        let name = map.name().to_string_lossy().into_owned();
        let (banks, entries) = (banks(), map.max_entries());
        let cells = entries as usize * map.value_size() as usize / 8;
        ensure!(
            map.map_type() == MapType::Array
                && map.value_size().is_multiple_of(8)
                && entries.is_multiple_of(banks)
                && cells > 0,
            "map `{name}` has no bank for each of {banks} CPUs: was it loaded by plugin_bpf?"
        );
        let memory = MmapOptions::new()
            .len(cells * 8)
            .map_raw(map.as_fd().as_raw_fd())
            .with_context(|| format!("map `{name}` cannot be mapped into memory"))?;
        Ok(Self { memory, bank: cells / banks as usize, banks: banks as usize })
    }

    /// The same without a kernel, for tests.
    #[cfg(test)]
    pub(crate) fn in_memory(bank: usize, banks: usize) -> Result<Self> {
        let memory = memmap2::MmapMut::map_anon(bank * banks * 8)?.into();
        Ok(Self { memory, bank, banks })
    }

    /// The banks, one after the other.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &[AtomicU64]> + Clone {
        // SAFETY: the mapping has this many aligned cells and lives as long as `self`; kernel and user
        // space touch them by atomic operations or single aligned words only.
        let cells = unsafe {
            std::slice::from_raw_parts(
                self.memory.as_ptr().cast::<AtomicU64>(),
                self.bank * self.banks,
            )
        };
        cells.chunks_exact(self.bank)
    }
}

#[cfg(test)]
mod tests {
    use super::highest_cpu;

    #[test]
    fn the_highest_cpu_ends_the_list() {
        for (list, cpu) in [("0\n", 0), ("0-1\n", 1), ("0-3,8-11", 11), ("0,2", 2)] {
            assert_eq!(highest_cpu(list), Some(cpu), "{list}");
        }
        assert_eq!(highest_cpu(""), None);
    }
}
