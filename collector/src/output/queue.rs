//! The queue between the router and one output: memory first, the spool behind it when there is one.
//!
//! ```text
//! router -> memory -> parcel -> output                     without a spool
//! router -> memory -> spool -> parcel -> output            with one
//! router -> memory ----------> parcel -> output            with one that cannot be written right now
//! ```
//! Everything that changes what is known of a line happens under one lock, so the books balance at any
//! moment. Locks are taken in the order spool, state; the router only ever takes the second, so a disk
//! that stands still holds up nobody.

use super::books::{Books, Cause, Sent};
use super::gaps::Gaps;
use super::parcel::{Limits, Parcel};
use super::spool::{End, Lost, Place, Spool, Stretch, Waiting};
use crate::batch::Batch;
use crate::tick::Now;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Before a spool that did not work is tried again.
pub const SPOOL_PAUSE: Duration = Duration::from_secs(1);

/// Batches that wait, oldest first.
#[derive(Debug)]
pub struct Queue {
    /// Bytes that may wait in memory, those on their way among them.
    bound: usize,
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
    /// What each URL got of it.
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

#[derive(Debug)]
struct State {
    memory: VecDeque<Arc<Batch>>,
    /// Being written to the spool.
    spooling: Option<Arc<Batch>>,
    /// Lines on their way that lie in no spool, by plugin.
    on_way: BTreeMap<Arc<str>, u64>,
    /// Of `memory`, `spooling`, and what is on its way and in no spool.
    bytes: usize,
    /// In the spool and not taken.
    spooled: Waiting,
    /// Why the spool cannot be written; then parcels are filled from memory.
    spool_trouble: Option<String>,
    /// The next parcel is to come from the present, when a backlog waits too.
    present_next: bool,
    /// Since when something waits to be taken.
    since: Option<Instant>,
    known: Snapshot,
    gaps: Gaps,
    /// No more batches come; what waits may be delivered until then.
    closed: Option<Instant>,
    /// The other end is gone.
    gone: bool,
}

impl Queue {
    /// A queue of so many bytes of memory, and what it recovered from its spool.
    #[must_use]
    pub fn new(bound: usize, gaps: Gaps, spool: Option<(Spool, Vec<Stretch>)>) -> Self {
        let mut state = State {
            memory: VecDeque::new(),
            spooling: None,
            on_way: BTreeMap::new(),
            bytes: 0,
            spooled: Waiting::default(),
            spool_trouble: None,
            present_next: false,
            since: None,
            known: Snapshot::default(),
            gaps,
            closed: None,
            gone: false,
        };
        let spool = spool.map(|(spool, recovered)| {
            for Stretch { plugin, lines, .. } in recovered {
                let books = state.books(&plugin);
                books.recovered += lines;
                books.waiting += lines;
            }
            state.look_at(&spool);
            Mutex::new(spool)
        });
        Self { bound, spool, state: Mutex::new(state), changed: Condvar::new() }
    }

    /// Whether there is a spool.
    #[must_use]
    pub fn has_spool(&self) -> bool {
        self.spool.is_some()
    }

    /// Adds a batch; the oldest ones in memory make room.
    pub fn push(&self, batch: Arc<Batch>) {
        let mut state = self.state();
        state.books(&batch.plugin).produce(batch.lines);
        if state.gone {
            return state.lose_batch(&batch, Cause::Error);
        }
        while state.bytes + batch.bytes.len() > self.bound {
            let Some(oldest) = state.memory.pop_front() else {
                return state.lose_batch(&batch, Cause::Full);
            };
            state.bytes -= oldest.bytes.len();
            state.lose_batch(&oldest, Cause::Full);
        }
        state.bytes += batch.bytes.len();
        state.memory.push_back(batch);
        self.changed.notify_all();
    }

