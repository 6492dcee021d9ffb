//! Calls of write() that this test makes, in threads with a name of their own.

use plugin_bpf::{Running, only_kind, possible_cpus};
use plugin_testing::{Harness, Line, alone, fill, map_bytes, missed, ways};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::io::Read as _;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::ptr;
use std::sync::mpsc::channel;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use syswrite::Syswrite;

type Tool = Harness<Running<Syswrite>>;

const WAYS: &[&str] = &["btf", "tp", "raw"];
/// Of the threads whose calls count.
const NAME: &str = "syswrite-test";

/// Only this process's threads of that name.
fn options() -> &'static str {
    let own = std::process::id();
    format!(r#"{{"pid":[{own}],"comm":["{NAME}"]}}"#).leak()
}

fn named<T: Send + 'static>(name: &str, act: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    thread::Builder::new().name(name.to_owned()).spawn(act).expect("a thread")
}

fn drive(act: impl FnOnce() + Send + 'static) {
    named(NAME, act).join().expect("no panic");
}

/// One call, as it is; its result or its error.
fn write(fd: i32, from: *const u8, len: usize) -> Result<i64, i32> {
    // SAFETY: the kernel checks the memory, which it only reads.
    let written = unsafe { libc::syscall(libc::SYS_write, fd, from, len) };
    if written < 0 {
        Err(std::io::Error::last_os_error().raw_os_error().expect("an error of the kernel"))
    } else {
        Ok(written)
    }
}

/// A pipe of one page that does not block its writer, or does.
fn pipe(flags: i32) -> (OwnedFd, OwnedFd) {
    use std::os::fd::FromRawFd as _;
    let mut ends = [0; 2];
    // SAFETY: there is room for two descriptors, which are ours from then on.
    let (reader, writer) = unsafe {
        assert_eq!(libc::pipe2(ends.as_mut_ptr(), flags | libc::O_CLOEXEC), 0);
        (OwnedFd::from_raw_fd(ends[0]), OwnedFd::from_raw_fd(ends[1]))
    };
    // SAFETY: takes numbers.
    assert!(unsafe { libc::fcntl(ends[1], libc::F_SETPIPE_SZ, 4096) } >= 4096);
    (reader, writer)
}

fn null() -> std::fs::File {
    std::fs::File::options().write(true).open("/dev/null").expect("/dev/null")
}

fn of<'a>(lines: &'a [Line], table: &str) -> &'a Line {
    lines.iter().find(|l| l.table == table).unwrap_or_else(|| panic!("no {table} in {lines:?}"))
}

/// Those that are not 0.
fn errnos(lines: &[Line]) -> BTreeMap<&str, u64> {
    let errnos = lines.iter().filter(|l| l.table == "syswrite_errno");
    errnos.map(|l| (l.tag("errno"), l.u64("failed"))).filter(|(_, n)| *n > 0).collect()
}

/// Calls, failed, partial, asked and written.
fn sums(lines: &[Line]) -> [u64; 5] {
    let fields = ["calls", "failed", "partial", "asked_bytes", "written_bytes"];
    fields.map(|field| of(lines, "syswrite").u64(field))
}

fn lost(lines: &[Line]) -> [u64; 3] {
    ["unmatched", "unended", "dropped"].map(|field| of(lines, "syswrite_lost").u64(field))
}

