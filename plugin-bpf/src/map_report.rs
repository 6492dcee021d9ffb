//! What a plugin's maps take, hold and lost: the tables `collector_bpf` and `collector_map`.

use crate::attach::Attached;
use crate::exact::Piece;
use crate::maps::made_here;
use crate::object::{Loaded, PieceDef};
use libbpf_rs::MapCore as _;
use plugin_api::{Lines, Result, Tick, table};
use std::collections::BTreeMap;
use std::fs;
use std::os::fd::{AsFd, AsRawFd as _};

table! {
    /// All BPF maps of a plugin, also those that can lose nothing. Read every 10 s: maps that grow with their keys
    /// take another amount of memory each time.
    collector_bpf {
        /// How many there are.
        maps: gauge,
        /// Kernel memory of all of them. A map that several objects use counts once.
        map_bytes: gauge(bytes),
    }
}
plugin_api::exported!(collector_bpf);

table! {
    /// A map of a plugin that can lose something; two halves are one.
    collector_map {
        tags {
            /// Its name in the program.
            map,
        }
        /// Keys of this tick, where they are counted.
        keys: counter [optional],
        /// Keys that it has room for, where they are counted.
        max_keys: gauge [optional],
        /// Kernel memory of the map, and of its second half; part of `map_bytes` of `collector_bpf`.
        size_bytes: gauge(bytes) [optional],
        /// Events without room: raise its size, or filter.
        full: counter,
        /// Events that the kernel refused for another reason.
        busy: counter,
        /// Stored, with their end cut off.
        truncated: counter,
        /// Begun twice; the later begin counts.
        twice: counter,
        /// Ended without a known begin.
        unmatched: counter,
        /// Begun by something that is gone.
        died: counter,
        /// Numbers past the end: a mistake of the BPF program.
        past: counter,
    }
}
plugin_api::exported!(collector_map);

/// Nanoseconds between two looks at the kernel's memory.
const LOOK_NS: u64 = 10_000_000_000;

#[derive(Default)]
pub(crate) struct MapReport {
    last: Option<Look>,
    /// Since then.
    age_ns: u64,
}

/// What the kernel said of a plugin's maps.
#[derive(Default)]
struct Look {
    /// Those of the objects, by name.
    sizes: BTreeMap<String, Size>,
    maps: i64,
    bytes: i64,
}

/// How large a map is.
#[derive(Default)]
struct Size {
    /// Of both halves.
    bytes: i64,
    /// Keys of one half.
    keys: i64,
}

impl MapReport {
    pub(crate) fn push(
        &mut self,
        tick: &Tick,
        attached: &Attached,
        pieces: &[Vec<(&'static PieceDef, &mut dyn Piece)>],
        lines: &mut Lines,
    ) -> Result<()> {
        self.age_ns = self.age_ns.saturating_add(tick.elapsed_ns);
        if self.last.is_none() || self.age_ns >= LOOK_NS {
            (self.last, self.age_ns) = (Look::at(attached.objects()), 0);
        }
        if let Some(Look { maps, bytes, .. }) = self.last {
            lines.push(collector_bpf::Row { maps, map_bytes: bytes })?;
        }
        for (def, piece) in pieces.iter().flatten() {
            let Some(extent) = piece.extent() else { continue };
            let lost = extent.lost;
            let size = self.last.as_ref().and_then(|last| last.sizes.get(def.name));
            lines.push(collector_map::Row {
                map: def.name.into(),
                keys: extent.keys,
                max_keys: extent.keys.and(size).map(|size| size.keys),
                size_bytes: size.map(|size| size.bytes),
                full: lost.full,
                busy: lost.busy,
                truncated: lost.truncated,
                twice: lost.twice,
                unmatched: lost.unmatched,
                died: lost.died,
                past: lost.past,
            })?;
        }
        Ok(())
    }
}

impl Look {
    /// Asks the kernel; `None` where it does not say everything, as without a free descriptor.
    fn at(objects: &[Loaded]) -> Option<Self> {
        let mut look = Self::default();
        let mut known = BTreeMap::new();
        for map in objects.iter().flat_map(Loaded::maps) {
            let (id, bytes) = memory(&map)?;
            if known.insert(id, bytes).is_some() {
                continue; // another object has it too
            }
            let name = map.name().to_string_lossy();
            let size = look.sizes.entry(name.strip_suffix("__b").unwrap_or(&name).to_owned());
            let size = size.or_default();
            size.keys = map.max_entries().into();
            size.bytes += bytes;
        }
        for map in made_here() {
            let (id, bytes) = memory(&map)?;
            known.insert(id, bytes);
        }
        (look.maps, look.bytes) = (known.len() as i64, known.into_values().sum());
        Some(look)
    }
}

/// A map's number, and its `memlock`: what it takes now since Linux 6.4, before what it may take.
fn memory(map: &impl AsFd) -> Option<(u32, i64)> {
    let info = format!("/proc/self/fdinfo/{}", map.as_fd().as_raw_fd());
    let info = fs::read_to_string(info).ok()?;
    let text = |key| info.lines().find_map(|line| line.strip_prefix(key)).map(str::trim);
    Some((text("map_id:")?.parse().ok()?, text("memlock:")?.parse().ok()?))
}
