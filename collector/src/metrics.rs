//! The collector's words about itself: tables like any other, through the same encoder.
//!
//! Counters say what happened since the line before, as in every table.

use crate::encode::{Schema, Tags, encode};
use crate::ledger::Ledger;
use crate::output::Outlet;
use crate::process;
use crate::sink::Sink;
use plugin_api::{Row, Tick, table};
use std::sync::Arc;

table! {
    /// A plugin, or a file in the plugins folder that is none.
    collector_plugin {
        tags {
            /// Its name.
            plugin,
        }
        /// `loading`, `running`, `late`, `failed`, `quarantined`, `stopped` or `refused`.
        state: text,
        /// Why it is not well, in the words of the plugin, the verifier or the kernel.
        reason: text [optional],
        /// Its version.
        version: text,
        /// Calls that ended.
        calls: counter,
        /// Calls, starts and ends that failed.
        errors: counter,
        /// Lines that it made.
        lines: counter,
        /// Bytes of line protocol.
        bytes: counter,
        /// Rows over its cap of the tick.
        dropped_full: counter,
        /// Rows that no database could store.
        dropped_invalid: counter,
        /// Rows pushed outside of a call.
        dropped_closed: counter,
        /// Ticks that were skipped because a call still ran or the machine stalled.
        ticks_missed: counter,
        /// Calls that took longer than their deadline.
        overruns: counter,
        /// Time spent in calls.
        call_ns: counter(ns),
        /// The longest call.
        call_max_ns: gauge(ns),
    }
}

table! {
    /// An output. `lines_produced` = delivered + dropped + what `lines_waiting` grew by.
    collector_output {
        tags {
            /// `stdout`, `file:PATH`...
            output,
        }
        /// Lines that were to go there.
        lines_produced: counter,
        /// Lines that were written.
        lines_delivered: counter,
        /// Lines in its queue now.
        lines_waiting: gauge,
        /// Oldest lines given up because the queue was full.
        lines_dropped_full: counter,
        /// Lines given up because the other end is gone or failed until the collector stopped.
        lines_dropped_error: counter,
        /// Bytes written.
        bytes: counter,
        /// Attempts to write that failed.
        errors: counter,
    }
}

table! {
    /// The collector's own process.
    collector_host {
        /// Resident memory now.
        rss_bytes: gauge(bytes),
        /// Processor time used, in user space and in the kernel.
        cpu_ns: counter(ns),
        /// Threads now.
        threads: gauge,
    }
}

/// Writes those tables.
pub struct Metrics {
    plugin: Schema,
    output: Schema,
    host: Schema,
    cpu_ns: u64,
}

/// A plugin as the collector's main thread sees it.
pub struct Subject {
    /// Its books.
    pub ledger: Arc<Ledger>,
    /// Where its rows go; none when it was refused.
    pub sink: Option<&'static Sink>,
}

impl Subject {
    /// Whether it was started and its thread has not ended.
    #[must_use]
    pub fn hangs(&self) -> bool {
        self.sink.is_some() && !self.ledger.has_ended()
    }
}

impl Metrics {
    /// Prepares the tables, with the global tags.
    ///
    /// # Errors
    /// The tags cannot be stored; the configuration's check allows none such.
    pub fn new(tags: &Tags, uint: bool) -> anyhow::Result<Self> {
        Ok(Self {
            plugin: Schema::of(&collector_plugin::TABLE, tags, uint)?,
            output: Schema::of(&collector_output::TABLE, tags, uint)?,
            host: Schema::of(&collector_host::TABLE, tags, uint)?,
            cpu_ns: 0,
        })
    }

    /// The lines about the time since this was last asked, and their number.
    pub fn take(&mut self, tick: &Tick, plugins: &[Subject], outlets: &[Outlet]) -> (u64, Vec<u8>) {
        let mut page = Page { tick, lines: 0, bytes: Vec::new() };
        for Subject { ledger, sink } in plugins {
            page.push(&self.plugin, &ledger.take(*sink));
        }
        for outlet in outlets {
            page.push(&self.output, &outlet.take());
        }
        let usage = process::usage();
        let cpu_ns = usage.cpu_ns.saturating_sub(self.cpu_ns);
        self.cpu_ns = usage.cpu_ns;
        let (rss_bytes, threads) = (usage.rss_bytes, usage.threads);
        page.push(&self.host, &collector_host::Row { rss_bytes, cpu_ns, threads });
        (page.lines, page.bytes)
    }
}

struct Page<'a> {
    tick: &'a Tick,
    lines: u64,
    bytes: Vec<u8>,
}

impl Page<'_> {
    fn push<R: Row>(&mut self, schema: &Schema, row: &R) {
        match encode(schema, row, self.tick, &mut self.bytes) {
            Ok(()) => self.lines += 1,
            Err(why) => log::warn!("a line of {} refused: {why}", R::TABLE.name),
        }
    }
}
