//! What the SDK changes in an object between open and load.

use crate::banks::{BANKED, DIVISOR_SHIFT, LEN, banks};
use crate::{events, histogram};
use libbpf_rs::{MapCore as _, MapType, Object, OpenObject};
use plugin_api::{Result, anyhow};
use std::ffi::OsStr;
use std::sync::OnceLock;

/// What the declarations say that a loaded map cannot, by map name: a histogram's divisor, and the bytes
/// of events, for their `__lost` counters.
#[derive(Default)]
pub(crate) struct Prepared {
    divisors: Vec<(String, u64)>,
    bytes: Vec<(String, u64)>,
}

/// Sizes the maps for this machine, and turns ring buffers into perf buffers where the kernel has none
/// (or `perf` says so).
pub(crate) fn prepare(object: &mut OpenObject, perf: bool) -> Result<Prepared> {
    let mut prepared = Prepared::default();
    let mut perf_buffers = false;
    let names: Vec<_> = object.maps().map(|m| m.name().to_owned()).collect();
    for mut map in object.maps_mut() {
        let (name, declared) = (map.name().to_string_lossy().into_owned(), map.max_entries());
        if declared & BANKED != 0 {
            map.set_max_entries((declared & LEN) * banks())?;
            if histogram::is_value_size(map.value_size()) {
                let exponent = (declared & !BANKED) >> DIVISOR_SHIFT;
                prepared.divisors.push((name, 1000u64.pow(exponent)));
            }
        } else if map.map_type() == MapType::RingBuf
            && names.contains(&format!("{name}__lost").into())
        {
            map.set_value_size(0)?; // the type was for the skeleton
            prepared.bytes.push((format!("{name}__lost"), declared.into()));
            if perf || !has_ring_buffer() {
                map.set_type(MapType::PerfEventArray)?;
                map.set_key_size(4)?;
                map.set_value_size(4)?;
                map.set_max_entries(0)?; // libbpf: one for every CPU
                perf_buffers = true;
            }
        }
    }
    if perf_buffers {
        let mut maps = object.maps_mut();
        let mut flag = maps
            .find(|map| map.name() == OsStr::new(".rodata.unity"))
            .ok_or_else(|| anyhow!("EVENTS without its flag in .rodata.unity"))?;
        let value = flag.initial_value_mut().ok_or_else(|| anyhow!(".rodata.unity is empty"))?;
        value[..4].copy_from_slice(&1u32.to_ne_bytes());
    }
    Ok(prepared)
}

impl Prepared {
    /// What is left to do once the object is loaded.
    pub(crate) fn finish(self, object: &Object) -> Result<()> {
        for map in object.maps() {
            let name = map.name();
            for (_, divisor) in self.divisors.iter().filter(|(n, _)| OsStr::new(n) == name) {
                histogram::declare(&map, *divisor)?;
            }
            for (_, bytes) in self.bytes.iter().filter(|(n, _)| OsStr::new(n) == name) {
                events::declare(&map, *bytes)?;
            }
        }
        Ok(())
    }
}

/// Tries to make one: ring buffers came with Linux 5.8.
fn has_ring_buffer() -> bool {
    static HAS: OnceLock<bool> = OnceLock::new();
    *HAS.get_or_init(|| MapType::RingBuf.is_supported().unwrap_or(false))
}
