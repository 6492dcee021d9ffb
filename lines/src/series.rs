//! The series that a plugin fills: how many there are, which of them a tick has already, what their counters
//! have summed up.
//!
//! A series is a measurement with its tags, as they stand on the wire. It is kept for [`KEPT`] after it was
//! last seen, and as long as each tick has a line of it, however far apart ticks are.

use crate::encode::Refused;
use foldhash::fast::RandomState;
use hashbrown::HashTable;
use smallvec::SmallVec;
use std::collections::HashMap;
use std::hash::BuildHasher as _;
use std::time::{Duration, Instant};

/// How long a series is kept after its last line.
pub const KEPT: Duration = Duration::from_secs(3600);
/// Between two looks for series that are no longer kept.
const SWEEP: Duration = Duration::from_secs(60);

/// What a series' counters have summed up, by the numbers that the encoder gave them; missing ones are 0.
pub(crate) type Counted = SmallVec<[u64; 4]>;

/// What is known of a series: two cache lines, of which the second one is for those who sum up.
#[derive(Debug)]
#[repr(C, align(64))]
struct Known {
    /// Measurement and tags; empty in a place that nobody has.
    key: Box<[u8]>,
    seen: Instant,
    /// The tick in which it last had a line of the tick's time, and the schemas of those lines: mostly one.
    tick: u64,
    schema: u32,
    /// The place of the series whose line came behind its own; the next tick's is likely to do so too.
    next: u32,
    #[expect(clippy::box_collection, reason = "nearly always nothing")]
    more_schemas: Option<Box<Vec<u32>>>,
    /// The time of its last line of a tick, or [`NEVER`].
    time_ns: i64,
    counted: Counted,
}

/// No line has this time: they are in and after 1970.
const NEVER: i64 = i64::MIN;

/// All of a plugin's.
#[derive(Debug)]
pub(crate) struct Series {
    /// The places of those that are kept, by their keys.
    places: HashTable<u32>,
    hasher: RandomState,
    known: Vec<Known>,
    /// Places of `known` that nobody has.
    free: Vec<u32>,
    /// Counts the ticks.
    tick: u64,
    /// The place of the last line's series.
    last: u32,
    now: Instant,
    swept: Instant,
    /// Times of single events in this tick and the one before, by series; and with each the first later time
    /// that may be free.
    times: [HashMap<(u32, i64), i64, RandomState>; 2],
}

/// A series that a line may have.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entered {
    place: u32,
    /// It has had no line.
    new: bool,
}

impl Series {
    pub fn new(now: Instant) -> Self {
        // Other in every process: names of processes are anybody's to choose.
        let seed = RandomState::default();
        Self {
            places: HashTable::new(),
            hasher: seed.clone(),
            known: Vec::new(),
            free: Vec::new(),
            tick: 0,
            last: 0,
            now,
            swept: now,
            times: [HashMap::with_hasher(seed.clone()), HashMap::with_hasher(seed)],
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
            let (known, free, tick) = (&mut self.known, &mut self.free, self.tick);
            self.places.retain(|place| {
                let known = &mut known[*place as usize];
                let seen_lately = now.saturating_duration_since(known.seen) < KEPT;
                let keep = seen_lately || known.tick + 1 >= tick;
                if !keep {
                    known.vacate();
                    free.push(*place);
                }
                keep
            });
        }
    }

    /// The series of a line of the tick's time; a new one too, if there is room for it. `alike` tells whether two
    /// schemas share a field. [`Series::commit`] or [`Series::leave`] follows.
    pub fn enter(
        &mut self,
        key: &[u8],
        schema: u32,
        cap: usize,
        alike: impl Fn(u32, u32) -> bool,
    ) -> Result<Entered, Refused> {
        let entered = self.place(key, cap)?;
        let known = &self.known[entered.place as usize];
        if known.tick == self.tick && known.schemas().any(|other| alike(other, schema)) {
            return Err(Refused::Duplicate);
        }
        Ok(entered)
    }

    /// The time of its last line of a tick, if it had one, and what it has summed up.
    pub fn counted(&mut self, at: Entered) -> (Option<i64>, &mut Counted) {
        let known = &mut self.known[at.place as usize];
        let last_ns = (known.time_ns != NEVER).then_some(known.time_ns);
        (last_ns, &mut known.counted)
    }

    /// A line of the tick's time was taken.
    pub fn commit(&mut self, Entered { place, .. }: Entered, schema: u32, time_ns: i64) {
        self.known[self.last as usize].next = place;
        self.last = place;
        let known = &mut self.known[place as usize];
        known.seen = self.now;
        known.time_ns = time_ns;
        if known.tick == self.tick {
            known.more_schemas.get_or_insert_default().push(schema);
        } else {
            (known.tick, known.schema, known.more_schemas) = (self.tick, schema, None);
        }
    }

    /// The line was refused: a new series that has none is forgotten.
    pub fn leave(&mut self, Entered { place, new }: Entered) {
        if new {
            let hash = self.hasher.hash_one(&*self.known[place as usize].key);
            if let Ok(entry) = self.places.find_entry(hash, |other| *other == place) {
                entry.remove();
            }
            self.known[place as usize].vacate();
            self.free.push(place);
        }
    }

