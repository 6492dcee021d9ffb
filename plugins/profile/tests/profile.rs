//! Programs that spin in functions of known names, under names that only this test has.

use plugin_api::Tick;
use plugin_bpf::{Running, possible_cpus};
use plugin_testing::cpu::{is_guest, is_left_to_others};
use plugin_testing::process::{Child, end_thread, rename};
use plugin_testing::terminal::Terminal;
use plugin_testing::unharmed::{self, Program};
use plugin_testing::{Harness, Line, Value, alone, map_bytes};
use profile::Profile;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::CStr;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};
use std::{fs, thread};

type Tool = Harness<Running<Profile>>;

/// Counts down in one place, with no frame around it: a stack of the calling function alone.
macro_rules! burn {
    ($n:expr, $other:literal) => {{
        #[cfg(target_arch = "x86_64")]
        // SAFETY: counts in a register, and leaves the frame pointer as it was.
        unsafe {
            std::arch::asm!("push rbp", "xor ebp, ebp", $other, ".balign 32", "2:", "dec {n}", "jnz 2b", "pop rbp", n = inout(reg) $n => _);
        }
        #[cfg(target_arch = "aarch64")]
        // SAFETY: as above.
        unsafe {
            std::arch::asm!("mov {f}, x29", "mov x29, xzr", $other, ".balign 32", "2:", "subs {n}, {n}, #1", "b.ne 2b", "mov x29, {f}",
                n = inout(reg) $n => _, f = out(reg) _);
        }
    }};
}

#[inline(never)]
fn sixty(n: u64) {
    burn!(n, ".balign 2"); // another function, not the same one twice
}

#[inline(never)]
fn forty(n: u64) {
    burn!(n, "");
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn a_function_of_c(n: u64) {
    burn!(n, "");
}

/// As a compiler of C++ names it.
#[unsafe(export_name = "_ZN5shape6Square4areaEv")]
#[inline(never)]
extern "C" fn a_function_of_cpp(n: u64) {
    burn!(n, "");
}

fn read_zeros() {
    let mut zeros = vec![0; 1 << 20];
    let mut file = fs::File::open("/dev/zero").expect("there");
    loop {
        std::io::Read::read_exact(&mut file, &mut zeros).expect("zeros");
    }
}

/// Code that no file has, which counts down its argument, and a list that names it.
fn compile() -> extern "C" fn(u64) {
    let code: &[u8] = if cfg!(target_arch = "x86_64") {
        // push rbp; xor ebp, ebp; dec rdi; jnz -5; pop rbp; ret
        &[0x55, 0x31, 0xed, 0x48, 0xff, 0xcf, 0x75, 0xfb, 0x5d, 0xc3]
    } else {
        // subs x0, x0, #1; b.ne -4; ret
        &[0x00, 0x04, 0x00, 0xf1, 0xe1, 0xff, 0xff, 0x54, 0xc0, 0x03, 0x5f, 0xd6]
    };
    let pid = std::process::id();
    // SAFETY: new memory, which the code fits into and which stays.
    unsafe {
        let rw = libc::PROT_READ | libc::PROT_WRITE;
        let private = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        let memory = libc::mmap(std::ptr::null_mut(), 4096, rw, private, -1, 0);
        assert_ne!(memory, libc::MAP_FAILED);
        std::ptr::copy_nonoverlapping(code.as_ptr(), memory.cast(), code.len());
        assert_eq!(libc::mprotect(memory, 4096, libc::PROT_READ | libc::PROT_EXEC), 0);
        let list = format!("{:x} {:x} LCompiled;::at_run_time\n", memory as usize, code.len());
        fs::write(format!("/tmp/perf-{pid}.map"), list).expect("written");
        std::mem::transmute::<*mut libc::c_void, extern "C" fn(u64)>(memory)
    }
}

/// CPU time of this thread.
fn cpu_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the time is written to ours.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Loops for about this much of a CPU.
fn loops(time: Duration) -> u64 {
    const N: u64 = 10_000_000;
    let began = cpu_ns();
    forty(N);
    let ns = (cpu_ns() - began).max(1);
    (u128::from(N) * time.as_nanos() / u128::from(ns)).max(1) as u64
}

/// A child that does something over and over until it is dropped.
struct Spinner(Option<Child>);

impl Spinner {
    fn new(name: &CStr, act: impl FnOnce()) -> Self {
        Self(Some(Child::fork(name, || {
            act();
            0
        })))
    }

    fn pid(&self) -> i32 {
        self.0.as_ref().expect("runs").pid
    }
}

impl Drop for Spinner {
    fn drop(&mut self) {
        if let Some(child) = self.0.take() {
            let pid = child.pid;
            child.kill(libc::SIGKILL);
            let _ = child.wait();
            let _ = fs::remove_file(format!("/tmp/perf-{pid}.map"));
        }
    }
}

fn one<'a>(lines: &'a [Line], table: &str) -> &'a Line {
    lines.iter().find(|l| l.table == table).unwrap_or_else(|| panic!("a line of {table}"))
}

