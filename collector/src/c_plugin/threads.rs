//! Threads that plugins start by `beeQ_send_thread`: known, told to end, waited for.
//!
//! A thread is told by a flag that `plugin_is_working` shows, and by signals that interrupt what it waits in. One signal may
//! come at the wrong moment, just before the thread waits; so they come until it has ended.

use super::faults::Fault;
use super::queue::PushQueue;
use super::signals::WAKE;
use libc::pthread_t;
use log::Level;
use std::cell::{Cell, OnceCell};
use std::collections::BTreeSet;
use std::ffi::{c_int, c_void};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Between two signals to a thread.
const BETWEEN: Duration = Duration::from_millis(20);
/// A thread that takes longer to end is told of.
const PATIENCE: Duration = Duration::from_secs(2);
/// Threads of one plugin.
const MOST: usize = 128;

/// `int (*cb)(struct beeQ *q, void *arg)`
pub type Body = unsafe extern "C-unwind" fn(*mut c_void, *mut c_void) -> c_int;

/// A thread that has not ended.
struct Thread {
    queue: &'static PushQueue,
    /// Of the plugin.
    start: u64,
    told_to_end: AtomicBool,
}

#[derive(Default)]
struct Threads {
    living: Vec<(pthread_t, Arc<Thread>)>,
    /// Those that [`stop`] has joined: an author may stop one twice. A number is used again for a later thread.
    joined: BTreeSet<pthread_t>,
}

static THREADS: Mutex<Threads> =
    Mutex::new(Threads { living: Vec::new(), joined: BTreeSet::new() });
/// One has ended.
static ENDED: Condvar = Condvar::new();

thread_local! {
    /// What this thread is, if a plugin has started it.
    static SELF: OnceCell<Mark> = const { OnceCell::new() };
    /// The plugin whose own thread this is.
    static PLUGIN: Cell<Option<&'static PushQueue>> = const { Cell::new(None) };
}

/// Says when its thread ends, in whatever way: it returns, or calls pthread_exit(3).
struct Mark(Arc<Thread>);

impl Drop for Mark {
    fn drop(&mut self) {
        threads().living.retain(|(_, thread)| !Arc::ptr_eq(thread, &self.0));
        ENDED.notify_all();
    }
}

fn threads() -> MutexGuard<'static, Threads> {
    THREADS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// This thread calls a plugin from now on.
pub fn becomes_the_plugins(queue: &'static PushQueue) {
    PLUGIN.set(Some(queue));
}

/// The plugin that this thread belongs to, and its start if the plugin has started the thread.
pub fn whose() -> Option<(&'static PushQueue, Option<u64>)> {
    let own = |mark: &OnceCell<Mark>| mark.get().map(|mark| (mark.0.queue, Some(mark.0.start)));
    // A thread that ends may still send something.
    let own = SELF.try_with(own).unwrap_or_default();
    own.or_else(|| PLUGIN.try_with(|plugin| plugin.get()).ok().flatten().map(|queue| (queue, None)))
}

/// Whether this thread may go on. One that nobody knows may as long as any plugin works.
pub fn may_go_on() -> bool {
    let told = SELF
        .try_with(|mark| mark.get().is_some_and(|mark| mark.0.told_to_end.load(Ordering::Relaxed)));
    match whose() {
        Some((queue, start)) => {
            !told.unwrap_or(true)
                && queue.works()
                && start.is_none_or(|start| start == queue.start())
        }
        None => PushQueue::any_works(),
    }
}

unsafe extern "C" {
    // As in `libc`, but for the thread's function: pthread_exit(3) unwinds through it.
    fn pthread_create(
        thread: *mut pthread_t,
        attributes: *const libc::pthread_attr_t,
        run: unsafe extern "C-unwind" fn(*mut c_void) -> *mut c_void,
        argument: *mut c_void,
    ) -> c_int;
}

/// What a new thread is given.
struct Begin {
    thread: Arc<Thread>,
    body: Body,
    argument: *mut c_void,
}

/// Starts a thread of a plugin; none when there can be none.
///
/// # Safety
/// `body` is a function of this type that may be called with the queue's address and `argument` on any thread.
pub unsafe fn start(
    queue: &'static PushQueue,
    argument: *mut c_void,
    body: Body,
) -> Option<pthread_t> {
    let thread =
        Arc::new(Thread { queue, start: queue.start(), told_to_end: AtomicBool::new(false) });
    let mut threads = threads();
    if threads.living.iter().filter(|(_, other)| std::ptr::eq(other.queue, queue)).count() >= MOST {
        drop(threads);
        let text = format!("beeQ_send_thread: {MOST} threads run already: no more are started");
        queue.sink.log(Level::Warn, &text);
        return None;
    }
    let begin = Box::into_raw(Box::new(Begin { thread: Arc::clone(&thread), body, argument }));
    let mut id: pthread_t = 0;
    // SAFETY: `run` takes what `begin` is, and frees it.
    let error = unsafe { pthread_create(&raw mut id, std::ptr::null(), run, begin.cast()) };
    if error != 0 {
        // SAFETY: there is no thread that could have it.
        drop(unsafe { Box::from_raw(begin) });
        drop(threads);
        let why = std::io::Error::from_raw_os_error(error);
        queue.sink.log(Level::Warn, &format!("beeQ_send_thread: no thread: {why}"));
        return None;
    }
    threads.joined.remove(&id);
    threads.living.push((id, thread)); // under the lock: it cannot have ended
    Some(id)
}