#[test]
fn every_way_counts_calls_bytes_and_errors_to_the_last_one() {
    const GIB: usize = 1 << 30;
    let _alone = alone();
    for (kind, mut tool) in ways::<Running<Syswrite>>(only_kind, WAYS, options()) {
        tool.call().expect("a tick");
        drive(|| {
            let (null, text) = (null(), [b'x'; 8192]);
            let fd = null.as_raw_fd();
            (0..1_000).for_each(|_| assert_eq!(write(fd, text.as_ptr(), 10), Ok(10)));
            assert_eq!(write(fd, text.as_ptr(), 0), Ok(0));
            // The kernel takes less of one call; nothing reads the memory.
            assert_eq!(write(fd, text.as_ptr(), 3 * GIB), Ok(0x7fff_f000));
            assert_eq!(write(fd, text.as_ptr(), usize::MAX), Err(libc::EFAULT));
            (0..7).for_each(|_| assert_eq!(write(-1, text.as_ptr(), 5), Err(libc::EBADF)));
            // Up to Linux 6.12 this leaves an empty part in the pipe, which takes up its one page.
            let (_reader, writer) = pipe(libc::O_NONBLOCK);
            let fd = writer.as_raw_fd();
            (0..3).for_each(|_| assert_eq!(write(fd, ptr::null(), 9), Err(libc::EFAULT)));
            let (reader, writer) = pipe(libc::O_NONBLOCK);
            let fd = writer.as_raw_fd();
            assert_eq!(write(fd, text.as_ptr(), 6_000), Ok(4_096));
            (0..2).for_each(|_| assert_eq!(write(fd, text.as_ptr(), 1), Err(libc::EAGAIN)));
            drop(reader); // Rust ignores SIGPIPE
            assert_eq!(write(fd, text.as_ptr(), 1), Err(libc::EPIPE));
            // Other ways to write.
            let part = libc::iovec { iov_base: text.as_ptr().cast_mut().cast(), iov_len: 3 };
            let fd = null.as_raw_fd();
            // SAFETY: the kernel reads within the text.
            unsafe {
                assert_eq!(libc::writev(fd, &part, 1), 3);
                assert_eq!(libc::pwrite(fd, text.as_ptr().cast(), 3, 0), 3);
            }
        });
        let lines = tool.call().expect("a tick");
        let asked = 10_000 + 0x7fff_f000 * 2 + 35 + 27 + 6_000 + 2 + 1;
        let sums = sums(&lines);
        println!("{kind}: {sums:?}, {} missed", missed(&lines));
        if missed(&lines) > 0 {
            // The kernel says which: of all system calls in `raw`.
            assert!(sums[0] + missed(&lines) + lost(&lines)[0] >= 1_017, "{kind}: {sums:?}");
            continue;
        }
        assert_eq!(sums, [1_017, 14, 2, asked, 10_000 + 0x7fff_f000 + 4_096], "{kind}");
        let failed = [("EAGAIN", 2), ("EBADF", 7), ("EFAULT", 4), ("EPIPE", 1)];
        assert_eq!(errnos(&lines), failed.into(), "{kind}");
        assert_eq!(lost(&lines), [0; 3], "{kind}");
    }
}

extern "C" fn nothing(_: i32) {}

fn wait_until(what: &str, done: impl Fn() -> bool) {
    let since = Instant::now();
    while !done() {
        assert!(since.elapsed() < Duration::from_secs(20), "{what}");
        thread::sleep(Duration::from_millis(1));
    }
}

