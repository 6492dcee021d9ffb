//! The collector's words about itself: tables like any other, through the same encoder.
//!
//! Counters say what happened since the line before, as in every table.

use crate::config::Config;
use crate::encode::Schema;
use crate::encoder::{Encoder, Page, Room};
use crate::form::Form;
use crate::ledger::{Ledger, collector_plugin};
use crate::outlets::Known;
use crate::output::{Books, Cause, Sent, Snapshot, collector_gap};
use crate::process;
use crate::sink::Reports;
use plugin_api::abi::{TICK_TIME, Val};
use plugin_api::abi_stable::std_types::RStr;
use plugin_api::smallvec::SmallVec;
use plugin_api::{Row, TableDef, Tick, table};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

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
        /// Lines that came before the plugin was started again for this output's `histogram` and `counters`, as
        /// many as in another output's form.
        lines_dropped_form: counter,
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

/// All of them.
pub static TABLES: [&TableDef; 5] = [
    &collector_plugin::TABLE,
    &collector_output::TABLE,
    &collector_output_url::TABLE,
    &collector_gap::TABLE,
    &collector_host::TABLE,
];

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

#[derive(Clone, Copy, Default, PartialEq)]
struct Told {
    books: Books,
    bytes: u64,
    errors: u64,
}

impl Metrics {
    /// The same with other settings: what was told stays told, the last time at `reported_ns`.
    ///
    /// # Errors
    /// As [`Metrics::new`].
    pub fn renew(
        &mut self,
        config: &Config,
        forms: &[Form],
        reported_ns: i64,
    ) -> anyhow::Result<()> {
        let mut new = Self::new(config, forms)?;
        new.encoder.follow(reported_ns);
        let Self { cpu_ns, host_ns, plugins_told, outputs_told, urls_told, .. } =
            std::mem::replace(self, new);
        (self.cpu_ns, self.host_ns) = (cpu_ns, host_ns);
        (self.plugins_told, self.outputs_told, self.urls_told) =
            (plugins_told, outputs_told, urls_told);
        Ok(())
    }

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
    pub fn take(
        &mut self,
        tick: Tick,
        plugins: &[Arc<Ledger>],
        outputs: Vec<Known<'_>>,
    ) -> Vec<Page> {
        if self.off {
            return Vec::new();
        }
        self.encoder.begin(tick, Instant::now());
        let whole = self.brief.as_mut().is_none_or(Brief::begin);
        for ledger in plugins {
            let mut books = Books::default();
            for output in &outputs {
                books += output.snapshot.plugins.get(ledger.name()).copied().unwrap_or_default();
            }
            let before = self.plugins_told.insert(ledger.name().to_owned(), books);
            let row = ledger.take(books - before.unwrap_or_default());
            self.push(self.plugin, &row, tick.elapsed_ns);
        }
        for Known { name, urls, snapshot, lives } in outputs {
            let now =
                Told { books: snapshot.total(), bytes: snapshot.bytes, errors: snapshot.errors };
            if !lives && self.outputs_told.get(name) == Some(&now) {
                continue; // its last line is sent
            }
            for url in urls {
                let row = self.url_row(name, url, snapshot.sent_to(url));
                self.push(self.url, &row, tick.elapsed_ns);
            }
            let row = self.output_row(name, now, snapshot);
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

    /// Whether lines of a plugin wait somewhere, as was told last.
    #[must_use]
    pub fn wait(&self, plugin: &str) -> bool {
        self.plugins_told.get(plugin).is_some_and(|books| books.waiting > 0)
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

    fn output_row(&mut self, name: &str, now: Told, snapshot: Snapshot) -> collector_output::Row {
        let before = self.outputs_told.insert(name.to_owned(), now).unwrap_or_default();
        let since = now.books - before.books;
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
            lines_dropped_form: since.dropped[Cause::Form],
            lines_dropped_error: since.dropped[Cause::Error],
            bytes: now.bytes - before.bytes,
            errors: now.errors - before.errors,
            spool_bytes: snapshot.spool_bytes as i64,
            reason: snapshot.trouble.map(Into::into),
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
