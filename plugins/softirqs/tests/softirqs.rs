//! Soft interrupts that this test causes, beside the kernel's own counts in /proc/softirqs.

use plugin_bpf::{Running, only_kind, possible_cpus};
use plugin_testing::{
    Harness, Line, RawProgram, alone, counts, cpu, drive, map_bytes, missed, ways,
};
use softirqs::Softirqs;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

type Tool = Harness<Running<Softirqs>>;

const WAYS: &[&str] = &["btf", "raw", "tp"];
/// The number of a kind.
const HI: u64 = 0;

fn of<'a>(lines: &'a [Line], table: &'a str, vec: &'a str) -> &'a Line {
    let of = |l: &&Line| l.table == table && l.tag("vec") == vec;
    lines.iter().find(of).unwrap_or_else(|| panic!("a line of {vec} in {lines:?}"))
}

fn lost(lines: &[Line]) -> &Line {
    lines.iter().find(|l| l.table == "softirqs_lost").expect("a line")
}

/// All kinds at once, in each way: what the kernel counted, the tool counted; and every run has a delay, or
/// nobody saw it raised.
#[test]
fn every_way_counts_what_proc_softirqs_counts() {
    let _alone = alone();
    for (kind, mut tool) in ways::<Running<Softirqs>>(only_kind, WAYS, r#"{"delay":true}"#) {
        let (lines, meanwhile) =
            counts::meanwhile(&mut tool, counts::softirqs, || drive::packets(2_000));
        let skipped = missed(&lines) + lost(&lines).u64("unmatched") + lost(&lines).u64("unended");
        for vec in meanwhile.names() {
            let (bounds, count) = (meanwhile.of(&[vec]), of(&lines, "softirqs", vec).u64("count"));
            println!("{kind}: {vec}: {count} of {bounds:?}");
            assert!(count + skipped >= *bounds.start() && count <= *bounds.end(), "{kind}: {vec}");
        }
        assert!(of(&lines, "softirqs", "net_rx").u64("count") >= 1_000, "{kind}");
        if kind != "tp" {
            assert_eq!(skipped, 0, "{kind}: {:?}", lost(&lines));
        }
        let sum = |table| -> u64 {
            lines.iter().filter(|l| l.table == table).map(|l| l.u64("count")).sum()
        };
        let (runs, delays) = (sum("softirqs"), sum("softirqs_delay"));
        let unraised = lost(&lines).u64("unraised");
        println!("{kind}: {runs} runs, {delays} delays, {unraised} unraised");
        // Begins and ends of the same runs, but for one under way on each CPU at each tick.
        let apart = missed(&lines) + 2 * cpu::online().len() as u64;
        assert!(runs.abs_diff(delays + unraised) <= apart, "{kind}");
        assert!(of(&lines, "softirqs_delay", "net_rx").u64("count") >= 1_000, "{kind}");
        assert!(unraised * 10 <= runs, "{kind}: {unraised} of {runs}");
    }
}

/// The tool with its raw_tp programs, to be run by hand. All tests share one: an emulator may not survive that the
/// kernel patches tracepoints of interrupts too often.
struct ByHand {
    tool: Tool,
    raise: RawProgram,
    entry: RawProgram,
    exit: RawProgram,
    /// Real ones of the kind `hi` until now.
    others: u64,
}

impl ByHand {
    /// For a test that begins with a tick; `None` where raw_tp does not work.
    fn begin() -> Option<MutexGuard<'static, Self>> {
        static SHARED: LazyLock<Option<Mutex<ByHand>>> = LazyLock::new(|| {
            only_kind("raw");
            let tool = Tool::init(r#"{"delay":true}"#);
            let tool = tool.map_err(|error| println!("raw_tp: {error:#}")).ok()?;
            let [raise, entry, exit] = ["raise_raw", "entry_raw", "exit_raw"].map(RawProgram::of);
            Some(Mutex::new(ByHand { tool, raise, entry, exit, others: 0 }))
        });
        let Some(shared) = &*SHARED else {
            println!("SKIPPED: raw_tp does not work here");
            return None;
        };
        let mut begun = shared.lock().unwrap_or_else(PoisonError::into_inner);
        begun.others = counts::softirqs()["hi"];
        begun.tool.call().expect("a tick");
        Some(begun)
    }

