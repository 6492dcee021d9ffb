//! Beside libbpf-tools, over the same seconds and load.

use influxdb_line_protocol::{FieldValue, parse_lines};
use rustix::thread::{CpuSet, sched_getcpu, sched_setaffinity};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A pair of threads that wake each other: some 100,000 switches per second. They share a CPU: where one
/// wakes the other on another CPU, libbpf-tools' runqlat counts some 5 % less than the kernel switches.
fn load(stop: &Arc<AtomicBool>) -> thread::JoinHandle<()> {
    let stop = Arc::clone(stop);
    thread::spawn(move || {
        let mut cpu = CpuSet::new();
        cpu.set(sched_getcpu());
        sched_setaffinity(None, &cpu).expect("a thread may stay where it is");
        let (ping, pinged) = channel();
        let (pong, ponged) = channel();
        let echo = thread::spawn(move || pinged.iter().all(|()| pong.send(()).is_ok()));
        while !stop.load(Ordering::Relaxed) {
            let _ = ping.send(());
            let _ = ponged.recv();
        }
        drop(ping);
        let _ = echo.join();
    })
}

/// Sleeps until the wall clock is a multiple of so many seconds.
fn until_multiple_of(seconds: u64) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    let period = Duration::from_secs(seconds).as_nanos();
    thread::sleep(Duration::from_nanos((period - now.as_nanos() % period) as u64));
}

/// So often they are compared, where the machine stands still while one of them begins or ends.
const ATTEMPTS: u32 = 3;

#[test]
fn runqlat_counts_what_libbpf_tools_runqlat_counts() {
    let apart: Vec<_> =
        (0..ATTEMPTS).map_while(|_| Some(compare()).filter(|apart| *apart > 0.05)).collect();
    assert!(apart.len() < ATTEMPTS as usize, "{apart:?}");
}

/// How far apart the counts are, of their count; as far as can be when there is none of ours.
fn compare() -> f64 {
    const SECONDS: u64 = 5;
    let dist = std::env::var("COLLECTOR_DIST").expect("run this by `cargo xtask test`");
    let stop = Arc::new(AtomicBool::new(false));
    let pair = load(&stop);
    let ours = Command::new(format!("{dist}/collector"))
        .args(["--only", "runqlat", "--interval", &format!("{SECONDS}s"), "--ticks", "3"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("the collector runs");
    // Ours ticks on multiples of the interval; theirs prints an interval after its start, so it is
    // started on one of ours. Its own loading shifts it by a few milliseconds.
    thread::sleep(Duration::from_secs(1));
    until_multiple_of(SECONDS);
    let begin = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    let theirs = Command::new("runqlat").args([&SECONDS.to_string(), "1"]).output();
    let theirs = theirs.expect("runqlat of libbpf-tools; `cargo xtask deps` installs it");
    let ours = ours.wait_with_output().expect("three ticks");
    stop.store(true, Ordering::Relaxed);
    pair.join().expect("no panic");

    let text = String::from_utf8_lossy(&theirs.stdout);
    let their_count: u64 = text
        .lines()
        .filter_map(|line| line.split_once("->")?.1.split(':').nth(1)?.split('|').next())
        .filter_map(|count| count.trim().parse::<u64>().ok())
        .sum();
    // The tick that ended the very interval which theirs began.
    let tick = (begin.as_secs() / SECONDS + 1) * SECONDS * 1_000_000_000;
    let text = String::from_utf8(ours.stdout).expect("text");
    let our_count = parse_lines(&text)
        .map(|line| line.expect("a line"))
        .filter(|l| l.series.measurement == "runqlat" && l.timestamp == Some(tick as i64))
        .find_map(|l| {
            l.field_set.iter().find(|(k, _)| k.as_str() == "count").and_then(|(_, v)| match v {
                FieldValue::I64(n) => Some(*n as u64),
                _ => None,
            })
        });
    let Some(our_count) = our_count else {
        println!("no tick at {tick}\n{text}");
        return 1.0;
    };
    let apart = our_count.abs_diff(their_count) as f64 / their_count as f64;
    println!("collector {our_count}, libbpf-tools {their_count}: {:.2} % apart", apart * 100.0);
    assert!(their_count > 10_000, "a load worth comparing");
    apart
}
