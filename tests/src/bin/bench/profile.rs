//! `profile` with everything on: what it takes of a core, idle and beside two compilers, names included; how its
//! memory grows; whether two functions get their shares; and the tool of that name of libbpf-tools beside it.

use crate::footprint::{Collector, Compilers, start};
use crate::{dist, figure, processes};
use anyhow::{Context as _, Result, ensure};
use collector::read::{Line, Value, read};
use libbpf_rs::query::ProgInfoIter;
use std::collections::BTreeMap;
use std::fs;
use std::os::fd::{FromRawFd as _, OwnedFd};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Of each part; the last argument says another number.
const SECONDS: u64 = 60;
/// Memory, after the first minute.
const MINUTES: u64 = 10;
const FLAGS: [&str; 4] = ["--only", "profile", "--interval", "10s"];
const HERTZ: &str = "49";

/// All of it: some 14 minutes.
pub fn run() -> Result<()> {
    let given = std::env::args().next_back().and_then(|word| word.parse().ok());
    let seconds = given.unwrap_or(SECONDS);
    // SAFETY: the call takes a number and gives a descriptor, ours from then on.
    let statistics = unsafe { libbpf_sys::bpf_enable_stats(libbpf_sys::BPF_STATS_RUN_TIME) };
    ensure!(statistics >= 0, "the kernel does not keep BPF statistics (Linux 5.8)");
    // SAFETY: checked above; nobody else has it.
    let statistics = unsafe { OwnedFd::from_raw_fd(statistics) };
    for (what, bound) in [("idle", 0.3), ("two compilers", 1.0)] {
        let load = (what != "idle").then(Compilers::start).transpose()?;
        let ours = start(&FLAGS)?;
        let taken = Taken::over(ours.0.id(), seconds)?;
        println!("profile, {what}: {taken}");
        figure(&format!("profile, {what}"), taken.percent(), " % of a core", bound);
        drop(ours);
        match theirs(seconds)? {
            Some(taken) => println!("libbpf-tools' profile, {what}: {taken}"),
            None => println!("SKIPPED: profile of libbpf-tools does not run here"),
        }
        drop(load);
    }
    drop(statistics);
    shares()?;
    memory(if given.is_some() { seconds.div_ceil(60) } else { MINUTES })
}

/// What a tool's processes and its BPF programs took.
struct Taken {
    seconds: f64,
    process_s: f64,
    programs_s: f64,
    samples: u64,
}

impl Taken {
    fn now(pid: u32) -> Result<Self> {
        let programs = processes::held(pid, "prog_id:");
        let ours = ProgInfoIter::default().filter(|of| programs.contains_key(&of.id.into()));
        let costs: Vec<_> = ours
            .map(|of| (of.name.to_string_lossy().into_owned(), of.run_cnt, of.run_time_ns))
            .collect();
        // The tool's own name of it, and that of its peer.
        let samples = |name: &str| name.starts_with("sample_perf") || name.starts_with("do_perf");
        Ok(Self {
            seconds: 0.0,
            process_s: processes::seconds(pid)?,
            programs_s: costs.iter().map(|(_, _, ns)| *ns as f64 / 1e9).sum(),
            samples: costs.iter().filter(|(name, ..)| samples(name)).map(|(_, n, _)| n).sum(),
        })
    }

    fn over(pid: u32, seconds: u64) -> Result<Self> {
        let (before, began) = (Self::now(pid)?, Instant::now());
        std::thread::sleep(Duration::from_secs(seconds));
        let now = Self::now(pid)?;
        Ok(Self {
            seconds: began.elapsed().as_secs_f64(),
            process_s: now.process_s - before.process_s,
            programs_s: now.programs_s - before.programs_s,
            samples: now.samples - before.samples,
        })
    }

    fn percent(&self) -> f64 {
        100.0 * (self.process_s + self.programs_s) / self.seconds
    }
}

impl std::fmt::Display for Taken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let percent = |seconds: f64| 100.0 * seconds / self.seconds;
        write!(
            f,
            "{:.3} % of a core in its processes, {:.3} % in programs, {} samples of {:.1} us",
            percent(self.process_s),
            percent(self.programs_s),
            self.samples,
            self.programs_s * 1e6 / self.samples.max(1) as f64
        )
    }
}

