//! What the collector writes to.

use super::forward::{Cost, Load, forward, forward_made, made};
use super::slow::Slow;
use anyhow::{Context, Result, ensure};
use serde_json::Value as Json;
use std::fs;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;
use system_tests::http;
use system_tests::port::Port;
use system_tests::readers::Reader;
use system_tests::running::Home;
use system_tests::servers::{Influx, Victoria};

/// A file.
pub fn file(load: Load) -> Result<Cost> {
    let home = Home::new();
    to_file(&home, load, &home.path("lines"))
}

/// Writes a file. What the plugin has made counts as arrived.
pub fn to_file(home: &Home, load: Load, path: &Path) -> Result<Cost> {
    let output = format!("kind = \"file\"\npath = \"{}\"", path.display());
    let (cost, books) = forward(home, load, &output, || made(home))?;
    let lines = fs::read(path)?.iter().filter(|byte| **byte == b'\n').count() as u64;
    ensure!(lines == books.delivered, "{lines} lines in the file: {books:?}");
    Ok(cost)
}

/// A unix stream socket whose reader does nothing but read and count.
pub fn unix(load: Load, spool: bool) -> Result<Cost> {
    let home = Home::new();
    let path = home.path("socket");
    let reader = Reader::unix(path.clone()).counting();
    let output =
        format!("kind = \"unix\"\npath = \"{}\"\n{}", path.display(), spooled(&home, spool));
    let (cost, books) = forward(&home, load, &output, || Ok(reader.count()))?;
    ensure!(reader.count() == books.delivered, "{} lines read: {books:?}", reader.count());
    Ok(cost)
}

/// InfluxDB 1.
pub fn influx(load: Load) -> Result<Cost> {
    let (home, mut influx) = (Home::new(), Influx::start());
    let url = influx.server.url();
    let output = format!("kind = \"influxdb1\"\nurl = \"{url}\"\ndatabase = \"telegraf\"");
    influx.server.stop();
    let start = || {
        influx.server.start();
        influx
    };
    let (cost, influx) = forward_made(&home, load, &output, start, |_| {
        let vars: Json = serde_json::from_str(&http::get(&format!("{url}/debug/vars"), &[])?.body)?;
        Ok(vars["write"]["values"]["pointReq"].as_u64().unwrap_or(0))
    })?;
    let count = influx.series("SELECT COUNT(value) FROM stream")[0]["values"][0][1].as_u64();
    ensure!(count == Some(load.lines), "stored: {count:?}");
    Ok(cost)
}

/// VictoriaMetrics, with further keys of the output.
pub fn victoria(load: Load, keys: &str, spool: bool) -> Result<Cost> {
    let (home, mut victoria) = (Home::new(), Victoria::start());
    let url = victoria.server.url();
    let spool = spooled(&home, spool);
    let output = format!("kind = \"victoriametrics\"\nurl = \"{url}\"\n{keys}\n{spool}");
    victoria.server.stop();
    let start = || {
        victoria.server.start();
        victoria
    };
    let arrived = |victoria: &Victoria| inserted(victoria, "influx");
    let (cost, victoria) = forward_made(&home, load, &output, start, arrived)?;
    check(&victoria, load)?;
    Ok(cost)
}

/// A server that does nothing but count lines, and answers each request after so many milliseconds.
pub fn slow(load: Load, answer_ms: u64, in_flight: usize) -> Result<Cost> {
    let (home, port) = (Home::new(), Port::reserve());
    let output = format!(
        "kind = \"victoriametrics\"\nurl = \"http://{}\"\ngzip = false\nin_flight = {in_flight}",
        port.address()
    );
    let start = || Slow::start(port.address(), Duration::from_millis(answer_ms));
    let arrived = |slow: &Slow| Ok(slow.lines.load(Ordering::Relaxed));
    Ok(forward_made(&home, load, &output, start, arrived)?.0)
}

/// Lines that came in a protocol; each has two fields.
pub fn inserted(victoria: &Victoria, protocol: &str) -> Result<u64> {
    let metrics = http::get(&(victoria.server.url() + "/metrics"), &[])?.body;
    let key = format!("vm_rows_inserted_total{{type=\"{protocol}\"}} ");
    let count = metrics.lines().find_map(|line| line.strip_prefix(&*key)).context(key)?;
    Ok(count.parse::<u64>()? / 2)
}

/// It has every line of a load. What it took last it shows to queries a little later.
pub fn check(victoria: &Victoria, load: Load) -> Result<()> {
    for metric in ["stream_value", "stream_half"] {
        let mut count = victoria.count(metric);
        for _ in 0..20 {
            if count == load.lines {
                break;
            }
            thread::sleep(Duration::from_millis(500));
            count = victoria.count(metric);
        }
        ensure!(count == load.lines, "{count} of {} in {metric}", load.lines);
    }
    Ok(())
}

fn spooled(home: &Home, spool: bool) -> String {
    if spool { format!("spool = \"{}\"", home.path("spool").display()) } else { String::new() }
}