    /// The lines of what was done since, and how many others there were.
    fn lines(&mut self) -> (Vec<Line>, u64) {
        let lines = self.tool.call().expect("a tick");
        (lines, counts::softirqs()["hi"] - self.others)
    }

    fn run(&self) {
        [self.entry, self.exit].iter().for_each(|program| program.run(&[HI]));
    }
}

/// The kind `hi` is used by next to nobody, so that the numbers are ours alone.
#[test]
fn what_was_caused_is_counted_to_the_event() {
    let _alone = alone();
    let Some(mut hand) = ByHand::begin() else { return };
    let cpus = cpu::online();
    cpus.iter().for_each(|cpu| cpu::on_cpu(*cpu, || (0..1_000).for_each(|_| hand.run())));
    let (lines, others) = hand.lines();
    let (line, ours) = (of(&lines, "softirqs", "hi"), 1_000 * cpus.len() as u64);
    assert!((ours..=ours + others).contains(&line.u64("count")), "{line:?} and {others} others");
    assert!(line.u64("max_us") <= line.u64("sum_us") + 1 && line.get("p99_us").is_some());
}

/// A begin that is forgotten would make the next end a giant, as in tools that leave the old time there.
#[test]
fn ends_without_a_begin_and_begins_without_an_end_are_counted_as_such() {
    let _alone = alone();
    let Some(mut hand) = ByHand::begin() else { return };
    cpu::on_cpu(cpu::online()[0], || {
        hand.entry.run(&[HI]); // never ends
        hand.run();
        (0..5).for_each(|_| hand.exit.run(&[HI]));
        // A kind of a later kernel.
        [hand.entry, hand.exit].iter().for_each(|program| program.run(&[10]));
    });
    let (lines, others) = hand.lines();
    if others > 0 {
        return println!("SKIPPED: somebody uses `hi`");
    }
    assert_eq!(of(&lines, "softirqs", "hi").u64("count"), 1);
    let lost = lost(&lines);
    assert_eq!((lost.u64("unended"), lost.u64("unmatched"), lost.u64("unknown")), (1, 5, 2));
}

/// Raised anew before it runs, it waits since the first time; raised while it runs, for the next run.
#[test]
fn the_delay_is_from_the_first_raise_to_the_begin() {
    let _alone = alone();
    let Some(mut hand) = ByHand::begin() else { return };
    cpu::on_cpu(cpu::online()[0], || {
        hand.raise.run(&[HI]);
        std::thread::sleep(Duration::from_millis(20));
        hand.raise.run(&[HI]);
        hand.entry.run(&[HI]);
        hand.raise.run(&[HI]);
        hand.exit.run(&[HI]);
        hand.run();
        hand.run(); // raised by nobody
    });
    let (lines, others) = hand.lines();
    if others > 0 {
        return println!("SKIPPED: somebody uses `hi`");
    }
    assert_eq!(of(&lines, "softirqs", "hi").u64("count"), 3);
    let delay = of(&lines, "softirqs_delay", "hi");
    assert_eq!(delay.u64("count"), 2, "{delay:?}");
    assert!(delay.u64("max_us") >= 20_000, "{delay:?}");
    assert!(delay.u64("sum_us") < 10_000_000_000, "a negative delay would be huge: {delay:?}");
    assert!(lost(&lines).u64("unraised") >= 1);
}

