//! `cargo xtask bench`: what the collector costs, beside what people run by hand.
//!
//! Ratios travel, absolute times do not: both sides of a comparison run in the same seconds under the
//! same load. Each line ends in the bound that the project holds itself to.

mod cpu;
mod crossing;
mod dashboards;
mod delivery;
mod encoding;
mod faults;
mod fleet;
mod footprint;
mod http;
mod isolation;
mod memleak;
mod processes;
mod profile;
mod push;
mod replace;
mod same;
mod soak;
mod start;
mod storm;
mod tick;
mod tools;
mod trouble;

use anyhow::{Result, bail};
use std::path::{Path, PathBuf};

type Part = (&'static str, fn() -> Result<()>);

const PARTS: [Part; 23] = [
    ("encode", encoding::run),
    ("crossing", crossing::run),
    ("push", push::run),
    ("delivery", delivery::run),
    ("fleet", fleet::run),
    ("trouble", trouble::run),
    ("tools", tools::run),
    ("memleak", memleak::run),
    ("profile", profile::run),
    ("tick", tick::run),
    ("start", start::run),
    ("soak", soak::run),
    ("idle", footprint::ticks),
    ("footprint", footprint::run),
    ("all", footprint::all),
    ("each", footprint::each),
    ("http", http::run),
    ("storm", storm::run),
    ("isolation", isolation::run),
    ("replace", replace::run),
    ("faults", faults::run),
    ("same", same::run),
    ("dashboards", dashboards::run),
];

/// Behind these come names of tools, and how many seconds.
const WITH_WORDS: [&str; 11] = [
    "tools",
    "trouble",
    "soak",
    "storm",
    "push",
    "profile",
    "faults",
    "replace",
    "same",
    "fleet",
    "dashboards",
];
/// These take minutes, and run when they are named only.
const LONG: [&str; 13] = [
    "trouble",
    "fleet",
    "soak",
    "push",
    "each",
    "http",
    "profile",
    "isolation",
    "faults",
    "start",
    "replace",
    "same",
    "dashboards",
];

fn main() -> Result<()> {
    let mut wanted: Vec<String> = std::env::args().skip(1).collect();
    if let [word, folder] = &wanted[..]
        && word == fleet::player::WORD
    {
        return fleet::player::play(Path::new(folder));
    }
    wanted.retain(|word| word != tick::WITH_MEMBARRIER);
    if let Some(at) = wanted.iter().position(|word| WITH_WORDS.contains(&&**word)) {
        wanted.truncate(at + 1);
    }
    if let Some(unknown) = wanted.iter().find(|w| !PARTS.iter().any(|(name, _)| name == w)) {
        let known: Vec<_> = PARTS.iter().map(|(name, _)| *name).collect();
        bail!("no benchmark `{unknown}`: there are {}", known.join(", "));
    }
    for (name, part) in PARTS {
        let in_all = wanted.is_empty() && !LONG.contains(&name);
        if in_all || wanted.iter().any(|w| w == name) {
            println!("## {name}");
            part()?;
        }
    }
    Ok(())
}

/// The install tree under measurement.
fn dist() -> Result<PathBuf> {
    match std::env::var_os("COLLECTOR_DIST") {
        Some(dist) => Ok(dist.into()),
        None => bail!("COLLECTOR_DIST is not set: run this as `cargo xtask bench`"),
    }
}

/// Prints a figure with its bound.
fn figure(what: &str, value: f64, unit: &str, bound: f64) {
    let kept = if value <= bound { "kept" } else { "NOT KEPT" };
    println!("{what}: {value:.2}{unit} (at most {bound}{unit}: {kept})");
}

/// Prints a figure that is to be large.
fn figure_at_least(what: &str, value: f64, unit: &str, bound: f64) {
    let kept = if value >= bound { "kept" } else { "NOT KEPT" };
    println!("{what}: {value:.2}{unit} (at least {bound}{unit}: {kept})");
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