/// Stacks by thread's name and the rest of their text, with their samples.
#[derive(Debug, Default)]
struct Stacks(BTreeMap<String, u64>);

impl Stacks {
    fn add(&mut self, lines: &[Line]) {
        for line in lines.iter().filter(|l| l.table == "profile_stack") {
            *self.0.entry(line.text("folded").to_owned()).or_default() += line.u64("samples");
        }
    }

    fn of(&self, comm: &str) -> Vec<(&str, u64)> {
        let of = self.0.iter().filter_map(|(text, samples)| {
            let (name, rest) = text.split_once(';').unwrap_or((text, ""));
            (name == comm).then_some((rest, *samples))
        });
        let mut stacks: Vec<_> = of.collect();
        stacks.sort_by_key(|(_, samples)| std::cmp::Reverse(*samples));
        stacks
    }
}

/// Ticks until each of these names has so many samples: others use the CPUs too.
fn gather(tool: &mut Tool, comms: &[&str], least: u64) -> (Stacks, Vec<Line>) {
    let mut stacks = Stacks::default();
    for _ in 0..30 {
        let lines = tick(tool, interval());
        stacks.add(&lines);
        if comms.iter().all(|comm| sum(&stacks.of(comm), |_| true) >= least) {
            return (stacks, lines);
        }
    }
    panic!("too few samples: {stacks:?}");
}

fn stacks(lines: &[Line]) -> Stacks {
    let mut stacks = Stacks::default();
    stacks.add(lines);
    stacks
}

fn sum(stacks: &[(&str, u64)], is: impl Fn(&str) -> bool) -> u64 {
    stacks.iter().filter(|(text, _)| is(text)).map(|(_, samples)| samples).sum()
}

/// A tick in which all names came in time: the first ones of a slow machine may not.
fn tick(tool: &mut Tool, time: Duration) -> Vec<Line> {
    for _ in 0..5 {
        thread::sleep(time);
        let lines = patient(tool);
        if one(&lines, "profile_lost").u64("unresolved_stacks") == 0 {
            return lines;
        }
        println!("names came too late");
    }
    panic!("names never come in time");
}

/// A tick that may wait for names as long as one of ten seconds.
fn patient(tool: &mut Tool) -> Vec<Line> {
    let time_ns = 1_700_000_000_000_000_000;
    tool.call_at(&Tick { seq: 1, time_ns, elapsed_ns: 10_000_000_000 }).expect("a tick")
}

/// Long enough for some samples.
fn interval() -> Duration {
    Duration::from_millis(if is_guest() { 1_000 } else { 600 })
}

