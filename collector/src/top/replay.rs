//! What an output of the kind `file` has written, and still writes, taken into the store that the page and the screen
//! look into.
//!
//! Nothing of the file is kept. Lines are taken up to a time; one that goes back reads the file again. Of lines that are
//! older than what the store keeps, only the time is looked at.

use super::feed::{Go, Source};
use super::moment;
use super::text::{clean, cut, whole_time};
use crate::health::State;
use crate::output::serve::states::{self, Interest, PluginState};
use crate::output::serve::{Shared, Store};
use crate::read::{self, Value};
use crate::settings::Usage;
use crate::sink::is_report;
use crate::typed::{self, unescaped};
use anyhow::{Context as _, Result, bail};
use plugin_api::Kind;
use plugin_api::describe::Table;
use serde_json::Value as Json;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Read at once, and the longest line: a series has at most 31 KiB, each of its texts 64 KiB.
const PIECE: usize = 1 << 20;
/// What is read before the screen is drawn again.
const TURN: u64 = 64 << 20;
/// How far back the store goes, and a little.
const PAST_NS: i64 = 16 * 60 * 1_000_000_000;
/// Lines of a time stand no further than this behind those of later ones.
const LATE_NS: i64 = 30 * 1_000_000_000;
/// Bad lines that are named; more are counted.
const NAMED: u64 = 20;
/// Numbers in the reports of the kit, which no plugin describes, that do not count.
const GAUGES: [&str; 7] =
    ["attached", "links", "verified", "maps", "map_bytes", "max_keys", "size_bytes"];

/// What is known of a table.
#[derive(Debug)]
pub struct Known {
    plugin: Arc<str>,
    counters: HashSet<String>,
    has_histogram: bool,
}

impl Known {
    /// As its description has it.
    #[must_use]
    pub fn new(plugin: &str, table: &Table) -> Self {
        let of = |kind: Kind| table.fields.iter().filter(move |field| field.kind == kind);
        Self {
            plugin: plugin.into(),
            counters: of(Kind::Counter).map(|field| field.name.clone()).collect(),
            has_histogram: of(Kind::Histogram).next().is_some(),
        }
    }
}

/// Where in the file: byte and number of a line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Place {
    byte: u64,
    line: u64,
}

/// A file that is replayed.
pub struct Replay {
    path: PathBuf,
    file: File,
    store: Shared,
    tables: HashMap<String, Known>,
    /// Up to which time lines are taken; all of them at the end.
    upto: i64,
    /// What is read next.
    next: Place,
    /// The first line that is later than `upto`.
    later: Option<Place>,
    /// Lines up to this time that stand before this byte were taken already.
    taken: (i64, u64),
    /// Older lines are passed over.
    oldest: i64,
    /// A line that is too long has not ended yet.
    too_long: bool,
    /// The latest time of those that were taken.
    newest_ns: i64,
    /// The store's clock goes by the lines' times.
    clock: Option<(Instant, i64)>,
    plugins: BTreeMap<String, PluginState>,
    /// The last tick, and how long after the one before it was.
    tick_ns: i64,
    interval_ns: i64,
    /// Lines that could not be read.
    bad: u64,
    /// Up to where bad lines were counted.
    judged: u64,
    said: String,
    _interest: Interest,
}

impl Replay {
    /// Opens a file, to be shown at its end or at a time.
    ///
    /// # Errors
    /// It cannot be read, or the time is none.
    pub fn open(path: &Path, tables: HashMap<String, Known>, at: Option<&str>) -> Result<Self> {
        let (file, end_ns) = open(path)?;
        let mut replay = Self {
            path: path.to_owned(),
            file,
            store: Shared::new(),
            tables,
            upto: i64::MAX,
            next: Place::default(),
            later: None,
            taken: (i64::MIN, 0),
            oldest: i64::MIN,
            too_long: false,
            newest_ns: 0,
            clock: None,
            plugins: BTreeMap::new(),
            tick_ns: 0,
            interval_ns: 1_000_000_000,
            bad: 0,
            judged: 0,
            said: String::new(),
            _interest: Interest::begin(),
        };
        let upto = at.map(|at| moment::parse(at, end_ns)).transpose().map_err(Usage)?;
        replay.restart(upto.unwrap_or(i64::MAX));
        Ok(replay)
    }

    /// Where the lines go.
    #[must_use]
    pub fn store(&self) -> Shared {
        self.store.clone()
    }

    /// Reads from the beginning, up to a time.
    fn restart(&mut self, upto: i64) {
        self.store.clear();
        self.plugins.clear();
        (self.next, self.later, self.taken) = (Place::default(), None, (i64::MIN, 0));
        (self.clock, self.newest_ns, self.tick_ns, self.too_long) = (None, 0, 0, false);
        self.upto = upto;
        let from = if upto == i64::MAX { end_of(&self.file) } else { upto };
        self.oldest = from.saturating_sub(PAST_NS);
    }

