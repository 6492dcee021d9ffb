//! The books balance: what was counted, dropped and missed is what happened.

#[path = "kernel_exact/books.rs"]
mod books;
#[path = "kernel_exact/preempted.rs"]
mod preempted;
#[path = "kernel_exact/sleeping.rs"]
mod sleeping;

use books::{Books, KEYS, TICKS, run};
use plugin_api::histogram::slot;
use plugin_testing::cpu::is_guest;
use plugin_testing::{Harness, Line};
use std::time::{Duration, Instant};
use system_tests::calls::Calls;
use system_tests::exact::{
    ByAll, ByCounters, ByEvents, ByHistogram, ByLargeEvents, ByPairs, ByParts, BySmallTable,
    ByStacks, ByTable, ByUnitySample, PastTheEnd, Plugin, SlotOf, Way,
};

fn balances<W: Way>(options: &str, keys: usize) -> Books {
    let books = run::<W>(options, keys, TICKS);
    books.balance();
    books
}

#[test]
fn counters_read_while_written_lose_nothing() {
    for keys in [1, KEYS] {
        let books = run::<ByCounters>("{}", keys, TICKS);
        // `named` counts the same calls: the odd ones are told as unmatched, the even ones as twice.
        assert_eq!(books.made(), books.twice + books.unmatched + books.missed);
        Books { twice: 0, unmatched: 0, ..books }.balance();
    }
}

#[test]
fn a_number_past_the_end_is_counted_as_such() {
    let books = run::<PastTheEnd>("{}", KEYS, TICKS);
    println!("{} calls = {} counted + {} past", books.made(), books.counted(), books.past);
    assert_eq!(books.made(), books.counted() + books.past + books.missed);
    assert!(books.past > 0 && books.counted() > 0);
}

#[test]
fn a_table_drained_while_written_loses_nothing_for_one_key() {
    balances::<ByTable>("{}", 1);
}

#[test]
fn a_table_drained_while_written_loses_nothing_for_4096_keys() {
    balances::<ByTable>("{}", KEYS);
}

