//! When ticks are: multiples of the interval on the wall clock, slept for by the monotonic clock.
//!
//! A missed tick is skipped and counted, never replayed. What happens to timestamps when the wall clock
//! is set:
//! - Forward: the tick that is due then carries the newest multiple. Nothing counts as missed.
//! - Back by up to an interval: the tick that was already made is not made again; the next one is the
//!   multiple after it. No timestamp comes twice.
//! - Back by more, up to [`REACH_NS`]: ticks go on, and until the clock has caught up each stands a millisecond behind
//!   the one before. No timestamp comes twice, so no database merges two lines, and no sum goes back and forth.
//! - Back by more than that: ticks follow the new clock; the one that was slept for carries the newest multiple, too.
//!   So timestamps of the time gone over come a second time. A database then keeps the newer line of two with
//!   equal tags and time. Waiting for the clock to catch up would be a hole of that length instead.
//!
//! The measured `elapsed_ns` of a tick is right in every case.
//!
//! Every tick stands in a later millisecond than the one before, also the last one, which is beside the grid, and those
//! of an instance that follows another one: databases that keep milliseconds would swap or merge the two.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

const MS: i64 = 1_000_000;

/// A clock that is set back by no more than this leads to no earlier time than a tick had.
pub const REACH_NS: i64 = 60_000_000_000;

/// Nobody sleeps longer at once: a wall clock that is set is noticed this soon.
pub const LONGEST_SLEEP: Duration = Duration::from_secs(10);

/// By how much the two clocks may differ over an interval, as they are not read at the same moment.
const BOTH_CLOCKS: Duration = Duration::from_millis(1);

/// Both clocks, read together.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// Nanoseconds since 1970 UTC.
    pub wall_ns: i64,
    /// The monotonic clock.
    pub mono: Instant,
}

impl Now {
    /// Reads them.
    #[must_use]
    pub fn read() -> Self {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { wall_ns: i64::try_from(wall.as_nanos()).unwrap_or(i64::MAX), mono: Instant::now() }
    }

    /// What the wall clock showed a while before, for who follows the ticks so far behind.
    #[must_use]
    pub fn before(self, lag: Duration) -> Self {
        Self { wall_ns: self.wall_ns - lag.as_nanos() as i64, ..self }
    }

    /// The moment of a time that both clocks have passed.
    #[must_use]
    pub fn back_at(self, wall_ns: i64) -> Self {
        let ago = u64::try_from(self.wall_ns.saturating_sub(wall_ns)).unwrap_or(0);
        let mono = self.mono.checked_sub(Duration::from_nanos(ago));
        Self { wall_ns, mono: mono.unwrap_or(self.mono) }
    }

    /// How long to sleep for a tick that is planned.
    #[must_use]
    pub fn until(self, planned: i64) -> Duration {
        let ns = u64::try_from(planned.saturating_sub(self.wall_ns)).unwrap_or(0);
        Duration::from_nanos(ns).min(LONGEST_SLEEP)
    }
}

/// A tick that is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Due {
    /// The tick's time: a multiple of the interval.
    pub time_ns: i64,
    /// Ticks that were skipped before it.
    pub missed: u64,
}

/// The ticks of one interval.
#[derive(Clone, Copy, Debug)]
pub struct Grid {
    interval_ns: i64,
    /// Ticks still to come, missed ones among them.
    left: Option<u64>,
    /// Time of the last tick, and when that was by the monotonic clock, however late the tick was made. Before the first
    /// one: where one would have been.
    last: (i64, Instant),
    /// The time of the newest tick, which can be later than its place on the grid; 0 before the first one.
    newest_ns: i64,
}

impl Grid {
    /// Ticks every so often, after a moment: for ever, or so many.
    ///
    /// # Panics
    /// The interval is 0 or longer than 292 years; the configuration allows neither.
    #[must_use]
    pub fn new(interval: Duration, ticks: Option<u64>, now: Now) -> Self {
        let interval_ns = i64::try_from(interval.as_nanos()).expect("an interval of years");
        assert!(interval_ns > 0, "an interval of 0");
        let mut grid = Self { interval_ns, left: ticks, last: (0, now.mono), newest_ns: 0 };
        grid.restart(now);
        grid
    }

