//! What a healthy plugin notices of a bad one beside it: whether it loses ticks, and how late they begin.

use crate::crossing::build;
use crate::dist;
use crate::start::{HEALTHY, Late, SOURCE, healthy};
use anyhow::{Context, Result, ensure};
use collector::read::{Line, read};
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The healthy plugin's interval, and that of the bad one.
const HEALTHY_MS: u64 = 100;
const BAD_MS: u64 = 10;
const SECONDS: u64 = 20;
const PANICS: u64 = 10_000;
/// As many plugins panic: each of them only every eleventh interval.
const PANICKING: u64 = 20;
const CRASHES: u64 = 1000;
/// Milliseconds by which the start of the healthy plugin's ticks may move (p99).
const BOUND_MS: f64 = 5.0;

/// A fault, and where the bad plugin runs.
struct Fault {
    name: String,
    plugins: Plugins,
    /// Of the bad plugins' sections.
    config: String,
    seconds: u64,
    /// How many failures there have to be.
    at_least: u64,
}

enum Plugins {
    None,
    /// breaks.c with these definitions.
    C(Vec<&'static str>),
    /// This many copies of the plugin `faulty`.
    Rust(u64),
}

/// All faults, or a part of their time: `faults 10` takes a tenth of each.
pub fn run() -> Result<()> {
    let argument = std::env::args().skip_while(|word| word != "faults").nth(1);
    let part: u64 = match argument {
        Some(text) => text.parse().with_context(|| format!("`faults {text}`: which part?"))?,
        None => 1,
    };
    ensure!(part > 0, "a part of 1 or more");
    println!(
        "A plugin every {HEALTHY_MS} ms beside one that fails every {BAD_MS} ms. Its ticks begin so many ms late: p50, p99, \
         max; `more`: p99 beside that of the plugin alone, at most {BOUND_MS} ms. `lost`: ticks that were neither made nor \
         counted; `missed`: counted as missed"
    );
    println!(
        "{:<28} {:>6} {:>6} {:>6} {:>6} {:>5} {:>6} {:>8} {:>8} {:>17}  ",
        "fault",
        "p50",
        "p99",
        "max",
        "more",
        "lost",
        "missed",
        "crashes",
        "failures",
        "resident KiB"
    );
    let mut alone = None;
    let mut kept = true;
    for fault in faults(part) {
        let seen = beside(&fault).with_context(|| fault.name.clone())?;
        let more = seen.p99 - *alone.get_or_insert(seen.p99);
        let well = more <= BOUND_MS && seen.lost == 0 && seen.missed == 0;
        kept &= well && seen.failures >= fault.at_least;
        println!(
            "{:<28} {:>6.2} {:>6.2} {:>6.2} {more:>6.2} {:>5} {:>6} {:>8} {:>8} {:>8} {:>8}  {}",
            fault.name,
            seen.p50,
            seen.p99,
            seen.max,
            seen.lost,
            seen.missed,
            seen.crashes,
            seen.failures,
            seen.resident.0,
            seen.resident.1,
            if seen.failures < fault.at_least {
                "TOO FEW FAILURES"
            } else if well {
                "kept"
            } else {
                "NOT KEPT"
            }
        );
    }
    println!("all of them: {}", if kept { "kept" } else { "NOT KEPT" });
    Ok(())
}

fn faults(part: u64) -> Vec<Fault> {
    let usual = SECONDS.div_ceil(part).max(3);
    let fault = |name: &str, plugins, config: &str| Fault {
        name: name.to_owned(),
        plugins,
        config: config.to_owned(),
        seconds: usual,
        at_least: 1,
    };
    let c = |fault: &'static str, more: &[&'static str]| {
        let mut definitions = vec![fault, "AT=call"];
        definitions.extend(more);
        Plugins::C(definitions)
    };
    let rust = |isolation: &str, fault: &str, at: &str| {
        format!("isolation = \"{isolation}\"\nfault = \"{fault}\"\nat = \"{at}\"\nat_once = true\n")
    };
    let seconds = |failures: u64, at_once: u64| failures.div_ceil(at_once) * 11 * BAD_MS / 1000 + 3;
    let (panics, crashes) = (PANICS / part, CRASHES / part);
    let one = Plugins::Rust;
    vec![
        Fault { at_least: 0, ..fault("none", Plugins::None, "") },
        Fault {
            seconds: seconds(panics, PANICKING),
            at_least: panics,
            ..fault("panics", one(PANICKING), &rust("none", "panic", "call"))
        },
        Fault {
            seconds: seconds(crashes, 1) * 3 / 2, // to start a process takes its time too
            at_least: crashes,
            ..fault("SIGSEGV, process", c("FAULT=segv", &["AFTER=0"]), "")
        },
        fault("abort, process", c("FAULT=abort", &["AFTER=0"]), ""),
        fault("exit(), process", c("FAULT=exit", &["AFTER=0"]), ""),
        fault("stack overflow, process", c("FAULT=stack", &["AFTER=0"]), ""),
        Fault { at_least: 0, ..fault("hang in init", one(1), &rust("none", "hang", "init")) },
        Fault { at_least: 0, ..fault("hang in call", one(1), &rust("none", "hang", "call")) },
        // It comes with the end of the collector only: a panic before has no deinit to hang in.
        Fault { at_least: 0, ..fault("hang in deinit", one(1), &rust("none", "hang", "deinit")) },
        Fault {
            seconds: usual.max(25),
            ..fault("hang in init, process", Plugins::C(vec!["FAULT=sleep", "AT=init"]), "")
        },
        fault("hang in call, process", c("FAULT=sleep", &[]), ""),
        fault("spin in call, process", c("FAULT=spin", &[]), ""),
        fault("hang in deinit, process", Plugins::C(vec!["FAULT=sleep", "AT=deinit", "FAILS"]), ""),
        Fault {
            at_least: 0,
            ..fault("20,000 lines a call", one(1), &rust("none", "lines", "call"))
        },
        fault("lines without end, process", one(1), &rust("process", "flood", "call")),
        fault("prints without end, process", c("FAULT=prints", &[]), ""),
        fault("memory, process", c("FAULT=memory", &["AFTER=0"]), ""),
        fault("16 MiB a call, process", one(1), &rust("process", "memory", "call")),
        Fault { at_least: 0, ..fault("threads, process", c("FAULT=threads", &[]), "") },
        Fault { at_least: 0, ..fault("descriptors, process", c("FAULT=descriptors", &[]), "") },
        Fault { at_least: 0, ..fault("signals, process", c("FAULT=signals", &[]), "") },
        fault("garbage, process", c("FAULT=garbage", &["AFTER=0"]), ""),
        fault("half a message, process", c("FAULT=half", &[]), ""),
        fault("4 GiB message, process", c("FAULT=huge", &["AFTER=0"]), ""),
    ]
}

