//! The queue between the plugins and one output: memory first, the spool behind it when there is one.
//!
//! ```text
//! plugins -> memory -> parcels -> senders                  without a spool
//! plugins -> memory -> spool -> parcels -> senders         with one
//! plugins -> memory ----------> parcels -> senders         with one that cannot be written right now
//! ```
//! Parcels are filled one after the other, oldest lines first. A further sender begins when all before it
//! are busy, so that an output that keeps up has one connection. What an outage has left goes in turn with what comes,
//! unless the lines have to arrive in order.
//!
//! Everything that changes what is known of a line happens under one lock, so the books balance at any
//! moment. Locks are taken in the order spool, state; plugins only ever take the second, so a disk that
//! stands still holds up nobody.

mod accounts;
mod attempts;
mod backoff;
mod fill;
mod gaps;
mod memory;
mod snapshot;
mod spooling;
mod under_way;

pub use attempts::{Attempt, Pause};
pub use gaps::{Gaps, collector_gap};
pub use snapshot::Snapshot;
pub use spooling::SPOOL_PAUSE;

use self::accounts::Accounts;
use self::attempts::{Attempts, Next};
use self::memory::Memory;
use self::under_way::UnderWay;
use super::books::Cause;
use super::parcel::Parcel;
use super::spool::{Lost, Spool, Stretch, Waiting};
use crate::batch::Batch;
use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// An outage of this length leaves a backlog, beside which the present is not to wait.
const BACKLOG: Duration = Duration::from_secs(5);

/// Batches that wait, oldest first.
#[derive(Debug)]
pub struct Queue {
    spool: OnceLock<Mutex<Spool>>,
    state: Mutex<State>,
    changed: Condvar,
    in_order: bool,
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
    /// When the attempts that are under way began, by sender.
    trying: BTreeMap<usize, Instant>,
    accounts: Accounts,
    /// Since when something waits to be taken.
    since: Option<Instant>,
    /// No more batches come; what waits may be delivered until then.
    closed: Option<Instant>,
    /// There is no time left for another attempt: nothing more is taken.
    over: bool,
    /// Threads that wait for a change.
    sleepers: usize,
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
    /// A queue of so many bytes of memory.
    #[must_use]
    pub fn new(bound: usize, gaps: Gaps) -> Self {
        let state = State {
            memory: Memory::new(bound),
            spooled: Spooled::default(),
            under_way: UnderWay::default(),
            attempts: Attempts::default(),
            trying: BTreeMap::new(),
            accounts: Accounts::new(gaps),
            since: None,
            closed: None,
            over: false,
            sleepers: 0,
            gone: false,
        };
        Self {
            spool: OnceLock::new(),
            state: Mutex::new(state),
            changed: Condvar::new(),
            in_order: false,
        }
    }

    /// The same, with the oldest lines always first.
    #[must_use]
    pub fn in_order(self) -> Self {
        Self { in_order: true, ..self }
    }

    /// Puts a spool behind the memory, and what was found in it. To be called before anything is taken.
    pub fn set_spool(&self, (spool, recovered): (Spool, Vec<Stretch>)) {
        let mut state = self.state();
        recovered.iter().for_each(|stretch| state.accounts.recover(stretch));
        state.look_at(&spool);
        let _ = self.spool.set(Mutex::new(spool)); // it had none
    }

    /// There was to be a spool, and there is none.
    pub fn has_no_spool(&self, why: &str) {
        self.state().spooled.trouble = Some(why.to_owned());
    }

    /// Whether there is a spool.
    #[must_use]
    pub fn has_spool(&self) -> bool {
        self.spool.get().is_some()
    }

    /// Adds a batch; the oldest ones in memory make room. Once the queue is closed it is lost. A few lines wake
    /// nobody: those of a tick come from many plugins, and are told of together.
    pub fn push(&self, batch: Arc<Batch>) {
        let mut state = self.state();
        state.accounts.produce(&batch);
        if state.gone || state.closed.is_some() {
            return state.accounts.lose_batch(&batch, Cause::Error);
        }
        for gone in state.memory.push(batch) {
            state.accounts.lose_batch(&gone, Cause::Full);
        }
        if self.has_spool() || state.memory.is_prompt() {
            self.tell(&state);
        }
    }

