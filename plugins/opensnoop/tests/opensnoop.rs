//! Opens of threads that only this test has, by their names.

use libc::c_char;
use opensnoop::Opensnoop;
use plugin_bpf::{Running, only_kind, possible_cpus};
use plugin_testing::{Harness, Line, map_bytes, missed};
use std::collections::BTreeMap;
use std::ffi::{CStr, CString};
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

type Tool = Harness<Running<Opensnoop>>;

/// By the function behind the calls; by the registers of the thread, or where the kernel has no helper for them
/// by entry and return; and by these in any case.
const WAYS: [(&str, &str); 3] =
    [("fentry", r#""latency":false"#), ("tp", r#""latency":false"#), ("tp", r#""latency":true"#)];

const CREATE: i32 = libc::O_CREAT | libc::O_WRONLY;

/// A tool that looks at threads of one name.
fn watching(comm: &str, options: &str) -> Tool {
    let options = format!(r#"{{"comm":["{comm}"],{options}}}"#);
    let mut tool = Tool::init(&options).expect("it attaches");
    tool.call().expect("a tick");
    tool
}

/// The same in each way that works here: its name, its tool and what else was asked for.
fn ways(comm: &str, more: &str) -> impl Iterator<Item = (&'static str, Tool)> {
    WAYS.into_iter().filter_map(move |(kind, options)| {
        only_kind(kind);
        let options = format!(r#"{{"comm":["{comm}"],{options}{more}}}"#);
        let mut tool = match Tool::init(&options) {
            Ok(tool) => tool,
            Err(error) if kind == "fentry" => {
                println!("not by {kind}: {error:#}");
                return None;
            }
            Err(error) => panic!("{error:#}"),
        };
        let way = way(&tool.call().expect("a tick"));
        println!("by {way}");
        Some((way, tool))
    })
}

/// How the tool sees the calls.
fn way(lines: &[Line]) -> &'static str {
    let programs = of(lines, "collector_program").into_iter();
    let mut attached = programs.filter(|l| l.get("hook").is_some()).map(|l| l.tag("program"));
    let by = attached.find_map(|program| program.split('_').next()).expect("a program");
    match by {
        "open" => "function",
        "regs" => "registers",
        _ => "pairs",
    }
}

/// Does something on a thread of a name.
fn named<T: Send>(comm: &str, act: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        let act = move || {
            let name = CString::new(comm).expect("no NUL");
            // SAFETY: the name is a C string, copied before the call returns.
            unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr()) };
            act()
        };
        scope.spawn(act).join().expect("no panic")
    })
}

fn of<'a>(lines: &'a [Line], table: &str) -> Vec<&'a Line> {
    lines.iter().filter(|l| l.table == table).collect()
}

fn whole(lines: &[Line], field: &str) -> u64 {
    of(lines, "opensnoop")[0].u64(field)
}

fn lost(lines: &[Line], field: &str) -> u64 {
    of(lines, "opensnoop_lost")[0].u64(field)
}

fn errors(lines: &[Line]) -> BTreeMap<&str, u64> {
    let rows = of(lines, "opensnoop_errno").into_iter();
    rows.map(|l| (l.tag("errno"), l.u64("failed"))).filter(|(_, n)| *n > 0).collect()
}

