//! What a C plugin's lines cost the host: reading, checking, encoding and freeing them.

use crate::{figure, median};
use anyhow::{Context, Result, anyhow, ensure};
use collector::encode::{Schema, Tags};
use collector::encoder::{Encoder, Room};
use collector::form::Form;
use collector::load;
use collector::read::{Value, read};
use collector::sink::{Limits, Reports, Terms};
use plugin_api::abi::{TICK_TIME, Tick, Val};
use plugin_api::abi_stable::std_types::RStr;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

const ROUNDS: u64 = 301;
const LINES: usize = 2_000;
const TIME: i64 = 1_700_000_000_000_000_000;
const ELAPSED: u64 = 10_000_312_911;

/// Compiles a C plugin of the tests.
pub fn build(dir: &Path, name: &str, source: &str, definitions: &[&str]) -> Result<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("the workspace")?;
    let file = dir.join(format!("lib{name}.so"));
    let status = Command::new("cc")
        .args(["-std=gnu11", "-O2", "-shared", "-fPIC", "-w"])
        .args(definitions.iter().map(|definition| format!("-D{definition}")))
        .arg("-I")
        .arg(root.join("plugin-api/include"))
        .arg(root.join(source))
        .arg("-o")
        .arg(&file)
        .status()
        .context("cc, which also links Rust programs")?;
    ensure!(status.success(), "{source} cannot be compiled");
    Ok(file)
}

/// 2,000 lines of 3 indexes and 4 values; what the plugin itself takes to make them is subtracted.
pub fn run() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let file = build(dir.path(), "crossing", "tests/src/bin/bench/crossing.c", &[])?;
    let plugin = load::load_here(&file).map_err(|why| anyhow!("{why}"))?;
    let terms = Terms {
        plugin: "crossing".to_owned(),
        tables: plugin.tables(),
        forms: vec![Form::default()],
        reports: Reports::Off,
        tags: Tags::new(),
        uint: false,
        limits: Limits::DEFAULT,
        log: |_, _, _| {},
    };
    let mut instance = plugin.instance(terms, "{}".to_owned(), Duration::from_secs(10));
    instance.start().map_err(|why| anyhow!("{why}"))?;
    let mut times = Vec::new();
    for seq in 0..ROUNDS {
        let time_ns = TIME + seq as i64 * 10_000_000_000;
        let begin = Instant::now();
        let called = instance.call(&Tick { seq, time_ns, elapsed_ns: ELAPSED });
        let ns = begin.elapsed().as_nanos() as f64;
        called.result.map_err(|why| anyhow!("{why}"))?;
        let lines = called.closed.into_only();
        let last = lines.split_inclusive(|byte| *byte == b'\n').next_back().context("lines")?;
        let last = read(last)?;
        let Some(Value::F64(own)) = last[0].get("ns") else { anyhow::bail!("{last:?}") };
        times.push((ns - own) / (LINES + 1) as f64);
    }
    let whole = median(times);
    let encoding = encoding()?;
    println!("ns per line of a C plugin, from its memory to line protocol: {whole:.0} ns");
    println!("of which the encoder: {encoding:.0} ns");
    figure("ns per line for crossing: read, checked and freed", whole - encoding, " ns", 200.0);
    Ok(())
}

/// The same lines pushed into the encoder.
fn encoding() -> Result<f64> {
    let mut encoder = Encoder::new(&[Form::default()]);
    let (tags, fields) = (["comm", "dc", "host"], ["count", "sum_us", "max_us", "mean_us"]);
    let schema = Schema::new("runqlat_comm", &tags, &fields, &Tags::new(), false)?;
    let schema = encoder.add("runqlat_comm", schema);
    let names: Vec<String> = (0..LINES).map(|n| format!("kworker/u8:{n}")).collect();
    let mut times = Vec::new();
    for round in 0..ROUNDS {
        let time_ns = TIME + round as i64 * 10_000_000_000;
        let begin = Instant::now();
        encoder.begin(Tick { seq: round, time_ns, elapsed_ns: ELAPSED }, begin);
        for (n, name) in names.iter().enumerate() {
            let n = n as f64;
            let row = [Val::F64(n), Val::F64(n * 731.0), Val::F64(n * 17.0), Val::F64(n * 0.37)];
            let tags = [name, "fra1", "box-0417"].map(RStr::from_str);
            encoder.push(schema, &tags, &row, TICK_TIME, ELAPSED, Room::ANY)?;
        }
        times.push(begin.elapsed().as_nanos() as f64 / LINES as f64);
        black_box(encoder.take());
    }
    Ok(median(times))
}
