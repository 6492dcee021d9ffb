//! What each thread of the process may do: no more than its work needs.
//!
//! Capabilities belong to threads, and a new thread has those of its maker. Before it starts any, the main
//! thread gives up what no plugin needs ([`keep`]); a plugin's thread takes its own ([`Held`]), all others
//! give up the rest ([`drop_all`]), and the main thread too once the plugins' threads have theirs.

use log::Level;
use plugin_api::privileges;
pub use rustix::thread::CapabilitySet;

use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{
    CapabilitySets, capabilities, clear_ambient_capability_set,
    configure_capability_in_ambient_set, remove_capability_from_bounding_set, set_capabilities,
    set_no_new_privs,
};
use std::fmt::{self, Display};
use std::sync::{LazyLock, OnceLock};

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

/// The sysctl by which kernels of distributions, Debian's for one, open perf events for CAP_SYS_ADMIN only:
/// those by which tracepoints' records, kprobes and uprobes are had. Linux itself knows no value above 2.
/// Read once, by [`keep`], while there are files to open.
fn perf_event_paranoid() -> i32 {
    static PARANOID: LazyLock<i32> = LazyLock::new(|| {
        let text = std::fs::read_to_string("/proc/sys/kernel/perf_event_paranoid");
        text.ok().and_then(|text| text.trim().parse().ok()).unwrap_or_default()
    });
    *PARANOID
}

/// What a plugin that cannot start without it gets on such kernels.
fn spare(given: CapabilitySet, paranoid: i32) -> CapabilitySet {
    if paranoid > 2 { given & CapabilitySet::SYS_ADMIN } else { CapabilitySet::empty() }
}

/// What this process had and gave up.
static GIVEN_UP: OnceLock<CapabilitySet> = OnceLock::new();

/// Makes sure that what a plugin asks for was not given up before it came.
///
/// # Errors
/// A sentence that says what was.
pub fn still_there(asked: CapabilitySet) -> Result<(), String> {
    let gone = asked & GIVEN_UP.get().copied().unwrap_or(CapabilitySet::empty());
    if gone.is_empty() {
        return Ok(());
    }
    let names = Names(gone);
    Err(format!(
        "it asks for {names}, which the collector gave up at its start: restart the collector"
    ))
}

fn given() -> CapabilitySet {
    capabilities(None).map_or(CapabilitySet::empty(), |sets| sets.permitted)
}

/// Gives up what none of the plugins asks for, for good: neither this thread nor one that it starts, nor a
/// program that they execute, can have more again. To be called before there are threads other
/// than one that has given up everything ([`give_up_all`]). What is
/// kept is logged at `level`.
pub fn keep(asked: CapabilitySet, level: Level) {
    let (given, paranoid) = (given(), perf_event_paranoid());
    let needed = needed(asked, given);
    let kept = needed | spare(given, paranoid);
    let _ = GIVEN_UP.set(given - kept);
    // Up to Linux 5.10 the memory of maps counts against this limit, and perf buffers do for ever.
    if given.contains(CapabilitySet::SYS_RESOURCE) {
        let _ = setrlimit(Resource::Memlock, Rlimit { current: None, maximum: None });
    } else {
        let maximum = getrlimit(Resource::Memlock).maximum;
        let _ = setrlimit(Resource::Memlock, Rlimit { current: maximum, maximum });
    }
    bound(kept);
    set(CapabilitySet::empty(), kept);
    let each = self::needed(CapabilitySet::empty(), given);
    log::log!(level, "capabilities: plugins hold {}, other threads none", Names(each));
    let missing = asked - BPF - needed; // of those two the privileges' own warning speaks
    if !missing.is_empty() && !needed.contains(CapabilitySet::SYS_ADMIN) {
        log::warn!("capabilities: {} not given: what needs them fails", Names(missing));
    }
    if paranoid > 2 && !given.contains(CapabilitySet::SYS_ADMIN) {
        log::warn!(
            "kernel.perf_event_paranoid is {paranoid}: hooks by perf events (tp, kprobe, uprobe) may need \
             CAP_SYS_ADMIN, or `sysctl kernel.perf_event_paranoid=2`"
        );
    }
}

/// This thread, and what it starts, can never have more than these.
fn bound(kept: CapabilitySet) {
    let _ = set_no_new_privs(true);
    let _ = clear_ambient_capability_set();
    // Refused without CAP_SETPCAP; then what bounds us is that no program can give us more.
    for bit in (0..u64::BITS).map(|at| CapabilitySet::from_bits_retain(1 << at)) {
        if !kept.contains(bit) && remove_capability_from_bounding_set(bit) == Err(Errno::INVAL) {
            break; // the kernel knows no more
        }
    }
}

/// For a thread that began before [`keep`]: it holds nothing from now on, and never will.
pub fn give_up_all() {
    bound(CapabilitySet::empty());
    drop_all();
}

