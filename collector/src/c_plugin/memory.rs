//! Lines that a plugin has handed over: memory of its malloc, which is the host's from then on.
//!
//! This is where the host touches what a plugin made. A plugin may hand over anything; what can be known about a pointer
//! without following it is checked here: the allocator's size of the array bounds how many lines are read, and what lies
//! in the library itself or on the stack is used but not freed.

use super::faults::{Fault, Faults};
use super::unity::{Line, Lines, MOST_LINES};
use crate::encode::MAX_TEXT;
use crate::sink::Sink;
use std::cell::OnceCell;
use std::ffi::{c_char, c_void};
use std::mem::MaybeUninit;
use std::ops::Range;

/// What a message about a hand-over is told with.
pub struct Teller<'a> {
    pub faults: &'a Faults,
    pub sink: &'a Sink,
    /// The function that the plugin handed over in.
    pub verb: &'static str,
}

impl Teller<'_> {
    fn tell(&self, fault: Fault, text: impl FnOnce() -> String) {
        self.faults.count(self.sink, fault, 1, || format!("{}: {}", self.verb, text()));
    }
}

/// The lines of one hand-over. They are freed with it.
pub struct HandedOver {
    line: *mut Line,
    /// How many there are.
    count: usize,
    /// How many of the array may hold logs.
    with_logs: usize,
    /// The array came from malloc.
    owned: bool,
    image: Range<usize>,
}

// SAFETY: `HandedOver` is the only owner of the memory (`HandedOver::take`'s promise), and free(3) may be called by any thread.
unsafe impl Send for HandedOver {}

impl HandedOver {
    /// Takes over what a struct points to.
    ///
    /// # Safety
    /// `line` is NULL, or the begin of memory from malloc, of the library's image or of this thread's stack; nobody
    /// else touches that memory or frees it. Each log in it is NULL or a text that ends with a NUL, from the same places.
    pub unsafe fn take(lines: &Lines, image: Range<usize>, teller: &Teller<'_>) -> Self {
        let Lines { num, line } = *lines;
        let mut given = Self { line, count: 0, with_logs: 0, owned: false, image };
        if line.is_null() {
            if num != 0 {
                teller.tell(Fault::Count, || {
                    format!("num is {num}, and there are no lines (NULL): unity_alloc_lines() makes them")
                });
            }
            return given;
        }
        if !line.is_aligned() {
            teller.tell(Fault::NotMalloc, || {
                format!("lines at {line:p}: no array of them can be there")
            });
            given.line = std::ptr::null_mut();
            return given;
        }
        let room = match given.fixed(line.addr()) {
            Some(end) => {
                teller.tell(Fault::NotMalloc, || {
                    "the lines are not from malloc (unity_alloc_lines): they are not freed"
                        .to_owned()
                });
                (end - line.addr()) / size_of::<Line>()
            }
            None => {
                given.owned = true;
                // SAFETY: the begin of memory from malloc, as the caller promises and the line above has narrowed down.
                unsafe { libc::malloc_usable_size(line.cast()) / size_of::<Line>() }
            }
        };
        let Ok(count) = usize::try_from(num) else {
            teller.tell(Fault::Count, || {
                format!("num is {num}, and 0 to {MOST_LINES} are allowed: no line is taken")
            });
            given.with_logs = if given.owned { room } else { 0 };
            return given;
        };
        given.count = count.min(room);
        given.with_logs = given.count;
        if count > room {
            teller.tell(Fault::Count, || {
                format!("num is {num}, and there is memory for {room} lines: no more are taken")
            });
        } else if count > MOST_LINES {
            teller.tell(Fault::Count, || {
                format!("num is {num}: {MOST_LINES} lines are the most that one call can give")
            });
        }
        given
    }

    /// The lines, as many as one hand-over can have.
    pub fn lines(&self) -> &[Line] {
        let count = self.count.min(MOST_LINES);
        if count == 0 {
            return &[];
        }
        // SAFETY: `take` has checked alignment and size; the memory is ours alone.
        unsafe { std::slice::from_raw_parts(self.line, count) }
    }

    /// How many lines were handed over; those beyond [`HandedOver::lines`] too.
    pub fn count(&self) -> usize {
        self.count
    }

