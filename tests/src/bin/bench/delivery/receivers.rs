//! What the collector writes to.

use super::forward::{self, Cost, Load, forward};
use anyhow::{Context, Result, ensure};
use serde_json::Value as Json;
use std::fs;
use std::path::Path;
use system_tests::http;
use system_tests::readers::Reader;
use system_tests::running::Home;
use system_tests::servers::{Influx, Victoria};

/// Nothing: what it takes to make lines.
pub fn null(load: Load) -> Result<Cost> {
    let home = Home::new();
    to_file(&home, load, Path::new("/dev/null"))
}

/// A file.
pub fn file(load: Load) -> Result<Cost> {
    let home = Home::new();
    to_file(&home, load, &home.path("lines"))
}

/// Writes a file. What the plugin has made counts as arrived.
pub fn to_file(home: &Home, load: Load, path: &Path) -> Result<Cost> {
    let output = format!("kind = \"file\"\npath = \"{}\"", path.display());
    let (cost, books) = forward(home, load, &output, || {
        let text = fs::read_to_string(forward::progress(home)).unwrap_or_default();
        Ok(if text.is_empty() { 0 } else { text.parse()? })
    })?;
    if path.metadata()?.is_file() {
        let lines = fs::read(path)?.iter().filter(|byte| **byte == b'\n').count() as u64;
        ensure!(lines == books.delivered, "{lines} lines in the file: {books:?}");
    }
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
    let (home, influx) = (Home::new(), Influx::start());
    let url = influx.server.url();
    let output = format!("kind = \"influxdb1\"\nurl = \"{url}\"\ndatabase = \"telegraf\"");
    let (cost, _) = forward(&home, load, &output, || {
        let vars: Json = serde_json::from_str(&http::get(&format!("{url}/debug/vars"), &[])?.body)?;
        Ok(vars["write"]["values"]["pointReq"].as_u64().unwrap_or(0))
    })?;
    let count = influx.series("SELECT COUNT(value) FROM stream")[0]["values"][0][1].as_u64();
    ensure!(count == Some(load.lines), "stored: {count:?}");
    Ok(cost)
}

/// VictoriaMetrics.
pub fn victoria(load: Load, spool: bool) -> Result<Cost> {
    let (home, victoria) = (Home::new(), Victoria::start());
    let url = victoria.server.url();
    let output = format!("kind = \"victoriametrics\"\nurl = \"{url}\"\n{}", spooled(&home, spool));
    let (cost, _) = forward(&home, load, &output, || inserted(&victoria, "influx"))?;
    check(&victoria, load)?;
    Ok(cost)
}

/// Lines that came in a protocol; each has two fields.
pub fn inserted(victoria: &Victoria, protocol: &str) -> Result<u64> {
    let metrics = http::get(&(victoria.server.url() + "/metrics"), &[])?.body;
    let key = format!("vm_rows_inserted_total{{type=\"{protocol}\"}} ");
    let count = metrics.lines().find_map(|line| line.strip_prefix(&*key)).context(key)?;
    Ok(count.parse::<u64>()? / 2)
}

/// It has every line of a load.
pub fn check(victoria: &Victoria, load: Load) -> Result<()> {
    for metric in ["stream_value", "stream_half"] {
        let count = victoria.count(metric);
        ensure!(count == load.lines, "{count} of {} in {metric}", load.lines);
    }
    Ok(())
}

fn spooled(home: &Home, spool: bool) -> String {
    if spool { format!("spool = \"{}\"", home.path("spool").display()) } else { String::new() }
}
