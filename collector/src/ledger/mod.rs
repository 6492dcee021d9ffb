//! The books of one plugin: written by its runner, watched and read by the collector's main thread.

mod line;

pub use line::collector_plugin;

use crate::duration::short;
use crate::health::State;
use crate::instance::Outcome;
use crate::sink::{Limits, Tally};
use crate::tick::{Grid, Now};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// What is known of a plugin. Counters go up until the next [`Ledger::take`].
#[derive(Debug)]
pub struct Ledger {
    name: String,
    /// How long one call may take.
    deadline: Duration,
    /// Its caps.
    limits: Limits,
    books: Mutex<Entries>,
}

#[derive(Debug)]
struct Entries {
    version: String,
    state: State,
    /// Why a change of it was refused; shown until a change succeeds.
    standing: Option<String>,
    /// Why it is not well; kept until it was shown while all is well again.
    reason: Option<String>,
    /// When the call under way began, and whether it was already found late.
    call: Option<(Instant, bool)>,
    /// Where its ticks are: those that the call under way has passed are not counted yet.
    grid: Option<Grid>,
    /// Nobody waits for the call under way, and they are.
    left_behind: bool,
    /// The time of the newest tick, of instances before too; 0 if there was none.
    newest_ns: i64,
    /// Whether the call before was late too.
    late_before: bool,
    /// The failures that were logged last: one after which it goes on, one after which it is ended.
    logged: [Option<String>; 2],
    /// Rows that became no line, and calls whose lines are lost, since the start.
    lost: u64,
    /// Whether a start ever succeeded.
    started: bool,
    /// Processor time that its thread had used when it last said so.
    thread_cpu_ns: u64,
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
    /// Calls whose lines are lost with the plugin's process.
    lost_calls: u64,
    tally: Tally,
    call: Duration,
    call_max: Duration,
    cpu_ns: u64,
    /// How often an instance took over, and the time between its first call and the last one of the other.
    replaced: u64,
    gap: Duration,
}

impl Counts {
    fn add(&mut self, more: &Self) {
        self.calls += more.calls;
        self.errors += more.errors;
        self.rows += more.rows;
        self.bytes += more.bytes;
        self.missed += more.missed;
        self.overruns += more.overruns;
        self.lost_calls += more.lost_calls;
        self.tally.dropped += more.tally.dropped;
        self.cpu_ns += more.cpu_ns;
        self.call += more.call;
        self.call_max = self.call_max.max(more.call_max);
        self.replaced += more.replaced;
        self.gap += more.gap;
    }
}

impl Ledger {
    /// Opens the books of a plugin that is about to be started.
    #[must_use]
    pub fn new(name: &str, version: &str, deadline: Duration, limits: Limits) -> Self {
        let books = Entries {
            version: version.to_owned(),
            standing: None,
            state: State::Loading,
            reason: None,
            call: None,
            grid: None,
            left_behind: false,
            newest_ns: 0,
            late_before: false,
            logged: [None, None],
            lost: 0,
            started: false,
            thread_cpu_ns: 0,
            counts: Counts::default(),
        };
        Self { name: name.to_owned(), deadline, limits, books: books.into() }
    }

    /// The books of a file or plugin that is never started.
    #[must_use]
    pub fn refused(name: &str, version: &str, reason: &str) -> Self {
        let ledger = Self::new(name, version, Duration::ZERO, Limits::DEFAULT);
        ledger.set(State::Refused, Some(reason));
        ledger
    }

    /// The version is known.
    pub fn set_version(&self, version: &str) {
        version.clone_into(&mut self.books().version);
    }

    /// How it is.
    #[must_use]
    pub fn state(&self) -> State {
        self.books().state
    }

    /// Why it is not well, if it is not.
    #[must_use]
    pub fn reason(&self) -> Option<String> {
        self.books().reason.clone()
    }

    /// How it is now: the state, why it is not well, and the version.
    #[must_use]
    pub fn now(&self) -> (State, Option<String>, String) {
        let books = self.books();
        let reason = books.reason.clone().or_else(|| books.standing.clone());
        (books.state, reason, books.version.clone())
    }

    /// A change of the plugin was refused, and this instance goes on; or nothing is wrong with it any more.
    pub fn stands(&self, reason: Option<String>) {
        self.books().standing = reason;
    }

