//! A plugin in a process of its own: whatever it does to the process, the collector and the other plugins go on.

use crate::c_plugins::{build, build_text};
use crate::process::{Ended, Running, collector, command, folder, wait_until};
use collector::read::Line;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Ends it at the deadline of a call, 2 s.
const LATE: &str = "its process was killed: no answer within 2.0 s";

/// How long a machine may take for what needs no time.
const AT_ONCE: Duration = Duration::from_secs(10);

/// A fault in a call, and why the plugin failed in the end; empty: it goes on.
const FAULTS: [(&str, &str); 17] = [
    ("segv", "its process was killed by SIGSEGV; its last words: about to break by segv"),
    ("abort", "its process was killed by SIGABRT; its last words: about to break by abort"),
    ("exit", "its process ended with exit code 3; its last words: about to break by exit"),
    ("stack", "has overflowed its stack"),
    ("fpe", "its process was killed by SIGFPE"),
    (
        "thread_exit",
        "its process was killed by SIGABRT; its last words: about to break by thread_exit",
    ),
    (
        "memory",
        "its process was killed by SIGABRT; its last words: about to break by memory | no memory after ",
    ),
    ("closes", "its process was killed: it closed its connection"),
    ("garbage", "its process was killed: it sent a message with an unknown kind"),
    ("huge", "its process was killed: it sent a message of 4294967295 bytes"),
    ("twice", "its process was killed: it sent a message with another beginning"),
    ("half", LATE),
    ("spin", LATE),
    ("sleep", LATE),
    ("stop", LATE),
    ("prints", " of too many"),
    // These go on.
    ("signals", ""),
];

