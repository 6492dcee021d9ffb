//! Batches that wait in memory: their order, and the bound of what the queue holds there.

use crate::batch::Batch;
use crate::output::portion::Portion;
use crate::output::spool::Waiting;
use std::collections::VecDeque;
use std::sync::Arc;

/// At least so many bytes are worth a wakeup of their own.
const PROMPT: u64 = 64 << 10;

/// Batches, oldest first. Those that left it, into the spool or on their way, count toward the bound until
/// they are released.
#[derive(Debug)]
pub struct Memory {
    bound: usize,
    batches: VecDeque<Arc<Batch>>,
    /// Of `batches`.
    waiting: Waiting,
    /// The oldest batch is being written to the spool.
    spooling: bool,
    /// Bytes of all that counts toward the bound.
    held: usize,
}

impl Memory {
    /// Empty, with room for so many bytes.
    pub fn new(bound: usize) -> Self {
        let waiting = Waiting::default();
        Self { bound, batches: VecDeque::new(), waiting, spooling: false, held: 0 }
    }

    /// Adds a batch. The oldest ones make room; when that is not enough, it goes itself. What went.
    pub fn push(&mut self, batch: Arc<Batch>) -> Vec<Arc<Batch>> {
        let mut gone = Vec::new();
        while self.held + batch.bytes.len() > self.bound {
            let Some(oldest) = self.pop() else {
                gone.push(batch);
                return gone;
            };
            self.release(oldest.bytes.len());
            gone.push(oldest);
        }
        self.hold(batch.bytes.len());
        self.waiting.lines += batch.lines;
        self.waiting.bytes += batch.bytes.len() as u64;
        self.batches.push_back(batch);
        gone
    }

    /// The oldest batches as long as they fit into the limits; a single larger one comes alone.
    pub fn take(&mut self, limits: &Portion) -> Vec<Arc<Batch>> {
        let (mut lines, mut bytes, mut taken) = (0, 0, Vec::new());
        while let Some(batch) = self.batches.front() {
            lines += batch.lines;
            bytes += batch.bytes.len();
            if !taken.is_empty() && (lines > limits.lines || bytes > limits.bytes) {
                break;
            }
            taken.extend(self.pop());
        }
        taken
    }

    /// The oldest batch, which is to be written to the spool.
    pub fn begin_spooling(&mut self) -> Option<Arc<Batch>> {
        let batch = self.pop()?;
        self.spooling = true;
        Some(batch)
    }

    /// The spool has that batch, or it is lost.
    pub fn end_spooling(&mut self, batch: &Batch) {
        self.spooling = false;
        self.release(batch.bytes.len());
    }

    /// The spool could not take that batch: it is the oldest again.
    pub fn put_back(&mut self, batch: Arc<Batch>) {
        self.spooling = false;
        self.waiting.lines += batch.lines;
        self.waiting.bytes += batch.bytes.len() as u64;
        self.batches.push_front(batch);
    }

    /// All that waits, which does not count any more.
    pub fn drain(&mut self) -> impl Iterator<Item = Arc<Batch>> + use<> {
        self.held -= self.waiting.bytes as usize;
        self.waiting = Waiting::default();
        std::mem::take(&mut self.batches).into_iter()
    }

    /// Counts bytes toward the bound that never waited here.
    pub fn hold(&mut self, bytes: usize) {
        self.held += bytes;
    }

    /// Bytes that left memory.
    pub fn release(&mut self, bytes: usize) {
        self.held -= bytes;
    }

    /// Whether so much waits that a sender is to take it at once.
    pub fn is_prompt(&self) -> bool {
        self.waiting.bytes >= PROMPT.min(self.bound as u64 / 4)
    }

    /// Lines and bytes that wait to be taken.
    pub fn waiting(&self) -> Waiting {
        self.waiting
    }

    /// Whether nothing waits, and nothing is being written to the spool.
    pub fn is_empty(&self) -> bool {
        self.batches.is_empty() && !self.spooling
    }

    /// Whether so many further bytes keep within the bound.
    pub fn has_room(&self, bytes: usize) -> bool {
        self.held.saturating_add(bytes) <= self.bound
    }

    fn pop(&mut self) -> Option<Arc<Batch>> {
        let batch = self.batches.pop_front()?;
        self.waiting.lines -= batch.lines;
        self.waiting.bytes -= batch.bytes.len() as u64;
        Some(batch)
    }
}
