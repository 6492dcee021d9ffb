//! `cargo xtask bench`: what the collector costs, beside what people run by hand.
//!
//! Ratios travel, absolute times do not: both sides of a comparison run in the same seconds under the
//! same load. Each line ends in the bound that the project holds itself to.

mod cpu;
mod delivery;
mod encoding;
mod footprint;
mod soak;
mod storm;
mod tick;
mod tools;

use anyhow::{Result, bail};
use std::path::PathBuf;

type Part = (&'static str, fn() -> Result<()>);

const PARTS: [Part; 9] = [
    ("encode", encoding::run),
    ("delivery", delivery::run),
    ("soak", soak::run),
    ("tools", tools::run),
    ("tick", tick::run),
    ("idle", footprint::ticks),
    ("footprint", footprint::run),
    ("all", footprint::all),
    ("storm", storm::run),
];

fn main() -> Result<()> {
    let mut wanted: Vec<String> = std::env::args().skip(1).collect();
    wanted.retain(|word| word != tick::WITH_MEMBARRIER);
    // Behind them, names of tools, and how many seconds.
    if let Some(at) = wanted.iter().position(|word| ["tools", "soak", "storm"].contains(&&**word)) {
        wanted.truncate(at + 1);
    }
    if let Some(unknown) = wanted.iter().find(|w| !PARTS.iter().any(|(name, _)| name == w)) {
        let known: Vec<_> = PARTS.iter().map(|(name, _)| *name).collect();
        bail!("no benchmark `{unknown}`: there are {}", known.join(", "));
    }
    for (name, part) in PARTS {
        let in_all = wanted.is_empty() && name != "soak"; // which takes ten minutes
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
