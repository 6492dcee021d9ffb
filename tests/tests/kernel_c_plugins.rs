//! C plugins as authors for unity write them, built by bpfso.mk, on every kernel: their numbers, to the last event.

use c_plugins::{Folder, Ran};
use plugin_bpf::ObjectFile;
use plugin_bpf::maps::{Array, Hash};
use std::path::Path;

/// What the host did: a number of its line `expected`.
fn expected(ran: &Ran, what: &str) -> f64 {
    ran.sum("expected", what)
}

/// Whether a count is that of what was done, less what the kernel skipped: `missed` counts the calls of others too.
fn check(ran: &Ran, counted: f64) {
    let (all, missed) = (expected(ran, "syscalls"), ran.sum("missed", "runs"));
    assert!(
        counted <= all && all - counted <= missed,
        "{counted} of {all}, {missed} missed: {}",
        ran.text()
    );
    if missed > 0.0 {
        println!("{counted} of {all} counted, {missed} runs missed by the kernel");
    }
}

/// Prints why this kernel is not asked. It has kprobes, or the plugin's error says what is missing.
fn lacks_kprobes(ran: &Ran) -> bool {
    if Path::new("/sys/bus/event_source/devices/kprobe").exists() {
        return false;
    }
    assert!(!ran.is_ok() && ran.text().contains("cannot attach"), "{}", ran.text());
    println!("SKIPPED: no kprobes in this kernel");
    true
}

#[test]
fn the_sample_of_the_guide_counts_every_show() {
    let folder = Folder::new("guide");
    for plugin in [c_plugins::BPFSAMPLE, c_plugins::CSAMPLE] {
        let ran = folder.run(plugin, &["--calls", "3", "--reads", "50"]);
        if lacks_kprobes(&ran) {
            return;
        }
        assert!(ran.is_ok(), "{}", ran.text());
        let table = if ran.lines("csample").is_empty() { "bpfsample" } else { "csample" };
        let shows = expected(&ran, "shows");
        assert!(shows >= 50.0, "{}", ran.text());
        assert_eq!(ran.sum(table, "value"), shows, "{}", ran.text());
        assert_eq!(ran.lines(table).len(), 3, "{}", ran.text());
    }
}

#[test]
fn a_thread_reads_every_event_of_a_perf_buffer() {
    let folder = Folder::new("push");
    let ran =
        folder.run(c_plugins::PERF_EVENTS, &["--calls", "3", "--syscalls", "5000", "--again"]);
    assert!(ran.is_ok(), "{}", ran.text());
    let (events, lost) = (ran.sum("perf_events", "events"), ran.sum("perf_events_lost", "events"));
    println!("{events} events, {lost} lost");
    check(&ran, events + lost);
    assert_eq!(ran.lines("perf_events").len() as f64, events, "each of them a line");
    assert!(events > 0.0 && ran.text().matches("plugin uninstall.").count() == 2);
}

#[test]
fn a_source_with_macros_of_its_own_and_untyped_maps_runs_and_stops() {
    let folder = Folder::new("macros");
    let words = ["--calls", "3", "--syscalls", "2000", "--every", "1"];
    let ran = folder.run(c_plugins::OWNMACROS, &[&words[..], &["--again"]].concat());
    assert!(ran.is_ok(), "{}", ran.text());
    check(&ran, ran.sum("ownmacros", "dltnum"));
    let ran = folder.run(c_plugins::COOLOBJECT, &words);
    assert!(ran.is_ok(), "{}", ran.text());
    assert!(ran.text().contains("has no map `perfs`; it has calls perf"), "{}", ran.text());
    check(&ran, ran.sum("coolobject", "events"));
}

#[test]
fn a_histogram_of_coolbpf_counts_every_value() {
    let folder = Folder::new("hist");
    let ran = folder.run(c_plugins::HIST, &["--calls", "4", "--syscalls", "20000", "--every", "1"]);
    assert!(ran.is_ok(), "{}", ran.text());
    check(&ran, ran.sum("hist", "p3"));
}

/// Two threads, read every millisecond. What the guide's way loses is shown, not asserted: it may be nothing.
#[test]
fn exact_pieces_lose_nothing_under_load() {
    let folder = Folder::new("exact");
    let words = ["--calls", "200", "--syscalls", "50000", "--every", "0", "--threads", "4"];
    let ran = folder.run(c_plugins::EXACT, &words);
    assert!(ran.is_ok(), "{}", ran.text());
    let sum = |field| ran.sum("exact", field);
    let all = sum("kept");
    check(&ran, all);
    println!("TABLE: C: {all} events: read and zeroed {}, exact {}", sum("zeroed"), sum("table"));
    for field in ["counters", "table", "histogram"] {
        assert_eq!(sum(field), all, "{field}");
    }
    let missed = ran.lines("exact").pop().expect("a line");
    let missed =
        missed.rsplit_once("missed_sum=").expect("a field").1.parse::<f64>().expect("a number");
    assert!(missed <= ran.sum("missed", "runs"), "{}", ran.text());
    assert_eq!(sum("few") + sum("few_lost"), all, "two keys fit");
    assert_eq!(sum("again"), 0.0, "a table is taken once");
    assert_eq!(sum("histogram_sum"), (all * 2500.0 / 1000.0).floor(), "remainders are kept");
    let lines = ran.lines("exact");
    assert!(lines.iter().any(|line| line.contains(",max=2,")), "{lines:?}");
}

