//! Each tool beside the one of the same name of libbpf-tools, on the same events in the same seconds: nanoseconds
//! per event by the kernel's own BPF statistics, and kernel memory of maps.
//!
//! The one that attached first runs first at every event, and pays for what the caches do not hold yet: each
//! pair runs in both orders, and the ratio is that of the sums of both.

use crate::{dist, figure};
use anyhow::{Context, Result, bail, ensure};
use libbpf_rs::query::ProgInfoIter;
use plugin_testing::{drive, held};
use std::collections::BTreeMap;
use std::fs;
use std::os::fd::{FromRawFd as _, OwnedFd};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A tool and its peer.
struct Pair {
    /// Both have this name.
    name: &'static str,
    /// Of ours: what the peer does not do is not asked for.
    options: &'static str,
    /// Of the peer: a histogram, printed when it is over, or its events.
    arguments: &'static [&'static str],
    /// In the name of the program that runs once for each event, of both; the kernel keeps 15 characters.
    event: &'static str,
    /// Causes events for a while.
    load: fn(Duration),
    /// At most so much of the peer's nanoseconds.
    bound: f64,
    /// At most so many MiB of maps, on two CPUs.
    maps: f64,
}

const PAIRS: [Pair; 5] = [
    Pair {
        name: "runqlat",
        options: "",
        arguments: &["600", "1"],
        event: "switch",
        load: wake_each_other,
        bound: 0.45,
        maps: MAPS,
    },
    Pair {
        name: "execsnoop",
        options: "events = true",
        arguments: &[],
        event: "e", // all: two for each exec, of both
        load: |time| again(time, start_a_program),
        bound: 0.3,
        maps: 1.5, // 1 MiB for events
    },
    Pair {
        name: "exitsnoop",
        options: "events = true",
        arguments: &[],
        event: "e", // the only one of both
        load: |time| again(time, start_a_program),
        bound: 0.3,
        maps: MAPS,
    },
    Pair {
        name: "hardirqs",
        options: "vectors = false",
        arguments: &["-d", "600", "1"],
        event: "exi",
        load: |time| again(time, || assert!(drive::disk(1_000), "/var/tmp lies on no disk")),
        bound: 0.6,
        maps: MAPS,
    },
    Pair {
        name: "softirqs",
        options: "",
        arguments: &["-d", "600", "1"],
        event: "exi",
        load: |time| both_cpus(|| again(time, || drive::packets(1_000))),
        bound: 0.6,
        maps: MAPS,
    },
];

/// Rounds in each order.
const ROUNDS: usize = 3;
const ROUND: Duration = Duration::from_secs(3);
/// At default options.
const MAPS: f64 = 0.5;

/// All pairs, or those whose names are among the arguments.
pub fn run() -> Result<()> {
    let named = |pair: &&Pair| std::env::args().any(|word| word == pair.name);
    let only = PAIRS.iter().any(|pair| named(&pair));
    // SAFETY: the call takes a number and gives a descriptor, ours from then on.
    let statistics = unsafe { libbpf_sys::bpf_enable_stats(libbpf_sys::BPF_STATS_RUN_TIME) };
    ensure!(statistics >= 0, "the kernel does not keep BPF statistics (Linux 5.8)");
    // SAFETY: checked above; nobody else has it.
    let _statistics = unsafe { OwnedFd::from_raw_fd(statistics) };
    PAIRS.iter().filter(|pair| !only || named(pair)).try_for_each(compare)
}

fn compare(pair: &Pair) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut sums = [0.0; 2];
    for ours_first in [false, true] {
        let (ours, theirs);
        if ours_first {
            ours = Running::ours(pair, &folder)?;
            theirs = Running::theirs(pair)?;
        } else {
            theirs = Running::theirs(pair)?;
            ours = Running::ours(pair, &folder)?;
        }
        for _ in 0..ROUNDS {
            let before = [ours.costs(), theirs.costs()];
            (pair.load)(ROUND);
            let [ours, theirs] = [ours.since(&before[0], pair)?, theirs.since(&before[1], pair)?];
            let order = if ours_first { "collector first" } else { "libbpf-tools first" };
            println!("{}: {ours}, libbpf-tools {theirs} ({order})", pair.name);
            sums[0] += ours.ns();
            sums[1] += theirs.ns();
        }
        if ours_first {
            let (ours, theirs) = (ours.map_mib()?, theirs.map_mib()?);
            println!("{}: maps of libbpf-tools: {theirs:.2} MiB", pair.name);
            figure(&format!("{}: maps", pair.name), ours, " MiB", pair.maps);
        }
    }
    figure(&format!("{}: ratio, both orders", pair.name), sums[0] / sums[1], "", pair.bound);
    Ok(())
}

