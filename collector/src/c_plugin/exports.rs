//! The functions that C plugins call in the host, by the names that unity's host has.
//!
//! The collector's executable exports them (`build.rs`). `plugin-api/include` declares them.

#![allow(non_snake_case, reason = "the names are unity's")]

use super::ksym::{self, Cell};
use super::queue::PushQueue;
use super::threads::{self, Body};
use super::unity::Lines;
use libc::pthread_t;
use log::Level;
use std::ffi::{c_char, c_int, c_ulong, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// A panic must not leave by a C function: it would end the process.
fn entry<T>(failed: T, work: impl FnOnce() -> T) -> T {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or(failed)
}

/// The queue that a plugin names, if it is one; else that of the plugin that calls.
fn queue(named: *const c_void, verb: &str) -> Option<&'static PushQueue> {
    PushQueue::at(named).or_else(|| {
        let queue = threads::whose().map(|(queue, _)| queue);
        let text = format!("{verb}: the queue is not the argument of init");
        match queue {
            Some(queue) => queue.sink.log(Level::Warn, &text),
            None => log::warn!("a C plugin: {text}: nothing is done"),
        }
        queue
    })
}

/// # Safety
/// As `plugin-api/include` says: `message` is a `struct unity_lines` from malloc, and so are its lines and their logs.
// SAFETY: the only function of this name in the collector, as unity's host has it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn beeQ_send(q: *mut c_void, message: *mut c_void) -> c_int {
    entry(-libc::EINVAL, || {
        let Some(queue) = queue(q, "beeQ_send") else { return -libc::EINVAL };
        let start = threads::whose()
            .and_then(|(owner, start)| start.filter(|_| std::ptr::eq(owner, queue)));
        // SAFETY: the caller's promise.
        unsafe { queue.send(message.cast::<Lines>(), start) }
    })
}

/// # Safety
/// `cb` is a function of this type, to be called on a thread of its own.
// SAFETY: the only function of this name in the collector, as unity's host has it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn beeQ_send_thread(
    q: *mut c_void,
    argument: *mut c_void,
    cb: Option<Body>,
) -> pthread_t {
    entry(0, || {
        let (Some(queue), Some(body)) = (queue(q, "beeQ_send_thread"), cb) else { return 0 };
        // SAFETY: the caller's promise.
        unsafe { threads::start(queue, argument, body) }.unwrap_or(0)
    })
}

// SAFETY: the only function of this name in the collector, as unity's host has it.
#[unsafe(no_mangle)]
pub extern "C" fn plugin_is_working() -> c_int {
    entry(0, || c_int::from(threads::may_go_on()))
}

/// # Safety
/// `thread` is 0, a thread that can be joined, or one that this function has joined.
// SAFETY: the only function of this name in the collector, as unity's host has it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn plugin_thread_stop(thread: pthread_t) {
    // SAFETY: the caller's promise.
    entry((), || unsafe { threads::stop(thread) });
}

/// Unity's host prepares itself by it.
// SAFETY: the only function of this name in the collector, as unity's host has it.
#[unsafe(no_mangle)]
pub extern "C" fn plugin_init() {}

// SAFETY: the only function of this name in the collector, as unity's host has it.
#[unsafe(no_mangle)]
pub extern "C" fn plugin_stop() {
    entry((), || {
        if let Some((queue, _)) = threads::whose() {
            queue.stop_working();
        }
    });
}

/// What stands before `/proc`.
// SAFETY: the only function of this name in the collector, as unity's host has it.
#[unsafe(no_mangle)]
pub extern "C" fn get_unity_proc() -> *mut c_char {
    root()
}

/// What stands before `/sys`.
// SAFETY: the only function of this name in the collector, as unity's host has it.
#[unsafe(no_mangle)]
pub extern "C" fn get_unity_sys() -> *mut c_char {
    root()
}

/// Plugins take it for an array of 64 characters that they may write to.
fn root() -> *mut c_char {
    struct Root(std::cell::UnsafeCell<[u8; 64]>);
    // SAFETY: the host never looks at it again.
    unsafe impl Sync for Root {}
    static ROOT: Root = Root(std::cell::UnsafeCell::new({
        let mut root = [0; 64];
        root[0] = b'/';
        root
    }));
    ROOT.0.get().cast()
}

// SAFETY: the only function of this name in the collector, as unity's host has it.
#[unsafe(no_mangle)]
pub extern "C" fn ksym_setup(_stack_only: c_int) -> c_int {
    let count = || match ksym::count() {
        Ok(count) => c_int::try_from(count).unwrap_or(c_int::MAX),
        Err(errno) => -errno,
    };
    entry(-libc::EIO, count)
}

// SAFETY: the only function of this name in the collector, as unity's host has it.
#[unsafe(no_mangle)]
pub extern "C" fn ksym_search(address: c_ulong) -> *const Cell {
    entry(std::ptr::null(), || ksym::search(address).map_or(std::ptr::null(), std::ptr::from_ref))
}
