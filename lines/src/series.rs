//! The series that a plugin fills: how many there are, which of them a tick has already, what their counters
//! have summed up.
//!
//! A series is a measurement with its tags, as they stand on the wire. It is kept for [`KEPT`] after it was
//! last seen.

use crate::encode::Refused;
use foldhash::fast::RandomState;
use smallvec::SmallVec;
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// How long a series is kept after its last line.
pub const KEPT: Duration = Duration::from_secs(3600);
/// Between two looks for series that are no longer kept.
const SWEEP: Duration = Duration::from_secs(60);

/// What is known of a series.
#[derive(Debug)]
struct Known {
    seen: Instant,
    /// The tick in which it last had a line of the tick's time, and the schemas of those lines.
    tick: u64,
    schemas: SmallVec<[u32; 2]>,
    /// The time of its last line of a tick.
    time_ns: Option<i64>,
    /// What its counters have summed up, by the numbers that the encoder gave them; missing ones are 0.
    sums: SmallVec<[u64; 4]>,
}

/// All of a plugin's.
#[derive(Debug)]
pub(crate) struct Series {
    places: HashMap<Box<[u8]>, u32, RandomState>,
    known: Vec<Known>,
    /// Places of `known` that nobody has.
    free: Vec<u32>,
    /// Counts the ticks.
    tick: u64,
    now: Instant,
    swept: Instant,
    /// Times of single events in this tick and the one before, by series; and with each the first later time
    /// that may be free.
    times: [HashMap<(u32, i64), i64, RandomState>; 2],
}

/// A series that a line of the tick's time may have.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Found {
    New,
    At(u32),
}

impl Series {
    pub fn new(now: Instant) -> Self {
        // Other in every process: names of processes are anybody's to choose.
        let seed = RandomState::default();
        Self {
            places: HashMap::with_hasher(seed.clone()),
            known: Vec::new(),
            free: Vec::new(),
            tick: 0,
            now,
            swept: now,
            times: [HashMap::with_hasher(seed.clone()), HashMap::with_hasher(seed.clone())],
        }
    }

    /// How many are kept.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// A tick begins.
    pub fn begin(&mut self, now: Instant) {
        self.tick += 1;
        self.now = now;
        self.times.swap(0, 1);
        self.times[0].clear();
        if now.saturating_duration_since(self.swept) >= SWEEP {
            self.swept = now;
            let (known, free) = (&mut self.known, &mut self.free);
            self.places.retain(|_, place| {
                let known = &mut known[*place as usize];
                let keep = now.saturating_duration_since(known.seen) < KEPT;
                if !keep {
                    known.sums = SmallVec::new();
                    free.push(*place);
                }
                keep
            });
        }
    }

    /// The series of a line of the tick's time. `alike` tells whether two schemas share a field.
    pub fn find(
        &self,
        key: &[u8],
        schema: u32,
        cap: usize,
        alike: impl Fn(u32, u32) -> bool,
    ) -> Result<Found, Refused> {
        let Some(&place) = self.places.get(key) else { return self.room(cap).map(|()| Found::New) };
        let known = &self.known[place as usize];
        if known.tick == self.tick && known.schemas.iter().any(|other| alike(*other, schema)) {
            return Err(Refused::Duplicate);
        }
        Ok(Found::At(place))
    }

    fn room(&self, cap: usize) -> Result<(), Refused> {
        if self.places.len() < cap { Ok(()) } else { Err(Refused::Series) }
    }

    /// The time of its last line of a tick, if it had one, and what it has summed up.
    pub fn before(&self, found: Found) -> (Option<i64>, &[u64]) {
        match found {
            Found::New => (None, &[]),
            Found::At(place) => {
                let known = &self.known[place as usize];
                (known.time_ns, &known.sums)
            }
        }
    }

    /// A line of the tick's time was taken; `sums` are the new ones, or none.
    pub fn commit(&mut self, found: Found, key: &[u8], schema: u32, time_ns: i64, sums: &[u64]) {
        let place = match found {
            Found::New => self.add(key),
            Found::At(place) => place,
        };
        let known = &mut self.known[place as usize];
        known.seen = self.now;
        known.time_ns = Some(time_ns);
        if known.tick != self.tick {
            known.tick = self.tick;
            known.schemas.clear();
        }
        known.schemas.push(schema);
        if known.sums.len() == sums.len() {
            known.sums.copy_from_slice(sums);
        } else {
            known.sums = SmallVec::from_slice(sums);
        }
    }

