//! Counts how often /proc/net/netstat is shown: the sample of the unity guide, and the model of a counter.
//!
//! Hooks: fentry, else kprobe, of `netstat_seq_show`.

use plugin_bpf::prelude::*;

plugin_bpf::skeleton!(bpfsample);

table! {
    /// Calls of netstat_seq_show: a read of /proc/net/netstat, and one more for every time that its text
    /// outgrew the reader's buffer.
    bpfsample {
        /// Calls since the last tick.
        value: counter,
    }
}

/// The tool.
pub struct Bpfsample {
    shows: Counters,
    _skel: Loaded,
}

impl Plugin for Bpfsample {
    type Options = NoOptions;

    fn init(_: NoOptions) -> Result<Self> {
        let skel =
            Skeleton::open().attach(&[Rung::of("shows_fentry"), Rung::of("shows_kprobe")])?;
        Ok(Self { shows: Counters::of(&skel.maps.shows)?, _skel: skel })
    }

    fn call(&mut self, _: &Tick, lines: &mut Lines) -> Result<()> {
        lines.push(bpfsample::Row { value: self.shows.take(0) })
    }
}

export_plugin!(Bpfsample: bpfsample);

#[cfg(test)]
mod tests {
    use super::*;
    use plugin_testing::Harness;

    #[test]
    fn every_show_is_counted() {
        let mut tool = match Harness::<Bpfsample>::init("{}") {
            Ok(tool) => tool,
            Err(error) => return println!("SKIPPED: no fentry and no kprobe here: {error:#}"),
        };
        let shows = |tool: &mut Harness<_>| {
            let lines = tool.call().expect("a tick");
            lines.iter().find(|l| l.table == "bpfsample").map(|l| l.u64("value"))
        };
        assert_eq!(shows(&mut tool), Some(0), "a live tool with nothing to say says so");
        for _ in 0..10 {
            std::fs::read_to_string("/proc/net/netstat").expect("a network");
        }
        // A text that outgrows the buffer is shown again: mostly 2 calls for a read.
        let value = shows(&mut tool).expect("a line");
        assert!((10..=40).contains(&value), "{value} calls of 10 reads");
    }
}
