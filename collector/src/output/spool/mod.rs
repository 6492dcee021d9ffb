//! The spool: batches on disk, so that they survive an outage that memory cannot hold, and a crash.
//!
//! A folder of segments with increasing numbers. Batches are appended to the last one, each as a [`record`]
//! with checksums, and a byte that says whether it is done. A segment that holds nothing more goes, and the
//! last one starts over: as long as batches are done soon after they came, what is written is gone again
//! before the kernel takes it to the disk. What bounds demand goes in whole segments, the oldest first.
//!
//! In memory there are only sums per segment and plugin. They are what makes losses exact: what was
//! counted in and is not found again was lost.

mod bounds;
mod heir;
mod record;
mod recover;
mod restore;
mod segment;
mod stretch;
mod sums;
mod sync;
#[cfg(test)]
mod tests;

use self::record::RecordHeader;
use self::recover::Lock;
use self::segment::{Left, Segment};
use self::sync::Pace;
use super::books::Cause;
pub use heir::inherit;
pub use stretch::{Lost, Place, Stretch, Waiting};

use super::folder::folder_name;
use super::portion::Portion;
use crate::batch::Batch;
use crate::trust::Folder;
use anyhow::Context;
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

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

impl SpoolConfig {
    /// The file beside the spool for the lines that an output's server refuses.
    #[must_use]
    pub fn dead_letters(&self, output: &str) -> PathBuf {
        self.dir.join(format!("{}.rejected", folder_name(output)))
    }
}

/// Which end of the spool to take from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The oldest of all.
    Oldest,
    /// The oldest of what came after the last [`Spool::split`].
    Present,
}

/// Segments are at most so long, unless the spool is larger than a thousand of them.
const SEGMENT: u64 = 4 << 20;
/// From so many segments on, no new one is begun for the present alone.
const SEGMENTS: usize = 2048;

/// The spool of one output. All its calls may take as long as the disk does.
#[derive(Debug)]
pub struct Spool {
    config: SpoolConfig,
    output: String,
    folder: Arc<Folder>,
    /// By number. Only the last one is appended to.
    segments: VecDeque<Segment>,
    /// The next segment's number.
    next: u64,
    /// The last segment takes no more.
    sealed: bool,
    /// The number of the first segment of the present.
    present: u64,
    pace: Pace,
    /// A file was made since the folder was synced.
    new_file: bool,
    /// The last attempt failed, which was said.
    sync_failed: bool,
    /// As above.
    read_failed: bool,
    /// Held as long as the folder.
    lock: Lock,
}

impl Spool {
    /// Opens the folder of one output, or makes it, and finds what an earlier run left there: by plugin,
    /// in no order. What is damaged is skipped and logged. All that is found is backlog.
    ///
    /// # Errors
    /// The folder cannot be made, locked or listed, or another collector has it.
    pub fn open(config: &SpoolConfig, output: &str) -> anyhow::Result<(Self, Vec<Stretch>)> {
        let (folder, lock) = Self::folder(config, output)?;
        let mut spool = Self {
            config: config.clone(),
            output: output.to_owned(),
            folder,
            segments: VecDeque::new(),
            next: 0,
            sealed: true,
            present: 0,
            pace: Pace::new(Instant::now(), Place { segment: 0, offset: 0 }),
            new_file: false,
            sync_failed: false,
            read_failed: false,
            lock,
        };
        let recovered = spool.recover()?;
        Ok((spool, recovered))
    }

    /// The folder of an output, made unless it is there.
    fn folder(config: &SpoolConfig, output: &str) -> anyhow::Result<(Arc<Folder>, Lock)> {
        let path = config.dir.join(folder_name(output));
        // What holds it is made by itself, so that it is checked to be closed to others too.
        let folder = Folder::make(&config.dir).and_then(|_| Folder::make(&path));
        let folder = folder.context("the spool's folder cannot be used")?;
        let lock = Lock::take(&folder)?;
        recover::claim(&folder, output)?;
        Ok((Arc::new(folder), lock))
    }

    fn recover(&mut self) -> anyhow::Result<Vec<Stretch>> {
        let mut recovered = BTreeMap::new();
        for (number, name) in recover::list(&self.folder)? {
            self.next = number + 1;
            let path = self.folder.path().join(&name);
            match recover::segment(number, &self.folder, name) {
                Ok(segment) if segment.is_spent() => segment.remove(),
                Ok(segment) => {
                    for stretch in segment.sums.stretches() {
                        recovered
                            .entry(Arc::clone(&stretch.plugin))
                            .and_modify(|sum: &mut Stretch| sum.extend(stretch))
                            .or_insert_with(|| stretch.clone());
                    }
                    self.segments.push_back(segment);
                }
                Err(why) => log::warn!("{} is left as it is: {why}", path.display()),
            }
        }
        self.present = self.next;
        Ok(recovered.into_values().collect())
    }

