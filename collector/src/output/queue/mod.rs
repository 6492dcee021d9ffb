//! The queue between the plugins and one output: memory first, the spool behind it when there is one.
//!
//! ```text
//! plugins -> memory -> parcels -> senders                  without a spool
//! plugins -> memory -> spool -> parcels -> senders         with one
//! plugins -> memory ----------> parcels -> senders         with one that cannot be written right now
//! ```
//! Parcels are filled one after the other, oldest lines first. A further sender begins when all before it
//! are busy, so that an output that keeps up has one connection.
//!
//! Everything that changes what is known of a line happens under one lock, so the books balance at any
//! moment. Locks are taken in the order spool, state; plugins only ever take the second, so a disk that
//! stands still holds up nobody.

mod attempts;
mod backoff;
mod gaps;
mod memory;
mod tally;
mod under_way;

pub use attempts::{Attempt, Pause};
pub use gaps::Gaps;

use self::attempts::{Attempts, Next};
use self::memory::Memory;
use self::tally::Tally;
use self::under_way::UnderWay;
use super::books::{Books, Cause, Sent};
use super::parcel::{Limits, Parcel};
use super::spool::{End, Lost, Place, Spool, Stretch, Waiting};
use crate::batch::Batch;
use crate::tick::Now;
use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Before a spool that did not work is tried again.
pub const SPOOL_PAUSE: Duration = Duration::from_secs(1);
/// An outage of this length leaves a backlog, beside which the present is not to wait.
const BACKLOG: Duration = Duration::from_secs(5);

/// Batches that wait, oldest first.
#[derive(Debug)]
pub struct Queue {
    spool: Option<Mutex<Spool>>,
    state: Mutex<State>,
    changed: Condvar,
}

/// All that is known at one moment.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// By plugin.
    pub plugins: BTreeMap<Arc<str>, Books>,
    /// Bytes that the other end took.
    pub bytes: u64,
    /// Attempts that failed.
    pub errors: u64,
    /// Bytes of the spool's files.
    pub spool_bytes: u64,
    /// What each of several URLs got.
    pub urls: BTreeMap<Arc<str>, Sent>,
    /// Why it does not deliver, or does not spool.
    pub trouble: Option<String>,
}

impl Snapshot {
    /// What one of several URLs got.
    #[must_use]
    pub fn sent_to(&self, url: &str) -> Sent {
        self.urls.get(url).copied().unwrap_or_default()
    }

    /// All plugins together.
    #[must_use]
    pub fn total(&self) -> Books {
        self.plugins.values().fold(Books::default(), |mut sum, books| {
            sum += *books;
            sum
        })
    }
}

/// What a sender with a parcel is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Turn {
    /// An attempt.
    Go(Attempt),
    /// See whether an attempt is worth it before its time, and tell [`Queue::looked`].
    Look,
    /// There is no time left for another attempt. Why the last one failed, for the sender that made it.
    Over(Option<String>),
}

#[derive(Debug)]
struct State {
    memory: Memory,
    spooled: Spooled,
    under_way: UnderWay,
    attempts: Attempts,
    tally: Tally,
    /// Since when something waits to be taken.
    since: Option<Instant>,
    /// No more batches come; what waits may be delivered until then.
    closed: Option<Instant>,
    /// There is no time left for another attempt: nothing more is taken.
    over: bool,
    /// The other end is gone.
    gone: bool,
}

/// What is known of the spool without asking it.
#[derive(Debug, Default)]
struct Spooled {
    /// Not taken yet.
    waiting: Waiting,
    /// Bytes of its files.
    bytes: u64,
    /// Why it cannot be written; then parcels are filled from memory.
    trouble: Option<String>,
    /// The next parcel is to come from the present, when a backlog waits too.
    present_next: bool,
    /// A parcel is being read from it: the next one is filled after that.
    being_read: bool,
}

impl Queue {
    /// A queue of so many bytes of memory, and what it recovered from its spool.
    #[must_use]
    pub fn new(bound: usize, gaps: Gaps, spool: Option<(Spool, Vec<Stretch>)>) -> Self {
        let mut state = State {
            memory: Memory::new(bound),
            spooled: Spooled::default(),
            under_way: UnderWay::default(),
            attempts: Attempts::default(),
            tally: Tally::new(gaps),
            since: None,
            closed: None,
            over: false,
            gone: false,
        };
        let spool = spool.map(|(spool, recovered)| {
            recovered.iter().for_each(|stretch| state.tally.recover(stretch));
            state.look_at(&spool);
            Mutex::new(spool)
        });
        Self { spool, state: Mutex::new(state), changed: Condvar::new() }
    }

    /// Whether there is a spool.
    #[must_use]
    pub fn has_spool(&self) -> bool {
        self.spool.is_some()
    }

