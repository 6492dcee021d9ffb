//! What is missing: the intervals whose lines were given up, until a line can say so.

use crate::batch::Batch;
use crate::encode::{Schema, Tags};
use crate::encoder::{Encoder, Page};
use crate::form::Form;
use crate::output::books::Cause;
use crate::output::spool::Stretch;
use anyhow::Result;
use plugin_api::{Tick, table};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

table! {
    /// Lines that are missing behind this output: `lines` of this plugin, from `interval_ns` before the
    /// timestamp up to it. Sent to the output itself, as soon as it works.
    collector_gap {
        tags {
            /// As in `collector_output`.
            output,
            /// Whose lines.
            plugin,
            /// `full`, `spool_full`, `spool_age`, `spool_error`, `form` or `error`.
            cause,
        }
        /// Lines given up.
        lines: counter,
    }
}

/// Under steady loss there is one line per cause and plugin in this time, and not one per batch.
const PAUSE: Duration = Duration::from_secs(1);
const MS: i64 = 1_000_000;

/// The gaps of one output. They wait here, outside of queue and spool, so that an outage that goes on
/// cannot push out the line that tells of it.
#[derive(Debug)]
pub struct Gaps {
    output: String,
    encoder: Encoder,
    schema: u32,
    open: BTreeMap<(Cause, Arc<str>), Stretch>,
    /// The times of the lines that were told last.
    times: BTreeMap<(Cause, Arc<str>), i64>,
    told: Option<Instant>,
}

impl Gaps {
    /// None yet, for the output of this name.
    ///
    /// # Errors
    /// The tags cannot be stored.
    pub fn new(output: &str, form: Form, tags: &Tags, uint: bool) -> Result<Self> {
        let mut encoder = Encoder::new(&[form]).about_any_time();
        let table = &collector_gap::TABLE;
        let schema = encoder.add(table.name, Schema::of(table, tags, uint)?);
        let (open, times) = (BTreeMap::new(), BTreeMap::new());
        Ok(Self { output: output.to_owned(), encoder, schema, open, times, told: None })
    }

    /// Lines are missing.
    pub fn add(&mut self, lost: &Stretch, cause: Cause) {
        if !cause.makes_gap() {
            return;
        }
        let gap = self.open.entry((cause, Arc::clone(&lost.plugin)));
        gap.and_modify(|gap| gap.extend(lost)).or_insert_with(|| lost.clone());
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// Whether there is something to tell now.
    pub fn due(&self) -> bool {
        !self.open.is_empty() && self.told.is_none_or(|told| told.elapsed() >= PAUSE)
    }

    /// The lines that tell of all gaps, which are closed by it. Each has the time of the gap's end and its length as
    /// `interval_ns`; where the line before of its series has that time or a later one, because more was lost of the
    /// same interval or of an older one, it comes a millisecond behind that, so that both are kept.
    pub fn tell(&mut self) -> Option<Batch> {
        self.told = Some(Instant::now());
        let (now, mut last) = (Instant::now(), None);
        for ((cause, plugin), gap) in std::mem::take(&mut self.open) {
            let before = self.times.entry((cause, Arc::clone(&plugin))).or_default();
            let time_ns = gap.to_ns.max((*before / MS + 1) * MS);
            *before = time_ns;
            let elapsed_ns = time_ns.saturating_sub(gap.from_ns).max(0).unsigned_abs();
            let tick = Tick { seq: 0, time_ns, elapsed_ns };
            let row = collector_gap::Row {
                output: self.output.clone().into(),
                plugin: plugin.to_string().into(),
                cause: cause.word().into(),
                lines: gap.lines,
            };
            self.encoder.begin(tick, now);
            match self.encoder.push_row(self.schema, &row) {
                Ok(()) => last = Some(tick),
                Err(why) => log::warn!("a line about missing lines refused: {why}"),
            }
        }
        let Page { lines, bytes, .. } = self.encoder.take().remove(0);
        last.map(|tick| Batch { plugin: "collector".into(), tick, lines, bytes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::form::{Buckets, Counters};
    use crate::read::read;

    /// Of some gaps of one series, told one after the other: times in milliseconds, and values.
    fn told(form: Form, gaps: &[(i64, i64, u64)]) -> Vec<(i64, u64)> {
        let mut all = Gaps::new("out", form, &Tags::new(), false).unwrap();
        let mut told = Vec::new();
        for (from_ms, to_ms, lines) in gaps {
            let (from_ns, to_ns) = (from_ms * MS, to_ms * MS);
            let gap = Stretch { plugin: "p".into(), lines: *lines, from_ns, to_ns };
            all.add(&gap, Cause::Full);
            let lines = read(&all.tell().unwrap().bytes).unwrap();
            told.extend(lines.iter().map(|line| (line.time_ns / MS, line.u64("lines"))));
        }
        told
    }

    #[test]
    fn what_is_lost_of_an_interval_that_was_told_of_comes_behind_it() {
        let gaps = [(1000, 2000, 5), (1000, 2000, 7), (500, 1000, 1), (3000, 4000, 2)];
        let deltas = [(2000, 5), (2001, 7), (2002, 1), (4000, 2)];
        assert_eq!(told(Form::default(), &gaps), deltas);
        let sums = Form { histogram: Buckets::Fields, counters: Counters::Cumulative };
        let samples = told(sums, &gaps);
        assert!(samples.is_sorted_by(|a, b| a.0 < b.0 && a.1 <= b.1), "{samples:?}");
        assert_eq!((samples[0], samples.last()), ((1000, 0), Some(&(4000, 15))));
    }
}
