//! For plugins' own tests: a plugin run in this process, through the same glue, sink and encoder as in the
//! collector, without a shared library.
//!
//! ```
//! use plugin_testing::Harness;
//! # use plugin_api::{Lines, NoOptions, Plugin, Result, Tick, table};
//! # table! { /// Calls.
//! #     calls { /// How many.
//! #         count: counter } }
//! # plugin_api::exported!(calls);
//! # struct Calls(u64);
//! # impl Plugin for Calls {
//! #     type Options = NoOptions;
//! #     fn init(_: NoOptions) -> Result<Self> { Ok(Self(0)) }
//! #     fn call(&mut self, _: &Tick, lines: &mut Lines) -> Result<()> {
//! #         self.0 += 1;
//! #         lines.push(calls::Row { count: self.0 })
//! #     }
//! # }
//! let mut calls = Harness::<Calls>::init("{}")?;
//! calls.call()?;
//! let lines = calls.call()?;
//! assert_eq!(lines[0].table, "calls");
//! assert_eq!(lines[0].u64("count"), 2);
//! # Ok::<(), plugin_api::Error>(())
//! ```

mod cgroup;
pub mod counts;
pub mod cpu;
pub mod drive;
mod folder;
pub mod irq_off;
pub mod link;
pub mod netns;
pub mod process;
mod program;
pub mod tcp;
pub mod terminal;
mod tracepoint;
pub mod unharmed;
mod ways;

use line_encoder::encode::Tags;
use line_encoder::form::Form;
use line_encoder::read::read;
use line_encoder::sink::{Limits, Reports, Sink, Terms};
use log::Level;
use plugin_api::abi::Answer;
use plugin_api::abi_stable::std_types::RStr;
use plugin_api::rt::Slot;
use plugin_api::{Error, Plugin, Result, Tick};
use std::cell::RefCell;
use std::panic::{set_hook, take_hook};
use std::sync::{Mutex, MutexGuard, Once, PoisonError};
use std::time::{Duration, Instant, SystemTime};

pub use cgroup::Moved;
pub use folder::Folder;
pub use line_encoder::read::{Line, Value};
pub use line_encoder::sink::Dropped;
pub use program::{RawProgram, fill, held, keys, map_bytes};
pub use tracepoint::Tracepoint;
pub use ways::ways;

/// One test at a time, for tests of tools that see what the whole host does: keep what this returns.
pub fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A running plugin; dropping it detaches.
pub struct Harness<P: Plugin> {
    slot: Slot<P>,
    sink: &'static Sink,
    seq: u64,
    since: Instant,
}

impl<P: Plugin> Harness<P> {
    /// Starts the plugin with its options as JSON, such as `{"by":"comm"}`; `{}` for none.
    ///
    /// # Errors
    /// What `init` answered, a panic included.
    pub fn init(options: &str) -> Result<Self> {
        let slot = Slot::new();
        keep_panic_messages(&slot);
        let sink = Sink::leak(Terms {
            plugin: "test".to_owned(),
            tables: None,
            forms: vec![Form::default()],
            reports: Reports::Full,
            tags: Tags::new(),
            uint: false,
            limits: Limits::DEFAULT,
            log,
        });
        SAID.set(Some(Vec::new()));
        let answer = result(slot.init(sink.host(), RStr::from_str(options)));
        let said = SAID.take().unwrap_or_default();
        if answer.is_err() {
            said.iter().for_each(|text| eprintln!("{text}"));
        }
        answer?;
        Ok(Self { slot, sink, seq: 0, since: Instant::now() })
    }

    /// As [`Harness::init`], for a tool that some kernels have no hook for: there it prints `SKIPPED: ` with the
    /// kernel's words, which `cargo xtask test` counts, and gives `None`.
    ///
    /// # Panics
    /// The verifier refused a program, an option is wrong: mistakes of the tool, on any kernel.
    #[must_use]
    pub fn init_or_skip(options: &str) -> Option<Self> {
        match Self::init(options) {
            Ok(running) => Some(running),
            Err(error) => {
                let reason = format!("{error:#}");
                assert!(is_lack(&reason), "{reason}");
                println!("SKIPPED: {reason}");
                None
            }
        }
    }

