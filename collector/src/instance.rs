//! What a plugin is to those who run it: it starts, is called once per tick, and ends.
//!
//! The runner, `once`, `check` and `describe` know this trait only. Behind it is a Rust library ([`RustInstance`]), a C
//! library ([`crate::c_plugin`]), or a process that has loaded either of them ([`crate::isolated`]).

use crate::capabilities::Held;
use crate::sink::{Closed, Sink, Tally};
use plugin_api::Tick;
use plugin_api::abi::{Answer, PANICKED, PluginRef};
use plugin_api::abi_stable::std_types::RStr;
use std::fmt;

/// One plugin, used by one thread: its own.
pub trait Instance: Send {
    /// Starts it, with the capabilities that the thread holds.
    ///
    /// # Errors
    /// Why it does not start.
    fn start(&mut self) -> Result<(), PluginError>;

    /// Calls it, between [`Instance::start`] and [`Instance::end`].
    fn call(&mut self, tick: &Tick) -> Outcome;

    /// The same, and throws its lines away: until now they are another instance's to give.
    fn skip(&mut self, tick: &Tick) -> Outcome;

    /// Ends it, also after a start that failed: clears what is left. It can be started again.
    fn end(&mut self) -> Outcome;

    /// Processor time of the process that it has for itself, since this was last asked.
    fn take_cpu_ns(&mut self) -> u64 {
        0
    }

    /// The number of the process that it has for itself, while it has one.
    fn process(&self) -> Option<u32> {
        None
    }
}

impl<T: Instance + ?Sized> Instance for Box<T> {
    fn start(&mut self) -> Result<(), PluginError> {
        (**self).start()
    }

    fn call(&mut self, tick: &Tick) -> Outcome {
        (**self).call(tick)
    }

    fn skip(&mut self, tick: &Tick) -> Outcome {
        (**self).skip(tick)
    }

    fn end(&mut self) -> Outcome {
        (**self).end()
    }

    fn take_cpu_ns(&mut self) -> u64 {
        (**self).take_cpu_ns()
    }

    fn process(&self) -> Option<u32> {
        (**self).process()
    }
}

/// What came of a call, or of the end, which gives no lines.
#[derive(Debug)]
pub struct Outcome {
    /// The lines; those of a call that failed too, as far as they are good.
    pub closed: Closed,
    /// What else is to be counted.
    pub tally: Tally,
    /// Whether it succeeded, or why not.
    pub result: Result<(), PluginError>,
}

/// Why a plugin failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PluginError {
    /// It says so itself.
    Answered(String),
    /// It panicked, and takes no calls until it is started again.
    Panicked(String),
    /// Its process has ended by itself.
    Died(String),
    /// Its process gave no answer in time, and was killed.
    Late(String),
    /// Its process sent what is no answer, and was killed.
    Broken(String),
}

impl PluginError {
    /// What the text of an answer means, which is a type from here on.
    #[must_use]
    pub fn of_answer(text: String) -> Self {
        if text.starts_with(PANICKED) { Self::Panicked(text) } else { Self::Answered(text) }
    }

    /// Whether it takes calls all the same.
    #[must_use]
    pub fn goes_on(&self) -> bool {
        matches!(self, Self::Answered(_))
    }

    /// Whether what it had to say is lost with its process.
    #[must_use]
    pub fn loses_lines(&self) -> bool {
        matches!(self, Self::Died(_) | Self::Late(_) | Self::Broken(_))
    }
}

impl fmt::Display for PluginError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Answered(text)
        | Self::Panicked(text)
        | Self::Died(text)
        | Self::Late(text)
        | Self::Broken(text)) = self;
        f.write_str(text)
    }
}

/// Starts a plugin with the capabilities that its thread holds.
///
/// # Errors
/// Why it does not start.
pub fn start(held: &mut Held, name: &str, instance: &mut dyn Instance) -> Result<(), PluginError> {
    let mut attempts = 0;
    held.start(name, || {
        attempts += 1;
        if attempts > 1 {
            let _ = instance.end(); // clears what the one before has left
        }
        instance.start()
    })
}

/// A library that speaks the ABI of `plugin-api`.
pub struct RustInstance {
    module: PluginRef,
    sink: &'static Sink,
    options: String,
}

impl RustInstance {
    /// Of its verbs; its rows go to `sink`, its options are JSON.
    #[must_use]
    pub fn new(module: PluginRef, sink: &'static Sink, options: String) -> Self {
        Self { module, sink, options }
    }
}

impl Instance for RustInstance {
    fn start(&mut self) -> Result<(), PluginError> {
        result(self.module.init()(self.sink.host(), RStr::from_str(&self.options)))
    }

    fn call(&mut self, tick: &Tick) -> Outcome {
        let (closed, answer) = self.sink.call(tick, |host| self.module.call()(tick, host));
        Outcome { closed, tally: self.sink.take_tally(), result: result(answer) }
    }

    fn skip(&mut self, tick: &Tick) -> Outcome {
        self.sink.skip_next();
        self.call(tick)
    }

    fn end(&mut self) -> Outcome {
        let result = result(self.module.deinit()());
        Outcome { closed: Closed::default(), tally: self.sink.take_tally(), result }
    }
}

/// A plugin's answer as the host keeps it: what its error points to lies in the plugin.
fn result(answer: Answer) -> Result<(), PluginError> {
    answer.into_result().map_err(|error| PluginError::of_answer(error.to_string()))
}