/// What was seen of the healthy plugin, times in ms, and of the bad ones.
struct Seen {
    p50: f64,
    p99: f64,
    max: f64,
    lost: u64,
    missed: u64,
    crashes: u64,
    failures: u64,
    /// A third of the time after the start, and in the end.
    resident: (u64, u64),
}

fn beside(fault: &Fault) -> Result<Seen> {
    let dir = tempfile::tempdir()?;
    let (plugins, lines) = (dir.path().join("plugins"), dir.path().join("lines"));
    fs::create_dir(&plugins)?;
    build(&plugins, "healthy", SOURCE, &HEALTHY)?;
    let mut config =
        format!("[plugin.healthy]\ninterval = \"{HEALTHY_MS}ms\"\nisolation = \"none\"\n");
    match &fault.plugins {
        Plugins::None => {}
        Plugins::C(definitions) => {
            build(&plugins, "bad", SOURCE, definitions)?;
            config += &format!("[plugin.bad]\n{}", fault.config);
        }
        Plugins::Rust(copies) => {
            for number in 0..*copies {
                let name = copy_of_faulty(&plugins, number)?;
                config += &format!("[plugin.{name}]\n{}", fault.config);
            }
        }
    }
    let file = dir.path().join("c.toml");
    fs::write(&file, config)?;
    let ticks = fault.seconds * 1000 / BAD_MS;
    let status = Command::new(dist()?.join("collector"))
        .args(["--interval", &format!("{BAD_MS}ms"), "--ticks", &ticks.to_string()])
        .args(["--self", "full", "--config"])
        .arg(&file)
        .arg("--plugins")
        .arg(&plugins)
        .arg(format!("--output=file:{}", lines.display()))
        .stderr(Stdio::null())
        .status()?;
    ensure!(matches!(status.code(), Some(0 | 3)), "the collector: {status}");
    seen(&lines)
}

