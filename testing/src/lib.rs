//! For plugins' own tests: a plugin run in this process, through the same glue, sink and encoder as in the
//! collector, without a shared library.
//!
//! ```
//! use plugin_testing::Harness;
//! # use plugin_api::{Lines, NoOptions, Plugin, Result, Tick, table};
//! # table! { /// Calls.
//! #     calls { /// How many.
//! #         count: counter } }
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

pub mod counts;
pub mod cpu;
pub mod drive;
mod program;
mod ways;

use line_encoder::encode::Tags;
use line_encoder::read::read;
use line_encoder::sink::{Limits, Sink, Terms};
use log::Level;
use plugin_api::abi::Answer;
use plugin_api::abi_stable::std_types::RStr;
use plugin_api::rt::Slot;
use plugin_api::{Error, Plugin, Result, Tick};
use std::panic::{set_hook, take_hook};
use std::sync::{Mutex, MutexGuard, Once, PoisonError};
use std::time::{Instant, SystemTime};

pub use line_encoder::read::{Line, Value};
pub use line_encoder::sink::Dropped;
pub use program::{RawProgram, held, map_bytes};
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
            tags: Tags::new(),
            uint: false,
            limits: Limits::DEFAULT,
            log,
        });
        result(slot.init(sink.host(), RStr::from_str(options)))?;
        Ok(Self { slot, sink, seq: 0, since: Instant::now() })
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
        self.sink.open(*tick);
        let answer = result(self.slot.call(tick, self.sink.host()));
        let (_, bytes) = self.sink.close();
        answer?;
        read(&bytes)
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

/// Nanoseconds since 1970 UTC.
fn wall_ns() -> i64 {
    let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_1970.as_nanos()).unwrap_or(i64::MAX)
}

/// A plugin's answer; what its error points to stays in the plugin.
fn result(answer: Answer) -> Result<()> {
    answer.into_result().map_err(|error| Error::msg(error.to_string()))
}

/// Not through `log`: in this process the plugin's own records go there, and come here from there.
fn log(_: &str, level: Level, text: &str) {
    if level <= Level::Info {
        eprintln!("{level}: {text}");
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
