//! All tools at 100 ms for an hour, while processes and cgroups come and go: what the collector takes must not grow.
//! docs/soak.md keeps the table.

use crate::{cpu, dist, figure};
use anyhow::{Context, Result, ensure};
use collector::read::{Line, read};
use plugin_testing::held;
use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

const SECONDS: u64 = 3600;
/// Looks at the collector; every so many of them has a row.
const LOOKS: u64 = 240;
const ROWS: u64 = 12;
/// Different names of the processes and of the cgroups that come and go. Of more there would be more series, which the
/// collector keeps for an hour.
const NAMES: usize = 1000;
const GROUPS: u64 = 200;
/// Between two processes, and between two cgroups.
const PROCESS: Duration = Duration::from_millis(20);
const CGROUP: Duration = Duration::from_millis(100);

/// Tools that tell by name or by cgroup what comes and goes.
const CONFIG: &str = "interval = \"100ms\"\n[plugin.bootstrap]\nby = \"comm\"\n[plugin.runqlat]\nby = \"cgroup\"\n\
                      [plugin.exitsnoop]\nevents = true\n";

/// For an hour, or the seconds behind the word `soak`.
pub fn run() -> Result<()> {
    let argument = std::env::args().skip_while(|word| word != "soak").nth(1);
    let seconds: u64 = match argument {
        Some(text) => text.parse().with_context(|| format!("`soak {text}`: how many seconds?"))?,
        None => SECONDS,
    };
    let dir = tempfile::tempdir()?;
    let config = dir.path().join("c.toml");
    fs::write(&config, CONFIG)?;
    let mut child = Command::new(dist()?.join("collector"))
        .args(["--self", "full", "--config"])
        .arg(&config)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let stdout = child.stdout.take().context("its lines")?;
    let books = thread::spawn(move || Books::read(stdout));
    let running = Running(child);
    let churn = Churn::start(dir.path())?;
    let looks = watch(&running, Duration::from_secs(seconds))?;
    let (processes, cgroups) = churn.end();
    running.end()?;
    let books = books.join().expect("no panic")?;
    report(&looks, seconds, &books, processes, cgroups)
}

/// A collector that ends with the benchmark.
struct Running(Child);

