//! A tool of two objects, which share one cut.

use plugin_bpf::Running;
use plugin_bpf::prelude::*;

skeleton!(pair_a as a);
skeleton!(pair_b as b);

table! {
    /// What both counted.
    pair {
        table: counter "Renamings in the first object's table.",
        histogram: counter "Renamings in the second object's histogram.",
        kept: counter "Renamings in its small table.",
        full: counter "Renamings that had no room there.",
        lost: counter "Renamings that the first object's table lost.",
    }
}
plugin_api::exported!(pair);

/// The tool.
pub struct Pair;

/// Its plugin.
pub type Plugin = Running<Pair>;

impl Tool for Pair {
    type Options = NoOptions;
    type Object = (a::Object, b::Object);

    fn new(_: NoOptions, (a, b): &mut (Setup<a::Object>, Setup<b::Object>)) -> Result<Self> {
        a.consts.tester = std::process::id();
        b.consts.tester = std::process::id();
        Ok(Self)
    }

    fn rows(&mut self, _: &Tick, (a, b): &mut (a::Maps, b::Maps), lines: &mut Lines) -> Result<()> {
        lines.push(pair::Row {
            table: a.renames.take().iter().map(|(_, count)| count).sum(),
            histogram: b.renames.take(0).count(),
            kept: b.full.take().iter().map(|(_, count)| count).sum(),
            full: b.full.lost().full,
            lost: a.renames.lost().events(),
        })
    }
}
