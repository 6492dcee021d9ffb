//! Each tool beside the one of the same name of libbpf-tools, on the same events in the same seconds: nanoseconds
//! per event by the kernel's own BPF statistics, with those of the processes where the peer wakes its own for each
//! event; and kernel memory of maps.
//!
//! The one that attached first runs first at every event, and pays for what the caches do not hold yet: each
//! pair runs in both orders, and the ratio is that of the sums of both.

use crate::{dist, figure, median, processes};
use anyhow::{Context, Result, bail, ensure};
use libbpf_rs::query::ProgInfoIter;
use plugin_testing::terminal::Terminal;
use plugin_testing::unharmed::Collecting;
use plugin_testing::{Tracepoint, drive, tcp};
use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::net::{TcpListener, TcpStream};
use std::os::fd::{FromRawFd as _, OwnedFd};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::channel;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
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
    /// In the name of the program that runs once for each event; the kernel keeps 15 characters.
    event: &'static str,
    /// What is compared.
    cost: Of,
    /// Causes events for a while.
    load: fn(Duration),
    /// At most so much of the peer's nanoseconds.
    bound: f64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Of {
    /// The programs in the kernel; the peer counts in one of the same name.
    Programs,
    /// The processes too: the peer wakes its own for each event. Events are those that our program saw.
    All,
}

/// Stands for the id of [`jvm`] among arguments.
const JVM: &str = "JVM";

const PAIRS: [Pair; 12] = [
    Pair {
        name: "runqlat",
        options: "",
        arguments: &["600", "1"],
        event: "switch",
        cost: Of::Programs,
        load: wake_each_other,
        bound: 0.45,
    },
    Pair {
        name: "hardirqs",
        options: "vectors = false",
        arguments: &["-d", "600", "1"],
        event: "exi",
        cost: Of::Programs,
        load: |time| again(time, || assert!(drive::disk(1_000), "/var/tmp lies on no disk")),
        bound: 0.6,
    },
    Pair {
        name: "softirqs",
        options: "",
        arguments: &["-d", "600", "1"],
        event: "exi",
        cost: Of::Programs,
        load: |time| both_cpus(|| again(time, || drive::packets(1_000))),
        bound: 0.6,
    },
    Pair {
        name: "opensnoop",
        options: "",
        arguments: &[],
        event: "open",
        cost: Of::All,
        load: |time| again(time, open),
        bound: 0.05,
    },
    Pair {
        name: "execsnoop",
        options: "",
        arguments: &[],
        event: "exec_",
        cost: Of::All,
        load: |time| again(time, start_a_program),
        bound: 0.05,
    },
    Pair {
        name: "exitsnoop",
        options: "",
        arguments: &[],
        event: "exit_",
        cost: Of::All,
        load: |time| again(time, start_a_program),
        bound: 0.05,
    },
    Pair {
        name: "sigsnoop",
        options: "",
        arguments: &[],
        event: "generate",
        cost: Of::All,
        load: |time| again(time, ignored_signal),
        bound: 0.05,
    },
    Pair {
        name: "tcpconnlat",
        options: "",
        arguments: &[],
        event: "state",
        cost: Of::All,
        load: connect,
        bound: 0.2,
    },
    Pair {
        name: "tcpstates",
        options: "",
        arguments: &[],
        event: "state",
        cost: Of::All,
        load: connect,
        bound: 0.2,
    },
    Pair {
        name: "tcprtt",
        options: "",
        arguments: &["-i", "600"],
        event: "tcp_rcv",
        cost: Of::Programs,
        load: |time| _ = stream(time),
        bound: 0.6,
    },
    Pair {
        name: "bashreadline",
        options: "",
        arguments: &[],
        event: "torn_uretprobe",
        cost: Of::All,
        load: type_commands,
        bound: 0.5,
    },
    // The peer sees one JVM, and has one begin at a time: that of a pool takes the place of the collection's.
    Pair {
        name: "javagc",
        options: "",
        arguments: &["-p", JVM],
        event: "gc_begin_uprobe",
        cost: Of::All,
        load: |time| again(time, || jvm().collect(10)),
        bound: 2.0,
    },
];

/// Rounds in each order.
const ROUNDS: usize = 3;
const ROUND: Duration = Duration::from_secs(3);
/// At default options, on two CPUs.
const MAPS: f64 = 0.5;