    /// It has taken over from another instance. What happened in the time between their calls is in no line.
    pub fn took_over(&self, gap: Duration) {
        let mut books = self.books();
        books.call = None;
        books.counts.replaced += 1;
        books.counts.gap += gap;
    }

    /// Adds what another instance of the plugin has counted since this was last done.
    pub fn inherit(&self, other: &Self) {
        let (more, lost, started, newest_ns) = {
            let mut books = other.books();
            let counts = std::mem::take(&mut books.counts);
            (counts, std::mem::take(&mut books.lost), books.started, books.newest_ns)
        };
        let mut books = self.books();
        books.newest_ns = books.newest_ns.max(newest_ns);
        books.counts.add(&more);
        books.lost += lost;
        books.started |= started;
    }

    /// Since when a call is under way.
    #[must_use]
    pub fn called(&self) -> Option<Instant> {
        self.books().call.map(|(began, _)| began)
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

    /// Rows that became no line since the start, and with them, as 1 each, calls whose lines nobody has counted.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.books().lost
    }

    /// The start takes long.
    pub fn starting_for(&self, time: Duration) {
        let mut books = self.books();
        if books.state == State::Loading {
            books.reason = Some(format!("init has been running for {} s", time.as_secs()));
        }
    }

    /// Ticks were skipped.
    pub fn missed(&self, ticks: u64) {
        let mut books = self.books();
        if !books.left_behind {
            books.counts.missed += ticks;
        }
    }

    /// Nobody waits for the call under way any more: the ticks that it has passed until then are missed.
    pub fn leave_behind(&self, at: Now) {
        let mut books = self.books();
        if books.call.is_some()
            && let Some(grid) = books.grid
            && !std::mem::replace(&mut books.left_behind, true)
        {
            books.counts.missed += grid.passed(at);
        }
    }

    /// Processor time: of its thread since the thread's start, and of its process since this was last told.
    pub fn used(&self, thread_ns: u64, process_ns: u64) {
        let mut books = self.books();
        let before = std::mem::replace(&mut books.thread_cpu_ns, thread_ns);
        // Another thread begins at 0.
        let more = thread_ns.checked_sub(before).unwrap_or(thread_ns);
        books.counts.cpu_ns += more + process_ns;
    }

    /// A tick is due, and this is its place: ticks that its call passes are counted when it has ended. Without a place
    /// they are counted already.
    pub fn stands_at(&self, grid: Option<Grid>) {
        self.books().grid = grid;
    }

    /// A tick has this time.
    pub fn ticks_at(&self, time_ns: i64) {
        self.books().newest_ns = time_ns;
    }

    /// The time of the newest tick, of instances before too; 0 if there was none.
    #[must_use]
    pub fn newest_ns(&self) -> i64 {
        self.books().newest_ns
    }

    /// A call begins.
    pub fn call_begins(&self, now: Instant) {
        self.books().call = Some((now, false));
    }

    /// A call ended.
    pub fn call_ends(&self, now: Instant, outcome: &Outcome) {
        self.tally(outcome.tally);
        let mut books = self.books();
        let Some((began, found_late)) = books.call.take() else { return };
        let took = now - began;
        let counts = &mut books.counts;
        counts.calls += 1;
        counts.rows += outcome.closed.rows;
        counts.bytes +=
            outcome.closed.pages.iter().map(|page| page.bytes.len() as u64).sum::<u64>();
        counts.call += took;
        counts.call_max = counts.call_max.max(took);
        if took > self.deadline && !found_late {
            counts.overruns += 1;
        }
        books.late_before = took > self.deadline;
        if let Err(error) = &outcome.result {
            books.counts.errors += 1;
            let lost = u64::from(error.loses_lines());
            books.counts.lost_calls += lost;
            books.lost += lost;
            if books.state != State::Quarantined {
                books.state = State::Failed;
            }
            books.reason = Some(error.to_string());
        } else {
            books.state = State::Running;
            if took > self.deadline {
                books.reason = Some(format!("a call took {}", self.compared(took)));
            }
        }
    }

    /// Adds to the books what the plugin has counted since this was last done.
    pub fn tally(&self, tally: Tally) {
        let mut books = self.books();
        let Tally { dropped, series } = tally;
        books.lost += dropped.sum();
        books.counts.tally.dropped += dropped;
        books.counts.tally.series = series;
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

    fn books(&self) -> MutexGuard<'_, Entries> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
