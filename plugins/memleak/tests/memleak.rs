//! A program that allocates, frees and forgets known numbers of blocks (target.c).

use memleak::Memleak;
use plugin_api::Tick;
use plugin_bpf::{Running, only_kind};
use plugin_testing::cpu::{is_guest, is_left_to_others};
use plugin_testing::terminal::Terminal;
use plugin_testing::unharmed::{self, HELD, HELD_BYTES, Program};
use plugin_testing::{Folder, Harness, Line, alone, map_bytes, process};
use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

type Tool = Harness<Running<Memleak>>;

static TARGET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/target"));
static PREFIXED: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/prefixed.so"));
static STATIC: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/target_static"));

/// jemalloc and tcmalloc as Debian has them. The former has no prefix; the latter has its names without one, too.
const ALLOCATORS: [(&str, &str); 2] = [
    ("/usr/lib/x86_64-linux-gnu/libjemalloc.so.2", ""),
    ("/usr/lib/x86_64-linux-gnu/libtcmalloc_minimal.so.4", "tc_"),
];

/// How a call's return is asked for.
const WAYS: [&str; 2] = ["session", "uprobe"];

struct Target {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    _folder: Folder,
}

impl Target {
    fn new() -> Self {
        Self::of(TARGET)
    }

    fn of(program: &[u8]) -> Self {
        Self::with(program, None)
    }

    /// With a library in front of all others.
    fn with(program: &[u8], library: Option<&Path>) -> Self {
        let folder = Folder::new("memleak");
        let path = folder.at("target");
        process::executable(&path, program);
        let mut child = start(&path, library);
        let (input, output) = (child.stdin.take(), child.stdout.take().expect("piped"));
        let mut target = Self { child, input, output: BufReader::new(output), _folder: folder };
        target.run("wait", 0); // it has mapped its libraries
        target
    }

    fn pid(&self) -> u32 {
        self.child.id()
    }

    fn tell(&mut self, command: &str, n: u64) {
        let input = self.input.as_mut().expect("it runs");
        input.write_all(format!("{command} {n}\n").as_bytes()).expect("it reads");
    }

    /// Lets it do something, and waits until it is done; what it says.
    fn run(&mut self, command: &str, n: u64) -> String {
        self.tell(command, n);
        let mut line = String::new();
        self.output.read_line(&mut line).expect("it writes");
        assert!(line.ends_with(&format!("{command}\n")), "{command}: {line:?}");
        line
    }