/// A call counts when it ends. A signal ends it with an error of the kernel's own, and the kernel calls again.
#[test]
fn a_call_that_blocks_counts_at_its_end_and_an_interrupted_one_twice() {
    let _alone = alone();
    for (kind, mut tool) in ways::<Running<Syswrite>>(only_kind, WAYS, options()) {
        tool.call().expect("a tick");
        let (reader, writer) = pipe(0);
        let (tell, told) = channel();
        let blocked = named(NAME, move || {
            // SAFETY: takes no arguments, and makes no memory of ours invalid; the handler does nothing.
            unsafe {
                let mut act: libc::sigaction = std::mem::zeroed();
                act.sa_sigaction = nothing as *const () as usize;
                act.sa_flags = libc::SA_RESTART;
                assert_eq!(libc::sigaction(libc::SIGUSR1, &act, ptr::null_mut()), 0);
                tell.send((libc::pthread_self(), libc::gettid())).expect("heard");
            }
            assert_eq!(write(writer.as_raw_fd(), [b'x'; 4_096].as_ptr(), 4_096), Ok(4_096));
            assert_eq!(write(writer.as_raw_fd(), b"y".as_ptr(), 1), Ok(1));
        });
        let (thread, tid) = told.recv().expect("it runs");
        let is = |text: &str| {
            let said = std::fs::read_to_string(format!("/proc/self/task/{tid}/syscall"));
            said.is_ok_and(|said| said.starts_with(text))
        };
        let sleeps = || {
            let stat = std::fs::read_to_string(format!("/proc/self/task/{tid}/stat"));
            stat.is_ok_and(|stat| stat.contains(") S "))
        };
        let has_syscall_file = fs_exists(&format!("/proc/self/task/{tid}/syscall"));
        let in_write = format!("{} ", libc::SYS_write);
        wait_until("it blocks", || {
            sleeps() && (!has_syscall_file || is(&in_write)) || blocked.is_finished()
        });
        thread::sleep(Duration::from_millis(20));
        let first = tool.call().expect("a tick");
        // SAFETY: the thread was not joined yet.
        assert_eq!(unsafe { libc::pthread_kill(thread, libc::SIGUSR1) }, 0);
        // It is called again; how soon, its machine decides. A tick may come between what it asked for and its error.
        let all = Cell::new([0; 5]);
        let ended = |lines: &[Line]| {
            let (before, more) = (all.get(), sums(lines));
            all.set(std::array::from_fn(|at| before[at] + more[at]));
            all.get()[1] > 0 || missed(lines) > 0
        };
        let second = tool.until("the call ends by the signal", ended);
        std::fs::File::from(reader).read_exact(&mut [0; 4_097]).expect("all of it");
        blocked.join().expect("no panic");
        let third = tool.call().expect("a tick");
        if [&first, &second, &third].iter().any(|lines| missed(lines) > 0) {
            println!("{kind}: missed");
            continue;
        }
        assert_eq!(sums(&first), [1, 0, 0, 4_096, 4_096], "{kind}: one is under way");
        assert_eq!(all.get(), [1, 1, 0, 1, 0], "{kind}");
        assert_eq!(errnos(&second), [("ERESTARTSYS", 1)].into(), "{kind}");
        assert_eq!(sums(&third), [1, 0, 0, 1, 1], "{kind}");
        assert_eq!(lost(&third), [0; 3], "{kind}");
    }
}

fn fs_exists(path: &str) -> bool {
    std::fs::exists(path).unwrap_or(false)
}

/// Who begins before the tool does ends all the same.
#[test]
fn a_call_that_was_under_way_at_the_start_is_counted_with_its_result() {
    let _alone = alone();
    for kind in WAYS {
        let (reader, writer) = pipe(0);
        let blocked = named(NAME, move || {
            assert_eq!(write(writer.as_raw_fd(), [b'x'; 8_000].as_ptr(), 8_000), Ok(8_000));
        });
        wait_until("its call fills the pipe", || {
            let mut full = 0;
            // SAFETY: writes to an integer of ours.
            let told = unsafe { libc::ioctl(reader.as_raw_fd(), libc::FIONREAD, &raw mut full) };
            told == 0 && full >= 4_096
        });
        only_kind(kind);
        let tool = Tool::init(options()).and_then(|mut tool| tool.call().map(|_| tool));
        std::fs::File::from(reader).read_exact(&mut [0; 8_000]).expect("all of it");
        blocked.join().expect("no panic");
        let mut tool = match tool {
            Ok(tool) => tool,
            Err(error) => {
                println!("not by {kind}: {error:#}");
                continue;
            }
        };
        let lines = tool.call().expect("a tick");
        let (asked, unmatched) = if *kind == "tp" { (0, 1) } else { (8_000, 0) };
        assert_eq!(sums(&lines), [1, 0, 0, asked, 8_000], "{kind}");
        assert_eq!(lost(&lines), [unmatched, 0, 0], "{kind}");
    }
}

