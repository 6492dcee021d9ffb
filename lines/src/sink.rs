//! The host's side of the ABI: what a plugin's lines fall into.
//!
//! One [`Sink`] per plugin, leaked: a plugin that comes back late, or whose own threads go on, must
//! never write to freed memory. Rows are taken only while it is open, that is during a call.

use crate::encode::{Schema, Tags, encode_row};
use log::Level;
use plugin_api::Tick;
use plugin_api::abi::{Ctx, Host, HostCtx, HostRef, NO_SCHEMA, Status, Val};
use plugin_api::abi_stable::prefix_type::PrefixTypeTrait;
use plugin_api::abi_stable::std_types::{RSlice, RStr};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

/// How much a plugin may say in one tick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Lines.
    pub lines: u64,
    /// Bytes of line protocol.
    pub bytes: usize,
}

impl Limits {
    /// What is plenty for a tool that keeps its keys bounded.
    pub const DEFAULT: Self = Self { lines: 10_000, bytes: 4 << 20 };
}

/// Tables of this prefix are the SDK's reports about a plugin: they get the tag `plugin`, need no
/// declaration, and have room of their own behind the plugin's cap, because they say what was lost.
const REPORTS: &str = "collector_";
const REPORT_ROOM: Limits = Limits { lines: 256, bytes: 64 << 10 };

/// Reports that only the collector itself makes.
const OWN_REPORTS: [&str; 5] = [
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
    pub tables: Option<Vec<String>>,
    /// Tags of all its lines: the global ones, and its own.
    pub tags: Tags,
    /// `u64` stays unsigned on the wire.
    pub uint: bool,
    /// Its caps.
    pub limits: Limits,
    /// Its log.
    pub log: LogTo,
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
}

/// Takes one plugin's rows.
#[derive(Debug)]
pub struct Sink {
    terms: Terms,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The tick of the call under way.
    open: Option<Tick>,
    schemas: Vec<Entry>,
    bytes: Vec<u8>,
    lines: u64,
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
    schema: Option<Schema>,
    report: bool,
    /// Refusals of rows are logged once per table.
    logged: bool,
}

impl Sink {
    /// Makes a sink for the rest of the process's life.
    #[must_use]
    pub fn leak(terms: Terms) -> &'static Self {
        Box::leak(Box::new(Self { terms, state: Mutex::default() }))
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
        state.open = Some(tick);
        state.full = false;
        state.logs = 0;
    }

    /// The call has ended: the number of its lines, and the lines.
    pub fn close(&self) -> (u64, Vec<u8>) {
        let mut state = self.state();
        state.open = None;
        // The next tick is likely as long as this one.
        let next = Vec::with_capacity(state.bytes.len());
        let mut bytes = std::mem::replace(&mut state.bytes, next);
        bytes.shrink_to_fit();
        (std::mem::take(&mut state.lines), bytes)
    }

    /// What was dropped since this was last asked.
    pub fn take_dropped(&self) -> Dropped {
        std::mem::take(&mut self.state().dropped)
    }

    /// The plugin's caps.
    #[must_use]
    pub fn limits(&self) -> Limits {
        self.terms.limits
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Whatever panicked here left at worst a half-written line, which `row` cuts off.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn schema(&self, table: &str, tags: &[RStr<'_>], fields: &[RStr<'_>]) -> u32 {
        let names = || tags.iter().chain(fields).map(|name| name.as_str());
        let mut state = self.state();
        let known = |e: &Entry| e.table == table && names().eq(e.names.iter().map(String::as_str));
        let id = match state.schemas.iter().position(known) {
            Some(id) => id,
            None if state.schemas.len() == MAX_SCHEMAS => return NO_SCHEMA,
            None => {
                let schema = self.prepare(table, tags, fields);
                if let Err(why) = &schema {
                    (self.terms.log)(&self.terms.plugin, Level::Error, why);
                }
                state.schemas.push(Entry {
                    table: table.to_owned(),
                    names: names().map(str::to_owned).collect(),
                    schema: schema.ok(),
                    report: table.starts_with(REPORTS),
                    logged: false,
                });
                state.schemas.len() - 1
            }
        };
        if state.schemas[id].schema.is_some() { id as u32 } else { NO_SCHEMA }
    }

    fn prepare(
        &self,
        table: &str,
        tags: &[RStr<'_>],
        fields: &[RStr<'_>],
    ) -> Result<Schema, String> {
        let terms = &self.terms;
        let declared = terms.tables.as_ref().is_none_or(|known| known.iter().any(|t| t == table));
        let report = table.starts_with(REPORTS) && !OWN_REPORTS.contains(&table);
        if !declared && !report {
            return Err(format!("table `{table}` refused: it is not in the plugin's description"));
        }
        let mut configured = terms.tags.clone();
        if report {
            configured.insert("plugin".to_owned(), terms.plugin.clone());
        }
        let tags: Vec<&str> = tags.iter().map(|t| t.as_str()).collect();
        let fields: Vec<&str> = fields.iter().map(|f| f.as_str()).collect();
        Schema::new(table, &tags, &fields, &configured, terms.uint)
            .map_err(|error| format!("table `{table}` refused: {error:#}"))
    }

    fn row(&self, id: u32, tags: &[RStr<'_>], fields: &[Val<'_>], time_ns: i64) -> Status {
        let mut state = self.state();
        let State { open, schemas, bytes, lines, full, dropped, .. } = &mut *state;
        let Some(tick) = open else {
            dropped.closed += 1;
            return Status::CLOSED;
        };
        let Some(Entry { table, schema: Some(schema), report, logged, .. }) =
            schemas.get_mut(id as usize)
        else {
            dropped.invalid += 1;
            return Status::INVALID;
        };
        let mut cap = self.terms.limits;
        if *report {
            cap.lines = cap.lines.saturating_add(REPORT_ROOM.lines);
            cap.bytes = cap.bytes.saturating_add(REPORT_ROOM.bytes);
        }
        if *lines >= cap.lines || (*full && !*report) {
            dropped.full += 1;
            return Status::FULL;
        }
        let start = bytes.len();
        if let Err(why) = encode_row(schema, tags, fields, time_ns, tick, bytes) {
            dropped.invalid += 1;
            if !std::mem::replace(logged, true) {
                let text = format!("a row of `{table}` refused: {why} (said once per table)");
                (self.terms.log)(&self.terms.plugin, Level::Warn, &text);
            }
            return Status::INVALID;
        }
        if bytes.len() > cap.bytes {
            bytes.truncate(start);
            *full = true;
            dropped.full += 1;
            return Status::FULL;
        }
        *lines += 1;
        Status::OK
    }

    fn log(&self, level: Level, text: &str) {
        if level > log::max_level() {
            return;
        }
        let mut state = self.state();
        state.logs = state.logs.saturating_add(1);
        let count = state.logs;
        drop(state);
        match count {
            ..=MAX_LOGS => (self.terms.log)(&self.terms.plugin, level, text),
            c if c == MAX_LOGS + 1 => (self.terms.log)(
                &self.terms.plugin,
                Level::Warn,
                &format!("more than {MAX_LOGS} texts in one tick: silent until the next call"),
            ),
            _ => {}
        }
    }
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
            (sink.terms.log)(&sink.terms.plugin, Level::Error, text);
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
