//! The books of one plugin: written by its runner, watched and read by the collector's main thread.

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
        if let Err(reason) = result {
            counts.errors += 1;
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

    /// Looks whether the call under way is past its deadline; the text says so, once per call.
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
        Some(text)
    }

    fn compared(&self, took: Duration) -> String {
        format!("{:.1} s, its deadline is {:.1} s", took.as_secs_f64(), self.deadline.as_secs_f64())
    }

    /// The line about the time since this was last asked; dropped rows are in the plugin's sink, and what
    /// became of its lines in the outputs' books.
    pub fn take(&self, sink: Option<&Sink>, outputs: output::Books) -> collector_plugin::Row {
        let dropped = sink.map(Sink::take_dropped).unwrap_or_default();
        let mut books = self.books();
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
