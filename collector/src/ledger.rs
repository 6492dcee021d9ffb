//! The books of one plugin: written by its runner, watched and read by the collector's main thread.

use crate::duration::short;
use crate::health::State;
use crate::metrics::collector_plugin;
use crate::output;
use crate::sink::Sink;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// What is known of a plugin. Counters go up until the next [`Ledger::take`].
#[derive(Debug)]
pub struct Ledger {
    name: String,
    version: String,
    /// How long one call may take.
    deadline: Duration,
    books: Mutex<Books>,
}

#[derive(Debug)]
struct Books {
    state: State,
    /// Why it is not well; kept until it was shown while all is well again.
    reason: Option<String>,
    /// When the call under way began, and whether it was already found late.
    call: Option<(Instant, bool)>,
    /// Whether the call before was late too.
    late_before: bool,
    /// The failures that were logged last: one after which it goes on, one after which it is ended.
    logged: [Option<String>; 2],
    /// Rows that became no line, since the start.
    lost: u64,
    /// Whether a start ever succeeded.
    started: bool,
    /// Whether its thread has ended.
    ended: bool,
    counts: Counts,
}

#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    calls: u64,
    errors: u64,
    rows: u64,
    bytes: u64,
    missed: u64,
    overruns: u64,
    call: Duration,
    call_max: Duration,
}

impl Ledger {
    /// Opens the books of a plugin that is about to be started.
    #[must_use]
    pub fn new(name: &str, version: &str, deadline: Duration) -> Self {
        let books = Books {
            state: State::Loading,
            reason: None,
            call: None,
            late_before: false,
            logged: [None, None],
            lost: 0,
            started: false,
            ended: false,
            counts: Counts::default(),
        };
        Self { name: name.to_owned(), version: version.to_owned(), deadline, books: books.into() }
    }

    /// The books of a file or plugin that is never started.
    #[must_use]
    pub fn refused(name: &str, version: &str, reason: &str) -> Self {
        let ledger = Self::new(name, version, Duration::ZERO);
        ledger.set(State::Refused, Some(reason));
        ledger
    }

    /// The plugin's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How long a call may take; none for what is never called.
    #[must_use]
    pub fn deadline(&self) -> Option<Duration> {
        (!self.deadline.is_zero()).then_some(self.deadline)
    }

    /// Whether it ran at any time.
    #[must_use]
    pub fn ever_started(&self) -> bool {
        self.books().started
    }

    /// It is in a new state, for a reason unless all is well.
    pub fn set(&self, state: State, reason: Option<&str>) {
        let mut books = self.books();
        books.state = state;
        if let Some(reason) = reason {
            books.reason = Some(reason.to_owned());
        }
    }

    /// A start succeeded; one in quarantine has still to prove itself.
    pub fn started(&self, in_quarantine: bool) {
        let mut books = self.books();
        books.started = true;
        if !in_quarantine {
            books.state = State::Running;
        }
    }

    /// A start or an end failed.
    pub fn failed(&self, state: State, reason: &str) {
        self.set(state, Some(reason));
        self.books().counts.errors += 1;
    }

    /// Whether a failure is to be logged: not one that was logged and is still the same.
    pub fn is_news(&self, ends: bool, failure: &str) -> bool {
        let logged = &mut self.books().logged[usize::from(ends)];
        let news = logged.as_deref() != Some(failure);
        *logged = Some(failure.to_owned());
        news
    }

    /// A call succeeded; whether a failure was logged before it.
    pub fn works_again(&self) -> bool {
        let logged = std::mem::take(&mut self.books().logged);
        logged.iter().any(Option::is_some)
    }

