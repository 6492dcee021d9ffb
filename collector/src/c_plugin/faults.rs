//! What authors of C plugins get wrong: counted by cause, and told once.

use crate::sink::Sink;
use log::Level;
use plugin_api::abi::{NO_SCHEMA, TICK_TIME, Val};
use plugin_api::abi_stable::std_types::RStr;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The table that says it: the fields are [`Fault::NAMES`], behind what was handed over.
const TABLE: &str = "collector_c_plugin";
/// Texts that are logged about one cause, each about something else.
const TEXTS: u8 = 8;

/// A cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A line over the limit of one hand-over, or sent while as many as are allowed waited.
    Full,
    /// A line was sent while the plugin was not running, or waited when it ended.
    Stopped,
    /// A line of a call that failed.
    Failed,
    /// A line without a table or without a field that could be stored.
    NoLine,
    /// `num` is out of range, or there is no memory behind it; by hand-over.
    Count,
    /// Lines or a log are not from malloc: used, and not freed.
    NotMalloc,
    /// An index or value after an empty name.
    Hole,
    /// A name or the text of an index fills its array.
    Unterminated,
    /// A text is not UTF-8.
    NotText,
    /// A value is NaN or infinite.
    NotFinite,
    /// An index, value or log whose name cannot be used: taken already, or kept by a database.
    Name,
    /// A log that was cut at 64 KiB, or that is NULL.
    Log,
    /// A thread that did not end with the plugin.
    Thread,
}

impl Fault {
    /// Names of fields, in the order of the causes.
    const NAMES: [&str; 13] = [
        "dropped_full",
        "dropped_stopped",
        "dropped_failed",
        "dropped_no_line",
        "bad_count",
        "not_malloc",
        "after_hole",
        "unterminated",
        "not_text",
        "not_finite",
        "bad_name",
        "bad_log",
        "threads_left",
    ];
}

/// The counts of a plugin. Any of its threads may add to them.
#[derive(Debug, Default)]
pub struct Faults(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    /// Lines that `call` gave, and that `beeQ_send` was given.
    called: u64,
    sent: u64,
    faults: [u64; Fault::NAMES.len()],
    told: [u8; Fault::NAMES.len()],
}

impl Faults {
    /// A call gave so many lines.
    pub fn called(&self, lines: usize) {
        self.counts().called += lines as u64;
    }

    /// So many lines were sent.
    pub fn sent(&self, lines: usize) {
        self.counts().sent += lines as u64;
    }

    /// Counts, and tells the first of a cause.
    pub fn count(&self, sink: &Sink, fault: Fault, number: usize, text: impl FnOnce() -> String) {
        self.count_some(sink, fault, number, 1, text);
    }

    /// The same where each text is about something else, such as a table.
    pub fn count_each(
        &self,
        sink: &Sink,
        fault: Fault,
        number: usize,
        text: impl FnOnce() -> String,
    ) {
        self.count_some(sink, fault, number, TEXTS, text);
    }

    fn count_some(
        &self,
        sink: &Sink,
        fault: Fault,
        number: usize,
        texts: u8,
        text: impl FnOnce() -> String,
    ) {
        let mut counts = self.counts();
        counts.faults[fault as usize] += number as u64;
        let told = &mut counts.told[fault as usize];
        if *told < texts {
            *told += 1;
            drop(counts);
            sink.log(Level::Warn, &text());
        }
    }

    /// Pushes what was counted since this was last done, during a call.
    pub fn report(&self, sink: &Sink) {
        let mut counts = self.counts();
        let (called, sent) = (std::mem::take(&mut counts.called), std::mem::take(&mut counts.sent));
        let faults = std::mem::take(&mut counts.faults);
        drop(counts);
        let names = ["lines_called", "lines_sent"].into_iter().chain(Fault::NAMES);
        let names: Vec<RStr<'_>> = names.map(RStr::from_str).collect();
        let schema = sink.schema(TABLE, &[], &names);
        if schema != NO_SCHEMA {
            let faults = faults.map(|count| if count > 0 { Val::U64(count) } else { Val::None });
            let values: Vec<Val<'_>> =
                [called, sent].map(Val::U64).into_iter().chain(faults).collect();
            sink.row(schema, &[], &values, TICK_TIME);
        }
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
