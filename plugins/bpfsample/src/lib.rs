//! The sample of the unity guide, and the model of a counter.
//!
//! Hooks: fentry, else kprobe, of `netstat_seq_show`.

use plugin_bpf::prelude::*;

skeleton!(bpfsample);

table! {
    /// Calls of netstat_seq_show: a read of /proc/net/netstat, and one more for every time that its text
    /// outgrew the reader's buffer.
    bpfsample {
        /// Calls since the last tick.
        value: counter,
    }
}

/// The tool.
pub struct Bpfsample;

impl Tool for Bpfsample {
    type Options = NoOptions;
    type Object = skel::Object;

    fn new(_: NoOptions, _: &mut Setup<skel::Object>) -> Result<Self> {
        Ok(Self)
    }

    fn rows(&mut self, _: &Tick, maps: &mut skel::Maps, lines: &mut Lines) -> Result<()> {
        lines.push(bpfsample::Row { value: maps.counts.take().shows })
    }
}

export_tool!(Bpfsample: bpfsample);
