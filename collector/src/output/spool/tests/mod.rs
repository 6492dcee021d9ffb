//! The spool's promises.

mod bounds;
mod damage;
mod disk;
mod model;
mod order;

use super::{Lost, Place, Side, Spool, SpoolConfig, Stretch, Waiting};
use crate::batch::Batch;
use crate::output::books::Cause;
use crate::output::portion::Portion;
use plugin_api::Tick;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// A second.
const S: i64 = 1_000_000_000;
const ALL: Portion = Portion { lines: u64::MAX, bytes: usize::MAX, wait: Duration::ZERO };
const ONE: Portion = Portion { lines: 1, bytes: 1, wait: Duration::ZERO };

fn config(dir: &Path, bytes: u64) -> SpoolConfig {
    SpoolConfig { dir: dir.to_owned(), bytes, age: Duration::from_secs(3600) }
}

/// The batch of a second: so many lines, which say what they are.
fn batch(plugin: &str, second: i64, lines: u64) -> Batch {
    let tick = Tick { seq: second as u64, time_ns: second * S, elapsed_ns: S as u64 };
    let bytes = (0..lines).map(|line| format!("{plugin} n={second},line={line}\n")).collect();
    Batch { plugin: plugin.into(), tick, lines, bytes: String::into_bytes(bytes) }
}

/// One with lines of a length.
fn long(second: i64, bytes: usize) -> Batch {
    let mut batch = batch("p", second, 1);
    batch.bytes.resize(bytes - 1, b' ');
    batch.bytes.push(b'\n');
    batch
}

fn stretch(plugin: &str, lines: u64, from_s: i64, to_s: i64) -> Stretch {
    Stretch { plugin: plugin.into(), lines, from_ns: from_s * S, to_ns: to_s * S }
}

fn assert_same(got: &Batch, wanted: &Batch) {
    assert_eq!((&got.plugin, got.tick, got.lines), (&wanted.plugin, wanted.tick, wanted.lines));
    assert_eq!(got.bytes, wanted.bytes);
}

/// A folder's segments, oldest first.
fn segments(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut found: Vec<_> =
        entries.filter(|path| path.extension().is_some_and(|end| end == "spool")).collect();
    found.sort();
    found
}

/// Bytes of them, as the disk has them.
fn bytes_of_files(folder: &Path) -> u64 {
    segments(folder).iter().map(|path| fs::metadata(path).unwrap().len()).sum()
}

/// A spool in a folder of its own.
struct Case {
    dir: tempfile::TempDir,
    config: SpoolConfig,
    spool: Option<Spool>,
    recovered: Vec<Stretch>,
    lost: Lost,
}

impl Case {
    fn new(bytes: u64) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let config = config(dir.path(), bytes);
        let mut case = Self { dir, config, spool: None, recovered: Vec::new(), lost: Lost::new() };
        case.reopen();
        case
    }

    fn reopen(&mut self) {
        self.spool = None;
        let (spool, recovered) = Spool::open(&self.config, "out").unwrap();
        self.spool = Some(spool);
        self.recovered = recovered;
    }

    fn spool(&mut self) -> &mut Spool {
        self.spool.as_mut().unwrap()
    }

    fn append(&mut self, batch: &Batch) {
        self.spool.as_mut().unwrap().append(batch, &mut self.lost).unwrap();
    }

    /// The seconds of what was taken, and where each lies.
    fn take(&mut self, end: Side, limits: &Portion, now_s: i64) -> Vec<(i64, Place)> {
        let taken = self.spool.as_mut().unwrap().take(end, limits, now_s * S, &mut self.lost);
        taken.iter().map(|(batch, place)| (batch.tick.time_ns / S, *place)).collect()
    }

    fn take_seconds(&mut self, end: Side, limits: &Portion) -> Vec<i64> {
        self.take(end, limits, 0).into_iter().map(|(second, _)| second).collect()
    }

    /// Everything that waits, oldest first.
    fn drain(&mut self) -> Vec<Arc<Batch>> {
        let taken = self.spool.as_mut().unwrap().take(Side::Oldest, &ALL, 0, &mut self.lost);
        taken
            .into_iter()
            .map(|(batch, place)| {
                self.spool().done(place);
                batch
            })
            .collect()
    }

    fn folder(&self) -> PathBuf {
        self.dir.path().join("out")
    }

    fn files(&self) -> Vec<PathBuf> {
        segments(&self.folder())
    }

    fn bytes_of_files(&self) -> u64 {
        bytes_of_files(&self.folder())
    }

    /// Lines lost since the last call, by cause.
    fn lines_lost(&mut self, cause: Cause) -> u64 {
        let of_cause =
            |(stretch, why): &(Stretch, Cause)| if *why == cause { stretch.lines } else { 0 };
        let lines = self.lost.iter().map(of_cause).sum();
        self.lost.retain(|(_, why)| *why != cause);
        lines
    }
}