/// "Read the half, then count yourself into it" passes without the pause.
#[test]
fn a_pause_between_choosing_and_adding_loses_nothing() {
    balances::<ByTable>(r#"{"pause":80}"#, 1);
    balances::<ByTable>(r#"{"pause":80,"cut":"count"}"#, 1);
}

#[test]
fn a_table_loses_nothing_where_there_are_no_fetching_atomics() {
    balances::<ByTable>(r#"{"cut":"count"}"#, KEYS);
}

#[test]
fn a_table_loses_nothing_where_only_grace_periods_are_right() {
    run::<ByTable>(r#"{"cut":"grace","pause":80}"#, 1, 20).balance();
}

#[test]
fn a_table_that_is_too_small_counts_what_it_drops() {
    let books = balances::<BySmallTable>("{}", KEYS);
    let (full, busy) = (books.full, books.busy);
    assert!(full > 0 && busy * 50 <= full, "{busy} busy beside {full} for want of room");
}

#[test]
fn stacks_are_there_for_every_id_in_a_row() {
    let books = run::<ByStacks>("{}", KEYS, TICKS);
    let dropped = books.full + books.busy;
    let (made, kept) = (books.made(), books.counted[0]);
    println!("{made} calls = {kept} counted + {dropped} dropped + {} missed", books.missed);
    assert_eq!(books.counted[1], 0, "an id without its frames");
    assert_eq!(made, kept + dropped + books.missed);
    assert!(kept > 0 && dropped * 10 < made);
}

#[test]
fn every_begin_and_every_end_has_one_fate() {
    for keys in [1, KEYS] {
        let books = run::<ByPairs>("{}", keys, TICKS);
        let [begins, pairs] = [books.counted[0], books.counted[1]];
        let (twice, unmatched) = (books.twice, books.unmatched);
        println!("{begins} begins, {pairs} pairs, {twice} twice, {unmatched} unmatched");
        assert_eq!(books.made(), begins + pairs + unmatched + books.missed);
        let under_way = begins - pairs - twice - books.full - books.busy;
        assert!(under_way <= 2, "{under_way} of two threads");
        if keys == 1 {
            assert!(pairs == 0 && twice > 0);
        } else {
            assert!(pairs > 0 && (books.missed > 0 || (twice, unmatched) == (0, 0)));
        }
    }
}

#[test]
fn events_that_find_no_room_are_counted() {
    let books = balances::<ByEvents>("{}", KEYS);
    assert!(books.full > 0, "the ring was meant to be too small");
    books.assert_distinct_times();
}

#[test]
fn events_balance_in_a_perf_buffer_too() {
    balances::<ByEvents>(r#"{"perf":true}"#, KEYS).assert_distinct_times();
}

#[test]
fn events_larger_than_the_stack_balance() {
    balances::<ByLargeEvents>("{}", KEYS);
    balances::<ByLargeEvents>(r#"{"perf":true}"#, KEYS);
}

#[test]
fn events_of_varying_length_balance() {
    balances::<ByParts>("{}", KEYS);
    balances::<ByParts>(r#"{"perf":true}"#, KEYS);
}

/// One event in a histogram, a table and histograms by key: the rows of a tick speak of the same ones, in each
/// of 10,000 ticks that have any; on an emulated machine of 1,000.
#[test]
fn the_pieces_of_a_tick_add_up_in_every_one_of_10000_ticks() {
    let (all, some) = if is_guest() { (1_000, 300) } else { (10_000, 1_000) };
    add_up(r#"{"pause":20}"#, all);
    add_up(r#"{"pause":20,"cut":"count"}"#, some);
}

fn add_up(options: &str, wanted: u64) {
    let mut tool = Harness::<Plugin<ByAll>>::init(options).expect("the tool attaches");
    let calls = Calls::with_pauses(2, 64, Duration::from_micros(100));
    let (mut all, mut ticks, mut tick) = (0, 0, 0);
    let begin = Instant::now();
    while ticks < wanted && begin.elapsed() < Duration::from_secs(120) {
        tick += 1;
        let lines = tool.call().expect("a tick");
        let of = |which: &str, field: &str| {
            let named = |l: &&Line| l.table == "exact_histogram" && l.tag("which") == which;
            lines.iter().find(named).map_or(0, |l| l.u64(field))
        };
        let table = lines.iter().find(|l| l.table == "exact").map_or(0, |l| l.u64("count"));
        let lost = lines.iter().find(|l| l.table == "exact_dropped").map_or(0, |l| l.u64("full"));
        assert_eq!(lost, 0, "tick {tick}");
        assert_eq!(of("scaled", "count"), table, "tick {tick}");
        assert_eq!(of("by_name", "count"), table, "tick {tick}");
        // Each name's remainder of a division by 1000 comes with a later tick.
        assert!(of("scaled", "sum").abs_diff(of("by_name", "sum")) <= 16, "tick {tick}");
        all += table;
        ticks += u64::from(table > 0);
        std::thread::sleep(Duration::from_micros(200));
    }
    assert!(calls.stop().iter().sum::<u64>() >= all);
    println!("{options}: {all} events in {ticks} ticks, and {} empty ones", tick - ticks);
    assert!(ticks >= wanted.min(1_000), "{ticks} ticks only");
}

fn histograms_balance(options: &str, keys: usize) {
    let books = run::<ByHistogram>(options, keys, TICKS);
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
        let (name, range) = (format!("bucket_{low}_{bound}"), low..bound);
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
            line.fields.keys().filter(|k| k.starts_with("bucket_")).map(|k| line.u64(k)).sum();
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
fn histograms_read_while_written_lose_nothing() {
    histograms_balance("{}", 1);
    histograms_balance("{}", KEYS);
    histograms_balance(r#"{"pause":80}"#, KEYS);
    histograms_balance(r#"{"cut":"count"}"#, KEYS);
}

/// The harness can tell: what everybody copies loses calls in it.
#[test]
fn the_unity_samples_way_fails_the_same_harness() {
    let mut lost = 0;
    for round in 1..=20 {
        let books = run::<ByUnitySample>("{}", 1, TICKS);
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
    let tool = plugin_bpf::Running::<system_tests::exact::Exact<SlotOf>>::loaded("{}")
        .expect("the program loads");
    let edges = (0..64).flat_map(|k| [(1u64 << k) - 1, 1 << k, (1 << k) + 1]);
    for value in edges.chain([u64::MAX - 1, u64::MAX]) {
        let result = tool.attached().test_run("slot_of", &value.to_ne_bytes()).expect("a test run");
        assert_eq!(result as usize, slot(value), "slot of {value}");
    }
}