/// Nothing here has a destructor when `body` runs: pthread_exit(3) may unwind through it.
unsafe extern "C-unwind" fn run(begin: *mut c_void) -> *mut c_void {
    // SAFETY: made by `start`, for this thread alone.
    let Begin { thread, body, argument } = *unsafe { Box::from_raw(begin.cast::<Begin>()) };
    let queue = thread.queue.address();
    SELF.with(|mark| {
        let _ = mark.set(Mark(thread));
    });
    // SAFETY: `start`'s promise.
    unsafe { body(queue, argument) };
    std::ptr::null_mut()
}

/// Tells a thread to end, waits until it has, and joins it.
///
/// # Safety
/// It is a thread of this process that can be joined, or one that this function has joined.
pub unsafe fn stop(id: pthread_t) {
    // SAFETY: asks for this thread's own number.
    if id == 0 || id == unsafe { libc::pthread_self() } {
        return;
    }
    let known = {
        let threads = threads();
        let known = threads.living.iter().find(|(other, _)| *other == id);
        let known = known.map(|(_, thread)| Arc::clone(thread));
        if known.is_none() && threads.joined.contains(&id) {
            return;
        }
        known
    };
    let began = Instant::now();
    let mut told = false;
    let mut tell = |name: &str| {
        if !std::mem::replace(&mut told, began.elapsed() > PATIENCE) && told {
            log::warn!(
                "{name}: plugin_thread_stop waits for a thread that does not end: it must return when \
                 plugin_is_working() is 0"
            );
        }
    };
    match known {
        Some(thread) => {
            thread.told_to_end.store(true, Ordering::Relaxed);
            let mut threads = threads();
            while threads.living.iter().any(|(_, other)| Arc::ptr_eq(other, &thread)) {
                // SAFETY: it lives: to end it needs the lock, to say so.
                unsafe { libc::pthread_kill(id, WAKE) };
                threads = wait(threads);
                tell(&thread.queue.name);
            }
            threads.joined.insert(id);
            drop(threads);
            // SAFETY: it has not been joined (the caller's promise).
            unsafe { libc::pthread_join(id, std::ptr::null_mut()) };
        }
        None => {
            let name = whose().map_or("a C plugin", |(queue, _)| &queue.name);
            // SAFETY: a thread that can be joined (the caller's promise), and is not until this says something else.
            while unsafe { libc::pthread_tryjoin_np(id, std::ptr::null_mut()) } == libc::EBUSY {
                // SAFETY: it is not joined.
                unsafe { libc::pthread_kill(id, WAKE) };
                std::thread::sleep(BETWEEN);
                tell(name);
            }
            threads().joined.insert(id);
        }
    }
}

fn wait(threads: MutexGuard<'static, Threads>) -> MutexGuard<'static, Threads> {
    let waited = ENDED.wait_timeout(threads, BETWEEN);
    waited.unwrap_or_else(PoisonError::into_inner).0
}

/// Runs a plugin's `deinit`. Threads that it does not stop are told to end while it runs, in case it waits for one, and
/// after it.
pub fn end_with(queue: &'static PushQueue, deinit: impl FnOnce()) {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let living =
            || threads().living.iter().any(|(_, thread)| std::ptr::eq(thread.queue, queue));
        if living() {
            scope.spawn(|| {
                while !done.load(Ordering::Acquire) {
                    // First of all it may end them itself.
                    std::thread::sleep(BETWEEN);
                    wake(&threads(), queue);
                }
            });
        }
        deinit();
        done.store(true, Ordering::Release);
    });
    let end_by = Instant::now() + PATIENCE;
    let mut threads = threads();
    loop {
        let left = wake(&threads, queue);
        if left == 0 {
            return;
        }
        if Instant::now() > end_by {
            drop(threads);
            queue.faults.count(queue.sink, Fault::Thread, left, || {
                format!(
                    "{left} of its threads do not end: each must return when plugin_is_working() is 0, and deinit \
                     stops each by plugin_thread_stop()"
                )
            });
            return;
        }
        threads = wait(threads);
    }
}

/// Tells a plugin's threads to end; how many there are.
fn wake(threads: &Threads, queue: &PushQueue) -> usize {
    let own = threads.living.iter().filter(|(_, thread)| std::ptr::eq(thread.queue, queue));
    own.map(|(id, thread)| {
        thread.told_to_end.store(true, Ordering::Relaxed);
        // SAFETY: it lives: to end it needs the lock, to say so.
        unsafe { libc::pthread_kill(*id, WAKE) };
    })
    .count()
}
