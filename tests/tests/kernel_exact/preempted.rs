//! One CPU, a kernel that preempts wherever it can, and a program that it can preempt.

use super::books::Books;
use plugin_testing::Harness;
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use system_tests::exact::{ByCalled, Plugin};

/// What the program counts.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn exact_called(key: u32) {
    std::hint::black_box(key);
}

/// A kernel setting, set back when it is dropped.
struct Setting {
    path: &'static str,
    before: String,
}

impl Setting {
    fn set(path: &'static str, value: &str) -> Option<Self> {
        let before = fs::read_to_string(path).ok()?.trim().to_owned();
        fs::write(path, value).ok()?;
        Some(Self { path, before })
    }
}

impl Drop for Setting {
    fn drop(&mut self) {
        let _ = fs::write(self.path, &self.before);
    }
}

/// All of this process on the first CPU.
fn stay_on_one_cpu() {
    // SAFETY: a set of CPUs is plain bits, of which one is set; the kernel reads it.
    let stays = unsafe {
        let mut cpus: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(0, &mut cpus);
        libc::sched_setaffinity(0, size_of_val(&cpus), &raw const cpus)
    };
    assert_eq!(stays, 0);
}

fn calls_balance(options: &str) {
    let mut tool = Harness::<Plugin<ByCalled>>::init(options).expect("the tool attaches");
    let mut books = Books::new();
    let stop = AtomicBool::new(false);
    let call = || {
        stay_on_one_cpu();
        let mut made = 0u64;
        while !stop.load(Ordering::Relaxed) {
            exact_called((made & 1) as u32);
            made += 1;
        }
        made
    };
    books.made = std::thread::scope(|scope| {
        let callers = [scope.spawn(call), scope.spawn(call)];
        stay_on_one_cpu();
        for _ in 0..200 {
            books.tick(&mut tool);
        }
        stop.store(true, Ordering::Relaxed);
        vec![callers.map(|caller| caller.join().expect("no panic")).iter().sum()]
    });
    books.end(&mut tool);
    let (made, counted) = (books.made(), books.counted());
    println!("{options}: {made} calls = {counted} counted + {} missed", books.missed);
    assert_eq!(made, counted + books.missed + books.full + books.busy);
    assert!(counted > 0);
}

/// membarrier waits for nothing on one online CPU: 2,364 of 492,895 events were lost with it.
#[test]
fn a_preempted_program_on_one_cpu_loses_nothing() {
    // 5.10 has no preemption of programs, and stands still in the emulator after its CPU came back.
    let guest = std::env::var("COLLECTOR_DIST").is_ok_and(|dist| dist == "/opt/collector")
        && plugin_bpf::kernel_at_least(5, 15);
    let debugfs = std::process::Command::new("mount")
        .args(["-t", "debugfs", "debugfs", "/sys/kernel/debug"])
        .output();
    drop(debugfs); // mounted already, perhaps
    let mode = fs::read_to_string("/sys/kernel/debug/sched/preempt").unwrap_or_default();
    // The machine that the other tests of this run share keeps its CPUs and its mode.
    let preempt = guest.then(|| Setting::set("/sys/kernel/debug/sched/preempt", "full")).flatten();
    let cpu = guest.then(|| Setting::set("/sys/devices/system/cpu/cpu1/online", "0")).flatten();
    println!(
        "preemption: {} (was: {}); one CPU: {}",
        if preempt.is_some() { "full" } else { "as it was" },
        mode.trim(),
        if cpu.is_some() { "the only one" } else { "of this process" }
    );
    if guest {
        assert!(cpu.is_some(), "a guest's second CPU can be taken offline");
    }
    calls_balance(r#"{"pause":80}"#);
    calls_balance(r#"{"pause":80,"cut":"count"}"#);
}
