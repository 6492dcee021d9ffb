//! The lines of a tick, in every form that some output asks for.
//!
//! One [`Encoder`] encodes what one plugin pushes, on that plugin's thread. It knows the plugin's series, so it
//! bounds their number, finds two lines of one series in a tick, and sums up counters.
//!
//! # Counters that accumulate
//! A series whose counters begin, or go on after ticks without a line, first gets a line with what they had
//! summed up before (0 at their beginning, and after five minutes without a line), at the begin of the time that
//! the new line covers. So the increase from there on is exactly what was counted, though the series was not there
//! before, and a collector that was started again counts from a 0 that is on record. Lines with a time of their own are single events; their
//! values stay as they are.
//!
//! # The begin of an interval
//! A tick covers a measured time, which is not to the nanosecond the one since the time of the tick before. For
//! [`Buckets::Typed`] it begins at that tick's time, or where that one began when its call failed, which the monotonic
//! clock tells; and not before there was an encoder, so that it lies behind all that the collector's run before has
//! sent. Of two ticks in one millisecond, such as the last one at the end, the second is a millisecond later there.

pub use crate::row::Page;

use crate::encode::{Refused, Schema, end_of_line, time_of};
use crate::form::{Buckets, Counters, Form};
use crate::row::{Encoded, Ends, Sums};
use crate::series::Series;
use plugin_api::Row;
use plugin_api::abi::{TICK_TIME, Tick, Val};
use plugin_api::abi_stable::std_types::RStr;
use smallvec::SmallVec;
use std::collections::HashMap;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// What there is room for.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    /// Bytes of a tick, in each form.
    pub bytes: usize,
    /// Series that are kept.
    pub series: usize,
}

impl Room {
    /// For the collector's own lines, which are few.
    pub const ANY: Self = Self { bytes: usize::MAX, series: usize::MAX };
}

/// Encodes rows.
#[derive(Debug)]
pub struct Encoder {
    schemas: Vec<Schema>,
    /// Keys of fields by table: a sum has the number of its field's key, whatever schema it comes with.
    sums: HashMap<String, Vec<Vec<u8>>>,
    pages: Vec<Page>,
    series: Series,
    accumulates: bool,
    /// When it was made.
    born_ns: i64,
    tick: Tick,
    /// Its time in [`Buckets::Typed`].
    typed_ns: i64,
    /// Where its interval begins.
    begin_ns: i64,
    /// When it and its interval began by the monotonic clock, once there was one.
    clock: Option<[Instant; 2]>,
    /// The end of a line of the tick.
    end: Vec<u8>,
    /// The same of [`Buckets::Typed`].
    typed_end: Vec<u8>,
    /// Measurement and tags of the row.
    key: Vec<u8>,
    /// The ends of a line of another time.
    other_end: Vec<u8>,
    other_typed_end: Vec<u8>,
}

impl Encoder {
    /// Encodes into these forms.
    #[must_use]
    pub fn new(forms: &[Form]) -> Self {
        let page = |form: &Form| Page { form: *form, lines: 0, bytes: Vec::new() };
        Self {
            schemas: Vec::new(),
            sums: HashMap::new(),
            pages: forms.iter().map(page).collect(),
            series: Series::new(Instant::now()),
            accumulates: forms.iter().any(|form| form.counters == Counters::Cumulative),
            born_ns: wall_ns(),
            tick: Tick { seq: 0, time_ns: 0, elapsed_ns: 0 },
            typed_ns: 0,
            begin_ns: 0,
            clock: None,
            end: Vec::new(),
            typed_end: Vec::new(),
            key: Vec::new(),
            other_end: Vec::new(),
            other_typed_end: Vec::new(),
        }
    }

    /// The same for lines about times before it was made.
    #[must_use]
    pub fn about_any_time(self) -> Self {
        Self { born_ns: 0, ..self }
    }

    /// Its lines come after those of another encoder for the same series, the last of which had this time: what it
    /// begins with stands in a later millisecond.
    pub fn follow(&mut self, last_ns: i64) {
        if last_ns > 0 {
            self.born_ns = (last_ns.div_euclid(MS) + 1) * MS;
        }
    }

