//! A plugin that pushes a million rows per call. For the collector's tests.
use plugin_api::prelude::*;

table! {
    /// Far too many lines.
    floods {
        tags {
            /// Its number.
            line,
        }
        /// Always 1.
        count: counter,
    }
}

struct Floods;

impl Plugin for Floods {
    type Options = NoOptions;

    fn init(_: NoOptions) -> Result<Self> {
        Ok(Self)
    }

    fn call(&mut self, _: &Tick, lines: &mut Lines) -> Result<()> {
        for line in 0..1_000_000 {
            lines.push(floods::Row { line: line.to_string().into(), count: 1 })?;
        }
        Ok(())
    }
}

export_plugin!(Floods: floods);
