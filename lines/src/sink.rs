//! The host's side of the ABI: what a plugin's lines fall into.
//!
//! One [`Sink`] per plugin, leaked: a plugin that comes back late, or whose own threads go on, must
//! never write to freed memory. Rows are taken only while it is open, that is during a call.

use crate::encode::{Refused, Schema, Tags};
use crate::encoder::{Encoder, Page, Room};
use crate::form::Form;
use crate::read::{Line, Value};
pub use crate::thin::ACTIVITY;
use crate::thin::Thin;
use log::Level;
use plugin_api::Tick;
use plugin_api::abi::{Ctx, Host, HostCtx, HostRef, NO_SCHEMA, Status, TICK_TIME, Val};
use plugin_api::abi_stable::prefix_type::PrefixTypeTrait;
use plugin_api::abi_stable::std_types::{RSlice, RStr};
use plugin_api::describe::Table;
use std::ops::AddAssign;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

/// How much a plugin may say in one tick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Rows; a row is a line, but for the buckets of a histogram where they are lines of their own.
    pub lines: u64,
    /// Bytes of line protocol, in each form that an output asks for.
    pub bytes: usize,
    /// Series that had a line in the last hour.
    pub series: usize,
}

impl Limits {
    /// What is plenty for a tool that keeps its keys bounded.
    pub const DEFAULT: Self = Self { lines: 10_000, bytes: 4 << 20, series: 10_000 };
}

/// Tables of this prefix are the SDK's reports about a plugin: they get the tag `plugin`, need no declaration.
const REPORTS: &str = "collector_";
/// The room that reports have behind the plugin's caps, because they say what was lost.
pub const REPORT_ROOM: Limits = Limits { lines: 256, bytes: 64 << 10, series: 1024 };

/// Reports that only the collector itself makes.
pub(crate) const OWN_REPORTS: [&str; 5] = [
    "collector_plugin",
    "collector_output",
    "collector_output_url",
    "collector_gap",
    "collector_host",
];

/// Different tables of one plugin, refused ones included.
const MAX_SCHEMAS: usize = 1024;

/// Texts that a plugin may log from one call to the next.
const MAX_LOGS: u32 = 200;

/// Where a plugin's log goes: its name, the level, the text.
pub type LogTo = fn(&str, Level, &str);

/// What a plugin is allowed, and what its lines get.
#[derive(Clone, Debug)]
pub struct Terms {
    /// Its name.
    pub plugin: String,
    /// The tables that it declared; `None` allows all.
    pub tables: Option<Vec<Table>>,
    /// What outputs ask for, each form once.
    pub forms: Vec<Form>,
    /// How much it may say about itself.
    pub reports: Reports,
    /// Tags of all its lines: the global ones, and its own.
    pub tags: Tags,
    /// `u64` stays unsigned on the wire.
    pub uint: bool,
    /// Its caps.
    pub limits: Limits,
    /// Its log.
    pub log: LogTo,
}

/// How much of the SDK's reports about a plugin is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reports {
    /// Nothing.
    Off,
    /// What is news: see [`crate::thin`].
    #[default]
    Brief,
    /// Everything, at every tick.
    Full,
}

impl Reports {
    /// As in the configuration.
    pub const NAMED: [(&'static str, Self); 3] =
        [("off", Self::Off), ("brief", Self::Brief), ("full", Self::Full)];
}

/// The lines of a call.
#[derive(Debug, Default)]
pub struct Closed {
    /// Rows that were taken.
    pub rows: u64,
    /// Their lines, a page for each form.
    pub pages: Vec<Page>,
}

impl Closed {
    /// The lines of the only form.
    ///
    /// # Panics
    /// There are several, or none.
    #[must_use]
    pub fn into_only(mut self) -> Vec<u8> {
        assert_eq!(self.pages.len(), 1, "one form was asked for");
        self.pages.remove(0).bytes
    }
}

/// Rows that became no line, by cause.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dropped {
    /// The cap of the tick was reached.
    pub full: u64,
    /// No database could store them.
    pub invalid: u64,
    /// They came outside of a call.
    pub closed: u64,
    /// The tick had a line of their series already.
    pub duplicate: u64,
    /// They would have been one series too many.
    pub series: u64,
}

impl Dropped {
    /// All causes together.
    #[must_use]
    pub fn sum(self) -> u64 {
        let Self { full, invalid, closed, duplicate, series } = self;
        full + invalid + closed + duplicate + series
    }
}

impl AddAssign for Dropped {
    fn add_assign(&mut self, more: Self) {
        self.full += more.full;
        self.invalid += more.invalid;
        self.closed += more.closed;
        self.duplicate += more.duplicate;
        self.series += more.series;
    }
}

/// A plugin's books beside its lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// What was dropped since this was last asked.
    pub dropped: Dropped,
    /// Series that are kept: those with a line in the last hour.
    pub series: u64,
}

