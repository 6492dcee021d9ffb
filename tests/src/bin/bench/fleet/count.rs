//! What databases have of the ticks that were made, sample by sample.

use super::lines::Lines;
use super::player::Stage;
use anyhow::{Context, Result, ensure};
use collector::read::{Value, read};
use std::collections::BTreeMap;
use system_tests::http;
use system_tests::servers::Victoria;

/// Hosts of one query.
const HOSTS: u64 = 10;

/// Made and found.
#[derive(Clone, Debug, Default)]
pub struct Counted {
    /// Ticks of hosts.
    pub ticks: u64,
    pub samples: u64,
    pub lost: u64,
    /// Ticks of hosts of which something is lost.
    pub touched: u64,
    /// Hosts whose last tick is not whole.
    pub ends: u64,
    /// Hosts of which something is lost, by tick.
    pub by_tick: BTreeMap<u64, u64>,
}

/// What is lost of what was made. With several databases it is enough if one of them has it.
///
/// # Errors
/// A database has what nobody made.
pub fn count(
    stage: &Stage,
    lines: &Lines,
    databases: &[&Victoria],
    relabelled: bool,
) -> Result<Counted> {
    let (plan, made) = (stage.plan, stage.made()?);
    let mut counted = Counted::default();
    for first in (0..plan.hosts).step_by(HOSTS as usize) {
        let mut found = BTreeMap::<(String, i64), u64>::new();
        for database in databases {
            for (key, samples) in ask(database, stage, first / HOSTS)? {
                let most = found.entry(key).or_default();
                *most = samples.max(*most);
            }
        }
        for number in first..(first + HOSTS).min(plan.hosts) {
            let host = lines.host(number);
            let mut last_is_whole = true;
            let wanted = lines.kept(&host, 0..plan.ticks, relabelled);
            for (tick, wanted) in wanted.into_iter().enumerate() {
                let is_made = made[(number * plan.ticks) as usize + tick] != 0;
                let time_ms = plan.time_ms(tick as u64);
                let wanted = if is_made { wanted } else { 0 };
                let found = found.remove(&(host.name.clone(), time_ms)).unwrap_or(0);
                ensure!(
                    found <= wanted,
                    "{found} samples of {} at {time_ms}, and {wanted} were made",
                    host.name
                );
                counted.ticks += u64::from(is_made);
                counted.samples += wanted;
                counted.lost += wanted - found;
                if found < wanted {
                    counted.touched += 1;
                    *counted.by_tick.entry(tick as u64).or_default() += 1;
                }
                if is_made {
                    last_is_whole = found == wanted;
                }
            }
            counted.ends += u64::from(!last_is_whole);
        }
    }
    Ok(counted)
}

/// Samples by host and tick, each once, of those hosts whose number begins so.
fn ask(database: &Victoria, stage: &Stage, tens: u64) -> Result<BTreeMap<(String, i64), u64>> {
    let plan = stage.plan;
    let query = format!(
        "sum(count_over_time({{host=~\"h{tens:03}[0-9]\"}}[{}ms])) by (host)",
        plan.interval_ms
    );
    let range = (plan.begin_ms, plan.time_ms(plan.ticks - 1), plan.interval_ms);
    let mut found = BTreeMap::new();
    for (labels, points) in database.query_range(&query, range) {
        let host = labels.get("host").context("a host")?;
        found.extend(points.iter().map(|(time_ms, n)| ((host.clone(), *time_ms), *n as u64)));
    }
    Ok(found)
}

/// Makes what came searchable.
pub fn flush(database: &Victoria) -> Result<()> {
    http::get(&(database.server.url() + "/internal/force_flush"), &[])?;
    Ok(())
}

/// Compares all samples of a host, names, labels, times and values, with what it has sent. VictoriaMetrics keeps 12 digits
/// of a value. Returns how many.
///
/// # Errors
/// One is another.
pub fn compare(
    stage: &Stage,
    lines: &Lines,
    database: &Victoria,
    number: u64,
    relabelled: bool,
) -> Result<usize> {
    let (plan, made) = (stage.plan, stage.made()?);
    let mut host = lines.host(number);
    let mut wanted = BTreeMap::new();
    for tick in 0..plan.ticks {
        let at = lines.play(&mut host, tick);
        if made[(number * plan.ticks + tick) as usize] == 0 {
            continue;
        }
        let time_ms = plan.time_ms(tick);
        for text in lines.texts(&host, at, time_ms * 1_000_000) {
            for line in read(&text.bytes)? {
                for (field, value) in &line.fields {
                    if !relabelled || field != "interval_ns" {
                        let name = format!("{}_{field}", line.table);
                        wanted.insert((name, line.tags.clone(), time_ms), number_of(value));
                    }
                }
            }
        }
    }
    let mut found = BTreeMap::new();
    for (name, samples) in database.samples(&format!("{{host=\"{}\"}}", host.name)) {
        for sample in samples {
            let tags = BTreeMap::clone(&sample.tags);
            found.insert((name.clone(), tags, sample.time_ms), sample.value);
        }
    }
    ensure!(wanted.len() == found.len(), "{} samples, and {} sent", found.len(), wanted.len());
    for (key, wanted) in &wanted {
        let found = found.get(key).with_context(|| format!("{key:?} is not there"))?;
        ensure!((found - wanted).abs() <= wanted.abs() * 1e-11, "{key:?}: {found} for {wanted}");
    }
    Ok(found.len())
}

/// As VictoriaMetrics reads it: a text is 0.
fn number_of(value: &Value) -> f64 {
    match value {
        Value::I64(n) => *n as f64,
        Value::U64(n) => *n as f64,
        Value::F64(n) => *n,
        Value::Bool(flag) => f64::from(u8::from(*flag)),
        Value::Text(_) => 0.0,
    }
}
