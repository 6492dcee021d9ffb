//! Signals to processes that only this test has, and of numbers that nobody else sends.

use plugin_bpf::{Running, only_kind, possible_cpus};
use plugin_testing::{Harness, Line, alone, map_bytes, ways};
use sigsnoop::Sigsnoop;
use std::collections::BTreeMap;
use std::ffi::CString;

type Tool = Harness<Running<Sigsnoop>>;

const WAYS: &[&str] = &["btf", "raw", "tp"];
/// Real-time signals count from here in the GNU C library.
const RT: i32 = 34;

/// A process that waits until it is killed, with all signals blocked.
struct Target(i32);

impl Target {
    fn new() -> Self {
        Self::with(|| ())
    }

    /// After it has done something, by system calls alone.
    fn with(prepare: impl FnOnce()) -> Self {
        let mut ends = [0; 2];
        // SAFETY: two descriptors are written to the array of two.
        assert_eq!(unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) }, 0);
        // SAFETY: the child only makes system calls.
        let child = unsafe { libc::fork() };
        assert!(child >= 0);
        let mut byte = 0u8;
        if child == 0 {
            block_all();
            prepare();
            // SAFETY: one byte of ours is read; then nothing is touched any more.
            unsafe {
                libc::write(ends[1], (&raw const byte).cast(), 1);
                loop {
                    libc::pause();
                }
            }
        }
        // SAFETY: one byte is written to one of ours; then descriptors of ours are closed.
        unsafe {
            assert_eq!(libc::read(ends[0], (&raw mut byte).cast(), 1), 1);
            ends.iter().for_each(|end| _ = libc::close(*end));
        }
        Self(child)
    }

    fn kill(&self, signal: i32) -> Result<(), i32> {
        // SAFETY: a signal to a child of ours, which has no more than that.
        done(unsafe { libc::kill(self.0, signal) }.into())
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        // SAFETY: a child of ours, which is waited for once.
        unsafe {
            libc::kill(self.0, libc::SIGKILL);
            libc::waitpid(self.0, std::ptr::null_mut(), 0);
        }
    }
}

/// Without the C library, which keeps two signals back.
fn block_all() {
    let all = u64::MAX;
    let how = libc::SIG_BLOCK;
    // SAFETY: the kernel reads the set, which is as long as it is told.
    let set = unsafe { libc::syscall(libc::SYS_rt_sigprocmask, how, &raw const all, 0, 8) };
    assert_eq!(set, 0);
}

/// A signal that a process ignores; a blocked one is never seen to be ignored.
fn ignore(signal: i32) {
    let one = 1u64 << (signal - 1);
    let how = libc::SIG_UNBLOCK;
    // SAFETY: the kernel reads the set, which is as long as it is told.
    unsafe {
        libc::signal(signal, libc::SIG_IGN);
        libc::syscall(libc::SYS_rt_sigprocmask, how, &raw const one, 0, 8);
    }
}

fn limit(resource: libc::__rlimit_resource_t, most: u64) {
    let limit = libc::rlimit { rlim_cur: most, rlim_max: most };
    // SAFETY: the kernel reads the struct.
    assert_eq!(unsafe { libc::setrlimit(resource, &limit) }, 0);
}

fn done(result: i64) -> Result<(), i32> {
    if result < 0 {
        return Err(std::io::Error::last_os_error().raw_os_error().expect("an error"));
    }
    Ok(())
}

/// The siginfo that a process makes for rt_sigqueueinfo and its kin.
fn siginfo(signal: i32) -> [i32; 32] {
    let mut info = [0; 32];
    (info[0], info[2]) = (signal, libc::SI_QUEUE);
    info
}

/// Sends a signal by each call that there is, of numbers from `first` on; gives how many that were.
fn send_each_way(target: &Target, first: i32) -> i32 {
    let (pid, call) = (target.0, |i: i32| first + i);
    let info = |i| siginfo(call(i));
    // SAFETY: signals to a child of ours; the kernel reads the structs, which have its size.
    unsafe {
        let infos = [info(3), info(4), info(5)];
        let [queue, thread, pidfd] = infos.each_ref().map(|info| info.as_ptr());
        done(libc::syscall(libc::SYS_kill, pid, call(0))).expect("sent");
        done(libc::syscall(libc::SYS_tkill, pid, call(1))).expect("sent");
        done(libc::syscall(libc::SYS_tgkill, pid, pid, call(2))).expect("sent");
        done(libc::syscall(libc::SYS_rt_sigqueueinfo, pid, call(3), queue)).expect("sent");
        done(libc::syscall(libc::SYS_rt_tgsigqueueinfo, pid, pid, call(4), thread)).expect("sent");
        let fd = libc::syscall(libc::SYS_pidfd_open, pid, 0);
        done(fd).expect("a pidfd");
        done(libc::syscall(libc::SYS_pidfd_send_signal, fd, call(5), pidfd, 0)).expect("sent");
        libc::close(fd as i32);
    }
    6
}