    /// One tick, now: its lines, read back from line protocol. `collector_program` is among them when
    /// the plugin attached something.
    ///
    /// # Errors
    /// What `call` answered, a panic included.
    pub fn call(&mut self) -> Result<Vec<Line>> {
        let began = Instant::now();
        let elapsed_ns = u64::try_from((began - self.since).as_nanos()).unwrap_or(u64::MAX);
        let tick = Tick { seq: self.seq, time_ns: wall_ns(), elapsed_ns };
        let lines = self.call_at(&tick)?;
        self.since = began;
        self.seq += 1;
        Ok(lines)
    }

    /// One tick of one's own making.
    ///
    /// # Errors
    /// As [`Harness::call`].
    pub fn call_at(&mut self, tick: &Tick) -> Result<Vec<Line>> {
        let (closed, answer) = self.sink.call(tick, |host| self.slot.call(tick, host));
        result(answer)?;
        read(&closed.into_only())
    }

    /// Ticks until the lines are so, and gives the last ones.
    ///
    /// # Panics
    /// They are not within 20 s: `what` says what they should be.
    pub fn until(&mut self, what: &str, is_so: impl Fn(&[Line]) -> bool) -> Vec<Line> {
        let since = Instant::now();
        loop {
            let lines = self.call().expect("a tick");
            if is_so(&lines) {
                return lines;
            }
            assert!(since.elapsed() < Duration::from_secs(20), "{what}: {lines:?}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Rows that became no line since this was last asked.
    pub fn dropped(&self) -> Dropped {
        self.sink.take_dropped()
    }

    /// Ends the plugin.
    ///
    /// # Errors
    /// What `deinit` answered.
    pub fn deinit(self) -> Result<()> {
        result(self.slot.deinit())
    }
}

/// How often the kernel skipped a tool's programs, as far as it counts that: each time may cost a count. Since it
/// preempts programs (7.2 does) it skips one that another task has begun on that CPU.
#[must_use]
pub fn missed(lines: &[Line]) -> u64 {
    let programs = lines.iter().filter(|l| l.table == "collector_program");
    programs.filter(|l| l.get("missed").is_some()).map(|l| l.u64("missed")).sum()
}

/// Nanoseconds since 1970 UTC.
fn wall_ns() -> i64 {
    let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_1970.as_nanos()).unwrap_or(i64::MAX)
}

/// A plugin's answer; what its error points to stays in the plugin.
fn result(answer: Answer) -> Result<()> {
    answer.into_result().map_err(|error| Error::msg(error.to_string()))
}

/// Whether no way to observe something works here, and none of them for what the verifier found in the program.
fn is_lack(reason: &str) -> bool {
    reason.starts_with("no way to observe ") && !reason.contains("(the whole log: ")
}

thread_local! {
    /// What the plugin says for debugging while it starts: shown when it does not.
    static SAID: RefCell<Option<Vec<String>>> = const { RefCell::new(None) };
}

/// Not through `log`: in this process the plugin's own records go there, and come here from there.
fn log(_: &str, level: Level, text: &str) {
    if level <= Level::Info {
        eprintln!("{level}: {text}");
    } else if level == Level::Debug {
        SAID.with_borrow_mut(|said| said.iter_mut().for_each(|said| said.push(text.to_owned())));
    }
}

/// The glue of a plugin replaces the panic hook of its shared library's own standard library. Here that
/// is the test's, whose failed assertions are to be seen.
fn keep_panic_messages<P: Plugin>(slot: &Slot<P>) {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let tests = take_hook();
        let _ = slot.deinit(); // of nothing: only sets the hook
        let plugins = take_hook();
        set_hook(Box::new(move |info| {
            plugins(info);
            tests(info);
        }));
    });
}

#[cfg(test)]
mod tests {
    use super::is_lack;

    #[test]
    fn a_kernel_without_a_way_is_skipped_and_a_mistake_is_not() {
        let lack =
            "no way to observe `shows` works here: shows_kprobe: prog 'shows_kprobe': -ENOENT";
        let refused = "R0 invalid mem access 'scalar' at demo.bpf.c:9: `x` (the whole log: collector --log debug)";
        assert!(is_lack(lack));
        assert!(!is_lack(&format!("{lack} | shows_fentry: {refused}")));
        assert!(!is_lack("unknown option `by`: this plugin has none"));
    }
}
