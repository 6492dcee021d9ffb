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

use crate::encode::{Refused, Schema, end_of_line, time_of};
use crate::form::{Counters, Form};
use crate::row::{Encoded, Sums};
use crate::series::Series;
use plugin_api::Row;
use plugin_api::abi::{TICK_TIME, Tick, Val};
use plugin_api::abi_stable::std_types::RStr;
use smallvec::SmallVec;
use std::collections::HashMap;
use std::time::Instant;

/// The lines of a tick in one form.
#[derive(Debug, PartialEq, Eq)]
pub struct Page {
    /// Their form.
    pub form: Form,
    /// How many.
    pub lines: u64,
    /// Line protocol: whole lines, each with its newline.
    pub bytes: Vec<u8>,
}

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
    tick: Tick,
    /// The end of a line of the tick.
    end: Vec<u8>,
    /// Measurement and tags of the row.
    key: Vec<u8>,
    /// The end of a line of another time.
    other_end: Vec<u8>,
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
            tick: Tick { seq: 0, time_ns: 0, elapsed_ns: 0 },
            end: Vec::new(),
            key: Vec::new(),
            other_end: Vec::new(),
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
        }
        self.schemas.push(schema);
        (self.schemas.len() - 1) as u32
    }

    /// A tick begins: rows without a time of their own get its time.
    pub fn begin(&mut self, tick: Tick, now: Instant) {
        self.tick = tick;
        self.end.clear();
        end_of_line(Some(tick.elapsed_ns), tick.time_ns, &mut self.end);
        self.series.begin(now);
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
            // The next tick is likely as long as this one.
            let next = Vec::with_capacity(page.bytes.len());
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
        let marks: SmallVec<[(u64, usize); 4]> =
            self.pages.iter().map(|page| (page.lines, page.bytes.len())).collect();
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
        let Self { schemas, pages, series, tick, key, other_end, .. } = self;
        let row = Encoded::new(schemas, id, tags, fields, key)?;
        let time_ns = time_of(TICK_TIME, tick)?;
        let alike = |a: u32, b: u32| a == b || schemas[a as usize].overlaps(&schemas[b as usize]);
        let entered = series.enter(row.key, id, room.series, alike)?;
        let end = if covered_ns == tick.elapsed_ns {
            &self.end
        } else {
            other_end.clear();
            end_of_line(Some(covered_ns), time_ns, other_end);
            &*other_end
        };
        let written = if self.accumulates {
            let (last_ns, counted) = series.counted(entered);
            let sums = Sums::add(&row, last_ns, counted, time_ns, covered_ns);
            let written = row.write(pages, end, Some(&sums), room.bytes);
            if written.is_err() {
                row.take_back(counted);
            }
            written
        } else {
            row.write(pages, end, None, room.bytes)
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
        let row = Encoded::new(schemas, id, tags, fields, key)?;
        let time_ns = time_of(time_ns, tick)?;
        let marks: SmallVec<[(u64, usize); 4]> =
            pages.iter().map(|page| (page.lines, page.bytes.len())).collect();
        other_end.clear();
        end_of_line(None, time_ns, other_end);
        row.write(pages, other_end, None, room.bytes)?;
        // Only what is a line takes a moment of its series.
        let free_ns = series.place_event(row.key, time_ns, room.series)?;
        if free_ns != time_ns {
            cut_off(pages, &marks);
            other_end.clear();
            end_of_line(None, time_of(free_ns, tick)?, other_end);
            row.write(pages, other_end, None, room.bytes)?;
        }
        Ok(())
    }
}

/// Takes back what a row has written.
fn cut_off(pages: &mut [Page], marks: &[(u64, usize)]) {
    for (page, (lines, bytes)) in pages.iter_mut().zip(marks) {
        page.lines = *lines;
        page.bytes.truncate(*bytes);
    }
}
