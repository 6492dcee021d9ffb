//! How late ticks begin at one second with all tools, idle and on a busy machine.

use crate::crossing::build;
use crate::footprint::Compilers;
use crate::{dist, figure};
use anyhow::{Context, Result, ensure};
use collector::read::{Line, Value, read};
use std::fs;
use std::process::{Command, Stdio};

/// Ticks of a second.
const TICKS: usize = 90;
/// Plugins that say when they are called; their threads are woken with those of the tools.
const PROBES: usize = 4;
const BOUND_MS: f64 = 5.0;

/// What breaks.c is compiled with so that it breaks nothing.
pub const HEALTHY: [&str; 2] = ["FAULT=none", "AT=call"];
/// That source.
pub const SOURCE: &str = "collector/tests/host/c/breaks.c";

/// How many milliseconds behind their ticks calls began.
pub struct Late(Vec<f64>);

impl Late {
    /// Of healthy plugins made of breaks.c. The tick of the collector's end lies on no grid.
    pub fn of(lines: &[Line], interval_ns: i64) -> Result<Self> {
        let on_grid = |line: &&Line| healthy(line) && line.time_ns % interval_ns == 0;
        let late = |line: &Line| match line.get("now_us") {
            Some(Value::F64(now)) => Some((now - line.time_ns as f64 / 1e3) / 1e3),
            _ => None,
        };
        let mut late: Vec<f64> = lines.iter().filter(on_grid).filter_map(late).collect();
        ensure!(late.len() > 10, "{} lines of healthy plugins", late.len());
        late.sort_by(f64::total_cmp);
        Ok(Self(late))
    }

    /// The largest one of a part of them.
    pub fn at(&self, part: f64) -> f64 {
        self.0[((self.0.len() - 1) as f64 * part) as usize]
    }
}

/// Whether a line is of a plugin that was compiled as [`HEALTHY`].
pub fn healthy(line: &Line) -> bool {
    line.table == "breaks" && line.tag("fault") == "none"
}

/// Idle, and while two compilers run.
pub fn run() -> Result<()> {
    for load in ["idle", "two compilers"] {
        let compilers = (load != "idle").then(Compilers::start).transpose()?;
        let (late, missed) = ticks().context(load)?;
        drop(compilers);
        let [p50, p99, max] = [0.5, 0.99, 1.0].map(|part| late.at(part));
        println!(
            "{load}: {} ticks of {PROBES} plugins beside all tools begin late by {p50:.2} / {p99:.2} / {max:.2} ms: p50 / \
             p99 / max; {missed} missed",
            late.0.len()
        );
        figure(&format!("{load}: start of a tick, p99"), p99, " ms", BOUND_MS);
    }
    Ok(())
}

/// What the probes say, and how many ticks all plugins have missed.
fn ticks() -> Result<(Late, u64)> {
    let dir = tempfile::tempdir()?;
    let (plugins, lines) = (dir.path().join("plugins"), dir.path().join("lines"));
    fs::create_dir(&plugins)?;
    for file in fs::read_dir(dist()?.join("plugins"))? {
        let file = file?;
        fs::copy(file.path(), plugins.join(file.file_name()))?;
    }
    let mut config = String::new();
    for number in 0..PROBES {
        let name = format!("probe{number}");
        build(&plugins, &name, SOURCE, &HEALTHY)?;
        config += &format!("[plugin.{name}]\nisolation = \"none\"\n");
    }
    let file = dir.path().join("c.toml");
    fs::write(&file, config)?;
    let status = Command::new(dist()?.join("collector"))
        .args(["--interval", "1s", "--ticks", &TICKS.to_string(), "--self", "full", "--config"])
        .arg(&file)
        .arg("--plugins")
        .arg(&plugins)
        .arg(format!("--output=file:{}", lines.display()))
        .stderr(Stdio::null())
        .status()?;
    ensure!(matches!(status.code(), Some(0 | 3)), "the collector: {status}");
    let lines = read(&fs::read(&lines)?)?;
    let about = lines.iter().filter(|line| line.table == "collector_plugin");
    let missed = about.map(|line| line.u64("ticks_missed")).sum();
    Ok((Late::of(&lines, 1_000_000_000)?, missed))
}
