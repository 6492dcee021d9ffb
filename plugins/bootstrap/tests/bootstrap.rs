//! Starts and ends of this test's own processes.

use bootstrap::Bootstrap;
use plugin_bpf::Running;
use plugin_testing::{Harness, Line};
use std::collections::BTreeSet;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

type Tool = Harness<Running<Bootstrap>>;

/// Every process of the host is in everybody's table: one test at a time.
fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// `sh` under a name of its own, so that nobody else's processes count.
fn sh(script: &str) -> Child {
    // A busybox goes by its first argument.
    let mut command = Command::new("/tmp/bootstrap-sh");
    command.arg0("sh").args(["-c", script]).spawn().expect("a shell")
}

fn link() {
    let shell = std::fs::canonicalize("/bin/sh").expect("a shell");
    let _ = std::fs::remove_file("/tmp/bootstrap-sh");
    std::fs::copy(shell, "/tmp/bootstrap-sh").expect("a copy in /tmp");
}

fn sum(lines: &[Line], table: &str, comm: &str, field: &str) -> u64 {
    let of = |l: &&Line| l.table == table && l.tag("comm") == comm;
    lines.iter().filter(of).map(|l| l.u64(field)).sum()
}

#[test]
fn every_start_and_end_is_counted_with_its_status() {
    let _alone = alone();
    link();
    let mut tool = Tool::init(r#"{"events":true,"by":"comm"}"#).expect("it attaches");
    tool.call().expect("a tick");
    for _ in 0..20 {
        sh("exit 0").wait().expect("an end");
        sh("exit 3").wait().expect("an end");
    }
    let mut killed = sh("kill -9 $$");
    killed.wait().expect("an end");
    let lines = tool.call().expect("a tick");

    let comm = "bootstrap-sh";
    let (execs, exits) = ("execs", "exits");
    assert_eq!(sum(&lines, "bootstrap_comm", comm, execs), 41);
    assert_eq!(sum(&lines, "bootstrap_comm", comm, exits), 41);
    let whole = lines.iter().find(|l| l.table == "bootstrap").expect("a line");
    assert!(whole.u64("failed") >= 20 && whole.u64("signaled") >= 1);
    assert_eq!(whole.u64("count"), whole.u64(exits), "every lifetime is known");
    // Names and totals are one cut, but for what happened between its end and the counters' reading.
    let named: u64 =
        lines.iter().filter(|l| l.table == "bootstrap_comm").map(|l| l.u64(exits)).sum();
    assert!(whole.u64(exits) >= named);

    let events = |event: &str| {
        let of = |l: &&Line| {
            l.table == "bootstrap_event" && l.tag("event") == event && l.text("comm") == comm
        };
        lines.iter().filter(of).cloned().collect::<Vec<_>>()
    };
    let code = |l: &Line| l.get("exit_code").map(|_| l.u64("exit_code"));
    let (started, ended) = (events("exec"), events("exit"));
    assert_eq!((started.len(), ended.len()), (41, 41));
    assert!(started.iter().all(|l| l.text("filename") == "/tmp/bootstrap-sh"));
    let parent = u64::from(std::process::id());
    assert!(started.iter().all(|l| l.u64("ppid") == parent), "{:?}", started[0]);
    assert_eq!(ended.iter().filter(|l| code(l) == Some(3)).count(), 20);
    let end = ended.iter().find(|l| code(l).is_none()).expect("the killed one");
    assert_eq!((end.u64("pid"), end.u64("signal")), (u64::from(killed.id()), 9));
}

#[test]
fn a_process_of_many_threads_ends_once() {
    let _alone = alone();
    let ended = |tool: &mut Tool| {
        let lines = tool.call().expect("a tick");
        let group = |program: &str| program.ends_with("_group");
        let programs = lines.iter().filter(|l| l.table == "collector_program");
        let by_group =
            programs.into_iter().any(|l| group(l.tag("program")) && l.get("hook").is_some());
        let ends = lines.iter().filter(|l| l.table == "bootstrap_comm");
        let ends = ends.filter(|l| l.tag("comm").starts_with("rs:")).map(|l| l.u64("exits"));
        (ends.sum::<u64>(), by_group)
    };
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
        let (_, by_group) = ended(&mut tool);
        for leader_first in [false, true] {
            (0..20).for_each(|_| fork_with_threads(leader_first));
        }
        let (ends, _) = ended(&mut tool);
        // tp before 6.16 takes the first thread's end for the process's, under any name.
        if kind != "tp" || by_group {
            assert_eq!(ends, 40, "{kind}");
        }
    }
    assert!(worked >= 2);
}