    /// How much memory they take, about.
    pub fn bytes(&self) -> usize {
        let logs: usize = self.lines().iter().filter_map(log_of).map(<[u8]>::len).sum();
        self.count * size_of::<Line>() + logs
    }

    /// Where memory ends that never came from malloc: the library's own, or this thread's stack.
    fn fixed(&self, address: usize) -> Option<usize> {
        if self.image.contains(&address) {
            return Some(self.image.end);
        }
        let stack = stack();
        stack.contains(&address).then_some(stack.end)
    }
}

/// A line's log as it stands: up to one byte more than a field can have. It lives as long as the line's memory.
pub fn log_of(line: &Line) -> Option<&[u8]> {
    let log = &line.logs[0];
    if log.name[0] == 0 || log.log.is_null() {
        return None;
    }
    // SAFETY: a text that ends with a NUL (`HandedOver::take`'s promise); it lives until the `HandedOver` frees it.
    unsafe {
        let length = libc::strnlen(log.log, MAX_TEXT + 1);
        Some(std::slice::from_raw_parts(log.log.cast(), length))
    }
}

impl Drop for HandedOver {
    fn drop(&mut self) {
        if self.line.is_null() {
            return;
        }
        let mut logs: Vec<*mut c_char> = Vec::new();
        for at in 0..self.with_logs {
            // SAFETY: so many lines are there (`take`).
            let log = unsafe { (*self.line.add(at)).logs[0] };
            // Without a name, a pointer is one only where somebody has cleared the line: unity frees none such.
            let set = log.name[0] != 0 || log.name == [0; 16];
            if set && !log.log.is_null() && self.fixed(log.log.addr()).is_none() {
                logs.push(log.log);
            }
        }
        if logs.len() > 1 {
            logs.sort_unstable();
            logs.dedup(); // one text may be the log of two lines
        }
        for log in logs {
            // SAFETY: from malloc (`take`'s promise, and not `fixed`), once.
            unsafe { libc::free(log.cast::<c_void>()) };
        }
        if self.owned {
            // SAFETY: as above.
            unsafe { libc::free(self.line.cast::<c_void>()) };
        }
    }
}

/// Takes the struct itself out of the memory of `unity_new_lines`, and frees that.
///
/// # Safety
/// `message` is the begin of memory from malloc, of the image or of this thread's stack that holds a `struct unity_lines`.
pub unsafe fn unpack(message: *mut Lines, image: &Range<usize>, teller: &Teller<'_>) -> Lines {
    // SAFETY: the caller's promise.
    let lines = unsafe { message.read_unaligned() };
    if image.contains(&message.addr()) || stack().contains(&message.addr()) {
        teller.tell(Fault::NotMalloc, || {
            "the lines' struct is not from malloc (unity_new_lines): it is not freed".to_owned()
        });
    } else {
        // SAFETY: from malloc, as the caller promises.
        unsafe { libc::free(message.cast::<c_void>()) };
    }
    lines
}

/// This thread's stack.
fn stack() -> Range<usize> {
    thread_local! {
        static STACK: OnceCell<Range<usize>> = const { OnceCell::new() };
    }
    let find = || {
        let mut attributes = MaybeUninit::<libc::pthread_attr_t>::uninit();
        let (mut begin, mut size) = (std::ptr::null_mut(), 0);
        // SAFETY: fills `attributes` when it answers 0, which then is asked and destroyed; all pointers are ours.
        unsafe {
            if libc::pthread_getattr_np(libc::pthread_self(), attributes.as_mut_ptr()) != 0 {
                return 0..0;
            }
            libc::pthread_attr_getstack(attributes.as_ptr(), &raw mut begin, &raw mut size);
            libc::pthread_attr_destroy(attributes.as_mut_ptr());
        }
        begin.addr()..begin.addr() + size
    };
    // A thread that ends has its thread-locals no more, and its stack still.
    STACK.try_with(|stack| stack.get_or_init(find).clone()).unwrap_or_else(|_| find())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_threads_stack_holds_its_variables_and_no_heap() {
        let (local, heap) = (0u8, Box::new(0u8));
        assert!(stack().contains(&(&raw const local).addr()));
        assert!(!stack().contains(&(&raw const *heap).addr()));
        std::thread::spawn(|| {
            let local = 0u8;
            assert!(stack().contains(&(&raw const local).addr()));
        })
        .join()
        .unwrap();
    }
}
