//! A tool that does nothing at a function's entry and return.

use plugin_bpf::prelude::*;

skeleton!(trap);

options! {
    /// Which function.
    pub struct Options {
        /// In this process.
        pid: u64 = 0,
        /// Of this file.
        file: String = String::new(),
        /// By its name.
        function: String = String::new(),
    }
}

/// The tool.
pub struct Trap(Options);

impl Tool for Trap {
    type Options = Options;
    type Object = skel::Object;

    fn new(options: Options, _: &mut Setup<skel::Object>) -> Result<Self> {
        Ok(Self(options))
    }

    fn hooks(&self) -> Hooks {
        let Options { pid, file, function } = &self.0;
        let target = || Target::uprobe(file, function).of_pid(*pid as i32);
        let by = |kind| [Hook::of("trapped").only(kind).target(target())];
        Hooks::all(by("session")).or(by("uprobe"))
    }

    fn rows(&mut self, _: &Tick, _: &mut skel::Maps, _: &mut Lines) -> Result<()> {
        Ok(())
    }
}