/// A tool in a process of its own, which ends with the benchmark.
struct Running {
    child: Child,
    programs: Vec<u32>,
}

/// Runs and nanoseconds, by program's id, with its name.
type Costs = BTreeMap<u32, (String, u64, u64)>;

impl Running {
    fn ours(pair: &Pair, folder: &TempDir) -> Result<Self> {
        let config = folder.path().join("collector.toml");
        fs::write(&config, format!("[plugin.{}]\n{}\n", pair.name, pair.options))?;
        let collector = dist()?.join("collector");
        let mut command = Command::new(&collector);
        command.arg("--config").arg(&config).args(["--only", pair.name, "--interval", "1s"]);
        Self::start(command, &collector)
    }

    fn theirs(pair: &Pair) -> Result<Self> {
        let mut command = Command::new(pair.name);
        command.args(pair.arguments);
        Self::start(command, Path::new(pair.name))
            .context("libbpf-tools; `cargo xtask deps` installs them")
    }

    /// Starts it and waits until it has loaded its programs: no new one for half a second.
    fn start(mut command: Command, what: &Path) -> Result<Self> {
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let child = child.with_context(|| format!("starting {}", what.display()))?;
        let mut running = Self { child, programs: Vec::new() };
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_secs(30) {
            thread::sleep(Duration::from_millis(500));
            let programs = held(running.child.id(), "prog_id:");
            let programs: Vec<u32> = programs.into_keys().map(|id| id as u32).collect();
            if !programs.is_empty() && programs == running.programs {
                return Ok(running);
            }
            running.programs = programs;
        }
        bail!("{} loaded no BPF program within 30 s", what.display())
    }

    fn costs(&self) -> Costs {
        let ours = ProgInfoIter::default().filter(|p| self.programs.contains(&p.id));
        let cost = |p: libbpf_rs::query::ProgramInfo| {
            (p.id, (p.name.to_string_lossy().into_owned(), p.run_cnt, p.run_time_ns))
        };
        ours.map(cost).collect()
    }

    /// What all programs took, and how many events there were.
    fn since(&self, before: &Costs, pair: &Pair) -> Result<Cost> {
        let mut cost = Cost { events: 0, ns: 0 };
        for (id, (name, runs, ns)) in self.costs() {
            let (_, runs_before, ns_before) = &before[&id];
            cost.ns += ns - ns_before;
            if name.contains(pair.event) {
                cost.events += runs - runs_before;
            }
        }
        let names = || self.costs().into_values().map(|(name, ..)| name).collect::<Vec<_>>();
        ensure!(cost.events > 0, "no event of {} was seen by {:?}", pair.name, names());
        Ok(cost)
    }

    fn map_mib(&self) -> Result<f64> {
        let bytes: u64 = held(self.child.id(), "map_id:").into_values().sum();
        ensure!(bytes > 0, "the kernel does not say what the maps take");
        Ok(bytes as f64 / f64::from(1 << 20))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

struct Cost {
    events: u64,
    ns: u64,
}

impl Cost {
    fn ns(&self) -> f64 {
        self.ns as f64 / self.events as f64
    }
}

impl std::fmt::Display for Cost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.0} ns per event of {}", self.ns(), self.events)
    }
}

/// The same again until the time is over.
fn again(time: Duration, act: impl Fn()) {
    let begin = Instant::now();
    while begin.elapsed() < time {
        act();
    }
}

fn start_a_program() {
    let status = Command::new("/bin/true").status();
    assert!(status.is_ok_and(|status| status.success()), "/bin/true");
}

fn both_cpus(act: impl Fn() + Sync) {
    thread::scope(|scope| {
        (0..2).for_each(|_| drop(scope.spawn(&act)));
    });
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
