//! Reports about a plugin, less what is no news.
//!
//! A row of a report is sent when a text or a gauge is another than in the last one that was sent, when a
//! counter of something lost is not 0, and at every tenth tick. Counters of rows that are not sent are added to
//! the next one, which covers their time too.

use foldhash::fast::RandomState;
use plugin_api::abi::Val;
use plugin_api::abi_stable::std_types::RStr;
use smallvec::SmallVec;
use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher};

/// A row is sent at the latest so many ticks after the one before.
const EVERY: u64 = 10;
/// Counters of what goes on, not of what went wrong.
pub const ACTIVITY: [&str; 5] = ["runs", "run_ns", "keys", "lines_called", "lines_sent"];
/// Rows that are kept; more are sent as they come.
const MOST: usize = 1024;

/// What is known of each row.
#[derive(Debug, Default)]
pub(crate) struct Thin {
    seed: RandomState,
    tick: u64,
    rows: HashMap<u64, Held>,
}

#[derive(Debug, Default)]
struct Held {
    /// The tick of the last one that was sent, and a hash of what it said.
    sent: Option<(u64, u64)>,
    /// What those since then have counted, by field, and the time that they cover.
    counted: SmallVec<[u64; 8]>,
    covered_ns: u64,
}

/// A row that is to be sent.
pub(crate) struct News<'a> {
    pub fields: SmallVec<[Val<'a>; 16]>,
    pub covered_ns: u64,
}

impl Thin {
    /// A tick begins.
    pub fn begin(&mut self) {
        self.tick += 1;
    }

    /// What is to be sent of a row; `names` are those of its tags, then of its fields.
    pub fn row<'a>(
        &mut self,
        schema: u32,
        names: &[String],
        tags: &[RStr<'_>],
        fields: &[Val<'a>],
        covered_ns: u64,
    ) -> Option<News<'a>> {
        let mut fields = SmallVec::<[Val<'a>; 16]>::from_slice(fields);
        let mut which = self.seed.build_hasher();
        which.write_u32(schema);
        tags.iter().for_each(|tag| text(&mut which, tag));
        let which = which.finish();
        if self.rows.len() >= MOST && !self.rows.contains_key(&which) {
            return Some(News { fields, covered_ns });
        }
        let held = self.rows.entry(which).or_default();
        held.covered_ns = held.covered_ns.saturating_add(covered_ns);
        held.counted.resize(fields.len(), 0);
        let (mut says, mut lost) = (self.seed.build_hasher(), false);
        let names = names.get(tags.len()..).unwrap_or_default();
        let values = fields.iter_mut().zip(&mut held.counted).zip(names).enumerate();
        for (number, ((value, counted), name)) in values {
            if !matches!(value, Val::U64(_) | Val::None) {
                says.write_usize(number);
            }
            match value {
                Val::U64(n) => {
                    lost |= *n > 0 && !ACTIVITY.contains(&&**name);
                    *counted = counted.wrapping_add(*n);
                    *n = *counted;
                }
                Val::None if *counted > 0 => *value = Val::U64(*counted),
                Val::Str(v) => text(&mut says, v),
                Val::F64(v) => says.write_u64(v.to_bits()),
                Val::I64(v) => says.write_i64(*v),
                Val::Bool(v) => says.write_u32(u32::from(*v)),
                Val::None => {}
            }
        }
        let says = says.finish();
        let news =
            lost || held.sent.is_none_or(|(tick, said)| said != says || self.tick - tick >= EVERY);
        news.then(|| {
            held.sent = Some((self.tick, says));
            held.counted.clear();
            News { fields, covered_ns: std::mem::take(&mut held.covered_ns) }
        })
    }
}

fn text(hasher: &mut impl Hasher, text: &RStr<'_>) {
    let bytes = text.as_rslice().as_slice();
    hasher.write_usize(bytes.len());
    hasher.write(bytes);
}