    /// Adds a batch; the oldest ones in memory make room. Once the queue is closed it is lost.
    pub fn push(&self, batch: Arc<Batch>) {
        let mut state = self.state();
        state.tally.produce(&batch);
        if state.gone || state.closed.is_some() {
            return state.tally.lose_batch(&batch, Cause::Error);
        }
        for gone in state.memory.push(batch) {
            state.tally.lose_batch(&gone, Cause::Full);
        }
        self.changed.notify_all();
    }

    /// The next batches for a sender to deliver, which has nothing under way any more. Senders are numbered
    /// from 0 on. Waits for batches, and then for more up to the limits' time; `None` when none will come.
    pub fn take(&self, sender: usize, limits: &Limits) -> Option<Parcel> {
        let mut state = self.state();
        state.under_way.land(sender);
        self.changed.notify_all();
        loop {
            let ready = state.ready(self.has_spool());
            let open = state.closed.is_none();
            let tell = state.tally.gaps.due() || (!open && !state.tally.gaps.is_empty());
            let nothing = ready.lines == 0 && (open || !tell);
            if state.gone || state.over || (nothing && !open && state.memory.is_empty()) {
                state.under_way.depart(sender, 0);
                self.changed.notify_all();
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
            if tell && let Some(told) = state.tally.gaps.tell() {
                state.tally.produce(&told);
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
            self.changed.notify_all();
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
    fn take_from_spool(&self, present: bool, limits: &Limits) -> Vec<(Arc<Batch>, Place)> {
        let Some(mut spool) = self.spool() else { return Vec::new() };
        let mut lost = Lost::new();
        let end =
            if present && spool.waiting_present().lines > 0 { End::Present } else { End::Oldest };
        let batches = spool.take(end, limits, Now::read().wall_ns, &mut lost);
        let mut state = self.state();
        state.spooled.present_next = end == End::Oldest;
        state.tally.lose(lost);
        state.look_at(&spool);
        batches
    }

    /// Writes what became of a parcel's lines into the books, and returns how many were settled. A batch of
    /// which nothing is left is done.
    pub fn account(&self, parcel: &mut Parcel) -> u64 {
        let mut spool = self.spool();
        let mut state = self.state();
        if state.gone {
            return 0; // all is given up already
        }
        parcel.take_sent().into_iter().for_each(|(url, sent)| state.tally.sent(url, sent));
        let mut all = 0;
        for item in parcel.items() {
            let fate = std::mem::take(&mut item.fate);
            let settled = fate.delivered + fate.dropped.sum();
            if settled == 0 {
                continue;
            }
            all += settled;
            state.tally.settle(&item.batch.plugin, &fate);
            match (item.place, &mut spool) {
                (Some(place), Some(spool)) if item.is_done() => spool.done(place),
                (Some(_), _) => {}
                (None, _) => state.arrived(&item.batch, settled, item.is_done()),
            }
        }
        if parcel.is_done() {
            state.under_way.depart(parcel.sender, 0); // what was read from the spool is room again
        }
        if let Some(spool) = &spool {
            state.look_at(spool);
        }
        all
    }

    /// Waits until a sender with a parcel may make an attempt.
    pub fn turn(&self, sender: usize) -> Turn {
        let mut state = self.state();
        loop {
            let now = Instant::now();
            if state.gone || state.over {
                return Turn::Over(None);
            }
            let next = state.attempts.next(sender, now);
            if let Some(deadline) = state.closed
                && let Some(tries) = state.attempts.sender()
            {
                // What is safe waits for the next start, and not for another attempt.
                let waits = matches!(next, Next::Look | Next::Wait(_));
                if now >= deadline || (tries == sender && waits && self.is_safe(&state)) {
                    state.over = true;
                    self.changed.notify_all();
                    return Turn::Over(state.attempts.why().map(str::to_owned));
                }
            }
            let until = match next {
                Next::Go(attempt) => return Turn::Go(attempt),
                Next::Look => return Turn::Look,
                Next::Wait(until) => until.into_iter().chain(state.closed).min(),
            };
            state = self.wait(state, until.map(|until| until.saturating_duration_since(now)));
        }
    }

    /// A sender has looked: an attempt is worth it now, or the pause goes on.
    pub fn looked(&self, worth_it: bool) {
        self.state().attempts.looked(worth_it, Instant::now());
    }

    /// An attempt failed. Whether that is news: for another reason than before.
    pub fn failed(&self, sender: usize, attempt: Attempt, why: &str, pause: Pause) -> bool {
        let mut state = self.state();
        state.tally.errors += 1;
        state.attempts.failed(sender, attempt, why, pause, Instant::now())
    }

    /// An attempt settled lines. How long the outage lasted that it ended, if it ended one.
    pub fn worked(&self, attempt: Attempt) -> Option<Duration> {
        let lasted = self.state().attempts.worked(attempt)?.elapsed();
        if lasted >= BACKLOG {
            self.split();
        }
        self.changed.notify_all();
        Some(lasted)
    }

    /// What piled up and what comes from now on are delivered in turn.
    fn split(&self) {
        if let Some(mut spool) = self.spool() {
            spool.split();
        }
    }

    /// What is written to is to be opened again, and what waits for a person is tried again at once.
    pub fn reopen(&self) {
        self.state().attempts.reopen(Instant::now());
        self.changed.notify_all();
    }

    /// Whether all that waits lies in the spool, for the next start, or can be put there.
    fn is_safe(&self, state: &State) -> bool {
        self.has_spool()
            && state.memory.is_empty()
            && (state.spooled.trouble.is_none() || state.under_way.is_spooled())
    }

    /// A parcel will not be delivered any more. What of it is in no spool goes there, or is lost.
    pub fn give_back(&self, parcel: &mut Parcel) {
        self.account(parcel);
        for item in parcel.items() {
            if item.is_done() || item.place.is_some() {
                continue;
            }
            let (plugin, lines) = (&item.batch.plugin, item.lines_left());
            let spool = self.spool();
            let mut state = self.state();
            if state.gone {
                return; // all is given up already
            }
            // Whoever abandons the queue from here on leaves these lines to us.
            state.arrived(&item.batch, lines, true);
            let Some(mut spool) = spool else {
                state.tally.fail(plugin, lines);
                continue;
            };
            drop(state);
            let mut lost = Lost::new();
            let kept = spool.append(&item.rest_as_batch(), &mut lost).is_ok();
            let mut state = self.state();
            if !kept {
                state.tally.fail(plugin, lines);
            }
            state.tally.lose(lost);
            state.look_at(&spool);
        }
    }

    /// The other end is gone for good, or there is no time left: what waits in no spool, and all that
    /// comes, is lost. What lies in the spool stays for the next start.
    pub fn abandon(&self) {
        let mut state = self.state();
        state.gone = true;
        for batch in state.memory.drain() {
            state.tally.lose_batch(&batch, Cause::Error);
        }
        for (plugin, lines) in state.under_way.drain() {
            state.tally.fail(&plugin, lines);
        }
        self.changed.notify_all();
    }

    /// Whether the other end is gone.
    #[must_use]
    pub fn gone(&self) -> bool {
        self.state().gone
    }

    /// No more batches come. What waits may be delivered until the deadline.
    pub fn close(&self, deadline: Instant) {
        let mut state = self.state();
        state.closed = Some(deadline);
        state.attempts.hurry(Instant::now());
        self.changed.notify_all();
    }

    /// When the last attempt has to be over, once the queue is closed.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.state().closed
    }

    /// What is known.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let state = self.state();
        let trouble = match (state.attempts.why(), &state.spooled.trouble) {
            (Some(output), Some(spool)) => Some(format!("{output}; {spool}")),
            (output, spool) => output.map(str::to_owned).or_else(|| spool.clone()),
        };
        Snapshot {
            plugins: state.tally.plugins(),
            urls: state.tally.urls.clone(),
            bytes: state.tally.bytes,
            errors: state.tally.errors,
            spool_bytes: state.spooled.bytes,
            trouble,
        }
    }

    /// Moves the oldest batch of memory into the spool, as soon as there is one. After an error it
    /// stays the oldest in memory, from which parcels are then filled. `None` when nothing will come.
    pub fn spool_next(&self) -> Option<Result<(), String>> {
        let batch = self.next_to_spool()?;
        let mut lost = Lost::new();
        let mut spool = self.spool()?;
        let result = spool.append(&batch, &mut lost);
        let mut state = self.state();
        state.tally.lose(lost);
        match &result {
            Ok(()) => {
                state.memory.end_spooling(&batch);
                state.spooled.trouble = None;
            }
            Err(_) if state.gone => {
                state.memory.end_spooling(&batch);
                state.tally.lose_batch(&batch, Cause::Error);
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

    /// Until something changes, or the time is over.
    fn wait<'a>(
        &self,
        state: MutexGuard<'a, State>,
        at_most: Option<Duration>,
    ) -> MutexGuard<'a, State> {
        match at_most {
            None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            Some(at_most) => {
                let waited = self.changed.wait_timeout(state, at_most);
                waited.unwrap_or_else(PoisonError::into_inner).0
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn spool(&self) -> Option<MutexGuard<'_, Spool>> {
        Some(self.spool.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner))
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
    fn may_take(&self, sender: usize, ready: &Waiting, limits: &Limits) -> bool {
        let (read, next) = (self.under_way.read_back(), ready.bytes.min(limits.bytes as u64));
        let fits = || read == 0 || self.memory.has_room(read + next as usize);
        self.attempts.sender().is_none()
            && !self.spooled.being_read
            && self.under_way.senders() >= sender
            && (self.spooled.waiting.lines == 0 || fits())
    }

    /// Lines of a batch that is in no spool are on their way no longer; all of them when it is `done`.
    fn arrived(&mut self, batch: &Batch, lines: u64, done: bool) {
        self.under_way.subtract(&batch.plugin, lines);
        if done {
            self.memory.release(batch.bytes.len());
        }
    }

    fn look_at(&mut self, spool: &Spool) {
        self.spooled.waiting = spool.waiting();
        self.spooled.bytes = spool.disk_bytes();
    }
}

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
