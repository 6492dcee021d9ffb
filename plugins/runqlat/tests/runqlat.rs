//! Waits of this test's own threads.

use plugin_bpf::Running;
use plugin_testing::{Harness, Line};
use runqlat::Runqlat;
use std::sync::mpsc::channel;
use std::sync::{Mutex, MutexGuard, PoisonError};

type Tool = Harness<Running<Runqlat>>;

/// Every thread of the host is in everybody's table: one test at a time.
fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Two threads that wake each other: `n` rounds are at least `n` waits.
fn ping_pong(name: &str, n: usize) {
    let (ping, pinged) = channel();
    let (pong, ponged) = channel();
    let other = std::thread::Builder::new().name(name.into()).spawn(move || {
        pinged.iter().for_each(|()| {
            let _ = pong.send(());
        });
    });
    for _ in 0..n {
        ping.send(()).expect("the other listens");
        ponged.recv().expect("the other answers");
    }
    drop(ping);
    other.expect("a thread").join().expect("no panic");
}

fn comms(lines: &[Line]) -> impl Iterator<Item = &Line> {
    lines.iter().filter(|l| l.table == "runqlat_comm")
}

#[test]
fn waits_are_counted_and_grouped_by_name() {
    let _alone = alone();
    let mut tool = Tool::init(r#"{"by":"comm"}"#).expect("it attaches");
    tool.call().expect("a tick");
    ping_pong("rq-pong", 2_000);
    let lines = tool.call().expect("a tick");
    let line = lines.iter().find(|l| l.table == "runqlat").expect("a line");
    let (count, sum) = (line.u64("count"), line.u64("sum_us"));
    assert!(count >= 2_000, "{line:?}");
    assert!(line.u64("max_us") <= sum + 1 && line.get("p99_us").is_some());
    assert_eq!((line.u64("dropped"), line.u64("dropped_names")), (0, 0));
    // Names and histogram are one cut: they add up.
    assert_eq!(comms(&lines).map(|l| l.u64("count")).sum::<u64>(), count);
    let pong = comms(&lines).find(|l| l.tag("comm") == "rq-pong").expect("the busiest thread");
    assert!(pong.u64("count") >= 1_000);
}

#[test]
fn every_way_sees_the_waits() {
    let _alone = alone();
    let mut worked = 0;
    for kind in ["btf", "raw", "tp"] {
        plugin_bpf::only_kind(kind);
        let mut tool = match Tool::init(r#"{"by":"comm"}"#) {
            Ok(tool) => tool,
            Err(error) => {
                println!("refused: {error:#}");
                continue;
            }
        };
        worked += 1;
        ping_pong("rq-way", 1_000);
        let lines = tool.call().expect("a tick");
        let way = comms(&lines).find(|l| l.tag("comm") == "rq-way").expect("the busiest thread");
        assert!(way.u64("count") >= 500, "{kind}: {way:?}");
        let programs = lines.iter().filter(|l| l.table == "collector_program");
        assert_eq!(programs.count(), 4, "{kind}");
    }
    assert!(worked >= 2, "tp needs tracefs, raw_tp needs BTF: one is always there, mostly all");
}

#[test]
fn without_by_there_are_no_names() {
    let _alone = alone();
    let mut tool = Tool::init("{}").expect("it attaches");
    tool.call().expect("a tick");
    ping_pong("rq-none", 100);
    let lines = tool.call().expect("a tick");
    assert_eq!(comms(&lines).count(), 0);
    assert!(lines.iter().any(|l| l.table == "runqlat" && l.u64("count") >= 100));
}

/// Table and histogram of the same events differed in some ticks when each read the half for itself.
#[test]
fn names_and_histogram_add_up_in_every_tick() {
    let _alone = alone();
    let mut tool = Tool::init(r#"{"by":"comm"}"#).expect("it attaches");
    tool.call().expect("a tick");
    let load = std::thread::spawn(|| ping_pong("rq-cut", 20_000));
    let mut ticks = 0;
    while !load.is_finished() {
        let lines = tool.call().expect("a tick");
        let line = lines.iter().find(|l| l.table == "runqlat").expect("a line");
        let named: u64 = comms(&lines).map(|l| l.u64("count")).sum();
        assert_eq!(line.u64("count"), named + line.u64("dropped_names"), "tick {ticks}");
        ticks += 1;
    }
    load.join().expect("no panic");
    println!("{ticks} ticks add up");
    assert!(ticks > 20);
}

/// 7,912 of 49,492 waits were in no row, and nobody said so.
#[test]
fn names_beyond_the_tables_room_are_counted() {
    let _alone = alone();
    let mut tool = Tool::init(r#"{"by":"comm"}"#).expect("it attaches");
    tool.call().expect("a tick");
    for n in 0..9_000 {
        let name = std::ffi::CString::new(format!("rq{n}")).expect("no NUL");
        // SAFETY: the name is a C string, copied before the call returns.
        unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr()) };
        std::thread::sleep(std::time::Duration::from_micros(1));
    }
    let lines = tool.call().expect("a tick");
    let line = lines.iter().find(|l| l.table == "runqlat").expect("a line");
    let named: u64 = comms(&lines).map(|l| l.u64("count")).sum();
    println!("{} waits = {named} named + {}", line.u64("count"), line.u64("dropped_names"));
    assert!(line.u64("dropped_names") > 100);
    assert_eq!(line.u64("count"), named + line.u64("dropped_names"));
    let map = lines.iter().find(|l| l.table == "collector_map").expect("a line of its map");
    assert_eq!((map.tag("map"), map.u64("full")), ("comms", line.u64("dropped_names")));
    assert_eq!(map.u64("keys"), 4096);
}

/// A process named `other` is another row than the sum of the rest, and a name that is no text is one row.
#[test]
fn no_two_lines_have_the_same_tag() {
    let _alone = alone();
    let mut tool = Tool::init(r#"{"by":"comm"}"#).expect("it attaches");
    tool.call().expect("a tick");
    for name in ["other", "other_", "rq a,b", "rq\u{7}x", "rq\u{8}x"] {
        ping_pong(name, 3_000);
    }
    let lines = tool.call().expect("a tick");
    let mut names: Vec<&str> = comms(&lines).map(|l| l.tag("comm")).collect();
    let all = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), all, "{names:?}");
    for name in ["other", "other_", "other__", "rq a,b", "rq_x"] {
        assert!(names.contains(&name), "{name} of {names:?}");
    }
}

#[test]
fn a_wrong_option_says_what_is_right() {
    let _alone = alone();
    let error = Tool::init(r#"{"by":"pid"}"#).err().expect("refused");
    let error = format!("{error:#}");
    assert!(error.contains("`by`") && error.contains("\"comm\""), "{error}");
}
