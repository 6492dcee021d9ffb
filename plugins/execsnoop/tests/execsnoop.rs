//! Programs that this test starts, and execs of it that fail.

use execsnoop::Execsnoop;
use plugin_bpf::plugin_api::{Lines, Plugin, Result, Tick};
use plugin_bpf::{Attached, Hooks, ObjectSet, Running, Setup, only_kind, possible_cpus};
use plugin_testing::process::{Child, end_thread, executable, program};
use plugin_testing::{Harness, Line, alone, map_bytes, missed, ways};
use std::collections::BTreeMap;
use std::ffi::{CStr, CString, OsStr};
use std::fs;
use std::os::fd::AsRawFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Barrier};
use std::time::Duration;

type Tool = Harness<Running<Execsnoop>>;

/// A thread's name when it calls.
const CALLER: &CStr = c"xs:caller";
/// And what it is after a success.
const PROGRAM: &str = "xs-program";

/// Files of one test.
struct Files(PathBuf);

impl Files {
    fn new() -> Self {
        let folder = std::env::temp_dir().join(format!("execsnoop-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder");
        program(&folder.join(PROGRAM), 0);
        Self(folder)
    }

    fn path(&self, name: &str) -> CString {
        CString::new(self.0.join(name).as_os_str().as_bytes()).expect("no NUL")
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The system call; it returns only when it failed, with the error.
fn execve(path: &CStr, args: &[&[u8]]) -> i32 {
    let args: Vec<_> = args.iter().map(|arg| CString::new(*arg).expect("no NUL")).collect();
    let mut pointers: Vec<_> = args.iter().map(|arg| arg.as_ptr()).collect();
    pointers.push(std::ptr::null());
    raw_execve(path, pointers.as_ptr() as usize)
}

fn raw_execve(path: &CStr, argv: usize) -> i32 {
    // SAFETY: the kernel checks the pointers; bad ones are an error.
    unsafe { libc::syscall(libc::SYS_execve, path.as_ptr(), argv, 0usize) };
    errno()
}

fn execveat(fd: i32, path: &CStr, flags: i32) -> i32 {
    let args = [path.as_ptr(), std::ptr::null()];
    // SAFETY: as above; the arguments end with NULL.
    unsafe { libc::syscall(libc::SYS_execveat, fd, path.as_ptr(), args.as_ptr(), 0usize, flags) };
    errno()
}

fn errno() -> i32 {
    std::io::Error::last_os_error().raw_os_error().unwrap_or(-1)
}

fn whole(lines: &[Line]) -> &Line {
    lines.iter().find(|l| l.table == "execsnoop").expect("a line")
}

fn lost(lines: &[Line]) -> &Line {
    lines.iter().find(|l| l.table == "execsnoop_lost").expect("a line")
}

fn events(lines: &[Line]) -> Vec<&Line> {
    lines.iter().filter(|l| l.table == "execsnoop_event").collect()
}

/// From another thread, while the first one waits or when it has ended.
fn from_thread(leader_ends: bool, act: impl FnOnce() -> i32 + Send + 'static) -> i32 {
    let thread = std::thread::spawn(move || {
        if leader_ends {
            std::thread::sleep(Duration::from_millis(5));
        }
        let failed = act();
        // SAFETY: ends the process, whose first thread may be gone.
        unsafe { libc::_exit(failed) }
    });
    if leader_ends {
        end_thread(3);
    }
    thread.join().map_or(101, |()| 102)
}

/// Tools that pair the entry of execve with its exit by the thread lose each exec of a thread that is not the
/// first, and leave its begin behind; they see no execveat.
#[test]
fn every_way_counts_every_success_once_whoever_calls() {
    let _alone = alone();
    let files = Files::new();
    let (path, script) = (files.path(PROGRAM), files.path("xs-script"));
    let interpreter = path.to_str().expect("a path");
    executable(&files.0.join("xs-script"), format!("#!{interpreter} -x\n").as_bytes());
    let options = r#"{"failures":false,"events":true,"comm":["xs-program","xs-script","91"]}"#;
    for (kind, mut tool) in ways::<Running<Execsnoop>>(only_kind, &["btf", "raw", "tp"], options) {
        tool.call().expect("a tick");
        let mut pids = Vec::new();
        let mut run = |child: Child| {
            pids.push(child.pid as u64);
            assert_eq!(child.wait(), 0);
        };
        for _ in 0..5 {
            let [thread, last] = [(); 2].map(|()| path.clone());
            run(Child::fork(CALLER, || execve(&path, &[b"a", b"b c"])));
            run(Child::fork(CALLER, || execveat(libc::AT_FDCWD, &path, 0)));
            run(Child::fork(CALLER, || from_thread(false, move || execve(&thread, &[b"t"]))));
            run(Child::fork(CALLER, || from_thread(true, move || execve(&last, &[b"l"]))));
        }
        run(Child::fork(CALLER, || execve(&script, &[b"replaced", b"y"])));
        run(Child::fork(CALLER, || {
            // SAFETY: makes descriptors of this process alone.
            unsafe { libc::dup2(libc::open(path.as_ptr(), libc::O_PATH), 91) };
            execveat(91, c"", libc::AT_EMPTY_PATH)
        }));

        let lines = tool.call().expect("a tick");
        let line = whole(&lines);
        let (execs, from_thread) = (line.u64("execs"), line.u64("from_thread"));
        println!("{kind}: {execs} execs, {} missed", missed(&lines));
        if missed(&lines) > 0 {
            assert!(execs <= 22 && execs + missed(&lines) >= 22, "{kind}");
            continue;
        }
        assert_eq!((execs, from_thread), (22, 10), "{kind}");
        assert_eq!(line.get("failed"), None, "{kind}: nobody looks at failures");
        let events = events(&lines);
        let mut seen: Vec<_> = events.iter().map(|l| l.u64("pid")).collect();
        seen.sort_unstable();
        pids.sort_unstable();
        assert_eq!(seen, pids, "{kind}: the process's id, whichever thread called");
        let of_script = events.iter().find(|l| l.text("comm") == "xs-script").expect("one event");
        let script = script.to_str().expect("a path");
        assert_eq!(of_script.text("filename"), script, "{kind}");
        for event in &events {
            assert_eq!(event.u64("uid"), 0, "{event:?}");
            // Without BTF these are not known.
            assert_eq!(event.get("ppid").is_some(), kind != "tp", "{event:?}");
            assert_eq!(event.get("args").is_some(), kind != "tp", "{event:?}");
        }
        if kind != "tp" {
            let parent = u64::from(std::process::id());
            assert!(events.iter().all(|l| l.u64("ppid") == parent), "{kind}");
            // As /proc/PID/cmdline has them.
            assert_eq!(of_script.text("args"), format!("{interpreter} -x {script} y"), "{kind}");
            assert_eq!(events.iter().filter(|l| l.text("args") == r#"a "b c""#).count(), 5);
        }
        let lost = lost(&lines);
        assert_eq!((lost.u64("dropped_events"), lost.u64("unread_args")), (0, 0), "{kind}");
    }
}

/// The tool with its failures, or `None` where system calls have no tracepoints.
fn with_failures() -> Option<Tool> {
    let options = r#"{"by":"comm","comm":["xs:caller","xs-program"]}"#;
    let mut tool = Tool::init(options).expect("it attaches");
    let lines = tool.call().expect("a tick");
    let seen = whole(&lines).get("failed").is_some();
    if !seen {
        println!("SKIPPED: system calls have no tracepoints here");
    }
    seen.then_some(tool)
}

#[test]
fn failures_are_counted_by_error_whoever_calls() {
    let _alone = alone();
    let Some(mut tool) = with_failures() else { return };
    let files = Files::new();
    let names = ["none", "data", "garbage", PROGRAM, "data/none"];
    let [missing, data, garbage, path, below] = names.map(|name| files.path(name));
    fs::write(files.0.join("data"), "not executable").expect("written");
    executable(&files.0.join("garbage"), b"\x01\x02\x03\x04");
    let all = move || {
        let huge = vec![b'x'; 200_000];
        let calls: [(i32, i32, &dyn Fn() -> i32); 8] = [
            (libc::ENOENT, 3, &|| execve(&missing, &[b"a"])),
            (libc::ENOENT, 2, &|| execveat(libc::AT_FDCWD, &missing, 0)),
            (libc::EACCES, 4, &|| execve(&data, &[b"a"])),
            (libc::ENOTDIR, 1, &|| execve(&below, &[b"a"])),
            (libc::ENOEXEC, 5, &|| execve(&garbage, &[b"a"])),
            (libc::E2BIG, 1, &|| execve(&path, &[b"a", &huge])),
            (libc::EFAULT, 2, &|| raw_execve(&path, 8)),
            (libc::EBADF, 1, &|| execveat(-1, c"x", 0)),
        ];
        for (error, n, call) in calls {
            if let Some(other) = (0..n).map(|_| call()).find(|found| *found != error) {
                return other;
            }
        }
        // A begin that an error left behind would hide this one.
        execve(&path, &[b"a"])
    };
    let again = all.clone();
    assert_eq!(Child::fork(CALLER, all).wait(), 0);
    assert_eq!(Child::fork(CALLER, || from_thread(false, again)).wait(), 0);

    let lines = tool.call().expect("a tick");
    let line = whole(&lines);
    assert_eq!((line.u64("execs"), line.u64("from_thread"), line.u64("failed")), (2, 1, 38));
    let rows = lines.iter().filter(|l| l.table == "execsnoop_errno");
    let errors: BTreeMap<_, _> = rows.map(|l| (l.tag("errno"), l.u64("failed"))).collect();
    let expected = BTreeMap::from([
        ("ENOENT", 10),
        ("E2BIG", 2),
        ("ENOEXEC", 10),
        ("EBADF", 2),
        ("EACCES", 8),
        ("EFAULT", 4),
        ("ENOTDIR", 2),
        ("other", 0),
    ]);
    assert_eq!(errors, expected);
    let comm = |name: &str| {
        let row = lines.iter().find(|l| l.table == "execsnoop_comm" && l.tag("comm") == name);
        row.map(|l| (l.u64("execs"), l.u64("failed")))
    };
    // A thread's name is at first its creator's.
    assert_eq!(comm("xs:caller"), Some((0, 38)));
    assert_eq!((comm(PROGRAM), comm("other")), (Some((2, 0)), Some((0, 0))));
}

/// One of them gets there first. The others die on the way: a call that the kernel would begin again is no failure.
#[test]
fn threads_that_race_to_exec_are_one_success() {
    let _alone = alone();
    let Some(mut tool) = with_failures() else { return };
    let files = Files::new();
    for _ in 0..20 {
        let path = files.path(PROGRAM);
        let child = Child::fork(CALLER, || {
            let start = Arc::new(Barrier::new(4));
            let race = move || {
                start.wait();
                execve(&path, &[b"a"])
            };
            for _ in 0..3 {
                std::thread::spawn(race.clone());
            }
            race()
        });
        assert_eq!(child.wait(), 0);
    }
    let lines = tool.call().expect("a tick");
    let line = whole(&lines);
    println!("{line:?}, {} missed", missed(&lines));
    let execs = line.u64("execs");
    assert!(execs <= 20 && execs + missed(&lines) >= 20 && line.u64("failed") <= 60);
    let errors = lines.iter().filter(|l| l.table == "execsnoop_errno").map(|l| l.tag("errno"));
    assert!(errors.into_iter().all(|errno| !errno.starts_with("ERESTART")), "{lines:?}");
}

/// The tool with perf buffers, as before Linux 5.8.
struct OverPerf(Execsnoop);

impl plugin_bpf::Tool for OverPerf {
    type Options = <Execsnoop as plugin_bpf::Tool>::Options;
    type Object = <Execsnoop as plugin_bpf::Tool>::Object;

    fn new(options: Self::Options, setup: &mut Setup<Self::Object>) -> Result<Self> {
        setup.perf_buffers();
        Execsnoop::new(options, setup).map(Self)
    }

    fn hooks(&self) -> Hooks {
        self.0.hooks()
    }

    fn tend(&mut self, attached: &mut Attached) -> Result<()> {
        self.0.tend(attached)
    }

    fn rows(
        &mut self,
        tick: &Tick,
        maps: &mut <Self::Object as ObjectSet>::Maps,
        lines: &mut Lines,
    ) -> Result<()> {
        self.0.rows(tick, maps, lines)
    }
}

const EVENTS: &str = r#"{"failures":false,"events":true,"comm":["xs-program","xs-32bit"]}"#;

#[test]
fn arguments_are_whole_or_say_how_much_is_cut() {
    let _alone = alone();
    arguments(&mut Tool::init(EVENTS).expect("it attaches"));
    arguments(&mut Harness::<Running<OverPerf>>::init(EVENTS).expect("it attaches"));
}

fn arguments<P: Plugin>(tool: &mut Harness<P>) {
    let files = Files::new();
    let path = files.path(PROGRAM);
    let long = |len| vec![b'x'; len];
    let xs = |len| "x".repeat(len);
    // What is given, what is shown, and how much is missing: each argument has a NUL at its end.
    let cases: [(Vec<Vec<u8>>, String, u64); 10] = [
        (vec![], r#""""#.into(), 0),
        (vec![b"".into()], r#""""#.into(), 0),
        (vec![b"a".into(), b"".into(), b"b".into()], r#"a "" b"#.into(), 0),
        (vec![b"a b".into(), b"c\nd".into(), b"e\"f".into()], r#""a b" "c\nd" "e\"f""#.into(), 0),
        (vec![b"a=b,c".into(), "ü".into(), b"x\\".into()], r#"a=b,c ü "x\\""#.into(), 0),
        (vec![b"\xff\xfea".into(), b"\x01".into()], "\u{fffd}\u{fffd}a \"\\u{1}\"".into(), 0),
        (vec![long(2047)], xs(2047), 0),
        (vec![long(2048)], xs(2048), 1),
        (vec![b"a".into(), long(3000)], format!("a {}", xs(2046)), 955),
        (vec![long(100_000), long(100_000)], xs(2048), 197_954),
    ];
    tool.call().expect("a tick");
    for (args, ..) in &cases {
        let args: Vec<_> = args.iter().map(|arg| &arg[..]).collect();
        assert_eq!(Child::fork(CALLER, || execve(&path, &args)).wait(), 0);
    }
    // Not in memory when the call begins: whoever reads it then finds nothing.
    let text = files.0.join("unread");
    fs::write(&text, b"unread\0").expect("written");
    let file = fs::File::open(&text).expect("there");
    let child = Child::fork(CALLER, || {
        let (read, private) = (libc::PROT_READ, libc::MAP_PRIVATE);
        // SAFETY: a new mapping, of a file that nobody changes.
        let page = unsafe {
            libc::mmap(std::ptr::null_mut(), 4096, read, private, file.as_raw_fd(), 0) as usize
        };
        raw_execve(&path, [page, 0].as_ptr() as usize)
    });
    assert_eq!(child.wait(), 0);

    let lines = tool.call().expect("a tick");
    let events = events(&lines);
    assert_eq!((events.len(), whole(&lines).u64("execs")), (11, 11), "{:?}", lost(&lines));
    if events[0].get("args").is_none() {
        return println!("SKIPPED: arguments need the kernel's BTF");
    }
    for (event, (args, shown, cut)) in events.iter().zip(&cases) {
        assert_eq!(event.text("args"), shown, "{} arguments", args.len());
        assert_eq!(event.u64("args_cut_bytes"), *cut, "{} arguments", args.len());
    }
    assert_eq!(events[10].text("args"), "unread");
    assert_eq!(lost(&lines).u64("unread_args"), 0);
}

/// More than there is room for between two ticks: counted all the same, and as dropped.
#[test]
fn events_that_find_no_room_are_counted() {
    let _alone = alone();
    let mut tool = Tool::init(EVENTS).expect("it attaches");
    let (files, long) = (Files::new(), "x".repeat(3_000));
    tool.call().expect("a tick");
    for _ in 0..500 {
        let status = Command::new(files.0.join(PROGRAM)).arg(&long).env_clear().status();
        assert!(status.expect("it starts").success());
    }
    let lines = tool.call().expect("a tick");
    let (execs, shown) = (whole(&lines).u64("execs"), events(&lines).len() as u64);
    let dropped = lost(&lines).u64("dropped_events");
    println!("{execs} execs, {shown} events, {dropped} dropped");
    assert_eq!(shown + dropped, execs);
    assert!(execs <= 500 && execs + missed(&lines) >= 500);
    let with_args = events(&lines)[0].get("args").is_some();
    assert!(dropped > 0 || !with_args, "{shown} events");
}

/// No tracepoint of execve tells of the system calls of a program of 32 bits.
#[cfg(target_arch = "x86_64")]
#[test]
fn a_caller_of_32_bits_is_seen() {
    let _alone = alone();
    let files = Files::new();
    let (path, target) = (files.path("xs-32bit"), files.path(PROGRAM));
    executable(&files.0.join("xs-32bit"), &caller_of_32_bits(target.to_bytes_with_nul()));
    let mut tool = Tool::init(EVENTS).expect("it attaches");
    tool.call().expect("a tick");
    let status = Child::fork(CALLER, || execve(&path, &[b"a"])).wait();
    if libc::WEXITSTATUS(status) == libc::ENOEXEC {
        return println!("SKIPPED: this kernel runs no programs of 32 bits");
    }
    assert_eq!(status, 0);
    let lines = tool.call().expect("a tick");
    let events = events(&lines);
    let names: Vec<_> = events.iter().map(|l| l.text("comm")).collect();
    assert_eq!((whole(&lines).u64("execs"), &names[..]), (2, &["xs-32bit", PROGRAM][..]));
    if events[1].get("args").is_some() {
        assert_eq!(events[1].text("args"), target.to_str().expect("a path"));
    }
}

/// An ELF file for i386 that executes another one.
#[cfg(target_arch = "x86_64")]
fn caller_of_32_bits(target: &[u8]) -> Vec<u8> {
    const BASE: u32 = 0x0804_8000;
    const TEXT: u32 = 52 + 32;
    const ARGV: u32 = BASE + TEXT + 32;
    const TARGET: u32 = ARGV + 8;
    let mut text = vec![0xb8, 11, 0, 0, 0, 0xbb]; // mov eax, SYS_execve; mov ebx, target
    text.extend(TARGET.to_le_bytes());
    text.push(0xb9); // mov ecx, argv
    text.extend(ARGV.to_le_bytes());
    text.extend([0x31, 0xd2, 0xcd, 0x80]); // xor edx, edx; int 0x80
    text.extend([0xf7, 0xd8, 0x89, 0xc3]); // neg eax; mov ebx, eax
    text.extend([0xb8, 1, 0, 0, 0, 0xcd, 0x80]); // mov eax, SYS_exit; int 0x80
    text.resize(32, 0);
    text.extend([TARGET, 0].iter().flat_map(|word| word.to_le_bytes()));
    text.extend(target);
    let mut elf = b"\x7fELF\x01\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\x03\0\x01\0\0\0".to_vec();
    [BASE + TEXT, 52, 0, 0].iter().for_each(|word| elf.extend(word.to_le_bytes()));
    [52u16, 32, 1, 0, 0, 0].iter().for_each(|half| elf.extend(half.to_le_bytes()));
    let size = TEXT + text.len() as u32;
    [1, 0, BASE, BASE, size, size, 5, 4096].iter().for_each(|word| elf.extend(word.to_le_bytes()));
    elf.extend(text);
    elf
}

#[test]
fn a_process_that_was_not_asked_for_is_not_counted() {
    let _alone = alone();
    let files = Files::new();
    let path = files.path(PROGRAM);
    let start = usr1();
    // Blocked before the children are made, so that none misses it.
    // SAFETY: changes this thread's mask only; nobody sends the signal to the test.
    unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &start, std::ptr::null_mut()) };
    let children = [(); 3].map(|()| {
        Child::fork(CALLER, || {
            let mut signal = 0;
            // SAFETY: waits, and writes to an integer of ours.
            unsafe { libc::sigwait(&start, &mut signal) };
            execve(&path, &[b"a"])
        })
    });
    let chosen = children[1].pid as u64;
    let mut tool = Tool::init(&format!(r#"{{"events":true,"pid":[{chosen}]}}"#)).expect("attached");
    tool.call().expect("a tick");
    for child in children {
        child.kill(libc::SIGUSR1);
        assert_eq!(child.wait(), 0);
    }
    let lines = tool.call().expect("a tick");
    let pids: Vec<_> = events(&lines).iter().map(|l| l.u64("pid")).collect();
    assert_eq!((whole(&lines).u64("execs"), pids), (1, vec![chosen]));
}

fn usr1() -> libc::sigset_t {
    // SAFETY: zeros are a set, which one call empties and the other adds to.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&mut set);
        libc::sigaddset(&mut set, libc::SIGUSR1);
        set
    }
}

/// A name is what the kernel keeps of the file's: 15 bytes, and any.
#[test]
fn odd_names_are_rows_that_read_back() {
    let _alone = alone();
    let mut tool = Tool::init(r#"{"failures":false,"by":"comm"}"#).expect("it attaches");
    tool.call().expect("a tick");
    let files = Files::new();
    let names: [(&[u8], &str); 4] = [
        (b"xs a,b=c", "xs a,b=c"),
        (b"xs\na", "xs_a"),
        (b"xs\xff", "xs\u{fffd}"),
        (b"xs-longer-than-a-name-may-be", "xs-longer-than-"),
    ];
    for (name, _) in names {
        let path = files.0.join(OsStr::from_bytes(name));
        program(&path, 0);
        let path = CString::new(path.as_os_str().as_bytes()).expect("no NUL");
        for _ in 0..3 {
            assert_eq!(Child::fork(CALLER, || execve(&path, &[b"a"])).wait(), 0);
        }
    }
    let lines = tool.call().expect("a tick");
    let rows: Vec<_> = lines.iter().filter(|l| l.table == "execsnoop_comm").collect();
    for (_, shown) in names {
        let row = rows.iter().find(|l| l.tag("comm") == shown);
        let row = row.unwrap_or_else(|| panic!("{shown:?} in {rows:?}"));
        assert_eq!(row.u64("execs"), 3);
    }
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
    assert!(whole(&lines).get("execs").is_some() && lost(&lines).u64("dropped_names") == 0);
    assert!(lines.iter().all(|l| l.table != "execsnoop_comm" && l.table != "execsnoop_event"));
}
