//! The push style: lines that a plugin's own threads send between ticks.
//!
//! Unity's name for the queue is `beeQ`. It lives as long as the process, because a plugin's thread may come back to it
//! at any time. Sending never blocks: what does not fit is dropped, and counted.

use super::faults::{Fault, Faults};
use super::memory::{HandedOver, Teller, unpack};
use super::unity::Lines;
use crate::sink::{Dropped, Sink};
use crate::tick::Now;
use std::collections::VecDeque;
use std::ffi::{c_int, c_void};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock};

/// How much memory of the plugin may wait, as a multiple of the bytes that its lines may have on the wire. A line takes
/// 952 bytes there.
const BYTES: usize = 8;

/// What a C plugin's threads and its host share.
pub struct PushQueue {
    pub name: String,
    pub sink: &'static Sink,
    pub faults: Faults,
    image: Range<usize>,
    /// 0 before the first start; a thread of an earlier start is nobody's any more.
    start: AtomicU64,
    /// What `plugin_is_working` says.
    working: AtomicBool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    open: bool,
    messages: VecDeque<Message>,
    lines: u64,
    bytes: usize,
}

/// What one `beeQ_send` has handed over.
pub struct Message {
    pub given: HandedOver,
    /// When.
    pub time_ns: i64,
}

/// All there are. A plugin's word for its queue is believed only if it stands here.
static QUEUES: RwLock<Vec<&'static PushQueue>> = RwLock::new(Vec::new());

impl PushQueue {
    /// Makes one, for good.
    #[must_use]
    pub fn leak(name: &str, sink: &'static Sink, image: Range<usize>) -> &'static Self {
        let queue: &'static Self = Box::leak(Box::new(Self {
            name: name.to_owned(),
            sink,
            faults: Faults::default(),
            image,
            start: AtomicU64::new(0),
            working: AtomicBool::new(false),
            state: Mutex::default(),
        }));
        QUEUES.write().unwrap_or_else(PoisonError::into_inner).push(queue);
        queue
    }

    /// What the plugin knows it by.
    #[must_use]
    pub fn address(&'static self) -> *mut c_void {
        std::ptr::from_ref(self).cast_mut().cast()
    }

    /// The queue of an address, if it is one.
    #[must_use]
    pub fn at(address: *const c_void) -> Option<&'static Self> {
        let queues = QUEUES.read().unwrap_or_else(PoisonError::into_inner);
        queues.iter().copied().find(|queue| std::ptr::eq(queue.address(), address))
    }

    /// Whether any plugin is running.
    #[must_use]
    pub fn any_works() -> bool {
        let queues = QUEUES.read().unwrap_or_else(PoisonError::into_inner);
        queues.iter().any(|queue| queue.works())
    }

    /// The plugin is about to be started.
    pub fn open(&self) {
        self.start.fetch_add(1, Ordering::Relaxed);
        self.working.store(true, Ordering::Relaxed);
        self.state().open = true;
    }

    /// The number of this start.
    pub fn start(&self) -> u64 {
        self.start.load(Ordering::Relaxed)
    }

    /// Whether the plugin has not been told to end.
    pub fn works(&self) -> bool {
        self.working.load(Ordering::Relaxed)
    }

    /// The plugin's threads are to end.
    pub fn stop_working(&self) {
        self.working.store(false, Ordering::Relaxed);
    }

    /// Takes nothing any more. What still waits has missed the last tick.
    pub fn close(&self) {
        let messages = {
            let mut state = self.state();
            state.open = false;
            std::mem::take(&mut *state).messages
        };
        let lines: usize = messages.iter().map(|message| message.given.count()).sum();
        if lines > 0 {
            self.drop_stopped(lines, || {
                "lines that were sent after the last call are dropped".to_owned()
            });
        }
    }

    /// Takes over what a plugin sends.
    ///
    /// # Safety
    /// `message` is NULL or as for [`unpack`], and what it points to as for [`HandedOver::take`].
    pub unsafe fn send(&self, message: *mut Lines, start: Option<u64>) -> c_int {
        let teller = Teller { faults: &self.faults, sink: self.sink, verb: "beeQ_send" };
        if message.is_null() {
            self.faults
                .count(self.sink, Fault::Count, 1, || "beeQ_send: no lines (NULL)".to_owned());
            return -libc::EINVAL;
        }
        // SAFETY: the caller's promise.
        let given = unsafe {
            let lines = unpack(message, &self.image, &teller);
            HandedOver::take(&lines, self.image.clone(), &teller)
        };
        let lines = given.count();
        self.faults.sent(lines);
        if lines == 0 {
            return 0;
        }
        let bytes = given.bytes();
        let message = Message { given, time_ns: Now::read().wall_ns };
        let limits = self.sink.limits();
        let mut state = self.state();
        if !state.open || start.is_some_and(|start| start != self.start()) {
            drop(state);
            self.drop_stopped(lines, || "beeQ_send: the plugin is not running".to_owned());
            return -libc::ESHUTDOWN;
        }
        let (all_lines, all_bytes) = (state.lines + lines as u64, state.bytes + bytes);
        if all_lines > limits.lines || all_bytes > limits.bytes.saturating_mul(BYTES) {
            drop(state);
            self.faults.count(self.sink, Fault::Full, lines, || {
                format!(
                    "beeQ_send: more than {} lines or {} bytes between two ticks: dropped (max_lines, max_bytes)",
                    limits.lines,
                    limits.bytes.saturating_mul(BYTES)
                )
            });
            self.sink.count_dropped(Dropped { full: lines as u64, ..Dropped::default() });
            return -libc::ENOBUFS;
        }
        (state.lines, state.bytes) = (all_lines, all_bytes);
        state.messages.push_back(message);
        0
    }

    /// What was sent since this was last asked.
    pub fn drain(&self) -> VecDeque<Message> {
        let mut state = self.state();
        (state.lines, state.bytes) = (0, 0);
        std::mem::take(&mut state.messages)
    }

    /// Where the plugin's file lies in memory.
    pub fn image(&self) -> Range<usize> {
        self.image.clone()
    }

    fn drop_stopped(&self, lines: usize, text: impl FnOnce() -> String) {
        self.faults.count(self.sink, Fault::Stopped, lines, text);
        self.sink.count_dropped(Dropped { closed: lines as u64, ..Dropped::default() });
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
