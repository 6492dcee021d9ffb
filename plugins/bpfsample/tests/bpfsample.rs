//! Every show is counted.

use bpfsample::Bpfsample;
use plugin_bpf::Running;
use plugin_testing::Harness;

#[test]
fn every_show_is_counted() {
    let Some(mut tool) = Harness::<Running<Bpfsample>>::init_or_skip("{}") else { return };
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