    /// Its ticks come after another one, of an instance before.
    pub fn follow(&mut self, newest_ns: i64) {
        self.newest_ns = newest_ns;
    }

    /// Goes on after a pause, whose ticks count neither as made nor as missed.
    pub fn restart(&mut self, now: Now) {
        let past = now.wall_ns.rem_euclid(self.interval_ns);
        let mono = now.mono.checked_sub(Duration::from_nanos(past.unsigned_abs()));
        self.last = (now.wall_ns - past, mono.unwrap_or(now.mono));
    }

    /// The tick to sleep for. Asked again after every sleep that ended early, as the clock may have
    /// been set.
    #[must_use]
    pub fn next(&self, now: Now) -> i64 {
        let next = (now.wall_ns.div_euclid(self.interval_ns) + 1) * self.interval_ns;
        if next == self.last.0 { next + self.interval_ns } else { next }
    }

    /// Makes the tick when the planned one is due. Of so many ticks, the last one keeps its place
    /// however late it is.
    pub fn fire(&mut self, planned: i64, now: Now) -> Option<Due> {
        let (last, mono) = self.last;
        let mut time_ns = now.wall_ns.div_euclid(self.interval_ns) * self.interval_ns;
        // The clock was set back behind the last tick, and an interval has passed since that.
        let slept = (now.mono + BOTH_CLOCKS - mono).as_nanos() as i64 >= self.interval_ns;
        let set_back = time_ns < last && slept;
        if (now.wall_ns < planned && !set_back) || self.done() {
            return None;
        }
        let late = Duration::from_nanos((now.wall_ns - time_ns).unsigned_abs());
        // By the wall clock alone a step forward would look like missed ticks; by the monotonic one
        // alone a late tick would.
        let wall = (time_ns - last) / self.interval_ns - 1;
        let intervals = (now.mono - mono).as_nanos() as f64 / self.interval_ns as f64;
        let mut missed = wall.min(intervals.round() as i64 - 1).max(0);
        if let Some(left) = &mut self.left {
            let most = i64::try_from(*left).unwrap_or(i64::MAX);
            let beyond = (missed + 1 - most).max(0);
            missed -= beyond;
            time_ns -= beyond * self.interval_ns;
            *left -= missed.unsigned_abs() + 1;
        }
        self.last = (time_ns, now.mono.checked_sub(late).unwrap_or(now.mono));
        let time_ns = after(self.newest_ns, time_ns);
        self.newest_ns = time_ns;
        Some(Due { time_ns, missed: missed.unsigned_abs() })
    }

    /// Ticks up to a moment that are neither made nor counted as missed. A clock that was set forward has passed none.
    #[must_use]
    pub fn passed(&self, at: Now) -> u64 {
        let (last, mono) = self.last;
        let wall = at.wall_ns.max(last).saturating_sub(last) / self.interval_ns;
        let passed = at.mono.saturating_duration_since(mono).as_nanos() as f64;
        let intervals = (passed / self.interval_ns as f64).round() as i64;
        wall.min(intervals).unsigned_abs().min(self.left.unwrap_or(u64::MAX))
    }

    /// The time of a tick beside the grid.
    #[must_use]
    pub fn beside(&self, time_ns: i64) -> i64 {
        after(self.newest_ns.max(self.last.0), time_ns)
    }

    /// Whether all of so many ticks were made.
    #[must_use]
    pub fn done(&self) -> bool {
        self.left == Some(0)
    }
}

