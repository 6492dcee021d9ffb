//! What is missing: the intervals whose lines were given up, until a line can say so.

use crate::batch::Batch;
use crate::encode::{Schema, Tags};
use crate::encoder::{Encoder, Page};
use crate::form::Form;
use crate::metrics::collector_gap;
use crate::output::books::Cause;
use crate::output::spool::Stretch;
use anyhow::Result;
use plugin_api::Tick;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Under steady loss there is one line per cause and plugin in this time, and not one per batch.
const PAUSE: Duration = Duration::from_secs(1);

/// The gaps of one output. They wait here, outside of queue and spool, so that an outage that goes on
/// cannot push out the line that tells of it.
#[derive(Debug)]
pub struct Gaps {
    output: String,
    encoder: Encoder,
    schema: u32,
    open: BTreeMap<(Cause, Arc<str>), Stretch>,
    told: Option<Instant>,
}

impl Gaps {
    /// None yet, for the output of this name.
    ///
    /// # Errors
    /// The tags cannot be stored.
    pub fn new(output: &str, form: Form, tags: &Tags, uint: bool) -> Result<Self> {
        let mut encoder = Encoder::new(&[form]);
        let table = &collector_gap::TABLE;
        let schema = encoder.add(table.name, Schema::of(table, tags, uint)?);
        Ok(Self { output: output.to_owned(), encoder, schema, open: BTreeMap::new(), told: None })
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

    /// The lines that tell of all gaps, which are closed by it. Each has the time of the gap's end and
    /// its length as `interval_ns`.
    pub fn tell(&mut self) -> Option<Batch> {
        self.told = Some(Instant::now());
        let (now, mut last) = (Instant::now(), None);
        for ((cause, plugin), gap) in std::mem::take(&mut self.open) {
            let elapsed_ns = gap.to_ns.saturating_sub(gap.from_ns).max(0).unsigned_abs();
            let tick = Tick { seq: 0, time_ns: gap.to_ns, elapsed_ns };
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