/// All pairs, or those whose names are among the arguments.
pub fn run() -> Result<()> {
    let named = |pair: &&Pair| std::env::args().any(|word| word == pair.name);
    let only = PAIRS.iter().any(|pair| named(&pair));
    // SAFETY: the call takes a number and gives a descriptor, ours from then on.
    let statistics = unsafe { libbpf_sys::bpf_enable_stats(libbpf_sys::BPF_STATS_RUN_TIME) };
    ensure!(statistics >= 0, "the kernel does not keep BPF statistics (Linux 5.8)");
    // SAFETY: checked above; nobody else has it.
    let statistics = unsafe { OwnedFd::from_raw_fd(statistics) };
    let chosen = || PAIRS.iter().filter(|pair| !only || named(pair));
    chosen().try_for_each(compare)?;
    drop(statistics); // it takes its time at each event
    chosen().filter(|pair| pair.name == "opensnoop").try_for_each(slowed)?;
    chosen().filter(|pair| pair.name == "tcprtt").try_for_each(narrowed)
}

fn compare(pair: &Pair) -> Result<()> {
    let folder = tempfile::tempdir()?;
    if Running::theirs(pair)?.has_ended()? {
        println!("SKIPPED: {} of libbpf-tools does not run here", pair.name);
        return Ok(());
    }
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
            let before = [ours.costs()?, theirs.costs()?];
            (pair.load)(ROUND);
            let ours = ours.since(&before[0], pair)?;
            let mut theirs = theirs.since(&before[1], pair)?;
            match pair.cost {
                Of::Programs => ensure!(theirs.events > 0, "no event of {} was seen", pair.name),
                Of::All => theirs.events = ours.events,
            }
            ensure!(ours.events > 0, "no event of {} was seen", pair.name);
            let order = if ours_first { "collector first" } else { "libbpf-tools first" };
            println!("{}: {ours}, libbpf-tools {theirs} ({order})", pair.name);
            sums[0] += ours.ns();
            sums[1] += theirs.ns();
        }
        if ours_first {
            let (ours, theirs) = (ours.map_mib()?, theirs.map_mib()?);
            println!("{}: maps of libbpf-tools: {theirs:.2} MiB", pair.name);
            figure(&format!("{}: maps", pair.name), ours, " MiB", MAPS);
        }
    }
    figure(&format!("{}: ratio, both orders", pair.name), sums[0] / sums[1], "", pair.bound);
    Ok(())
}

/// By how much a loop of opens becomes slower beside each tool alone.
fn slowed(pair: &Pair) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let time = || {
        let begin = Instant::now();
        (0..OPENS).for_each(|_| open());
        begin.elapsed().as_secs_f64()
    };
    let (mut ours, mut theirs, mut floor) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        // Without trampolines no tool can be below that: the kernel goes its slow way at each system call.
        let alone = time();
        let idle = Tracepoint::open("syscalls/sys_exit_creat");
        floor.push(time() / alone);
        drop(idle);
        let alone = time();
        let running = Running::ours(pair, &folder)?;
        ours.push(time() / alone);
        drop(running);
        let alone = time();
        let running = Running::theirs(pair)?;
        theirs.push(time() / alone);
        drop(running);
    }
    let what = format!("{OPENS} opens beside");
    println!("{what} libbpf-tools: {:.2} of their time alone", median(theirs));
    println!("{what} a tracepoint of a call that nobody makes: {:.2}", median(floor));
    figure(&format!("{what} the collector"), median(ours), " of their time alone", 1.05);
    Ok(())
}

/// What is left of the throughput of one stream over the loopback interface beside each tool alone.
fn narrowed(pair: &Pair) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..2 * ROUNDS {
        let alone = stream(ROUND);
        let running = Running::ours(pair, &folder)?;
        let beside = stream(ROUND);
        drop(running);
        // Before and after, for what else changes meanwhile.
        ours.push(2.0 * beside / (alone + stream(ROUND)));
        let mut running = Running::theirs(pair)?;
        if !running.has_ended()? {
            let beside = stream(ROUND);
            drop(running);
            theirs.push(beside / stream(ROUND));
        }
    }
    let lowered = |left: Vec<f64>| 100.0 * (1.0 - median(left));
    if !theirs.is_empty() {
        println!("a stream beside libbpf-tools: {:.1} % less", lowered(theirs));
    }
    figure("a stream beside the collector", lowered(ours), " % less", 3.0);
    Ok(())
}

