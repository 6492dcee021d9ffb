//! Hard interrupts that this test causes, beside the kernel's own counts in /proc/interrupts.

use hardirqs::Hardirqs;
use plugin_bpf::{Running, only_kind, possible_cpus};
use plugin_testing::{
    Harness, Line, RawProgram, alone, counts, cpu, drive, map_bytes, missed, ways,
};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

type Tool = Harness<Running<Hardirqs>>;

const WAYS: &[&str] = &["btf", "raw", "tp"];
/// What a handler answers.
const IRQ_NONE: u64 = 0;
const IRQ_HANDLED: u64 = 1;
/// A line that no machine has, and two handlers without a readable name.
const LINE: u64 = 7_777;
const HANDLERS: [u64; 2] = [0x1000, 0x2000];

fn rows(lines: &[Line]) -> impl Iterator<Item = &Line> {
    lines.iter().filter(|l| l.table == "hardirqs")
}

fn count(lines: &[Line], irq: &str) -> u64 {
    rows(lines).filter(|l| l.tag("irq") == irq).map(|l| l.u64("count")).sum()
}

/// With those that the handler answered with IRQ_NONE, as a serial line does now and then.
fn calls(lines: &[Line], irq: &str) -> u64 {
    count(lines, irq)
        + rows(lines).filter(|l| l.tag("irq") == irq).map(|l| l.u64("none")).sum::<u64>()
}

fn lost(lines: &[Line]) -> &Line {
    lines.iter().find(|l| l.table == "hardirqs_lost").expect("a line")
}

/// Interrupts of each kind that can be caused here.
fn interrupts() {
    drive::calls(200);
    drive::timers(100);
    devices();
}

/// A disk where there is one, else the terminal of the machine's console.
fn devices() {
    assert!(drive::disk(200) || drive::console(50), "no device that can be made to interrupt");
}

/// The handler of a device, as both the kernel and the tool name it; several devices may have one name.
fn is_plain(name: &str) -> bool {
    !name.contains(", ") && name.starts_with(|c: char| c.is_ascii_lowercase())
}

#[test]
fn every_way_counts_what_proc_interrupts_counts() {
    let _alone = alone();
    for (kind, mut tool) in ways::<Running<Hardirqs>>(only_kind, WAYS, r#"{"queues":true}"#) {
        let (lines, meanwhile) = counts::meanwhile(&mut tool, counts::interrupts, interrupts);
        let skipped = missed(&lines) + lost(&lines).u64("unmatched") + lost(&lines).u64("unended");
        let mut busy = 0;
        let mut check = |names: &[&str], ours: &[&str]| {
            let bounds = meanwhile.of(names);
            let count: u64 = ours.iter().map(|name| calls(&lines, name)).sum();
            println!("{kind}: {names:?}: {count} of {bounds:?}");
            assert!(
                count + skipped >= *bounds.start() && count <= *bounds.end(),
                "{kind}: {names:?}"
            );
            busy += u64::from(count > 0);
        };
        for name in meanwhile.names().filter(|name| is_plain(name)) {
            check(&[name], &[name]);
        }
        check(&["LOC"], &["local_timer"]);
        check(&["RES"], &["reschedule"]);
        check(&["CAL"], &["call_function", "call_function_single"]);
        check(&["IWI"], &["irq_work"]);
        assert!(busy >= 3, "{kind}: timer, calls and a device");
        assert!(count(&lines, "call_function") + count(&lines, "call_function_single") >= 100);
        assert_eq!(lost(&lines).u64("dropped") + lost(&lines).u64("unnamed"), 0, "{kind}");
        if kind != "tp" {
            assert_eq!(skipped, 0, "{kind}: {:?}", lost(&lines));
        }
    }
}

/// The tool with its raw_tp programs, to be run by hand. All tests share one: an emulator may not survive that the
/// kernel patches tracepoints of interrupts too often.
struct ByHand {
    tool: Tool,
    entry: RawProgram,
    exit: RawProgram,
}

impl ByHand {
    /// For a test that begins with a tick; `None` where raw_tp does not work.
    fn begin() -> Option<MutexGuard<'static, Self>> {
        static SHARED: LazyLock<Option<Mutex<ByHand>>> = LazyLock::new(|| {
            only_kind("raw");
            let tool = Tool::init(r#"{"vectors":false}"#);
            let tool = tool.map_err(|error| println!("raw_tp: {error:#}")).ok()?;
            let [entry, exit] = ["entry_raw", "exit_raw"].map(RawProgram::of);
            Some(Mutex::new(ByHand { tool, entry, exit }))
        });
        let Some(shared) = &*SHARED else {
            println!("SKIPPED: raw_tp does not work here");
            return None;
        };
        let mut begun = shared.lock().unwrap_or_else(PoisonError::into_inner);
        begun.tool.call().expect("a tick");
        Some(begun)
    }

    fn run(&self, handler: u64, answer: u64) {
        self.entry.run(&[LINE, handler]);
        self.exit.run(&[LINE, handler, answer]);
    }
}

/// Handlers on a shared line: each is called, one handles. Real interrupts may come between a begin and an
/// end of ours, which then is one without the other, and counted as that.
#[test]
fn a_handler_that_answers_irq_none_is_apart() {
    let _alone = alone();
    let Some(mut hand) = ByHand::begin() else { return };
    const CALLS: u64 = 1_000;
    cpu::on_cpu(cpu::online()[0], || {
        for _ in 0..CALLS {
            hand.run(HANDLERS[0], IRQ_NONE);
            hand.run(HANDLERS[1], IRQ_HANDLED);
        }
    });
    let lines = hand.tool.call().expect("a tick");
    let row = rows(&lines).find(|l| l.tag("irq") == "irq 7777").expect("a row");
    let between = lost(&lines).u64("unmatched");
    println!("{} handled, {} not, {between} torn", row.u64("count"), row.u64("none"));
    assert!(row.u64("count") <= CALLS && row.u64("none") <= CALLS);
    assert!(row.u64("count") + row.u64("none") + between >= 2 * CALLS);
    assert!(row.u64("count") > CALLS / 2 && row.u64("none") > CALLS / 2);
    assert!(row.get("none_us").is_some());
}