/// The peer with stacks of both sides, which names and prints them when its time is over: all that it took until
/// it ended.
fn theirs(seconds: u64) -> Result<Option<Taken>> {
    let command = |seconds: u64| {
        let mut command = Command::new("profile");
        command.args(["-F", HERTZ, "-f", &seconds.to_string()]);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command
    };
    let Ok(mut child) = command(seconds).spawn() else { return Ok(None) };
    std::thread::sleep(Duration::from_secs(1));
    if child.try_wait()?.is_some() {
        return Ok(None);
    }
    let (began, mut last) = (Instant::now(), Taken::now(child.id())?);
    while child.try_wait()?.is_none() {
        if let Ok(now) = Taken::now(child.id())
            && now.process_s >= last.process_s
        {
            // Its programs are gone before it is.
            let programs_s = now.programs_s.max(last.programs_s);
            last = Taken { programs_s, samples: now.samples.max(last.samples), ..now };
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(Some(Taken { seconds: began.elapsed().as_secs_f64() + 1.0, ..last }))
}

/// Two functions that take 60 % and 40 % of a thread, some 60 and 40 ms each time, for 10 s at 99 Hz or a little longer.
fn shares() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let program = folder.path().join("spin6040");
    let source = folder.path().join("spin.c");
    fs::write(&source, SPIN)?;
    let mut cc = Command::new("clang");
    cc.args(["-O1", "-fno-omit-frame-pointer", "-o"]).arg(&program).arg(&source);
    ensure!(cc.status().context("clang")?.success(), "clang");
    let config = folder.path().join("collector.toml");
    fs::write(&config, "[plugin.profile]\nfrequency = 99\ncomm = [\"spin6040\"]\nstacks = 100\n")?;
    let _spinner = Collector(Command::new(&program).spawn()?);
    let out = folder.path().join("lines");
    let ours = Command::new(dist()?.join("collector"))
        .arg("--config")
        .arg(&config)
        .args(["--only", "profile", "--interval", "10s"])
        .stdout(fs::File::create(&out)?)
        .stderr(Stdio::null())
        .spawn();
    let ours = Collector(ours?);
    // One whole interval at least, and a part of one.
    std::thread::sleep(Duration::from_secs(21));
    drop(ours);
    let text_of = fs::read(&out)?;
    let whole = text_of.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    let lines = read(&text_of[..whole])?;
    let mut samples: BTreeMap<&str, u64> = BTreeMap::new();
    for line in lines.iter().filter(|line| line.table == "profile_stack") {
        for name in ["sixty", "forty"] {
            if text(line).split(';').any(|frame| frame == name) {
                *samples.entry(name).or_default() += line.u64("samples");
            }
        }
    }
    let of = |name| samples.get(name).copied().unwrap_or(0) as f64;
    ensure!(of("sixty") + of("forty") > 100.0, "too few samples: {samples:?}");
    let share = 100.0 * of("sixty") / (of("sixty") + of("forty"));
    println!("a function of 60 %: {share:.1} % of {} samples", of("sixty") + of("forty"));
    figure("its error", (share - 60.0).abs(), " points", 3.0);
    Ok(())
}

fn text(line: &Line) -> &str {
    match line.get("folded") {
        Some(Value::Text(text)) => text,
        _ => "",
    }
}

const SPIN: &str = r#"
static inline void spin(unsigned long n) { while (n--) __asm__ volatile(""); }
__attribute__((noinline)) void sixty(void) { spin(180000000); }
__attribute__((noinline)) void forty(void) { spin(120000000); }
int main(void) { for (;;) { sixty(); forty(); } }
"#;

/// Resident memory beside two compilers: flat after the first minute.
fn memory(minutes: u64) -> Result<()> {
    let without = start(&["--only", "syswrite", "--interval", "10s"])?;
    let floor = processes::resident_mib(without.0.id())?;
    drop(without);
    let _load = Compilers::start()?;
    let profile = start(&FLAGS)?;
    let mut first = 0.0;
    for minute in 1..=minutes {
        std::thread::sleep(Duration::from_secs(60));
        let now = processes::resident_mib(profile.0.id())?;
        println!(
            "resident memory after {minute} min: {now:.1} MiB, without profile {floor:.1} MiB"
        );
        if minute == 1 {
            first = now;
        }
        if minute == minutes {
            figure("profile's resident memory", now - floor, " MiB", 24.0);
            figure("what it grew after the first minute", now - first, " MiB", 1.0);
        }
    }
    Ok(())
}
