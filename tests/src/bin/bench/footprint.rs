//! What the host costs: a process with three tools at one second, and the tick of an idle plugin.

use crate::{cpu, dist, figure};
use anyhow::{Context, Result, ensure};
use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const SECONDS: u64 = 30;

/// Resident memory and CPU of `collector` alone with its three tools at 1 s, over 30 s.
pub fn run() -> Result<()> {
    let (collector, cpu, _) =
        observe(&["--only", "bpfsample,runqlat,bootstrap", "--interval", "1s"])?;
    figure("resident memory", collector, " MiB", 12.0);
    figure("CPU of one core", cpu * 100.0, " %", 0.5);
    Ok(())
}

/// CPU per tick of one idle plugin: what ten times as many ticks cost more.
pub fn ticks() -> Result<()> {
    for plugin in ["runqlat", "bootstrap"] {
        let mut costs = Vec::new();
        for (interval, per_second) in [("1s", 1.0), ("100ms", 10.0)] {
            let (_, cpu, seconds) = observe(&["--only", plugin, "--interval", interval])?;
            costs.push((cpu * seconds, per_second * seconds));
        }
        let us = (costs[1].0 - costs[0].0) / (costs[1].1 - costs[0].1) * 1e6;
        println!("{plugin}: {us:.0} us of CPU per tick, with its self metrics and the output");
    }
    Ok(())
}

/// Resident MiB at the end, share of one core, and the seconds that were watched.
fn observe(flags: &[&str]) -> Result<(f64, f64, f64)> {
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

fn watch(child: &mut Child) -> Result<(f64, f64, f64)> {
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
    Ok((kib / 1024.0, cpu, seconds))
}