    /// Notes lines that exist in other forms than this output's.
    pub fn miss(&self, batch: &Batch) {
        let mut state = self.state();
        state.accounts.produce(batch);
        state.accounts.lose_batch(batch, Cause::Form);
    }

    /// Tells of what was pushed, if anything was.
    pub fn wake(&self) {
        let state = self.state();
        let anyone = !state.memory.is_empty() && state.sleepers > 0;
        drop(state); // who wakes finds it free
        if anyone {
            self.changed.notify_all();
        }
    }

    /// Writes what became of a parcel's lines into the books, and returns how many were settled. A batch of
    /// which nothing is left is done.
    pub fn account(&self, parcel: &mut Parcel) -> u64 {
        let mut spool = self.spool();
        let mut state = self.state();
        state.trying.remove(&parcel.sender);
        if state.gone {
            return 0; // all is given up already
        }
        parcel.take_sent().into_iter().for_each(|(url, sent)| state.accounts.sent(url, sent));
        let mut all = 0;
        for item in parcel.items() {
            let fate = std::mem::take(&mut item.fate);
            let settled = fate.delivered + fate.dropped.sum();
            if settled == 0 {
                continue;
            }
            all += settled;
            state.accounts.settle(&item.batch.plugin, &fate);
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
                Next::Go(attempt) => {
                    state.trying.insert(sender, now);
                    return Turn::Go(attempt);
                }
                Next::Look => return Turn::Look,
                Next::Wait(until) => until.into_iter().chain(state.closed).min(),
            };
            state = self.wait(state, until.map(|until| until.saturating_duration_since(now)));
        }
    }

    /// When the oldest attempt began that is under way. One is until its result is in the books, for which its
    /// spool has to answer too.
    #[must_use]
    pub fn trying_since(&self) -> Option<Instant> {
        self.state().trying.values().min().copied()
    }

    /// A sender has looked: an attempt is worth it now, or the pause goes on.
    pub fn looked(&self, worth_it: bool) {
        self.state().attempts.looked(worth_it, Instant::now());
    }

    /// An attempt failed. Whether that is news: for another reason than before.
    pub fn failed(&self, sender: usize, attempt: Attempt, why: &str, pause: Pause) -> bool {
        let mut state = self.state();
        state.accounts.errors += 1;
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
                state.accounts.fail(plugin, lines);
                continue;
            };
            drop(state);
            let mut lost = Lost::new();
            let kept = spool.append(&item.rest_as_batch(), &mut lost).is_ok();
            let mut state = self.state();
            if !kept {
                state.accounts.fail(plugin, lines);
            }
            state.accounts.lose(lost);
            state.look_at(&spool);
        }
    }

    /// The other end is gone for good, or there is no time left: what waits in no spool, and all that
    /// comes, is lost. What lies in the spool stays for the next start.
    pub fn abandon(&self) {
        let mut state = self.state();
        state.gone = true;
        for batch in state.memory.drain() {
            state.accounts.lose_batch(&batch, Cause::Error);
        }
        for (plugin, lines) in state.under_way.drain() {
            state.accounts.fail(&plugin, lines);
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

    /// Until something changes, or the time is over.
    fn wait<'a>(
        &self,
        mut state: MutexGuard<'a, State>,
        at_most: Option<Duration>,
    ) -> MutexGuard<'a, State> {
        state.sleepers += 1;
        state = match at_most {
            None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            Some(at_most) => {
                let waited = self.changed.wait_timeout(state, at_most);
                waited.unwrap_or_else(PoisonError::into_inner).0
            }
        };
        state.sleepers -= 1;
        state
    }

    /// Something has changed. To wake nobody is a system call too.
    fn tell(&self, state: &State) {
        if state.sleepers > 0 {
            self.changed.notify_all();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn spool(&self) -> Option<MutexGuard<'_, Spool>> {
        Some(self.spool.get()?.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl State {
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
