//! Perf events on every CPU, also while CPUs go offline and come back.

use super::{Lines, Tool};
use plugin_testing::cpu::{Switch, on_cpu, online};
use std::thread;
use std::time::{Duration, Instant};

/// How long each CPU is busy: tens of samples at 99 a second, also when it is shared.
const BUSY: Duration = Duration::from_millis(600);

/// Keeps every online CPU busy with a thread of its own.
fn busy() {
    let spin = || {
        let end = Instant::now() + BUSY;
        while Instant::now() < end {
            std::hint::spin_loop();
        }
    };
    thread::scope(|scope| {
        online().into_iter().for_each(|cpu| drop(scope.spawn(move || on_cpu(cpu, spin))));
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

#[test]
fn a_cpu_that_comes_back_is_sampled_again() {
    let switch = match Switch::find() {
        Ok(switch) => switch,
        Err(why) => return println!("SKIPPED: {why}"),
    };
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
