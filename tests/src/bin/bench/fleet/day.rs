//! What a day of a host takes on the database's disk.

use super::lines::Lines;
use super::record::INTERVAL;
use super::steady::{metrics, settle};
use anyhow::{Context, Result, ensure};
use std::fs;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};
use system_tests::servers::{Victoria, Vmagent, sum};
use system_tests::{http, wait};

const HOSTS: u64 = 1;
/// Ticks of one request.
const AT_ONCE: u64 = 40;

/// Bytes of all files below a folder.
fn bytes(folder: &Path) -> Result<u64> {
    let mut sum = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let meta = entry.metadata()?;
        sum += if meta.is_dir() { bytes(&entry.path())? } else { meta.len() };
    }
    Ok(sum)
}

/// Writes yesterday's lines of some hosts, as fast as it goes.
pub fn run(lines: &Lines) -> Result<()> {
    let victoria = Victoria::of_a_fleet();
    let mut agents = [Vmagent::of_a_fleet(&[victoria.server.url()])];
    let url = agents[0].server.url() + "/write";
    let interval = INTERVAL.as_secs();
    let day = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs() / 86_400 - 1;
    let (ticks, mut wanted) = (86_400 / interval, 0);
    let mut hosts: Vec<_> = (0..HOSTS).map(|number| lines.host(number)).collect();
    for first in (0..ticks).step_by(AT_ONCE as usize) {
        for host in &mut hosts {
            let mut body = Vec::new();
            for tick in first..(first + AT_ONCE).min(ticks) {
                let at = lines.play(host, tick);
                let time_ns = ((day * 86_400 + tick * interval) * 1_000_000_000) as i64;
                wanted += lines.ticks()[at].kept;
                lines.texts(host, at, time_ns).iter().for_each(|text| body.extend(&text.bytes));
            }
            let answer = http::post(&url, &[], &[], &body)?;
            ensure!(answer.status == 204, "vmagent answers {}", answer.status);
        }
    }
    settle(&mut agents, &[&victoria])?;
    let url = victoria.server.url();
    http::get(&format!("{url}/internal/force_merge"), &[])?;
    wait::until("merges to be over", || {
        metrics(&url).is_ok_and(|metrics| sum(&metrics, "vm_active_merges") == 0.0)
    });
    victoria.wait_for_disk();
    let metrics = metrics(&url)?;
    let rows = sum(&metrics, "vm_rows{type=\"storage/big\"}")
        + sum(&metrics, "vm_rows{type=\"storage/small\"}");
    ensure!(rows as u64 == wanted, "{rows} samples are stored, and {wanted} were sent");
    let data = victoria.folder();
    let samples = bytes(&data.join("data")).context("the samples")? as f64;
    let index = bytes(&data.join("indexdb")).context("the index")? as f64;
    let series: usize = lines.shares().values().map(|share| share.series_kept).sum();
    let hosts = HOSTS as f64;
    println!("| a day of a host ({HOSTS} of them), merged | |");
    println!("|---|---|");
    println!("| samples of a host | {:.0} |", rows / hosts);
    println!("| bytes a sample on disk | {:.2} |", samples / rows);
    println!("| samples of a host and day on disk | {:.1} MB |", samples / hosts / 1e6);
    let index = index / hosts / 1e6;
    println!("| index of a host's {series} series on disk, at most | {index:.2} MB |");
    Ok(())
}
