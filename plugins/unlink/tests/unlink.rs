//! Deletions that this test makes, in a folder of its own and threads with a name of their own.

#[path = "unlink/calls.rs"]
mod calls;
#[path = "unlink/folder.rs"]
mod folder;
#[path = "unlink/held.rs"]
mod held;

#[cfg(target_arch = "x86_64")]
use calls::unlink_by_32_bit_calls;
use calls::{unlink, unlink_at, uring};
use folder::Folder;
use held::Held;
use plugin_bpf::plugin_api::Tick;
use plugin_bpf::{Running, kernel_at_least, possible_cpus};
use plugin_testing::{Harness, Line, Moved, alone, fill, map_bytes, missed};
use std::collections::BTreeMap;
use std::ffi::{CString, OsStr};
use std::fs::{self, File};
use std::os::fd::AsRawFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::ptr;
use std::sync::mpsc::channel;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use unlink::Unlink;

type Tool = Harness<Running<Unlink>>;

/// Of the threads whose calls count.
const NAME: &str = "unlink-test";

/// Does something with the tool in each mode that works here; `options` in braces.
fn modes(options: &str, mut test: impl FnMut(&str, &mut Tool)) {
    let mut worked = 0;
    for mode in ["fentry", "kprobe", "tp", "raw_tp"] {
        let options = options.replacen('{', &format!(r#"{{"mode":"{mode}","#), 1);
        match Tool::init(&options) {
            Ok(mut tool) => {
                tool.call().expect("a tick");
                test(mode, &mut tool);
                worked += 1;
            }
            Err(error) => println!("not by {mode}: {error:#}"),
        }
    }
    assert!(worked > 0, "no way works here");
}

/// Only this process's threads of that name.
fn ours(more: &str) -> String {
    format!(r#"{{"pid":[{}],"comm":["{NAME}"]{more}}}"#, std::process::id())
}

fn spawn<T: Send + 'static>(act: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    thread::Builder::new().name(NAME.to_owned()).spawn(act).expect("a thread")
}

fn drive(act: impl FnOnce() + Send + 'static) {
    spawn(act).join().expect("no panic");
}

fn of<'a>(lines: &'a [Line], table: &str) -> &'a Line {
    lines.iter().find(|l| l.table == table).unwrap_or_else(|| panic!("no {table} in {lines:?}"))
}

/// Those that are not 0.
fn errnos(lines: &[Line]) -> BTreeMap<&str, u64> {
    let errnos = lines.iter().filter(|l| l.table == "unlink_errno");
    errnos.map(|l| (l.tag("errno"), l.u64("failed"))).filter(|(_, n)| *n > 0).collect()
}

/// Deleted, failed, and durations.
fn sums(lines: &[Line]) -> [u64; 3] {
    ["deleted", "failed", "count"].map(|field| of(lines, "unlink").u64(field))
}

/// Unmatched, unended and dropped.
fn lost(lines: &[Line]) -> [u64; 3] {
    ["unmatched", "unended", "dropped"].map(|field| of(lines, "unlink_lost").u64(field))
}

fn events(lines: &[Line]) -> Vec<&Line> {
    lines.iter().filter(|l| l.table == "unlink_event").collect()
}

/// Programs of `tp` and `kprobe` are skipped on a CPU where another one runs, and up to Linux 6.6 nobody counts
/// that: then a pair is broken, or both of its halves lack.
fn is_whole(mode: &str, lines: &[Line]) -> bool {
    let whole = missed(lines) == 0 && lost(lines) == [0; 3];
    if !whole {
        println!("{mode}: {} missed, lost {:?}", missed(lines), lost(lines));
    }
    whole
}