    /// Writes a batch at the end, in a folder made again if it was removed. Whole segments go to make room for it, the oldest first, but none
    /// with batches that were taken and are not done; when that is not enough, the batch itself is lost.
    /// What is lost is added to `lost`, also when the call fails.
    ///
    /// # Errors
    /// The disk is full or does not work. Nothing of the batch is left then, and it may be tried again.
    pub fn append(&mut self, batch: &Batch, lost: &mut Lost) -> io::Result<()> {
        if batch.lines == 0 {
            return Ok(());
        }
        let stretch = Stretch::of(&batch.plugin, &batch.tick, batch.lines);
        let Some(header) = RecordHeader::of(batch) else {
            lost.push((stretch, Cause::SpoolError));
            return Ok(());
        };
        self.restore()?;
        self.expire(batch.tick.time_ns, lost);
        if !self.make_room(header.record_length(), lost) {
            lost.push((stretch, Cause::SpoolFull));
            return Ok(());
        }
        self.last_with_room(header.record_length())?.append(batch, &header)?;
        self.sync_backlog();
        Ok(())
    }

    /// Takes batches as long as they fit into the limits; a single larger one comes alone. Each is handed
    /// out once until the spool is opened again. What ended longer than the age before `now_ns`, and what
    /// cannot be read, is added to `lost`. Nothing taken means that nothing waits, unless the process has
    /// no files or no memory to read with, which is logged: then it is tried again with the next call.
    pub fn take(
        &mut self,
        end: Side,
        limits: &Portion,
        now_ns: i64,
        lost: &mut Lost,
    ) -> Vec<(Arc<Batch>, Place)> {
        self.expire(now_ns, lost);
        let since_ns = self.since_ns(now_ns);
        let mut room = Left { lines: limits.lines, bytes: limits.bytes as u64 };
        let mut taken = Vec::new();
        let mut at = match end {
            Side::Oldest => 0,
            Side::Present => self.first_of_present(),
        };
        while let Some(segment) = self.segments.get_mut(at) {
            match segment.take(&mut room, since_ns, lost, &mut taken) {
                Ok(came_to_its_end) => {
                    self.read_failed = false;
                    if !came_to_its_end {
                        break;
                    }
                }
                Err(why) => {
                    if !std::mem::replace(&mut self.read_failed, true) {
                        log::warn!("{} cannot be read now: {why}", segment.path().display());
                    }
                    break;
                }
            }
            if !(segment.is_spent() && self.retire(at)) {
                at += 1;
            }
        }
        taken
    }

    /// A batch was delivered, or given up: it is never handed out again, also not after a restart.
    pub fn done(&mut self, place: Place) {
        let at = self.segments.partition_point(|segment| segment.number < place.segment);
        let Some(segment) = self.segments.get_mut(at) else { return };
        if segment.number != place.segment || !segment.land(place.offset) {
            return;
        }
        if segment.is_spent() {
            self.retire(at);
        } else {
            segment.mark_done(place.offset);
        }
    }

    /// What comes from now on is the present, what is there is backlog. In a spool of very many segments
    /// a little of what is there may count as present too.
    pub fn split(&mut self) {
        let last = self.segments.back().filter(|_| !self.sealed);
        match last.map(|last| (last.number, last.length)) {
            Some((number, length)) if length == 0 || self.segments.len() >= SEGMENTS => {
                self.present = number;
            }
            _ => {
                self.seal();
                self.present = self.next;
            }
        }
    }

    /// Lines and bytes of lines that were not taken yet.
    #[must_use]
    pub fn waiting(&self) -> Waiting {
        self.waiting_from(0)
    }

    /// Those of the present.
    #[must_use]
    pub fn waiting_present(&self) -> Waiting {
        self.waiting_from(self.first_of_present())
    }

    /// Bytes of its segments on disk, never more than the bound; a spool that was found larger shrinks
    /// when the next batch comes.
    #[must_use]
    pub fn disk_bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.length).sum()
    }

    fn first_of_present(&self) -> usize {
        self.segments.partition_point(|segment| segment.number < self.present)
    }

    fn waiting_from(&self, at: usize) -> Waiting {
        self.segments.range(at..).map(|segment| segment.sums.waiting()).fold(
            Waiting::default(),
            |sum, each| Waiting { lines: sum.lines + each.lines, bytes: sum.bytes + each.bytes },
        )
    }

    /// A spent segment goes, or starts over when it is the last one. Returns whether it went.
    fn retire(&mut self, at: usize) -> bool {
        if self.sealed || at + 1 < self.segments.len() {
            self.segments.remove(at).into_iter().for_each(Segment::remove);
            return true;
        }
        let segment = &mut self.segments[at];
        self.pace.cleared(segment.number);
        if let Err(why) = segment.clear() {
            log::warn!("{} cannot be emptied: {why}", segment.path().display());
            self.give_up(at, Cause::SpoolError, &mut Lost::new());
            return true;
        }
        false
    }

    fn seal(&mut self) {
        self.sealed = true;
        if let Some(last) = self.segments.back_mut() {
            last.close();
        }
    }

    /// The segment to append so many bytes to.
    fn last_with_room(&mut self, bytes: u64) -> io::Result<&mut Segment> {
        let most = (self.config.bytes / 8).min(SEGMENT).max(self.config.bytes / 1024);
        if self.segments.back().is_some_and(|last| last.length > 0 && last.length + bytes > most) {
            self.seal();
        }
        if self.sealed || self.segments.is_empty() {
            self.segments.push_back(Segment::create(&self.folder, self.next)?);
            self.next += 1;
            self.sealed = false;
            self.new_file = true;
        }
        let last = self.segments.len() - 1;
        Ok(&mut self.segments[last])
    }
}