    /// The time of a single event: its own, or the first one after it at which its series has no event in
    /// this tick or the one before.
    pub fn place_event(&mut self, key: &[u8], time_ns: i64, cap: usize) -> Result<i64, Refused> {
        let place = self.place(key, cap)?.place;
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

    /// Where the series with this key is kept from now on.
    fn place(&mut self, key: &[u8], cap: usize) -> Result<Entered, Refused> {
        let (known, hasher) = (&mut self.known, &self.hasher);
        if let Some(last) = known.get(self.last as usize) {
            let place = last.next;
            if *known[place as usize].key == *key {
                return Ok(Entered { place, new: false });
            }
        }
        let hash = hasher.hash_one(key);
        let found = self.places.find(hash, |place| *known[*place as usize].key == *key);
        if let Some(place) = found {
            return Ok(Entered { place: *place, new: false });
        }
        if self.places.len() >= cap {
            return Err(Refused::Series);
        }
        let place = self.free.pop().unwrap_or_else(|| {
            known.push(Known::nobody(self.now));
            u32::try_from(known.len() - 1).expect("fewer series than bytes in memory")
        });
        known[place as usize] = Known { key: key.into(), ..Known::nobody(self.now) };
        let hash_of = |place: &u32| hasher.hash_one(&*known[*place as usize].key);
        self.places.insert_unique(hash, place, hash_of);
        Ok(Entered { place, new: true })
    }
}

impl Known {
    fn nobody(seen: Instant) -> Self {
        Self {
            key: Box::default(),
            seen,
            tick: 0,
            schema: 0,
            next: 0,
            more_schemas: None,
            time_ns: NEVER,
            counted: Counted::new(),
        }
    }

    /// Those of its lines of the tick in which it last had one.
    fn schemas(&self) -> impl Iterator<Item = u32> {
        let more = self.more_schemas.iter().flat_map(|more| more.iter().copied());
        std::iter::once(self.schema).chain(more)
    }

    fn vacate(&mut self) {
        (self.key, self.counted) = (Box::default(), Counted::new());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    fn take(series: &mut Series, key: &str, cap: usize, sum: u64) -> Result<u64, Refused> {
        let entered = series.enter(key.as_bytes(), 0, cap, |a, b| a == b)?;
        let (_, counted) = series.counted(entered);
        counted.resize(1, 0);
        counted[0] += sum;
        let sum = counted[0];
        series.commit(entered, 0, 1);
        Ok(sum)
    }

    #[test]
    fn lines_find_their_series_in_whatever_order_they_come() {
        let mut series = Series::new(Instant::now());
        let mut counts = HashMap::new();
        for (tick, keys) in ["abc", "abc", "cab", "xabyc", "", "b", "abcxy"].iter().enumerate() {
            series.begin(Instant::now());
            for key in keys.chars() {
                let count = counts.entry(key).or_insert(0);
                *count += 1;
                let sum = take(&mut series, &key.to_string(), 9, 1);
                assert_eq!(sum, Ok(*count), "{key} in tick {tick}");
            }
        }
        assert_eq!(series.len(), 5);
    }

    #[test]
    fn a_new_series_whose_line_is_refused_takes_no_room() {
        let mut series = Series::new(Instant::now());
        series.begin(Instant::now());
        let mut refused = |key: &[u8]| {
            let entered = series.enter(key, 0, 2, |a, b| a == b).expect("room");
            series.leave(entered);
            series.len()
        };
        assert_eq!([refused(b"a"), refused(b"a"), refused(b"b")], [0; 3]);
        assert_eq!(take(&mut series, "b", 2, 4), Ok(4));
        let entered = series.enter(b"b", 1, 2, |a, b| a == b).expect("known");
        series.leave(entered);
        series.begin(Instant::now());
        assert_eq!(take(&mut series, "b", 2, 1), Ok(5), "a known one stays");
        series.place_event(b"c", 7, 2).expect("room");
        let entered = series.enter(b"c", 0, 2, |a, b| a == b).expect("known");
        series.leave(entered);
        assert_eq!(series.len(), 2, "an event is a line too");
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
    fn a_series_of_every_tick_is_kept_however_far_apart_ticks_are() {
        let start = Instant::now();
        let mut series = Series::new(start);
        for (tick, sum) in [(0, 1), (1, 2), (2, 3)] {
            series.begin(start + 2 * KEPT * tick);
            assert_eq!(take(&mut series, "a", 2, 1), Ok(sum), "tick {tick}");
        }
        series.begin(start + 2 * KEPT * 3);
        series.begin(start + 2 * KEPT * 4);
        assert_eq!(series.len(), 0, "a tick had none of it");
    }

    #[test]
    fn a_series_has_one_line_a_tick_unless_schemas_share_no_field() {
        let mut series = Series::new(Instant::now());
        series.begin(Instant::now());
        assert_eq!(take(&mut series, "a", 9, 1), Ok(1));
        assert_eq!(take(&mut series, "a", 9, 1), Err(Refused::Duplicate));
        assert!(series.enter(b"a", 1, 9, |_, _| true).is_err());
        assert!(series.enter(b"a", 1, 9, |_, _| false).is_ok());
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
