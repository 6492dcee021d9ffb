use super::*;
use crate::encoder::Page;
use crate::form::Form;
use crate::instance::PluginError;
use crate::output;
use crate::sink::{Closed, Dropped};

fn ok() -> Outcome {
    Outcome { closed: Closed::default(), tally: Tally::default(), result: Ok(()) }
}

fn failed(error: PluginError) -> Outcome {
    Outcome { result: Err(error), ..ok() }
}

#[test]
fn drops_are_counted_once_and_a_call_without_known_lines_as_one() {
    let (ledger, now) = ledger();
    let dropped = Dropped { full: 3, invalid: 10, closed: 20, duplicate: 40, series: 80 };
    ledger.call_begins(now);
    ledger.call_ends(now, &Outcome { tally: Tally { dropped, series: 7 }, ..ok() });
    ledger.call_begins(now);
    ledger.call_ends(now, &failed(PluginError::Died("killed by SIGSEGV".to_owned())));
    ledger.tally(Tally { dropped, series: 2 });
    let row = ledger.take(output::Books::default());
    assert_eq!((row.dropped_full, row.lost_calls, row.series), (6, 1, 2));
    let row = ledger.take(output::Books::default());
    assert_eq!((row.dropped_full, row.lost_calls, row.series), (0, 0, 2));
    assert_eq!(ledger.lost(), 2 * 153 + 1, "of every cause");
}

fn ledger() -> (Ledger, Instant) {
    let ledger = Ledger::new("p", "1.0.0", Duration::from_secs(1), Limits::DEFAULT);
    ledger.started(false);
    (ledger, Instant::now())
}

#[test]
fn an_overrun_is_found_while_it_runs_and_counted_once() {
    let (ledger, start) = ledger();
    let after = |s| start + Duration::from_secs(s);
    ledger.call_begins(start);
    assert_eq!(ledger.watch(after(1)), None);
    let text = ledger.watch(after(2)).unwrap();
    assert_eq!(text, "a call is running for 2.0 s, its deadline is 1.0 s");
    assert_eq!(ledger.watch(after(3)), None);
    let row = ledger.take(output::Books::default());
    assert_eq!((&*row.state, row.overruns, row.calls), ("late", 1, 0));
    assert_eq!(row.reason.as_deref(), Some(&*text));
    let page = Page { form: Form::default(), lines: 5, bytes: b"n 1 1\n".to_vec() };
    let closed = Closed { rows: 5, pages: vec![page] };
    ledger.call_ends(after(4), &Outcome { closed, ..ok() });
    let row = ledger.take(output::Books::default());
    assert_eq!((&*row.state, row.overruns, row.calls), ("running", 0, 1));
    assert_eq!(row.reason.as_deref(), Some("a call took 4.0 s, its deadline is 1.0 s"));
    assert_eq!((row.lines, row.bytes, row.call_ns), (5, 6, 4_000_000_000));
}

#[test]
fn a_late_call_after_a_late_one_is_counted_and_not_logged() {
    let (ledger, start) = ledger();
    let after = |ms| start + Duration::from_millis(ms);
    for (begin, logged) in [(0, true), (3000, false), (6000, false)] {
        ledger.call_begins(after(begin));
        assert_eq!(ledger.watch(after(begin + 1500)).is_some(), logged, "{begin}");
        ledger.call_ends(after(begin + 2000), &ok());
    }
    assert_eq!(ledger.take(output::Books::default()).overruns, 3);
    ledger.call_begins(after(9000));
    ledger.call_ends(after(9001), &ok());
    ledger.call_begins(after(10_000));
    assert!(ledger.watch(after(11_500)).is_some());
}

#[test]
fn a_failure_is_logged_once_until_it_changes_or_all_is_well() {
    let (ledger, _) = ledger();
    assert!(!ledger.works_again());
    assert!(ledger.is_news(false, "no such map"));
    assert!(!ledger.is_news(false, "no such map"));
    assert!(ledger.is_news(true, "no such map"), "now it is ended for it");
    assert!(!ledger.is_news(false, "no such map"));
    assert!(ledger.is_news(true, "no memory"));
    assert!(!ledger.is_news(true, "no memory"));
    assert!(ledger.works_again());
    assert!(!ledger.works_again());
    assert!(ledger.is_news(true, "no memory"));
}

#[test]
fn an_overrun_that_nobody_watched_is_counted_when_it_returns() {
    let (ledger, start) = ledger();
    ledger.call_begins(start);
    ledger.call_ends(start + Duration::from_secs(2), &ok());
    assert_eq!(ledger.take(output::Books::default()).overruns, 1);
    assert_eq!(ledger.take(output::Books::default()).overruns, 0);
}

#[test]
fn a_reason_is_shown_even_when_all_is_well_again_and_then_forgotten() {
    let (ledger, now) = ledger();
    ledger.call_begins(now);
    ledger.call_ends(now, &failed(PluginError::Answered("no such map".to_owned())));
    ledger.call_begins(now);
    ledger.call_ends(now, &ok());
    let row = ledger.take(output::Books::default());
    assert_eq!((&*row.state, row.errors), ("running", 1));
    assert_eq!(row.reason.as_deref(), Some("no such map"));
    assert_eq!(ledger.take(output::Books::default()).reason, None);
}

#[test]
fn a_standing_reason_is_shown_every_time() {
    let ledger = Ledger::refused("p", "", "a text file");
    for _ in 0..3 {
        let row = ledger.take(output::Books::default());
        assert_eq!((&*row.state, row.reason.as_deref()), ("refused", Some("a text file")));
    }
    assert!(!ledger.ever_started());
}

#[test]
fn processor_time_is_that_of_its_threads_and_its_processes() {
    let (ledger, _) = ledger();
    ledger.used(5, 0);
    ledger.used(7, 10);
    let used = || ledger.take(output::Books::default()).cpu_ns;
    assert_eq!(used(), 17);
    ledger.used(9, 0);
    ledger.used(1, 0); // another thread
    assert_eq!((used(), used()), (3, 0));
}

#[test]
fn ticks_that_a_call_has_passed_count_once_whoever_counts_them() {
    let ledger = Ledger::new("p", "1", Duration::from_secs(1), Limits::DEFAULT);
    let from = Now { wall_ns: 1_700_000_000_000_000_000, mono: Instant::now() };
    let after = |s: u64| Now {
        wall_ns: from.wall_ns + (s * 1_000_000_000).cast_signed(),
        mono: from.mono + Duration::from_secs(s),
    };
    let missed = || ledger.take(output::Books::default()).ticks_missed;
    let grid = Grid::new(Duration::from_secs(1), None, from);
    ledger.leave_behind(after(5));
    ledger.stands_at(Some(grid));
    ledger.leave_behind(after(5));
    assert_eq!(missed(), 0, "no call is under way");
    ledger.call_begins(from.mono);
    ledger.leave_behind(after(5));
    ledger.leave_behind(after(9));
    ledger.missed(5); // by its thread, if it comes back after all
    assert_eq!(missed(), 5);
    let last = Ledger::new("p", "1", Duration::from_secs(1), Limits::DEFAULT);
    last.stands_at(None);
    last.call_begins(from.mono);
    last.leave_behind(after(5));
    assert_eq!(last.take(output::Books::default()).ticks_missed, 0, "they are counted already");
}
