//! One run: the collector makes lines, and something takes them.

use crate::cpu;
use anyhow::{Context, Result, ensure};
use std::thread;
use std::time::{Duration, Instant};
use system_tests::running::{Books, Home};

/// Longer than any run on a slow machine.
const LIMIT: Duration = Duration::from_secs(120);
/// Much less than any run.
const GLANCE: Duration = Duration::from_millis(20);

/// How many lines, and how many of them per tick: those are one batch.
#[derive(Clone, Copy)]
pub struct Load {
    pub lines: u64,
    pub per_tick: u64,
}

/// What forwarding takes.
#[derive(Clone, Copy)]
pub struct Cost {
    /// Lines per second, from the first to the last that arrived.
    pub rate: f64,
    /// Seconds of CPU per million lines.
    pub cpu: f64,
}

/// Runs the collector, whose plugin makes lines as fast as it can, until all of them have `arrived`, which
/// says how many by now. Nothing is lost: the queue holds all of them.
///
/// # Errors
/// The books say otherwise, or it takes too long.
pub fn forward(
    home: &Home,
    load: Load,
    output: &str,
    arrived: impl FnMut() -> Result<u64>,
) -> Result<(Cost, Books)> {
    let Load { lines, per_tick } = load;
    // The shortest interval; the collector's words about itself come at the end alone.
    let collector = home.start(&format!(
        "interval = \"1d\"\n\
         [plugin.stream]\ninterval = \"10ms\"\nmax_lines = {lines}\nmax_bytes = {most}\n\
         lines = {per_tick}\ntotal = {lines}\nseries = 1000\nrun = \"bench\"\nprogress = \"{progress}\"\n\
         [[output]]\nqueue_bytes = {most}\n{output}\n",
        most = 1 << 30,
        progress = progress(home),
    ));
    let rate = watch(lines, arrived).with_context(|| collector.said())?;
    let cpu = cpu::seconds(collector.pid())? / millions(lines);
    collector.terminate();
    let ended = collector.end();
    let books = ended.only_books();
    let whole = books.delivered == books.produced && books.produced >= lines;
    ensure!(whole, "not everything was delivered: {books:?}\n{}", ended.stderr);
    Ok((Cost { rate, cpu }, books))
}

/// The file in which the plugin says how many lines it has made.
pub fn progress(home: &Home) -> String {
    home.path("progress").display().to_string()
}

/// Waits until so many lines have arrived; lines per second from the first ones on.
pub fn watch(lines: u64, mut arrived: impl FnMut() -> Result<u64>) -> Result<f64> {
    let begin = Instant::now();
    let mut first = None;
    loop {
        let (count, now) = (arrived()?, Instant::now());
        if count > 0 {
            let (before, since) = *first.get_or_insert((count, now));
            if count >= lines {
                return Ok((count - before) as f64 / (now - since).as_secs_f64());
            }
        }
        ensure!(begin.elapsed() < LIMIT, "{count} of {lines} lines arrived within {LIMIT:?}");
        thread::sleep(GLANCE);
    }
}

pub fn millions(lines: u64) -> f64 {
    lines as f64 / 1e6
}
