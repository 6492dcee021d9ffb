//! What the host costs: a process with three tools at one second, one with all of them, idle and under load, and
//! the tick of an idle plugin.

use crate::{cpu, dist, figure, median};
use anyhow::{Context, Result, ensure};
use plugin_testing::held;
use std::fs;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::JoinHandle;
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

/// All tools at one second: what the host takes, idle and while two compilers run, and by how much hackbench
/// becomes slower, in pairs of runs with and without.
pub fn all() -> Result<()> {
    for what in ["idle", "two compilers"] {
        let load = (what != "idle").then(Compilers::start).transpose()?;
        let seen = observe(&["--interval", "1s"])?;
        drop(load);
        let Maps { number, mib } = seen.maps;
        println!(
            "all tools, {what}: {:.2} % of a core, {:.1} MiB resident, {number} maps of {mib:.2} MiB",
            seen.cpu * 100.0,
            seen.resident_mib
        );
    }
    let mut ratios = Vec::new();
    for pair in 0..PAIRS {
        let mut times = [0.0; 2];
        for with in [pair % 2, (pair + 1) % 2] {
            let collector = (with == 1).then(|| start(&["--interval", "1s"])).transpose()?;
            if collector.is_some() {
                std::thread::sleep(Duration::from_secs(5)); // loading is not running
            }
            times[with] = hackbench()?;
        }
        println!("hackbench: {:.2} s alone, {:.2} s beside all tools", times[0], times[1]);
        ratios.push(times[1] / times[0]);
    }
    figure("hackbench beside all tools", median(ratios), " of its time alone", 1.1);
    Ok(())
}

/// Pairs of runs of hackbench.
const PAIRS: usize = 7;

/// Seconds of a run.
fn hackbench() -> Result<f64> {
    let begin = Instant::now();
    let status = Command::new("hackbench")
        .args(["-p", "-l", "4000", "-g", "4"])
        .stdout(Stdio::null())
        .status()
        .context("hackbench of rt-tests; `cargo xtask deps` installs it")?;
    ensure!(status.success(), "hackbench: {status}");
    Ok(begin.elapsed().as_secs_f64())
}

/// Compilers that run until this is dropped.
struct Compilers {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Compilers {
    fn start() -> Result<Self> {
        let folder = Arc::new(tempfile::tempdir()?);
        let source = folder.path().join("load.c");
        let functions =
            (0..200).map(|n| format!("int f{n}(int x) {{ return x * {n} + x / 3; }}\n"));
        fs::write(&source, functions.collect::<String>())?;
        let stop = Arc::new(AtomicBool::new(false));
        let compile = |_| {
            let (folder, source, stop) = (Arc::clone(&folder), source.clone(), Arc::clone(&stop));
            std::thread::spawn(move || {
                while !stop.load(Relaxed) {
                    let mut cc = Command::new("clang");
                    cc.args(["-O2", "-c", "-o", "/dev/null"]).arg(&source);
                    cc.current_dir(folder.path()).status().expect("clang runs");
                }
            })
        };
        Ok(Self { threads: (0..2).map(compile).collect(), stop })
    }
}

impl Drop for Compilers {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        self.threads.drain(..).for_each(|thread| thread.join().expect("a compiler's thread"));
    }
}

/// A collector that ends with the benchmark.
struct Collector(Child);

impl Drop for Collector {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(flags: &[&str]) -> Result<Collector> {
    let collector = dist()?.join("collector");
    let child = Command::new(&collector)
        .args(flags)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .with_context(|| format!("{}", collector.display()))?;
    Ok(Collector(child))
}

fn observe(flags: &[&str]) -> Result<Seen> {
    watch(&mut start(flags)?.0)
}

fn watch(child: &mut Child) -> Result<Seen> {
    std::thread::sleep(Duration::from_secs(5)); // loading is not running
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