    /// Rows that became no line since the start, as far as [`Self::take`] has heard of them.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.books().lost
    }

    /// The start takes long; whether it still does.
    pub fn starting_for(&self, time: Duration) -> bool {
        let mut books = self.books();
        let loading = books.state == State::Loading;
        if loading {
            books.reason = Some(format!("init has been running for {} s", time.as_secs()));
        }
        loading
    }

    /// Its thread ends.
    pub fn ends(&self) {
        self.books().ended = true;
    }

    /// Whether its thread has ended.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.books().ended
    }

    /// Ticks were skipped.
    pub fn missed(&self, ticks: u64) {
        self.books().counts.missed += ticks;
    }

    /// A call begins.
    pub fn call_begins(&self, now: Instant) {
        self.books().call = Some((now, false));
    }

    /// A call ended, with so many rows that became lines, of so many bytes.
    pub fn call_ends(&self, now: Instant, rows: u64, bytes: usize, result: &Result<(), String>) {
        let mut books = self.books();
        let Some((began, found_late)) = books.call.take() else { return };
        let took = now - began;
        let counts = &mut books.counts;
        counts.calls += 1;
        counts.rows += rows;
        counts.bytes += bytes as u64;
        counts.call += took;
        counts.call_max = counts.call_max.max(took);
        if took > self.deadline && !found_late {
            counts.overruns += 1;
        }
        books.late_before = took > self.deadline;
        if let Err(reason) = result {
            books.counts.errors += 1;
            if books.state != State::Quarantined {
                books.state = State::Failed;
            }
            books.reason = Some(reason.clone());
        } else {
            books.state = State::Running;
            if took > self.deadline {
                books.reason = Some(format!("a call took {}", self.compared(took)));
            }
        }
    }

    /// Looks whether the call under way is past its deadline. The text for the log says so, unless the call before
    /// was late too.
    pub fn watch(&self, now: Instant) -> Option<String> {
        let mut books = self.books();
        let (began, found_late) = books.call?;
        let took = now.saturating_duration_since(began);
        if found_late || took <= self.deadline {
            return None;
        }
        let text = format!("a call is running for {}", self.compared(took));
        books.call = Some((began, true));
        books.counts.overruns += 1;
        books.state = State::Late;
        books.reason = Some(text.clone());
        (!books.late_before).then_some(text)
    }

    fn compared(&self, took: Duration) -> String {
        format!("{}, its deadline is {}", short(took), short(self.deadline))
    }

    /// The line about the time since this was last asked; dropped rows are in the plugin's sink, and what
    /// became of its lines in the outputs' books.
    pub fn take(&self, sink: Option<&Sink>, outputs: output::Books) -> collector_plugin::Row {
        let dropped = sink.map(Sink::take_dropped).unwrap_or_default();
        let mut books = self.books();
        books.lost += dropped.full + dropped.invalid + dropped.closed;
        let well = matches!(books.state, State::Running | State::Stopped);
        let reason = if well { books.reason.take() } else { books.reason.clone() };
        let over_cap = || {
            let limits = sink?.limits();
            let (lines, bytes) = (limits.lines, limits.bytes);
            let text = format!("over the cap of {lines} lines and {bytes} bytes a tick");
            (dropped.full > 0).then(|| format!("{text}: max_lines, max_bytes"))
        };
        let outside = || (dropped.closed > 0).then(|| "pushed lines outside of a call".to_owned());
        let invalid = || (dropped.invalid > 0).then(|| "pushed rows that are no lines".to_owned());
        let twice = || {
            let text =
                "pushed several lines of one series in a tick: the first ones stayed (see the log)";
            (dropped.duplicate > 0).then(|| text.to_owned())
        };
        let many = || {
            let most = sink?.limits().series;
            let text = format!("over the cap of {most} series an hour: max_series");
            (dropped.series > 0).then_some(text)
        };
        let reason = reason.or_else(over_cap).or_else(many).or_else(outside).or_else(invalid);
        let reason = reason.or_else(twice);
        let counts = std::mem::take(&mut books.counts);
        let ns = |d: Duration| u64::try_from(d.as_nanos()).unwrap_or(u64::MAX);
        collector_plugin::Row {
            plugin: self.name.clone().into(),
            up: i64::from(books.state.is_up()),
            state_code: books.state.code(),
            state: books.state.word().into(),
            reason: reason.map(Into::into),
            version: self.version.clone().into(),
            calls: counts.calls,
            errors: counts.errors,
            lines: counts.rows,
            bytes: counts.bytes,
            lines_produced: outputs.produced,
            lines_recovered: outputs.recovered,
            lines_delivered: outputs.delivered,
            lines_waiting: outputs.waiting as i64,
            lines_dropped: outputs.dropped.sum(),
            dropped_full: dropped.full,
            dropped_invalid: dropped.invalid,
            dropped_closed: dropped.closed,
            dropped_duplicate: dropped.duplicate,
            dropped_series: dropped.series,
            series: sink.map_or(0, Sink::series) as i64,
            ticks_missed: counts.missed,
            overruns: counts.overruns,
            call_ns: ns(counts.call),
            call_max_ns: ns(counts.call_max) as i64,
        }
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ledger() -> (Ledger, Instant) {
        let ledger = Ledger::new("p", "1.0.0", Duration::from_secs(1));
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
        let row = ledger.take(None, output::Books::default());
        assert_eq!((&*row.state, row.overruns, row.calls), ("late", 1, 0));
        assert_eq!(row.reason.as_deref(), Some(&*text));
        ledger.call_ends(after(4), 5, 6, &Ok(()));
        let row = ledger.take(None, output::Books::default());
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
            ledger.call_ends(after(begin + 2000), 0, 0, &Ok(()));
        }
        assert_eq!(ledger.take(None, output::Books::default()).overruns, 3);
        ledger.call_begins(after(9000));
        ledger.call_ends(after(9001), 0, 0, &Ok(()));
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
        ledger.call_ends(start + Duration::from_secs(2), 0, 0, &Ok(()));
        assert_eq!(ledger.take(None, output::Books::default()).overruns, 1);
        assert_eq!(ledger.take(None, output::Books::default()).overruns, 0);
    }

    #[test]
    fn a_reason_is_shown_even_when_all_is_well_again_and_then_forgotten() {
        let (ledger, now) = ledger();
        ledger.call_begins(now);
        ledger.call_ends(now, 0, 0, &Err("no such map".to_owned()));
        ledger.call_begins(now);
        ledger.call_ends(now, 0, 0, &Ok(()));
        let row = ledger.take(None, output::Books::default());
        assert_eq!((&*row.state, row.errors), ("running", 1));
        assert_eq!(row.reason.as_deref(), Some("no such map"));
        assert_eq!(ledger.take(None, output::Books::default()).reason, None);
    }

    #[test]
    fn a_standing_reason_is_shown_every_time() {
        let ledger = Ledger::refused("p", "", "a text file");
        for _ in 0..3 {
            let row = ledger.take(None, output::Books::default());
            assert_eq!((&*row.state, row.reason.as_deref()), ("refused", Some("a text file")));
        }
        assert!(!ledger.ever_started());
    }
}
