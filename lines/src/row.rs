//! One row as the lines of each form.

use crate::encode::{
    BUCKET_FIELD, Field, Refused, Schema, Splits, end_of_line, field_value, saturated, split_of,
};
use crate::form::{Buckets, Counters, Form};
use crate::series::Counted;
use plugin_api::abi::Val;
use plugin_api::abi_stable::std_types::RStr;
use plugin_api::histogram::{BUCKETS, bucket};
use std::ops::Range;
use std::sync::LazyLock;

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

/// A row whose measurement and tags are encoded.
#[derive(Clone, Copy)]
pub(crate) struct Encoded<'a> {
    table: &'a Schema,
    /// Measurement and tags.
    pub key: &'a [u8],
    splits: Splits,
    fields: &'a [Val<'a>],
    /// A single event: none of its values is counted since something.
    event: bool,
}

/// The ends of a row's lines.
#[derive(Clone, Copy)]
pub(crate) struct Ends<'a> {
    /// In most forms.
    pub plain: &'a [u8],
    /// With the time since the tick before, as it is by their times.
    pub typed: &'a [u8],
    /// Where that time begins.
    pub begin_ns: i64,
}

impl<'a> Ends<'a> {
    /// A single event covers no time.
    pub fn of_event(end: &'a [u8]) -> Self {
        Self { plain: end, typed: end, begin_ns: 0 }
    }
}

/// What a series has summed up.
pub(crate) struct Sums<'a> {
    /// This row included; missing ones are 0.
    now: &'a [u64],
    /// The row's values.
    added: &'a [Val<'a>],
    /// The tick before had no line of the series.
    returns: bool,
    /// The begin of the time that the row covers.
    begin_ns: i64,
    /// The time of the series' line before, when that is where it begins.
    follows_ns: Option<i64>,
    /// Some sum before has to be on record.
    any_begins: bool,
}

/// After a longer time without a line a series counts from 0 again. VictoriaMetrics and Prometheus look no
/// further back for the sample before; of one that they do not find, VictoriaMetrics takes a small first sum for
/// what came since (measured with 1.79).
const LOOK_BACK_NS: i64 = 300_000_000_000;

/// Sums stay below 2^63: every database can hold that.
const MOST: u64 = u64::MAX >> 1;

impl<'a> Sums<'a> {
    /// Adds a row to what its series has counted; `last_ns` is the time of the series' line before, `begin_ns` that of
    /// the interval's begin.
    #[inline]
    pub fn add(
        row: &Encoded<'a>,
        last_ns: Option<i64>,
        counted: &'a mut Counted,
        time_ns: i64,
        covered_ns: u64,
        begin_ns: i64,
    ) -> Self {
        let covered_ns = i64::try_from(covered_ns).unwrap_or(i64::MAX);
        // What began before a line that is there would be read as a counter that was reset.
        let last_line = last_ns.filter(|last| *last < time_ns);
        let begin_ns = last_line.map_or(begin_ns, |last| begin_ns.max(last));
        let gap_ns = last_ns.map(|last| begin_ns.saturating_sub(last));
        // Ticks are late by less than half of what they cover, or the begin is true all the same.
        let returns = gap_ns.is_none_or(|gap| gap > covered_ns / 2);
        if gap_ns.is_some_and(|gap| gap > LOOK_BACK_NS) {
            counted.clear();
        }
        let follows_ns = last_line.filter(|_| !returns);
        let any_begins = row.add_up(counted, returns);
        Self { now: counted, added: row.fields, returns, begin_ns, follows_ns, any_begins }
    }

    /// With this row.
    fn now(&self, field: &Field) -> u64 {
        self.now[field.sum]
    }

    /// Without it, and with it.
    fn both(&self, index: usize, field: &Field) -> (u64, u64) {
        let now = self.now(field);
        let Some(Val::U64(added)) = self.added.get(index) else { return (now, now) };
        (now.wrapping_sub(*added) & MOST, now)
    }

    /// Whether the sum before has to be on record for the increase to be seen.
    fn begins(&self, (before, now): (u64, u64)) -> bool {
        now > before && (before == 0 || self.returns) && self.begin_ns > 0
    }
}

impl<'a> Encoded<'a> {
    /// Checks the row and encodes its series.
    #[inline]
    pub fn new(
        schemas: &'a [Schema],
        id: u32,
        tags: &[RStr<'_>],
        fields: &'a [Val<'a>],
        key: &'a mut Vec<u8>,
    ) -> Result<Self, Refused> {
        let Some(table) = schemas.get(id as usize) else { return Err(Refused::Shape) };
        table.check(tags, fields)?;
        key.clear();
        let splits = table.series(tags, key)?;
        Ok(Self { table, key, splits, fields, event: false })
    }