    /// Adds a table, and says its number.
    pub fn add(&mut self, table: &str, mut schema: Schema) -> u32 {
        let known = self.sums.entry(table.to_owned()).or_default();
        for field in schema.fields.iter_mut().filter(|field| field.counter) {
            field.sum = known.iter().position(|key| *key == field.key).unwrap_or_else(|| {
                known.push(field.key.clone());
                known.len() - 1
            });
            schema.sums = schema.sums.max(field.sum + 1);
        }
        self.schemas.push(schema);
        (self.schemas.len() - 1) as u32
    }

    /// A tick begins: rows without a time of their own get its time.
    pub fn begin(&mut self, tick: Tick, now: Instant) {
        self.begin_interval(&tick, now);
        self.tick = tick;
        self.end.clear();
        end_of_line(Some(tick.elapsed_ns), tick.time_ns, &mut self.end);
        self.typed_end.clear();
        let covered_ns = self.typed_ns.abs_diff(self.begin_ns);
        end_of_line(Some(covered_ns), self.typed_ns, &mut self.typed_end);
        self.series.begin(now);
    }

    /// Finds the times of a tick and of its interval's begin for [`Buckets::Typed`].
    fn begin_interval(&mut self, tick: &Tick, now: Instant) {
        let (last_ns, last_begin_ns) = (self.typed_ns, self.begin_ns);
        let ms = |ns: i64| ns.div_euclid(MS);
        let same = ms(tick.time_ns) == ms(last_ns) && last_ns > 0;
        self.typed_ns = if same { (ms(last_ns) + 1) * MS } else { tick.time_ns };
        let elapsed = Duration::from_nanos(tick.elapsed_ns);
        let since = now.checked_sub(elapsed).unwrap_or(now);
        let measured_ns = tick.time_ns.saturating_sub_unsigned(tick.elapsed_ns).max(0);
        let last = self.clock.replace([now, since]).filter(|_| self.born_ns > 0);
        let begin_ns = last.and_then(|[at, began]| {
            let off = |then: Instant| {
                then.saturating_duration_since(since).max(since.saturating_duration_since(then))
            };
            let (nearest, known_ns) =
                if off(at) <= off(began) { (at, last_ns) } else { (began, last_begin_ns) };
            match off(nearest) < elapsed / 2 {
                true => Some(known_ns),
                false if since > at => Some(measured_ns.max(last_ns)),
                false => None,
            }
        });
        let begin_ns = begin_ns.filter(|begin_ns| *begin_ns < self.typed_ns).unwrap_or(measured_ns);
        // The clock may have been set.
        let born = self.born_ns < tick.time_ns;
        self.begin_ns = if born { begin_ns.max(self.born_ns) } else { begin_ns };
    }

    /// The tick under way.
    #[must_use]
    pub fn tick(&self) -> &Tick {
        &self.tick
    }

    /// How many series are kept.
    #[must_use]
    pub fn series(&self) -> usize {
        self.series.len()
    }

    /// The lines of the tick, one page for each form.
    pub fn take(&mut self) -> Vec<Page> {
        let take = |page: &mut Page| {
            // The next tick is likely as long as this one; but sums grow.
            let next = Vec::with_capacity(page.bytes.len() + page.bytes.len() / 8);
            let mut bytes = std::mem::replace(&mut page.bytes, next);
            bytes.shrink_to_fit();
            Page { form: page.form, lines: std::mem::take(&mut page.lines), bytes }
        };
        self.pages.iter_mut().map(take).collect()
    }

    /// Encodes a row of a declared table, at the tick's time.
    ///
    /// # Errors
    /// As [`Encoder::push`].
    pub fn push_row<R: Row>(&mut self, schema: u32, row: &R) -> Result<(), Refused> {
        let mut tags = SmallVec::new();
        let mut fields = SmallVec::new();
        row.values(&mut tags, &mut fields);
        let covered = self.tick.elapsed_ns;
        self.push(schema, &tags, &fields, TICK_TIME, covered, Room::ANY)
    }