    /// Lets it end by itself: whatever was done to it, it is still alive.
    fn end(&mut self) {
        drop(self.input.take());
        let status = self.child.wait().expect("our child");
        assert!(status.success(), "{status}");
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The file may still be open for writing in a child that another test is just starting.
fn start(path: &Path, library: Option<&Path>) -> Child {
    let mut command = Command::new(path);
    command.envs(library.map(|library| ("LD_PRELOAD", library)));
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    loop {
        match command.spawn() {
            Err(error) if error.raw_os_error() == Some(libc::ETXTBSY) => std::thread::yield_now(),
            child => return child.expect("it starts"),
        }
    }
}

/// The tool on a process, in the best way that works here.
fn best_way(options: &str, test: impl FnMut(Target, Tool)) {
    in_ways(&[None], options, test);
}

/// The same in each way that works here. The kernel takes a while to detach the second one.
fn each_way(options: &str, test: impl FnMut(Target, Tool)) {
    in_ways(&WAYS.map(Some), options, test);
}

fn in_ways(ways: &[Option<&'static str>], options: &str, mut test: impl FnMut(Target, Tool)) {
    let _alone = alone();
    let mut worked = 0;
    for way in ways {
        let target = Target::new();
        way.iter().for_each(|way| only_kind(way));
        let way = way.unwrap_or("the best way");
        match Tool::init(&format!(r#"{{"pid":{},"stacks":100{options}}}"#, target.pid())) {
            Ok(mut tool) => {
                println!("by {way}");
                tick(&mut tool);
                worked += 1;
                test(target, tool);
            }
            Err(error) => println!("not by {way}: {error:#}"),
        }
    }
    assert!(worked > 0, "no way works here");
}

/// A tick that may wait for names as long as one of twenty seconds.
fn tick(tool: &mut Tool) -> Vec<Line> {
    let time_ns = 1_700_000_000_000_000_000;
    tool.call_at(&Tick { seq: 1, time_ns, elapsed_ns: 20_000_000_000 }).expect("a tick")
}

/// The only line of a table.
fn line<'a>(lines: &'a [Line], table: &str) -> &'a Line {
    let mut of = lines.iter().filter(|line| line.table == table);
    let line = of.next().unwrap_or_else(|| panic!("no {table} in {lines:?}"));
    assert!(of.next().is_none(), "{table} twice");
    line
}

fn fields<const N: usize>(lines: &[Line], table: &str, names: [&str; N]) -> [u64; N] {
    names.map(|name| line(lines, table).u64(name))
}

/// allocs, frees, outstanding, outstanding_bytes.
fn sums(lines: &[Line]) -> [u64; 4] {
    // The lines of stacks have exactly what the line of all has.
    let of_stacks = |field| -> u64 {
        let stacks = lines.iter().filter(|line| line.table == "memleak_stack");
        stacks.map(|line| line.u64(field)).sum()
    };
    let all = fields(lines, "memleak", ["allocs", "frees", "outstanding", "outstanding_bytes"]);
    assert_eq!([of_stacks("outstanding"), of_stacks("outstanding_bytes")], all[2..]);
    all
}

/// What was lost, by field; those that are 0 are left out.
fn lost(lines: &[Line]) -> BTreeMap<String, u64> {
    let line = line(lines, "memleak_lost");
    let fields = line.fields.keys().filter(|field| *field != "interval_ns");
    let fields = fields.map(|field| (field.clone(), line.u64(field)));
    fields.filter(|(_, n)| *n > 0).collect()
}

fn nothing() -> BTreeMap<String, u64> {
    BTreeMap::new()
}

fn only(field: &str, n: u64) -> BTreeMap<String, u64> {
    BTreeMap::from([(field.to_owned(), n)])
}

/// Blocks of a size, and those of them whose stack ends in a function.
fn of_size(lines: &[Line], size: u64, function: &str) -> (u64, u64) {
    let rows = lines.iter().filter(|l| l.table == "memleak_stack" && l.u64("outstanding") > 0);
    let rows = rows.filter(|l| l.u64("outstanding_bytes") == size * l.u64("outstanding"));
    rows.fold((0, 0), |(all, named), row| {
        let count = row.u64("outstanding");
        let is_named = row.get("folded").is_some() && row.text("folded").ends_with(function);
        (all + count, named + if is_named { count } else { 0 })
    })
}

#[test]
fn blocks_that_threads_forget_in_three_places_are_counted_by_stack() {
    each_way("", |mut target, mut tool| {
        target.run("threads", 1000);
        let lines = tick(&mut tool);
        // Those of pthread_create too.
        let [allocs, frees, outstanding, bytes] = sums(&lines);
        assert!((4000..4050).contains(&allocs), "{allocs}");
        assert!((1000..1050).contains(&frees), "{frees}");
        assert_eq!(outstanding, allocs - frees);
        assert!(bytes >= 1000 * (100 + 1000 + 10_000), "{bytes}");
        let lost = lost(&lines);
        // On a kernel that preempts programs, more of them than there is memory for may take a stack on one CPU.
        let lost_stacks = lost.get("lost_stacks").copied().unwrap_or(0);
        // The C library frees what it keeps for a thread when that ends.
        let known = ["lost_stacks", "nested", "untracked_frees"];
        assert!(lost_stacks < 10 && lost.keys().all(|key| known.contains(&&**key)), "{lost:?}");
        for (size, function) in
            [(100, "first_place"), (1000, "second_place"), (10_000, "third_place")]
        {
            let (all, named) = of_size(&lines, size, function);
            assert!(all <= 1000 && all + lost_stacks >= 1000, "{size}: {all}");
            assert!(named + lost_stacks >= 1000, "{size}: {named} in {function}\n{lines:#?}");
        }
        target.end();
    });
}

#[test]
fn a_realloc_is_a_free_and_an_allocation_unless_it_fails() {
    each_way("", |mut target, mut tool| {
        target.run("grow", 100);
        let lines = tick(&mut tool);
        assert_eq!(sums(&lines), [1300, 1200, 100, 30_000]);
        assert_eq!(fields(&lines, "memleak", ["failed"]), [100]);
        assert_eq!(lost(&lines), nothing());
        // Every other by realloc(block, 0), within which the C library calls free().
        target.run("free", 100);
        let lines = tick(&mut tool);
        assert_eq!(sums(&lines), [0, 100, 0, 0]);
        assert_eq!(lost(&lines), only("nested", 50));

        target.run("kinds", 64);
        let lines = tick(&mut tool);
        let text = "a string is the C library's to allocate".len() as u64 + 1;
        assert_eq!(sums(&lines), [9, 0, 9, 8 * 64 + text]);
        assert_eq!(fields(&lines, "memleak", ["failed"]), [3]);
        let nested = lost(&lines).remove("nested");
        assert!(nested >= Some(1), "memalign() of 16 bytes calls malloc(): {nested:?}");
        target.end();
    });
}

#[test]
fn mappings_are_the_process_s_own_and_blocks_are_not_counted_twice() {
    best_way("", |mut target, mut tool| {
        target.run("map", 100);
        let lines = tick(&mut tool);
        // mmap, malloc, mremap; free, mremap, munmap of every other.
        assert_eq!(sums(&lines), [300, 250, 50, 50 * 16_384]);
        assert_eq!(fields(&lines, "memleak", ["failed"]), [1]);
        assert_eq!(lost(&lines), nothing());
        target.end();
    });
}

#[test]
fn a_child_s_frees_are_not_its_parent_s_and_signals_do_no_harm() {
    best_way("", |mut target, mut tool| {
        target.run("keep", 100);
        let lines = tick(&mut tool);
        assert_eq!(sums(&lines), [100, 0, 100, 50_000]);
        target.run("fork", 3);
        let lines = tick(&mut tool);
        assert_eq!(sums(&lines), [0, 0, 100, 50_000]);
        target.run("free", 100);
        target.run("signals", 3000);
        let lines = tick(&mut tool);
        assert_eq!(sums(&lines), [3000, 3100, 0, 0]);
        assert_eq!(lost(&lines), only("nested", 50));
        target.end();
    });
}

#[test]
fn a_call_that_a_longjmp_leaves_costs_its_own_count_alone() {
    best_way(r#","prefix":"hook_""#, |mut target, mut tool| {
        // The trampoline is known from the first tick after a call on.
        target.run("jump", 2);
        let before = sums(&tick(&mut tool))[2];
        target.run("jump", 2);
        let before = before.max(sums(&tick(&mut tool))[2]);
        target.run("jump", 100);
        let lines = tick(&mut tool);
        assert_eq!(sums(&lines), [200, 100, before + 100, (before + 100) * 44]);
        let lost = lost(&lines);
        assert!((99..=101).contains(&lost["unended"]), "{lost:?}");
        target.end();
    });
}

#[test]
fn what_a_program_held_is_gone_when_it_executes_another_and_told_when_it_ends() {
    best_way("", |mut target, mut tool| {
        target.run("keep", 50);
        let lines = tick(&mut tool);
        assert_eq!(sums(&lines), [50, 0, 50, 25_000]);
        target.tell("exec", 0);
        target.run("keep", 10);
        let lines = tick(&mut tool);
        assert_eq!(sums(&lines), [10, 0, 10, 5000]);
        assert_eq!(lost(&lines).remove("ended"), Some(50));
        assert_eq!(of_size(&lines, 500, "keep"), (10, 10), "{lines:#?}");
        // Its mappings are told from the allocator's again.
        target.run("map", 2);
        let lines = tick(&mut tool);
        assert_eq!(sums(&lines), [6, 5, 11, 5000 + 16_384]);

        target.end();
        let lines = tick(&mut tool);
        assert_eq!(sums(&lines), [0, 0, 11, 5000 + 16_384]);
        assert_eq!(
            line(&lines, "memleak").get("running"),
            Some(&plugin_testing::Value::Bool(false))
        );
        assert_eq!(lost(&lines), only("ended", 11));
        let lines = tick(&mut tool);
        assert_eq!(sums(&lines), [0, 0, 0, 0]);
    });
}

#[test]
fn a_full_table_is_counted_and_frees_of_what_is_not_tracked_too() {
    best_way(r#","allocations":1024"#, |mut target, mut tool| {
        target.run("keep", 3000);
        let lines = tick(&mut tool);
        let [allocs, frees, held, _] = sums(&lines);
        assert!(held >= 1024 && (allocs, frees) == (held, 0), "{held}");
        assert_eq!(lost(&lines), only("dropped", 3000 - held));
        target.run("free", 3000);
        let lines = tick(&mut tool);
        let [allocs, frees, outstanding, _] = sums(&lines);
        assert_eq!([allocs, frees, outstanding], [0, held, 0]);
        // One within realloc(block, 0) is not counted.
        let untracked = lost(&lines)["untracked_frees"];
        assert!(untracked <= 3000 - held && untracked >= (3000 - held) / 2 - 1, "{untracked}");
        target.end();
    });
}

