//! Perf events on every CPU, also while CPUs go offline and come back.

use super::{Lines, Tool};
use std::fs;
use std::thread;
use std::time::{Duration, Instant};

/// How long each CPU is busy: tens of samples at 99 a second, also when it is shared.
const BUSY: Duration = Duration::from_millis(600);
const SWITCH: &str = "/sys/devices/system/cpu/cpu1/online";

fn online() -> Vec<usize> {
    // SAFETY: zeros are an empty set, and the kernel fills it as far as it is long.
    let set = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        assert_eq!(libc::sched_getaffinity(0, size_of_val(&set), &mut set), 0);
        set
    };
    // SAFETY: only reads the set, below its length.
    (0..1024).filter(|cpu| unsafe { libc::CPU_ISSET(*cpu, &set) }).collect()
}

/// Keeps every online CPU busy with a thread of its own.
fn busy() {
    let spin = |cpu: usize| {
        // SAFETY: zeros are an empty set; the kernel only reads it.
        let stays = unsafe {
            let mut set: libc::cpu_set_t = std::mem::zeroed();
            libc::CPU_SET(cpu, &mut set);
            libc::sched_setaffinity(0, size_of_val(&set), &raw const set)
        };
        assert_eq!(stays, 0, "CPU {cpu}");
        let end = Instant::now() + BUSY;
        while Instant::now() < end {
            std::hint::black_box(cpu);
        }
    };
    thread::scope(|scope| {
        online().into_iter().for_each(|cpu| drop(scope.spawn(move || spin(cpu))));
    });
}

fn samples(lines: &Lines, cpu: usize) -> u64 {
    let of = |line: &&plugin_testing::Line| {
        line.table == "links_cpu" && line.tag("cpu") == cpu.to_string()
    };
    lines.0.iter().find(of).map_or(0, |line| line.u64("samples"))
}

fn links(lines: &Lines) -> usize {
    assert_eq!(lines.reason("sampled_perf"), None);
    usize::try_from(lines.state("sampled_perf").1).expect("a number of CPUs")
}

#[test]
fn every_online_cpu_is_sampled_and_the_event_is_named() {
    let mut tool = Tool::start(r#"{"what":"perf"}"#).expect("it attaches");
    let lines = tool.during(busy);
    let event = lines.program("sampled_perf").text("target");
    assert!(["cycles", "cpu-clock"].contains(&event), "{event}");
    assert_eq!(links(&lines), online().len());
    for cpu in online() {
        println!("{event}: {} samples on CPU {cpu}", samples(&lines, cpu));
        assert!(samples(&lines, cpu) > 0, "CPU {cpu}");
    }
}

/// Puts the CPU online again, also when an assertion fails.
struct Switch;

impl Switch {
    fn set(&self, on: bool) {
        fs::write(SWITCH, if on { "1" } else { "0" }).expect("the kernel switches it");
    }
}

impl Drop for Switch {
    fn drop(&mut self) {
        let _ = fs::write(SWITCH, "1");
    }
}

#[test]
fn a_cpu_that_comes_back_is_sampled_again() {
    let system = fs::read_to_string("/etc/os-release").unwrap_or_default();
    if !system.contains("ID=guest") {
        return println!(
            "SKIPPED: takes a CPU offline, which only a virtual machine of ours may do"
        );
    }
    if !plugin_bpf::kernel_at_least(5, 15) {
        return println!("SKIPPED: 5.10 stands still in the emulator after its CPU came back");
    }
    if !fs::exists(SWITCH).unwrap_or(false) {
        return println!("SKIPPED: {SWITCH} is missing: this kernel takes no CPU offline");
    }
    let switch = Switch;
    let mut tool = Tool::start(r#"{"what":"perf"}"#).expect("it attaches");
    assert_eq!(links(&tool.call()), 2);

    switch.set(false);
    let lines = tool.during(busy);
    assert_eq!((links(&lines), samples(&lines, 1)), (1, 0));
    assert!(samples(&lines, 0) > 0);

    switch.set(true);
    let lines = tool.during(busy);
    println!("online again: {} samples on CPU 1", samples(&lines, 1));
    assert_eq!(links(&lines), 2);
    assert!(samples(&lines, 0) > 0 && samples(&lines, 1) > 0);

    // Between two ticks, which no list of CPUs shows.
    switch.set(false);
    switch.set(true);
    let lines = tool.during(busy);
    println!("offline for a moment: {} samples on CPU 1", samples(&lines, 1));
    assert_eq!(links(&lines), 2);
    assert!(samples(&lines, 0) > 0 && samples(&lines, 1) > 0);

    // A tool that starts while a CPU is offline.
    drop(tool);
    switch.set(false);
    let mut tool = Tool::start(r#"{"what":"perf"}"#).expect("it attaches");
    assert_eq!(links(&tool.call()), 1);
    switch.set(true);
    let lines = tool.during(busy);
    assert_eq!(links(&lines), 2);
    assert!(samples(&lines, 1) > 0);
}
