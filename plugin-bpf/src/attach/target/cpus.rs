//! A perf event on every online CPU, also while CPUs come and go.

use super::PerfEvent;
use super::perf::{CpuEvent, Rate, Source};
use libbpf_rs::ProgramMut;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::fd::{AsFd as _, OwnedFd};

/// A program on every online CPU.
pub(crate) struct Cpus {
    program: OwnedFd,
    source: Source,
    rate: Rate,
    events: BTreeMap<u32, CpuEvent>,
    /// Online CPUs whose event was refused, so that each is reported once.
    refused: BTreeSet<u32>,
}

impl Cpus {
    /// Opens the first kind of event that every online CPU has.
    ///
    /// # Errors
    /// None of them; says why of each.
    pub(super) fn open(program: &ProgramMut<'_>, event: &PerfEvent) -> Result<Self, String> {
        let mut reasons = Vec::new();
        for source in &event.sources {
            let program = program.as_fd().try_clone_to_owned().map_err(|e| e.to_string())?;
            let (events, refused) = (BTreeMap::new(), BTreeSet::new());
            let mut cpus = Self { program, source: *source, rate: event.rate, events, refused };
            match cpus.refresh() {
                None if !cpus.events.is_empty() => return Ok(cpus),
                None => reasons.push(format!("{}: no CPU took it", source.name())),
                Some(reason) => reasons.push(reason),
            }
        }
        Err(reasons.join("; "))
    }

    /// Which event it is.
    pub(crate) fn name(&self) -> &'static str {
        self.source.name()
    }

    /// On how many CPUs.
    pub(crate) fn len(&self) -> usize {
        self.events.len()
    }

    /// Follows the CPUs that are online now. Returns why some are not sampled, each of them once; that a CPU is
    /// offline is no reason.
    pub(crate) fn refresh(&mut self) -> Option<String> {
        let online = online();
        let counting = self.events.iter().map(|(cpu, event)| (*cpu, event.counts())).collect();
        let step = step(&online, &counting);
        self.events.retain(|cpu, _| !step.close.contains(cpu));
        self.refused.retain(|cpu| online.contains(cpu));
        let mut reasons: BTreeMap<String, Vec<u32>> = BTreeMap::new();
        for cpu in step.open {
            match CpuEvent::open(cpu, self.source, self.rate, self.program.as_fd()) {
                Ok(event) => {
                    self.refused.remove(&cpu);
                    self.events.insert(cpu, event);
                }
                // It went offline just now.
                Err(error) if error.raw_os_error() == Some(libc::ENODEV) => {}
                Err(error) => {
                    if self.refused.insert(cpu) {
                        let reason = self.source.refusal(self.rate, &error);
                        reasons.entry(reason).or_default().push(cpu);
                    }
                }
            }
        }
        let reasons: Vec<_> = reasons
            .into_iter()
            .map(|(reason, cpus)| format!("{reason} (CPU {} of {})", cpus[0], cpus.len()))
            .collect();
        (!reasons.is_empty()).then(|| reasons.join("; "))
    }
}

/// What to do so that there is a counting event on every online CPU.
#[derive(Debug, Default, PartialEq, Eq)]
struct Step {
    close: BTreeSet<u32>,
    open: BTreeSet<u32>,
}

/// `held`: CPUs with an event, and whether it counts.
fn step(online: &BTreeSet<u32>, held: &BTreeMap<u32, bool>) -> Step {
    let serves = |cpu: &u32| online.contains(cpu) && held.get(cpu) == Some(&true);
    Step {
        close: held.keys().copied().filter(|cpu| !serves(cpu)).collect(),
        open: online.iter().copied().filter(|cpu| !serves(cpu)).collect(),
    }
}

/// The CPUs that are online, or all that there may be where sysfs does not say it.
fn online() -> BTreeSet<u32> {
    let list = fs::read_to_string("/sys/devices/system/cpu/online").ok();
    list.and_then(|list| cpu_list(&list)).unwrap_or_else(|| {
        let possible = libbpf_rs::num_possible_cpus().unwrap_or(1);
        (0..u32::try_from(possible).unwrap_or(1)).collect()
    })
}

/// The kernel's lists of CPUs: `0-3,5`.
fn cpu_list(text: &str) -> Option<BTreeSet<u32>> {
    let mut cpus = BTreeSet::new();
    for range in text.trim().split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        cpus.extend(first.parse::<u32>().ok()?..=last.parse::<u32>().ok()?);
    }
    Some(cpus)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(cpus: &[u32]) -> BTreeSet<u32> {
        cpus.iter().copied().collect()
    }

    #[test]
    fn every_online_cpu_gets_a_counting_event() {
        type Row<'a> = (&'a [u32], &'a [(u32, bool)], &'a [u32], &'a [u32]);
        // online, held, to close, to open
        let table: [Row<'_>; 6] = [
            (&[0, 1], &[], &[], &[0, 1]),
            (&[0, 1], &[(0, true), (1, true)], &[], &[]),
            (&[0], &[(0, true), (1, false)], &[1], &[]),
            (&[0, 1, 2], &[(0, true), (1, true)], &[], &[2]),
            // Offline and online again between two ticks.
            (&[0, 1], &[(0, true), (1, false)], &[1], &[1]),
            (&[1], &[(0, true), (1, true)], &[0], &[]),
        ];
        for (online, held, close, open) in table {
            let held = held.iter().copied().collect();
            let expected = Step { close: set(close), open: set(open) };
            assert_eq!(step(&set(online), &held), expected, "{online:?} {held:?}");
        }
    }

    #[test]
    fn a_list_of_cpus_is_read_as_the_kernel_writes_it() {
        let table: [(&str, Option<&[u32]>); 5] = [
            ("0\n", Some(&[0])),
            ("0-3\n", Some(&[0, 1, 2, 3])),
            ("0-1,4,6-7\n", Some(&[0, 1, 4, 6, 7])),
            ("\n", None),
            ("a-b", None),
        ];
        for (text, cpus) in table {
            assert_eq!(cpu_list(text), cpus.map(set), "{text:?}");
        }
    }
}
