//! A plugin that fails where it is told to. For the collector's tests.
use plugin_api::prelude::*;

choice! {
    /// A verb of a plugin.
    pub enum Verb {
        /// None of them.
        None = "",
        /// Loads and attaches.
        Init = "init",
        /// Once per tick.
        Call = "call",
        /// Detaches.
        Deinit = "deinit",
    }
}

options! {
    /// What `[plugin.fails]` takes.
    pub struct Options {
        /// The verb that fails.
        at: Verb = Verb::Call,
    }
}

table! {
    /// Calls that failed.
    fails {
        /// Always 1.
        count: counter,
    }
}

struct Fails(Options);

impl Plugin for Fails {
    type Options = Options;

    fn init(options: Options) -> Result<Self> {
        ensure!(options.at != Verb::Init, "no such function: tcp_v4_rcv");
        Ok(Self(options))
    }

    fn call(&mut self, _: &Tick, lines: &mut Lines) -> Result<()> {
        lines.push(fails::Row { count: 1 })?;
        ensure!(self.0.at != Verb::Call, "map `start` cannot be read");
        Ok(())
    }

    fn deinit(self) -> Result<()> {
        ensure!(self.0.at != Verb::Deinit, "the link does not let go");
        Ok(())
    }
}

export_plugin!(Fails: fails);
