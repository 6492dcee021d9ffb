//! Ends of this test's own processes, beside what wait(2) says of them.

use exitsnoop::Exitsnoop;
use plugin_bpf::{Running, only_kind, possible_cpus};
use plugin_testing::process::{Child, end_thread, program, rename};
use plugin_testing::{Harness, Line, alone, cpu, map_bytes, missed, ways};
use std::collections::BTreeMap;
use std::ffi::{CStr, CString};
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

type Tool = Harness<Running<Exitsnoop>>;

const OURS: &CStr = c"xe:ours";
const PROGRAM: &str = "xe-program";

fn one<'a>(lines: &'a [Line], table: &str) -> &'a Line {
    lines.iter().find(|l| l.table == table).unwrap_or_else(|| panic!("a line of {table}"))
}

fn events(lines: &[Line]) -> Vec<&Line> {
    lines.iter().filter(|l| l.table == "exitsnoop_event").collect()
}

/// Rows by a tag: how many ends each has.
fn rows<'a>(lines: &'a [Line], table: &'a str, tag: &'a str) -> BTreeMap<&'a str, u64> {
    let rows = lines.iter().filter(|l| l.table == table);
    rows.map(|l| (l.tag(tag), l.u64("exits"))).filter(|(_, exits)| *exits > 0).collect()
}

/// Whether the tool's program is told by the kernel that a process ends.
fn is_told(lines: &[Line]) -> bool {
    let programs = lines.iter().filter(|l| l.table == "collector_program");
    programs.into_iter().any(|l| l.tag("program").ends_with("_group") && l.get("hook").is_some())
}

/// A folder with a program that ends with status 4; where cores of it go, too.
struct Files(PathBuf);