/// A timer that sends this process a signal once, while it runs.
fn timer(signal: i32) {
    // SAFETY: zeros are valid for both; the kernel reads them and writes the timer's id.
    unsafe {
        let mut event: libc::sigevent = std::mem::zeroed();
        (event.sigev_notify, event.sigev_signo) = (libc::SIGEV_SIGNAL, signal);
        let mut id = 0i32;
        let clock = libc::CLOCK_MONOTONIC;
        libc::syscall(libc::SYS_timer_create, clock, &raw mut event, &raw mut id);
        let mut when: libc::itimerspec = std::mem::zeroed();
        when.it_value.tv_nsec = 1_000_000;
        libc::syscall(libc::SYS_timer_settime, id, 0, &raw const when, 0);
        let mut pending = 0u64;
        while pending & 1 << (signal - 1) == 0 {
            libc::syscall(libc::SYS_rt_sigpending, &raw mut pending, 8);
        }
    }
}

/// A process that touches memory which it does not have, and its parent.
fn fault() {
    limit(libc::RLIMIT_CORE, 0);
    // SAFETY: the child ends at its access; the parent waits for it.
    unsafe {
        let child = libc::fork();
        if child == 0 {
            std::ptr::write_volatile(8 as *mut u8, 0);
        }
        libc::waitpid(child, std::ptr::null_mut(), 0);
    }
}

/// Name, sender and all counts of a line; zeros where there is none.
fn row(lines: &[Line], sig: &str, src: &str) -> [u64; 5] {
    let of = |l: &&Line| l.table == "sigsnoop" && l.tag("sig") == sig && l.tag("src") == src;
    let fields = ["sent", "ignored", "pending", "failed", "lost_info"];
    lines.iter().find(of).map_or([0; 5], |l| fields.map(|field| l.u64(field)))
}

fn rt(n: i32) -> String {
    if n == 0 { "SIGRTMIN".into() } else { format!("SIGRTMIN+{n}") }
}

