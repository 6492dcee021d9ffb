//! Counts new tasks.
//!
//! Hooks: sched_process_fork, by tp_btf, else raw_tp.

use plugin_bpf::prelude::*;

plugin_bpf::skeleton!({{name}});

table! {
    /// New tasks of this host.
    {{name}} {
        /// Processes and threads that were made since the last tick.
        forks: counter,
    }
}

/// The tool.
pub struct {{Name}} {
    forks: Counters,
    _skel: Loaded,
}

impl Plugin for {{Name}} {
    type Options = NoOptions;

    fn init(_: NoOptions) -> Result<Self> {
        let skel = Skeleton::open().attach(&[Rung::of("forks_btf"), Rung::of("forks_raw")])?;
        Ok(Self { forks: Counters::of(&skel.maps.forks)?, _skel: skel })
    }

    fn call(&mut self, _: &Tick, lines: &mut Lines) -> Result<()> {
        lines.push({{name}}::Row { forks: self.forks.take(0) })
    }
}

export_plugin!({{Name}}: {{name}});

#[cfg(test)]
mod tests {
    use super::*;
    use plugin_testing::Harness;

    #[test]
    fn a_new_thread_is_counted() {
        let mut tool = Harness::<{{Name}}>::init("{}").expect("it attaches");
        std::thread::spawn(|| ()).join().expect("a thread");
        let lines = tool.call().expect("a tick");
        let line = lines.iter().find(|l| l.table == "{{name}}").expect("a line");
        assert!(line.u64("forks") >= 1);
    }
}