    /// Goes to a time.
    fn show(&mut self, upto: i64) {
        if upto < self.upto {
            return self.restart(upto);
        }
        if let Some(later) = self.later.take() {
            self.taken = (self.upto, self.next.byte);
            self.next = later;
        }
        self.upto = upto;
        if upto != i64::MAX && upto.saturating_sub(self.newest_ns) > PAST_NS {
            self.oldest = self.oldest.max(upto - PAST_NS);
        }
    }

    /// Reads what there is to read, up to [`TURN`]. Whether there is more.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn advance(&mut self) -> io::Result<bool> {
        let mut done = 0;
        let mut piece = vec![0; PIECE];
        let more = loop {
            if done >= TURN {
                break true;
            }
            let mut read = 0;
            // A short reading is no end.
            while read < PIECE {
                match self.file.read_at(&mut piece[read..], self.next.byte + read as u64) {
                    Ok(0) => break,
                    Ok(n) => read += n,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(error),
                }
            }
            done += read as u64;
            if !self.lines(&piece[..read]) {
                break false;
            }
            if read < PIECE && !self.follow()? {
                break false;
            }
        };
        let interval = Duration::from_nanos(self.interval_ns.unsigned_abs());
        states::publish(interval, || self.plugins.values().cloned().collect());
        Ok(more)
    }

    /// The whole lines of a piece. Whether the next piece is wanted.
    fn lines(&mut self, piece: &[u8]) -> bool {
        let store = self.store.clone();
        let mut store = store.lock();
        let mut at = 0;
        while let Some(length) = memchr::memchr(b'\n', &piece[at..]) {
            let line = &piece[at..at + length];
            if std::mem::take(&mut self.too_long) {
                self.bad("it is longer than any line", b"");
            } else if !self.line(&mut store, line) {
                return false;
            }
            at += length + 1;
            self.next.byte += length as u64 + 1;
            self.next.line += 1;
        }
        if at == 0 && piece.len() == PIECE {
            self.too_long = true;
            self.next.byte += PIECE as u64;
        }
        true
    }

    /// Takes a line, if its time has come. Whether the next one is wanted.
    fn line(&mut self, store: &mut Store, line: &[u8]) -> bool {
        if line.is_empty() || line.starts_with(b"#") {
            return true;
        }
        let Some(time) = time_of(line) else {
            self.bad("it does not end in a time", line);
            return true;
        };
        if time > self.upto {
            self.later.get_or_insert(self.next);
            return time <= self.upto.saturating_add(LATE_NS);
        }
        let (taken, before) = self.taken;
        if time < self.oldest || (time <= taken && self.next.byte < before) {
            return true;
        }
        if let Err(why) = self.take(store, line) {
            self.bad(&why, line);
        }
        true
    }

    fn take(&mut self, store: &mut Store, text: &[u8]) -> Result<(), String> {
        let whole = [text, b"\n"].concat();
        let read = read::read(text).map_err(|error| format!("{:#}", error.root_cause()))?;
        let read = read.first().ok_or("it is empty")?;
        let line = typed::lines(&whole).next().flatten();
        let mut line = line.ok_or("it is no line of an output")?;
        let known = self.tables.get(&*unescaped(line.table));
        let report = is_report(line.table);
        match known {
            Some(known) => {
                line.count_in_file(known.has_histogram, |field| known.counters.contains(field));
            }
            None => line.count_in_file(false, |field| report && !GAUGES.contains(&field)),
        }
        let plugin = match known {
            Some(known) => Arc::clone(&known.plugin),
            None if report => "collector".into(),
            None => read.table.as_str().into(),
        };
        if read.table == "collector_plugin" {
            self.plugin_line(read);
        }
        if line.begin_ns.is_some() && line.time_ns > self.tick_ns {
            // By the ticks' times: what a late one covers is another length.
            if self.tick_ns > 0 {
                self.interval_ns = line.time_ns - self.tick_ns;
            }
            self.tick_ns = line.time_ns;
        }
        let (began, first_ns) = *self.clock.get_or_insert((Instant::now(), line.time_ns));
        let since = u64::try_from(line.time_ns.saturating_sub(first_ns)).unwrap_or_default();
        let now = began + Duration::from_nanos(since);
        self.newest_ns = self.newest_ns.max(line.time_ns);
        store.tend(now);
        if store.line(&plugin, &line, now) {
            Ok(())
        } else {
            Err("there are too many series".into())
        }
    }

    /// States and reasons are texts, which the store does not keep.
    fn plugin_line(&mut self, line: &read::Line) {
        let text = |field: &str| match line.get(field) {
            Some(Value::Text(text)) => Some(text.clone()),
            _ => None,
        };
        let name = line.tag("plugin").to_owned();
        let state = text("state").and_then(|word| State::of_word(&word));
        let known = self.plugins.entry(name.clone()).or_insert_with(|| PluginState {
            name,
            version: String::new(),
            state: State::Loading.word(),
            reason: None,
        });
        if let Some(state) = state {
            known.state = state.word();
            known.reason = text("reason");
        }
        known.version = text("version").unwrap_or_else(|| std::mem::take(&mut known.version));
    }

    fn bad(&mut self, why: &str, line: &[u8]) {
        if self.next.byte < self.judged {
            return; // it was counted when it was read before
        }
        self.judged = self.next.byte + 1;
        self.bad += 1;
        let begin = String::from_utf8_lossy(&line[..line.len().min(200)]);
        let place = format!("{}:{}", self.path.display(), self.next.line + 1);
        self.said = format!("{place}: {}: {:?}", clean(why), cut(&clean(&begin), 60));
        if self.bad <= NAMED {
            log::warn!("{}", self.said);
        }
        if self.bad == NAMED {
            log::warn!("{}: more bad lines are counted only", self.path.display());
        }
    }

    /// At the end of what there is: whether the file was cut, or its path leads to another one.
    fn follow(&mut self) -> io::Result<bool> {
        let length = self.file.metadata()?.len();
        if length < self.next.byte {
            log::warn!("{} was cut: it is read from its beginning", self.path.display());
            self.begin_file();
            return Ok(true);
        }
        let id = |it: &std::fs::Metadata| (it.dev(), it.ino());
        let there = std::fs::metadata(&self.path);
        if there.is_ok_and(|there| self.file.metadata().is_ok_and(|open| id(&open) != id(&there))) {
            let Ok((file, _)) = open(&self.path) else { return Ok(false) };
            log::info!("{} is another file now", self.path.display());
            self.file = file;
            self.begin_file();
            return Ok(true);
        }
        Ok(false)
    }

    fn begin_file(&mut self) {
        (self.next, self.later, self.taken) = (Place::default(), None, (i64::MIN, 0));
        (self.judged, self.too_long) = (0, false);
    }

    /// The time that is shown.
    fn shown_ns(&self) -> i64 {
        if self.upto == i64::MAX { self.newest_ns } else { self.upto }
    }
}

