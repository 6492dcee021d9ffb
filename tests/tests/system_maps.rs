//! What the lines say of the kernel memory of maps is what the kernel says of the descriptors that the collector holds.

use collector::read::Line;
use plugin_testing::held;
use std::collections::BTreeMap;
use std::fs;
use std::process::Command;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use system_tests::family::children;
use system_tests::running::{Home, Running, dist, tools};
use system_tests::waits::lines;

/// How many maps, and their bytes.
type Maps = (u64, u64);

/// What a process holds, each map once.
fn maps(pid: u32) -> Maps {
    let maps = held(pid, "map_id:");
    (maps.len() as u64, maps.into_values().sum())
}

/// The processes of plugins, by their names.
fn processes(collector: u32) -> BTreeMap<String, u32> {
    let named = children(collector).into_iter().filter_map(|pid| {
        let words = fs::read_to_string(format!("/proc/{pid}/cmdline")).ok()?;
        Some((words.split('\0').next()?.strip_prefix("collector/")?.to_owned(), pid))
    });
    named.collect()
}

/// Starts all tools, all in processes of their own or all in the collector's.
fn start(home: &Home, isolation: &str) -> Running {
    let file = home.path("lines").display().to_string();
    let file = format!("[[output]]\nkind = \"file\"\npath = \"{file}\"\n");
    let sections = tools().into_iter();
    let sections = sections.map(|name| format!("[plugin.{name}]\nisolation = \"{isolation}\"\n"));
    home.start(&format!("interval = \"1s\"\n{file}{}", sections.collect::<String>()))
}

/// The first line of each plugin, once each has a state.
fn first_lines(home: &Home) -> Option<BTreeMap<String, Line>> {
    let states = lines(home, "collector_plugin");
    let is_known = |name: &String| {
        let state = states.iter().rfind(|line| line.tag("plugin") == name);
        state.is_some_and(|line| ["running", "failed", "quarantined"].contains(&line.text("state")))
    };
    if !tools().iter().all(is_known) {
        return None;
    }
    let mut first = BTreeMap::new();
    for line in lines(home, "collector_bpf") {
        first.entry(line.tag("plugin").to_owned()).or_insert(line);
    }
    // A C plugin has no such line.
    let running = |line: &&Line| line.u64("state_code") == 0 && line.tag("plugin") != "csample";
    let mut running = states.iter().filter(running).map(|line| line.tag("plugin"));
    running.all(|name| first.contains_key(name)).then_some(first)
}

#[test]
fn of_each_tool_all_maps_are_counted_and_each_once() {
    let home = Home::with_tools();
    let mut collector = start(&home, "process");
    let pid = collector.pid().as_raw_nonzero().get().unsigned_abs();
    // What each process held at which time: some maps grow with their keys.
    let mut seen: BTreeMap<String, Vec<(i64, Maps)>> = BTreeMap::new();
    let mut first = None;
    collector.wait_until("the first lines of all tools", |_| {
        let first_there = first_lines(&home);
        for (name, pid) in processes(pid) {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
            seen.entry(name).or_default().push((now.as_millis() as i64, maps(pid)));
        }
        let done = first.is_some(); // a look after the last line
        first = first.take().or(first_there);
        done
    });
    let (mut exact, mut said_bytes) = (0, 0);
    for (name, line) in first.expect("waited for") {
        let said = (line.u64("maps"), line.u64("map_bytes"));
        let tick_ms = line.time_ns / 1_000_000;
        // The last look before the tick that is not of its start, and those soon after it.
        let near = seen[&name].iter().filter(|(at, _)| (tick_ms..tick_ms + 1000).contains(at));
        let near: Vec<Maps> = near.map(|(_, maps)| *maps).collect();
        let counts = near.iter().map(|(count, _)| *count);
        assert!(
            !near.is_empty() && counts.clone().all(|n| n == said.0),
            "{name}: {said:?} {near:?}"
        );
        let bytes = near.iter().map(|(_, bytes)| *bytes);
        let (least, most) = (bytes.clone().min().expect("some"), bytes.max().expect("some"));
        let is_still = least == most;
        exact += u32::from(is_still && said.1 == least);
        println!("{name}: {} maps of {} bytes; the kernel: {least} to {most}", said.0, said.1);
        // Keys come and go in the very call that tells of them.
        assert!(said.1 * 10 >= least * 9 && said.1 * 9 <= most * 10, "{name}");
        said_bytes += said.1;
    }
    assert!(exact >= 10, "{exact} tools whose maps stay as they are");
    let named = lines(&home, "collector_bpf").into_iter().map(|line| line.tag("plugin").to_owned());
    assert!(!named.into_iter().any(|name| name == "csample"), "nothing is known of a C plugin");
    drop(collector);

    // `collector check` looks at the descriptors too.
    let output = Command::new(dist().join("collector")).arg("check").output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let (_, after) = said.split_once(" MiB resident, ").unwrap_or_else(|| panic!("{said}"));
    let mib: f64 = after.split(' ').next().and_then(|n| n.parse().ok()).expect("a number");
    let lines_mib = said_bytes as f64 / f64::from(1 << 20);
    println!(
        "TABLE: {exact} tools exactly; all maps: {lines_mib:.2} MiB by the lines, {mib} by `check`"
    );
    assert!((mib - lines_mib).abs() < 0.1 + lines_mib / 10.0);
}

#[test]
fn tools_in_one_process_say_together_what_it_holds() {
    let home = Home::with_tools();
    let mut collector = start(&home, "none");
    let pid = collector.pid().as_raw_nonzero().get().unsigned_abs();
    let mut first = None;
    collector.wait_until("the first lines of all tools", |_| {
        first = first_lines(&home);
        first.is_some()
    });
    thread::sleep(Duration::from_millis(100));
    let lines = first.expect("waited for").into_values();
    let said = lines.map(|line| (line.u64("maps"), line.u64("map_bytes")));
    let said = said.fold((0, 0), |sum, maps| (sum.0 + maps.0, sum.1 + maps.1));
    let held = maps(pid);
    println!("{said:?} by the lines, {held:?} by the kernel");
    assert_eq!(said.0, held.0, "no map is left out, none counts twice");
    assert!(said.1 * 10 >= held.1 * 9 && said.1 * 9 <= held.1 * 10, "what grows has grown");
}
