//! C plugins: libraries with the functions that unity's host calls.
//!
//! `call` fills a `struct unity_lines`, whose memory is the host's afterwards ([`memory`]); or the plugin's own threads send
//! such structs at any time ([`queue`], [`threads`]), and they go out with the next tick. Either way a line's names are
//! looked up ([`shapes`]), and its values become a row of the sink. What a plugin gets wrong is counted ([`faults`]); it
//! never reaches a line that is not its own.
//!
//! What a C plugin does to its process (a crash, `exit`, an endless loop) is not contained here: by default it has one of
//! its own ([`crate::isolated`]).

mod exports;
mod faults;
mod ksym;
mod memory;
mod queue;
mod shapes;
mod signals;
mod threads;
mod unity;

pub use unity::CLibrary;

use crate::instance::{Instance, Outcome, PluginError};
use crate::sink::{Closed, Dropped, Sink};
use faults::Fault;
use memory::{HandedOver, Teller};
use plugin_api::Tick;
use plugin_api::abi::TICK_TIME;
use queue::PushQueue;
use shapes::{Shapes, To};
use std::ffi::c_int;
use std::sync::Once;
use unity::Lines;

/// A C plugin that can be started.
pub struct CInstance {
    library: CLibrary,
    queue: &'static PushQueue,
    shapes: Shapes,
    /// What `call` fills; not on the stack, where a plugin that keeps the pointer would do harm.
    lines: Box<Lines>,
    /// `init` has succeeded, and `deinit` was not called since.
    started: bool,
}

// SAFETY: `lines` points to memory during a call only, and whose it is then does not depend on the thread.
unsafe impl Send for CInstance {}

impl CInstance {
    /// Of a library; its rows go to `sink`.
    #[must_use]
    pub fn new(name: &str, library: CLibrary, sink: &'static Sink) -> Self {
        Self {
            library,
            queue: PushQueue::leak(name, sink, library.image()),
            shapes: Shapes::default(),
            lines: Box::new(Lines { num: 0, line: std::ptr::null_mut() }),
            started: false,
        }
    }

    /// Calls the plugin, and takes what it gives.
    fn pull(&mut self, tick: &Tick) -> Result<(), PluginError> {
        let Self { library, queue, shapes, lines, .. } = self;
        let PushQueue { sink, faults, .. } = queue;
        **lines = Lines { num: 0, line: std::ptr::null_mut() };
        // SAFETY: a function of this type (`CLibrary::new`'s promise), started and not ended.
        let answer = unsafe { (library.call)(seconds(tick.elapsed_ns), &raw mut **lines) };
        let teller = Teller { faults, sink, verb: "call" };
        // SAFETY: that is what `call` fills it with, and hands over (`plugin-api/include`).
        let given = unsafe { HandedOver::take(lines, queue.image(), &teller) };
        let count = given.count();
        faults.called(count);
        if answer == 0 {
            push(&given, shapes, &To { sink, faults, time_ns: TICK_TIME });
            return Ok(());
        }
        if count > 0 {
            faults.count(sink, Fault::Failed, count, || {
                format!("call returned {answer}: its lines are dropped")
            });
            sink.count_dropped(Dropped { invalid: count as u64, ..Dropped::default() });
        }
        Err(PluginError::Answered(format!("it returned {}", errno(answer))))
    }
}

fn push(given: &HandedOver, shapes: &mut Shapes, to: &To<'_>) {
    let lines = given.lines();
    shapes.push(lines, to);
    let over = given.count() - lines.len();
    if over > 0 {
        to.faults.count(to.sink, Fault::Full, over, || {
            format!("{over} lines over the limit of {} are dropped", lines.len())
        });
        to.sink.count_dropped(Dropped { full: over as u64, ..Dropped::default() });
    }
}

