//! The tick of runqlat under load: what a call takes, and how much of it waits for the cut.
//!
//! With the flag `--with-membarrier` each tick also waits as it did before there was a cut, for
//! `membarrier(MEMBARRIER_CMD_GLOBAL)`, in the same seconds.

use crate::{dist, figure};
use anyhow::{Context, Result, ensure};
use plugin_api::abi::Tick;
use plugin_bpf::Running;
use plugin_testing::Harness;
use runqlat::Runqlat;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The flag.
pub const WITH_MEMBARRIER: &str = "--with-membarrier";

const TICK: Duration = Duration::from_millis(100);
const TICKS: u64 = 300;
/// Of one load. A grace period can take minutes where threads wake each other.
const LIMIT: Duration = Duration::from_secs(60);

pub fn run() -> Result<()> {
    let membarrier = std::env::args().any(|word| word == WITH_MEMBARRIER);
    println!("a tick of runqlat every 100 ms, {TICKS} ticks; us: p50 / p99 / max");
    idle(membarrier)?;
    pairs(membarrier)?;
    let worst = hackbench(membarrier)?;
    figure("flip and wait under hackbench, p99", worst, " us", 50.0);
    ten_milliseconds()
}

fn idle(membarrier: bool) -> Result<()> {
    ticks("idle", membarrier, || Ok(())).map(drop)
}

fn hackbench(membarrier: bool) -> Result<f64> {
    ticks("hackbench", membarrier, || {
        // Loops enough for the time; it is ended when the ticks are over.
        let load = Command::new("hackbench")
            .args(["--threads", "--groups", "10", "--loops", "1000000"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("hackbench of rt-tests; `cargo xtask deps` installs it")?;
        Ok(Ended(load))
    })
}

fn pairs(membarrier: bool) -> Result<()> {
    let pairs = || Ok([Pair::start(), Pair::start()]);
    ticks("two pairs of threads", membarrier, pairs).map(drop)
}

/// Ticks under a load, which begins when the tool is attached and ends before it detaches: an emulator may not
/// survive that the kernel patches its code under load. Returns the p99 of flip and wait in microseconds.
fn ticks<L>(load: &str, membarrier: bool, start: impl FnOnce() -> Result<L>) -> Result<f64> {
    let mut tool = Harness::<Running<Runqlat>>::init(r#"{"by":"comm"}"#)?;
    let running = start()?;
    thread::sleep(Duration::from_millis(500));
    let (mut calls, mut waits, mut grace) = (Vec::new(), Vec::new(), Vec::new());
    let mut missed = 0;
    let begun = Instant::now();
    let mut next = begun;
    for seq in 0..TICKS {
        if begun.elapsed() > LIMIT {
            println!("{load}: {seq} ticks in {} s", LIMIT.as_secs());
            break;
        }
        next += TICK;
        thread::sleep(next.saturating_duration_since(Instant::now()));
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH)?;
        let tick = Tick { seq, time_ns: since_1970.as_nanos() as i64, elapsed_ns: 100_000_000 };
        let (begin, cpu) = (Instant::now(), cpu_time());
        tool.call_at(&tick)?;
        calls.push(begin.elapsed());
        waits.push(plugin_bpf::last_wait());
        // By the plugin's own doing: not the time in which the load had the CPU.
        if cpu_time() - cpu + plugin_bpf::last_wait() > TICK {
            missed += 1;
        }
        if membarrier {
            let begin = Instant::now();
            wait_for_a_grace_period()?;
            grace.push(begin.elapsed());
            next = next.max(Instant::now());
        }
    }
    drop(running);
    let wait = row(load, "flip and wait", &mut waits);
    row(load, "call, with its lines read back", &mut calls);
    if membarrier {
        row(load, "membarrier", &mut grace);
    }
    figure(&format!("{load}: ticks missed by its own doing"), f64::from(missed), "", 0.0);
    Ok(wait)
}

fn row(load: &str, what: &str, times: &mut [Duration]) -> f64 {
    times.sort_unstable();
    let us = |part: f64| times[((times.len() - 1) as f64 * part) as usize].as_nanos() as f64 / 1e3;
    println!("{load}: {what}: {:.1} / {:.1} / {:.1}", us(0.5), us(0.99), us(1.0));
    us(0.99)
}

/// Of this thread.
fn cpu_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a timespec of ours; the clock exists on every Linux.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

fn wait_for_a_grace_period() -> Result<()> {
    const MEMBARRIER_CMD_GLOBAL: libc::c_int = 1;
    // SAFETY: membarrier takes three numbers and touches no memory of ours.
    let done = unsafe { libc::syscall(libc::SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0) };
    ensure!(done == 0, std::io::Error::last_os_error());
    Ok(())
}

/// The collector itself at 10 ms, for a minute.
fn ten_milliseconds() -> Result<()> {
    let output = Command::new(dist()?.join("collector"))
        .args(["--only", "runqlat", "--interval", "10ms", "--ticks", "6000"])
        .stderr(Stdio::null())
        .output()
        .context("the collector")?;
    let text = String::from_utf8(output.stdout)?;
    let missed = |line: &str| {
        let (_, rest) = line.split_once("ticks_missed=")?;
        rest.split('i').next()?.parse::<f64>().ok()
    };
    let lines = text.lines().filter(|line| line.starts_with("collector_plugin,"));
    let counts: Vec<f64> = lines.filter_map(missed).collect();
    ensure!(!counts.is_empty(), "no line of collector_plugin has ticks_missed");
    let ticks = text.lines().filter(|line| line.starts_with("runqlat,")).count();
    println!("10 ms for a minute, idle: {ticks} ticks");
    figure("missed at 10 ms", counts.iter().sum(), "", 0.0);
    Ok(())
}

/// Two threads that wake each other until this is dropped.
struct Pair {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Pair {
    fn start() -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let (ping, pinged) = channel();
            let (pong, ponged) = channel();
            let echo = thread::spawn(move || pinged.iter().all(|()| pong.send(()).is_ok()));
            while !stopped.load(Ordering::Relaxed) {
                let _ = ping.send(());
                let _ = ponged.recv();
            }
            drop(ping);
            let _ = echo.join();
        });
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().map(JoinHandle::join);
    }
}

/// A load that ends with the measurement.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