/// A tool that looks at the signals of some processes.
fn watching(targets: &[&Target], options: &str) -> Option<Tool> {
    let pids: Vec<i32> = targets.iter().map(|target| target.0).collect();
    let mut tool = Tool::init_or_skip(&format!(r#"{{"pid":{pids:?}{options}}}"#))?;
    tool.call().expect("a tick");
    Some(tool)
}

#[test]
fn every_way_counts_signals_by_sender_and_result() {
    let _alone = alone();
    for (kind, mut tool) in ways::<Running<Sigsnoop>>(only_kind, WAYS, "{}") {
        tool.call().expect("a tick");
        let target = Target::with(|| ignore(libc::SIGXCPU));
        (0..20).for_each(|_| target.kill(RT + 6).expect("sent"));
        (0..5).for_each(|_| target.kill(libc::SIGSTKFLT).expect("sent"));
        (0..3).for_each(|_| target.kill(libc::SIGXCPU).expect("sent"));
        (0..10).for_each(|_| target.kill(0).expect("it is there"));
        let full = Target::with(|| limit(libc::RLIMIT_SIGPENDING, 0));
        for _ in 0..7 {
            let info = siginfo(RT + 7);
            // SAFETY: a signal to a child of ours; the kernel reads the struct, which has its size.
            let queued =
                unsafe { libc::syscall(libc::SYS_rt_sigqueueinfo, full.0, RT + 7, info.as_ptr()) };
            assert_eq!(done(queued), Err(libc::EAGAIN));
        }
        (0..2).for_each(|_| full.kill(RT + 8).expect("sent"));
        let all = send_each_way(&target, RT + 9);
        // The kernel's own: a timer, a write beyond the limit and one to a closed pipe.
        let timed = Target::with(|| timer(RT + 16));
        let writer = Target::with(|| {
            limit(libc::RLIMIT_FSIZE, 0);
            let mut ends = [0; 2];
            // SAFETY: descriptors of this process alone, and a byte of a constant.
            unsafe {
                let file = libc::syscall(libc::SYS_memfd_create, c"sigsnoop".as_ptr(), 0) as i32;
                libc::write(file, c"x".as_ptr().cast(), 1);
                libc::pipe(ends.as_mut_ptr());
                libc::close(ends[0]);
                libc::write(ends[1], c"x".as_ptr().cast(), 1);
            }
        });
        drop(Target::with(fault));
        let lines = tool.call().expect("a tick");
        assert_eq!(row(&lines, &rt(6), "user"), [20, 0, 0, 0, 0], "{kind}");
        assert_eq!(row(&lines, "SIGSTKFLT", "user"), [5, 0, 4, 0, 0], "{kind}");
        assert_eq!(row(&lines, "SIGXCPU", "user"), [3, 3, 0, 0, 0], "{kind}");
        assert_eq!(row(&lines, &rt(7), "user"), [7, 0, 0, 7, 0], "{kind}");
        assert_eq!(row(&lines, &rt(8), "user"), [2, 0, 0, 0, 2], "{kind}");
        for call in 9..9 + all {
            assert_eq!(row(&lines, &rt(call), "user"), [1, 0, 0, 0, 0], "{kind}: call {call}");
        }
        assert_eq!(row(&lines, &rt(16), "kernel"), [1, 0, 0, 0, 0], "{kind}");
        assert_eq!(row(&lines, "SIGXFSZ", "kernel")[0], 1, "{kind}");
        assert_eq!(row(&lines, "SIGXFSZ", "user")[0], 0, "{kind}");
        assert!(row(&lines, "SIGPIPE", "kernel")[0] >= 1, "{kind}");
        assert!(row(&lines, "SIGSEGV", "kernel")[0] >= 1, "{kind}");
        assert!(row(&lines, "SIGCHLD", "kernel")[0] >= 1, "{kind}");
        assert!(!lines.iter().any(|l| l.table == "sigsnoop" && l.u64("sent") == 0), "{lines:?}");
        drop((timed, writer));
    }
}

/// As a mask in 32 bits, signals from 33 on are others.
#[test]
fn every_number_has_a_row_of_its_name() {
    let _alone = alone();
    let target = Target::new();
    let Some(mut tool) = watching(&[&target], "") else { return };
    let all = (1..=64).filter(|signal| ![libc::SIGKILL, libc::SIGSTOP].contains(signal));
    for signal in all.clone() {
        // SAFETY: a signal to a child of ours. Not by the C library, which keeps two of them back.
        done(unsafe { libc::syscall(libc::SYS_kill, target.0, signal) }).expect("sent");
    }
    let lines = tool.call().expect("a tick");
    let rows: Vec<_> = lines.iter().filter(|l| l.table == "sigsnoop").collect();
    let names: Vec<_> = rows.iter().map(|l| l.tag("sig")).collect();
    println!("{names:?}");
    assert_eq!(rows.len(), all.count());
    assert!(rows.iter().all(|l| l.tag("src") == "user" && l.u64("sent") == 1), "{rows:?}");
    for (signal, name) in
        [(1, "SIGHUP"), (15, "SIGTERM"), (31, "SIGSYS"), (32, "SIG32"), (34, "SIGRTMIN")]
    {
        let at = signal - 1 - usize::from(signal > 9) - usize::from(signal > 19);
        assert_eq!(names[at], name);
    }
    assert_eq!((names[32], *names.last().expect("rows")), ("SIGRTMIN+1", "SIGRTMIN+30"));
}

#[test]
fn a_signal_to_a_group_is_one_for_each_process() {
    let _alone = alone();
    let leader = Target::with(|| {
        // SAFETY: takes two numbers.
        unsafe { libc::setpgid(0, 0) };
    });
    let group = leader.0;
    let others = [(); 4].map(|()| {
        Target::with(|| {
            // SAFETY: takes two numbers.
            unsafe { libc::setpgid(0, group) };
        })
    });
    let mut all: Vec<&Target> = others.iter().collect();
    all.push(&leader);
    let Some(mut tool) = watching(&all, "") else { return };
    // SAFETY: a signal to children of ours.
    done(unsafe { libc::kill(-group, RT + 5) }.into()).expect("sent");
    let lines = tool.call().expect("a tick");
    assert_eq!(row(&lines, &rt(5), "user"), [5, 0, 0, 0, 0]);
}

/// Gives this thread a name while it does something.
fn named<T>(name: &[u8], act: impl FnOnce() -> T) -> T {
    let mut before = [0u8; 16];
    let name = CString::new(name).expect("no NUL");
    // SAFETY: the kernel reads a C string, and writes at most 16 bytes.
    unsafe {
        libc::prctl(libc::PR_GET_NAME, before.as_mut_ptr());
        libc::prctl(libc::PR_SET_NAME, name.as_ptr());
    }
    let done = act();
    // SAFETY: as above.
    unsafe { libc::prctl(libc::PR_SET_NAME, before.as_ptr()) };
    done
}

/// Whoever happens to run when a timer fires has sent nothing.
#[test]
fn a_sender_is_named_where_there_is_one() {
    let _alone = alone();
    let target = Target::new();
    let Some(mut tool) = watching(&[&target], r#","by":"comm""#) else { return };
    let mut all = Tool::init(r#"{"by":"comm"}"#).expect("as before");
    for name in [&b"sig a,b=c"[..], b"sig\nx", b"sig\xff", b"other"] {
        named(name, || (0..4).for_each(|_| target.kill(RT).expect("sent")));
    }
    named(b"sig-timer", || drop(Target::with(|| timer(RT + 1))));
    let comms = |tool: &mut Tool| {
        let lines = tool.call().expect("a tick");
        let rows = lines.iter().filter(|l| l.table == "sigsnoop_comm");
        rows.map(|l| (l.tag("comm").to_owned(), l.u64("sent"))).collect::<BTreeMap<_, _>>()
    };
    let names = ["sig a,b=c", "sig_x", "sig\u{fffd}", "other_"].map(|name| (name.to_owned(), 4));
    let (ours, all) = (comms(&mut tool), comms(&mut all));
    let others = [("other".to_owned(), 0)];
    assert_eq!(ours, names.clone().into_iter().chain(others).collect::<BTreeMap<_, _>>());
    // The kill that ends the process is ours, and the only one under that name.
    println!("{all:?}");
    assert_eq!(all.get("sig-timer"), Some(&1));
    assert!(names.iter().all(|(name, sent)| all.get(name) == Some(sent)));
}

/// A thread that is not the first of its process: the record of the tracepoint has its id alone.
#[test]
fn the_target_is_chosen_by_process_and_name_and_the_maps_are_small() {
    let _alone = alone();
    let (chosen, neighbour) = (Target::new(), Target::new());
    let before = map_bytes();
    let tool = Tool::init_or_skip(&format!(r#"{{"pid":[{}]}}"#, chosen.0));
    let Some(mut by_pid) = tool else { return };
    println!("{} bytes of maps on {} CPUs", map_bytes() - before, possible_cpus());
    assert!(map_bytes() - before <= 64 * 1024);
    let mut by_comm = Tool::init(r#"{"comm":["sig-chosen"]}"#).expect("as before");
    let mut own = Tool::init(&format!(r#"{{"pid":[{}]}}"#, std::process::id())).expect("as before");
    for tool in [&mut by_pid, &mut by_comm, &mut own] {
        tool.call().expect("a tick");
    }
    let thread = std::thread::spawn(|| {
        named(b"sig-chosen", || {
            block_all();
            // SAFETY: takes nothing; then a signal to this very thread, which blocks it.
            unsafe {
                let tid = libc::syscall(libc::SYS_gettid);
                libc::syscall(libc::SYS_tgkill, libc::getpid(), tid, RT + 3)
            }
        })
    });
    assert_eq!(thread.join().expect("no panic"), 0);
    chosen.kill(RT + 4).expect("sent");
    neighbour.kill(RT + 4).expect("sent");
    let rows = |tool: &mut Tool| {
        let lines = tool.call().expect("a tick");
        [3, 4].map(|n| row(&lines, &rt(n), "user")[0])
    };
    assert_eq!(rows(&mut by_pid), [0, 1]);
    assert_eq!(rows(&mut by_comm), [1, 0]);
    assert_eq!(rows(&mut own), [1, 0]);
}

#[test]
fn a_record_alone_cannot_tell_the_target() {
    let _alone = alone();
    only_kind("tp");
    let error = Tool::init(r#"{"pid":[1]}"#).err().expect("refused");
    assert!(format!("{error:#}").contains("no way by tp"), "{error:#}");
}
