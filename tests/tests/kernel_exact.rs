//! The books balance: what was counted, dropped and missed is what happened.

use plugin_api::histogram::slot;
use plugin_testing::{Harness, Line};
use std::time::{Duration, Instant};
use system_tests::calls::Calls;
use system_tests::exact::{
    ByCounters, ByEvents, ByHistogram, ByTable, ByUnitySample, Roomy, Small, Tool, Way,
};

const KEYS: usize = 4096;
const TICKS: usize = 100;

/// What a tool said about a known load, tick after tick.
#[derive(Default)]
struct Books {
    /// Calls, by key.
    made: Vec<u64>,
    /// Calls that were counted, by key.
    counted: Vec<u64>,
    /// Calls that found no room, in a map or under the collector's cap of lines for one tick.
    dropped: u64,
    /// Of these, calls that the kernel refused for another reason.
    busy: u64,
    /// Programs' runs that the kernel skipped, as far as it says.
    missed: u64,
    /// When the lines say that it was.
    times: Vec<i64>,
    /// Lines of exact_histogram.
    histograms: Vec<Line>,
}

/// Lets two threads call at full speed while the tool is read every 10 ms, for 100 ticks.
fn run<W: Way>(options: &str, keys: usize) -> Books {
    let mut tool = Harness::<Tool<W>>::init(options).expect("the tool attaches");
    let mut books = Books { counted: vec![0; KEYS], ..Books::default() };
    let calls = Calls::start(2, keys);
    for _ in 0..TICKS {
        let next = Instant::now() + Duration::from_millis(10);
        books.enter(tool.call().expect("a tick"));
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    books.made = calls.stop();
    for _ in 0..2 {
        books.enter(tool.call().expect("a tick")); // both halves
    }
    books.dropped += tool.dropped().full;
    books
}

impl Books {
    fn enter(&mut self, lines: Vec<Line>) {
        for line in lines {
            match line.table.as_str() {
                "exact" => {
                    let key = line.tag("key").parse::<usize>().expect("a key");
                    self.counted[key] += line.u64("count");
                    self.times.push(line.time_ns);
                }
                "exact_dropped" => {
                    self.dropped += line.u64("full") + line.u64("busy");
                    self.busy += line.u64("busy");
                }
                "exact_histogram" => self.histograms.push(line),
                "collector_program" if line.get("missed").is_some() => {
                    self.missed += line.u64("missed");
                }
                _ => {}
            }
        }
    }

    fn made(&self) -> u64 {
        self.made.iter().sum()
    }

    /// Everything that happened is counted, dropped or missed; no key has more than happened; so without
    /// drops and misses every single key is exact.
    fn balance(&self) {
        let kept = self.counted.iter().sum::<u64>();
        let Self { dropped, missed, .. } = self;
        println!("{} calls = {kept} counted + {dropped} dropped + {missed} missed", self.made());
        for (key, made) in self.made.iter().enumerate() {
            assert!(self.counted[key] <= *made, "key {key}: {} of {made}", self.counted[key]);
        }
        assert_eq!(self.made(), kept + dropped + missed);
        assert!(kept > 0);
    }
}

fn balances<W: Way>(options: &str, keys: usize) -> Books {
    let books = run::<W>(options, keys);
    books.balance();
    books
}

#[test]
fn counters_read_while_written_lose_nothing_for_one_key() {
    balances::<ByCounters>("{}", 1);
}

#[test]
fn counters_read_while_written_lose_nothing_for_4096_keys() {
    balances::<ByCounters>("{}", KEYS);
}

#[test]
fn a_table_drained_while_written_loses_nothing_for_one_key() {
    balances::<ByTable<Roomy>>("{}", 1);
}

#[test]
fn a_table_drained_while_written_loses_nothing_for_4096_keys() {
    balances::<ByTable<Roomy>>("{}", KEYS);
}

#[test]
fn a_table_loses_nothing_where_membarrier_is_refused() {
    balances::<ByTable<Roomy>>(r#"{"no_membarrier":true}"#, KEYS);
}

#[test]
fn a_table_that_is_too_small_counts_what_it_drops() {
    let books = balances::<ByTable<Small>>("{}", KEYS);
    assert!(books.dropped > 0);
    assert!(
        books.busy * 100 <= books.dropped,
        "{} of {} for want of room",
        books.busy,
        books.dropped
    );
}

#[test]
fn events_that_find_no_room_are_counted() {
    let books = balances::<ByEvents>("{}", KEYS);
    assert!(books.dropped > 0, "the ring was meant to be too small");
    assert_distinct_times(books);
}

#[test]
fn events_balance_in_a_perf_buffer_too() {
    let books = balances::<ByEvents>(r#"{"perf":true}"#, KEYS);
    assert_distinct_times(books);
}

/// Two lines of a table with equal tags and time would be one point for a database.
fn assert_distinct_times(mut books: Books) {
    let all = books.times.len();
    books.times.sort_unstable();
    books.times.dedup();
    assert_eq!(books.times.len(), all);
}

fn histograms_balance(keys: usize) {
    let books = run::<ByHistogram>("{}", keys);
    let lines = &books.histograms;
    let of = |which: &'static str, field: &'static str| -> u64 {
        lines.iter().filter(|l| l.tag("which") == which).map(|l| l.u64(field)).sum()
    };
    let made = |wanted: &dyn Fn(usize) -> bool| -> u64 {
        books.made.iter().enumerate().filter(|(key, _)| wanted(*key)).map(|(_, n)| n).sum()
    };
    let (even, odd, scaled) = (of("even", "count"), of("odd", "count"), of("scaled", "count"));
    println!("{} calls = {even} even + {odd} odd + {} missed", made(&|_| true), books.missed);
    assert_eq!(even + odd + books.missed, made(&|_| true));
    assert_eq!(scaled + books.missed, made(&|_| true));
    assert!(even <= made(&|k| k % 2 == 0) && odd <= made(&|k| k % 2 == 1));

    // Each power of two, as it stands on the wire, never holds more than it should.
    for power in 1..=12u32 {
        let bound = 1usize << power;
        let low = if power == 1 { 0 } else { bound / 2 };
        let (name, range) = (format!("lt_{bound}"), low..bound);
        let counted: u64 = lines
            .iter()
            .filter(|l| l.tag("which") != "scaled" && l.get(&name).is_some())
            .map(|l| l.u64(&name))
            .sum();
        assert!(counted <= made(&|k| range.contains(&k)), "{name}");
    }
    // Every line is a cut: its sum and maximum are those of its own values.
    for line in lines.iter().filter(|l| l.tag("which") != "scaled") {
        let (count, sum, max) = (line.u64("count"), line.u64("sum"), line.u64("max"));
        assert!(sum <= count * max, "{count} values, sum {sum}, maximum {max}");
        let slots: u64 =
            line.fields.keys().filter(|k| k.starts_with("lt_")).map(|k| line.u64(k)).sum();
        assert_eq!(slots, count);
    }
    if books.missed == 0 {
        let sum: u64 = books.made.iter().enumerate().map(|(key, n)| key as u64 * n).sum();
        assert_eq!(of("even", "sum") + of("odd", "sum"), sum);
        let given: u64 = books.made.iter().enumerate().map(|(k, n)| (k as u64 * 10 + 7) * n).sum();
        assert_eq!(of("scaled", "sum"), given / 1000, "no value was rounded by itself");
    }
}

#[test]
fn histograms_read_while_written_lose_nothing_for_one_key() {
    histograms_balance(1);
}

#[test]
fn histograms_read_while_written_lose_nothing_for_4096_keys() {
    histograms_balance(KEYS);
}

/// The harness can tell: what everybody copies loses calls in it.
#[test]
fn the_unity_samples_way_fails_the_same_harness() {
    let mut lost = 0;
    for round in 1..=20 {
        let books = run::<ByUnitySample>("{}", 1);
        let (made, counted) = (books.made(), books.counted[0]);
        lost = made as i64 - counted as i64 - books.missed as i64;
        println!("round {round}: {made} calls, {counted} counted, {lost} lost");
        if lost != 0 {
            break;
        }
    }
    assert_ne!(lost, 0, "look up, then write 0 should lose");
}

#[test]
fn c_and_rust_agree_on_every_slot() {
    use libbpf_rs::ProgramInput;
    use system_tests::exact::load_slot_of;
    let skel = load_slot_of().expect("the program loads");
    let edges = (0..64).flat_map(|k| [(1u64 << k) - 1, 1 << k, (1 << k) + 1]);
    for value in edges.chain([u64::MAX - 1, u64::MAX]) {
        let mut context = value.to_ne_bytes();
        let input = ProgramInput { context_in: Some(&mut context), ..ProgramInput::default() };
        let output = skel.progs.slot_of.test_run(input).expect("BPF_PROG_TEST_RUN");
        assert_eq!(output.return_value as usize, slot(value), "slot of {value}");
    }
}