/// Takes one plugin's rows.
#[derive(Debug)]
pub struct Sink(Mutex<State>);

#[derive(Debug)]
struct State {
    terms: Arc<Terms>,
    /// The lines of the call are thrown away.
    skip: bool,
    /// A call is under way.
    open: bool,
    schemas: Vec<Entry>,
    encoder: Encoder,
    thin: Thin,
    rows: u64,
    /// The cap was reached: what comes now, but for reports, need not even be encoded.
    full: bool,
    dropped: Dropped,
    logs: u32,
}

/// A table that the plugin registered. A refused one is kept: it is asked for again with every row.
#[derive(Debug)]
struct Entry {
    table: String,
    names: Vec<String>,
    /// Its number in the encoder.
    schema: Option<u32>,
    report: bool,
    /// Refusals of rows are logged once per table; so are two rows of one series, and too many series.
    logged: [bool; 3],
}

impl Terms {
    fn log(&self, level: Level, text: &str) {
        (self.log)(&self.plugin, level, text);
    }

    fn prepare(
        &self,
        table: &str,
        tags: &[RStr<'_>],
        fields: &[RStr<'_>],
    ) -> Result<Schema, String> {
        let description =
            self.tables.as_ref().and_then(|known| known.iter().find(|t| t.name == table));
        let declared = self.tables.is_none() || description.is_some();
        if OWN_REPORTS.contains(&table) {
            return Err(format!("table `{table}` refused: it is the collector's own"));
        }
        let report = is_report(table);
        if !declared && !report {
            return Err(format!("table `{table}` refused: it is not in the plugin's description"));
        }
        let mut configured = self.tags.clone();
        if report {
            configured.insert("plugin".to_owned(), self.plugin.clone());
        }
        let tags: Vec<&str> = tags.iter().map(|t| t.as_str()).collect();
        let fields: Vec<&str> = fields.iter().map(|f| f.as_str()).collect();
        match description {
            Some(table) => Schema::described(table, &tags, &fields, &configured, self.uint),
            None if report => {
                Schema::new(table, &tags, &fields, &configured, self.uint).map(Schema::counting)
            }
            None => Schema::new(table, &tags, &fields, &configured, self.uint),
        }
        .map_err(|error| format!("table `{table}` refused: {error:#}"))
    }
}

impl State {
    fn new(terms: Terms) -> Self {
        Self {
            encoder: Encoder::new(&terms.forms),
            terms: Arc::new(terms),
            skip: false,
            open: false,
            schemas: Vec::new(),
            thin: Thin::default(),
            rows: 0,
            full: false,
            dropped: Dropped::default(),
            logs: 0,
        }
    }
}

impl Sink {
    /// Makes a sink for the rest of the process's life.
    #[must_use]
    pub fn leak(terms: Terms) -> &'static Self {
        Box::leak(Box::new(Self(State::new(terms).into())))
    }

    /// Begins anew with other terms, for the next instance of the same library: the library keeps what it got of this
    /// sink, and logs by it.
    pub fn renew(&self, terms: Terms) {
        *self.state() = State::new(terms);
    }

    /// The next call's rows are thrown away: what it tells of is in lines of another instance.
    pub fn skip_next(&self) {
        self.state().skip = true;
    }

    /// What the plugin gets to know of it.
    #[must_use]
    pub fn host(&'static self) -> HostCtx {
        static HOST: OnceLock<HostRef> = OnceLock::new();
        let host = *HOST.get_or_init(|| Host { schema, row, log }.leak_into_prefix());
        HostCtx { ctx: Ctx(std::ptr::from_ref(self).expose_provenance()), host }
    }

    /// A call begins.
    pub fn open(&self, tick: Tick) {
        let mut state = self.state();
        state.encoder.begin(tick, Instant::now());
        state.thin.begin();
        state.open = true;
        state.full = false;
        state.logs = 0;
    }

    /// The call has ended.
    pub fn close(&self) -> Closed {
        let mut state = self.state();
        state.open = false;
        state.skip = false;
        Closed { rows: std::mem::take(&mut state.rows), pages: state.encoder.take() }
    }

    /// Makes a call: rows are taken while it runs. It may push them by the [`HostCtx`] that it gets.
    pub fn call<T>(&'static self, tick: &Tick, call: impl FnOnce(HostCtx) -> T) -> (Closed, T) {
        self.open(*tick);
        let answer = call(self.host());
        (self.close(), answer)
    }

    /// What was dropped since this was last asked, and how many series there are.
    pub fn take_tally(&self) -> Tally {
        Tally { dropped: self.take_dropped(), series: self.state().encoder.series() as u64 }
    }

    /// What was dropped since this was last asked.
    pub fn take_dropped(&self) -> Dropped {
        std::mem::take(&mut self.state().dropped)
    }

    /// The plugin's caps.
    #[must_use]
    pub fn limits(&self) -> Limits {
        self.state().terms.limits
    }

    /// Counts rows that the host itself could not let in on the plugin's behalf.
    pub fn count_dropped(&self, rows: Dropped) {
        self.state().dropped += rows;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing that panics here is known; a line would be whole or not there.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The number of a table with these tags and fields, or [`NO_SCHEMA`] after logging why it is refused.
    pub fn schema(&self, table: &str, tags: &[RStr<'_>], fields: &[RStr<'_>]) -> u32 {
        let names = || tags.iter().chain(fields).map(|name| name.as_str());
        let mut state = self.state();
        let known = |e: &Entry| e.table == table && names().eq(e.names.iter().map(String::as_str));
        let id = match state.schemas.iter().position(known) {
            Some(id) => id,
            None if state.schemas.len() == MAX_SCHEMAS => return NO_SCHEMA,
            None => {
                let schema = state.terms.prepare(table, tags, fields);
                if let Err(why) = &schema {
                    state.terms.log(Level::Error, why);
                }
                let schema = schema.ok().map(|schema| state.encoder.add(table, schema));
                state.schemas.push(Entry {
                    table: table.to_owned(),
                    names: names().map(str::to_owned).collect(),
                    schema,
                    report: is_report(table),
                    logged: [false; 3],
                });
                state.schemas.len() - 1
            }
        };
        if state.schemas[id].schema.is_some() { id as u32 } else { NO_SCHEMA }
    }

    /// Takes a row, if it can, at its own time or [`TICK_TIME`]; one that it cannot take is counted.
    pub fn row(&self, id: u32, tags: &[RStr<'_>], fields: &[Val<'_>], time_ns: i64) -> Status {
        let mut state = self.state();
        let State { terms, skip, open, schemas, encoder, thin, rows, full, dropped, .. } =
            &mut *state;
        if !*open {
            dropped.closed += 1;
            return Status::CLOSED;
        }
        let Some(Entry { table, names, schema: Some(schema), report, logged }) =
            schemas.get_mut(id as usize)
        else {
            dropped.invalid += 1;
            return Status::INVALID;
        };
        if *skip {
            return Status::OK;
        }
        let mut cap = terms.limits;
        if *report {
            cap.lines = cap.lines.saturating_add(REPORT_ROOM.lines);
            cap.bytes = cap.bytes.saturating_add(REPORT_ROOM.bytes);
            cap.series = cap.series.saturating_add(REPORT_ROOM.series);
        }
        if *rows >= cap.lines || (*full && !*report) {
            dropped.full += 1;
            return Status::FULL;
        }
        let room = Room { bytes: cap.bytes, series: cap.series };
        let mut covered_ns = encoder.tick().elapsed_ns;
        let mut thinned = None;
        if *report && time_ns == TICK_TIME {
            match terms.reports {
                Reports::Off => return Status::OK,
                Reports::Full => {}
                Reports::Brief => match thin.row(id, names, tags, fields, covered_ns) {
                    Some(news) => {
                        covered_ns = news.covered_ns;
                        thinned = Some(news.fields);
                    }
                    None => return Status::OK,
                },
            }
        }
        let fields = thinned.as_deref().unwrap_or(fields);
        let Err(why) = encoder.push(*schema, tags, fields, time_ns, covered_ns, room) else {
            *rows += 1;
            return Status::OK;
        };
        // A plugin goes on after a row that was counted here, as it does when there is no room.
        let (count, said, status) = match why {
            Refused::Full => {
                *full = true;
                dropped.full += 1;
                return Status::FULL;
            }
            Refused::Series => (&mut dropped.series, &mut logged[0], Status::FULL),
            Refused::Duplicate => (&mut dropped.duplicate, &mut logged[1], Status::FULL),
            _ => (&mut dropped.invalid, &mut logged[2], Status::INVALID),
        };
        *count += 1;
        if !std::mem::replace(said, true) {
            let tags = tagged(names, tags);
            let text = format!("a row of `{table}`{tags} refused: {why} (said once per table)");
            terms.log(Level::Warn, &text);
        }
        status
    }

    /// Logs a text under the plugin's name; not without end.
    pub fn log(&self, level: Level, text: &str) {
        if level > log::max_level() {
            return;
        }
        let mut state = self.state();
        state.logs = state.logs.saturating_add(1);
        let (count, terms) = (state.logs, Arc::clone(&state.terms));
        drop(state);
        match count {
            ..=MAX_LOGS => terms.log(level, text),
            c if c == MAX_LOGS + 1 => terms.log(
                Level::Warn,
                &format!("more than {MAX_LOGS} texts in one tick: silent until the next call"),
            ),
            _ => {}
        }
    }
}

/// The tags of a row for the log: ` comm=x,cpu=1`. What is no text is shown as far as it is one.
fn tagged(names: &[String], tags: &[RStr<'_>]) -> String {
    let pair = |(name, value): (&String, &RStr<'_>)| {
        format!("{name}={}", String::from_utf8_lossy(value.as_rslice().as_slice()))
    };
    let mut text = names.iter().zip(tags).map(pair).collect::<Vec<_>>().join(",");
    if !text.is_empty() {
        text.insert(0, ' ');
    }
    text
}

/// Whether a table is a report about a plugin or the collector.
#[must_use]
pub fn is_report(table: &str) -> bool {
    table.starts_with(REPORTS)
}

/// Whether a line of a report that was read back, with `uint`, has counted something that went wrong.
#[must_use]
pub fn tells_of_loss(line: &Line) -> bool {
    let lost = |(name, value): (&String, &Value)| {
        matches!(value, Value::U64(1..)) && !ACTIVITY.contains(&&**name)
    };
    line.fields.iter().any(lost)
}

/// Runs what a plugin called. Plain `extern "C"` aborts the process on a panic.
fn entry<T>(ctx: Ctx, failed: T, work: impl FnOnce(&Sink) -> T) -> T {
    let address = std::ptr::with_exposed_provenance::<Sink>(ctx.0);
    // SAFETY: a plugin has only the `Ctx` that `Sink::host` made of a leaked `Sink`, and hands it back
    // unchanged: the ABI's promise (`Ctx` is opaque), kept by plugin-api, which authors cannot reach.
    let sink = unsafe { &*address };
    catch_unwind(AssertUnwindSafe(|| work(sink))).unwrap_or(failed)
}

extern "C" fn schema(
    ctx: Ctx,
    table: RStr<'_>,
    tags: RSlice<'_, RStr<'_>>,
    fields: RSlice<'_, RStr<'_>>,
) -> u32 {
    entry(ctx, NO_SCHEMA, |sink| {
        // `RStr` promises it; what a broken plugin sends must not become a `str`.
        let mut names = std::iter::once(&table).chain(&*tags).chain(&*fields);
        if names.any(|name| str::from_utf8(name.as_rslice().as_slice()).is_err()) {
            let text = "a table refused: its name, or that of a tag or field, is not UTF-8";
            sink.state().terms.log(Level::Error, text);
            return NO_SCHEMA;
        }
        sink.schema(table.as_str(), tags.as_slice(), fields.as_slice())
    })
}

extern "C" fn row(
    ctx: Ctx,
    id: u32,
    tags: RSlice<'_, RStr<'_>>,
    fields: RSlice<'_, Val<'_>>,
    time_ns: i64,
) -> Status {
    entry(ctx, Status::INVALID, |sink| sink.row(id, tags.as_slice(), fields.as_slice(), time_ns))
}

extern "C" fn log(ctx: Ctx, level: u8, text: RStr<'_>) {
    let level = Level::iter().find(|l| *l as u8 == level).unwrap_or(Level::Info);
    entry(ctx, (), |sink| sink.log(level, text.as_str()));
}