/// Bytes per second of one stream over the loopback interface.
fn stream(time: Duration) -> f64 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let mut sender =
        TcpStream::connect(listener.local_addr().expect("its address")).expect("a connection");
    let (mut receiver, _) = listener.accept().expect("its other end");
    let begin = Instant::now();
    let reader = thread::spawn(move || std::io::copy(&mut receiver, &mut std::io::sink()));
    let block = [0; 64 * 1024];
    while begin.elapsed() < time {
        sender.write_all(&block).expect("sent");
    }
    drop(sender);
    let bytes = reader.join().expect("no panic").expect("received");
    bytes as f64 / begin.elapsed().as_secs_f64()
}

const OPENS: usize = 300_000;

/// A tool in a process of its own, which ends with the benchmark.
struct Running {
    child: Child,
    programs: Vec<u32>,
}

/// What a tool has taken so far.
struct Costs {
    /// Runs and nanoseconds, by program's id, with its name.
    programs: BTreeMap<u32, (String, u64, u64)>,
    /// CPU of its processes.
    process_ns: u64,
}

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
        for word in pair.arguments {
            if *word == JVM {
                command.arg(jvm().pid().to_string());
            } else {
                command.arg(word);
            }
        }
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
            if running.has_ended()? {
                return Ok(running);
            }
            let programs = processes::held(running.child.id(), "prog_id:");
            let programs: Vec<u32> = programs.into_keys().map(|id| id as u32).collect();
            if !programs.is_empty() && programs == running.programs {
                return Ok(running);
            }
            running.programs = programs;
        }
        bail!("{} loaded no BPF program within 30 s", what.display())
    }

    /// Its hooks are none of this kernel's.
    fn has_ended(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_some())
    }

    fn costs(&self) -> Result<Costs> {
        let ours = ProgInfoIter::default().filter(|p| self.programs.contains(&p.id));
        let cost = |p: libbpf_rs::query::ProgramInfo| {
            (p.id, (p.name.to_string_lossy().into_owned(), p.run_cnt, p.run_time_ns))
        };
        let process_ns = (processes::seconds(self.child.id())? * 1e9) as u64;
        Ok(Costs { programs: ours.map(cost).collect(), process_ns })
    }

    /// What it took, and how many events there were.
    fn since(&self, before: &Costs, pair: &Pair) -> Result<Cost> {
        let now = self.costs()?;
        let mut cost = Cost { events: 0, ns: 0 };
        for (id, (name, runs, ns)) in now.programs {
            let (_, runs_before, ns_before) = &before.programs[&id];
            cost.ns += ns - ns_before;
            if name.contains(pair.event) {
                cost.events += runs - runs_before;
            }
        }
        if pair.cost == Of::All {
            cost.ns += now.process_ns - before.process_ns;
        }
        Ok(cost)
    }

    fn map_mib(&self) -> Result<f64> {
        let bytes: u64 = processes::held(self.child.id(), "map_id:").into_values().sum();
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

/// A signal that this process does not handle and does not mind.
fn ignored_signal() {
    // SAFETY: a signal to this very process, whose default is to be ignored.
    unsafe { libc::kill(libc::getpid(), libc::SIGWINCH) };
}

/// The same again until the time is over.
fn again(time: Duration, act: impl Fn()) {
    let begin = Instant::now();
    while begin.elapsed() < time {
        act();
    }
}

fn open() {
    drop(fs::File::open("/dev/null"));
}

fn start_a_program() {
    let status = Command::new("/bin/true").status();
    assert!(status.is_ok_and(|status| status.success()), "/bin/true");
}

fn type_commands(time: Duration) {
    let mut shell = Terminal::shell(Path::new("/bin/bash"));
    let begin = Instant::now();
    while begin.elapsed() < time {
        shell.lines(&["true"; 16]);
    }
}

/// A JVM that collects when it is told to, and ends with the benchmark.
fn jvm() -> MutexGuard<'static, Collecting> {
    static ONE: LazyLock<Mutex<Collecting>> = LazyLock::new(|| {
        let jvm = Collecting::start(Path::new("java"), &["-XX:+UseSerialGC"]);
        Mutex::new(jvm.expect("`java`; `cargo xtask deps` installs it"))
    });
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Connections that are made, accepted and reset.
fn connect(time: Duration) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let to = listener.local_addr().expect("bound");
    again(time, || {
        let client = TcpStream::connect(to).expect("connected");
        let server = listener.accept().expect("the one that connected");
        tcp::reset(client);
        drop(server);
    });
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