impl Source for Replay {
    fn refresh(&mut self) {
        if let Err(error) = self.advance() {
            self.said = format!("{}: {error}", self.path.display());
        }
    }

    fn tables(&mut self) -> Result<Json, String> {
        Ok(self.store.tables())
    }

    fn series(&mut self, query: &str) -> Result<Json, String> {
        self.store.series(query)
    }

    fn go(&mut self, to: &Go) {
        let by = |ns: i64| self.shown_ns().saturating_add(ns);
        let upto = match to {
            Go::To(text) => match moment::parse(text, end_of(&self.file)) {
                Ok(time) => time,
                Err(why) => {
                    self.said = why;
                    return;
                }
            },
            Go::Ticks(n) => by(n.saturating_mul(self.interval_ns)),
            Go::Seconds(n) => by(n.saturating_mul(1_000_000_000)),
            Go::End => i64::MAX,
        };
        self.said.clear();
        self.show(upto);
    }

    fn note(&self) -> String {
        let file = self.path.file_name().unwrap_or_default().to_string_lossy();
        let mut note = clean(&file);
        match self.upto {
            i64::MAX => note.push_str(", its end"),
            upto => note += &format!(", at {}", whole_time(upto, false)),
        }
        if self.bad > 0 {
            note += &format!(", {} bad lines", self.bad);
        }
        if !self.said.is_empty() {
            note += &format!(": {}", self.said);
        }
        note
    }
}

/// A regular file, and the time of its last line.
fn open(path: &Path) -> Result<(File, i64)> {
    let file = File::open(path).with_context(|| path.display().to_string())?;
    let metadata = file.metadata().with_context(|| path.display().to_string())?;
    if !metadata.is_file() {
        bail!(Usage(format!("{}: only a regular file can be replayed", path.display())));
    }
    let end = end_of(&file);
    Ok((file, end))
}

/// The time of the last whole line of a file; 0 when there is none.
fn end_of(file: &File) -> i64 {
    let length = file.metadata().map_or(0, |it| it.len());
    let from = length.saturating_sub(PIECE as u64);
    let mut last = vec![0; PIECE];
    let mut read = 0;
    while let Ok(n @ 1..) = file.read_at(&mut last[read..], from + read as u64) {
        read += n;
    }
    let whole = memchr::memrchr(b'\n', &last[..read]).map_or(&[][..], |end| &last[..end]);
    whole.rsplit(|byte| *byte == b'\n').find_map(time_of).unwrap_or_default()
}

/// The time at the end of a line.
fn time_of(line: &[u8]) -> Option<i64> {
    let at = memchr::memrchr(b' ', line)?;
    let digits = &line[at + 1..];
    let number = digits.strip_prefix(b"-").unwrap_or(digits);
    let is_number = !number.is_empty() && number.iter().all(u8::is_ascii_digit);
    is_number.then(|| str::from_utf8(digits).ok()?.parse().ok())?
}

#[cfg(test)]
mod tests;
