//! The trait that a tool implements.

use crate::{Lines, Options, Result};

pub use crate::abi::Tick;

/// A tool: loaded once, called once per tick, always on the same thread.
///
/// A panic in any of the three is caught and costs this plugin only: the collector calls `deinit`, then
/// `init` again after a pause.
pub trait Plugin: Sized + Send + 'static {
    /// The section `[plugin.NAME]`, declared with [`crate::options!`]; [`crate::NoOptions`] when there is none.
    type Options: Options;

    /// What its thread needs beside `CAP_BPF` and `CAP_PERFMON`, such as `CAP_SYS_PTRACE` to look into other
    /// users' processes. The collector gives up what no plugin asks for.
    const CAPABILITIES: &'static [&'static str] = &[];

    /// The same for options, each with its name: the thread holds it where the configuration sets that option to
    /// something else than its default.
    const OPTION_CAPABILITIES: &'static [(&'static str, &'static str)] = &[];

    /// Whether it runs in a process of its own where the configuration does not say (`isolation`): for a tool that
    /// parses what other programs bring, such as ELF files. A hostile one then costs this tool only.
    const ISOLATED: bool = false;

    /// Loads and attaches. The error becomes the plugin's reason in `collector_plugin`, so it says what
    /// was attempted, on what, and what to do.
    fn init(options: Self::Options) -> Result<Self>;

    /// Reads what happened since the last call and pushes it as lines. What was pushed before an error
    /// is kept and sent.
    fn call(&mut self, tick: &Tick, lines: &mut Lines) -> Result<()>;

    /// Ends; dropping `self` detaches, so few tools need more.
    fn deinit(self) -> Result<()> {
        Ok(())
    }
}