#[test]
fn an_end_without_a_begin_is_no_run() {
    let _alone = alone();
    let Some(mut hand) = ByHand::begin() else { return };
    cpu::on_cpu(cpu::online()[0], || {
        hand.entry.run(&[LINE, HANDLERS[0]]);
        hand.run(HANDLERS[0], IRQ_HANDLED);
        (0..2).for_each(|_| hand.exit.run(&[LINE, HANDLERS[0], IRQ_HANDLED]));
    });
    let lines = hand.tool.call().expect("a tick");
    assert!(count(&lines, "irq 7777") <= 1, "{lines:?}");
    assert!(lost(&lines).u64("unended") >= 1 && lost(&lines).u64("unmatched") >= 2);
}

/// bcc keeps 256 names, and says nothing of those beyond.
#[test]
fn handlers_beyond_the_room_are_counted() {
    let _alone = alone();
    let Some(mut hand) = ByHand::begin() else { return };
    const HANDLERS: u64 = 20_000;
    cpu::on_cpu(cpu::online()[0], || {
        (1..=HANDLERS).for_each(|handler| hand.run(handler << 4, IRQ_HANDLED));
    });
    let lines = hand.tool.call().expect("a tick");
    let shown: u64 = rows(&lines).map(|l| l.u64("count")).sum();
    let lost = lost(&lines);
    println!("{shown} shown, {lost:?}");
    assert!(lost.u64("dropped") > 0 && lost.u64("unnamed") > 0);
    assert!(shown + lost.u64("dropped") + lost.u64("unmatched") >= HANDLERS, "{shown} {lost:?}");
    assert!(rows(&lines).count() <= 21);
}

#[test]
fn queues_are_one_row_unless_asked_and_vectors_are_left_out_when_asked() {
    let _alone = alone();
    let names = |options: &str| {
        let mut tool = Tool::init(options).expect("it attaches");
        tool.call().expect("a tick");
        interrupts();
        let lines = tool.call().expect("a tick");
        assert_eq!(count(&lines, "local_timer") + count(&lines, "call_function"), 0);
        assert_eq!(lines.iter().filter(|l| l.table == "collector_program").count(), 2);
        rows(&lines).map(|l| l.tag("irq").to_owned()).collect::<Vec<_>>()
    };
    let (folded, each) =
        (names(r#"{"vectors":false}"#), names(r#"{"vectors":false,"queues":true}"#));
    println!("{folded:?} {each:?}");
    let queue =
        |name: &str| name.rsplit_once(['.', '-']).is_some_and(|(_, n)| n.parse::<u32>().is_ok());
    assert!(!folded.iter().any(|name| queue(name)), "{folded:?}");
    if drive::disk(0) {
        assert!(each.iter().any(|name| queue(name)), "{each:?}");
    } else {
        println!("SKIPPED: no device with queues here");
    }
}

#[test]
fn by_cpu_the_rows_add_up_to_the_interrupts_and_the_maps_are_small() {
    let _alone = alone();
    let before = map_bytes();
    let mut tool = Tool::init(r#"{"by":"cpu"}"#).expect("it attaches");
    tool.call().expect("a tick");
    interrupts();
    let lines = tool.call().expect("a tick");
    let by_cpu = || lines.iter().filter(|l| l.table == "hardirqs_cpu");
    let sum: u64 = by_cpu().map(|l| l.u64("count")).sum();
    assert_eq!(sum, rows(&lines).map(|l| l.u64("count")).sum::<u64>(), "one cut");
    assert_eq!(lost(&lines).u64("dropped_cpus"), 0);
    let (bytes, cpus) = (map_bytes() - before, u64::from(possible_cpus()));
    println!("{bytes} bytes of maps on {cpus} CPUs");
    assert!(bytes * 2 <= cpus * 512 * 1024, "0.5 MiB on two CPUs, here with one map more");
    for cpu in cpu::online() {
        let timer = |l: &&Line| l.tag("irq") == "local_timer" && l.tag("cpu") == cpu.to_string();
        assert!(by_cpu().any(|l| timer(&l) && l.u64("count") > 0), "CPU {cpu}");
    }
}

/// But for what happens while the CPU is on its way in or out: its tracepoints are silent then.
#[test]
fn a_cpu_that_goes_and_comes_back_is_counted() {
    let _alone = alone();
    let mut tool = Tool::init("{}").expect("it attaches");
    let switch = match cpu::Switch::find() {
        Ok(switch) => switch,
        Err(why) => return println!("SKIPPED: {why}"),
    };
    let (lines, meanwhile) = counts::meanwhile(&mut tool, counts::interrupts, || {
        interrupts();
        switch.set(false);
        devices();
        switch.set(true);
        interrupts();
    });
    for (name, ours) in [("LOC", "local_timer"), ("RES", "reschedule"), ("IWI", "irq_work")] {
        let (bounds, count) = (meanwhile.of(&[name]), count(&lines, ours));
        println!("{name}: {count} of {bounds:?}");
        assert!(count + 50 >= *bounds.start() && count <= *bounds.end(), "{name}");
    }
    assert!(count(&lines, "local_timer") > 100);
    assert!(lost(&lines).u64("unmatched") + lost(&lines).u64("unended") <= 4, "{lines:?}");
}