#[test]
fn every_mode_counts_deletions_and_their_errors_to_the_last_one() {
    let _alone = alone();
    modes(&ours(r#","by":"comm""#), |mode, tool| {
        let folder = Folder::new();
        let (files, more) = (folder.files(100), (100..150).map(|i| i.to_string()));
        let more: Vec<_> = more.map(|name| CString::new(name).expect("no NUL")).collect();
        more.iter().for_each(|name| drop(folder.file(name.as_bytes())));
        let dirs: Vec<_> = ["a", "b", "c", "d"].map(|name| folder.path(name)).into();
        dirs.iter()
            .for_each(|dir| fs::create_dir(OsStr::from_bytes(dir.as_bytes())).expect("a folder"));
        let in_file =
            CString::new([folder.file("file").as_bytes(), b"/x"].concat()).expect("no NUL");
        let (nobody, long) = (folder.path("nobody"), folder.path(&"x".repeat(256)));
        let longer = CString::new("/.".repeat(2_500)).expect("no NUL");
        let open = File::open(&folder.0).expect("the folder");
        drive(move || {
            let at = open.as_raw_fd();
            files.iter().for_each(|file| assert_eq!(unlink(file.as_ptr()), 0));
            more.iter().for_each(|file| assert_eq!(unlink_at(at, file.as_ptr(), 0), 0));
            (0..5).for_each(|_| assert_eq!(unlink(nobody.as_ptr()), -libc::ENOENT));
            assert_eq!(unlink(c"".as_ptr()), -libc::ENOENT);
            (0..3).for_each(|_| assert_eq!(unlink(dirs[0].as_ptr()), -libc::EISDIR));
            (0..2).for_each(|_| assert_eq!(unlink(long.as_ptr()), -libc::ENAMETOOLONG));
            assert_eq!(unlink(longer.as_ptr()), -libc::ENAMETOOLONG);
            assert_eq!(unlink(8 as *const _), -libc::EFAULT);
            assert_eq!(unlink_at(at, ptr::null(), 0), -libc::EFAULT);
            assert_eq!(unlink_at(-5, more[0].as_ptr(), 0), -libc::EBADF);
            assert_eq!(unlink(in_file.as_ptr()), -libc::ENOTDIR);
            // Folders, and flags that there are not.
            let remove = libc::AT_REMOVEDIR;
            assert_eq!(unlink_at(at, dirs[0].as_ptr(), remove), 0);
            assert_eq!(unlink_at(at, dirs[0].as_ptr(), remove), -libc::ENOENT);
            assert_eq!(unlink_at(at, dirs[1].as_ptr(), 1), -libc::EINVAL);
            // SAFETY: the path is one.
            assert_eq!(unsafe { libc::rmdir(dirs[1].as_ptr()) }, 0);
        });
        let lines = tool.call().expect("a tick");
        println!("{mode}: {:?}", sums(&lines));
        assert_eq!(of(&lines, "unlink").tag("mode"), mode);
        let failed = [("EBADF", 1), ("EFAULT", 2), ("EISDIR", 3), ("ENAMETOOLONG", 3)];
        let failed: BTreeMap<_, _> =
            failed.into_iter().chain([("ENOENT", 6), ("ENOTDIR", 1)]).collect();
        if !is_whole(mode, &lines) {
            assert!(sums(&lines)[2] + missed(&lines) + lost(&lines)[0] >= 166, "{mode}");
            return;
        }
        assert_eq!(sums(&lines), [150, 16, 166], "{mode}");
        assert_eq!(errnos(&lines), failed, "{mode}");
        let by_name = lines.iter().find(|l| l.table == "unlink_comm" && l.tag("comm") == NAME);
        let by_name = by_name.expect("a row");
        assert_eq!((by_name.u64("calls"), by_name.u64("failed")), (166, 16));
    });
}