#[test]
fn a_sample_stands_for_all_and_small_blocks_can_be_left_out() {
    best_way(r#","sample":5,"min_size":"500""#, |mut target, mut tool| {
        target.run("keep", 4000);
        target.run("grow", 10); // in other places of `kept`, of which the first 10 are forgotten
        let lines = tick(&mut tool);
        let held = sums(&lines)[2];
        // 4000, within six standard deviations of 126.
        assert!((3240..4760).contains(&held) && held.is_multiple_of(5), "{held}");
        let lost = lost(&lines);
        assert!(lost.keys().all(|key| key == "untracked_frees" || key == "nested"), "{lost:?}");
        target.end();
    });
}

/// Does something to a process under the tool; what the lines say then, while it lives.
fn under_the_tool(pid: u32, act: impl FnOnce()) -> Option<Vec<Line>> {
    let options = format!(r#"{{"pid":{pid},"stacks":1000,"max_stacks":16384}}"#);
    let since = Instant::now();
    let mut tool = Tool::init_or_skip(&options)?;
    tick(&mut tool);
    let attached = since.elapsed();
    act();
    let lines = tick(&mut tool);
    let [allocs, frees, outstanding, _] = sums(&lines);
    println!(
        "{}: {allocs} blocks, {frees} freed; {attached:?} to attach, {:?} with it",
        line(&lines, "memleak").tag("target"),
        since.elapsed()
    );
    assert_eq!(allocs - frees, outstanding + lost(&lines).get("ended").copied().unwrap_or(0));
    Some(lines)
}

/// Signals, long jumps, exceptions, threads and forks.
#[test]
fn no_target_is_harmed_and_what_it_holds_is_told() {
    let _alone = alone();
    if is_left_to_others() {
        return;
    }
    let held = (HELD, HELD_BYTES);
    if let Some(mut cpp) = Program::cpp("watched") {
        if let Some(lines) = under_the_tool(cpp.pid(), || cpp.work()) {
            assert_eq!(of_size(&lines, held.1, ";forget"), (held.0, held.0), "{lines:#?}");
        }
        cpp.end();
    }
    if is_guest() {
        return; // there are no such programs
    }
    for mut other in Program::node().into_iter().chain(Program::jvm()) {
        if let Some(lines) = under_the_tool(other.pid(), || other.work()) {
            let of_all = of_size(&lines, held.1, "").0;
            assert_eq!(of_all, held.0, "{lines:#?}");
        }
        other.end();
    }
    let mut shell = Terminal::shell("/bin/bash".as_ref());
    let pid = shell.pid.cast_unsigned();
    if let Some(lines) = under_the_tool(pid, || unharmed::bash(&mut shell)) {
        // All that it allocates has the same stack: it has no frame pointers.
        let rows = lines.iter().filter(|l| l.table == "memleak_stack");
        let rows = rows.filter(|l| l.text("folded").ends_with(";xmalloc"));
        let bytes: u64 = rows.map(|l| l.u64("outstanding_bytes")).sum();
        let known = unharmed::BASH_HELD * unharmed::BASH_HELD_BYTES;
        assert!((known..known + unharmed::BASH_HELD_BYTES).contains(&bytes), "{bytes}: {lines:#?}");
    }
    assert!(shell.end().success());
}

/// By the prefix of its allocator's names.
fn prefixed(target: &Target, prefix: &str) -> Option<Tool> {
    let pid = target.pid();
    let options = format!(r#"{{"pid":{pid},"stacks":100,"mappings":false,"prefix":"{prefix}"}}"#);
    let mut tool = Tool::init_or_skip(&options)?;
    tick(&mut tool);
    Some(tool)
}

#[test]
fn another_allocator_is_found_by_its_library_or_by_the_prefix_of_its_names() {
    let _alone = alone();
    let folder = Folder::new("prefixed");
    let library = folder.write("libjemalloc.so.2", PREFIXED);
    let mut target = Target::with(TARGET, Some(&library));
    let Some(mut tool) = prefixed(&target, "je_") else { return };
    target.run("prefixed", 100);
    let lines = tick(&mut tool);
    // malloc, calloc, realloc, twice mallocx, rallocx, and three of alignments.
    assert_eq!(sums(&lines), [900, 700, 200, 74_000]);
    assert_eq!(of_size(&lines, (100 + 640) / 2, ";prefixed"), (200, 200));
    assert_eq!(lost(&lines), nothing());
    drop(tool);
    target.end();
}

#[test]
fn jemalloc_and_tcmalloc_are_found() {
    let _alone = alone();
    if is_left_to_others() {
        return;
    }
    for (library, prefix) in ALLOCATORS {
        if !Path::new(library).exists() {
            println!("SKIPPED: there is no {library}");
            continue;
        }
        let mut target = Target::with(TARGET, Some(library.as_ref()));
        let Some(mut tool) = prefixed(&target, prefix) else { return };
        target.run("grow", 100);
        target.run("loop", 50);
        let lines = tick(&mut tool);
        assert_eq!(sums(&lines), [1350, 1250, 100, 30_000], "{library}, {prefix:?}");
        assert_eq!(fields(&lines, "memleak", ["failed"]), [100], "{library}, {prefix:?}");
        assert_eq!(of_size(&lines, 300, ";grow"), (100, 100), "{library}, {prefix:?}");
        assert_eq!(lost(&lines), nothing(), "{library}, {prefix:?}");
        drop(tool);
        target.end();
    }
}

#[test]
fn a_static_program_is_its_own_allocator() {
    let _alone = alone();
    let mut target = Target::of(STATIC);
    let options = format!(r#"{{"pid":{}}}"#, target.pid());
    let Some(mut tool) = Tool::init_or_skip(&options) else { return };
    tick(&mut tool);
    target.run("keep", 100);
    target.run("map", 2);
    let lines = tick(&mut tool);
    assert_eq!(sums(&lines), [102, 2, 100, 50_000]);
    assert_eq!(of_size(&lines, 500, "keep"), (100, 100), "{lines:#?}");
    let mib = map_bytes() as f64 / f64::from(1 << 20);
    println!("maps: {mib:.2} MiB");
    target.end();
}

fn refused(options: &str) -> String {
    match Tool::init(options) {
        Ok(_) => panic!("{options} was taken"),
        Err(error) => format!("{error:#}"),
    }
}

#[test]
fn what_cannot_be_looked_at_is_refused_with_what_to_do() {
    let _alone = alone();
    let target = Target::new();
    let pid = target.pid();
    let name = b".note.gnu.property\0";
    let mut go = TARGET.to_vec();
    let at = go.windows(name.len()).position(|window| window == name).expect("a section's name");
    go[at..at + name.len()].copy_from_slice(b".note.go.buildid\0\0\0");
    let go = Target::of(&go);
    for (options, words) in [
        (r#"{"pid":4194304}"#.to_owned(), "pid = 4194304: no such process"),
        (
            format!(r#"{{"pid":{pid},"prefix":"zz_"}}"#),
            "defines zz_malloc and zz_free; `nm -D FILE`",
        ),
        (format!(r#"{{"pid":{pid},"library":"libz"}}"#), "free and begins with `libz`"),
        (
            format!(r#"{{"pid":{pid},"kernel":true}}"#),
            "`pid` and `kernel = true` exclude each other",
        ),
        (format!(r#"{{"pid":{}}}"#, go.pid()), "a program in Go"),
    ] {
        let reason = refused(&options);
        assert!(reason.contains(words), "{options}: {reason}");
    }
    let mut tool = Tool::init("{}").expect("nothing to look at is no failure");
    let lines = tick(&mut tool);
    assert_eq!(line(&lines, "memleak").tag("target"), "none");
    assert_eq!((sums(&lines), lost(&lines)), ([0; 4], nothing()));
}

/// A tick whose stacks have names: the kernel's list of functions takes an emulated machine some seconds.
fn named(tool: &mut Tool) -> Vec<Line> {
    let since = Instant::now();
    loop {
        let lines = tick(tool);
        if !lost(&lines).contains_key("unresolved_stacks") {
            return lines;
        }
        assert!(since.elapsed().as_secs() < 60, "no names");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// What the kernel holds for eventfds.
fn of_eventfds(lines: &[Line]) -> Vec<u64> {
    let rows = lines.iter().filter(|l| l.table == "memleak_stack" && l.get("folded").is_some());
    let rows = rows.filter(|l| l.text("folded").contains("eventfd"));
    rows.map(|l| l.u64("outstanding")).collect()
}

#[test]
fn the_kernel_s_own_allocations_are_counted_by_stack() {
    const N: u64 = 500;
    let _alone = alone();
    let mut worked = false;
    for way in ["btf", "raw"] {
        only_kind(way);
        let mut tool = match Tool::init(r#"{"kernel":true,"stacks":2000}"#) {
            Ok(tool) => tool,
            Err(error) => {
                println!("not by {way}: {error:#}");
                continue;
            }
        };
        worked = true;
        let lines = named(&mut tool);
        println!("{way}: {:?}, {:?}", sums(&lines), lost(&lines));
        // SAFETY: a call with numbers.
        let open: Vec<i32> = (0..N).map(|_| unsafe { libc::eventfd(0, 0) }).collect();
        assert!(open.iter().all(|fd| *fd >= 0));
        let lines = named(&mut tool);
        let held = of_eventfds(&lines);
        // Its own memory, and that of its file; some of it perhaps by an other path now and then.
        assert!(held.contains(&N), "{held:?}\n{lines:#?}");
        // SAFETY: closes descriptors of ours.
        open.iter().for_each(|fd| _ = unsafe { libc::close(*fd) });
        // Files are freed a grace period later.
        let since = Instant::now();
        while of_eventfds(&named(&mut tool)).contains(&N) {
            assert!(since.elapsed().as_secs() < 20, "what was closed is held");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
    if !worked {
        println!("SKIPPED: no tracepoint of the kernel's allocators can be attached");
    }
}