/// A process of 8 threads named `rs:..` whose first thread ends before or with the others.
fn fork_with_threads(leader_first: bool) {
    // SAFETY: this test's process has other threads, so the child calls nothing but system calls and
    // the threads' start, which musl and glibc allow after fork in practice.
    let child = unsafe { libc::fork() };
    if child == 0 {
        // SAFETY: prctl with a C string of ours.
        unsafe { libc::prctl(libc::PR_SET_NAME, c"rs:leader".as_ptr()) };
        for _ in 0..7 {
            let _ = std::thread::Builder::new()
                .name("rs:worker".into())
                .spawn(|| std::thread::sleep(Duration::from_millis(2)));
        }
        if leader_first {
            // SAFETY: ends this thread alone; the others go on.
            unsafe { libc::syscall(libc::SYS_exit, 0) };
        }
        // SAFETY: ends the process without running the parent's destructors.
        unsafe { libc::_exit(0) };
    }
    let mut status = 0;
    // SAFETY: waits for the child of this very process.
    assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
}

#[test]
fn short_lives_have_no_event() {
    let _alone = alone();
    link();
    let options = r#"{"events":true,"min_duration":"100ms"}"#;
    let mut tool = Tool::init(options).expect("it attaches");
    tool.call().expect("a tick");
    sh("exit 0").wait().expect("an end");
    sh("sleep 0.2; exit 0").wait().expect("an end");
    let lines = tool.call().expect("a tick");
    let ours: Vec<_> = lines
        .iter()
        .filter(|l| l.table == "bootstrap_event" && l.text("comm") == "bootstrap-sh")
        .collect();
    assert_eq!(ours.len(), 1, "{ours:?}");
    let line = lines.iter().find(|l| l.table == "bootstrap").expect("a line");
    assert!(line.u64("short_lived") >= 1);
}

#[test]
fn whether_a_program_is_attached_stands_in_a_number_too() {
    let _alone = alone();
    let mut tool = Tool::init("{}").expect("it attaches");
    let lines = tool.call().expect("a tick");
    let programs: Vec<_> = lines.iter().filter(|l| l.table == "collector_program").collect();
    let of = |attached: bool| {
        let alike = |l: &&&Line| (l.text("state") == "attached") == attached;
        programs.iter().filter(alike).map(|l| l.u64("attached")).collect::<BTreeSet<_>>()
    };
    assert_eq!(of(true), BTreeSet::from([1]), "{programs:?}");
    assert!(of(false).iter().all(|attached| *attached == 0), "{programs:?}");
}

#[test]
fn names_are_a_table_for_who_asks_for_them_alone() {
    let _alone = alone();
    link();
    for (options, rows) in [("{}", false), (r#"{"by":"comm"}"#, true)] {
        let mut tool = Tool::init(options).expect("it attaches");
        tool.call().expect("a tick");
        sh("exit 0").wait().expect("an end");
        let lines = tool.call().expect("a tick");
        assert_eq!(lines.iter().any(|l| l.table == "bootstrap_comm"), rows, "{options}");
        let whole = lines.iter().find(|l| l.table == "bootstrap").expect("a line");
        assert!(whole.u64("exits") >= 1 && whole.u64("dropped_names") == 0);
    }
}

/// Lives of less than a millisecond are a sum of milliseconds: what a tick leaves over comes with a later one.
#[test]
fn many_short_lives_in_short_ticks_are_not_rounded_away() {
    let _alone = alone();
    link();
    let mut tool = Tool::init(r#"{"by":"comm"}"#).expect("it attaches");
    tool.call().expect("a tick");
    let (mut by_name, mut whole) = (0, 0);
    for _ in 0..100 {
        sh("exit 0").wait().expect("an end");
        let lines = tool.call().expect("a tick");
        by_name += sum(&lines, "bootstrap_comm", "bootstrap-sh", "life_sum_ms");
        by_name += sum(&lines, "bootstrap_comm", "other", "life_sum_ms");
        let others = lines.iter().filter(|l| l.table == "bootstrap_comm");
        let others = others.filter(|l| !["bootstrap-sh", "other"].contains(&l.tag("comm")));
        by_name += others.map(|l| l.u64("life_sum_ms")).sum::<u64>();
        let line = lines.iter().find(|l| l.table == "bootstrap").expect("a line");
        whole += line.u64("sum_ms");
    }
    println!("{by_name} ms by name, {whole} ms of the histogram");
    assert!(whole > 0 && by_name.abs_diff(whole) <= 20, "{by_name} ms by name, {whole} ms in all");
}

/// The map of tp programs is for them alone: 656 KiB that nobody else needs.
#[test]
fn a_map_of_a_way_that_is_not_taken_is_not_created() {
    let _alone = alone();
    // By id: the kernel frees those of an earlier tool when it likes.
    let maps = || -> BTreeSet<u32> {
        let maps = plugin_bpf::libbpf_rs::query::MapInfoIter::default();
        maps.filter(|map| map.name.to_string_lossy() == "exec_at").map(|map| map.id).collect()
    };
    for (kind, more) in [("tp", 1), ("btf", 0)] {
        let before = maps();
        plugin_bpf::only_kind(kind);
        match Tool::init("{}") {
            Ok(_tool) => assert_eq!(maps().difference(&before).count(), more, "{kind}"),
            Err(error) => println!("refused: {error:#}"),
        }
    }
}