    /// The time of a single event: its own, or the first one after it at which its series has no event in
    /// this tick or the one before.
    pub fn place_event(&mut self, key: &[u8], time_ns: i64, cap: usize) -> Result<i64, Refused> {
        let place = match self.places.get(key) {
            Some(place) => *place,
            None => self.room(cap).map(|()| self.add(key))?,
        };
        self.known[place as usize].seen = self.now;
        let mut free = time_ns;
        while let Some(next) = self.times.iter().find_map(|times| times.get(&(place, free))) {
            free = *next;
        }
        let next = free.saturating_add(1);
        self.times[0].insert((place, free), next);
        if free != time_ns {
            self.times[0].insert((place, time_ns), next); // for the next one of this time
        }
        Ok(free)
    }

    fn add(&mut self, key: &[u8]) -> u32 {
        let (seen, schemas) = (self.now, SmallVec::new());
        let known = Known { seen, tick: 0, schemas, time_ns: None, sums: SmallVec::new() };
        let place = if let Some(place) = self.free.pop() {
            self.known[place as usize] = known;
            place
        } else {
            self.known.push(known);
            u32::try_from(self.known.len() - 1).expect("fewer series than bytes in memory")
        };
        self.places.insert(key.into(), place);
        place
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    fn take(series: &mut Series, key: &str, cap: usize, sum: u64) -> Result<u64, Refused> {
        let alike = |a, b| a == b;
        let found = series.find(key.as_bytes(), 0, cap, alike)?;
        let sum = series.before(found).1.first().unwrap_or(&0) + sum;
        series.commit(found, key.as_bytes(), 0, 1, &[sum]);
        Ok(sum)
    }

    #[test]
    fn a_series_is_kept_for_an_hour_after_it_was_last_seen_and_then_makes_room() {
        let start = Instant::now();
        let mut series = Series::new(start);
        series.begin(start);
        assert_eq!(take(&mut series, "a", 2, 5), Ok(5));
        assert_eq!(take(&mut series, "b", 2, 1), Ok(1));
        assert_eq!(take(&mut series, "c", 2, 1), Err(Refused::Series));
        series.begin(start + KEPT - seconds(1));
        assert_eq!(take(&mut series, "a", 2, 3), Ok(8), "still known");
        series.begin(start + KEPT + SWEEP);
        assert_eq!(series.len(), 1, "`b` was not seen for an hour");
        assert_eq!(take(&mut series, "c", 2, 1), Ok(1));
        assert_eq!(take(&mut series, "a", 2, 1), Ok(9));
    }

    #[test]
    fn a_series_has_one_line_a_tick_unless_schemas_share_no_field() {
        let mut series = Series::new(Instant::now());
        series.begin(Instant::now());
        assert_eq!(take(&mut series, "a", 9, 1), Ok(1));
        assert_eq!(take(&mut series, "a", 9, 1), Err(Refused::Duplicate));
        assert!(series.find(b"a", 1, 9, |_, _| false).is_ok());
        assert!(series.find(b"a", 1, 9, |_, _| true).is_err());
        series.begin(Instant::now());
        assert_eq!(take(&mut series, "a", 9, 1), Ok(2));
    }

    #[test]
    fn events_of_one_moment_lie_a_nanosecond_apart_across_ticks_too() {
        let mut series = Series::new(Instant::now());
        series.begin(Instant::now());
        let mut place = |key: &str, time| series.place_event(key.as_bytes(), time, 9).unwrap();
        assert_eq!([place("a", 5), place("a", 5), place("a", 6), place("a", 5)], [5, 6, 7, 8]);
        assert_eq!((place("b", 5), place("a", 4), place("a", 4)), (5, 4, 9));
        series.begin(Instant::now());
        let mut place = |key: &str, time| series.place_event(key.as_bytes(), time, 9).unwrap();
        assert_eq!((place("a", 5), place("a", 5), place("b", 6)), (10, 11, 6));
    }

    #[test]
    fn thousands_of_events_of_one_moment_are_placed_in_no_time() {
        let mut series = Series::new(Instant::now());
        let begin = Instant::now();
        for n in 0..100_000 {
            assert_eq!(series.place_event(b"a", 7, 9).unwrap(), 7 + n);
        }
        assert!(begin.elapsed() < seconds(30), "by trying one after the other it takes minutes");
    }
}