#[test]
fn objects_are_used_by_name_and_mistakes_say_what_there_is() {
    let folder = Folder::new("object");
    folder.file("shows.bpf.o", c_plugins::SHOWS);
    folder.file("unlicensed.bpf.o", c_plugins::UNLICENSED);
    folder.file("proprietary.bpf.o", c_plugins::PROPRIETARY);
    let ran = folder.run(c_plugins::OBJECT, &["--calls", "3", "--syscalls", "1000"]);
    assert!(ran.is_ok(), "{}", ran.text());
    let last = ran.lines("object").pop().expect("a line");
    let (enters, exits) = last.split_once(",exits=").expect("a field");
    let enters = enters.strip_prefix("object enters=").expect("a field");
    check(&ran, enters.parse().expect("a number"));
    check(&ran, exits.parse().expect("a number"));
    let says = |what: &str| {
        let mut lines = ran.lines("mistake");
        lines.retain(|line| line.contains(&format!("what={what} ")));
        lines.pop().expect("a mistake")
    };
    let shows = ["enters", "exits", "process"];
    assert!(shows.iter().all(|map| says("map").contains(map)), "{}", says("map"));
    assert!(says("program").contains("on_enter (raw_tp/sys_enter), on_exit (raw_tp/sys_exit)"));
    assert!(says("file").contains("shows.bpf.o") && says("file").contains("errno=2"));
    assert!(says("format").contains("no BPF object"), "{}", says("format"));
    assert!(says("none").contains("says no licence"), "{}", says("none"));
    assert!(says("licence").contains("`Proprietary` is not compatible"), "{}", says("licence"));

    let path = |name: &str| folder.path().join(name);
    let mut shows = ObjectFile::load(path("shows.bpf.o")).expect("it loads");
    let process = shows.read("process", Array::<u32>::of).expect("a map");
    process.update(0, &std::process::id()).expect("written");
    shows.attach_all().expect("both attach");
    // SAFETY: takes and touches nothing. By number, for libc may answer without a system call.
    (0..100).for_each(|_| _ = unsafe { libc::syscall(libc::SYS_getppid) });
    let enters = shows.read("enters", Array::<u64>::of).expect("a map");
    assert_eq!(enters.lookup(0).expect("read"), Some(100), "one thread misses nothing");
    let mut exits = 0;
    let map = shows.read("exits", Hash::<u32, u64>::of).expect("a map");
    map.for_each(|_, n: u64| exits += n).expect("read");
    assert_eq!(exits, 100);
    assert_eq!(shows.map("exits").expect("a map").key_size(), 4);

    let text = |error: plugin_api::Error| format!("{error:#}");
    let error = text(shows.map("entries").map(|_| ()).expect_err("no map"));
    assert!(error.contains("its maps are: ") && error.contains("enters"), "{error}");
    let error = text(shows.attach("on_open").expect_err("no program"));
    assert!(error.contains("on_enter (raw_tp/sys_enter), on_exit (raw_tp/sys_exit)"), "{error}");
    let error = text(ObjectFile::load(path("show.bpf.o")).map(|_| ()).expect_err("no file"));
    assert!(error.contains("proprietary.bpf.o, shows.bpf.o, unlicensed.bpf.o"), "{error}");
    let error =
        text(ObjectFile::load(path("unlicensed.bpf.o")).map(|_| ()).expect_err("no licence"));
    assert!(error.contains("says no licence"), "{error}");
    let error = text(ObjectFile::load(path("proprietary.bpf.o")).map(|_| ()).expect_err("refused"));
    assert!(error.contains("`Proprietary` is not compatible"), "{error}");
    let wrong = shows.read("enters", Array::<u32>::of).map(|_| ()).expect_err("another size");
    assert!(text(wrong).contains("values of 8 bytes"));
}

#[test]
fn lines_at_all_limits_and_threads_that_push_need_no_bpf() {
    let folder = Folder::new("limits");
    let ran = folder.run(c_plugins::THREADS, &["--calls", "3"]);
    assert!(ran.is_ok(), "{}", ran.text());
    assert_eq!(ran.lines("pushed"), ["pushed value1=1,log=\"hello world.\""]);
    assert!(ran.text().contains("proc: /") && ran.text().contains("thread plugin uninstall"));
    let full = ran.lines("abcdefghijklmnopqrstuvwxyz01234").pop().expect("the last line");
    assert!(
        full.contains(",index0000000003=index0000000003 ") && full.contains("value0000000031=31")
    );
    assert!(full.contains("index=0123456789abcde,"), "{full}");
}
