//! What each thread of the process may do: no more than its work needs.
//!
//! Capabilities belong to threads, and a new thread has those of its maker. The main thread gives up all
//! but what plugins need before it starts any ([`keep`]); it holds those to hand them on, none of them in
//! effect. A plugin's thread takes its own ([`take`]), all others give up the rest ([`drop_all`]).

pub use rustix::thread::CapabilitySet;

use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{
    CapabilitySets, capabilities, clear_ambient_capability_set,
    remove_capability_from_bounding_set, set_capabilities, set_no_new_privs,
};
use std::fmt;

/// What loading, attaching and reading a BPF program takes.
pub const BPF: CapabilitySet = CapabilitySet::BPF.union(CapabilitySet::PERFMON);

/// The capabilities of some names, such as `CAP_SYS_PTRACE`.
///
/// # Errors
/// The name that is none.
pub fn named(names: &[String]) -> Result<CapabilitySet, &str> {
    let mut set = CapabilitySet::empty();
    for name in names {
        set |= name.strip_prefix("CAP_").and_then(CapabilitySet::from_name).ok_or(&**name)?;
    }
    Ok(set)
}

/// What a plugin's thread needs, of what the process was given: `asked`, and [`BPF`]. CAP_SYS_ADMIN stands
/// in for those two where a container knows only that one.
fn needed(asked: CapabilitySet, given: CapabilitySet) -> CapabilitySet {
    let bpf = if given.contains(BPF) { BPF } else { BPF | CapabilitySet::SYS_ADMIN };
    (bpf | asked) & given
}

/// Gives up what none of the plugins asks for, for good: neither this thread nor one that it starts, nor a
/// program that they execute, can have more again. To be called before there are other threads.
pub fn keep(asked: CapabilitySet) {
    let given = capabilities(None).map_or(CapabilitySet::empty(), |sets| sets.permitted);
    let kept = needed(asked, given);
    // Up to Linux 5.10 the memory of maps counts against this limit, and perf buffers do for ever.
    if given.contains(CapabilitySet::SYS_RESOURCE) {
        let _ = setrlimit(Resource::Memlock, Rlimit { current: None, maximum: None });
    } else {
        let maximum = getrlimit(Resource::Memlock).maximum;
        let _ = setrlimit(Resource::Memlock, Rlimit { current: maximum, maximum });
    }
    let _ = set_no_new_privs(true);
    let _ = clear_ambient_capability_set();
    // Refused without CAP_SETPCAP; then what bounds us is that no program can give us more.
    for bit in (0..u64::BITS).map(|at| CapabilitySet::from_bits_retain(1 << at)) {
        if !kept.contains(bit) && remove_capability_from_bounding_set(bit) == Err(Errno::INVAL) {
            break; // the kernel knows no more
        }
    }
    set(CapabilitySet::empty(), kept);
    log::info!("capabilities: plugins hold {}, other threads none", Names(kept));
    let missing = (BPF | asked) - kept;
    if !missing.is_empty() && !kept.contains(CapabilitySet::SYS_ADMIN) {
        log::warn!("capabilities: {} not given: what needs them fails", Names(missing));
    }
}

/// Takes what a plugin asks for, and gives up what only others ask for.
pub fn take(asked: CapabilitySet) {
    let given = capabilities(None).map_or(CapabilitySet::empty(), |sets| sets.permitted);
    let needed = needed(asked, given);
    set(needed, needed);
}

/// Gives up everything.
pub fn drop_all() {
    set(CapabilitySet::empty(), CapabilitySet::empty());
}

/// For this thread only. To have less is never refused.
fn set(effective: CapabilitySet, permitted: CapabilitySet) {
    let sets = CapabilitySets { effective, permitted, inheritable: CapabilitySet::empty() };
    if let Err(errno) = set_capabilities(None, sets) {
        log::error!("capabilities cannot be given up: {errno}");
    }
}

/// For people.
struct Names(CapabilitySet);

impl fmt::Display for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("none");
        }
        for (at, (name, _)) in self.0.iter_names().enumerate() {
            write!(f, "{}CAP_{name}", if at == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_are_called_as_the_kernel_calls_them() {
        let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        let ptrace = CapabilitySet::SYS_PTRACE;
        assert_eq!(named(&names(&["CAP_SYS_PTRACE"])), Ok(ptrace));
        assert_eq!(named(&[]), Ok(CapabilitySet::empty()));
        assert_eq!(named(&names(&["CAP_BPF", "CAP_ALL"])), Err("CAP_ALL"));
        assert_eq!(named(&names(&["SYS_PTRACE"])), Err("SYS_PTRACE"));
        assert_eq!(Names(BPF | ptrace).to_string(), "CAP_SYS_PTRACE, CAP_PERFMON, CAP_BPF");
        assert_eq!(Names(CapabilitySet::empty()).to_string(), "none");
    }

    #[test]
    fn a_plugin_gets_what_it_needs_and_was_given() {
        let (all, none) = (CapabilitySet::all(), CapabilitySet::empty());
        let (ptrace, admin) = (CapabilitySet::SYS_PTRACE, CapabilitySet::SYS_ADMIN);
        for (asked, given, expected) in [
            (none, all, BPF),
            (ptrace, all, BPF | ptrace),
            (ptrace, BPF, BPF),
            (none, admin | ptrace, admin),
            (none, admin | CapabilitySet::BPF, admin | CapabilitySet::BPF),
            (ptrace, none, none),
        ] {
            assert_eq!(needed(asked, given), expected, "{asked:?} of {given:?}");
        }
    }

    #[test]
    fn a_thread_gives_up_its_own_only() {
        let before = capabilities(None).unwrap();
        let after = std::thread::spawn(|| {
            drop_all();
            capabilities(None).unwrap()
        });
        let none = CapabilitySet::empty();
        let sets = CapabilitySets { effective: none, permitted: none, inheritable: none };
        assert_eq!(after.join().unwrap(), sets);
        assert_eq!(capabilities(None).unwrap(), before);
    }
}