/// What seccomp refuses has no begin (sys_enter), and an end.
#[test]
fn a_call_that_seccomp_refuses_is_one_that_failed() {
    let _alone = alone();
    for (kind, mut tool) in ways::<Running<Syswrite>>(only_kind, WAYS, options()) {
        tool.call().expect("a tick");
        drive(|| {
            // Of this thread alone: load the number, EPERM for write, all else is allowed.
            let statement = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
            let mut program = [
                statement(0x20, 0, 0, 0),
                statement(0x15, 0, 1, libc::SYS_write as u32),
                statement(0x06, 0, 0, 0x0005_0000 | libc::EPERM as u32),
                statement(0x06, 0, 0, 0x7fff_0000),
            ];
            let filter = libc::sock_fprog { len: 4, filter: program.as_mut_ptr() };
            // SAFETY: the kernel reads the program, which outlives the calls.
            unsafe {
                assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
                let mode = libc::SECCOMP_MODE_FILTER;
                assert_eq!(libc::prctl(libc::PR_SET_SECCOMP, mode, &filter), 0);
            }
            let null = null();
            (0..6).for_each(|_| {
                assert_eq!(write(null.as_raw_fd(), b"abc".as_ptr(), 3), Err(libc::EPERM));
            });
        });
        let lines = tool.call().expect("a tick");
        if missed(&lines) > 0 {
            println!("{kind}: missed");
            continue;
        }
        let (asked, unmatched) = if kind == "tp" { (0, 6) } else { (18, 0) };
        assert_eq!(sums(&lines), [6, 6, 0, asked, 0], "{kind}");
        assert_eq!(errnos(&lines), [("EPERM", 6)].into(), "{kind}");
        assert_eq!(lost(&lines), [unmatched, 0, 0], "{kind}");
    }
}

/// Answers one call that a filter asks about, with a result of ours (include/uapi/linux/seccomp.h).
fn answer_one(listener: i32, result: i64) {
    // struct seccomp_notif, whose first word is the id; struct seccomp_notif_resp: id, result, error, flags.
    let (mut asked, mut answer) = ([0u64; 10], [0u64; 3]);
    // SAFETY: both are as long as the kernel's structs are, which it says in the numbers of the requests.
    unsafe {
        let received = libc::ioctl(listener, 0xc050_2100, asked.as_mut_ptr());
        assert_eq!(received, 0, "{}", std::io::Error::last_os_error());
        answer[..2].copy_from_slice(&[asked[0], result.cast_unsigned()]);
        let sent = libc::ioctl(listener, 0xc018_2101, answer.as_mut_ptr());
        assert_eq!(sent, 0, "{}", std::io::Error::last_os_error());
    }
}

/// A program may give its own calls any result, without any right.
#[test]
fn a_result_that_no_write_can_have_makes_no_sum_absurd() {
    const ABSURD: i64 = 1 << 62;
    const MOST: u64 = 0x7fff_f000;
    let _alone = alone();
    for (kind, mut tool) in ways::<Running<Syswrite>>(only_kind, WAYS, options()) {
        tool.call().expect("a tick");
        let (tell, told) = channel();
        let asks = named(NAME, move || {
            // Of this thread alone: load the number, write is asked about, all else is allowed.
            let statement = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
            let mut program = [
                statement(0x20, 0, 0, 0),
                statement(0x15, 0, 1, libc::SYS_write as u32),
                statement(0x06, 0, 0, 0x7fc0_0000),
                statement(0x06, 0, 0, 0x7fff_0000),
            ];
            let filter = libc::sock_fprog { len: 4, filter: program.as_mut_ptr() };
            // SAFETY: the kernel reads the program, which outlives the calls.
            let listener = unsafe {
                assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
                // SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER
                libc::syscall(libc::SYS_seccomp, 1, 8, &raw const filter) as i32
            };
            tell.send(listener).expect("heard");
            if listener >= 0 {
                (0..3).for_each(|_| assert_eq!(write(-1, b"abc".as_ptr(), 3), Ok(ABSURD)));
            }
        });
        let listener = told.recv().expect("it runs");
        if listener < 0 {
            asks.join().expect("no panic");
            return println!("SKIPPED: this kernel has no notifications of seccomp");
        }
        (0..3).for_each(|_| answer_one(listener, ABSURD));
        asks.join().expect("no panic");
        // SAFETY: it is ours.
        unsafe { libc::close(listener) };
        let lines = tool.call().expect("a tick");
        if missed(&lines) > 0 {
            println!("{kind}: missed");
            continue;
        }
        let (asked, unmatched) = if kind == "tp" { (0, 3) } else { (9, 0) };
        assert_eq!(sums(&lines), [3, 0, 0, asked, 3 * MOST], "{kind}");
        assert_eq!(lost(&lines), [unmatched, 0, 0], "{kind}");
    }
}

