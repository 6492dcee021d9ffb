//! One run: the collector makes lines, and something takes them.

use crate::cpu;
use anyhow::{Context, Result, ensure};
use std::fs;
use std::thread;
use std::time::{Duration, Instant};
use system_tests::running::{Books, Home, Running};

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
/// says how many by now. Nothing is lost: the queue holds all of them. Making the lines counts as well.
///
/// # Errors
/// The books say otherwise, or it takes too long.
pub fn forward(
    home: &Home,
    load: Load,
    output: &str,
    arrived: impl FnMut() -> Result<u64>,
) -> Result<(Cost, Books)> {
    let collector = start(home, load, output);
    let rate = watch(load.lines, arrived).with_context(|| collector.said())?;
    let cpu = cpu::seconds(collector.pid())? / millions(load.lines);
    Ok((Cost { rate, cpu }, end(collector, load)?))
}

/// The same, but all lines are made before `server` starts the server that they wait for: what is measured
/// is delivery alone.
///
/// # Errors
/// As [`forward`].
pub fn forward_made<S>(
    home: &Home,
    load: Load,
    output: &str,
    server: impl FnOnce() -> S,
    arrived: impl Fn(&S) -> Result<u64>,
) -> Result<(Cost, S)> {
    let mut collector = start(home, load, output);
    collector.wait_until("all lines to be made", |_| made(home).is_ok_and(|n| n == load.lines));
    let before = cpu::seconds(collector.pid())?;
    let server = server();
    let rate = watch(load.lines, || arrived(&server)).with_context(|| collector.said())?;
    let cpu = (cpu::seconds(collector.pid())? - before) / millions(load.lines);
    end(collector, load)?;
    Ok((Cost { rate, cpu }, server))
}

fn start(home: &Home, Load { lines, per_tick }: Load, output: &str) -> Running {
    // The shortest interval; the collector's words about itself come at the end alone.
    home.start(&format!(
        "interval = \"1d\"\n\
         [plugin.stream]\ninterval = \"10ms\"\nmax_lines = {lines}\nmax_bytes = {most}\n\
         lines = {per_tick}\ntotal = {lines}\nseries = 1000\nrun = \"bench\"\nprogress = \"{progress}\"\n\
         [[output]]\nqueue_bytes = {most}\n{output}\n",
        most = 1 << 30,
        progress = progress(home),
    ))
}

fn end(collector: Running, load: Load) -> Result<Books> {
    collector.terminate();
    let ended = collector.end();
    let books = ended.only_books();
    let whole = books.delivered == books.produced && books.produced >= load.lines;
    ensure!(whole, "not everything was delivered: {books:?}\n{}", ended.stderr);
    Ok(books)
}

/// The file in which the plugin says how many lines it has made.
pub fn progress(home: &Home) -> String {
    home.path("progress").display().to_string()
}

/// How many lines were made by now.
pub fn made(home: &Home) -> Result<u64> {
    let text = fs::read_to_string(progress(home)).unwrap_or_default();
    Ok(if text.is_empty() { 0 } else { text.parse()? })
}

/// Waits until so many lines have arrived; lines per second meanwhile. A server may refresh its counter once
/// in a second only. So what counts is when the counter changed, and not the last change: by then all may
/// have arrived long before.
pub fn watch(lines: u64, mut arrived: impl FnMut() -> Result<u64>) -> Result<f64> {
    let begin = Instant::now();
    let mut changes: Vec<(u64, Instant)> = Vec::new();
    loop {
        let (count, now) = (arrived()?, Instant::now());
        if count >= lines {
            break;
        }
        if count > changes.last().map_or(0, |(before, _)| *before) {
            changes.push((count, now));
        }
        ensure!(begin.elapsed() < LIMIT, "{count} of {lines} lines arrived within {LIMIT:?}");
        thread::sleep(GLANCE);
    }
    let [(first, since), .., (last, until)] = changes[..] else {
        anyhow::bail!("{lines} lines are too few to measure: {changes:?}");
    };
    Ok((last - first) as f64 / (until - since).as_secs_f64())
}

pub fn millions(lines: u64) -> f64 {
    lines as f64 / 1e6
}
