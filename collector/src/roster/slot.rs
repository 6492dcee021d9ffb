//! One plugin: the instance that runs, the one that is to follow it, and those that have not ended yet.

use super::{NEXT_TICK, PATIENCE, Reason, SLOW_START, State};
use crate::control::{Begin, Control, Order, Word};
use crate::digest::Digest;
use crate::event::Loaded;
use crate::ledger::Ledger;
use crate::tick::Now;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

/// A plugin by its name.
pub struct Slot {
    pub name: String,
    /// Its file; none when it is to end.
    pub path: Option<PathBuf>,
    /// What is shown: the books of the instance that runs, or was the last to.
    pub ledger: Arc<Ledger>,
    pub current: Option<Worker>,
    pub next: Option<Worker>,
    pub leaving: Vec<Worker>,
    /// Has changed once more while one instance takes over from another.
    pub again: Option<Reason>,
    pub removed: bool,
}

/// An instance, and its thread.
pub struct Worker {
    pub id: u64,
    pub control: Control,
    pub ledger: Arc<Ledger>,
    /// Known when it has started.
    pub loaded: Option<Loaded>,
    /// When it was told to end.
    pub asked: Option<Instant>,
    /// Nobody waits for it.
    pub abandoned: bool,
    /// Another instance ran, or had not ended, when it was put on the list.
    pub beside: bool,
    /// When that was; none when it was said that the start takes long.
    began: Option<Instant>,
}

impl Worker {
    pub fn new(id: u64, control: Control, ledger: &Arc<Ledger>, beside: bool) -> Self {
        let (ledger, began) = (Arc::clone(ledger), Some(Instant::now()));
        Self { id, control, ledger, loaded: None, asked: None, abandoned: false, beside, began }
    }
}

impl Slot {
    pub fn new(name: &str, path: Option<PathBuf>, ledger: Arc<Ledger>) -> Self {
        Self {
            name: name.to_owned(),
            path,
            ledger,
            current: None,
            next: None,
            leaving: Vec::new(),
            again: None,
            removed: false,
        }
    }

    pub fn has(&self, id: u64) -> bool {
        let mut all = self.current.iter().chain(&self.next).chain(&self.leaving);
        all.any(|worker| worker.id == id)
    }

    /// Whether it runs, or is about to.
    pub fn runs(&self) -> bool {
        self.current.is_some() || self.next.is_some()
    }

    /// The content of what runs.
    pub fn digest(&self) -> Option<Digest> {
        let running = self.current.as_ref().or(self.next.as_ref());
        running.and_then(|worker| worker.loaded.as_ref()).map(|loaded| loaded.digest)
    }

    /// Whether the instance that runs knows its successor.
    pub fn is_changing_over(&self) -> bool {
        self.current.as_ref().is_some_and(|current| current.asked.is_some())
    }

    pub fn is_empty(&self) -> bool {
        !self.runs() && self.leaving.is_empty()
    }

    /// Whether nothing more is waited for.
    pub fn is_over(&self) -> bool {
        !self.runs() && self.leaving.iter().all(|worker| worker.abandoned)
    }

    /// Other books are shown from now on.
    pub fn show(&mut self, ledger: &Arc<Ledger>) {
        if !Arc::ptr_eq(ledger, &self.ledger) {
            ledger.inherit(&self.ledger);
            self.ledger = Arc::clone(ledger);
        }
    }

    /// The one that is being started is not wanted any more.
    pub fn cancel_next(&mut self) {
        if let Some(mut next) = self.next.take() {
            next.control.end(Order::NOW);
            next.asked = Some(Instant::now());
            self.leaving.push(next);
        }
    }

    /// It is to end. Of two instances that change over, the second one makes a last call only if it has begun.
    pub fn order(&mut self, order: Order) {
        for mut worker in self.current.take().into_iter().chain(self.next.take()) {
            worker.control.end(order);
            worker.asked = Some(Instant::now());
            self.leaving.push(worker);
        }
        self.again = None;
    }