fn config(dir: &TempDir, text: &str) -> String {
    let path = dir.path().join("c.toml");
    fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

/// Makes sure that each call of `good` gave its line, and that there was one for each tick.
fn assert_good(ended: &Ended, ticks: u64, interval: Duration) {
    let calls: Vec<u64> = ended.table("good").map(|line| line.u64("calls")).collect();
    let missed = ended.sum("good", "ticks_missed");
    assert_eq!(ended.ticks("good"), ticks, "{}", ended.stderr);
    assert!(calls.windows(2).all(|two| two[1] == two[0] + 1), "{calls:?}");
    assert_eq!(ended.sum("good", "errors"), 0);
    // Of a machine with two processors that spins, and that may stand still for 2 s.
    let stall = Duration::from_secs(2).as_nanos() / interval.as_nanos();
    assert!(u128::from(missed) <= 1 + u128::from(ticks) / 10 + stall, "{missed} missed");
}

#[test]
fn whatever_breaks_in_a_call_is_named_and_costs_the_others_no_tick() {
    let plugins = folder(&["good"]);
    for (fault, _) in FAULTS {
        build(plugins.path(), fault, "breaks.c", &[&format!("FAULT={fault}"), "AT=call"]);
    }
    let running =
        Running::start(collector(plugins.path(), &["--interval", "200ms", "--ticks", "20"]));
    let pid = running.pid();
    running.wait_for_lines("good,", 5);
    let before = descriptors(pid);
    let ended = running.end();
    assert_good(&ended, 20, Duration::from_millis(200));
    for (fault, reason) in FAULTS {
        let reasons = ended.reasons(fault);
        let (states, lost) = (ended.states(fault), ended.sum(fault, "lost_calls"));
        let lines = ended.table("breaks").filter(|line| line.tag("fault") == fault).count() as u64;
        assert_eq!(
            lines + lost,
            ended.sum(fault, "calls"),
            "{fault}: each call gave lines or none"
        );
        if reason.is_empty() {
            assert!(!states.contains(&"quarantined".to_owned()), "{fault}: {states:?} {reasons}");
            assert_eq!((lines + ended.sum(fault, "ticks_missed"), lost), (20, 0), "{fault}");
        } else {
            assert!(reasons.contains(reason), "{fault}: {reasons}");
            assert!(states.contains(&"quarantined".to_owned()), "{fault}: {states:?}");
            assert!(lines >= 1 && lost >= 1, "{fault}: {lines} {lost}");
        }
    }
    assert_eq!(ended.code, Some(3), "lines were lost");
    // It was killed in its third call, after 2 s of which it had its share.
    let (spun, slept) = (ended.sum("spin", "cpu_ns"), ended.sum("sleep", "cpu_ns"));
    assert!(spun > 50_000_000 && slept < spun, "{spun} and {slept} ns");
    let most = 40 + 4 * FAULTS.len();
    assert!(before < most, "{before} descriptors");
}

fn descriptors(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

#[test]
fn a_fault_in_init_or_deinit_or_on_another_thread_is_named() {
    let plugins = folder(&["good"]);
    let faults = [
        ("segv_init", "segv", "init"),
        ("exit_init", "exit", "init"),
        ("segv_deinit", "segv", "deinit"),
        ("spin_deinit", "spin", "deinit"),
        ("segv_thread", "segv", "thread"),
        ("exit_thread", "exit", "thread"),
    ];
    for (name, fault, at) in faults {
        build(plugins.path(), name, "breaks.c", &[&format!("FAULT={fault}"), &format!("AT={at}")]);
    }
    let args = ["--interval", "100ms", "--ticks", "12"];
    let ended = Running::start(collector(plugins.path(), &args)).end();
    assert_good(&ended, 12, Duration::from_millis(100));
    for (name, fault, at) in faults {
        let reasons = ended.reasons(name);
        let how = match fault {
            "segv" => "its process was killed by SIGSEGV; its last words: about to break by segv",
            "exit" => "its process ended with exit code 3",
            _ => "its process was killed: no answer within 2.5 s",
        };
        assert!(reasons.contains(how), "{name}: {reasons}");
        if at == "deinit" {
            let words = format!("{name}: deinit failed: {how}");
            assert!(ended.stderr.contains(&words), "{}", ended.stderr);
        }
    }
    let took = ended.took.as_secs_f64();
    assert!(took < 1.2 + 1.0 + 3.5 + 10.0, "a deinit that hangs is not waited for longer: {took}");
}

#[test]
fn a_start_that_hangs_is_killed_and_tried_again() {
    let plugins = folder(&["good"]);
    build(plugins.path(), "hangs", "breaks.c", &["FAULT=sleep", "AT=init"]);
    let args = ["--interval", "1s", "--ticks", "22"];
    let ended = Running::start(collector(plugins.path(), &args)).end();
    assert_good(&ended, 22, Duration::from_secs(1));
    let reasons = ended.reasons("hangs");
    assert!(reasons.contains("init has been running for 5 s"), "{reasons}");
    assert!(reasons.contains("its process was killed: no answer within 20.0 s"), "{reasons}");
}

#[test]
fn what_it_takes_is_bounded() {
    let plugins = folder(&["good"]);
    for fault in ["descriptors", "threads", "memory", "fork"] {
        build(plugins.path(), fault, "breaks.c", &[&format!("FAULT={fault}"), "AT=call"]);
    }
    build(plugins.path(), "forks", "breaks.c", &["FAULT=fork", "AT=call"]);
    let dir = tempfile::tempdir().unwrap();
    let text = "[plugin.memory]\nmax_memory = 33554432\n[plugin.fork]\nprocesses = false\n";
    let text = config(&dir, text);
    let args = ["--interval", "200ms", "--ticks", "30", "--config", &text];
    let running = Running::start(collector(plugins.path(), &args));
    // The second call does it, and gives its line after that.
    for (fault, lines) in [("threads", 2), ("descriptors", 2), ("fork", 4)] {
        running.wait_for_lines(&format!("breaks,fault={fault},"), lines);
    }
    let of = |name: &str| children(running.pid()).into_iter().find(|child| comm(*child) == name);
    let threads = of("collector/threa").unwrap();
    let number = fs::read_dir(format!("/proc/{threads}/task")).unwrap().count();
    assert!((2..200).contains(&number), "{number} threads in 256 MiB");
    let most = descriptors(of("collector/descr").unwrap());
    assert!((1000..5000).contains(&most), "{most} descriptors");
    // What a process has forked ends with it.
    let forks = of("collector/forks").unwrap();
    let forked = children(forks);
    assert!(!forked.is_empty() && children(of("collector/fork").unwrap()).is_empty());
    let ended = running.end();
    assert_good(&ended, 30, Duration::from_millis(200));
    for fault in ["descriptors", "threads", "fork", "forks"] {
        assert_eq!(ended.sum(fault, "errors"), 0, "{fault}: {}", ended.reasons(fault));
    }
    let reasons = ended.reasons("memory");
    let (_, after) = reasons.split_once("no memory after ").expect(&reasons);
    let mib: u64 = after.split(' ').next().unwrap().parse().unwrap();
    assert!((16..32).contains(&mib), "{mib} MiB of 32");
    assert!(gone_within(&forked, AT_ONCE), "{forked:?}");
}

#[test]
fn hundreds_of_crashes_cost_the_collector_nothing() {
    let plugins = folder(&["good"]);
    build(plugins.path(), "segv", "breaks.c", &["FAULT=segv", "AT=call", "AFTER=0"]);
    let running = Running::start(collector(plugins.path(), &["--interval", "10ms"]));
    let pid = running.pid();
    let crashes = || -> u64 {
        let lines = running.lines().into_iter();
        let about =
            lines.filter(|line| line.table == "collector_plugin" && line.tag("plugin") == "segv");
        about.map(|line| line.u64("lost_calls")).sum()
    };
    wait_until("crashes", || crashes() >= 10);
    let before = (descriptors(pid), rss_kib(pid));
    wait_until("more crashes", || crashes() >= 40);
    let after = (descriptors(pid), rss_kib(pid));
    let crashes = crashes();
    running.signal("TERM");
    let ended = running.end();
    println!("{crashes} crashes, descriptors and KiB: {before:?} to {after:?}");
    assert!(after.0 <= before.0 + 4, "{before:?} {after:?}");
    assert!(after.1 <= before.1 + 2048, "{before:?} {after:?}");
    assert_eq!(ended.sum("good", "errors"), 0);
    let good: Vec<u64> = ended.table("good").map(|line| line.u64("calls")).collect();
    assert!(good.iter().copied().eq(1..=good.len() as u64), "{good:?}");
}

#[test]
fn the_collectors_own_death_is_theirs() {
    let plugins = folder(&["good"]);
    build(plugins.path(), "idle", "breaks.c", &["FAULT=signals", "AT=call"]);
    build(plugins.path(), "spins", "breaks.c", &["FAULT=spin", "AT=call", "AFTER=0"]);
    build(plugins.path(), "sleeps", "breaks.c", &["FAULT=sleep", "AT=init"]);
    let running = Running::start(collector(plugins.path(), &["--interval", "500ms"]));
    let plugins = ["collector/idle", "collector/spins", "collector/sleep"];
    let began = Instant::now();
    let all = loop {
        let all = children(running.pid());
        let names: Vec<String> = all.iter().map(|pid| comm(*pid)).collect();
        if plugins.iter().all(|name| names.iter().any(|known| known == name)) {
            break all;
        }
        assert!(began.elapsed() < Duration::from_secs(60), "{names:?}");
        thread::sleep(Duration::from_millis(10));
    };
    thread::sleep(Duration::from_millis(700)); // one of them spins by now
    running.signal("KILL");
    let began = Instant::now();
    assert!(gone_within(&all, AT_ONCE), "{all:?}");
    println!("gone {:?} after the collector was killed", began.elapsed());
}

/// The collector writes to a process that is gone, while another plugin wants the signal for that to be deadly.
#[test]
fn what_a_process_leaves_behind_is_no_signal_for_the_collector() {
    let plugins = folder(&["good"]);
    build(plugins.path(), "resets", "breaks.c", &["FAULT=sigpipe", "AT=init"]);
    build(plugins.path(), "idle", "breaks.c", &["FAULT=none", "AT=call"]);
    let config = config(&plugins, "[plugin.resets]\nisolation = \"none\"\n");
    let arguments = ["--interval", "100ms", "--config", &config];
    let running = Running::start(collector(plugins.path(), &arguments));
    running.wait_for_lines("breaks", 2);
    for _ in 0..10 {
        let idle =
            || children(running.pid()).into_iter().find(|pid| comm(*pid) == "collector/idle");
        wait_until("a process", || {
            assert!(stat(running.pid()).is_some_and(|stat| stat[0] != "Z"), "the collector died");
            idle().is_some()
        });
        let pid = idle().unwrap();
        let killed = Command::new("kill").args(["-KILL", &pid.to_string()]).status().unwrap();
        assert!(killed.success());
        wait_until("its end", || idle() != Some(pid));
    }
    running.signal("TERM");
    let ended = running.end();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(ended.sum("idle", "lost_calls") > 0, "{}", ended.stderr);
}

/// The processes whose parent this is.
fn children(pid: u32) -> Vec<u32> {
    let processes = fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    processes.filter(|child| stat(*child).is_some_and(|stat| stat[1] == pid.to_string())).collect()
}

/// What stands behind the name in /proc/PID/stat: state, parent, group, session.
fn stat(pid: u32) -> Option<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    Some(text.rsplit_once(") ")?.1.split(' ').map(str::to_owned).collect())
}

fn comm(pid: u32) -> String {
    fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim_end().to_owned()
}

fn rss_kib(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// Whether none of them runs any more; somebody may still have to be told of their end.
fn gone_within(pids: &[u32], time: Duration) -> bool {
    let until = Instant::now() + time;
    let runs = |pid: &u32| stat(*pid).is_some_and(|stat| stat[0] != "Z" && stat[0] != "X");
    while pids.iter().any(runs) {
        if Instant::now() > until {
            return false;
        }
        thread::sleep(Duration::from_millis(5));
    }
    true
}

#[test]
fn a_plugin_can_ask_for_a_process_and_its_lines_are_the_same_there() {
    let dir = tempfile::tempdir().unwrap();
    let plugins = folder(&["good", "isolated"]);
    let text = |isolation: &str| {
        let good = "lines = 3\ntags = { team = \"a b\" }\nby = \"x,y=z\"\n";
        config(&dir, &format!("[plugin.good]\n{good}isolation = \"{isolation}\"\n"))
    };
    let lines = |isolation: &str| {
        let text = text(isolation);
        let args = ["--interval", "100ms", "--ticks", "5", "--config", &text];
        let ended = Running::start(collector(plugins.path(), &args)).end();
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        assert!(ended.stderr.contains("good: by x,y=z"), "its log: {}", ended.stderr);
        let isolated = ended.table("isolated").next().unwrap().u64("process");
        assert!(ended.stderr.contains(&format!("isolated: in process {isolated}")));
        let mut lines: Vec<_> =
            ended.lines.into_iter().filter(|l| l.table.starts_with("good")).collect();
        for line in &mut lines {
            line.time_ns = 0;
            line.fields.remove("interval_ns");
        }
        lines
    };
    let (mut inside, mut outside) = (lines("none"), lines("process"));
    // Four lines a call, of five unless ticks were missed.
    let most = inside.len().min(outside.len());
    assert!(inside.len() % 4 == 0 && (4..=20).contains(&most), "{most}");
    inside.truncate(most);
    outside.truncate(most);
    assert_eq!(inside, outside);
}

#[test]
fn faults_of_rust_plugins_are_named() {
    let plugins = folder(&["good", "isolated"]);
    let dir = tempfile::tempdir().unwrap();
    for (fault, reason) in [
        ("segv", "its process was killed by SIGSEGV"),
        ("stack", "has overflowed its stack"),
        ("panic", "panic at collector/examples/isolated.rs:"),
        ("exit", "its process ended with exit code 7"),
        ("lines", "over the cap of 10000 lines"),
        ("flood", LATE),
        ("program", "Operation not permitted"),
    ] {
        let text = config(&dir, &format!("[plugin.isolated]\nfault = \"{fault}\"\n"));
        let args = ["--interval", "300ms", "--config", &text];
        let running = Running::start(collector(plugins.path(), &args));
        let is_told = |line: &Line| {
            let about = line.table == "collector_plugin" && line.tag("plugin") == "isolated";
            about && line.get("reason").is_some() && line.text("reason").contains(reason)
        };
        wait_until(reason, || running.lines().iter().any(is_told));
        running.signal("TERM");
        let ended = running.end();
        assert_eq!(ended.code, Some(0), "{fault}: {}", ended.stderr);
        assert_good(&ended, ended.ticks("good"), Duration::from_millis(300));
        let first = ended.table("isolated").filter(|line| line.tag("line") == "0").count() as u64;
        let (calls, lost) = (ended.sum("isolated", "calls"), ended.sum("isolated", "lost_calls"));
        assert_eq!(first, calls - lost, "{fault}: {}", ended.stderr);
        let gone = ["segv", "stack", "exit", "flood"].contains(&fault);
        assert_eq!(lost > 0, gone, "{fault}");
        if fault == "lines" {
            let taken = ended.table("isolated").count() as u64;
            let dropped = ended.sum("isolated", "dropped_full");
            assert_eq!(taken + dropped, 1 + (calls - 1) * 20_000);
        }
    }
}

#[test]
fn its_process_has_what_it_needs_and_no_more() {
    let plugins = folder(&["isolated"]);
    let running = Running::start(collector(plugins.path(), &["--interval", "100ms"]));
    running.wait_for("in process");
    let began = Instant::now();
    let child = loop {
        let all = children(running.pid());
        if let Some(child) = all.into_iter().find(|pid| comm(*pid) == "collector/isola") {
            break child;
        }
        assert!(began.elapsed() < Duration::from_secs(60));
    };
    let status = fs::read_to_string(format!("/proc/{child}/status")).unwrap();
    let field = |key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default();
        line.trim().to_owned()
    };
    assert_eq!((field("NoNewPrivs:"), field("Seccomp:")), ("1".to_owned(), "2".to_owned()));
    assert_eq!(field("SigBlk:"), "0000000000000000", "it hears all signals");
    let thread = format!("/proc/{}/task", running.pid());
    let thread = fs::read_dir(thread).unwrap().map(|task| task.unwrap().path()).find(|task| {
        fs::read_to_string(task.join("comm")).is_ok_and(|comm| comm.trim() == "collector/isola")
    });
    let of_thread = fs::read_to_string(thread.unwrap().join("status")).unwrap();
    for key in ["CapEff:", "CapPrm:", "CapAmb:", "CapInh:"] {
        let line = of_thread.lines().find_map(|line| line.strip_prefix(key)).unwrap();
        assert_eq!(field(key), line.trim(), "{key}");
    }
    assert_eq!(stat(child).unwrap()[2], child.to_string(), "a process group of its own");
    let session = |pid| stat(pid).unwrap()[3].clone();
    assert_eq!(session(child), session(running.pid()), "one share of the machine for all");
    let open = fs::read_dir(format!("/proc/{child}/fd")).unwrap().map(|entry| {
        fs::read_link(entry.unwrap().path()).unwrap_or_default().to_string_lossy().into_owned()
    });
    let mut open: Vec<String> =
        open.map(|name| name.split([':', '#']).next().unwrap_or_default().to_owned()).collect();
    open.sort();
    // The private copy of its file; pipes of requests and of answers; standard output and error.
    assert_eq!(open, ["/dev/null", "/var/tmp/", "pipe", "pipe", "pipe", "pipe"]);
    running.signal("INT");
    assert_eq!(running.end().code, Some(0));
}

#[test]
fn a_signal_to_all_of_them_is_the_collectors_to_hear() {
    let plugins = folder(&["isolated"]);
    let mut command = collector(plugins.path(), &["--interval", "1h"]);
    // In a process group, as a shell starts it, and with all that a service's end reaches.
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    let running = Running::start(command);
    running.wait_for("in process");
    let mut all = children(running.pid());
    all.push(running.pid());
    let group = format!("-{}", running.pid());
    assert!(Command::new("kill").args(["-s", "TERM", "--", &group]).status().unwrap().success());
    for pid in all {
        let _ = Command::new("kill").args(["-s", "TERM", &pid.to_string()]).output();
    }
    let ended = running.end();
    // The second signal to the collector itself ends it at once.
    assert!(matches!(ended.code, Some(0 | 143)), "{:?} {}", ended.code, ended.stderr);
    assert!(!ended.stderr.contains("SIGTERM;"), "{}", ended.stderr);
}

#[test]
fn commands_work_with_a_plugin_in_a_process() {
    let plugins = folder(&["good", "isolated"]);
    let dir = tempfile::tempdir().unwrap();
    let text = config(
        &dir,
        "[plugin.good]\nisolation = \"process\"\n[plugin.isolated]\nfault = \"segv\"\n",
    );
    let with = |args: &[&str]| command(plugins.path(), &[&["--config", &text], args].concat());
    let list = with(&["list"]);
    assert!(list.stdout.contains("good ") && list.stdout.contains("loads"), "{}", list.stdout);
    let describe = with(&["describe", "good"]);
    assert!(describe.stdout.contains("runs in a process of its own"), "{}", describe.stdout);
    assert!(describe.stdout.contains("table good: Calls."), "{}", describe.stdout);
    let check = with(&["check"]);
    assert_eq!(check.code, Some(0), "{}{}", check.stdout, check.stderr);
    let once = with(&["once", "good", "50ms", "2"]);
    assert_eq!(once.code, Some(0), "{}", once.stderr);
    let once = with(&["once", "isolated", "50ms", "2"]);
    assert_eq!(once.code, Some(1));
    assert!(
        once.stderr.contains("isolated: call failed: its process was killed by SIGSEGV"),
        "{}",
        once.stderr
    );
}

#[test]
fn code_that_runs_while_it_is_loaded_runs_there() {
    let plugins = folder(&["good"]);
    let functions = "int init(void *a) { return !a; } int call(int t, void *l) { return l ? t : 0; } void deinit(void) {}";
    for (name, body) in
        [("crashes", "abort();"), ("leaves", "_exit(0);"), ("hangs", "for (;;) pause();")]
    {
        let code = format!(
            "#include <stdlib.h>\n#include <unistd.h>\n__attribute__((constructor)) static void run(void) {{ {body} }}\n{functions}\n"
        );
        build_text(plugins.path(), name, &code);
        fs::remove_file(plugins.path().join(format!("{name}.c"))).unwrap();
    }
    let ended =
        Running::start(collector(plugins.path(), &["--interval", "100ms", "--ticks", "3"])).end();
    assert_eq!(ended.ticks("good"), 3, "{}", ended.stderr);
    for (name, reason) in [
        ("crashes", "its process was killed by SIGABRT"),
        ("leaves", "its process ended with exit code 0"),
        ("hangs", "its process was killed: no answer within 10.0 s"),
    ] {
        assert!(ended.reasons(name).contains(reason), "{name}: {}", ended.reasons(name));
        assert_eq!(ended.states(name), ["refused"]);
    }
}

#[test]
fn the_same_program_is_no_command_for_people() {
    let ended = command(Path::new("/nonexistent"), &["list"]);
    assert_eq!(ended.code, Some(2));
    let out = Command::new(env!("CARGO_BIN_EXE_collector")).arg("plugin-process").output().unwrap();
    assert_eq!(out.status.code(), Some(2));
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(said.contains("a plugin's process is started by the collector only"), "{said}");
}
