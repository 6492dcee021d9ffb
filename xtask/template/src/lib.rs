//! TODO: its hooks, as here: sched_process_fork, by tp_btf, else raw_tp, else tp.

use plugin_bpf::prelude::*;

skeleton!({{name}});

table! {
    /// TODO: what a line says, as here: New tasks of this host.
    {{name}} {
        forks: counter "Processes and threads that were made since the last tick.",
    }
}

/// The tool.
pub struct {{Name}};

impl Tool for {{Name}} {
    type Options = NoOptions;
    type Object = skel::Object;

    fn new(_: NoOptions, _: &mut Setup<skel::Object>) -> Result<Self> {
        Ok(Self)
    }

    fn rows(&mut self, _: &Tick, maps: &mut skel::Maps, lines: &mut Lines) -> Result<()> {
        lines.push({{name}}::Row { forks: maps.counts.take().forks })
    }
}

export_tool!({{Name}}: {{name}});
