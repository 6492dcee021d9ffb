//! The kernel's own counts of interrupts, to hold a tool's against.

use crate::cpu::is_guest;
use crate::{Harness, Line};
use plugin_api::Plugin;
use std::collections::BTreeMap;
use std::fs;
use std::ops::RangeInclusive;

/// Counts since boot, by name, of all CPUs together.
pub type Counts = BTreeMap<String, u64>;

/// Of soft interrupts, by their names in small letters: `net_rx`.
///
/// # Panics
/// /proc is not there.
#[must_use]
pub fn softirqs() -> Counts {
    counts("/proc/softirqs", |_, label, _| Some(label.to_lowercase()))
}

/// Of hard interrupts: of devices by the names of their handlers (`a, b` where they share a line), of the
/// CPUs' own by their letters (`LOC`).
///
/// # Panics
/// /proc is not there.
#[must_use]
pub fn interrupts() -> Counts {
    counts("/proc/interrupts", |line, label, cpus| {
        let Ok(number) = label.parse::<u32>() else { return Some(label.to_owned()) };
        let actions = fs::read_to_string(format!("/sys/kernel/irq/{number}/actions"));
        let actions = actions.unwrap_or_default().trim().replace(',', ", ");
        // Two lines may have handlers of the same name; one without any counts for nobody.
        let words = line.split_whitespace().skip(1 + cpus).count();
        (words > 0 && !actions.is_empty()).then_some(actions)
    })
}

/// The first line of such a file names the CPUs; the others have a label and a number for each of them.
fn counts(path: &str, name: impl Fn(&str, &str, usize) -> Option<String>) -> Counts {
    let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let mut lines = text.lines();
    let cpus = lines.next().map_or(0, |line| line.split_whitespace().count());
    let mut counts = Counts::new();
    for line in lines {
        let Some((label, rest)) = line.split_once(':') else { continue };
        let Some(name) = name(line, label.trim(), cpus) else { continue };
        let numbers = rest.split_whitespace().take(cpus).map_while(|n| n.parse::<u64>().ok());
        *counts.entry(name).or_default() += numbers.sum::<u64>();
    }
    counts
}

/// What the kernel counted meanwhile, at least and at most.
#[derive(Debug)]
pub struct Meanwhile {
    least: Counts,
    most: Counts,
    cpus: u64,
}

impl Meanwhile {
    /// What a tool may have counted of some names together. It counts at the end, the kernel at the begin: each
    /// CPU may be in the midst of one at the first tick or at the last.
    ///
    /// Outside of our virtual machines up to a tenth may lack: a busy 6.18 was seen to run no BPF program for one
    /// in 300 of its timers' interrupts, of which a perf event of the same tracepoint saw all, and to count none
    /// of that as missed.
    #[must_use]
    pub fn of(&self, names: &[&str]) -> RangeInclusive<u64> {
        let sum = |counts: &Counts| -> u64 { names.iter().filter_map(|n| counts.get(*n)).sum() };
        let least = sum(&self.least);
        let lack = if is_guest() { 0 } else { least / 10 };
        least.saturating_sub(self.cpus + lack)..=sum(&self.most) + self.cpus
    }

    /// All names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.most.keys().map(String::as_str)
    }
}

/// The lines of what happens between two ticks, and what the kernel counts between them. Each tick lies between
/// two readings of the kernel's counts, so that the truth is within bounds however busy the machine is.
///
/// # Panics
/// A tick fails.
pub fn meanwhile<P: Plugin>(
    tool: &mut Harness<P>,
    read: fn() -> Counts,
    act: impl FnOnce(),
) -> (Vec<Line>, Meanwhile) {
    let difference = |from: &Counts, to: &Counts| -> Counts {
        let grown = |name: &String| from.get(name).copied().unwrap_or(0);
        to.iter().map(|(name, n)| (name.clone(), n.saturating_sub(grown(name)))).collect()
    };
    let outer = read();
    tool.call().expect("a tick");
    let inner = read();
    act();
    let inner_end = read();
    let lines = tool.call().expect("a tick");
    let outer_end = read();
    let cpus = std::thread::available_parallelism().map_or(1, |n| n.get() as u64);
    let (least, most) = (difference(&inner, &inner_end), difference(&outer, &outer_end));
    (lines, Meanwhile { least, most, cpus })
}