/// A time for the tick after another one, in a later millisecond. That goes before the true time where both are in
/// one, and where the clock was set back by up to [`REACH_NS`]; one that was set back by more is followed.
#[must_use]
pub fn after(last_ns: i64, time_ns: i64) -> i64 {
    let next = (last_ns.div_euclid(MS) + 1) * MS;
    if time_ns < next && next - time_ns <= REACH_NS { next } else { time_ns }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: i64 = 1_000_000_000;
    /// A wall clock on a multiple of ten seconds.
    const T: i64 = 1_700_000_000 * S;

    /// Two clocks, of which one can be set.
    struct Clock {
        start: Instant,
        mono: i64,
        wall: i64,
    }

    impl Clock {
        fn now(&self) -> Now {
            let mono = self.start + Duration::from_nanos(self.mono.unsigned_abs());
            Now { wall_ns: self.wall, mono }
        }
        fn pass(&mut self, ns: i64) {
            self.mono += ns;
            self.wall += ns;
        }
        /// Sleeps as a runner does, until a tick is due.
        fn tick(&mut self, grid: &mut Grid) -> Due {
            loop {
                let planned = grid.next(self.now());
                let sleep = self.now().until(planned);
                self.pass(i64::try_from(sleep.as_nanos()).unwrap());
                if let Some(due) = grid.fire(planned, self.now()) {
                    return due;
                }
            }
        }
    }

    #[test]
    fn a_tick_beside_the_grid_has_a_millisecond_of_its_own() {
        for (last, time, expected) in [
            (T, T + 5 * MS + 1, T + 5 * MS + 1),
            (T, T + MS, T + MS),
            (T, T + 7, T + MS), // in one millisecond
            (T, T, T + MS),
            (T, T - 7, T + MS),        // the order came a moment before the tick
            (T, T - 400 * MS, T + MS), // set back
            (T, T - 59 * S, T + MS),
            (T, T - 60 * S, T - 60 * S), // by more: the new clock is followed
            (0, T, T),
            (T + 2 * MS - 1, T + 2 * MS - 1, T + 2 * MS),
        ] {
            assert_eq!(after(last, time), expected, "{last}, {time}");
        }
    }

    /// A clock 3 s into its interval of 10 s, after one tick.
    fn after_one_tick() -> (Clock, Grid) {
        let mut clock = Clock { start: Instant::now(), mono: 0, wall: T - 5 * S };
        let mut grid = Grid::new(Duration::from_secs(10), None, clock.now());
        assert_eq!(clock.tick(&mut grid), Due { time_ns: T, missed: 0 });
        clock.pass(3 * S);
        (clock, grid)
    }

    #[test]
    fn ticks_are_multiples_of_the_interval_without_drift() {
        let (mut clock, mut grid) = after_one_tick();
        for i in 1..1000 {
            assert_eq!(clock.tick(&mut grid), Due { time_ns: T + i * 10 * S, missed: 0 });
            clock.pass(i * 7 * MS); // calls take their time, late wakings too
        }
    }

    #[test]
    fn a_stall_skips_its_ticks_and_counts_them() {
        for (stall, next, missed) in [
            (0, 10, 0),
            (6_999, 10, 0),
            (7_000, 20, 1), // at a tick's very moment its sleep could no longer begin
            (8_000, 20, 1),
            (50_000, 60, 5),
            (57_001, 70, 6),
        ] {
            let (mut clock, mut grid) = after_one_tick();
            clock.pass(stall * MS);
            let due = Due { time_ns: T + next * S, missed };
            assert_eq!(clock.tick(&mut grid), due, "stalled for {stall} ms");
            assert_eq!(clock.tick(&mut grid), Due { time_ns: due.time_ns + 10 * S, missed: 0 });
        }
    }

    #[test]
    fn a_late_waking_makes_the_newest_tick() {
        for (late, time, missed) in [(100, 10, 0), (9_999, 10, 0), (10_000, 20, 1), (25_000, 30, 2)]
        {
            let (mut clock, mut grid) = after_one_tick();
            let planned = grid.next(clock.now());
            clock.pass(7 * S + late * MS);
            let due = grid.fire(planned, clock.now());
            assert_eq!(due, Some(Due { time_ns: T + time * S, missed }), "{late} ms late");
        }
    }

    #[test]
    fn a_tick_that_is_missed_behind_a_late_one_is_counted() {
        let (mut clock, mut grid) = after_one_tick();
        for late in [9_000, 1_000, 6_000, 4_000] {
            let planned = grid.next(clock.now());
            clock.pass(planned - clock.wall + S + late * MS);
            let before = grid.last.0;
            let due = grid.fire(planned, clock.now()).unwrap();
            let slots = (due.time_ns - before) / (10 * S);
            assert_eq!(1 + due.missed, slots.unsigned_abs(), "{late} ms late");
        }
    }

    #[test]
    fn a_clock_step_is_followed_within_an_interval_and_nothing_counts_as_missed() {
        for (step_ms, first, second) in [
            (400, 10, 20),
            (-400, 10, 20),
            (3_600_000, 3_610, 3_620),
            (3_603_400, 3_610, 3_620),
            (-3_600_000, -3_590, -3_580),
            (-3_603_400, -3_600, -3_590),
        ] {
            let (mut clock, mut grid) = after_one_tick();
            clock.wall += step_ms * MS;
            for time in [first, second] {
                let due = Due { time_ns: T + time * S, missed: 0 };
                assert_eq!(clock.tick(&mut grid), due, "step of {step_ms} ms");
            }
        }
    }

    #[test]
    fn a_step_while_asleep_is_noticed_at_waking() {
        for (step_ms, time) in [
            (400, 10),
            (-400, 10),
            (3_600_000, 3_610),
            (-3_600_000, -3_590),
            (-3_601_000, -3_600),
            (-10_000, 10), // to the very tick that was made
        ] {
            let (mut clock, mut grid) = after_one_tick();
            let planned = grid.next(clock.now());
            clock.wall += step_ms * MS;
            clock.pass(7 * S); // as it was planned
            let due = grid.fire(planned, clock.now()).unwrap_or_else(|| clock.tick(&mut grid));
            assert_eq!(due, Due { time_ns: T + time * S, missed: 0 }, "step of {step_ms} ms");
            let next = Due { time_ns: T + (time + 10) * S, missed: 0 };
            assert_eq!(clock.tick(&mut grid), next, "step of {step_ms} ms");
        }
    }

    #[test]
    fn a_small_step_back_just_after_a_tick_repeats_no_timestamp() {
        let (mut clock, mut grid) = after_one_tick();
        clock.wall = T - 400 * MS;
        assert_eq!(clock.tick(&mut grid), Due { time_ns: T + 10 * S, missed: 0 });
    }

    #[test]
    fn a_clock_that_is_set_back_by_up_to_a_minute_repeats_no_timestamp_and_no_tick_waits() {
        for back_s in [11, 25, 59] {
            let (mut clock, mut grid) = after_one_tick();
            let planned = grid.next(clock.now());
            clock.wall -= back_s * S;
            clock.pass(7 * S);
            let due = grid.fire(planned, clock.now()).unwrap_or_else(|| clock.tick(&mut grid));
            assert_eq!(due, Due { time_ns: T + MS, missed: 0 }, "back by {back_s} s");
            let mut last = due.time_ns;
            let mut caught_up = false;
            for _ in 0..10 {
                let began = clock.mono;
                let due = clock.tick(&mut grid);
                assert_eq!(due.missed, 0, "back by {back_s} s");
                let ahead = clock.wall < last;
                let expected = if ahead { last + MS } else { clock.wall };
                assert!(!caught_up || !ahead);
                assert_eq!(due.time_ns, expected, "back by {back_s} s");
                assert!(clock.mono - began <= 20 * S, "back by {back_s} s");
                (last, caught_up) = (due.time_ns, !ahead);
            }
            assert!(caught_up, "back by {back_s} s");
        }
    }

    #[test]
    fn the_last_tick_after_a_clock_was_set_back_stands_behind_the_others() {
        let (mut clock, mut grid) = after_one_tick();
        clock.wall -= 33 * S;
        assert_eq!(grid.beside(clock.wall), T + MS);
        let planned = grid.next(clock.now());
        clock.pass(10 * S);
        grid.fire(planned, clock.now()).unwrap_or_else(|| clock.tick(&mut grid));
        assert_eq!(grid.beside(clock.wall), T + 2 * MS);
    }

    #[test]
    fn the_ticks_of_the_next_instance_stand_behind_those_of_the_one_before() {
        let clock = Clock { start: Instant::now(), mono: 0, wall: T + 7 };
        let mut grid = Grid::new(Duration::from_secs(10), None, clock.now());
        grid.follow(T + MS);
        assert_eq!(grid.beside(clock.wall), T + 2 * MS);
    }

    #[test]
    fn the_first_tick_can_be_missed_like_any_other() {
        let mut clock = Clock { start: Instant::now(), mono: 0, wall: T - 5 * S };
        let mut grid = Grid::new(Duration::from_secs(10), None, clock.now());
        let planned = grid.next(clock.now());
        clock.pass(16 * S);
        let due = grid.fire(planned, clock.now());
        assert_eq!(due, Some(Due { time_ns: T + 10 * S, missed: 1 }));
    }

    #[test]
    fn of_so_many_ticks_made_and_missed_ones_are_just_so_many_and_the_last_has_its_place() {
        for stall in [0, 12, 25, 31, 300] {
            let mut clock = Clock { start: Instant::now(), mono: 0, wall: T - 5 * S };
            let mut grid = Grid::new(Duration::from_secs(10), Some(4), clock.now());
            let mut dues = vec![clock.tick(&mut grid)];
            let planned = grid.next(clock.now());
            clock.pass(stall * S);
            dues.extend(grid.fire(planned, clock.now()));
            while !grid.done() {
                dues.push(clock.tick(&mut grid));
            }
            let slots: u64 = dues.iter().map(|due| 1 + due.missed).sum();
            assert_eq!(slots, 4, "stalled for {stall} s: {dues:?}");
            assert_eq!(dues.last().unwrap().time_ns, T + 30 * S, "{dues:?}");
            assert_eq!(grid.fire(0, clock.now()), None);
        }
    }

    #[test]
    fn ticks_that_a_long_call_has_passed_at_the_end_are_known() {
        let (mut clock, mut grid) = after_one_tick();
        assert_eq!(clock.tick(&mut grid).time_ns, T + 10 * S);
        clock.pass(90 * S);
        let at = |end: i64| clock.now().back_at(T + end * S);
        for (end, passed) in [(0, 0), (10, 0), (19, 0), (20, 1), (39, 2), (100, 9)] {
            assert_eq!(grid.passed(at(end)), passed, "{end}");
        }
        assert_eq!(grid.passed(clock.now().back_at(i64::MIN)), 0);
        let limited = Grid::new(Duration::from_secs(10), Some(2), at(10));
        assert_eq!(limited.passed(clock.now()), 2);
        clock.wall += 3600 * S;
        assert_eq!(grid.passed(clock.now()), 9, "a step of the clock");
    }

    #[test]
    fn a_pause_counts_no_ticks() {
        let (mut clock, mut grid) = after_one_tick();
        clock.pass(55 * S);
        grid.restart(clock.now());
        assert_eq!(clock.tick(&mut grid), Due { time_ns: T + 60 * S, missed: 0 });
    }

    #[test]
    fn nobody_sleeps_past_the_moment_when_a_set_clock_is_noticed() {
        let now = Now { wall_ns: T, mono: Instant::now() };
        assert_eq!(now.until(T + 3600 * S), LONGEST_SLEEP);
        assert_eq!(now.until(T + S), Duration::from_secs(1));
        assert_eq!(now.until(T - S), Duration::ZERO);
    }
}