#[test]
fn by_cpu_the_rows_add_up_to_the_kinds() {
    let _alone = alone();
    let mut tool = Tool::init(r#"{"by":"cpu"}"#).expect("it attaches");
    tool.call().expect("a tick");
    let cpus = cpu::online();
    cpus.iter().for_each(|cpu| cpu::on_cpu(*cpu, || drive::packets(500)));
    let lines = tool.call().expect("a tick");
    let by_cpu = || lines.iter().filter(|l| l.table == "softirqs_cpu");
    let sum = |lines: &mut dyn Iterator<Item = &Line>| lines.map(|l| l.u64("count")).sum::<u64>();
    assert_eq!(
        sum(&mut by_cpu()),
        sum(&mut lines.iter().filter(|l| l.table == "softirqs")),
        "one cut"
    );
    assert_eq!(lost(&lines).u64("dropped_cpus"), 0);
    for cpu in cpus {
        let of_cpu = |l: &&Line| l.tag("vec") == "net_rx" && l.tag("cpu") == cpu.to_string();
        let row = by_cpu().find(of_cpu).unwrap_or_else(|| panic!("a row of CPU {cpu}"));
        assert!(row.u64("count") >= 250, "{row:?}");
    }
    assert_eq!(by_cpu().filter(|l| l.tag("vec") == "other" && l.tag("cpu") == "other").count(), 1);
}

/// A hard interrupt in the midst of a soft one, and soft ones behind a hard one, are no begin or end of it.
#[test]
fn hard_interrupts_within_soft_ones_disturb_nothing() {
    let _alone = alone();
    let mut tool = Tool::init("{}").expect("it attaches");
    let (lines, meanwhile) = counts::meanwhile(&mut tool, counts::softirqs, || {
        // Timers fire while packets are received.
        std::thread::scope(|scope| {
            scope.spawn(|| drive::timers(200));
            drive::packets(3_000);
        });
    });
    assert_eq!((lost(&lines).u64("unmatched"), lost(&lines).u64("unended")), (0, 0));
    for vec in meanwhile.names() {
        let count = of(&lines, "softirqs", vec).u64("count");
        assert!(meanwhile.of(&[vec]).contains(&count), "{vec}: {count} of {meanwhile:?}");
    }
}

/// What was counted on a CPU that is gone is counted; when it is back, it goes on. On its way in and out its
/// tracepoints are silent.
#[test]
fn a_cpu_that_goes_and_comes_back_is_counted() {
    let _alone = alone();
    let mut tool = Tool::init("{}").expect("it attaches");
    let switch = match cpu::Switch::find() {
        Ok(switch) => switch,
        Err(why) => return println!("SKIPPED: {why}"),
    };
    let (lines, meanwhile) = counts::meanwhile(&mut tool, counts::softirqs, || {
        cpu::on_cpu(1, || drive::packets(500));
        switch.set(false);
        drive::packets(500);
        switch.set(true);
        cpu::on_cpu(1, || drive::packets(500));
    });
    for vec in meanwhile.names() {
        let count = of(&lines, "softirqs", vec).u64("count");
        let bounds = meanwhile.of(&[vec]);
        println!("{vec}: {count} of {bounds:?}");
        assert!(count + 50 >= *bounds.start() && count <= *bounds.end(), "{vec}");
    }
    assert!(of(&lines, "softirqs", "net_rx").u64("count") >= 1_450);
    assert!(lost(&lines).u64("unmatched") + lost(&lines).u64("unended") <= 4, "{lines:?}");
}

/// Beyond 32 bits of nanoseconds: a logarithm of 32 bits made such values small ones, until 2025.
#[test]
fn a_run_of_seconds_lies_in_the_slot_of_seconds() {
    let _alone = alone();
    let Some(mut hand) = ByHand::begin() else { return };
    cpu::on_cpu(cpu::online()[0], || {
        hand.entry.run(&[HI]);
        std::thread::sleep(Duration::from_millis(4_400)); // 2^32 ns are 4.29 s
        hand.exit.run(&[HI]);
    });
    let (lines, _) = hand.lines();
    let line = of(&lines, "softirqs", "hi");
    assert!(line.u64("max_us") >= 4_400_000, "{line:?}");
}

#[test]
fn at_default_options_the_maps_are_small_and_each_kind_has_a_line() {
    let _alone = alone();
    let before = map_bytes();
    let mut tool = Tool::init("{}").expect("it attaches");
    let (bytes, cpus) = (map_bytes() - before, u64::from(possible_cpus()));
    println!("{bytes} bytes of maps on {cpus} CPUs");
    assert!(bytes * 2 <= cpus * 512 * 1024, "0.5 MiB on two CPUs");
    for _ in 0..2 {
        let lines = tool.call().expect("a tick");
        assert_eq!(lines.iter().filter(|l| l.table == "softirqs").count(), 10);
        assert_eq!(lines.iter().filter(|l| l.table == "softirqs_delay").count(), 0);
        assert_eq!(lost(&lines).get("unraised"), None);
    }
}