    /// Encodes a row into each form. `time_ns` is the row's own time, or [`TICK_TIME`] for a row about the
    /// time since the last tick: it gets the tick's time, and as `interval_ns` the time that it covers.
    ///
    /// # Errors
    /// Why it is no line; nothing is left of it then.
    #[inline]
    pub fn push(
        &mut self,
        schema: u32,
        tags: &[RStr<'_>],
        fields: &[Val<'_>],
        time_ns: i64,
        covered_ns: u64,
        room: Room,
    ) -> Result<(), Refused> {
        let marks = marks(&self.pages);
        let result = if time_ns == TICK_TIME {
            self.push_of_tick(schema, tags, fields, covered_ns, room)
        } else {
            self.push_event(schema, tags, fields, time_ns, room)
        };
        if result.is_err() {
            cut_off(&mut self.pages, &marks);
        }
        result
    }

    #[inline]
    fn push_of_tick(
        &mut self,
        id: u32,
        tags: &[RStr<'_>],
        fields: &[Val<'_>],
        covered_ns: u64,
        room: Room,
    ) -> Result<(), Refused> {
        let Self { schemas, pages, series, tick, key, other_end, other_typed_end, .. } = self;
        let row = Encoded::new(schemas, id, tags, fields, key)?;
        let time_ns = time_of(TICK_TIME, tick)?;
        let alike = |a: u32, b: u32| a == b || schemas[a as usize].overlaps(&schemas[b as usize]);
        let entered = series.enter(row.key, id, room.series, alike)?;
        let ends = if covered_ns == tick.elapsed_ns {
            Ends { plain: &self.end, typed: &self.typed_end, begin_ns: self.begin_ns }
        } else {
            other_end.clear();
            end_of_line(Some(covered_ns), time_ns, other_end);
            let begin_ns = begin_of(time_ns, covered_ns, series.counted(entered).0);
            let begin_ns =
                if self.born_ns < time_ns { begin_ns.max(self.born_ns) } else { begin_ns };
            other_typed_end.clear();
            end_of_line(Some(self.typed_ns.abs_diff(begin_ns)), self.typed_ns, other_typed_end);
            Ends { plain: other_end, typed: other_typed_end, begin_ns }
        };
        let written = if self.accumulates {
            let (last_ns, counted) = series.counted(entered);
            let sums = Sums::add(&row, last_ns, counted, time_ns, covered_ns, ends.begin_ns);
            let written = row.write(pages, ends, Some(&sums), room.bytes);
            if written.is_err() {
                row.take_back(counted);
            }
            written
        } else {
            row.write(pages, ends, None, room.bytes)
        };
        match written {
            Ok(()) => series.commit(entered, id, time_ns),
            Err(_) => series.leave(entered),
        }
        written
    }

    /// A single event: its values stay as they are.
    fn push_event(
        &mut self,
        id: u32,
        tags: &[RStr<'_>],
        fields: &[Val<'_>],
        time_ns: i64,
        room: Room,
    ) -> Result<(), Refused> {
        let Self { schemas, pages, series, tick, key, other_end, .. } = self;
        let row = Encoded::new(schemas, id, tags, fields, key)?.as_event();
        let time_ns = time_of(time_ns, tick)?;
        let marks = marks(pages);
        other_end.clear();
        end_of_line(None, time_ns, other_end);
        row.write(pages, Ends::of_event(other_end), None, room.bytes)?;
        // Only what is a line takes a moment of its series.
        let free_ns = series.place_event(row.key, time_ns, room.series)?;
        if free_ns != time_ns {
            cut_off(pages, &marks);
            other_end.clear();
            end_of_line(None, time_of(free_ns, tick)?, other_end);
            row.write(pages, Ends::of_event(other_end), None, room.bytes)?;
        }
        Ok(())
    }
}

/// Where an interval begins that covers a measured time: at the series' line before, if that is near.
fn begin_of(time_ns: i64, covered_ns: u64, last_ns: Option<i64>) -> i64 {
    let measured_ns = time_ns.saturating_sub_unsigned(covered_ns).max(0);
    let near = |last_ns: &i64| *last_ns < time_ns && last_ns.abs_diff(measured_ns) < covered_ns / 2;
    last_ns.filter(near).unwrap_or(measured_ns)
}

const MS: i64 = 1_000_000;

fn wall_ns() -> i64 {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_1970.as_nanos()).unwrap_or(i64::MAX)
}

/// Lines and bytes of each page.
type Marks = [(u64, usize); FORMS];
const FORMS: usize = Buckets::ALL.len() * Counters::NAMED.len();

#[inline]
fn marks(pages: &[Page]) -> Marks {
    let mut marks = [(0, 0); FORMS];
    for (mark, page) in marks.iter_mut().zip(pages) {
        *mark = (page.lines, page.bytes.len());
    }
    marks
}

/// Takes back what a row has written.
fn cut_off(pages: &mut [Page], marks: &[(u64, usize)]) {
    for (page, (lines, bytes)) in pages.iter_mut().zip(marks) {
        page.lines = *lines;
        page.bytes.truncate(*bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encode::Tags;

    /// Times and begins of ticks in milliseconds, when each call began and what it had measured.
    fn spans(ticks: &[(i64, u64, u64)]) -> Vec<(i64, i64)> {
        let mut encoder = Encoder::new(&[Form::OTLP]);
        let start = Instant::now() + Duration::from_secs(1000);
        let mut span = |&(time_ms, began_ms, elapsed_ms): &(i64, u64, u64)| {
            let time_ns = time_ms * MS;
            let tick = Tick { seq: 0, time_ns, elapsed_ns: elapsed_ms * MS as u64 };
            encoder.begin(tick, start + Duration::from_millis(began_ms));
            (encoder.begin_ns / MS, encoder.typed_ns / MS)
        };
        ticks.iter().map(&mut span).collect()
    }

    #[test]
    fn an_interval_begins_where_the_one_before_ended_however_late_ticks_are() {
        // Late by up to 90 ms of 100.
        let late = [(1000, 1000, 100), (1100, 1190, 190), (1200, 1200, 10), (1300, 1350, 150)];
        let expected = [(900, 1000), (1000, 1100), (1100, 1200), (1200, 1300)];
        assert_eq!(spans(&late), expected);
        // A tick was skipped, and then the last one comes at any time.
        let skipped = [(1000, 1000, 100), (1200, 1280, 280), (1283, 1284, 4)];
        assert_eq!(spans(&skipped), [(900, 1000), (1000, 1200), (1200, 1283)]);
    }

    #[test]
    fn a_call_that_failed_leaves_its_time_to_the_next() {
        let failed = [(1000, 1000, 100), (1100, 1100, 100), (1200, 1200, 200), (1300, 1300, 300)];
        assert_eq!(spans(&failed), [(900, 1000), (1000, 1100), (1000, 1200), (1000, 1300)]);
        // Started again at 1480.
        let again = [(1000, 1000, 100), (1500, 1510, 30)];
        assert_eq!(spans(&again), [(900, 1000), (1470, 1500)]);
    }

    #[test]
    fn two_ticks_of_one_millisecond_are_told_apart() {
        assert_eq!(spans(&[(1000, 1000, 100), (1000, 1001, 1)]), [(900, 1000), (1000, 1001)]);
    }

    plugin_api::table! {
        /// A table.
        t {
            /// In every line.
            a: counter [optional],
            /// Comes later.
            b: counter [optional],
        }
    }

    #[test]
    fn a_sum_begins_neither_before_the_encoder_nor_before_its_series_last_line() {
        let mut encoder =
            Encoder::new(&[Form { counters: Counters::Cumulative, ..Form::default() }]);
        let born_ns = encoder.born_ns;
        let id = encoder.add("t", Schema::of(&t::TABLE, &Tags::new(), true).unwrap());
        let start = Instant::now();
        let mut begins = |time_ms: i64, began_ms: u64, elapsed_ms: u64, fields: [Val<'_>; 2]| {
            let (time_ns, elapsed_ns) = (born_ns + time_ms * MS, elapsed_ms * MS as u64);
            encoder.begin(
                Tick { seq: 0, time_ns, elapsed_ns },
                start + Duration::from_millis(began_ms),
            );
            encoder.push(id, &[], &fields, TICK_TIME, elapsed_ns, Room::ANY).unwrap();
            let text = String::from_utf8(encoder.take().remove(0).bytes).unwrap();
            let begin = text.lines().next().unwrap().rsplit_once(' ').unwrap().1;
            (begin.parse::<i64>().unwrap() - born_ns) / MS
        };
        // Called 400 ms late, it covers the 450 ms since the start.
        assert_eq!(begins(50, 450, 450, [Val::U64(1), Val::None]), 0);
        // Called 390 ms late: `b` begins.
        assert_eq!(begins(150, 540, 90, [Val::U64(1), Val::None]), 150, "nothing begins");
        assert_eq!(begins(250, 1000, 460, [Val::U64(1), Val::U64(1)]), 150);
    }

    #[test]
    fn what_does_not_count_in_a_report_has_no_begin() {
        let mut encoder = Encoder::new(&[Form::PROMETHEUS]);
        let (time_ns, elapsed_ns) = (encoder.born_ns + 50 * MS, 50 * MS as u64);
        let fields = ["full", "max_keys"];
        let schema = Schema::new("collector_map", &[], &fields, &Tags::new(), true).unwrap();
        let id = encoder.add("collector_map", schema.counting());
        encoder.begin(Tick { seq: 0, time_ns, elapsed_ns }, Instant::now());
        let row = [Val::U64(1), Val::I64(64)];
        encoder.push(id, &[], &row, TICK_TIME, elapsed_ns, Room::ANY).unwrap();
        let text = String::from_utf8(encoder.take().remove(0).bytes).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 2, "{text}");
        assert!(lines[0].contains("full=0u") && !lines[0].contains("max_keys"), "{text}");
        assert!(lines[1].contains("full=1u") && lines[1].contains("max_keys=64i"), "{text}");
    }

    #[test]
    fn sums_begin_behind_the_lines_of_the_encoder_before() {
        let (last_ns, interval_ns) = (wall_ns() + 5_000 * MS + 3, 100 * MS as u64);
        // Measured, its first interval begins before the last line of the other, at it, or behind it.
        for off_ms in [-7, 0, 7] {
            for form in [Form::VICTORIAMETRICS, Form::PROMETHEUS] {
                let mut encoder = Encoder::new(&[form]);
                encoder.follow(last_ns);
                let schema = Schema::of(&t::TABLE, &Tags::new(), true).unwrap();
                let id = encoder.add("t", schema);
                let time_ns = last_ns - 3 + 100 * MS;
                let elapsed_ns = interval_ns.checked_add_signed(-off_ms * MS).unwrap();
                encoder.begin(Tick { seq: 0, time_ns, elapsed_ns }, Instant::now());
                let row = [Val::U64(1), Val::None];
                encoder.push(id, &[], &row, TICK_TIME, elapsed_ns, Room::ANY).unwrap();
                let text = String::from_utf8(encoder.take().remove(0).bytes).unwrap();
                let times = text.lines().map(|line| line.rsplit_once(' ').unwrap().1);
                let times: Vec<i64> = times.map(|time| time.parse().unwrap()).collect();
                let [begin_ns, at_ns] = times[..] else { panic!("{text}") };
                assert_eq!(at_ns, time_ns);
                let expected = if off_ms > 0 { time_ns - elapsed_ns as i64 } else { 0 };
                let expected = expected.max((last_ns.div_euclid(MS) + 1) * MS);
                assert_eq!(begin_ns, expected, "{off_ms} ms: {text}");
            }
        }
    }

    #[test]
    fn a_field_that_begins_after_the_clock_was_set_back_does_not_begin_in_the_future() {
        let mut encoder = Encoder::new(&[Form::PROMETHEUS]);
        let id = encoder.add("t", Schema::of(&t::TABLE, &Tags::new(), true).unwrap());
        let start = Instant::now();
        let mut push = |time_ns: i64, after_ms: u64, fields: [Val<'_>; 2]| {
            let elapsed_ns = 100 * MS as u64;
            let tick = Tick { seq: 0, time_ns, elapsed_ns };
            encoder.begin(tick, start + Duration::from_millis(after_ms));
            encoder.push(id, &[], &fields, TICK_TIME, elapsed_ns, Room::ANY).unwrap();
            String::from_utf8(encoder.take().remove(0).bytes).unwrap()
        };
        let time_ns = wall_ns() + 10_000 * MS;
        push(time_ns, 100, [Val::U64(1), Val::None]);
        let back_ns = time_ns - 3_600_000 * MS;
        let text = push(back_ns, 200, [Val::U64(1), Val::U64(1)]);
        assert_eq!(text.lines().count(), 2, "{text}");
        for line in text.lines() {
            let time: i64 = line.rsplit_once(' ').unwrap().1.parse().unwrap();
            assert!(time <= back_ns, "{line}");
        }
    }
}
