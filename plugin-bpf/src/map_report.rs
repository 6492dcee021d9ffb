//! What a plugin's maps hold and lost: the table `collector_map`.

use crate::attach::Attached;
use crate::exact::Piece;
use crate::object::{Loaded, PieceDef};
use libbpf_rs::MapCore as _;
use plugin_api::{Lines, Result, Tick, table};
use std::collections::BTreeMap;
use std::fs;
use std::os::fd::{AsFd as _, AsRawFd as _};

table! {
    /// A map of a plugin that can lose something; two halves are one.
    collector_map {
        tags {
            /// Its name in the program.
            map,
        }
        /// Keys of this tick, where they are counted.
        keys: counter [optional],
        /// Kernel memory of the map, and of its second half.
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

/// Ticks between two looks at the kernel's memory.
const LOOK: u64 = 60;

#[derive(Default)]
pub(crate) struct MapReport {
    bytes: BTreeMap<String, i64>,
    looked: Option<u64>,
}

impl MapReport {
    pub(crate) fn push(
        &mut self,
        tick: &Tick,
        attached: &Attached,
        pieces: &[Vec<(&'static PieceDef, &mut dyn Piece)>],
        lines: &mut Lines,
    ) -> Result<()> {
        if self.looked.is_none_or(|at| tick.seq.abs_diff(at) >= LOOK) {
            self.look(attached);
            self.looked = Some(tick.seq);
        }
        for (def, piece) in pieces.iter().flatten() {
            let Some(extent) = piece.extent() else { continue };
            let lost = extent.lost;
            lines.push(collector_map::Row {
                map: def.name.into(),
                keys: extent.keys,
                size_bytes: self.bytes.get(def.name).copied(),
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

    /// Bytes by map as the kernel accounts them.
    fn look(&mut self, attached: &Attached) {
        self.bytes.clear();
        for map in attached.objects().iter().flat_map(Loaded::maps) {
            let name = map.name().to_string_lossy().into_owned();
            let name = name.strip_suffix("__b").unwrap_or(&name).to_owned();
            if let Some(bytes) = memory(map.as_fd().as_raw_fd()) {
                *self.bytes.entry(name).or_default() += bytes;
            }
        }
    }
}

/// `memlock` of a map: what it takes now since Linux 6.4, before what it may take.
fn memory(fd: i32) -> Option<i64> {
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).ok()?;
    info.lines().find_map(|line| line.strip_prefix("memlock:")?.trim().parse().ok())
}
