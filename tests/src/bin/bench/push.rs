//! A C plugin whose threads send at full speed, for a minute, started again every few seconds: every line that was sent is
//! there or was counted. `cargo xtask bench push [SECONDS]`.

use crate::crossing::build;
use crate::dist;
use anyhow::{Context, Result, ensure};
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

const SECONDS: u64 = 60;

pub fn run() -> Result<()> {
    let seconds = std::env::args().skip_while(|word| word != "push").nth(1);
    let seconds = seconds.map_or(Ok(SECONDS), |word| word.parse()).context("push SECONDS")?;
    for (what, definitions) in [
        ("within bounds", &["PAUSE_US=2000"][..]),
        ("at full speed", &[]),
        ("at full speed, started again every 8 s", &["FAILS_EVERY=4"]),
    ] {
        one(what, definitions, seconds)?;
    }
    Ok(())
}

fn one(what: &str, definitions: &[&str], seconds: u64) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let at = |name: &str| dir.path().join(name);
    fs::create_dir(at("plugins"))?;
    build(&at("plugins"), "push", "collector/tests/host/c/push.c", definitions)?;
    let status = Command::new(dist()?.join("collector"))
        .args(["--interval", "1s", "--self", "full", "--ticks", &seconds.to_string(), "--plugins"])
        .arg(at("plugins"))
        .arg(format!("--output=file:{}", at("lines").display()))
        .env("COUNTS", at("counts"))
        .stderr(Stdio::null())
        .status()?;
    ensure!(matches!(status.code(), Some(0 | 3)), "{what}: {status}");
    let counts = fs::read_to_string(at("counts"))?;
    let counts: Vec<u64> = counts.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
    let [taken, full, stopped, other] = counts[..] else { anyhow::bail!("{counts:?}") };
    let (there, [dropped_full, dropped_closed, errors, rss]) = read(&at("lines"))?;
    println!(
        "{what}: {} lines sent in {seconds} s, {there} there, {dropped_full} over the bounds, {dropped_closed} at an \
         end; {errors} failed calls; {} MiB resident",
        taken + full + stopped,
        rss >> 20
    );
    ensure!(other == 0 && dropped_full == full, "{what}: {full} refused, {dropped_full} counted");
    ensure!(
        there + dropped_closed == taken + stopped,
        "{what}: {taken} taken and {stopped} refused, {there} there and {dropped_closed} counted"
    );
    Ok(())
}

/// Lines of the plugin, and sums of its counters and the last memory.
fn read(path: &Path) -> Result<(u64, [u64; 4])> {
    let (mut there, mut sums) = (0, [0; 4]);
    for line in BufReader::new(File::open(path)?).lines() {
        let line = line?;
        if line.starts_with("pushed,") {
            there += 1;
            continue;
        }
        let field = |key: &str| -> Option<u64> {
            let (_, rest) = line.split_once(&format!("{key}="))?;
            rest.split(['i', 'u', ',', ' ']).next()?.parse().ok()
        };
        if line.starts_with("collector_plugin,") && line.contains(",plugin=push ") {
            for (sum, key) in sums.iter_mut().zip(["dropped_full", "dropped_closed", "errors"]) {
                *sum += field(key).unwrap_or(0);
            }
        } else if line.starts_with("collector_host") {
            sums[3] = field("rss_bytes").unwrap_or(0);
        }
    }
    Ok((there, sums))
}
