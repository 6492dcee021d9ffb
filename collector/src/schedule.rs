//! The main thread's timetable: the report that follows each base tick, and the last one.

use crate::tick::{Grid, Now};
use std::fmt;
use std::time::Duration;

/// Why the collector ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It was told to.
    Signal(&'static str),
    /// The last of `--ticks` was at that time.
    Ticks(i64),
    /// Nobody takes lines any more.
    OutputsGone,
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Signal(name) => f.write_str(name),
            Self::Ticks(_) => f.write_str("the ticks are done"),
            Self::OutputsGone => f.write_str("the outputs are gone"),
        }
    }
}

/// What is to be done now, and for how long nothing is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// Make the report of the tick at that time.
    pub report: Option<i64>,
    /// It is over.
    pub end: Option<End>,
    /// Sleep at most so long.
    pub sleep: Duration,
}

/// Base ticks go by here. The main thread is a little behind them, so that a report tells of the calls of its very
/// tick.
#[derive(Debug)]
pub struct Schedule {
    grid: Grid,
    planned: i64,
    lag: Duration,
}

impl Schedule {
    /// Ticks of the base interval after a moment, for ever or so many.
    #[must_use]
    pub fn new(interval: Duration, ticks: Option<u64>, now: Now) -> Self {
        let grid = Grid::new(interval, ticks, now);
        let lag = (interval / 4).min(Duration::from_millis(100));
        Self { planned: grid.next(now), grid, lag }
    }

    /// What to do at this moment.
    pub fn step(&mut self, now: Now) -> Step {
        let behind = now.before(self.lag);
        let mut step = Step { report: None, end: None, sleep: Duration::ZERO };
        if let Some(due) = self.grid.fire(self.planned, behind) {
            if self.grid.done() {
                step.end = Some(End::Ticks(due.time_ns)); // with its report at the very end
            } else {
                step.report = Some(due.time_ns);
            }
        }
        self.planned = self.grid.next(behind);
        step.sleep = behind.until(self.planned);
        step
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    const S: i64 = 1_000_000_000;
    const T: i64 = 1_700_000_000 * S;

    /// Steps through the time, sleeping as told; what was done and when, in ms. `sleep` makes of the
    /// moment and the sleep that was asked for the real one.
    fn done(ticks: Option<u64>, until_ms: i64, sleep: fn(i64, i64) -> i64) -> Vec<(i64, String)> {
        let start = Instant::now();
        let now = |ns: i64| Now {
            wall_ns: T + ns,
            mono: start + Duration::from_nanos(ns.unsigned_abs()),
        };
        let mut ns = 500_000_000;
        let mut schedule = Schedule::new(Duration::from_secs(1), ticks, now(ns));
        let mut done = Vec::new();
        while ns < until_ms * 1_000_000 {
            let step = schedule.step(now(ns));
            let ms = ns / 1_000_000;
            if let Some(time) = step.report {
                done.push((ms, format!("report {}", (time - T) / S)));
            }
            if let Some(End::Ticks(time)) = step.end {
                done.push((ms, format!("end {}", (time - T) / S)));
                break;
            }
            ns += sleep(ns, i64::try_from(step.sleep.as_nanos()).unwrap());
        }
        done
    }

    fn expected(list: &[(i64, &str)]) -> Vec<(i64, String)> {
        list.iter().map(|(ms, what)| (*ms, (*what).to_owned())).collect()
    }

    #[test]
    fn a_report_follows_each_tick() {
        let done = done(None, 3_500, |_, sleep| sleep);
        assert_eq!(done, expected(&[(1100, "report 1"), (2100, "report 2"), (3100, "report 3")]));
    }

    #[test]
    fn the_last_of_n_ticks_ends_it_and_its_report_is_left_for_the_end() {
        let done = done(Some(2), 9_000, |_, sleep| sleep);
        assert_eq!(done, expected(&[(1100, "report 1"), (2100, "end 2")]));
    }

    #[test]
    fn a_stall_skips_reports_and_their_ticks_count() {
        let done =
            done(Some(4), 9_000, |at, sleep| if at == S + S / 10 { 2_300_000_000 } else { sleep });
        assert_eq!(done, expected(&[(1100, "report 1"), (3400, "report 3"), (4100, "end 4")]));
    }
}