/// A folder of this test alone.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("opensnoop-{}-{number}", std::process::id()));
        fs::create_dir(&path).expect("a folder");
        Self(path)
    }

    fn path(&self, name: impl AsRef<Path>) -> CString {
        CString::new(self.0.join(name).as_os_str().as_bytes()).expect("no NUL")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// What a call returned: a file descriptor, which is closed, or an error.
fn result(fd: i64) -> Result<i64, i32> {
    if fd < 0 {
        return Err(std::io::Error::last_os_error().raw_os_error().expect("an error"));
    }
    // SAFETY: the descriptor is of a call of ours, and nobody else has it.
    unsafe { libc::close(fd as i32) };
    Ok(fd)
}

fn openat(path: *const c_char, flags: i32) -> Result<i64, i32> {
    // SAFETY: the kernel checks the path's address.
    result(unsafe { libc::syscall(libc::SYS_openat, libc::AT_FDCWD, path, flags, 0o600) })
}

fn openat2(path: *const c_char, flags: i32) -> Result<i64, i32> {
    let mode = if flags & libc::O_CREAT == 0 { 0 } else { 0o600 };
    let how: [u64; 3] = [flags as u64, mode, 0];
    let size = size_of_val(&how);
    // SAFETY: the kernel checks the path's address, and reads the struct, which is as long as it is told.
    result(unsafe { libc::syscall(libc::SYS_openat2, libc::AT_FDCWD, path, how.as_ptr(), size) })
}

#[cfg(target_arch = "x86_64")]
fn open(path: *const c_char, flags: i32) -> Result<i64, i32> {
    // SAFETY: as above.
    result(unsafe { libc::syscall(libc::SYS_open, path, flags, 0o600) })
}

#[cfg(target_arch = "x86_64")]
fn creat(path: *const c_char) -> Result<i64, i32> {
    // SAFETY: as above.
    result(unsafe { libc::syscall(libc::SYS_creat, path, 0o600) })
}

/// A machine without these two calls.
#[cfg(not(target_arch = "x86_64"))]
use openat as open;
#[cfg(not(target_arch = "x86_64"))]
fn creat(path: *const c_char) -> Result<i64, i32> {
    openat(path, CREATE | libc::O_TRUNC)
}

/// A process of one thread that does something and ends, with the name of this thread.
fn fork(act: impl FnOnce()) -> i32 {
    // SAFETY: the child only makes system calls.
    let child = unsafe { libc::fork() };
    if child == 0 {
        act();
        // SAFETY: ends the process without running the parent's destructors.
        unsafe { libc::_exit(0) };
    }
    assert!(child > 0);
    child
}

/// Its status.
fn wait(child: i32) -> i32 {
    let mut status = 0;
    // SAFETY: waits for a child of this very process.
    assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
    status
}

#[test]
fn each_way_counts_each_call_by_its_result() {
    for (_, mut tool) in ways("open-calls", r#","by":"comm""#) {
        let folder = Folder::new();
        let plain = folder.path("plain");
        fs::write(folder.0.join("plain"), "").expect("a file");
        std::os::unix::fs::symlink("loop", folder.0.join("loop")).expect("a link");
        named("open-calls", || {
            for _ in 0..50 {
                open(plain.as_ptr(), libc::O_RDONLY).expect("opened");
                openat(plain.as_ptr(), libc::O_RDWR).expect("opened");
                openat2(plain.as_ptr(), libc::O_RDONLY).expect("opened");
                creat(plain.as_ptr()).expect("opened");
            }
            openat(plain.as_ptr(), CREATE).expect("opened");
            openat2(folder.path("new").as_ptr(), CREATE).expect("opened");
            // The access mode means nothing with O_PATH, and 3 is no mode to write.
            open(plain.as_ptr(), libc::O_PATH | libc::O_WRONLY).expect("opened");
            open(plain.as_ptr(), 3).expect("opened");
            // In the midst of a path, and at its end.
            assert_eq!(open(folder.path("none/x").as_ptr(), CREATE), Err(libc::ENOENT));
            assert_eq!(openat(folder.path("none").as_ptr(), libc::O_RDONLY), Err(libc::ENOENT));
            assert_eq!(openat(folder.path("plain/x").as_ptr(), libc::O_RDONLY), Err(libc::ENOTDIR));
            assert_eq!(openat2(folder.path("loop/x").as_ptr(), libc::O_RDONLY), Err(libc::ELOOP));
            assert_eq!(creat(folder.path("").as_ptr()), Err(libc::EISDIR));
            let exclusive = CREATE | libc::O_EXCL;
            assert_eq!(openat(plain.as_ptr(), exclusive), Err(libc::EEXIST));
            assert_eq!(openat(folder.path("x".repeat(256)).as_ptr(), 0), Err(libc::ENAMETOOLONG));
            assert_eq!(openat2(plain.as_ptr(), libc::O_RDONLY | 1 << 30), Err(libc::EINVAL));
            for bad in [std::ptr::null(), 8 as *const c_char, usize::MAX as *const c_char] {
                assert_eq!(openat(bad, libc::O_RDONLY), Err(libc::EFAULT));
            }
        });
        let lines = tool.call().expect("a tick");
        let failed = BTreeMap::from([
            ("EEXIST", 1),
            ("EFAULT", 3),
            ("EINVAL", 1),
            ("EISDIR", 1),
            ("ELOOP", 1),
            ("ENAMETOOLONG", 1),
            ("ENOENT", 2),
            ("ENOTDIR", 1),
        ]);
        assert_eq!(missed(&lines), 0);
        assert_eq!(errors(&lines), failed);
        assert_eq!((whole(&lines, "opens"), whole(&lines, "failed")), (215, 11));
        assert_eq!((whole(&lines, "for_writing"), whole(&lines, "creating")), (105, 55));
        let comm = of(&lines, "opensnoop_comm");
        assert_eq!((comm[0].tag("comm"), comm.len()), ("open-calls", 2));
        assert_eq!((comm[0].u64("opens"), comm[0].u64("failed")), (215, 11));
        let latency = of(&lines, "opensnoop_latency");
        assert!(latency.iter().all(|l| l.u64("count") == 215), "{latency:?}");
        for field in ["unmatched", "unended", "dropped_entries"] {
            assert_eq!(lost(&lines, field), 0, "{field}");
        }
    }
}

/// A path in a page that nobody has touched: at the entry there is nothing to be read.
fn cold(path: &CStr, folder: &Folder) -> *const c_char {
    fs::write(folder.0.join("page"), path.to_bytes_with_nul()).expect("a page");
    let page = File::open(folder.0.join("page")).expect("a page");
    let fd = std::os::fd::AsRawFd::as_raw_fd(&page);
    // SAFETY: a new mapping, of a file that is there.
    let page = unsafe {
        libc::mmap(std::ptr::null_mut(), 4096, libc::PROT_READ, libc::MAP_PRIVATE, fd, 0)
    };
    assert_ne!(page, libc::MAP_FAILED);
    page.cast()
}

#[test]
fn an_event_has_the_path_as_it_was_given() {
    for (_, mut tool) in ways("open-events", r#","events":true"#) {
        let folder = Folder::new();
        let odd = ["a,b=c d", "quote\"back\\", "line\nfeed", "tab\tbell\u{7}", "\u{e4}\u{65e5}"];
        let mut paths: Vec<CString> = odd.iter().map(|name| folder.path(name)).collect();
        paths.push(folder.path(Path::new(std::ffi::OsStr::from_bytes(b"bytes\xff\xfe"))));
        paths.push(c"".into());
        let long = folder.path("x".repeat(250));
        named("open-events", || {
            for path in &paths {
                let _ = openat(path.as_ptr(), CREATE | libc::O_CLOEXEC);
                let _ = openat2(path.as_ptr(), libc::O_RDONLY);
            }
            let _ = openat(long.as_ptr(), libc::O_RDONLY);
            let _ = openat(8 as *const c_char, libc::O_RDONLY);
        });
        let cold_path = cold(&paths[0], &folder) as usize;
        named("open-events", || openat(cold_path as *const c_char, 0)).expect("opened");
        let lines = tool.call().expect("a tick");
        let events = of(&lines, "opensnoop_event");
        assert_eq!(events.len(), 2 * paths.len() + 3, "{events:?}");
        for (two, path) in events.chunks(2).zip(&paths) {
            // As lines have it: white space in letters, no other control characters.
            let text = path.to_string_lossy().replace('\n', "\\n").replace('\t', "\\t");
            let text = text.replace('\u{7}', "_");
            for (event, flags) in two.iter().zip([CREATE | libc::O_CLOEXEC, libc::O_RDONLY]) {
                assert_eq!(event.text("path"), text);
                assert_eq!(event.u64("flags") as i32, flags);
                assert_eq!(event.text("comm"), "open-events");
                assert_eq!(event.u64("pid"), u64::from(std::process::id()));
                assert_eq!(event.get("fd").is_some(), !path.is_empty(), "{event:?}");
                assert_eq!(event.get("errno").is_none(), !path.is_empty(), "{event:?}");
            }
        }
        let [cut, bad, cold] = events[2 * paths.len()..] else { panic!("three more") };
        assert_eq!(cut.text("path").as_bytes(), &long.as_bytes()[..255]);
        assert_eq!(cut.text("errno"), "ENOENT");
        assert!(bad.get("path").is_none() && bad.text("errno") == "EFAULT", "{bad:?}");
        assert_eq!(cold.text("path"), paths[0].to_string_lossy(), "a page that was not there");
        assert_eq!(lost(&lines, "dropped_events"), 0);
    }
}

#[test]
fn events_beyond_the_room_are_counted() {
    let folder = Folder::new();
    let path = folder.path("x".repeat(200));
    let mut tool = watching("open-room", r#""events":true"#);
    named("open-room", || (0..4_000).for_each(|_| _ = openat(path.as_ptr(), 0)));
    let lines = tool.call().expect("a tick");
    let (events, dropped) =
        (of(&lines, "opensnoop_event").len() as u64, lost(&lines, "dropped_events"));
    println!("{events} events, {dropped} dropped");
    assert!(events > 500 && dropped > 0);
    assert_eq!(events + dropped, whole(&lines, "opens"));
    assert_eq!(whole(&lines, "opens") + missed(&lines), 4_000);
}

/// Opening a pipe waits for its other end.
fn pipe(folder: &Folder) -> CString {
    let pipe = folder.path("pipe");
    // SAFETY: the path is a C string.
    assert_eq!(unsafe { libc::mkfifo(pipe.as_ptr(), 0o600) }, 0);
    pipe
}

/// Until a process sleeps, in the open that it was made for.
fn sleeping(process: i32) {
    let begin = std::time::Instant::now();
    loop {
        let stat = fs::read_to_string(format!("/proc/{process}/stat")).expect("a process");
        if stat.rsplit_once(')').is_some_and(|(_, rest)| rest.starts_with(" S")) {
            return;
        }
        assert!(begin.elapsed().as_secs() < 30, "{stat}");
        thread::sleep(std::time::Duration::from_millis(1));
    }
}

#[test]
fn a_thread_that_is_killed_in_a_call_and_a_call_from_before_are_counted() {
    let folder = Folder::new();
    let pipe = pipe(&folder);
    let begin = || named("open-wait", || fork(|| _ = openat(pipe.as_ptr(), libc::O_WRONLY)));
    let mut before = begin();
    sleeping(before);
    for (way, mut tool) in ways("open-wait", "") {
        let killed = begin();
        sleeping(killed);
        // SAFETY: a child of this very process.
        assert_eq!(unsafe { libc::kill(killed, libc::SIGKILL) }, 0);
        wait(killed);
        // The other end lets the first one through.
        openat(pipe.as_ptr(), libc::O_RDONLY).expect("opened");
        wait(before);
        let lines = tool.call().expect("a tick");
        assert_eq!(errors(&lines), BTreeMap::from([("ERESTARTSYS", 1)]));
        // Registers tell of the one from before too; of pairs its entry lacks, and a function did not begin.
        let (opens, for_writing, unmatched) = match way {
            "registers" => (2, 2, 0),
            "pairs" => (2, 1, 1),
            _ => (1, 1, 0),
        };
        assert_eq!((whole(&lines, "opens"), whole(&lines, "failed")), (opens, 1), "{way}");
        assert_eq!(whole(&lines, "for_writing"), for_writing, "{way}");
        assert_eq!((lost(&lines, "unmatched"), lost(&lines, "unended")), (unmatched, 0), "{way}");
        before = begin();
        sleeping(before);
    }
    openat(pipe.as_ptr(), libc::O_RDONLY).expect("opened");
    wait(before);
}

/// By the interrupt that 32-bit processes call the kernel with, which a 64-bit one may use too.
#[cfg(target_arch = "x86_64")]
#[test]
fn a_32_bit_call_is_seen_by_the_function_alone_as_the_manual_says() {
    // SAFETY: a new mapping within the first 2 GiB.
    let page = unsafe {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_32BIT;
        let access = libc::PROT_READ | libc::PROT_WRITE;
        libc::mmap(std::ptr::null_mut(), 4096, access, flags, -1, 0)
    };
    assert_ne!(page, libc::MAP_FAILED);
    // SAFETY: the page is ours and longer than the text.
    unsafe { page.cast::<[u8; 2]>().write(*b"/\0") };
    let page = page as u64;
    for (way, mut tool) in ways("open-32", "") {
        let status = wait(named("open-32", || fork(|| open_as_32_bit(page))));
        if status != 7 << 8 {
            return println!("SKIPPED: this kernel takes no 32-bit calls: status {status:#x}");
        }
        let opens = whole(&tool.call().expect("a tick"), "opens");
        assert_eq!(opens, u64::from(way == "function"), "{way}");
    }
}

/// Ends the process, with 7 when it opened the path.
#[cfg(target_arch = "x86_64")]
fn open_as_32_bit(path: u64) {
    const OPEN: u32 = 5;
    let fd: i32;
    // SAFETY: the kernel reads the path and touches no other memory; rbx has its value again. Then the process ends.
    unsafe {
        std::arch::asm!(
            "xchg {path}, rbx",
            "int 0x80",
            "xchg {path}, rbx",
            path = inout(reg) path => _,
            inlateout("eax") OPEN => fd,
            in("ecx") 0,
            in("edx") 0,
            out("r8") _, out("r9") _, out("r10") _, out("r11") _,
        );
        libc::_exit(if fd >= 0 { 7 } else { 1 });
    }
}

#[test]
fn no_open_is_lost_between_ticks() {
    const OPENS: u64 = 5_000;
    for (way, mut tool) in ways("open-load", r#","by":"comm""#) {
        let folder = Folder::new();
        fs::write(folder.0.join("plain"), "").expect("a file");
        let path = folder.path("plain");
        let load = || (0..OPENS).for_each(|_| _ = openat(path.as_ptr(), CREATE));
        let (mut sums, mut measured) = ([0; 5], false);
        let mut add = |lines: &[Line]| {
            let latency = of(lines, "opensnoop_latency");
            measured = !latency.is_empty();
            let latency = latency.iter().map(|l| l.u64("count")).sum();
            let comms = of(lines, "opensnoop_comm").iter().map(|l| l.u64("opens")).sum();
            let [opens, creating] = ["opens", "creating"].map(|field| whole(lines, field));
            for (sum, n) in sums.iter_mut().zip([opens, creating, comms, latency, missed(lines)]) {
                *sum += n;
            }
        };
        thread::scope(|scope| {
            let loads = [(); 2].map(|()| scope.spawn(|| named("open-load", load)));
            while !loads.iter().all(thread::ScopedJoinHandle::is_finished) {
                add(&tool.call().expect("a tick"));
            }
        });
        add(&tool.call().expect("a tick"));
        let [opens, creating, comms, latency, missed] = sums;
        println!("{way}: {opens} opens, {missed} missed");
        assert!(opens <= 2 * OPENS && opens + missed >= 2 * OPENS, "{opens}");
        assert!(creating <= opens && creating + missed >= opens, "{creating}");
        assert_eq!(comms, opens);
        if measured {
            assert!(latency <= opens && latency + missed >= opens, "{latency}");
        }
    }
}

#[test]
fn a_process_is_chosen_by_its_id_and_the_maps_are_small() {
    let (mut ends, folder) = ([0; 2], Folder::new());
    let path = folder.path("none");
    // SAFETY: two descriptors are written to the array of two.
    assert_eq!(unsafe { libc::pipe(ends.as_mut_ptr()) }, 0);
    let child = fork(|| {
        let mut byte = 0u8;
        // SAFETY: one byte is written to one of ours.
        unsafe { libc::read(ends[0], (&raw mut byte).cast(), 1) };
        (0..30).for_each(|_| _ = openat(path.as_ptr(), libc::O_RDONLY));
    });
    let before = map_bytes();
    let mut tool = Tool::init(&format!(r#"{{"pid":[{child}]}}"#)).expect("it attaches");
    let (bytes, cpus) = (map_bytes() - before, u64::from(possible_cpus()));
    tool.call().expect("a tick");
    let _ = openat(path.as_ptr(), libc::O_RDONLY);
    // SAFETY: one byte of ours is read; then descriptors of ours are closed.
    unsafe {
        libc::write(ends[1], c"x".as_ptr().cast(), 1);
        ends.iter().for_each(|end| _ = libc::close(*end));
    }
    wait(child);
    let lines = tool.call().expect("a tick");
    assert_eq!((whole(&lines, "opens"), whole(&lines, "failed")), (30, 30));
    println!("{bytes} bytes of maps on {cpus} CPUs");
    let most = if way(&lines) == "pairs" { 2 * 1024 } else { 96 };
    assert!(bytes <= most * 1024, "{bytes}");
}
