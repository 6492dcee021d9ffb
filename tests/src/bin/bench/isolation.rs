//! What a process of its own costs a plugin.

use crate::{dist, figure, median, processes};
use anyhow::{Result, ensure};
use collector::read::{Line, read};
use std::fs;
use std::io::{Read, Write, pipe};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};
use system_tests::family::family;

/// Tools whose costs are compared, one with few lines and one with many.
const TOOLS: [&str; 2] = ["bootstrap", "runqlat"];
const SECONDS: u64 = 20;
/// Pairs of runs, one in the collector's process and one in another.
const PAIRS: usize = 3;

pub fn run() -> Result<()> {
    let ((asked, ask), (answers, answer)) = (pipe()?, pipe()?);
    let pipes = there_and_back((ask, answers), (asked, answer))?;
    let (here, there) = UnixStream::pair()?;
    let sockets = there_and_back((&here, &here), (there.try_clone()?, there))?;
    drop(here); // and with it the thread at the other end
    println!(
        "a byte to a thread that sleeps, and back: {pipes:.0} us by pipes, {sockets:.0} us by sockets"
    );
    TOOLS.into_iter().try_for_each(cost)
}

/// What no call of another process can be below: it wakes somebody who sleeps, and is woken.
fn there_and_back(
    (mut ask, mut answers): (impl Write, impl Read),
    (mut asked, mut answer): (impl Read + Send + 'static, impl Write + Send + 'static),
) -> Result<f64> {
    let echo = thread::spawn(move || {
        let mut byte = [0];
        while asked.read_exact(&mut byte).and_then(|()| answer.write_all(&byte)).is_ok() {}
    });
    let mut times = Vec::new();
    for _ in 0..100 {
        thread::sleep(Duration::from_millis(50));
        let begin = Instant::now();
        ask.write_all(&[0])?;
        answers.read_exact(&mut [0])?;
        times.push(begin.elapsed().as_nanos() as f64 / 1e3);
    }
    drop((ask, answers, echo)); // the thread ends with the other end
    Ok(median(times))
}

/// A collector with its plugins' processes; it ends with the benchmark.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What one run took.
#[derive(Clone, Copy, Default)]
struct Cost {
    /// Of a call, as the collector measures it.
    call_us: f64,
    /// Of both processes, by tick.
    cpu_us: f64,
    /// Of both processes: what is theirs, and their shares of what is not.
    pss_kib: f64,
    /// Of the plugin's process alone: what nobody shares.
    private_kib: f64,
}

fn cost(tool: &str) -> Result<()> {
    let mut more: [Vec<f64>; 4] = Default::default();
    let mut each = [Cost::default(); 2];
    for pair in 0..PAIRS {
        for at in [pair % 2, (pair + 1) % 2] {
            each[at] = measure(tool, ["none", "process"][at])?;
        }
        let [none, process] = each;
        more[0].push(process.call_us - none.call_us);
        more[1].push(process.cpu_us - none.cpu_us);
        more[2].push(process.pss_kib - none.pss_kib);
        more[3].push(process.private_kib);
    }
    let [none, process] = each;
    println!(
        "{tool}, the last pair: a call {:.0} us here and {:.0} us there, CPU by tick {:.0} us and {:.0} us, {:.0} KiB \
         and {:.0} KiB of memory",
        none.call_us, process.call_us, none.cpu_us, process.cpu_us, none.pss_kib, process.pss_kib
    );
    let [call, cpu, pss, private] = more.map(median);
    figure(&format!("{tool}: a call in a process of its own"), call, " us more", 60.0);
    println!("{tool}: CPU by tick: {cpu:.0} us more");
    println!("{tool}: private memory of its process, the plugin's own in it: {private:.0} KiB");
    figure(&format!("{tool}: memory"), pss / 1024.0, " MiB more", 2.5);
    Ok(())
}

fn measure(tool: &str, isolation: &str) -> Result<Cost> {
    const INTERVAL_MS: u64 = 100;
    let dir = tempfile::tempdir()?;
    let (config, lines) = (dir.path().join("c.toml"), dir.path().join("lines"));
    fs::write(&config, format!("[plugin.{tool}]\nisolation = \"{isolation}\"\n"))?;
    let child = Command::new(dist()?.join("collector"))
        .args(["--only", tool, "--interval", &format!("{INTERVAL_MS}ms"), "--self", "full"])
        .arg("--config")
        .arg(&config)
        .arg(format!("--output=file:{}", lines.display()))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let mut running = Running(child);
    thread::sleep(Duration::from_secs(3)); // loading is not running
    let host = running.0.id();
    let all = family(host);
    ensure!(all.len() == 1 + usize::from(isolation == "process"), "{tool}: processes {all:?}");
    let cpu = || processes::seconds(host);
    let before = cpu()?;
    thread::sleep(Duration::from_secs(SECONDS));
    let ticks = (SECONDS * 1000 / INTERVAL_MS) as f64;
    let cpu_us = (cpu()? - before) * 1e6 / ticks;
    let pss = all.iter().map(|pid| processes::memory(*pid, &["Pss:"]));
    let pss_kib = pss.sum::<Result<f64>>()?;
    let private_kib = match &*all {
        [_, child] => processes::memory(*child, &["Private_Clean:", "Private_Dirty:"])?,
        _ => 0.0,
    };
    ensure!(running.0.try_wait()?.is_none(), "the collector ended by itself");
    drop(running);
    let text = fs::read(&lines)?;
    let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    let about = |line: &Line| line.table == "collector_plugin" && line.tag("plugin") == tool;
    let calls: Vec<f64> = read(&text[..whole])?
        .iter()
        .filter(|line| about(line) && line.u64("calls") == 1)
        .map(|line| line.u64("call_ns") as f64 / 1e3)
        .collect();
    ensure!(calls.len() > 50, "{tool}: {} calls", calls.len());
    Ok(Cost { call_us: median(calls), cpu_us, pss_kib, private_kib })
}
