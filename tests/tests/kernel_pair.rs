//! A plugin of two objects has one cut, and books for each.

use libbpf_rs::MapType;
use plugin_api::Tick;
use plugin_bpf::maps::RawMap;
use plugin_testing::{Harness, Line, alone, held};
use std::time::Duration;
use system_tests::calls::Calls;
use system_tests::pair::Plugin;

#[test]
fn two_objects_lose_nothing_behind_one_cut() {
    let _alone = alone();
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

/// How many maps this process holds, and their memory.
fn held_maps() -> (u64, u64) {
    let maps = held(std::process::id(), "map_id:");
    (maps.len() as u64, maps.into_values().sum())
}

#[test]
fn the_memory_of_all_maps_is_said_and_what_both_objects_have_counts_once() {
    let _alone = alone();
    assert_eq!(held_maps(), (0, 0), "nothing else is loaded");
    let mut tool = Harness::<Plugin>::init("{}").expect("it attaches");
    let mut ticks = 0;
    let mut said = |elapsed_s: u64| {
        ticks += 1;
        let (time_ns, elapsed_ns) = (ticks * 1_000_000_000, elapsed_s * 1_000_000_000);
        let tick = Tick { seq: ticks as u64 - 1, time_ns, elapsed_ns };
        let lines = tool.call_at(&tick).expect("a tick");
        let line = lines.iter().find(|line| line.table == "collector_bpf").expect("a line");
        let part = lines.iter().filter(|line| line.table == "collector_map");
        let part: u64 = part.map(|line| line.u64("size_bytes")).sum();
        assert!(part < line.u64("map_bytes"), "others can lose nothing: {lines:?}");
        (line.u64("maps"), line.u64("map_bytes"))
    };
    let first = said(1);
    println!("{} maps of {} bytes", first.0, first.1);
    assert_eq!(first, held_maps());
    assert!(first.0 > 6, "tables with two halves, a histogram, the cut, what was lost, constants");
    let made = RawMap::create(MapType::Array, "made", 4, 4096, 16, 0).expect("a map");
    let more = held_maps();
    assert!(more.0 == first.0 + 1 && more.1 >= first.1 + (64 << 10), "{more:?}");
    assert_eq!(said(1), first, "the kernel is asked every 10 s");
    assert_eq!(said(10), more);
    drop(made);
    assert_eq!(said(10), first);
}