impl Running {
    fn end(mut self) -> Result<()> {
        // SAFETY: a signal to a child that was not waited for.
        unsafe { libc::kill(self.0.id().cast_signed(), libc::SIGTERM) };
        let status = self.0.wait()?;
        ensure!(status.success(), "the collector: {status}");
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What the collector takes at one moment.
#[derive(Clone, Copy, Default)]
struct Look {
    seconds: f64,
    resident_kib: u64,
    /// Of that, what is its own.
    private_kib: u64,
    descriptors: u64,
    threads: u64,
    bpf_programs: u64,
    bpf_maps: u64,
    bpf_map_kib: u64,
    bpf_links: u64,
    /// Processes of plugins, and what they have for themselves.
    children: u64,
    children_kib: u64,
    cpu_seconds: f64,
}

impl Look {
    fn at(pid: u32, began: Instant) -> Result<Self> {
        let place = PathBuf::from(format!("/proc/{pid}"));
        let maps = held(pid, "map_id:");
        let children = children(&place)?;
        Ok(Self {
            seconds: began.elapsed().as_secs_f64(),
            resident_kib: sum_of(&place.join("smaps_rollup"), &["Rss:"])?,
            private_kib: sum_of(&place.join("smaps_rollup"), PRIVATE)?,
            descriptors: fs::read_dir(place.join("fd"))?.count() as u64,
            threads: fs::read_dir(place.join("task"))?.count() as u64,
            bpf_programs: held(pid, "prog_id:").len() as u64,
            bpf_maps: maps.len() as u64,
            bpf_map_kib: maps.values().sum::<u64>() >> 10,
            bpf_links: links(&place)?,
            children: children.len() as u64,
            // One may be gone by now.
            children_kib: children
                .iter()
                .filter_map(|it| sum_of(&it.join("smaps_rollup"), PRIVATE).ok())
                .sum(),
            cpu_seconds: cpu::seconds(pid)?,
        })
    }
}

const PRIVATE: &[&str] = &["Private_Clean:", "Private_Dirty:"];

/// Sums of KiB in such a file.
fn sum_of(file: &Path, keys: &[&str]) -> Result<u64> {
    let text = fs::read_to_string(file)?;
    let of = |line: &str| -> Option<u64> {
        let (key, value) = line.split_once(' ')?;
        keys.contains(&key).then(|| value.trim().trim_end_matches(" kB").parse().ok())?
    };
    Ok(text.lines().filter_map(of).sum())
}

fn links(place: &Path) -> Result<u64> {
    let infos = fs::read_dir(place.join("fdinfo"))?.flatten();
    let is_link = |path: PathBuf| {
        fs::read_to_string(path)
            .is_ok_and(|text| text.lines().any(|line| line.starts_with("link_id:")))
    };
    Ok(infos.filter(|entry| is_link(entry.path())).count() as u64)
}

fn children(place: &Path) -> Result<Vec<PathBuf>> {
    let mut all = Vec::new();
    for task in fs::read_dir(place.join("task"))? {
        let text = fs::read_to_string(task?.path().join("children")).unwrap_or_default();
        all.extend(text.split_whitespace().map(|pid| PathBuf::from(format!("/proc/{pid}"))));
    }
    Ok(all)
}

fn watch(running: &Running, time: Duration) -> Result<Vec<Look>> {
    let (began, mut looks) = (Instant::now(), Vec::new());
    let pause = time / LOOKS as u32;
    while began.elapsed() < time {
        thread::sleep(pause.min(time.saturating_sub(began.elapsed())));
        looks.push(Look::at(running.0.id(), began).context("the collector has ended")?);
    }
    Ok(looks)
}

/// Processes and cgroups that come and go until this ends.
struct Churn {
    stop: Arc<AtomicBool>,
    made: Arc<[AtomicU64; 2]>,
    threads: Vec<JoinHandle<Result<()>>>,
}

impl Churn {
    fn start(folder: &Path) -> Result<Self> {
        let names: Vec<PathBuf> = (0..NAMES).map(|n| folder.join(format!("soak{n}"))).collect();
        for name in &names {
            symlink("/bin/busybox", name)?;
        }
        ensure!(
            Path::new("/bin/busybox").exists(),
            "busybox-static; `cargo xtask deps` installs it"
        );
        let (stop, made) = (Arc::<AtomicBool>::default(), Arc::<[AtomicU64; 2]>::default());
        let mut threads = Vec::new();
        let (told, count, all) = (Arc::clone(&stop), Arc::clone(&made), names.clone());
        threads.push(thread::spawn(move || {
            for name in all.iter().cycle() {
                if told.load(Ordering::Relaxed) {
                    break;
                }
                Command::new(name).arg0("true").status()?;
                count[0].fetch_add(1, Ordering::Relaxed);
                thread::sleep(PROCESS);
            }
            Ok(())
        }));
        if let Some(root) = cgroups() {
            let (told, count, name) = (Arc::clone(&stop), Arc::clone(&made), names[0].clone());
            threads.push(thread::spawn(move || {
                for number in 0_u64.. {
                    if told.load(Ordering::Relaxed) {
                        break;
                    }
                    let name_of_group = format!("soak-{}-{}", std::process::id(), number % GROUPS);
                    let group = root.join(name_of_group);
                    fs::create_dir(&group).with_context(|| format!("{}", group.display()))?;
                    let mut child = Command::new(&name).arg0("sleep").arg("0.02").spawn()?;
                    let moved = fs::write(group.join("cgroup.procs"), child.id().to_string());
                    child.wait()?;
                    // The process is gone, and the kernel knows it a moment later.
                    while fs::remove_dir(&group).is_err() && group.exists() {
                        thread::sleep(Duration::from_millis(5));
                    }
                    moved.context("moving a process into a cgroup")?;
                    count[1].fetch_add(1, Ordering::Relaxed);
                    thread::sleep(CGROUP);
                }
                Ok(())
            }));
        } else {
            println!("SKIPPED: cgroups do not come and go: no cgroup2 file system is mounted");
        }
        Ok(Self { stop, made, threads })
    }

    /// How many processes and cgroups there were.
    fn end(self) -> (u64, u64) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            if let Err(why) = thread.join().expect("no panic") {
                println!("{why:#}");
            }
        }
        let [processes, cgroups] = [0, 1].map(|at| self.made[at].load(Ordering::Relaxed));
        (processes, cgroups)
    }
}

fn cgroups() -> Option<PathBuf> {
    let mounts = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"].map(PathBuf::from);
    mounts.into_iter().find(|mount| mount.join("cgroup.procs").exists())
}

/// What the collector says of itself.
#[derive(Default)]
struct Books {
    lines: u64,
    calls: u64,
    overruns: u64,
    /// By plugin: ticks missed, failures, rows dropped with their cause.
    missed: BTreeMap<String, u64>,
    errors: BTreeMap<String, u64>,
    dropped: BTreeMap<String, u64>,
}

