//! A plugin that prints to standard output, as one does while looking for a mistake. For the collector's tests.
use plugin_api::prelude::*;

table! {
    /// Calls.
    prints {
        /// Always 1.
        count: counter,
    }
}

struct Prints;

impl Plugin for Prints {
    type Options = NoOptions;

    fn init(_: NoOptions) -> Result<Self> {
        println!("printed by init");
        Ok(Self)
    }

    fn call(&mut self, _: &Tick, lines: &mut Lines) -> Result<()> {
        println!("printed by call");
        lines.push(prints::Row { count: 1 })
    }
}

export_plugin!(Prints: prints);