#[test]
fn each_language_has_its_names() {
    let _alone = alone();
    let options = r#"{"frequency":399,"comm":["pf-c","pf-rust","pf-c++","pf-kernel","pf-jit","pf-leader"],"stacks":100}"#;
    let Some(mut tool) = Tool::init_or_skip(options) else { return };
    let _spinners = [
        Spinner::new(c"pf-c", || {
            loop {
                a_function_of_c(1_000_000)
            }
        }),
        Spinner::new(c"pf-rust", || {
            loop {
                forty(1_000_000)
            }
        }),
        Spinner::new(c"pf-c++", || {
            loop {
                a_function_of_cpp(1_000_000)
            }
        }),
        Spinner::new(c"pf-kernel", read_zeros),
        // Its first thread has ended, and with it what /proc/PID/maps shows.
        Spinner::new(c"pf-first", || {
            thread::spawn(|| {
                rename(c"pf-leader");
                loop {
                    a_function_of_c(1_000_000);
                }
            });
            end_thread(0)
        }),
        Spinner::new(c"pf-jit", || {
            let compiled = compile();
            loop {
                compiled(1_000_000)
            }
        }),
    ];
    let names = [
        ("pf-c", "a_function_of_c"),
        ("pf-rust", "profile::forty"),
        ("pf-c++", "shape::Square::area"),
        ("pf-kernel", "_[k]"),
        ("pf-jit", "LCompiled:::at_run_time"),
        ("pf-leader", "a_function_of_c"),
    ];
    // The first time there are many to look up, and an emulator is slow.
    tick(&mut tool, interval());
    let (stacks, _) = gather(&mut tool, &names.map(|(comm, _)| comm), 20);
    for (comm, name) in names {
        let stacks = stacks.of(comm);
        let all = sum(&stacks, |_| true);
        let named = match comm {
            "pf-kernel" => sum(&stacks, |text| text.ends_with(name) && text.contains("read")),
            // Interrupts of the kernel are above it now and then.
            _ => sum(&stacks, |text| text.split(';').any(|frame| frame == name)),
        };
        println!("{comm}: {named} of {all}: {:?}", stacks.first());
        assert!(named * 10 >= all * 8, "{comm}: {named} of {all}: {stacks:?}");
    }
}

#[test]
fn two_functions_have_their_shares() {
    let _alone = alone();
    let options = r#"{"frequency":999,"comm":["pf-share"]}"#;
    let Some(mut tool) = Tool::init_or_skip(options) else { return };
    let _spinner = Spinner::new(c"pf-share", || {
        let n = loops(Duration::from_millis(10));
        loop {
            sixty(3 * n);
            forty(2 * n);
        }
    });
    let (stacks, _) = gather(&mut tool, &["pf-share"], 300);
    let stacks = stacks.of("pf-share");
    let of = |name: &str| sum(&stacks, |text| text.contains(name)) as f64;
    let (a, b) = (of("profile::sixty"), of("profile::forty"));
    let all = a + b;
    println!("{a} and {b} of {}: {:.1} %", sum(&stacks, |_| true), 100.0 * a / all);
    // Four standard deviations of so many independent samples: one run in 16,000 fails by chance.
    let bound = 4.0 * (0.6 * 0.4 / all).sqrt();
    assert!((a / all - 0.6).abs() < bound, "{:.1} % within {:.1}", 100.0 * a / all, 100.0 * bound);
}