impl Instance for CInstance {
    fn start(&mut self) -> Result<(), PluginError> {
        prepare_the_process();
        threads::becomes_the_plugins(self.queue);
        self.queue.open();
        // SAFETY: a function of this type (`CLibrary::new`'s promise).
        let answer = unsafe { (self.library.init)(self.queue.address()) };
        if answer == 0 {
            self.started = true;
            return Ok(());
        }
        // No `deinit`: it would free a second time what `init` has cleared.
        self.queue.stop_working();
        threads::end_with(self.queue, || ());
        self.queue.close();
        let hint = if answer > 0 { "; success is 0, an errno is returned as -errno" } else { "" };
        Err(PluginError::Answered(format!("it returned {}{hint}", errno(answer))))
    }

    fn call(&mut self, tick: &Tick) -> Outcome {
        threads::becomes_the_plugins(self.queue);
        let PushQueue { sink, faults, .. } = self.queue;
        let (closed, result) = sink.call(tick, |_| {
            let result = self.pull(tick);
            for message in self.queue.drain() {
                let to = To { sink, faults, time_ns: message.time_ns };
                push(&message.given, &mut self.shapes, &to);
            }
            faults.report(sink);
            result
        });
        Outcome { closed, tally: sink.take_tally(), result }
    }

    fn skip(&mut self, tick: &Tick) -> Outcome {
        self.queue.sink.skip_next();
        self.call(tick)
    }

    fn end(&mut self) -> Outcome {
        if std::mem::take(&mut self.started) {
            threads::becomes_the_plugins(self.queue);
            self.queue.stop_working();
            let (deinit, queue) = (self.library.deinit, self.queue.address());
            // SAFETY: a function of this type (`CLibrary::new`'s promise), which `init` was called before.
            threads::end_with(self.queue, || unsafe { deinit(queue) });
            self.queue.close();
        }
        Outcome { closed: Closed::default(), tally: self.queue.sink.take_tally(), result: Ok(()) }
    }
}

/// What a plugin gets for the time since its last call: whole seconds, at least one.
fn seconds(elapsed_ns: u64) -> c_int {
    let seconds = elapsed_ns.saturating_add(500_000_000) / 1_000_000_000;
    c_int::try_from(seconds).unwrap_or(c_int::MAX).max(1)
}

/// An answer, with the error that it may be the number of.
fn errno(answer: c_int) -> String {
    let errno = answer.checked_abs().filter(|errno| (1..4096).contains(errno));
    let Some(errno) = errno else { return answer.to_string() };
    let text = std::io::Error::from_raw_os_error(errno).to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    if text.starts_with("Unknown error") {
        answer.to_string()
    } else {
        format!("{answer} ({text})")
    }
}

/// What plugins for unity rely on.
fn prepare_the_process() {
    signals::install();
    static LINES: Once = Once::new();
    // What a plugin prints by stdio goes to standard error (`crate::stdout`), and is to be seen when it is printed.
    LINES.call_once(|| {
        unsafe extern "C" {
            static stdout: *mut libc::FILE;
        }
        // SAFETY: stdio's own stream, which nothing has been written to by stdio: the host does not use it.
        unsafe { libc::setvbuf(stdout, std::ptr::null_mut(), libc::_IOLBF, 0) };
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_gets_whole_seconds_and_at_least_one() {
        for (ns, expected) in [
            (0, 1),
            (1, 1),
            (1_499_999_999, 1),
            (1_500_000_000, 2),
            (9_999_999_999, 10),
            (u64::MAX, c_int::MAX),
        ] {
            assert_eq!(seconds(ns), expected, "{ns}");
        }
    }

    #[test]
    fn an_answer_is_told_with_the_error_that_it_may_be() {
        assert_eq!(errno(-libc::EINVAL), "-22 (Invalid argument)");
        assert_eq!(errno(13), "13 (Permission denied)");
        assert_eq!(errno(-1), "-1 (Operation not permitted)");
        assert_eq!(errno(c_int::MIN), c_int::MIN.to_string());
        assert_eq!(errno(-4000), "-4000");
    }
}
