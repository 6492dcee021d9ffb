//! What the host costs: a process with three tools at one second, one with all of them, idle and under load, and
//! the tick of an idle plugin.

use crate::{cpu, dist, figure, median, processes};
use anyhow::{Context, Result, ensure};
use plugin_testing::Tracepoint;
use std::fs;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{Sender, channel};
use std::thread::{self, JoinHandle};
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

/// Maps of a collector, as the kernel accounts them.
struct Maps {
    number: usize,
    mib: f64,
}

impl Maps {
    fn of(pid: u32) -> Self {
        let by_id = processes::held(pid, "map_id:");
        let bytes: u64 = by_id.values().sum();
        Self { number: by_id.len(), mib: bytes as f64 / f64::from(1 << 20) }
    }
}

/// CPU per tick of one plugin: what ten times as many ticks cost more. Where nothing else runs, a CPU has to be woken
/// for each tick too, in a virtual machine by its host.
pub fn ticks() -> Result<()> {
    for what in ["idle", "two compilers"] {
        let _load = (what != "idle").then(Compilers::start).transpose()?;
        println!("{what}: {:.0} us of CPU to wake three threads that do nothing", wakings()?);
        for plugin in ["runqlat", "bootstrap"] {
            let mut costs = Vec::new();
            for (interval, per_second) in [("1s", 1.0), ("100ms", 10.0)] {
                let seen = observe(&["--only", plugin, "--interval", interval])?;
                costs.push((seen.cpu * seen.seconds, per_second * seen.seconds));
            }
            let us = (costs[1].0 - costs[0].0) / (costs[1].1 - costs[0].1) * 1e6;
            let of = format!("{what}: {plugin}, CPU per tick with its self metrics and the output");
            figure(&of, us, " us", 300.0);
        }
    }
    Ok(())
}

/// Microseconds of CPU that this machine takes to wake the three threads of a tick: two that sleep for an interval, the
/// plugin's and the main one, and that of the output, which the second one wakes.
fn wakings() -> Result<f64> {
    const TICKS: u32 = 50;
    let taken = || cpu::seconds_of("/proc/thread-self/schedstat");
    let (tells, told) = channel::<()>();
    let sleeper = |tells: Option<Sender<()>>| {
        thread::spawn(move || {
            let before = taken()?;
            for _ in 0..TICKS {
                thread::sleep(Duration::from_millis(100));
                tells.iter().for_each(|tells| tells.send(()).expect("it listens"));
            }
            Ok(taken()? - before)
        })
    };
    let woken = thread::spawn(move || {
        let before = taken()?;
        told.iter().for_each(drop);
        Ok(taken()? - before)
    });
    let threads = [sleeper(None), sleeper(Some(tells)), woken];
    let times = threads.map(|thread| thread.join().expect("no panic"));
    let seconds: f64 = times.into_iter().sum::<Result<f64>>()?;
    Ok(seconds / f64::from(TICKS) * 1e6)
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
    // What no tool can be below that counts a system call: then the kernel goes its slow way at each.
    let floor = slowed("one tracepoint of a system call that nobody makes", || {
        Ok(Tracepoint::open("syscalls/sys_exit_creat"))
    })?;
    let all = slowed("all tools", || start(&["--interval", "1s"]))?;
    println!("all tools beside that tracepoint: {:.2}", all / floor);
    figure("hackbench beside all tools", all, " of its time alone", 1.1);
    Ok(())
}

/// How much slower hackbench is beside something: the median of pairs of runs with and without.
fn slowed<T>(what: &str, start: impl Fn() -> Result<T>) -> Result<f64> {
    let mut ratios = Vec::new();
    for pair in 0..PAIRS {
        let mut times = [0.0; 2];
        for with in [pair % 2, (pair + 1) % 2] {
            let _beside = (with == 1).then(&start).transpose()?;
            times[with] = hackbench()?;
        }
        ratios.push(times[1] / times[0]);
    }
    let ratio = median(ratios.clone());
    ratios.sort_by(f64::total_cmp);
    println!("hackbench beside {what}: {ratio:.2} ({:.2} to {:.2})", ratios[0], ratios[PAIRS - 1]);
    Ok(ratio)
}

/// The same for each tool alone.
pub fn each() -> Result<()> {
    let plugins = fs::read_dir(dist()?.join("plugins")).context("the plugins folder")?;
    for file in plugins {
        let file = file?.file_name().into_string().unwrap_or_default();
        if let Some(name) = file.strip_prefix("lib").and_then(|name| name.strip_suffix(".so")) {
            slowed(name, || start(&["--interval", "1s", "--only", name]))?;
        }
    }
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
pub(crate) struct Compilers {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Compilers {
    pub(crate) fn start() -> Result<Self> {
        let folder = Arc::new(tempfile::tempdir()?);
        let source = folder.path().join("load.c");
        let functions =
            (0..200).map(|n| format!("int f{n}(int x) {{ return x * {n} + x / 3; }}\n"));
        fs::write(&source, functions.collect::<String>())?;
        let stop = Arc::new(AtomicBool::new(false));
        let compile = |_| {
            let (folder, source, stop) = (Arc::clone(&folder), source.clone(), Arc::clone(&stop));
            thread::spawn(move || {
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
pub(crate) struct Collector(pub(crate) Child);

impl Drop for Collector {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub(crate) fn start(flags: &[&str]) -> Result<Collector> {
    let collector = dist()?.join("collector");
    let child = Command::new(&collector)
        .args(flags)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .with_context(|| format!("{}", collector.display()))?;
    thread::sleep(Duration::from_secs(5)); // loading is not running
    Ok(Collector(child))
}

fn observe(flags: &[&str]) -> Result<Seen> {
    watch(&mut start(flags)?.0)
}

fn watch(child: &mut Child) -> Result<Seen> {
    let begin = Instant::now();
    let before = processes::seconds(child.id())?;
    thread::sleep(Duration::from_secs(SECONDS));
    let seconds = begin.elapsed().as_secs_f64();
    ensure!(child.try_wait()?.is_none(), "the collector ended by itself");
    let cpu = (processes::seconds(child.id())? - before) / seconds;
    let resident_mib = processes::resident_mib(child.id())?;
    Ok(Seen { resident_mib, cpu, seconds, maps: Maps::of(child.id()) })
}
