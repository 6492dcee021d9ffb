//! What memleak costs a program that allocates, beside what the kernel's traps alone cost it, and libbpf-tools'.

use crate::{dist, figure, median, processes};
use anyhow::{Context, Result, bail, ensure};
use plugin_bpf::{Running, only_kind};
use plugin_testing::Harness;
use plugin_testing::process::Child;
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::fd::{FromRawFd as _, OwnedFd};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};
use system_tests::trap::Trap;

/// Calls in a round, and rounds.
const CALLS: u64 = 20_000;
const ROUNDS: usize = 7;
/// Microseconds that the probes of an allocation may take, with one in a hundred tracked.
const PAIR: f64 = 2.0;

/// A process that allocates when it is told to.
struct Allocator {
    child: Option<Child>,
    tell: File,
    answer: File,
}

impl Allocator {
    fn new() -> Result<Self> {
        let pipe = || -> Result<[File; 2]> {
            let mut ends = [0; 2];
            // SAFETY: two descriptors are written to the array of two.
            ensure!(unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) } == 0, "no pipe");
            // SAFETY: they are ours alone.
            Ok(ends.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }.into()))
        };
        let [mut told, tell] = pipe()?;
        let [answer, mut answers] = pipe()?;
        let other_end = tell.try_clone()?;
        let child = Child::fork(c"allocates", move || {
            drop(other_end);
            let mut byte = [0];
            while told.read_exact(&mut byte).is_ok() {
                let ns = allocate(byte[0] == b'f');
                if answers.write_all(&ns.to_ne_bytes()).is_err() {
                    break;
                }
            }
            0
        });
        Ok(Self { child: Some(child), tell, answer })
    }

    fn pid(&self) -> i32 {
        self.child.as_ref().map_or(0, |child| child.pid)
    }

    /// Nanoseconds of a call of malloc(), or of malloc() and free().
    fn ns(&mut self, freed: bool) -> Result<f64> {
        let mut rounds = Vec::new();
        for _ in 0..ROUNDS {
            self.tell.write_all(if freed { b"f" } else { b"m" })?;
            let mut ns = [0; 8];
            self.answer.read_exact(&mut ns)?;
            rounds.push(u64::from_ne_bytes(ns) as f64 / CALLS as f64);
        }
        Ok(median(rounds))
    }
}

impl Drop for Allocator {
    fn drop(&mut self) {
        if let Some(child) = self.child.take() {
            child.kill(libc::SIGKILL);
            let _ = child.wait();
        }
    }
}

fn allocate(freed: bool) -> u64 {
    let begin = Instant::now();
    for _ in 0..CALLS {
        // SAFETY: a block of its own, which nobody uses; freed at most once.
        unsafe {
            let block = std::hint::black_box(libc::malloc(100));
            if freed {
                libc::free(block);
            }
        }
    }
    begin.elapsed().as_nanos() as u64
}

/// The C library of this process, which the one that allocates has too.
fn libc_path() -> Result<String> {
    let maps = fs::read_to_string("/proc/self/maps")?;
    let path = maps.lines().filter_map(|line| line.split_whitespace().nth(5));
    let mut path = path.filter(|path| path.contains("/libc.") || path.contains("/libc-"));
    Ok(path.next().context("this process has no C library")?.to_owned())
}

/// Something that looks at the process meanwhile, in a process of its own.
struct Beside(std::process::Child);

impl Beside {
    /// Starts it and waits until it has loaded its programs.
    fn start(mut command: Command) -> Result<Self> {
        let child =
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let beside = Self(child.with_context(|| format!("starting {command:?}"))?);
        let begin = Instant::now();
        let mut before = 0;
        while begin.elapsed() < Duration::from_secs(30) {
            thread::sleep(Duration::from_millis(500));
            let programs = processes::held(beside.0.id(), "prog_id:").len();
            if programs > 0 && programs == before {
                return Ok(beside);
            }
            before = programs;
        }
        bail!("{command:?} loaded no BPF program within 30 s")
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The whole comparison.
pub fn run() -> Result<()> {
    let mut process = Allocator::new()?;
    let pid = process.pid();
    let alone = [process.ns(false)?, process.ns(true)?];
    println!("alone: malloc {:.0} ns, malloc and free {:.0} ns", alone[0], alone[1]);
    let file = libc_path()?;
    for (kind, what) in [("uprobe", "entry and return"), ("session", "entry alone")] {
        only_kind(kind);
        let options = format!(r#"{{"pid":{pid},"file":"{file}","function":"malloc"}}"#);
        match Harness::<Running<Trap>>::init(&options) {
            Ok(_trap) => {
                let us = (process.ns(false)? - alone[0]) / 1000.0;
                println!("the kernel's own traps at malloc, {what}: {us:.2} us");
            }
            Err(error) => println!("SKIPPED: traps by {kind}: {error:#}"),
        }
    }
    let folder = tempfile::tempdir()?;
    for sample in [1, 100] {
        let config = folder.path().join("collector.toml");
        fs::write(&config, format!("[plugin.memleak]\npid = {pid}\nsample = {sample}\n"))?;
        let mut command = Command::new(dist()?.join("collector"));
        command.arg("--config").arg(&config).args(["--only", "memleak", "--interval", "1s"]);
        let beside = Beside::start(command)?;
        let [malloc, both] = [process.ns(false)?, process.ns(true)?];
        let maps: u64 = processes::held(beside.0.id(), "map_id:").into_values().sum();
        let us = [malloc - alone[0], both - alone[1]].map(|ns| ns / 1000.0);
        println!(
            "memleak, 1 in {sample}: malloc and free {:.2} us, maps {} KiB",
            us[1],
            maps >> 10
        );
        let what = format!("memleak, 1 in {sample}: a malloc's probes");
        if sample == 1 {
            println!("{what}: {:.2} us", us[0]);
        } else {
            figure(&what, us[0], " us", PAIR);
        }
    }
    let mut peer = Command::new("memleak");
    peer.args(["-p", &pid.to_string(), "-s", "100", "600"]);
    match Beside::start(peer) {
        Ok(_beside) => {
            let [malloc, both] = [process.ns(false)?, process.ns(true)?];
            let us = [malloc - alone[0], both - alone[1]].map(|ns| ns / 1000.0);
            println!(
                "libbpf-tools, 1 in 100: malloc {:.2} us, malloc and free {:.2} us",
                us[0], us[1]
            );
        }
        Err(error) => println!("SKIPPED: memleak of libbpf-tools: {error:#}"),
    }
    Ok(())
}
