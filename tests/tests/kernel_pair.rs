//! A plugin of two objects has one cut, and books for each.

use plugin_testing::{Harness, Line};
use std::time::Duration;
use system_tests::calls::Calls;
use system_tests::pair::Plugin;

#[test]
fn two_objects_lose_nothing_behind_one_cut() {
    let mut tool = Harness::<Plugin>::init("{}").expect("it attaches");
    let calls = Calls::start(2, 64);
    let mut sums = [0; 5];
    let mut missed = [0; 2];
    let mut enter = |lines: Vec<Line>| {
        let line = lines.iter().find(|l| l.table == "pair").expect("a line");
        let fields = ["table", "histogram", "kept", "full", "lost"];
        sums.iter_mut().zip(fields).for_each(|(sum, field)| *sum += line.u64(field));
        for (missed, program) in missed.iter_mut().zip(["renamed_raw", "counted_raw"]) {
            let named = |l: &&Line| l.table == "collector_program" && l.tag("program") == program;
            let line = lines.iter().find(named).expect("a line of each program");
            *missed += line.get("missed").map_or(0, |_| line.u64("missed"));
        }
    };
    for _ in 0..50 {
        enter(tool.call().expect("a tick"));
        std::thread::sleep(Duration::from_millis(1));
    }
    let made: u64 = calls.stop().iter().sum();
    enter(tool.call().expect("a tick"));
    enter(tool.call().expect("a tick"));
    let [table, histogram, kept, full, lost] = sums;
    println!("{made} calls: {table} in a table, {histogram} in a histogram, {kept} + {full} full");
    assert_eq!(made, table + lost + missed[0]);
    assert_eq!(made, histogram + missed[1]);
    assert_eq!(made, kept + full + missed[1], "the losses of two objects are apart");
    assert!(lost == 0 && full > 0);
}