    /// The next batches to deliver. Waits for them, and then for more up to the limits' time; `None`
    /// when none will come.
    pub fn take(&self, limits: &Limits) -> Option<Parcel> {
        let mut state = self.state();
        loop {
            if state.gone {
                return None;
            }
            let ready = state.ready(self.has_spool());
            let open = state.closed.is_none();
            let enough = ready.lines >= limits.lines || ready.bytes >= limits.bytes as u64;
            let tell = state.gaps.due() || (!open && !state.gaps.is_empty());
            if ready.lines == 0 && (open || !tell) {
                if !open && state.memory.is_empty() && state.spooling.is_none() {
                    return None;
                }
                state.since = None;
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            let waited = state.since.get_or_insert_with(Instant::now).elapsed();
            if open && !enough && waited < limits.wait {
                let left = limits.wait - waited;
                (state, _) =
                    self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            state.since = None;
            let from_spool = state.spooled.lines > 0;
            let mut batches = Vec::new();
            if tell && let Some(told) = state.gaps.tell() {
                state.books(&told.plugin).produce(told.lines);
                state.bytes += told.bytes.len();
                batches.push((Arc::new(told), None));
            }
            if !from_spool {
                batches.extend(state.take_from_memory(limits).map(|batch| (batch, None)));
            }
            for (batch, _) in &batches {
                *state.on_way.entry(Arc::clone(&batch.plugin)).or_default() += batch.lines;
            }
            if from_spool {
                let present_next = state.present_next;
                drop(state);
                let spooled = self.take_from_spool(present_next, limits);
                batches.extend(spooled.into_iter().map(|(batch, place)| (batch, Some(place))));
                state = self.state();
            }
            if !batches.is_empty() {
                return Some(Parcel::new(batches));
            }
            if state.spooled.lines > 0 {
                // It cannot be read now, for want of files or memory: not again at once.
                (state, _) = self
                    .changed
                    .wait_timeout(state, SPOOL_PAUSE)
                    .unwrap_or_else(PoisonError::into_inner);
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
        state.present_next = end == End::Oldest;
        state.lose(lost);
        state.look_at(&spool);
        batches
    }

    /// Writes what became of a parcel's lines into the books. A batch of which nothing is left is done.
    pub fn account(&self, parcel: &mut Parcel) {
        let mut spool = self.spool();
        let mut state = self.state();
        if state.gone {
            return; // all is given up already
        }
        for (url, sent) in parcel.take_sent() {
            *state.known.urls.entry(url).or_default() += sent;
        }
        for item in parcel.items() {
            let fate = std::mem::take(&mut item.fate);
            state.known.bytes += fate.bytes;
            let books = state.books(&item.batch.plugin);
            books.deliver(fate.delivered);
            for cause in Cause::ALL {
                books.give_up(fate.dropped[cause], cause);
            }
            let settled = fate.delivered + fate.dropped.sum();
            let done = item.is_done() && settled > 0;
            match (item.place, &mut spool) {
                (Some(place), Some(spool)) if done => spool.done(place),
                (Some(_), _) => {}
                (None, _) => state.arrived(&item.batch, settled, done),
            }
        }
        if let Some(spool) = &spool {
            state.look_at(spool);
        }
    }

    /// It delivers again, after an outage when `backlog` is set: what piled up and what comes from now
    /// on are then delivered in turn.
    pub fn works(&self, backlog: bool) {
        let spool = self.spool();
        self.state().known.trouble = None;
        if let (true, Some(mut spool)) = (backlog, spool) {
            spool.split();
        }
    }

    /// An attempt failed. Waits a while, shorter once the queue is closed; false when there is no time
    /// left for another.
    pub fn failed(&self, why: &str, pause: Duration) -> bool {
        let mut state = self.state();
        state.known.errors += 1;
        state.known.trouble = Some(why.to_owned());
        let again = Instant::now() + pause;
        loop {
            let now = Instant::now();
            let end = match state.closed {
                Some(deadline) if now >= deadline || self.is_safe(&state) => return false,
                Some(deadline) => deadline.min(again),
                None => again,
            };
            if now >= end {
                return true;
            }
            let closed = state.closed.is_some();
            (state, _) =
                self.changed.wait_timeout(state, end - now).unwrap_or_else(PoisonError::into_inner);
            if !closed && state.closed.is_some() {
                return true; // at once: it may be the last chance
            }
        }
    }

    /// Whether all that waits lies in the spool, for the next start, or can be put there.
    fn is_safe(&self, state: &State) -> bool {
        let on_way = || state.on_way.values().any(|lines| *lines > 0);
        self.has_spool()
            && state.memory.is_empty()
            && state.spooling.is_none()
            && (state.spool_trouble.is_none() || !on_way())
    }

    /// A parcel will not be delivered any more. What of it is in no spool goes there, or is lost.
    pub fn give_back(&self, parcel: &mut Parcel) {
        self.account(parcel);
        for item in parcel.items() {
            if item.is_done() || item.place.is_some() {
                continue;
            }
            let lines = item.lines_left();
            let spool = self.spool();
            let mut state = self.state();
            if state.gone {
                return; // all is given up already
            }
            // Whoever abandons the queue from here on leaves these lines to us.
            state.arrived(&item.batch, lines, true);
            let Some(mut spool) = spool else {
                state.books(&item.batch.plugin).give_up(lines, Cause::Error);
                continue;
            };
            drop(state);
            let mut lost = Lost::new();
            let kept = spool.append(&item.rest_as_batch(), &mut lost).is_ok();
            let mut state = self.state();
            if !kept {
                state.books(&item.batch.plugin).give_up(lines, Cause::Error);
            }
            state.lose(lost);
            state.look_at(&spool);
        }
    }

    /// The other end is gone for good, or there is no time left: what waits in no spool, and all that
    /// comes, is lost. What lies in the spool stays for the next start.
    pub fn abandon(&self) {
        let mut state = self.state();
        state.gone = true;
        for batch in std::mem::take(&mut state.memory) {
            state.lose_batch(&batch, Cause::Error);
        }
        for (plugin, lines) in std::mem::take(&mut state.on_way) {
            state.books(&plugin).give_up(lines, Cause::Error);
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
        self.state().closed = Some(deadline);
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
        let mut known = state.known.clone();
        known.trouble = match (known.trouble, &state.spool_trouble) {
            (Some(output), Some(spool)) => Some(format!("{output}; {spool}")),
            (output, spool) => output.or_else(|| spool.clone()),
        };
        known
    }

    /// Moves the oldest batch of memory into the spool, as soon as there is one. After an error it
    /// stays the oldest in memory, from which parcels are then filled. `None` when nothing will come.
    pub fn spool_next(&self) -> Option<Result<(), String>> {
        let batch = self.next_to_spool()?;
        let mut lost = Lost::new();
        let mut spool = self.spool()?;
        let result = spool.append(&batch, &mut lost);
        let mut state = self.state();
        state.spooling = None;
        state.lose(lost);
        match &result {
            Ok(()) => {
                state.bytes -= batch.bytes.len();
                state.spool_trouble = None;
            }
            Err(why) => {
                state.memory.push_front(batch);
                state.spool_trouble = Some(format!("the spool cannot be written: {why}"));
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
            if let Some(batch) = state.memory.pop_front() {
                state.spooling = Some(Arc::clone(&batch));
                return Some(batch);
            }
            if state.closed.is_some() {
                return None;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
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
            (state, _) =
                self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner);
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
    fn books(&mut self, plugin: &Arc<str>) -> &mut Books {
        self.known.plugins.entry(Arc::clone(plugin)).or_default()
    }

    /// What a parcel could be filled with now.
    fn ready(&self, has_spool: bool) -> Waiting {
        if self.spooled.lines > 0 || (has_spool && self.spool_trouble.is_none()) {
            return self.spooled;
        }
        let sum = |sum: Waiting, batch: &Arc<Batch>| Waiting {
            lines: sum.lines + batch.lines,
            bytes: sum.bytes + batch.bytes.len() as u64,
        };
        self.memory.iter().fold(Waiting::default(), sum)
    }

    fn take_from_memory(&mut self, limits: &Limits) -> impl Iterator<Item = Arc<Batch>> {
        let (mut lines, mut bytes, mut count) = (0, 0, 0);
        for batch in &self.memory {
            lines += batch.lines;
            bytes += batch.bytes.len();
            if count > 0 && (lines > limits.lines || bytes > limits.bytes) {
                break;
            }
            count += 1;
        }
        self.memory.drain(..count)
    }

    /// Lines of a batch that is in no spool are on their way no longer; all of them when it is `done`.
    fn arrived(&mut self, batch: &Batch, lines: u64, done: bool) {
        if let Some(on_way) = self.on_way.get_mut(&batch.plugin) {
            *on_way -= lines;
        }
        if done {
            self.bytes -= batch.bytes.len();
        }
    }

    /// Lines that waited are lost.
    fn lose(&mut self, lost: Lost) {
        for (stretch, cause) in lost {
            self.books(&stretch.plugin).give_up(stretch.lines, cause);
            self.gaps.add(&stretch, cause);
        }
    }

    fn lose_batch(&mut self, batch: &Batch, cause: Cause) {
        let stretch = Stretch::of(&batch.plugin, &batch.tick, batch.lines);
        self.lose(vec![(stretch, cause)]);
    }

    fn look_at(&mut self, spool: &Spool) {
        self.spooled = spool.waiting();
        self.known.spool_bytes = spool.disk_bytes();
    }
}

#[cfg(test)]
#[path = "queue_tests.rs"]
mod tests;