impl Books {
    fn read(stdout: ChildStdout) -> Result<Self> {
        let mut books = Self::default();
        for line in BufReader::new(stdout).lines() {
            let line = line?;
            books.lines += 1;
            if line.starts_with("collector_plugin,") {
                read(format!("{line}\n").as_bytes())?.iter().for_each(|line| books.add(line));
            }
        }
        Ok(books)
    }

    fn add(&mut self, line: &Line) {
        self.calls += line.u64("calls");
        self.overruns += line.u64("overruns");
        let plugin = line.tag("plugin");
        let count = |of: &mut BTreeMap<String, u64>, name: String, key: &str| {
            if line.u64(key) > 0 {
                *of.entry(name).or_default() += line.u64(key);
            }
        };
        count(&mut self.missed, plugin.to_owned(), "ticks_missed");
        count(&mut self.errors, plugin.to_owned(), "errors");
        for cause in ["full", "invalid", "closed", "duplicate", "series"] {
            let name = format!("{plugin} {cause}");
            count(&mut self.dropped, name, &format!("dropped_{cause}"));
        }
    }
}

fn listed(counts: &BTreeMap<String, u64>) -> String {
    let all: Vec<String> = counts.iter().map(|(name, count)| format!("{name} {count}")).collect();
    if all.is_empty() { "none".to_owned() } else { all.join(", ") }
}

fn report(looks: &[Look], seconds: u64, books: &Books, processes: u64, cgroups: u64) -> Result<()> {
    ensure!(looks.len() > 8, "only {} looks", looks.len());
    println!(
        "{seconds} s at 100 ms beside {processes} processes and {cgroups} cgroups: {} calls, {} of them late, {} lines",
        books.calls, books.overruns, books.lines
    );
    println!("ticks missed: {}", listed(&books.missed));
    println!("failures: {}", listed(&books.errors));
    println!("rows dropped: {}", listed(&books.dropped));
    println!(
        "\n| s | resident MiB | private MiB | descriptors | threads | BPF programs | maps | of MiB | links | plugins' \
         processes | of MiB | CPU % |\n|---|---|---|---|---|---|---|---|---|---|---|---|"
    );
    let every = (looks.len() as u64).div_ceil(ROWS).max(1) as usize;
    let mut before = Look::default();
    for look in looks.iter().skip(every - 1).step_by(every) {
        let cpu = (look.cpu_seconds - before.cpu_seconds) / (look.seconds - before.seconds);
        println!(
            "| {:.0} | {:.2} | {:.2} | {} | {} | {} | {} | {:.2} | {} | {} | {:.2} | {:.1} |",
            look.seconds,
            mib(look.resident_kib),
            mib(look.private_kib),
            look.descriptors,
            look.threads,
            look.bpf_programs,
            look.bpf_maps,
            mib(look.bpf_map_kib),
            look.bpf_links,
            look.children,
            mib(look.children_kib),
            cpu * 100.0
        );
        before = *look;
    }
    println!();
    // What is set up at first is no growth: series are kept for an hour, up to `max_series`, and names of functions.
    let settled = &looks[looks.len() / 2..];
    let slope = |of: fn(&Look) -> u64| slope(settled, of) * 3600.0;
    figure("private memory", slope(|look| look.private_kib) / 1024.0, " MiB more an hour", 1.0);
    figure("descriptors", slope(|look| look.descriptors), " more an hour", 1.0);
    figure("threads", slope(|look| look.threads), " more an hour", 1.0);
    figure("BPF maps", slope(|look| look.bpf_maps), " more an hour", 1.0);
    figure("BPF programs", slope(|look| look.bpf_programs), " more an hour", 1.0);
    figure("BPF links", slope(|look| look.bpf_links), " more an hour", 1.0);
    Ok(())
}

fn mib(kib: u64) -> f64 {
    kib as f64 / 1024.0
}

/// By how much something grows in a second: the line through all looks with the least squares.
fn slope(looks: &[Look], of: fn(&Look) -> u64) -> f64 {
    let count = looks.len() as f64;
    let mean = |value: &dyn Fn(&Look) -> f64| looks.iter().map(value).sum::<f64>() / count;
    let (at, amount) = (mean(&|look| look.seconds), mean(&|look| of(look) as f64));
    let both =
        looks.iter().map(|look| (look.seconds - at) * (of(look) as f64 - amount)).sum::<f64>();
    let square = looks.iter().map(|look| (look.seconds - at).powi(2)).sum::<f64>();
    both / square
}
