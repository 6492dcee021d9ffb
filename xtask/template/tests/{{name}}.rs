//! New tasks of this test.

use plugin_bpf::Running;
use plugin_testing::Harness;

#[test]
fn a_new_thread_is_counted() {
    let mut tool = Harness::<Running<{{name}}::{{Name}}>>::init("{}").expect("it attaches");
    std::thread::spawn(|| ()).join().expect("a thread");
    let lines = tool.call().expect("a tick");
    let line = lines.iter().find(|l| l.table == "{{name}}").expect("a line");
    assert!(line.u64("forks") >= 1);
}
