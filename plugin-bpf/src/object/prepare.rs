//! What changes in an object between open and load: sizes, kinds of maps, constants, offsets.

use super::failure::Failure;
use super::terms::Terms;
use super::{Code, PieceKind, max_threads};
use crate::attach::tracepoint;
use crate::exact::banks::banks;
use libbpf_rs::{ErrorKind, MapHandle, MapType, OpenMapMut, OpenObject};
use plugin_api::{Result, ensure};
use std::collections::BTreeSet;
use std::sync::OnceLock;

/// In `max_entries`: the rest is for one CPU (`UNITY_BANKED` in unity/base.h).
const BANKED: u32 = 1 << 29;
/// Below the bits that hold a histogram's divisor (`UNITY_DIV`).
const LEN: u32 = (1 << 27) - 1;
/// As `max_entries`: one for every thread (`PER_THREAD`).
const PER_THREAD: u32 = (1 << 28) | 1;

/// The section of filter.bpf.h.
const FILTER: &str = ".rodata.unity_filter";

pub(super) fn prepare(
    open: &mut OpenObject,
    code: &'static Code,
    terms: &Terms<'_>,
) -> Result<(), Failure> {
    let used = used_maps(code, terms.programs);
    let perf_buffers = terms.settings.perf_buffers || !has_ring_buffer();
    // In an NMI the kernel may have no memory to give: entries are allocated beforehand.
    let nmi = code.programs.iter().any(|program| {
        terms.programs.contains(program.name) && program.section.starts_with("perf_event")
    });
    let has_filter = open.maps().any(|map| map.name() == FILTER);
    if terms.settings.filter.is_some() && !has_filter {
        return Err(Failure::of_object("a filter is set, and the program has no filter.bpf.h"));
    }
    for mut map in open.maps_mut() {
        let name = map.name().to_string_lossy().into_owned();
        let mut change = || -> Result<()> {
            if code.maps.contains(&name.as_str()) && !used.contains(name.as_str())
                || terms.settings.without.iter().any(|map| is_of(&name, map))
            {
                return Ok(map.set_autocreate(false)?);
            }
            if let (Some(cells), "unity_cut") = (terms.cells, name.as_str()) {
                map.set_max_entries(banks())?;
                return Ok(map.reuse_fd(cells)?);
            }
            let here = terms.settings.preallocated.iter().any(|map| is_of(&name, map));
            fit(&mut map, code, &name, perf_buffers, nmi || here)?;
            let sizes = terms.settings.entries.iter().filter(|_| !name.ends_with("__scratch"));
            for (_, entries) in sizes.filter(|(map, _)| is_of(&name, map)) {
                map.set_max_entries((*entries).max(1))?;
            }
            let growing = terms.settings.growing.iter().find(|(map, _)| is_of(&name, map));
            if let Some((_, entries)) = growing.filter(|_| map.map_type() == MapType::Hash) {
                grow(&mut map, *entries)?;
            }
            data(&mut map, &name, terms, perf_buffers)
        };
        change().map_err(|error| Failure::of_object(format!("map `{name}`: {error:#}")))?;
        if name == ".rodata.unity_record"
            && let Some(records) = map.initial_value_mut()
        {
            tracepoint::fill(records, code, terms.programs)?;
        }
    }
    Ok(())
}

/// A map by its name, and its second half.
fn is_of(name: &str, map: &str) -> bool {
    name.strip_prefix(map).is_some_and(|rest| matches!(rest, "" | "__b" | "__scratch"))
}