    /// The same as a single event.
    pub fn as_event(self) -> Self {
        Self { event: true, ..self }
    }

    /// Adds this row's values to sums. Whether one of these begins, or goes on in a series that returns.
    #[inline]
    fn add_up(&self, sums: &mut Counted, returns: bool) -> bool {
        let mut begins = false;
        if sums.len() < self.table.sums {
            sums.resize(self.table.sums, 0);
        }
        let sums = sums.as_mut_slice();
        for (field, value) in self.table.fields.iter().zip(self.fields) {
            if let (true, Val::U64(value)) = (field.counter, value) {
                let sum = &mut sums[field.sum];
                begins |= *value > 0 && (returns || *sum == 0);
                *sum = sum.wrapping_add(*value) & MOST;
            }
        }
        begins
    }

    /// Takes this row's values out of sums again.
    pub fn take_back(&self, sums: &mut Counted) {
        for (field, value) in self.table.fields.iter().zip(self.fields) {
            if let (true, Val::U64(value)) = (field.counter, value) {
                sums[field.sum] = sums[field.sum].wrapping_sub(*value) & MOST;
            }
        }
    }

    /// Writes the row's lines on each page.
    #[inline]
    pub fn write(
        &self,
        pages: &mut [Page],
        ends: Ends<'_>,
        sums: Option<&Sums<'_>>,
        room: usize,
    ) -> Result<(), Refused> {
        for page in pages {
            let sums = sums.filter(|_| page.form.counters == Counters::Cumulative);
            if page.form.histogram == Buckets::Typed {
                self.write_typed(page, ends, sums)?;
            } else {
                if let Some(sums) = sums {
                    self.write_begin(page, sums)?;
                }
                self.write_now(page, ends.plain, sums)?;
            }
            if page.bytes.len() > room {
                return Err(Refused::Full);
            }
        }
        Ok(())
    }