/// The 32-bit table has exit where the other has write, and write where the other has stat.
#[cfg(target_arch = "x86_64")]
#[test]
fn calls_by_the_table_of_32_bits_are_no_writes() {
    let _alone = alone();
    let options = format!(r#"{{"comm":["{NAME}"]}}"#).leak();
    for (kind, mut tool) in ways::<Running<Syswrite>>(only_kind, WAYS, options) {
        tool.call().expect("a tick");
        let ended = named(NAME, || {
            // SAFETY: the child of a process with threads only makes system calls; `rbx`, which the compiler keeps
            // for itself, is put back.
            unsafe {
                let child = libc::fork();
                if child == 0 {
                    let call = |number: u64, first: u64, second: u64, third: u64| {
                        std::arch::asm!(
                            "xchg rbx, {first}", "int 0x80", "xchg rbx, {first}",
                            first = inout(reg) first => _, inout("rax") number => _,
                            in("rcx") second, in("rdx") third,
                            out("r8") _, out("r9") _, out("r10") _, out("r11") _,
                        );
                    };
                    libc::syscall(libc::SYS_write, -1, ptr::null::<u8>(), 1_usize);
                    call(4, u32::MAX.into(), 0, 5); // write to descriptor -1
                    call(1, 3, 0, 0); // exit
                }
                let mut status = 0;
                libc::waitpid(child, &mut status, 0);
                status
            }
        });
        let status = ended.join().expect("no panic");
        if libc::WIFSIGNALED(status) {
            return println!("SKIPPED: this kernel has no system calls of 32 bits");
        }
        assert_eq!(libc::WEXITSTATUS(status), 3);
        let lines = tool.call().expect("a tick");
        assert!(sums(&lines)[0] + missed(&lines) >= 1, "{kind}: the 64-bit one");
        assert!(sums(&lines)[0] <= 1, "{kind}: {:?}", sums(&lines));
        assert_eq!(lost(&lines), [0; 3], "{kind}");
    }
}

/// The begin of these calls is lost, not the calls.
#[test]
fn calls_without_room_for_their_begin_are_counted_with_their_result() {
    let _alone = alone();
    only_kind("tp");
    let Some(mut tool) = Tool::init_or_skip(options()) else { return };
    tool.call().expect("a tick");
    fill("begun");
    drive(|| {
        let null = null();
        (0..20).for_each(|_| assert_eq!(write(null.as_raw_fd(), b"abc".as_ptr(), 3), Ok(3)));
    });
    let lines = tool.call().expect("a tick");
    if missed(&lines) > 0 {
        return assert!(lost(&lines)[2] + missed(&lines) >= 20);
    }
    assert_eq!(sums(&lines), [20, 0, 0, 0, 60]);
    assert_eq!(lost(&lines), [20, 0, 20]);
}

#[test]
fn names_of_any_bytes_have_rows_that_add_up() {
    let _alone = alone();
    let own = std::process::id();
    let mut tool = Tool::init(&format!(r#"{{"pid":[{own}],"by":"comm"}}"#)).expect("it attaches");
    // The test before may be about to be printed, by this process.
    thread::sleep(Duration::from_millis(50));
    tool.call().expect("a tick");
    let null = null();
    let calls = |fd: i32, name: &[u8], n: usize| {
        let name = [name, b"\0"].concat();
        let thread = thread::spawn(move || {
            // SAFETY: the name ends with a NUL.
            unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr()) };
            (0..n).for_each(|_| assert!(write(fd, b"abc".as_ptr(), 3).is_ok()));
        });
        thread.join().expect("no panic");
    };
    let odd: [&[u8]; 4] = [b"a,b =\\", b"line\nbreak", b"\xff\xfe", b""];
    odd.iter().for_each(|name| calls(null.as_raw_fd(), name, 100));
    (0..25).for_each(|i| calls(null.as_raw_fd(), format!("w{i:02}").as_bytes(), i + 1));
    let lines = tool.call().expect("a tick");
    let rows: Vec<_> = lines.iter().filter(|l| l.table == "syswrite_comm").collect();
    assert_eq!(rows.len(), 21);
    let sum = |field: &str| rows.iter().map(|l| l.u64(field)).sum::<u64>();
    if missed(&lines) > 0 {
        return assert!(sum("calls") + missed(&lines) >= 400 + 25 * 13);
    }
    assert_eq!(sum("calls"), 400 + 25 * 13, "{rows:?}");
    assert_eq!((sum("failed"), sum("asked_bytes")), (0, 3 * sum("calls")));
    assert_eq!(sums(&lines)[0], sum("calls"));
    let of = |name: &str| rows.iter().find(|l| l.tag("comm") == name).map(|l| l.u64("calls"));
    assert_eq!(of("a,b =\\").or(of("a,b =_")), Some(100), "{rows:?}");
    assert_eq!((of("w24"), of("_")), (Some(25), Some(100)), "{rows:?}");
    // 4 odd ones and w09 to w24 are the first 20.
    assert_eq!(of("other"), Some((1..=9).sum()));
}

#[test]
fn the_own_process_counts_only_when_it_is_named() {
    let _alone = alone();
    let calls = |options: &str| {
        let mut tool = Tool::init(options).expect("it attaches");
        tool.call().expect("a tick");
        drive(|| {
            let null = null();
            (0..50).for_each(|_| assert_eq!(write(null.as_raw_fd(), b"x".as_ptr(), 1), Ok(1)));
        });
        let lines = tool.call().expect("a tick");
        sums(&lines)[0] + missed(&lines)
    };
    if std::fs::read_link("/proc/self/ns/pid").is_ok_and(|at| at.as_os_str() != "pid:[4026531836]")
    {
        return println!("SKIPPED: in a namespace of process ids");
    }
    assert_eq!(calls(&format!(r#"{{"comm":["{NAME}"]}}"#)), 0);
    assert_eq!(calls(options()), 50);
}

#[test]
fn at_default_options_the_maps_are_small_and_each_table_has_a_line() {
    let _alone = alone();
    let before = map_bytes();
    for (kind, mut tool) in ways::<Running<Syswrite>>(only_kind, WAYS, "{}") {
        let (bytes, cpus) = (map_bytes() - before, u64::from(possible_cpus()));
        println!("{kind}: {bytes} bytes of maps on {cpus} CPUs");
        assert!(bytes * 2 <= cpus * 512 * 1024, "0.5 MiB on two CPUs");
        let lines = tool.call().expect("a tick");
        let rows = |table: &str| lines.iter().filter(|l| l.table == table).count();
        assert_eq!((rows("syswrite"), rows("syswrite_lost"), rows("syswrite_comm")), (1, 1, 0));
        assert!(lines.iter().any(|l| l.table == "syswrite_errno" && l.tag("errno") == "other"));
    }
}