fn used_maps(code: &Code, programs: &BTreeSet<&'static str>) -> BTreeSet<&'static str> {
    let loaded = code.programs.iter().filter(|program| programs.contains(program.name));
    let mut used: BTreeSet<_> = BTreeSet::new();
    for program in loaded {
        used.extend(program.maps);
        // libbpf fills the maps of usdt.bpf.h, whether or not the program reads an argument.
        if program.section.starts_with("usdt") {
            used.extend(code.maps.iter().filter(|map| map.starts_with("__bpf_usdt_")));
        }
    }
    used
}

/// Size and kind of a map on this machine.
fn fit(
    map: &mut OpenMapMut<'_>,
    code: &Code,
    name: &str,
    perf: bool,
    preallocated: bool,
) -> Result<()> {
    let declared = map.max_entries();
    let piece = code.pieces.iter().find(|piece| is_of(name, piece.name)).map(|piece| piece.kind);
    if declared & BANKED != 0 {
        map.set_max_entries((declared & LEN) * banks())?;
        return Ok(());
    }
    if declared == PER_THREAD {
        map.set_max_entries(max_threads())?;
    } else if piece == Some(PieceKind::Halves) {
        map.set_max_entries(declared & LEN)?;
    }
    let grows = piece == Some(PieceKind::Halves) || map.max_entries() != declared;
    let is_hash = map.map_type() == MapType::Hash;
    if is_hash
        && !preallocated
        && (grows || piece == Some(PieceKind::Pairs))
        && allocates_anywhere()
    {
        let flags = map.map_flags() | libbpf_sys::BPF_F_NO_PREALLOC;
        map.set_map_flags(flags)?;
    }
    if piece == Some(PieceKind::Events) && map.map_type() == MapType::RingBuf {
        map.set_value_size(0)?; // the type was for Rust
        if perf {
            map.set_type(MapType::PerfEventArray)?;
            map.set_key_size(4)?;
            map.set_value_size(4)?;
            map.set_max_entries(0)?; // libbpf: one for every CPU
        }
    }
    Ok(())
}

/// Takes memory for entries as they come, where the kernel can.
fn grow(map: &mut OpenMapMut<'_>, entries: u32) -> Result<()> {
    if allocates_anywhere() {
        map.set_max_entries(entries)?;
        map.set_map_flags(map.map_flags() | libbpf_sys::BPF_F_NO_PREALLOC)?;
    }
    Ok(())
}

/// Constants.
fn data(map: &mut OpenMapMut<'_>, name: &str, terms: &Terms<'_>, perf: bool) -> Result<()> {
    let value = match name {
        ".rodata.unity" => Some(u32::from(perf).to_ne_bytes().to_vec()),
        FILTER => terms.settings.filter.clone(),
        _ if name.ends_with(".rodata") => Some(terms.settings.rodata.clone()),
        _ => None,
    };
    if let (Some(value), Some(memory)) = (value, map.initial_value_mut()) {
        ensure!(
            value.len() <= memory.len(),
            "{} bytes of constants for {}",
            value.len(),
            memory.len()
        );
        memory[..value.len()].copy_from_slice(&value);
    }
    Ok(())
}

/// Ring buffers came with Linux 5.8.
fn has_ring_buffer() -> bool {
    static HAS: OnceLock<bool> = OnceLock::new();
    has(MapType::RingBuf, &HAS)
}

/// Whether a hash can allocate its entries from any program: since Linux 6.1 (fba1a1c6c912 "bpf: Convert hash
/// map to bpf_mem_alloc"). Before, the verifier warns in the kernel's log of such a map in a tracing program.
/// User ring buffers came with the same version and can be tried without that warning.
fn allocates_anywhere() -> bool {
    static HAS: OnceLock<bool> = OnceLock::new();
    has(MapType::UserRingBuf, &HAS)
}

/// Bytes of a ring: a page of any machine.
const PAGE: u32 = 64 << 10;

/// Tries to make a map of this kind, until the kernel has answered. When it cannot just now, for want of a descriptor or of
/// memory, this start goes the way that all kernels know.
fn has(kind: MapType, answer: &OnceLock<bool>) -> bool {
    if let Some(known) = answer.get() {
        return *known;
    }
    let options = libbpf_sys::bpf_map_create_opts {
        sz: size_of::<libbpf_sys::bpf_map_create_opts>() as _,
        ..Default::default()
    };
    match MapHandle::create(kind, None::<&str>, 0, 0, PAGE, &options) {
        Ok(_) => *answer.get_or_init(|| true),
        Err(why) if why.kind() == ErrorKind::InvalidInput => *answer.get_or_init(|| false),
        Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::{MapType, OnceLock, has, is_of};

    #[test]
    fn a_map_is_known_with_its_second_half_and_no_other() {
        assert!(is_of("comms", "comms") && is_of("comms__b", "comms"));
        assert!(!is_of("comms2", "comms") && !is_of("comm", "comms"));
    }

    #[test]
    fn what_the_kernel_has_is_remembered_once_it_has_answered() {
        let known = OnceLock::from(false);
        assert!(!has(MapType::RingBuf, &known), "it is not asked again");
        // Of a kind that no kernel has; whoever may make no map at all knows nothing.
        let (none, ring) = (OnceLock::new(), OnceLock::new());
        assert!(!has(MapType::Unknown, &none));
        let has = has(MapType::RingBuf, &ring);
        assert_eq!(ring.get().copied().unwrap_or(false), has);
    }
}
