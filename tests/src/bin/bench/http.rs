//! What the page and the metrics cost: without `--http`, with it while nobody asks, and while both are asked for once a
//! second.

use crate::{dist, figure, median};
use anyhow::{Context as _, Result};
use std::fs;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};
use system_tests::http;
use system_tests::port::Port;

const SECONDS: u64 = 30;

/// A collector with all tools at 1 s.
struct Collector(Child);

impl Drop for Collector {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What it takes.
#[derive(Clone, Copy, Debug)]
struct Seen {
    resident_mib: f64,
    /// Share of one core of the threads that take lines in and that answer.
    cpu: f64,
}

impl Collector {
    fn start(arguments: &[&str]) -> Result<Self> {
        let mut command = Command::new(dist()?.join("collector"));
        command.args(["--interval", "1s", "--log", "error"]).args(arguments);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn()?;
        thread::sleep(Duration::from_secs(15)); // tools attach
        Ok(Self(child))
    }

    /// Processor time of the threads of that name, in seconds.
    fn used(&self, name: &str) -> Result<f64> {
        let mut sum = 0.0;
        for task in fs::read_dir(format!("/proc/{}/task", self.0.id()))? {
            let task = task?.path();
            if fs::read_to_string(task.join("comm"))?.trim_end() == name {
                let text = fs::read_to_string(task.join("schedstat"))?;
                sum += text.split_whitespace().next().context("schedstat")?.parse::<f64>()? / 1e9;
            }
        }
        Ok(sum)
    }

    /// Over some seconds, in each of which something is done.
    fn observe(&self, mut each: impl FnMut() -> Result<()>) -> Result<Seen> {
        let used =
            || Ok::<_, anyhow::Error>(self.used("collector/out")? + self.used("collector/http")?);
        let before = used()?;
        let began = Instant::now();
        for second in 1..=SECONDS {
            each()?;
            thread::sleep(Duration::from_secs(second).saturating_sub(began.elapsed()));
        }
        let cpu = (used()? - before) / began.elapsed().as_secs_f64();
        let status = fs::read_to_string(format!("/proc/{}/status", self.0.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("VmRSS")?;
        let kib: f64 = line.trim().trim_end_matches(" kB").parse()?;
        Ok(Seen { resident_mib: kib / 1024.0, cpu })
    }
}

/// All tools at 1 s.
pub fn run() -> Result<()> {
    let without = Collector::start(&["--output", "stdout"])?.observe(|| Ok(()))?;
    println!("without --http: {without:?}");
    let port = Port::reserve();
    let address = port.address().to_string();
    let collector = Collector::start(&["--output", "stdout", "--http", &address])?;
    let closed = collector.observe(|| Ok(()))?;
    println!("with it, and nobody asks: {closed:?}");
    let url = |path: &str| format!("http://{address}{path}");
    let tables: serde_json::Value =
        serde_json::from_str(&http::get(&url("/api/tables"), &[])?.body)?;
    let tables = tables["tables"].as_array().context("tables")?;
    println!("{} tables", tables.len());
    let (mut scrapes, mut bytes) = (Vec::new(), 0);
    let mut at = 0;
    let open = collector.observe(|| {
        let began = Instant::now();
        bytes = http::get(&url("/metrics"), &[])?.body.len();
        scrapes.push(began.elapsed().as_secs_f64() * 1e3);
        // What the page asks for: one table at a time, of which it has the past already.
        let table = tables[at / 5 % tables.len()]["name"].as_str().context("a name")?;
        let shown = tables[at / 5 % tables.len()]["time_ns"].as_i64().context("a time")?;
        let since = if at % 5 == 0 { 0 } else { shown + at as i64 * 1_000_000_000 };
        http::get(&url("/api/series"), &[("table", table), ("since", &since.to_string())])?;
        if at % 5 == 0 {
            http::get(&url("/api/tables"), &[])?;
        }
        at += 1;
        Ok(())
    })?;
    println!("page and metrics at 1 s: {open:?}, {} KiB a scrape", bytes / 1024);
    figure("a scrape of all tools, with the connection", median(scrapes), " ms", 2.0);
    figure("page and metrics at 1 s, CPU of one core", (open.cpu - without.cpu) * 100.0, " %", 0.3);
    figure(
        "page and metrics at 1 s, memory",
        open.resident_mib - without.resident_mib,
        " MiB",
        8.0,
    );
    Ok(())
}
