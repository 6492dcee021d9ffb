//! One row as the lines of each form.

use crate::encode::{BUCKET_FIELD, Field, Refused, Schema, Splits, end_of_line, split_of};
use crate::encoder::Page;
use crate::form::{Buckets, Counters};
use crate::series::Counted;
use plugin_api::abi::Val;
use plugin_api::abi_stable::std_types::RStr;
use plugin_api::histogram::{BUCKETS, bucket};
use std::ops::Range;
use std::sync::LazyLock;

/// A row whose measurement and tags are encoded.
#[derive(Clone, Copy)]
pub(crate) struct Encoded<'a> {
    table: &'a Schema,
    /// Measurement and tags.
    pub key: &'a [u8],
    splits: Splits,
    fields: &'a [Val<'a>],
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
    /// Adds a row to what its series has counted; `last_ns` is the time of the series' line before.
    pub fn add(
        row: &Encoded<'a>,
        last_ns: Option<i64>,
        counted: &'a mut Counted,
        time_ns: i64,
        covered_ns: u64,
    ) -> Self {
        let covered_ns = i64::try_from(covered_ns).unwrap_or(i64::MAX);
        let begin_ns = time_ns.saturating_sub(covered_ns);
        let gap_ns = last_ns.map(|last| begin_ns.saturating_sub(last));
        // Ticks are late by less than half of what they cover, or the begin is true all the same.
        let returns = gap_ns.is_none_or(|gap| gap > covered_ns / 2);
        if gap_ns.is_some_and(|gap| gap > LOOK_BACK_NS) {
            counted.clear();
        }
        let any_begins = row.add_up(counted, returns);
        Self { now: counted, added: row.fields, returns, begin_ns, any_begins }
    }

    /// With this row.
    fn now(&self, field: &Field) -> u64 {
        self.now.get(field.sum).copied().unwrap_or(0)
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
        Ok(Self { table, key, splits, fields })
    }

    /// Adds this row's values to sums. Whether one of these begins, or goes on in a series that returns.
    fn add_up(&self, sums: &mut Counted, returns: bool) -> bool {
        let mut begins = false;
        for (field, value) in self.table.fields.iter().zip(self.fields) {
            if let (true, Val::U64(value)) = (field.counter, value) {
                if sums.len() <= field.sum {
                    sums.resize(field.sum + 1, 0);
                }
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
        end: &[u8],
        sums: Option<&Sums<'_>>,
        room: usize,
    ) -> Result<(), Refused> {
        for page in pages {
            let sums = sums.filter(|_| page.form.counters == Counters::Cumulative);
            if let Some(sums) = sums {
                self.write_begin(page, sums)?;
            }
            self.write_now(page, end, sums)?;
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
            Buckets::Fields => {}
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
            Buckets::Fields => {}
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
        if self.table.fields(&self.apart(page.form.histogram), value, &mut page.bytes)? {
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
            (Buckets::Fields, _) | (_, None) => 0..0,
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
        self.table.field_value(&Val::U64(count), out)?;
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