    /// The next one is the one that runs.
    pub fn promote(&mut self) {
        let Some(next) = self.next.take() else { return };
        if let Some(mut current) = self.current.take() {
            current.asked = Some(Instant::now()); // to end the plugin may take as long as its last call
            self.leaving.push(current);
        }
        if next.beside {
            log::info!("{}: replaced", self.name); // the one before may have ended before this is heard
        }
        self.show(&Arc::clone(&next.ledger));
        self.current = Some(next);
    }

    pub fn took_over(&mut self, id: u64) {
        if self.next.as_ref().is_some_and(|next| next.id == id) {
            self.promote();
        }
    }

    /// An instance could not be started; its thread has ended.
    pub fn refused(&mut self, id: u64, reason: &str) {
        if self.next.as_ref().is_none_or(|next| next.id != id) {
            return self.ended(id);
        }
        let Some(next) = self.next.take() else { return };
        if self.current.is_some() {
            log::error!("{}: the change is refused, and what runs goes on: {reason}", self.name);
            self.ledger.stands(Some(format!("a change is refused, what runs goes on: {reason}")));
        } else {
            log::error!("{}: not started: {reason}", self.name);
            self.show(&next.ledger);
            self.ledger.set(State::Refused, Some(reason));
        }
    }

    /// Nothing is to be changed; its thread has ended.
    pub fn same(&mut self, id: u64) {
        self.ended(id);
        self.ledger.stands(None);
    }

    pub fn ended(&mut self, id: u64) {
        for place in [&mut self.current, &mut self.next] {
            let _ = place.take_if(|worker| worker.id == id);
        }
        for worker in self.leaving.extract_if(.., |worker| worker.id == id) {
            if !Arc::ptr_eq(&worker.ledger, &self.ledger) {
                self.ledger.inherit(&worker.ledger);
            }
        }
    }

    /// Says once of the one that is being started that it takes long.
    pub fn warn_of_slow_start(&mut self, now: Instant) {
        let Some(next) = self.next.as_mut().filter(|next| next.loaded.is_none()) else { return };
        if next.began.take_if(|began| now.duration_since(*began) >= SLOW_START).is_none() {
            return;
        }
        next.ledger.starting_for(SLOW_START);
        if self.current.is_some() {
            log::warn!("{}: its replacement is still starting; what runs goes on", self.name);
        } else {
            log::warn!("{}: still starting; the others begin", self.name);
        }
    }

    /// The end has come for all: the ticks that calls under way have passed until then are missed.
    pub fn close(&self, at: Now) {
        for worker in &self.leaving {
            worker.ledger.leave_behind(at);
            if !Arc::ptr_eq(&worker.ledger, &self.ledger) {
                self.ledger.inherit(&worker.ledger);
            }
        }
    }

    /// Nobody waits for calls that hang. Whether there is one of which that is new.
    pub fn leave_behind(&mut self, now: Instant) -> bool {
        let over = |worker: &Worker, patience| {
            !worker.abandoned
                && worker.asked.is_some_and(|asked| now.duration_since(asked) > patience)
        };
        let hangs = |worker: &Worker| {
            let long = |began| now.duration_since(began) > PATIENCE;
            over(worker, NEXT_TICK)
                || over(worker, PATIENCE) && worker.ledger.called().is_some_and(long)
        };
        let mut new = false;
        if let Some(current) = self.current.as_mut().filter(|current| hangs(current))
            && current.control.abandon()
        {
            current.abandoned = true;
            current.ledger.leave_behind(Now::read());
            log::warn!("{}: a call hangs: left behind, its replacement begins", self.name);
            if let Some(next) = &self.next {
                let newest_ns = current.ledger.newest_ns();
                let begin = Begin { at: Now::read(), skip: true, after: None, newest_ns };
                next.control.say(Word::Begin(begin));
            }
            self.promote();
            new = true;
        }
        for worker in self.leaving.iter_mut().filter(|worker| over(worker, PATIENCE)) {
            let _ = worker.control.abandon();
            worker.abandoned = true;
            worker.ledger.leave_behind(Now::read());
            log::warn!("{}: has not ended in time: left behind", self.name);
            new = true;
        }
        new
    }
}
