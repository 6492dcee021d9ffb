//! Nanoseconds per event of `runqlat`, beside libbpf-tools', by the kernel's own BPF statistics.

use crate::{dist, figure};
use anyhow::{Context, Result, ensure};
use libbpf_rs::query::ProgInfoIter;
use std::collections::BTreeMap;
use std::os::fd::{FromRawFd as _, OwnedFd};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

/// Runs and nanoseconds, by program's name.
type Costs = BTreeMap<String, (u64, u64)>;

pub fn run() -> Result<()> {
    let before = ids();
    let _theirs = Stopped(
        Command::new("runqlat")
            .args(["60", "1"])
            .stdout(Stdio::null())
            .spawn()
            .context("runqlat of libbpf-tools; `cargo xtask deps` installs it")?,
    );
    let their_ids = new_ids(&before)?;
    let mut known = before;
    known.extend(&their_ids);
    let dist = dist()?;
    let _ours = Stopped(
        Command::new(dist.join("collector"))
            .args(["--only", "runqlat", "--interval", "1s"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("{}", dist.join("collector").display()))?,
    );
    let our_ids = new_ids(&known)?;

    // SAFETY: the call takes a number and gives a descriptor, ours from then on.
    let statistics = unsafe { libbpf_sys::bpf_enable_stats(libbpf_sys::BPF_STATS_RUN_TIME) };
    ensure!(statistics >= 0, "the kernel does not keep BPF statistics (Linux 5.8)");
    // SAFETY: checked above; nobody else has it.
    let _statistics = unsafe { OwnedFd::from_raw_fd(statistics) };
    let mut ratios = Vec::new();
    for _ in 0..5 {
        let (a, b) = (costs(&our_ids), costs(&their_ids));
        wake_each_other(Duration::from_secs(3));
        let (ours, theirs) = (per_event(&a, &costs(&our_ids))?, per_event(&b, &costs(&their_ids))?);
        println!("collector {ours:.0} ns per switch with its wakeups, libbpf-tools {theirs:.0}");
        ratios.push(ours / theirs);
    }
    figure("ratio, median of 5", crate::median(ratios), "", 0.45);
    Ok(())
}

/// A child that ends with the benchmark.
struct Stopped(Child);

impl Drop for Stopped {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn ids() -> Vec<u32> {
    ProgInfoIter::default().map(|p| p.id).collect()
}

/// Waits until a tool has loaded its programs: no new one for half a second.
fn new_ids(known: &[u32]) -> Result<Vec<u32>> {
    let begin = Instant::now();
    let mut last = Vec::new();
    loop {
        thread::sleep(Duration::from_millis(500));
        let now: Vec<u32> = ids().into_iter().filter(|id| !known.contains(id)).collect();
        if !now.is_empty() && now == last {
            return Ok(now);
        }
        ensure!(begin.elapsed() < Duration::from_secs(20), "no BPF program appeared within 20 s");
        last = now;
    }
}

fn costs(ids: &[u32]) -> Costs {
    ProgInfoIter::default()
        .filter(|p| ids.contains(&p.id))
        .map(|p| (p.name.to_string_lossy().into_owned(), (p.run_cnt, p.run_time_ns)))
        .collect()
}

/// All time of a tool's programs, over the number of sched_switch events.
fn per_event(before: &Costs, after: &Costs) -> Result<f64> {
    let spent: u64 =
        after.iter().map(|(name, (_, ns))| ns - before.get(name).map_or(0, |b| b.1)).sum();
    let switches: u64 = after
        .iter()
        .filter(|(name, _)| name.contains("switch"))
        .map(|(name, (runs, _))| runs - before.get(name).map_or(0, |b| b.0))
        .sum();
    ensure!(switches > 0, "no sched_switch was seen by {:?}", after.keys());
    Ok(spent as f64 / switches as f64)
}

/// Four pairs of threads that pass a token.
fn wake_each_other(time: Duration) {
    let pair = || {
        let (ping, pinged) = channel();
        let (pong, ponged) = channel();
        let echo = thread::spawn(move || pinged.iter().for_each(|()| pong.send(()).unwrap_or(())));
        let begin = Instant::now();
        while begin.elapsed() < time {
            let _ = ping.send(());
            let _ = ponged.recv();
        }
        drop(ping);
        let _ = echo.join();
    };
    thread::scope(|scope| (0..4).for_each(|_| drop(scope.spawn(pair))));
}