/// What a plugin's thread holds.
#[derive(Debug)]
pub struct Held {
    needed: CapabilitySet,
    spare: CapabilitySet,
}

impl Held {
    /// Takes what a plugin asks for, and gives up what only others ask for.
    #[must_use]
    pub fn take(name: &str, asked: CapabilitySet) -> Self {
        let given = given();
        let needed = needed(asked, given);
        let more = needed & (asked - BPF);
        if !more.is_empty() {
            log::info!("capabilities: {name} asks for {}, and holds it", Names(more));
        }
        Self { needed, spare: spare(given, perf_event_paranoid()) - needed }
    }

    /// Starts the plugin with no more than it needs. If it cannot start so, once more with what perf events
    /// take on this kernel; but for want of descriptors, which might be there then. Whatever its first success did not
    /// take is given up.
    ///
    /// # Errors
    /// Those of the last attempt.
    pub fn start<E: Display>(
        &mut self,
        name: &str,
        mut start: impl FnMut() -> Result<(), E>,
    ) -> Result<(), E> {
        set(self.needed, self.needed | self.spare);
        let mut started = start();
        let is_refused = |why: &E| !privileges::is_short_of_files(&why.to_string());
        if !self.spare.is_empty() && started.as_ref().is_err_and(is_refused) {
            set(self.needed | self.spare, self.needed | self.spare);
            started = start();
            if started.is_ok() {
                log::warn!(
                    "{name}: holds {} too, without which this kernel opens no perf events: \
                     `sysctl kernel.perf_event_paranoid=2` spares it",
                    Names(self.spare)
                );
                self.needed |= self.spare;
            }
        }
        if started.is_ok() {
            self.spare = CapabilitySet::empty();
        }
        set(self.needed, self.needed | self.spare);
        started
    }
}

/// Runs what starts a program, which then holds what is in effect for this thread.
pub fn passed_on<T>(start: impl FnOnce(CapabilitySet) -> T) -> T {
    let Ok(sets) = capabilities(None) else { return start(CapabilitySet::empty()) };
    // For root it takes no more than the sets themselves; of anybody else the ambient ones go on.
    let _ = set_capabilities(None, CapabilitySets { inheritable: sets.effective, ..sets });
    for (_, capability) in sets.effective.iter_names() {
        let _ = configure_capability_in_ambient_set(capability, true);
    }
    let started = start(sets.effective);
    let _ = clear_ambient_capability_set();
    let _ = set_capabilities(None, sets);
    started
}

/// For a process with one thread: it holds these from now on, and can never have more.
pub fn hold_only(held: CapabilitySet) {
    bound(held);
    set(held, held);
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

impl Display for Names {
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
    fn more_than_it_needs_is_tried_only_where_perf_events_take_it() {
        let (all, none) = (CapabilitySet::all(), CapabilitySet::empty());
        assert_eq!(spare(all, 2), none);
        assert_eq!(spare(all, 3), CapabilitySet::SYS_ADMIN);
        assert_eq!(spare(BPF, 4), none);
    }

    /// Starts at the given attempt; what was in effect at each, and what is held in the end.
    fn started(
        at: usize,
        spare: CapabilitySet,
        why: &'static str,
    ) -> (Vec<CapabilitySet>, CapabilitySets) {
        let run = move || {
            let mut held = Held { needed: BPF & given(), spare: spare & given() };
            let mut effective = Vec::new();
            for _ in 0..2 {
                let _ = held.start("x", || {
                    effective.push(capabilities(None).unwrap().effective);
                    if effective.len() >= at { Ok(()) } else { Err(why) }
                });
            }
            (effective, capabilities(None).unwrap())
        };
        std::thread::spawn(run).join().unwrap()
    }

    #[test]
    fn what_the_first_start_does_not_take_is_given_up_for_good() {
        let admin = CapabilitySet::SYS_ADMIN;
        if !given().contains(BPF | admin) {
            return println!("SKIPPED: only a process with these capabilities can give them up");
        }
        let both = BPF | admin;
        let eacces = "failed to open perf event: -EACCES";
        for (at, spare, why, tried, left) in [
            (1, admin, eacces, vec![BPF, BPF], BPF),
            (2, admin, eacces, vec![BPF, both, both], both),
            // Neither way helped at first; later no more was needed.
            (3, admin, eacces, vec![BPF, both, BPF], BPF),
            (2, CapabilitySet::empty(), eacces, vec![BPF, BPF], BPF),
            (2, admin, "failed to open perf event: -EMFILE", vec![BPF, BPF], BPF),
        ] {
            let (effective, sets) = started(at, spare, why);
            assert_eq!(effective, tried, "{at}");
            assert_eq!((sets.effective, sets.permitted), (left, left), "{at}");
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
