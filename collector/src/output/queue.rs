//! The queue between the router and one output, and its books.

use crate::batch::Batch;
use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Books of an output since the start, in lines: `produced` = `delivered` + `waiting` + `dropped_full` +
/// `dropped_error` at any moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Books {
    /// Lines that were to go there.
    pub produced: u64,
    /// Lines that were written.
    pub delivered: u64,
    /// Lines in the queue or being written.
    pub waiting: u64,
    /// Oldest lines given up because the queue was full.
    pub dropped_full: u64,
    /// Lines given up because the other end is gone or failed to the end.
    pub dropped_error: u64,
    /// Bytes written.
    pub bytes: u64,
    /// Attempts that failed.
    pub errors: u64,
}

impl fmt::Display for Books {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { produced, delivered, waiting, dropped_full, dropped_error, .. } = self;
        write!(
            f,
            "{produced} lines produced = {delivered} delivered + {waiting} waiting + \
             {dropped_full} dropped (queue full) + {dropped_error} dropped (error)"
        )
    }
}

/// Batches that wait, oldest first.
#[derive(Debug)]
pub struct Queue {
    /// Bytes that may wait, the batch being written among them.
    bound: usize,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Arc<Batch>>,
    /// The batch being written. It counts as waiting and is never dropped for a newer one.
    current: Option<Arc<Batch>>,
    /// Of `waiting` and `current`.
    bytes: usize,
    books: Books,
    /// No more batches come; what waits may be written until then.
    closed: Option<Instant>,
    /// The other end is gone.
    gone: bool,
}

impl Queue {
    /// An empty queue for so many bytes.
    #[must_use]
    pub fn new(bound: usize) -> Self {
        Self { bound, state: Mutex::default(), changed: Condvar::new() }
    }

    /// Adds a batch; the oldest ones make room.
    pub fn push(&self, batch: Arc<Batch>) {
        let mut state = self.state();
        let (lines, size) = (batch.lines, batch.bytes.len());
        state.books.produced += lines;
        if state.gone {
            state.books.dropped_error += lines;
            return;
        }
        while state.bytes + size > self.bound {
            let Some(oldest) = state.waiting.pop_front() else { break };
            state.bytes -= oldest.bytes.len();
            state.books.waiting -= oldest.lines;
            state.books.dropped_full += oldest.lines;
        }
        if state.bytes + size > self.bound {
            state.books.dropped_full += lines;
            return;
        }
        state.bytes += size;
        state.books.waiting += lines;
        state.waiting.push_back(batch);
        self.changed.notify_all();
    }

    /// The next batch to write, the same one until it is [delivered](Self::delivered). Waits for it;
    /// `None` when none will come.
    pub fn next(&self) -> Option<Arc<Batch>> {
        let mut state = self.state();
        while state.current.is_none() {
            if state.gone {
                return None;
            }
            state.current = state.waiting.pop_front();
            if state.current.is_none() {
                if state.closed.is_some() {
                    return None;
                }
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
        }
        state.current.clone()
    }

    /// The batch was written.
    pub fn delivered(&self) {
        let mut state = self.state();
        let Some(batch) = state.current.take() else { return };
        state.bytes -= batch.bytes.len();
        state.books.waiting -= batch.lines;
        state.books.delivered += batch.lines;
        state.books.bytes += batch.bytes.len() as u64;
    }

    /// An attempt failed. Waits a while, shorter once the queue is closed; false when there is no time
    /// left for another.
    pub fn failed(&self, pause: Duration) -> bool {
        let mut state = self.state();
        state.books.errors += 1;
        let again = Instant::now() + pause;
        loop {
            let now = Instant::now();
            let end = match state.closed {
                Some(deadline) if now >= deadline => return false,
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

    /// The other end is gone: all that waits and all that comes is lost.
    pub fn abandon(&self) {
        let mut state = self.state();
        state.gone = true;
        state.books.errors += 1;
        state.books.dropped_error += state.books.waiting;
        state.books.waiting = 0;
        state.bytes = 0;
        state.current = None;
        state.waiting.clear();
        self.changed.notify_all();
    }

    /// Whether the other end is gone.
    #[must_use]
    pub fn gone(&self) -> bool {
        self.state().gone
    }

    /// No more batches come. What waits may be written until the deadline.
    pub fn close(&self, deadline: Instant) {
        self.state().closed = Some(deadline);
        self.changed.notify_all();
    }

    /// The books as they stand.
    #[must_use]
    pub fn books(&self) -> Books {
        self.state().books
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use plugin_api::Tick;

    fn batch(lines: u64, bytes: usize) -> Arc<Batch> {
        let tick = Tick { seq: 0, time_ns: 1, elapsed_ns: 1 };
        Arc::new(Batch { plugin: "p".into(), tick, lines, bytes: vec![b'x'; bytes] })
    }

    fn balanced(queue: &Queue) -> Books {
        let b = queue.books();
        assert_eq!(b.produced, b.delivered + b.waiting + b.dropped_full + b.dropped_error, "{b:?}");
        b
    }

    #[test]
    fn the_oldest_lines_make_room_and_the_books_balance_at_any_moment() {
        let queue = Queue::new(100);
        for i in 1..=10 {
            queue.push(batch(i, 30));
            balanced(&queue);
        }
        let books = balanced(&queue);
        assert_eq!((books.waiting, books.dropped_full), (8 + 9 + 10, 28));
        assert_eq!(queue.next().unwrap().lines, 8);
        queue.push(batch(11, 90)); // does not fit beside the one being written
        let books = balanced(&queue);
        assert_eq!((books.waiting, books.dropped_full), (8, 28 + 9 + 10 + 11));
        queue.delivered();
        queue.push(batch(12, 101)); // fits nowhere
        queue.push(batch(13, 100));
        assert_eq!(queue.next().unwrap().lines, 13);
        queue.delivered();
        let books = balanced(&queue);
        assert_eq!((books.waiting, books.delivered, books.bytes), (0, 21, 130));
    }

    #[test]
    fn what_waits_at_the_end_is_handed_out_and_then_it_is_over() {
        let queue = Queue::new(100);
        queue.push(batch(1, 1));
        queue.close(Instant::now() + Duration::from_secs(5));
        assert!(queue.next().is_some());
        assert!(queue.failed(Duration::ZERO));
        assert!(queue.next().is_some(), "the same batch again");
        queue.delivered();
        assert!(queue.next().is_none());
        assert_eq!(balanced(&queue).errors, 1);
    }

    #[test]
    fn attempts_end_at_the_deadline() {
        let queue = Queue::new(100);
        queue.push(batch(1, 1));
        assert!(queue.next().is_some());
        queue.close(Instant::now());
        assert!(!queue.failed(Duration::from_secs(60)));
        queue.abandon();
        assert_eq!(balanced(&queue).dropped_error, 1);
    }

    #[test]
    fn lines_for_an_end_that_is_gone_are_counted_as_lost() {
        let queue = Queue::new(100);
        queue.push(batch(2, 1));
        assert!(queue.next().is_some());
        queue.push(batch(3, 1));
        queue.abandon();
        queue.push(batch(4, 1));
        assert_eq!(balanced(&queue).dropped_error, 9);
        assert!(queue.next().is_none());
    }
}
