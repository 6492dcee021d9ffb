//! The collector's words about itself: tables like any other, through the same encoder.
//!
//! Counters say what happened since the line before, as in every table.

use crate::config::Config;
use crate::encode::Schema;
use crate::encoder::{Encoder, Page, Room};
use crate::form::Form;
use crate::ledger::Ledger;
use crate::output::{Books, Cause, Outlet, Sent, Snapshot};
use crate::process;
use crate::sink::{Reports, Sink};
use plugin_api::abi::{TICK_TIME, Val};
use plugin_api::abi_stable::std_types::RStr;
use plugin_api::smallvec::SmallVec;
use plugin_api::{Row, TableDef, Tick, table};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

table! {
    /// A plugin, or a file in the plugins folder that is none.
    collector_plugin {
        tags {
            /// Its name.
            plugin,
        }
        /// 1 while its last call succeeded and none is late, else 0.
        up: gauge,
        /// The state as a number: 0 `running`, 1 `loading`, 2 `late`, 3 `failed`, 4 `quarantined`, 5 `stopped`,
        /// 6 `refused`.
        state_code: gauge,
        /// The state.
        state: text,
        /// Why it is not well, in the words of the plugin, the verifier or the kernel.
        reason: text [optional],
        /// Its version.
        version: text,
        /// Calls that ended.
        calls: counter,
        /// Calls, starts and ends that failed.
        errors: counter,
        /// Rows that it pushed and that were taken, its reports among them. A row is a line; where buckets or
        /// beginnings of counters are lines of their own, it is several.
        lines: counter,
        /// Bytes of line protocol, all forms that outputs ask for together.
        bytes: counter,
        /// Lines that reached the outputs' queues, all outputs together.
        /// `lines_produced` = delivered + dropped + what `lines_waiting` grew by - recovered.
        lines_produced: counter,
        /// Lines of an earlier run, found in spools.
        lines_recovered: counter,
        /// Lines that the outputs' other ends took.
        lines_delivered: counter,
        /// Lines in queues and spools, or on their way, now.
        lines_waiting: gauge,
        /// Lines that outputs gave up; `collector_output` says why.
        lines_dropped: counter,
        /// Rows over its cap of the tick.
        dropped_full: counter,
        /// Rows that no database could store.
        dropped_invalid: counter,
        /// Rows pushed outside of a call.
        dropped_closed: counter,
        /// Rows whose series had a line in the tick already.
        dropped_duplicate: counter,
        /// Rows of series beyond `max_series`.
        dropped_series: counter,
        /// Series that had a line in the last hour.
        series: gauge,
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
    /// An output. `lines_produced` + recovered = delivered + dropped + what `lines_waiting` grew by.
    collector_output {
        tags {
            /// Its URL without secrets: `stdout`, `file:PATH`, `influxdb1://HOST:PORT/DATABASE`...
            output,
        }
        /// Lines that were to go there.
        lines_produced: counter,
        /// Lines of an earlier run, found in its spool.
        lines_recovered: counter,
        /// Lines that the other end took.
        lines_delivered: counter,
        /// Lines in its queue or spool, or on their way, now.
        lines_waiting: gauge,
        /// Oldest lines given up because the queue in memory was full.
        lines_dropped_full: counter,
        /// Oldest lines given up because the spool was full.
        lines_dropped_spool_full: counter,
        /// Lines given up because they lay in the spool for too long.
        lines_dropped_spool_age: counter,
        /// Lines that the spool could not give back.
        lines_dropped_spool_error: counter,
        /// Lines that the server refuses.
        lines_dropped_rejected: counter,
        /// Lines longer than a datagram.
        lines_dropped_too_long: counter,
        /// Lines given up because the other end is gone or failed until the collector stopped.
        lines_dropped_error: counter,
        /// Bytes of line protocol that the other end took.
        bytes: counter,
        /// Attempts that failed.
        errors: counter,
        /// Size of its spool's files now.
        spool_bytes: gauge(bytes),
        /// Why it does not deliver, or does not spool, now.
        reason: text [optional],
    }
}

table! {
    /// A URL of an output that has several. Their `lines_delivered` and `bytes` together are the output's.
    collector_output_url {
        tags {
            /// As in `collector_output`.
            output,
            /// As in the configuration.
            url,
        }
        /// Lines that it took.
        lines_delivered: counter,
        /// Bytes of line protocol that it took.
        bytes: counter,
        /// Requests to it that failed; then another URL was tried.
        errors: counter,
    }
}

table! {
    /// Lines that are missing behind this output: `lines` of this plugin, from `interval_ns` before the
    /// timestamp up to it. Sent to the output itself, as soon as it works.
    collector_gap {
        tags {
            /// As in `collector_output`.
            output,
            /// Whose lines.
            plugin,
            /// `full`, `spool_full`, `spool_age`, `spool_error` or `error`.
            cause,
        }
        /// Lines given up.
        lines: counter,
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
    encoder: Encoder,
    plugin: u32,
    output: u32,
    url: u32,
    host: u32,
    brief: Option<Brief>,
    off: bool,
    cpu_ns: u64,
    /// Time that the line about the process has not covered yet.
    host_ns: u64,
    /// What was told before, to tell what came since: by plugin, and by output.
    plugins_told: HashMap<String, Books>,
    outputs_told: HashMap<String, Told>,
    urls_told: HashMap<(String, String), Sent>,
}

#[derive(Clone, Copy, Default)]
struct Told {
    books: Books,
    bytes: u64,
    errors: u64,
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
    pub fn new(config: &Config, forms: &[Form]) -> anyhow::Result<Self> {
        let mut encoder = Encoder::new(forms);
        let mut add = |table: &'static TableDef| -> anyhow::Result<u32> {
            Ok(encoder.add(table.name, Schema::of(table, &config.tags, config.uint)?))
        };
        Ok(Self {
            plugin: add(&collector_plugin::TABLE)?,
            output: add(&collector_output::TABLE)?,
            url: add(&collector_output_url::TABLE)?,
            host: add(&collector_host::TABLE)?,
            encoder,
            brief: (config.reports == Reports::Brief).then(Brief::default),
            off: config.reports == Reports::Off,
            cpu_ns: 0,
            host_ns: 0,
            plugins_told: HashMap::new(),
            outputs_told: HashMap::new(),
            urls_told: HashMap::new(),
        })
    }

    /// The lines about the time since this was last asked.
    pub fn take(&mut self, tick: Tick, plugins: &[Subject], outlets: &[Outlet]) -> Vec<Page> {
        if self.off {
            return Vec::new();
        }
        self.encoder.begin(tick, Instant::now());
        let whole = self.brief.as_mut().is_none_or(Brief::begin);
        let snapshots: Vec<Snapshot> = outlets.iter().map(Outlet::snapshot).collect();
        for Subject { ledger, sink } in plugins {
            let mut books = Books::default();
            for known in snapshots.iter().filter_map(|s| s.plugins.get(ledger.name())) {
                books += *known;
            }
            let before = self.plugins_told.insert(ledger.name().to_owned(), books);
            let row = ledger.take(*sink, books - before.unwrap_or_default());
            self.push(self.plugin, &row, tick.elapsed_ns);
        }
        for (outlet, snapshot) in outlets.iter().zip(snapshots) {
            for url in outlet.urls() {
                let row = self.url_row(outlet.name(), url, snapshot.sent_to(url));
                self.push(self.url, &row, tick.elapsed_ns);
            }
            let row = self.output_row(outlet.name(), snapshot);
            self.push(self.output, &row, tick.elapsed_ns);
        }
        self.host_ns += tick.elapsed_ns;
        if whole {
            let usage = process::usage();
            let cpu_ns = usage.cpu_ns.saturating_sub(self.cpu_ns);
            self.cpu_ns = usage.cpu_ns;
            let (rss_bytes, threads) = (usage.rss_bytes, usage.threads);
            let covered = std::mem::take(&mut self.host_ns);
            self.push(self.host, &collector_host::Row { rss_bytes, cpu_ns, threads }, covered);
        }
        self.encoder.take()
    }

    fn push<R: Row>(&mut self, schema: u32, row: &R, covered_ns: u64) {
        let (mut tags, mut fields) = (SmallVec::new(), SmallVec::new());
        row.values(&mut tags, &mut fields);
        if let Some(brief) = &mut self.brief {
            brief.shorten(R::TABLE, &tags, &mut fields);
        }
        let room = Room::ANY;
        if let Err(why) = self.encoder.push(schema, &tags, &fields, TICK_TIME, covered_ns, room) {
            log::warn!("a line of {} refused: {why}", R::TABLE.name);
        }
    }

    fn url_row(&mut self, output: &str, url: &str, now: Sent) -> collector_output_url::Row {
        let key = (output.to_owned(), url.to_owned());
        let since = now - self.urls_told.insert(key, now).unwrap_or_default();
        collector_output_url::Row {
            output: output.to_owned().into(),
            url: url.to_owned().into(),
            lines_delivered: since.lines,
            bytes: since.bytes,
            errors: since.errors,
        }
    }

    fn output_row(&mut self, name: &str, now: Snapshot) -> collector_output::Row {
        let told = Told { books: now.total(), bytes: now.bytes, errors: now.errors };
        let before = self.outputs_told.insert(name.to_owned(), told).unwrap_or_default();
        let since = told.books - before.books;
        collector_output::Row {
            output: name.to_owned().into(),
            lines_produced: since.produced,
            lines_recovered: since.recovered,
            lines_delivered: since.delivered,
            lines_waiting: since.waiting as i64,
            lines_dropped_full: since.dropped[Cause::Full],
            lines_dropped_spool_full: since.dropped[Cause::SpoolFull],
            lines_dropped_spool_age: since.dropped[Cause::SpoolAge],
            lines_dropped_spool_error: since.dropped[Cause::SpoolError],
            lines_dropped_rejected: since.dropped[Cause::Rejected],
            lines_dropped_too_long: since.dropped[Cause::TooLong],
            lines_dropped_error: since.dropped[Cause::Error],
            bytes: now.bytes - before.bytes,
            errors: now.errors - before.errors,
            spool_bytes: now.spool_bytes as i64,
            reason: now.trouble.map(Into::into),
        }
    }
}

/// Leaves out what is no news: counters of 0, gauges that are what they were, the version. At every tenth tick
/// nothing is left out.
#[derive(Default)]
struct Brief {
    ticks: u64,
    /// Gauges of the line before, by table and first tag.
    before: HashMap<(&'static str, String), Vec<Option<i64>>>,
}

/// Lines that are whole.
const WHOLE: u64 = 10;
/// Gauges that every line has: whoever asks for the last one finds it.
const ALWAYS: [&str; 2] = ["up", "state_code"];

impl Brief {
    /// A tick begins; whether its lines are whole.
    fn begin(&mut self) -> bool {
        self.ticks += 1;
        self.is_whole()
    }

    fn is_whole(&self) -> bool {
        self.ticks % WHOLE == 1
    }

    fn shorten(&mut self, table: &'static TableDef, tags: &[RStr<'_>], fields: &mut [Val<'_>]) {
        let gauge = |value: &Val<'_>| if let Val::I64(v) = value { Some(*v) } else { None };
        let now: Vec<_> = fields.iter().map(gauge).collect();
        let key = tags.first().map_or(String::new(), |tag| tag.as_str().to_owned());
        let before = self.before.insert((table.name, key), now).unwrap_or_default();
        if self.is_whole() {
            return;
        }
        for (number, (field, value)) in table.fields.iter().zip(fields).enumerate() {
            let no_news = match value {
                Val::U64(n) => *n == 0,
                Val::I64(n) => {
                    before.get(number) == Some(&Some(*n)) && !ALWAYS.contains(&field.name)
                }
                _ => field.name == "version",
            };
            if no_news {
                *value = Val::None;
            }
        }
    }
}
