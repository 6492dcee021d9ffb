//! What the spool's thread does: it moves what comes from memory to the disk.

use super::Queue;
use crate::batch::Batch;
use crate::output::books::Cause;
use crate::output::spool::Lost;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Before a spool that did not work is tried again.
pub const SPOOL_PAUSE: Duration = Duration::from_secs(1);

impl Queue {
    /// Moves the oldest batch of memory into the spool, as soon as there is one. After an error it
    /// stays the oldest in memory, from which parcels are then filled. `None` when nothing will come.
    pub fn spool_next(&self) -> Option<Result<(), String>> {
        let batch = self.next_to_spool()?;
        let mut lost = Lost::new();
        let mut spool = self.spool()?;
        let result = spool.append(&batch, &mut lost);
        let mut state = self.state();
        state.accounts.lose(lost);
        match &result {
            Ok(()) => {
                state.memory.end_spooling(&batch);
                state.spooled.trouble = None;
            }
            Err(_) if state.gone => {
                state.memory.end_spooling(&batch);
                state.accounts.lose_batch(&batch, Cause::Error);
            }
            Err(why) => {
                state.memory.put_back(batch);
                state.spooled.trouble = Some(format!("the spool cannot be written: {why}"));
            }
        }
        state.look_at(&spool);
        self.changed.notify_all();
        Some(result.map_err(|why| why.to_string()))
    }

    fn next_to_spool(&self) -> Option<Arc<Batch>> {
        let mut state = self.state();
        loop {
            if state.gone {
                return None;
            }
            if let Some(batch) = state.memory.begin_spooling() {
                return Some(batch);
            }
            if state.closed.is_some() {
                return None;
            }
            state = self.wait(state, None);
        }
    }

    /// Waits before the spool is tried again; false once the queue is closed.
    pub fn wait_for_spool(&self, pause: Duration) -> bool {
        let again = Instant::now() + pause;
        let mut state = self.state();
        loop {
            if state.closed.is_some() || state.gone {
                return false;
            }
            let left = again.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return true;
            }
            state = self.wait(state, Some(left));
        }
    }
}