impl Files {
    fn new() -> Self {
        let folder = std::env::temp_dir().join(format!("exitsnoop-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        program(&folder.join(PROGRAM), 4);
        Self(folder)
    }

    fn program(&self) -> CString {
        CString::new(self.0.join(PROGRAM).to_str().expect("a path")).expect("no NUL")
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn exec(path: &CStr) -> i32 {
    let args = [path.as_ptr(), std::ptr::null()];
    // SAFETY: C strings, and a list that ends with NULL.
    unsafe { libc::execv(path.as_ptr(), args.as_ptr()) };
    102
}

/// Ends the process from wherever.
fn exit(code: i32) -> ! {
    // SAFETY: ends the process without destructors.
    unsafe { libc::_exit(code) }
}

/// Ends this process by a signal, with leave to dump a core of so many bytes.
fn die(signal: i32, core: u64) -> i32 {
    let limit = libc::rlimit { rlim_cur: core, rlim_max: core };
    // SAFETY: numbers, and a struct that outlives the call.
    unsafe {
        libc::setrlimit(libc::RLIMIT_CORE, &limit);
        libc::signal(signal, libc::SIG_DFL);
        libc::kill(libc::getpid(), signal);
        libc::pause()
    }
}

/// Threads of these children that end while their process goes on.
const THREADS: u64 = 5;

/// Each cause in some way of its own, one after the other: ids with what wait(2) says.
fn children(files: &Files) -> BTreeMap<u64, i32> {
    let folder = CString::new(files.0.to_str().expect("a path")).expect("no NUL");
    let fork = |act: &dyn Fn() -> i32| {
        let child = Child::fork(OURS, act);
        (child.pid as u64, child.wait())
    };
    let mut children: Vec<_> = (0..5).map(|_| fork(&|| 0)).collect();
    children.extend((0..3).map(|_| fork(&|| 7)));
    children.extend((0..2).map(|_| fork(&|| die(libc::SIGKILL, 0))));
    children.push(fork(&|| die(libc::SIGTERM, 0)));
    children.push(fork(&|| die(34, 0)));
    children.push(fork(&|| die(libc::SIGSEGV, 0)));
    children.push(fork(&|| {
        // SAFETY: a C string.
        unsafe { libc::chdir(folder.as_ptr()) };
        die(libc::SIGABRT, libc::RLIM_INFINITY)
    }));
    // The first thread ends, another one lives on and ends with another status.
    children.push(fork(&|| {
        thread::spawn(|| {
            thread::sleep(Duration::from_millis(5));
            end_thread(7)
        });
        end_thread(0)
    }));
    // Another thread ends the process, with the first one or after it.
    children.push(fork(&|| {
        thread::spawn(|| exit(9));
        loop {
            thread::park();
        }
    }));
    children.push(fork(&|| {
        thread::spawn(|| {
            thread::sleep(Duration::from_millis(5));
            exit(9)
        });
        end_thread(0)
    }));
    // Another thread executes a program, beside the first one or after it.
    for leader_ends in [false, true] {
        let path = files.program();
        children.push(fork(&|| {
            let path = path.clone();
            thread::spawn(move || {
                thread::sleep(Duration::from_millis(5));
                exit(exec(&path))
            });
            if leader_ends {
                end_thread(0);
            }
            loop {
                thread::park();
            }
        }));
    }
    // A stop leaves its signal where the status of a group is kept.
    let stopped = Child::fork(OURS, || {
        thread::sleep(Duration::from_millis(30));
        0
    });
    stopped.kill(libc::SIGSTOP);
    thread::sleep(Duration::from_millis(5));
    stopped.kill(libc::SIGCONT);
    children.push((stopped.pid as u64, stopped.wait()));
    children.into_iter().collect()
}

/// Every end is told as wait(2) tells it.
#[test]
fn every_way_counts_each_process_once_by_what_wait_says() {
    let _alone = alone();
    let files = Files::new();
    let options = r#"{"events":true,"by":"comm","comm":["xe:ours","xe-program"]}"#;
    for (kind, mut tool) in ways::<Running<Exitsnoop>>(only_kind, &["btf", "raw", "tp"], options) {
        tool.call().expect("a tick");
        let mut statuses = children(&files);
        let lines = tool.call().expect("a tick");
        let (line, n) = (one(&lines, "exitsnoop"), statuses.len() as u64);
        println!("{kind}: {line:?}, {} missed", missed(&lines));
        if missed(&lines) > 0 {
            let ends = line.u64("exits") + line.u64("threads");
            assert!(ends <= n + THREADS && ends + missed(&lines) >= n + THREADS, "{kind}");
            continue;
        }
        if kind == "tp" {
            // Else a first thread's end counts: two of them had gone before another thread executed a program.
            let (n, threads) = if is_told(&lines) { (n, THREADS) } else { (n + 2, THREADS - 2) };
            let found = ["exits", "unknown", "threads", "count"].map(|field| line.u64(field));
            assert_eq!(found, [n, n, threads, 0]);
            continue;
        }
        let count = |matches: &dyn Fn(i32) -> bool| {
            statuses.values().filter(|status| matches(**status)).count() as u64
        };
        let (ok, signaled) = (count(&|s| s == 0), count(&|s| libc::WIFSIGNALED(s)));
        let cores = count(&|s| libc::WIFSIGNALED(s) && libc::WCOREDUMP(s));
        println!("{kind}: {n} ends, {ok} ok, {signaled} by a signal, {cores} with a core");
        let fields = ["exits", "ok", "failed", "signaled", "cores", "unknown", "count", "threads"];
        let expected = [n, ok, n - ok - signaled, signaled, cores, 0, n, THREADS];
        assert_eq!(fields.map(|field| line.u64(field)), expected, "{kind}: {fields:?}");
        if cpu::is_guest() {
            assert_eq!(cores, 1, "nothing keeps a core from being dumped there");
        }
        let mut signals = BTreeMap::from([("SIGABRT", 1), ("SIGKILL", 2), ("SIGTERM", 1)]);
        signals.extend([("SIGRTMIN", 1), ("SIGSEGV", 1)]);
        assert_eq!(rows(&lines, "exitsnoop_signal", "sig"), signals, "{kind}");
        let mut codes = BTreeMap::new();
        for code in
            statuses.values().filter(|s| libc::WIFEXITED(**s)).map(|s| libc::WEXITSTATUS(*s))
        {
            *codes.entry(code.to_string()).or_default() += u64::from(code != 0);
        }
        codes.remove("0");
        let codes: BTreeMap<_, _> = codes.iter().map(|(code, n)| (&**code, *n)).collect();
        assert_eq!(rows(&lines, "exitsnoop_code", "code"), codes, "{kind}");
        let names = BTreeMap::from([("xe:ours", n - 2), ("xe-program", 2)]);
        assert_eq!(rows(&lines, "exitsnoop_comm", "comm"), names, "{kind}");

        let parent = u64::from(std::process::id());
        for event in events(&lines) {
            let status = statuses.remove(&event.u64("pid")).expect("one of ours, once");
            let get = |field| event.get(field).map(|_| event.u64(field) as i32);
            let (code, signal) = (libc::WEXITSTATUS(status), libc::WTERMSIG(status));
            let (cause, code, signal) = match (libc::WIFSIGNALED(status), libc::WCOREDUMP(status)) {
                (true, true) => ("core", None, Some(signal)),
                (true, false) => ("signaled", None, Some(signal)),
                _ if code == 0 => ("ok", Some(0), None),
                _ => ("failed", Some(code), None),
            };
            assert_eq!((event.tag("cause"), get("code"), get("signal")), (cause, code, signal));
            assert_eq!(event.u64("ppid"), parent, "{event:?}");
        }
        assert!(statuses.is_empty(), "without an event: {statuses:?}");
        let lost = one(&lines, "exitsnoop_lost");
        assert_eq!((lost.u64("dropped_events"), lost.u64("dropped_names")), (0, 0));
    }
}

/// Before 6.16 two threads may both find that they are the last.
#[test]
fn a_process_of_many_threads_ends_once() {
    let _alone = alone();
    let options = r#"{"by":"comm","comm":["xe:ours"]}"#;
    for (kind, mut tool) in ways::<Running<Exitsnoop>>(only_kind, &["btf", "raw"], options) {
        tool.call().expect("a tick");
        for leader_first in [false, true] {
            for _ in 0..20 {
                let child = Child::fork(OURS, || {
                    let sleep = || {
                        rename(c"xe:thread");
                        thread::sleep(Duration::from_millis(2));
                        end_thread(0)
                    };
                    (0..7).for_each(|_| drop(thread::spawn(sleep)));
                    if leader_first {
                        end_thread(0);
                    }
                    thread::sleep(Duration::from_millis(2));
                    end_thread(0)
                });
                assert_eq!(child.wait(), 0);
            }
        }
        let lines = tool.call().expect("a tick");
        let line = one(&lines, "exitsnoop");
        let (exits, threads) = (line.u64("exits"), line.u64("threads"));
        println!("{kind}: {exits} processes, {threads} threads, {} missed", missed(&lines));
        if missed(&lines) > 0 {
            let ends = exits + threads;
            assert!(exits <= 40 && ends <= 320 && ends + missed(&lines) >= 320, "{kind}");
            continue;
        }
        assert_eq!((exits, threads), (40, 280), "{kind}");
        // Whichever thread was the last one, and whatever its name.
        let names = rows(&lines, "exitsnoop_comm", "comm");
        assert_eq!(names, BTreeMap::from([("xe:ours", 40)]), "{kind}");
    }
}

/// The wall clock set forward by an hour.
struct AnHourLater;

impl AnHourLater {
    /// In a machine of our own only: elsewhere others live by the clock.
    fn begin() -> Option<Self> {
        // Not `then_some`: it would make one in any case, whose drop sets the clock.
        if cpu::is_guest() && Self::step(3600) { Some(Self) } else { None }
    }

    fn step(seconds: i64) -> bool {
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: pointers to a struct of ours.
        unsafe {
            libc::clock_gettime(libc::CLOCK_REALTIME, &mut time);
            time.tv_sec += seconds;
            libc::clock_settime(libc::CLOCK_REALTIME, &time) == 0
        }
    }
}

impl Drop for AnHourLater {
    fn drop(&mut self) {
        Self::step(-3600);
    }
}

/// Also of a process that is older than the tool, and whatever the wall clock does meanwhile.
#[test]
fn an_age_is_from_the_fork_and_a_step_of_the_clock_is_no_age() {
    let _alone = alone();
    let before = Instant::now();
    let sleep = |ms| {
        Child::fork(OURS, move || {
            thread::sleep(Duration::from_millis(ms));
            0
        })
    };
    let old = sleep(60_000);
    let born = before.elapsed();
    let options = r#"{"events":true,"min_duration":"200ms","comm":["xe:ours"]}"#;
    let mut tool = Tool::init(options).expect("it attaches");
    tool.call().expect("a tick");
    let stepped = AnHourLater::begin();
    // On a machine that stands still now and then one may live for longer.
    let mut young = 0;
    let surely_young = std::iter::repeat_with(|| {
        let forked = Instant::now();
        let child = sleep(0);
        let pid = child.pid as u64;
        assert_eq!(child.wait(), 0);
        young += 1;
        (forked.elapsed() < Duration::from_millis(200)).then_some(pid)
    });
    let surely_young = surely_young.take(20).flatten().next().expect("one of so many");
    thread::sleep(Duration::from_millis(250));
    let alive = before.elapsed();
    old.kill(libc::SIGTERM);
    let pid = old.pid as u64;
    assert!(libc::WIFSIGNALED(old.wait()));
    let dead = before.elapsed();
    let lines = tool.call().expect("a tick");
    drop(stepped);
    let line = one(&lines, "exitsnoop");
    if line.u64("unknown") > 0 {
        return println!("SKIPPED: ages need the kernel's BTF");
    }
    assert_eq!((line.u64("exits"), line.u64("count")), (young + 1, young + 1));
    // Who is young is counted, and has no event.
    let events = events(&lines);
    assert_eq!(line.u64("short_lived") + events.len() as u64, young + 1);
    assert!(events.iter().all(|event| event.u64("pid") != surely_young), "{events:?}");
    let event = events.iter().find(|event| event.u64("pid") == pid).expect("its event");
    let age = |event: &Line| match event.get("age_ms") {
        Some(plugin_testing::Value::F64(age)) => *age,
        other => panic!("an age: {other:?}"),
    };
    assert!(events.iter().all(|event| age(event) >= 200.0), "{events:?}");
    let age = age(event);
    let bounds = (alive - born).as_secs_f64() * 1e3..=dead.as_secs_f64() * 1e3;
    assert!(bounds.contains(&age), "{age} ms of {bounds:?}");
    let most = line.u64("max_ms") as f64;
    assert!(most <= *bounds.end() && most + 1.0 >= *bounds.start(), "{most} of {bounds:?}");
}

/// Statuses beyond the first 20 are one row.
#[test]
fn many_statuses_are_few_rows_whose_sum_is_exact() {
    let _alone = alone();
    let options = r#"{"comm":["xe:ours"]}"#;
    let mut tool = Tool::init(options).expect("it attaches");
    tool.call().expect("a tick");
    for code in (1..=30).chain([255, 255]) {
        let _ = Child::fork(OURS, || code).wait();
    }
    let lines = tool.call().expect("a tick");
    let line = one(&lines, "exitsnoop");
    if line.u64("unknown") > 0 {
        return println!("SKIPPED: statuses need the kernel's BTF");
    }
    let rows = rows(&lines, "exitsnoop_code", "code");
    assert_eq!((line.u64("failed"), rows.values().sum()), (32, 32));
    assert_eq!((rows.len(), rows["255"], rows["other"]), (21, 2, 11), "{rows:?}");
}

#[test]
fn at_default_options_the_maps_are_small_and_there_are_zeros() {
    let _alone = alone();
    let before = map_bytes();
    let mut tool = Tool::init("{}").expect("it attaches");
    let (bytes, cpus) = (map_bytes() - before, u64::from(possible_cpus()));
    println!("{bytes} bytes of maps on {cpus} CPUs");
    assert!(bytes * 2 <= cpus * 512 * 1024, "0.5 MiB on two CPUs");
    tool.call().expect("a tick");
    let lines = tool.call().expect("a tick");
    let tables = ["exitsnoop", "exitsnoop_code", "exitsnoop_lost"];
    assert!(tables.iter().all(|table| !one(&lines, table).fields.is_empty()));
    assert!(lines.iter().all(|l| l.table != "exitsnoop_comm" && l.table != "exitsnoop_event"));
}