#[test]
fn every_sample_is_in_one_row_of_each_table() {
    let _alone = alone();
    let Some(mut tool) = Tool::init_or_skip(r#"{"frequency":199,"idle":true}"#) else { return };
    let _spinner = Spinner::new(c"pf;odd, name\n", || {
        loop {
            a_function_of_c(1_000_000)
        }
    });
    tool.call().expect("a tick");
    let began = Instant::now();
    for _ in 0..2 {
        thread::sleep(Duration::from_millis(700));
        let lines = tool.call().expect("a tick"); // whether names come in time or not
        let (all, lost) = (one(&lines, "profile"), one(&lines, "profile_lost"));
        let total = |table: &str| -> u64 {
            lines.iter().filter(|l| l.table == table).map(|l| l.u64("samples")).sum()
        };
        let busy = all.u64("user") + all.u64("kernel");
        assert_eq!(all.u64("samples"), busy + all.u64("idle") + lost.u64("dropped"));
        assert_eq!(total("profile_comm"), busy);
        assert_eq!(total("profile_stack"), busy + all.u64("idle"));
        let shares = lines.iter().filter(|l| l.table == "profile_comm");
        let shares: f64 = shares
            .map(|l| match l.get("share_percent") {
                Some(Value::F64(share)) => *share,
                other => panic!("{other:?}"),
            })
            .sum();
        assert!((shares - 100.0).abs() < 0.01, "{shares}");
        let hashes: Vec<_> = lines.iter().filter(|l| l.table == "profile_stack").collect();
        let different: BTreeSet<_> = hashes.iter().map(|l| l.tag("stack_hash")).collect();
        assert_eq!(different.len(), hashes.len());
        assert!(sum(&stacks(&lines).of("pf:odd, name_"), |_| true) > 0);
        println!("{} samples in {:?}", all.u64("samples"), began.elapsed());
    }
}

/// Its maps are read while it lives.
#[test]
fn a_process_that_has_ended_has_names() {
    let _alone = alone();
    let Some(mut tool) = Tool::init_or_skip(r#"{"frequency":199,"comm":["pf-gone"]}"#) else {
        return;
    };
    let n = loops(Duration::from_millis(if is_guest() { 1_500 } else { 500 }));
    // Its thread has read the kernel's list by now.
    tick(&mut tool, interval());
    let child = Child::fork(c"pf-gone", || {
        a_function_of_c(n);
        0
    });
    assert_eq!(child.wait(), 0);
    thread::sleep(interval());
    let lines = patient(&mut tool);
    let stacks = stacks(&lines);
    let stacks = stacks.of("pf-gone");
    println!("{stacks:?}");
    let named = sum(&stacks, |text| text.contains("a_function_of_c"));
    assert!(named > 10 && named * 10 >= sum(&stacks, |_| true) * 8, "{stacks:?}");
}

/// Signals, long jumps, exceptions, threads and forks.
#[test]
fn no_target_is_harmed_and_each_is_sampled() {
    let _alone = alone();
    if is_left_to_others() {
        return;
    }
    let mut cpp = Program::cpp("pf-watched");
    let (mut node, mut jvm) = (Program::node(), Program::jvm());
    let bash = Path::new("/bin/bash");
    let mut shell = bash.exists().then(|| Terminal::shell(bash));
    let pids = [&cpp, &node, &jvm].into_iter().flatten().map(Program::pid);
    let pids: Vec<_> = pids.chain(shell.as_ref().map(|shell| shell.pid.cast_unsigned())).collect();
    let options = format!(r#"{{"pid":{pids:?},"frequency":399,"stacks":1000}}"#);
    let Some(mut tool) = Tool::init_or_skip(&options) else { return };
    tick(&mut tool, interval());
    [&mut cpp, &mut node, &mut jvm].into_iter().flatten().for_each(Program::work);
    shell.iter_mut().for_each(unharmed::bash);
    let lines = tick(&mut tool, interval());
    let (stacks, all) = (stacks(&lines), rows(&lines));
    println!("{all:?}");
    // Each of the two spins for 200 ms, which are 80 samples.
    for (is_there, comm) in [(cpp.is_some(), "pf-watched"), (node.is_some(), "node")] {
        let spins = sum(&stacks.of(comm), |text| text.contains("spin"));
        println!("{comm}: {spins} of {:?}", all.get(comm));
        assert!(!is_there || spins > 40, "{comm}: {stacks:?}");
    }
    let of_java = all.iter().filter(|(comm, _)| comm.starts_with("Thread-") || *comm == "java");
    let of_java: u64 = of_java.map(|(_, samples)| samples).sum();
    assert!(jvm.is_none() || of_java > 0, "{all:?}");
    assert!(shell.is_none() || all["bash"] > 0, "{all:?}");
    [cpp, node, jvm].into_iter().flatten().for_each(Program::end);
    assert!(shell.is_none_or(|shell| shell.end().success()));
}

/// Samples by the thread's name.
fn rows(lines: &[Line]) -> BTreeMap<String, u64> {
    let rows = lines.iter().filter(|l| l.table == "profile_comm");
    rows.map(|l| (l.tag("comm").to_owned(), l.u64("samples"))).collect()
}

/// What [`a_stack_has_one_hash_in_all_processes`] starts, at other addresses each time.
#[test]
fn spins_when_told() {
    if std::env::var_os("PROFILE_SPINS").is_some() {
        rename(c"pf-aslr");
        loop {
            a_function_of_c(1_000_000);
        }
    }
}

#[test]
fn a_stack_has_one_hash_in_all_processes() {
    let _alone = alone();
    let Some(mut tool) = Tool::init_or_skip(r#"{"frequency":399,"comm":["pf-aslr"]}"#) else {
        return;
    };
    let mut hashes = BTreeSet::new();
    for _ in 0..2 {
        let start = || {
            let mut program = Command::new("/proc/self/exe");
            program
                .args(["--exact", "spins_when_told", "--test-threads=1"])
                .env("PROFILE_SPINS", "1");
            program.stdout(std::process::Stdio::null()).spawn().expect("this program")
        };
        let mut children = [start(), start()];
        let (gathered, lines) = gather(&mut tool, &["pf-aslr"], 40);
        for child in &mut children {
            child.kill().and_then(|()| child.wait()).expect("ended");
        }
        let text = "pf-aslr;a_function_of_c";
        let rows = lines.iter().filter(|l| l.table == "profile_stack" && l.text("folded") == text);
        let rows: Vec<_> = rows.collect();
        assert_eq!(rows.len(), 1, "{gathered:?}");
        hashes.insert(rows[0].tag("stack_hash").to_owned());
        tool.call().expect("the rest");
    }
    println!("{hashes:?}");
    assert_eq!(hashes.len(), 1);
}

#[test]
fn options_choose_what_is_seen_and_the_maps_are_as_small_as_it() {
    let _alone = alone();
    let spinner = Spinner::new(c"pf-chosen", || {
        loop {
            a_function_of_c(1_000_000)
        }
    });
    let _neighbour = Spinner::new(c"pf-neighbour", || {
        loop {
            a_function_of_c(1_000_000)
        }
    });
    let before = map_bytes();
    let options = format!(r#"{{"pid":[{}],"by":"cgroup","frequency":199}}"#, spinner.pid());
    let Some(mut tool) = Tool::init_or_skip(&options) else { return };
    let mut bare = Tool::init(r#"{"stacks":0,"by":""}"#).expect("as before");
    println!("{} bytes of both tools' maps", map_bytes() - before);
    let mut kernel = Tool::init(r#"{"user":false,"comm":["pf-chosen"]}"#).expect("as before");
    let (gathered, lines) = gather(&mut tool, &["pf-chosen"], 10);
    assert!(gathered.of("pf-neighbour").is_empty(), "{gathered:?}");
    assert_eq!(one(&lines, "profile").u64("idle"), 0);
    assert!(lines.iter().any(|l| l.table == "profile_cgroup" && l.tag("cgroup") != "other"));
    assert!(lines.iter().all(|l| l.table != "profile_comm"));
    let lines = bare.call().expect("a tick");
    assert!(one(&lines, "profile").u64("samples") > 10);
    assert!(lines.iter().all(|l| !["profile_comm", "profile_stack"].contains(&&*l.table)));
    let (gathered, _) = gather(&mut kernel, &["pf-chosen"], 10);
    let user = gathered.of("pf-chosen");
    assert!(sum(&user, str::is_empty) > 5, "no function, in the process's own code: {user:?}");
    assert_eq!(sum(&user, |text| text.contains("a_function")), 0, "{user:?}");
}

/// Where they take memory as they fill: a row of at most 1.1 KiB for each stack comes with it.
#[test]
fn maps_are_small_until_they_fill() {
    let _alone = alone();
    let before = map_bytes();
    let Some(_tool) = Tool::init_or_skip("{}") else { return };
    let bytes = map_bytes() - before;
    println!("{bytes} bytes of maps on {} CPUs", possible_cpus());
    // Before 6.4 a kernel says what full maps would take (map_mem_usage came then).
    let most = if plugin_bpf::kernel_at_least(6, 4) { 1 << 19 } else { 10 << 20 };
    assert!(bytes <= most, "{bytes}");
}

#[test]
fn options_out_of_range_are_refused() {
    for (options, words) in [
        (r#"{"frequency":0}"#, "frequency"),
        (r#"{"frequency":10001}"#, "frequency"),
        (r#"{"stacks":5001}"#, "stacks"),
        (r#"{"clock":"sundial"}"#, "cpu-clock"),
    ] {
        let error = format!("{:#}", Tool::init(options).err().expect("refused"));
        assert!(error.contains(words), "{error}");
    }
}

#[cfg(target_arch = "x86_64")]
mod many {
    use super::*;

    // Calls itself from one of two places by each bit of its first argument, as often as its second says,
    // and then counts down its third.
    std::arch::global_asm!(
        ".globl profile_test_walk",
        ".type profile_test_walk, @function",
        "profile_test_walk:",
        "push rbp",
        "mov rbp, rsp",
        "test esi, esi",
        "jz 4f",
        "dec esi",
        "mov eax, edi",
        "shr edi, 1",
        "test eax, 1",
        "jz 3f",
        "call profile_test_walk",
        "pop rbp",
        "ret",
        "3:",
        "call profile_test_walk",
        "pop rbp",
        "ret",
        "4:",
        "dec rdx",
        "jnz 4b",
        "pop rbp",
        "ret",
        ".size profile_test_walk, . - profile_test_walk",
    );
    unsafe extern "C" {
        fn profile_test_walk(bits: u32, depth: u32, loops: u64);
    }

    /// More different stacks in a tick than any program has.
    #[test]
    fn twenty_thousand_stacks_are_kept() {
        let _alone = alone();
        if is_guest() {
            println!("SKIPPED: an emulator takes too long for 20,000 samples");
            return;
        }
        let options = r#"{"frequency":9999,"comm":["pf-many"]}"#;
        let Some(mut tool) = Tool::init_or_skip(options) else { return };
        let before = map_bytes();
        let n = loops(Duration::from_micros(100));
        let child = |half: u32| {
            let walk = move || {
                for bits in half << 14..(half + 1) << 14 {
                    // SAFETY: uses its stack alone.
                    unsafe { profile_test_walk(bits, 15, n) };
                }
                0
            };
            Child::fork(c"pf-many", walk)
        };
        tool.call().expect("a tick");
        let children = [child(0), child(1)];
        for child in children {
            assert_eq!(child.wait(), 0);
        }
        println!("{} bytes of maps more", map_bytes().saturating_sub(before));
        let began = Instant::now();
        let lines = tool.call().expect("a tick");
        let (all, lost) = (one(&lines, "profile"), one(&lines, "profile_lost"));
        let maps = lines.iter().filter(|l| l.table == "collector_map");
        let keys = maps.filter(|l| l.tag("map") == "stacks").map(|l| l.u64("keys")).sum::<u64>();
        println!(
            "{} samples, {keys} stacks, lost {} stacks and {} samples, {:?}",
            all.u64("samples"),
            lost.u64("lost_stacks"),
            lost.u64("dropped"),
            began.elapsed()
        );
        assert!(keys >= 20_000, "{keys} stacks");
        assert!((lost.u64("lost_stacks") + lost.u64("dropped")) * 1_000 < keys);
    }
}
