//! The same lines, forwarded by vmagent.

use super::forward::{self, Cost, Load};
use super::receivers::{check, inserted, to_file};
use crate::cpu;
use anyhow::{Context, Result, ensure};
use std::fs;
use std::sync::{Mutex, PoisonError};
use std::thread;
use system_tests::http;
use system_tests::running::Home;
use system_tests::servers::{Victoria, Vmagent};

/// Lines of a request, as many as the collector sends at once.
const LINES: usize = 5000;
/// Connections that feed it: it parses the lines of each by itself.
const FEEDERS: usize = 2;

/// Feeds it as fast as it takes lines. Its CPU is counted from the first line on.
pub fn forward(load: Load) -> Result<Cost> {
    // The same in each round.
    static TEXT: Mutex<Vec<u8>> = Mutex::new(Vec::new());
    let mut text = TEXT.lock().unwrap_or_else(PoisonError::into_inner);
    if text.is_empty() {
        *text = lines(load)?;
    }
    let bodies: Vec<_> = bodies(&text).collect();
    let victoria = Victoria::start();
    let agent = Vmagent::start(&victoria.server.url());
    let url = agent.server.url() + "/write";
    let before = cpu::seconds(agent.server.pid())?;
    let rate = thread::scope(|scope| {
        let feeders: Vec<_> = (0..FEEDERS)
            .map(|feeder| {
                let (bodies, url) = (bodies.iter().skip(feeder).step_by(FEEDERS), &url);
                scope.spawn(move || feed(url, bodies))
            })
            .collect();
        let rate = forward::watch(load.lines, || inserted(&victoria, "promremotewrite"));
        for feeder in feeders {
            feeder.join().ok().context("a feeder panicked")??;
        }
        rate
    })?;
    let cpu = (cpu::seconds(agent.server.pid())? - before) / forward::millions(load.lines);
    check(&victoria, load)?;
    Ok(Cost { rate, cpu })
}

fn feed<'a>(url: &str, bodies: impl Iterator<Item = &'a &'a [u8]>) -> Result<()> {
    for body in bodies {
        let answer = http::post(url, &[], &[], body)?;
        ensure!(answer.status == 204, "vmagent answers {}: {}", answer.status, answer.body);
    }
    Ok(())
}

/// The lines of a load, made by the collector.
fn lines(load: Load) -> Result<Vec<u8>> {
    let home = Home::new();
    let path = home.path("lines");
    to_file(&home, load, &path)?;
    let mut text = fs::read(path)?;
    // What the collector says about itself is no part of the load.
    let load_ends =
        text.windows(11).position(|w| w == b"\ncollector_").map_or(text.len(), |n| n + 1);
    text.truncate(load_ends);
    Ok(text)
}

/// Pieces of so many lines.
fn bodies(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let newlines = text.iter().enumerate().filter(|(_, byte)| **byte == b'\n');
    let mut ends = newlines.map(|(at, _)| at + 1).skip(LINES - 1).step_by(LINES);
    let mut begin = 0;
    std::iter::from_fn(move || {
        let end = ends.next().unwrap_or(text.len());
        let body = &text[begin..end];
        begin = end;
        (!body.is_empty()).then_some(body)
    })
}