/// Names as they come: of any bytes, of any length, wrong, and in a page that is not in memory yet, where a
/// program at the begin of the system call finds nothing.
#[test]
fn each_event_has_its_name_and_its_result() {
    let _alone = alone();
    modes(&ours(r#","events":true"#), |mode, tool| {
        let folder = Folder::new();
        let dir = folder.0.to_str().expect("text").to_owned();
        let (file, odd) = (folder.file("file"), folder.file(b"\xff,\n =\"x\\"));
        folder.file("long");
        let long = [dir.as_bytes(), "/.".repeat(150).as_bytes(), b"/long"].concat();
        let long_path = CString::new(long.clone()).expect("no NUL");
        let relative = folder.file("relative");
        let paged = folder.file("paged");
        fs::write(folder.0.join("page"), paged.as_bytes_with_nul()).expect("written");
        let page = File::open(folder.0.join("page")).expect("a file");
        let open = File::open(&folder.0).expect("the folder");
        let name = relative.to_bytes()[dir.len() + 1..].to_owned();
        drive(move || {
            assert_eq!(unlink(file.as_ptr()), 0);
            assert_eq!(unlink(file.as_ptr()), -libc::ENOENT);
            assert_eq!(unlink(odd.as_ptr()), 0);
            assert_eq!(unlink(long_path.as_ptr()), 0);
            let name = CString::new(name).expect("no NUL");
            assert_eq!(unlink_at(open.as_raw_fd(), name.as_ptr(), 0), 0);
            assert_eq!(unlink(8 as *const _), -libc::EFAULT);
            // SAFETY: a new mapping, which nobody has touched when the kernel reads it.
            unsafe {
                let (read, shared) = (libc::PROT_READ, libc::MAP_SHARED);
                let at = libc::mmap(ptr::null_mut(), 4096, read, shared, page.as_raw_fd(), 0);
                assert_ne!(at, libc::MAP_FAILED);
                assert_eq!(unlink(at.cast()), 0);
                libc::munmap(at, 4096);
            }
        });
        let lines = tool.call().expect("a tick");
        if !is_whole(mode, &lines) {
            return;
        }
        let events = events(&lines);
        let said: Vec<_> = events.iter().map(|l| (l.text("path"), l.text("result"))).collect();
        let cut = String::from_utf8(long[..255].to_vec()).expect("text");
        // A line has no newline in it.
        let odd = format!("{dir}/\u{fffd},\\n =\"x\\");
        let (file, paged) = (format!("{dir}/file"), format!("{dir}/paged"));
        let expected = [
            (file.as_str(), "ok"),
            (&file, "ENOENT"),
            (&odd, "ok"),
            (&cut, "ok"),
            ("relative", "ok"),
            ("", "EFAULT"),
            (&paged, "ok"),
        ];
        assert_eq!(said, expected, "{mode}");
        for event in events {
            assert_eq!(event.u64("pid"), u64::from(std::process::id()), "{mode}");
            assert_eq!(event.text("comm"), NAME, "{mode}");
        }
        assert_eq!(of(&lines, "unlink_lost").u64("dropped_events"), 0, "{mode}");
    });
}

/// Calls that wait count when they end, with their time. The kernel has at least 10 kretprobes at a time: what is
/// beyond them is found when its thread deletes again.
#[test]
fn calls_that_wait_are_counted_at_their_end_or_as_unended() {
    const THREADS: u64 = 40;
    let _alone = alone();
    modes(&ours(""), |mode, tool| {
        let folder = Folder::new();
        let files = folder.files(2 * THREADS as usize);
        let held = match Held::new(&folder) {
            Ok(held) => held,
            Err(why) => return println!("SKIPPED: {why}"),
        };
        let (tell, told) = channel();
        let threads: Vec<_> = files.chunks(2).map(<[_]>::to_vec).collect();
        let threads = threads.into_iter().map(|files| {
            let (tell, (again, wait)) = (tell.clone(), channel::<()>());
            let thread = spawn(move || {
                // SAFETY: takes no arguments.
                let tid = unsafe { libc::gettid() };
                tell.send(tid).expect("heard");
                let first = unlink(files[0].as_ptr());
                tell.send(tid).expect("heard");
                wait.recv().expect("told");
                assert_eq!((first, unlink(files[1].as_ptr())), (0, 0));
            });
            (thread, again)
        });
        let threads: Vec<_> = threads.collect();
        let since = Instant::now();
        for _ in 0..THREADS {
            let tid = told.recv().expect("it runs");
            let waits = || {
                let stat = fs::read_to_string(format!("/proc/self/task/{tid}/stat"));
                stat.is_ok_and(|stat| stat.contains(") D "))
            };
            while !waits() {
                assert!(since.elapsed() < Duration::from_secs(20), "a thread that waits");
                thread::sleep(Duration::from_millis(1));
            }
        }
        let before = tool.call().expect("a tick");
        thread::sleep(Duration::from_millis(60));
        held.release();
        (0..THREADS).for_each(|_| _ = told.recv().expect("it has deleted"));
        let mut done = vec![tool.call().expect("a tick")];
        // One after the other: there is a kretprobe for each.
        for (thread, again) in threads {
            again.send(()).expect("it waits");
            thread.join().expect("no panic");
        }
        done.push(tool.call().expect("a tick"));
        let sum = |of: &dyn Fn(&[Line]) -> u64| done.iter().map(|lines| of(lines)).sum::<u64>();
        let (ended, unended) = (sum(&|l| sums(l)[0]), sum(&|l| lost(l)[1]));
        let skipped = sum(&|l| missed(l)) + missed(&before);
        println!("{mode}: {ended} ended, {unended} unended, {skipped} missed");
        assert_eq!(sums(&before), [0; 3], "{mode}: all wait");
        let slow = of(&done[0], "unlink");
        assert!(slow.u64("max_us") >= 60_000 && slow.u64("max_us") < 60_000_000, "{slow:?}");
        assert!(ended + unended <= 2 * THREADS, "{mode}");
        assert!(ended + unended + skipped >= 2 * THREADS, "{mode}");
        if mode == "kprobe" && kernel_at_least(6, 7) {
            let kept = 10.max(2 * u64::from(possible_cpus()));
            assert!(
                kept >= THREADS || skipped >= unended && unended > 0,
                "{mode}: the kernel says it"
            );
        }
        if mode != "kprobe" && skipped == 0 {
            assert_eq!((ended, unended), (2 * THREADS, 0), "{mode}");
        }
    });
}

