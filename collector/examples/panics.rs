//! A plugin that panics in every call, after it pushed a line. For the collector's tests.
use plugin_api::prelude::*;

table! {
    /// Calls that came so far.
    panics {
        /// Always 1.
        count: counter,
    }
}

struct Panics;

impl Plugin for Panics {
    type Options = NoOptions;

    fn init(_: NoOptions) -> Result<Self> {
        Ok(Self)
    }

    fn call(&mut self, _: &Tick, lines: &mut Lines) -> Result<()> {
        lines.push(panics::Row { count: 1 })?;
        panic!("as it was told to");
    }
}

export_plugin!(Panics: panics);