/// A plugin's name is in its file: a copy gets another of the same length.
fn copy_of_faulty(plugins: &Path, number: u64) -> Result<String> {
    const NAME: &[u8] = b"faulty";
    let letter = (b'a' + u8::try_from(number)?) as char;
    let name = format!("fault{letter}");
    let mut bytes = fs::read(example("libfaulty.so")?)?;
    let places: Vec<usize> = memchr(&bytes, NAME);
    ensure!(!places.is_empty(), "the plugin's name is not in its file");
    for at in places {
        bytes[at..at + NAME.len()].copy_from_slice(name.as_bytes());
    }
    fs::write(plugins.join(format!("lib{name}.so")), bytes)?;
    Ok(name)
}

/// Where a text stands.
fn memchr(bytes: &[u8], text: &[u8]) -> Vec<usize> {
    let places = bytes.windows(text.len()).enumerate();
    places.filter(|(_, window)| *window == text).map(|(at, _)| at).collect()
}

/// A plugin that cargo puts beside this program.
fn example(file: &str) -> Result<PathBuf> {
    let path = std::env::current_exe()?.with_file_name("examples").join(file);
    ensure!(path.exists(), "{}: `cargo xtask bench` builds it", path.display());
    Ok(path)
}

/// The lines that tell something. Of those of a bad plugin there may be gigabytes.
fn telling(file: &Path) -> Result<Vec<Line>> {
    let mut text = Vec::new();
    for line in BufReader::new(File::open(file)?).split(b'\n') {
        let line = line?;
        let tells = |table: &&str| line.starts_with(table.as_bytes());
        if ["breaks,", "collector_plugin,", "collector_host,"].iter().any(tells) {
            text.extend(line);
            text.push(b'\n');
        }
    }
    read(&text)
}

fn seen(lines: &Path) -> Result<Seen> {
    let lines = telling(lines)?;
    let interval_ns = i64::try_from(HEALTHY_MS * 1_000_000)?;
    let late = Late::of(&lines, interval_ns)?;
    let healthy = lines.iter().filter(|line| healthy(line));
    let times: Vec<i64> = healthy.map(|line| line.time_ns).collect();
    let about = |line: &&Line, healthy: bool| {
        line.table == "collector_plugin" && (line.tag("plugin") == "healthy") == healthy
    };
    let sum = |healthy: bool, field: &str| -> u64 {
        let lines = lines.iter().filter(|line| about(line, healthy));
        lines.map(|line| line.u64(field)).sum()
    };
    let missed = sum(true, "ticks_missed");
    let slots = (times[times.len() - 1] - times[0]) / interval_ns + 1;
    let rss: Vec<u64> = lines
        .iter()
        .filter(|line| line.table == "collector_host")
        .map(|line| line.u64("rss_bytes") >> 10)
        .collect();
    ensure!(!rss.is_empty(), "no line of collector_host");
    Ok(Seen {
        p50: late.at(0.5),
        p99: late.at(0.99),
        max: late.at(1.0),
        lost: slots.unsigned_abs().saturating_sub(times.len() as u64 + missed),
        missed,
        crashes: sum(false, "lost_calls"),
        failures: sum(false, "errors"),
        resident: (rss[rss.len() / 3], rss[rss.len() - 1]),
    })
}