    #[inline]
    fn write_now(
        &self,
        page: &mut Page,
        end: &[u8],
        sums: Option<&Sums<'_>>,
    ) -> Result<(), Refused> {
        match sums {
            None => self.line(page, end, |index, _| self.fields[index])?,
            Some(sums) => self.line(page, end, |index, field| match self.fields[index] {
                Val::U64(_) if field.counter => Val::U64(sums.now(field)),
                Val::None if field.counter => some(sums.now(field)),
                value => value,
            })?,
        }
        let Some(first) = self.table.buckets else { return Ok(()) };
        let count = |number: usize| match (sums, self.fields[first + number]) {
            (Some(sums), _) => sums.now(&self.table.fields[first + number]),
            (None, Val::U64(count)) => count,
            (None, _) => 0,
        };
        match page.form.histogram {
            Buckets::Fields | Buckets::Typed => {}
            Buckets::Le => {
                let mut below = 0u64;
                for number in 0..BUCKETS {
                    below = below.saturating_add(count(number));
                    self.bucket(page, number, below, end)?;
                }
            }
            Buckets::Vmrange => {
                for (number, count) in (0..BUCKETS).map(|number| (number, count(number))) {
                    if count > 0 {
                        self.bucket(page, number, count, end)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// What was summed up before, where that is not on record yet.
    fn write_begin(&self, page: &mut Page, sums: &Sums<'_>) -> Result<(), Refused> {
        if !sums.any_begins {
            return Ok(());
        }
        let mut end = Vec::new();
        end_of_line(None, sums.begin_ns, &mut end);
        self.line(page, &end, |index, field| {
            let both = sums.both(index, field);
            if field.counter && sums.begins(both) { Val::U64(both.0) } else { Val::None }
        })?;
        let Some(first) = self.table.buckets else { return Ok(()) };
        let both = |number: usize| {
            let index = first + number;
            sums.both(index, &self.table.fields[index])
        };
        match page.form.histogram {
            Buckets::Fields | Buckets::Typed => {}
            Buckets::Le if !sums.returns => {} // all of them are there since the first line
            Buckets::Le => {
                let (mut before, mut now) = (0u64, 0u64);
                for number in 0..BUCKETS {
                    let added = both(number);
                    (before, now) = (before.saturating_add(added.0), now.saturating_add(added.1));
                    if sums.begins((before, now)) {
                        self.bucket(page, number, before, &end)?;
                    }
                }
            }
            Buckets::Vmrange => {
                for number in (0..BUCKETS).filter(|number| sums.begins(both(*number))) {
                    self.bucket(page, number, both(number).0, &end)?;
                }
            }
        }
        Ok(())
    }

    /// See [`Buckets::Typed`].
    fn write_typed(
        &self,
        page: &mut Page,
        ends: Ends<'_>,
        sums: Option<&Sums<'_>>,
    ) -> Result<(), Refused> {
        if let Some(sums) = sums.filter(|sums| sums.any_begins) {
            // A histogram is on record as a whole since its first line: with its count it begins, or comes back.
            let count = self.table.fields.iter().position(|field| field.histogram);
            let returns = sums.returns && ends.begin_ns > 0;
            let histogram = returns
                || count.is_some_and(|at| sums.begins(sums.both(at, &self.table.fields[at])));
            let mut end = Vec::new();
            end_of_line(None, sums.follows_ns.unwrap_or(ends.begin_ns), &mut end);
            self.line(page, &end, |index, field| {
                let both = sums.both(index, field);
                let there = both.1 > 0 || !matches!(self.fields[index], Val::None);
                let begins = if field.histogram {
                    histogram && (there || self.table.buckets == Some(index))
                } else {
                    (returns && there) || sums.begins(both)
                };
                // In a report each field may count; one that does not comes as another kind of value.
                let counts = field.counter && matches!(self.fields[index], Val::U64(_) | Val::None);
                if counts && begins { Val::U64(both.0) } else { Val::None }
            })?;
        }
        self.line(page, ends.typed, |index, field| {
            let value = match (sums, self.fields[index]) {
                (Some(sums), Val::U64(_)) if field.counter => Val::U64(sums.now(field)),
                (Some(sums), Val::None) if field.counter => some(sums.now(field)),
                (_, value) => value,
            };
            match value {
                Val::Str(_) => Val::None,
                Val::U64(n) if self.event || !field.counter => Val::I64(saturated(n)),
                Val::None if !self.event && self.table.buckets == Some(index) => Val::U64(0),
                value => value,
            }
        })
    }

    /// The row's own line, if it has a field in this form.
    #[inline]
    fn line<'v>(
        &self,
        page: &mut Page,
        end: &[u8],
        value: impl Fn(usize, &Field) -> Val<'v>,
    ) -> Result<(), Refused> {
        let start = page.bytes.len();
        page.bytes.extend_from_slice(self.key);
        let form = page.form.histogram;
        let uint = self.table.uint() || form == Buckets::Typed;
        if self.table.fields(&self.apart(form), uint, value, &mut page.bytes)? {
            page.bytes.extend_from_slice(end);
            page.lines += 1;
        } else {
            page.bytes.truncate(start);
        }
        Ok(())
    }

    /// The buckets that have lines of their own.
    fn apart(&self, form: Buckets) -> Range<usize> {
        match (form, self.table.buckets) {
            (Buckets::Fields | Buckets::Typed, _) | (_, None) => 0..0,
            (_, Some(first)) => first..first + BUCKETS,
        }
    }

    fn bucket(
        &self,
        page: &mut Page,
        number: usize,
        count: u64,
        end: &[u8],
    ) -> Result<(), Refused> {
        let form = page.form.histogram;
        let split = split_of(form);
        let (before, after) = self.key.split_at(self.splits[split]);
        let out = &mut page.bytes;
        out.extend_from_slice(before);
        out.extend_from_slice(&TAGS[split][number]);
        out.extend_from_slice(after);
        out.extend_from_slice(BUCKET_FIELD);
        field_value(&Val::U64(count), self.table.uint(), out)?;
        out.extend_from_slice(end);
        page.lines += 1;
        Ok(())
    }
}

/// A counter that adds nothing is there once it has a sum.
fn some(sum: u64) -> Val<'static> {
    if sum == 0 { Val::None } else { Val::U64(sum) }
}

/// `,le=4` and `,vmrange=2.000e+00...4.000e+00` of each bucket.
static TAGS: LazyLock<[Vec<Vec<u8>>; 2]> = LazyLock::new(|| {
    [Buckets::Le, Buckets::Vmrange].map(|form| {
        let tag = |number: usize| {
            let (from, below) = bucket(number);
            format!(",{}={}", form.tag().unwrap_or_default(), form.value(from, below)).into_bytes()
        };
        (0..BUCKETS).map(tag).collect()
    })
});
