//! How a parcel is filled: from the spool or from memory, when enough waits, and by whom.

use super::spooling::SPOOL_PAUSE;
use super::{Queue, State};
use crate::batch::Batch;
use crate::output::parcel::Parcel;
use crate::output::portion::Portion;
use crate::output::spool::{Lost, Place, Side, Waiting};
use crate::tick::Now;
use std::sync::Arc;
use std::time::Instant;

impl Queue {
    /// The next batches for a sender to deliver, which has nothing under way any more. Senders are numbered
    /// from 0 on. Waits for batches, and then for more up to the limits' time; `None` when none will come.
    pub fn take(&self, sender: usize, limits: &Portion) -> Option<Parcel> {
        let mut state = self.state();
        state.under_way.land(sender);
        self.tell(&state);
        loop {
            let ready = state.ready(self.has_spool());
            let open = state.closed.is_none();
            let tell = state.accounts.gaps.due() || (!open && !state.accounts.gaps.is_empty());
            let nothing = ready.lines == 0 && (open || !tell);
            if state.gone || state.over || (nothing && !open && state.memory.is_empty()) {
                state.under_way.depart(sender, 0);
                self.tell(&state);
                return None;
            }
            if nothing || !state.may_take(sender, &ready, limits) {
                if nothing {
                    state.since = None;
                }
                state = self.wait(state, None);
                continue;
            }
            let waited = state.since.get_or_insert_with(Instant::now).elapsed();
            let enough = ready.lines >= limits.lines || ready.bytes >= limits.bytes as u64;
            if open && !enough && waited < limits.wait {
                state = self.wait(state, Some(limits.wait - waited));
                continue;
            }
            state.since = None;
            let mut batches = Vec::new();
            if tell && let Some(told) = state.accounts.gaps.tell() {
                state.accounts.produce(&told);
                state.memory.hold(told.bytes.len());
                batches.push((Arc::new(told), None));
            }
            let from_spool = state.spooled.waiting.lines > 0;
            if !from_spool {
                batches.extend(state.memory.take(limits).into_iter().map(|batch| (batch, None)));
            }
            for (batch, _) in &batches {
                state.under_way.add(batch);
            }
            state.under_way.depart(sender, 0);
            if from_spool {
                let present_next = state.spooled.present_next;
                state.spooled.being_read = true;
                drop(state);
                let read = self.take_from_spool(present_next, limits);
                state = self.state();
                state.spooled.being_read = false;
                state.under_way.depart(sender, read.iter().map(|(b, _)| b.bytes.len()).sum());
                batches.extend(read.into_iter().map(|(batch, place)| (batch, Some(place))));
            }
            self.tell(&state);
            if !batches.is_empty() {
                let mut parcel = Parcel::new(batches);
                parcel.sender = sender;
                return Some(parcel);
            }
            state.under_way.land(sender);
            if state.spooled.waiting.lines > 0 {
                // It cannot be read now, for want of files or memory: not again at once.
                state = self.wait(state, Some(SPOOL_PAUSE));
            }
        }
    }

    /// The backlog and the present in turn, so that neither waits for the end of the other.
    fn take_from_spool(&self, present: bool, limits: &Portion) -> Vec<(Arc<Batch>, Place)> {
        let Some(mut spool) = self.spool() else { return Vec::new() };
        let mut lost = Lost::new();
        let present = present && !self.in_order && spool.waiting_present().lines > 0;
        let end = if present { Side::Present } else { Side::Oldest };
        let batches = spool.take(end, limits, Now::read().wall_ns, &mut lost);
        let mut state = self.state();
        state.spooled.present_next = end == Side::Oldest;
        state.accounts.lose(lost);
        state.look_at(&spool);
        batches
    }
}

impl State {
    /// What a parcel could be filled with now.
    fn ready(&self, has_spool: bool) -> Waiting {
        if self.spooled.waiting.lines > 0 || (has_spool && self.spooled.trouble.is_none()) {
            return self.spooled.waiting;
        }
        self.memory.waiting()
    }

    /// Whether a sender's turn has come to fill a parcel. What is read from the spool for a further one
    /// keeps within the bound of memory, together with all that is there.
    fn may_take(&self, sender: usize, ready: &Waiting, limits: &Portion) -> bool {
        let (read, next) = (self.under_way.read_back(), ready.bytes.min(limits.bytes as u64));
        let fits = || read == 0 || self.memory.has_room(read + next as usize);
        self.attempts.sender().is_none()
            && !self.spooled.being_read
            && self.under_way.senders() >= sender
            && (self.spooled.waiting.lines == 0 || fits())
    }
}