#[test]
fn deletions_by_io_uring_are_seen_by_the_function_only() {
    let _alone = alone();
    let own = format!(r#"{{"pid":[{}]}}"#, std::process::id());
    modes(&own, |mode, tool| {
        let folder = Folder::new();
        let results = uring(&folder.files(5));
        let lines = tool.call().expect("a tick");
        match results {
            Ok(results) if results == [0; 5] => {}
            Ok(results) => return println!("SKIPPED: io_uring answers {results:?}"),
            Err(why) => return println!("SKIPPED: {why}"),
        }
        let seen = if mode.ends_with("tp") { 0 } else { 5 };
        assert_eq!(sums(&lines)[0] + missed(&lines), seen + missed(&lines), "{mode}");
        folder.files(1);
    });
}

/// In the table of 32 bits unlink is 10 and unlinkat 301, and 87 and 263 are others.
#[cfg(target_arch = "x86_64")]
#[test]
fn deletions_by_32_bit_calls_are_seen_by_the_function_only() {
    let _alone = alone();
    modes(&format!(r#"{{"comm":["{NAME}"]}}"#), |mode, tool| {
        let folder = Folder::new();
        let files = folder.files(2);
        let ended = spawn(move || unlink_by_32_bit_calls(&files));
        let status = ended.join().expect("no panic");
        let lines = tool.call().expect("a tick");
        if libc::WIFSIGNALED(status) {
            return println!("SKIPPED: this kernel has no system calls of 32 bits");
        }
        assert_eq!(libc::WEXITSTATUS(status), 3);
        if mode == "raw_tp" && !fs::exists("/sys/kernel/btf/vmlinux").unwrap_or(false) {
            return println!("SKIPPED: without BTF nobody knows int $0x80 of a 64-bit program");
        }
        let seen = if mode.ends_with("tp") { 0 } else { 2 };
        if missed(&lines) == 0 {
            assert_eq!((sums(&lines)[2], lost(&lines)), (seen, [0; 3]), "{mode}");
        }
    });
}

/// And who has ended makes room again.
#[test]
fn calls_without_room_for_their_begin_are_counted_as_dropped() {
    let _alone = alone();
    modes(&ours(""), |mode, tool| {
        fill("begun");
        let folder = Folder::new();
        let (files, more) = (folder.files(20), folder.files(25).split_off(20));
        drive(move || files.iter().for_each(|file| assert_eq!(unlink(file.as_ptr()), 0)));
        let lines = tool.call().expect("a tick");
        assert_eq!(sums(&lines), [0; 3], "{mode}");
        if missed(&lines) == 0 {
            // Their ends are all that is seen of them.
            assert_eq!(lost(&lines), [20, 0, 20], "{mode}");
        }
        if !fs::read_link("/proc/self/ns/pid").is_ok_and(|at| at.as_os_str() == "pid:[4026531836]")
        {
            return println!("SKIPPED: in a namespace of process ids nobody knows who has ended");
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_nanos();
        let swept = Tick { seq: 63, time_ns: now as i64, elapsed_ns: 1 };
        let unended = lost(&tool.call_at(&swept).expect("a tick"))[1];
        assert!(unended >= 1024, "{mode}: {unended} that no thread has");
        drive(move || more.iter().for_each(|file| assert_eq!(unlink(file.as_ptr()), 0)));
        let lines = tool.call().expect("a tick");
        assert!(!is_whole(mode, &lines) || sums(&lines) == [5, 0, 5], "{mode}: {lines:?}");
    });
}

/// The test's process is in a cgroup of its own: the tool is started for it, for those above it and for its sibling.
#[test]
fn a_cgroup_stands_for_its_own_processes_and_those_below_it() {
    let _alone = alone();
    let moved = match Moved::new() {
        Ok(moved) => moved,
        Err(why) => return println!("SKIPPED: no cgroup of its own: {why}"),
    };
    let folder = Folder::new();
    let seen = [(moved.child(), true), (moved.parent().to_owned(), true), (moved.sibling(), false)];
    for (cgroup, seen) in seen {
        let options = format!(r#"{{"comm":["{NAME}"],"cgroup":{cgroup:?}}}"#);
        let mut tool = match Tool::init(&options) {
            Ok(tool) => tool,
            Err(error) => {
                assert!(!kernel_at_least(5, 14), "{error:#}");
                return println!("SKIPPED: {error:#}");
            }
        };
        tool.call().expect("a tick");
        let files = folder.files(30);
        drive(move || files.iter().for_each(|file| assert_eq!(unlink(file.as_ptr()), 0)));
        let lines = tool.call().expect("a tick");
        if is_whole(of(&lines, "unlink").tag("mode"), &lines) {
            assert_eq!(sums(&lines)[0], if seen { 30 } else { 0 }, "{cgroup:?}");
        }
    }
}

#[test]
fn a_call_below_the_least_duration_has_no_event() {
    let _alone = alone();
    let mut tool = Tool::init(&ours(r#","events":true,"min_duration":"1h""#)).expect("it attaches");
    tool.call().expect("a tick");
    let folder = Folder::new();
    let files = folder.files(9);
    drive(move || files.iter().for_each(|file| assert_eq!(unlink(file.as_ptr()), 0)));
    let lines = tool.call().expect("a tick");
    assert!(is_whole("", &lines) || sums(&lines)[0] < 9);
    assert_eq!((sums(&lines)[0], events(&lines).len()), (9, 0));
}

/// 256 KiB are not a thousand events of 320 bytes.
#[test]
fn events_beyond_the_room_are_counted() {
    const FILES: usize = 1_000;
    let _alone = alone();
    let mut tool = Tool::init(&ours(r#","events":true"#)).expect("it attaches");
    tool.call().expect("a tick");
    let nobody = Folder::new().path("nobody");
    drive(move || (0..FILES).for_each(|_| assert_eq!(unlink(nobody.as_ptr()), -libc::ENOENT)));
    let lines = tool.call().expect("a tick");
    let dropped = of(&lines, "unlink_lost").u64("dropped_events");
    println!("{} events, {dropped} dropped", events(&lines).len());
    assert!(dropped > 0);
    assert_eq!(events(&lines).len() as u64 + dropped, sums(&lines)[2]);
}

#[test]
fn at_default_options_the_maps_are_small_and_each_table_has_a_line() {
    let _alone = alone();
    let before = map_bytes();
    let mut tool = Tool::init("{}").expect("it attaches");
    let (bytes, cpus) = (map_bytes() - before, u64::from(possible_cpus()));
    println!("{bytes} bytes of maps on {cpus} CPUs");
    assert!(bytes * 2 <= cpus * 512 * 1024, "0.5 MiB on two CPUs");
    let lines = tool.call().expect("a tick");
    let rows = |table: &str| lines.iter().filter(|l| l.table == table).count();
    assert_eq!((rows("unlink"), rows("unlink_lost"), rows("unlink_comm")), (1, 1, 0));
    assert!(lines.iter().any(|l| l.table == "unlink_errno" && l.tag("errno") == "other"));
}
