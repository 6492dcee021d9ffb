//! The spool: batches on disk, so that they survive an outage that memory cannot hold, and a crash.

use super::books::Cause;
use super::parcel::Limits;
use crate::batch::Batch;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// A spool as it is configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpoolConfig {
    /// The folder that holds one folder per output.
    pub dir: PathBuf,
    /// Bytes on disk that it never exceeds.
    pub bytes: u64,
    /// How old what it holds may get.
    pub age: Duration,
}

/// Where a batch lies in the spool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    segment: u64,
    offset: u64,
}

/// Batches of a plugin that the spool gave up, or found at the start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stretch {
    /// Whose.
    pub plugin: Arc<str>,
    /// How many lines.
    pub lines: u64,
    /// Begin of the first interval, and end of the last one: nanoseconds since 1970.
    pub from_ns: i64,
    /// See above.
    pub to_ns: i64,
}

/// Lines that the spool gave up, and why.
pub type Lost = Vec<(Stretch, Cause)>;

/// What waits in the spool and was not taken yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Waiting {
    /// Lines.
    pub lines: u64,
    /// Bytes of them.
    pub bytes: u64,
}

/// Which end of the spool to take from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The oldest of all.
    Oldest,
    /// The oldest of what came after the last [`Spool::split`].
    Present,
}

/// The spool of one output. This first version keeps everything in memory.
#[derive(Debug)]
pub struct Spool {
    config: SpoolConfig,
    batches: std::collections::VecDeque<(Arc<Batch>, Place)>,
    next: u64,
    split: u64,
}

impl Spool {
    /// Opens or makes the folder of one output.
    ///
    /// # Errors
    /// The folder cannot be made, listed or locked.
    pub fn open(config: &SpoolConfig, _output: &str) -> anyhow::Result<(Self, Vec<Stretch>)> {
        let spool = Self { config: config.clone(), batches: [].into(), next: 0, split: 0 };
        Ok((spool, Vec::new()))
    }

    /// Writes a batch at the end.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn append(&mut self, batch: &Batch, lost: &mut Lost) -> io::Result<()> {
        let copy = Batch { plugin: Arc::clone(&batch.plugin), bytes: batch.bytes.clone(), ..*batch };
        self.batches.push_back((Arc::new(copy), Place { segment: 0, offset: self.next }));
        self.next += 1;
        while self.disk_bytes() > self.config.bytes {
            let (batch, _) = self.batches.pop_front().unwrap();
            let (to_ns, elapsed) = (batch.tick.time_ns, batch.tick.elapsed_ns);
            let from_ns = to_ns.saturating_sub_unsigned(elapsed);
            let (plugin, lines) = (Arc::clone(&batch.plugin), batch.lines);
            lost.push((Stretch { plugin, lines, from_ns, to_ns }, Cause::SpoolFull));
        }
        Ok(())
    }

    /// Takes batches.
    pub fn take(
        &mut self,
        end: End,
        limits: &Limits,
        _now_ns: i64,
        _lost: &mut Lost,
    ) -> Vec<(Arc<Batch>, Place)> {
        let (mut out, mut lines, mut bytes) = (Vec::new(), 0, 0);
        let from = if end == End::Oldest { 0 } else { self.split };
        while let Some(at) = self.batches.iter().position(|(_, place)| place.offset >= from) {
            let batch = &self.batches[at].0;
            lines += batch.lines;
            bytes += batch.bytes.len();
            if !out.is_empty() && (lines > limits.lines || bytes > limits.bytes) {
                break;
            }
            out.extend(self.batches.remove(at));
        }
        out
    }

    /// Delivered, or given up.
    pub fn done(&mut self, _place: Place) {}

    /// What comes from now on is the present, what is there is backlog.
    pub fn split(&mut self) {
        self.split = self.next;
    }

    /// What was not taken yet.
    #[must_use]
    pub fn waiting(&self) -> Waiting {
        self.waiting_from(0)
    }

    /// What of the present was not taken yet.
    #[must_use]
    pub fn waiting_present(&self) -> Waiting {
        self.waiting_from(self.split)
    }

    fn waiting_from(&self, from: u64) -> Waiting {
        let mut waiting = Waiting::default();
        for (batch, _) in self.batches.iter().filter(|(_, place)| place.offset >= from) {
            waiting.lines += batch.lines;
            waiting.bytes += batch.bytes.len() as u64;
        }
        waiting
    }

    /// Bytes on disk.
    #[must_use]
    pub fn disk_bytes(&self) -> u64 {
        self.waiting().bytes
    }
}
