//! What the host costs: a process with three tools at one second, and the tick of an idle plugin.

use crate::{cpu, dist, figure};
use anyhow::{Context, Result, ensure};
use plugin_testing::held;
use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const SECONDS: u64 = 30;

/// Resident memory, kernel memory of maps and CPU of `collector` alone with its three tools at 1 s, over 30 s.
pub fn run() -> Result<()> {
    let seen = observe(&["--only", "bpfsample,runqlat,bootstrap", "--interval", "1s"])?;
    figure("resident memory", seen.resident_mib, " MiB", 12.0);
    figure("CPU of one core", seen.cpu * 100.0, " %", 0.5);
    let Maps { number, mib } = seen.maps;
    figure(&format!("kernel memory of {number} maps"), mib, " MiB", 3.0);
    Ok(())
}

/// What a collector takes.
struct Seen {
    resident_mib: f64,
    /// Share of one core.
    cpu: f64,
    /// Over so many seconds.
    seconds: f64,
    maps: Maps,
}

/// Maps of a process, as the kernel accounts them.
struct Maps {
    number: usize,
    mib: f64,
}

impl Maps {
    fn of(pid: u32) -> Self {
        let by_id = held(pid, "map_id:");
        let bytes: u64 = by_id.values().sum();
        Self { number: by_id.len(), mib: bytes as f64 / f64::from(1 << 20) }
    }
}

/// CPU per tick of one idle plugin: what ten times as many ticks cost more.
pub fn ticks() -> Result<()> {
    for plugin in ["runqlat", "bootstrap"] {
        let mut costs = Vec::new();
        for (interval, per_second) in [("1s", 1.0), ("100ms", 10.0)] {
            let seen = observe(&["--only", plugin, "--interval", interval])?;
            costs.push((seen.cpu * seen.seconds, per_second * seen.seconds));
        }
        let us = (costs[1].0 - costs[0].0) / (costs[1].1 - costs[0].1) * 1e6;
        println!("{plugin}: {us:.0} us of CPU per tick, with its self metrics and the output");
    }
    Ok(())
}

fn observe(flags: &[&str]) -> Result<Seen> {
    let collector = dist()?.join("collector");
    let mut child = Command::new(&collector)
        .args(flags)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .with_context(|| format!("{}", collector.display()))?;
    let result = watch(&mut child);
    let _ = child.kill();
    let _ = child.wait();
    result
}

fn watch(child: &mut Child) -> Result<Seen> {
    std::thread::sleep(Duration::from_secs(3)); // loading is not running
    let begin = Instant::now();
    let before = cpu::seconds(child.id())?;
    std::thread::sleep(Duration::from_secs(SECONDS));
    let seconds = begin.elapsed().as_secs_f64();
    ensure!(child.try_wait()?.is_none(), "the collector ended by itself");
    let cpu = (cpu::seconds(child.id())? - before) / seconds;
    let status = fs::read_to_string(format!("/proc/{}/status", child.id()))?;
    let rss = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).context("VmRSS")?;
    let kib: f64 = rss.trim().trim_end_matches(" kB").trim().parse()?;
    Ok(Seen { resident_mib: kib / 1024.0, cpu, seconds, maps: Maps::of(child.id()) })
}
