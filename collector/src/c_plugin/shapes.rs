//! From a C plugin's lines to rows of the sink.
//!
//! A line repeats all its names, and nearly always they are those of a line before. A [`Shape`] is a set of names that
//! was seen, checked and registered once; a line whose names are the same, byte for byte, only brings values.

use super::faults::{Fault, Faults};
use super::memory::log_of;
use super::unity::{INDEXES, LOGS, Line, Name, Table, VALUES, text, utf8};
use crate::encode::{MAX_TEXT, check_key};
use crate::sink::{Dropped, Sink, is_report};
use plugin_api::abi::{NO_SCHEMA, Val};
use plugin_api::abi_stable::std_types::RStr;
use plugin_api::smallvec::SmallVec;
use plugin_api::text::tag_text;
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};

/// Sets of names that are kept; lines of further ones are dropped. The sink keeps as many.
const MOST: usize = 1024;

/// The fields of a table that were seen. One is a number or a text, and never changes.
#[derive(Default)]
struct Seen {
    values: Vec<String>,
    logs: Vec<String>,
}

/// All sets of names of a plugin.
#[derive(Default)]
pub struct Shapes {
    list: Vec<Shape>,
    by_names: HashMap<Box<[u8]>, usize>,
    tables: BTreeMap<String, Seen>,
    /// The shape of the line before.
    last: usize,
    /// Names of the line that is looked up.
    key: Vec<u8>,
}

struct Shape {
    table: Table,
    /// The names as they stand in the line that was seen first.
    indexes: SmallVec<[Name; INDEXES]>,
    values: SmallVec<[Name; VALUES]>,
    log: Name,
    /// Its number in the sink; none when no line of it can be taken.
    schema: Option<u32>,
    /// Which indexes are tags, and which values fields; the others have names that cannot be used.
    tags: SmallVec<[u8; INDEXES]>,
    fields: SmallVec<[u8; VALUES]>,
    log_is_field: bool,
    /// What is wrong with the names.
    unterminated: usize,
    not_text: usize,
    bad_name: usize,
    /// The shape of the line that came behind one of this; the next one is likely to do so too.
    next: usize,
}

/// Where lines go, and what is said of them.
pub struct To<'a> {
    pub sink: &'a Sink,
    pub faults: &'a Faults,
    /// Their time.
    pub time_ns: i64,
}

impl Shapes {
    /// Pushes lines.
    pub fn push(&mut self, lines: &[Line], to: &To<'_>) {
        for line in lines {
            self.push_one(line, to);
        }
    }

    fn push_one(&mut self, line: &Line, to: &To<'_>) {
        let guess = self.list.get(self.last).map_or(0, |last| last.next);
        let at = match self.list.get(guess) {
            Some(shape) if shape.fits(line) => guess,
            _ => match self.find(line, to) {
                Some(at) => at,
                None => return,
            },
        };
        if let Some(last) = self.list.get_mut(self.last) {
            last.next = at;
        }
        self.last = at;
        self.list[at].push(line, to);
    }

    /// The shape of a line, looked up by its names.
    fn find(&mut self, line: &Line, to: &To<'_>) -> Option<usize> {
        let indexes = line.indexs.iter().map(|index| text(&index.name));
        let values = line.values.iter().map(|value| text(&value.name));
        self.key.clear();
        add(&mut self.key, text(&line.table));
        indexes.take_while(|name| !name.is_empty()).for_each(|name| add(&mut self.key, name));
        add(&mut self.key, b"");
        values.take_while(|name| !name.is_empty()).for_each(|name| add(&mut self.key, name));
        add(&mut self.key, b"");
        add(&mut self.key, text(&line.logs[0].name));
        if let Some(at) = self.by_names.get(&*self.key) {
            return Some(*at);
        }
        if self.list.len() >= MOST {
            no_line(to, || {
                format!("more than {MOST} different sets of names: those that came first stay")
            });
            return None;
        }
        let shape = Shape::new(line, &mut self.tables, to);
        self.list.push(shape);
        self.by_names.insert(self.key.as_slice().into(), self.list.len() - 1);
        Some(self.list.len() - 1)
    }
}

fn add(key: &mut Vec<u8>, name: &[u8]) {
    key.extend_from_slice(name);
    key.push(0);
}

/// Counts a line that can be none.
fn no_line(to: &To<'_>, text: impl FnOnce() -> String) {
    to.faults.count_each(to.sink, Fault::NoLine, 1, text);
    to.sink.count_dropped(Dropped { invalid: 1, ..Dropped::default() });
}

impl Shape {
    fn new(line: &Line, tables: &mut BTreeMap<String, Seen>, to: &To<'_>) -> Self {
        let ends = |name: &&Name| name[0] != 0;
        let indexes: SmallVec<[Name; INDEXES]> =
            line.indexs.iter().map(|index| &index.name).take_while(ends).copied().collect();
        let values: SmallVec<[Name; VALUES]> =
            line.values.iter().map(|value| &value.name).take_while(ends).copied().collect();
        let log = line.logs[0].name;
        let mut shape = Self {
            table: line.table,
            indexes,
            values,
            log,
            schema: None,
            tags: SmallVec::new(),
            fields: SmallVec::new(),
            log_is_field: false,
            unterminated: 0,
            not_text: 0,
            bad_name: 0,
            next: 0,
        };
        shape.register(tables, to);
        shape
    }

    /// Chooses the names that can be used, and registers them.
    fn register(&mut self, tables: &mut BTreeMap<String, Seen>, to: &To<'_>) {
        let table = utf8(text(&self.table)).into_owned();
        self.examine(&table, to);
        if let Err(why) = check_table(&table) {
            to.faults.count_each(to.sink, Fault::NoLine, 0, || why);
            return;
        }
        let seen = tables.entry(table.clone()).or_default();
        let mut taken: Vec<String> = Vec::new();
        let mut refused: Vec<String> = Vec::new();
        let mut use_name = |what: &str, name: &Name, other: &[String]| {
            let name = utf8(text(name)).into_owned();
            let key = tag_text(&name).replace('"', "_"); // what a key reads back as
            if taken.contains(&key) {
                refused.push(format!("`{name}` stands there twice: the first one stays"));
            } else if other.contains(&name) {
                refused.push(format!(
                    "`{name}` is a value in one line and a log in another: the first one stays"
                ));
            } else if let Err(why) = check_key(what, &name) {
                refused.push(format!("{why:#}"));
            } else {
                taken.push(key);
                return Some(name);
            }
            None
        };
        let (mut tags, mut fields) = (Vec::new(), Vec::new());
        for (at, name) in self.indexes.iter().enumerate() {
            if let Some(name) = use_name("tag", name, &[]) {
                self.tags.push(at as u8);
                tags.push(name);
            }
        }
        for (at, name) in self.values.iter().enumerate() {
            if let Some(name) = use_name("field", name, &seen.logs) {
                self.fields.push(at as u8);
                fields.push(name);
            }
        }
        let values = fields.len();
        if self.log[0] != 0
            && let Some(name) = use_name("field", &self.log, &seen.values)
        {
            self.log_is_field = true;
            fields.push(name);
        }
        self.bad_name = refused.len();
        for why in refused {
            to.faults.count_each(to.sink, Fault::Name, 0, || {
                format!("table `{table}`: {why}, and this one is left out")
            });
        }
        if fields.is_empty() {
            to.faults.count_each(to.sink, Fault::NoLine, 0, || {
                format!("table `{table}`: a line without a value or log that has a name")
            });
            return;
        }
        let (logs, values) = (fields[values..].to_vec(), fields[..values].to_vec());
        for (names, known) in [(&values, &mut seen.values), (&logs, &mut seen.logs)] {
            names.iter().for_each(|name| {
                if !known.contains(name) {
                    known.push(name.clone());
                }
            });
        }
        let tags: Vec<RStr<'_>> = tags.iter().map(|name| RStr::from_str(name)).collect();
        let fields: Vec<RStr<'_>> = fields.iter().map(|name| RStr::from_str(name)).collect();
        let schema = to.sink.schema(&table, &tags, &fields);
        self.schema = (schema != NO_SCHEMA).then_some(schema);
    }

    /// Looks for names that are no texts, or without an end.
    fn examine(&mut self, table: &str, to: &To<'_>) {
        let names =
            self.indexes.iter().chain(&self.values).chain([&self.log]).map(|name| &name[..]);
        for name in names.chain([&self.table[..]]) {
            let shown = utf8(text(name));
            if !name.contains(&0) {
                self.unterminated += 1;
                to.faults.count_each(to.sink, Fault::Unterminated, 0, || {
                    format!(
                        "table `{table}`: the name `{shown}` fills its {} bytes, the last of which must be NUL",
                        name.len()
                    )
                });
            }
            if matches!(shown, Cow::Owned(_)) {
                self.not_text += 1;
                to.faults.count_each(to.sink, Fault::NotText, 0, || {
                    format!("table `{table}`: the name `{shown}` is not UTF-8: bytes that are none become \u{fffd}")
                });
            }
        }
    }

    /// Whether a line has these names, byte for byte.
    fn fits(&self, line: &Line) -> bool {
        let (indexes, values) = (self.indexes.len(), self.values.len());
        self.table == line.table
            && self.log == line.logs[0].name
            && self.indexes.iter().zip(&line.indexs).all(|(name, index)| *name == index.name)
            && line.indexs.get(indexes).is_none_or(|index| index.name[0] == 0)
            && self.values.iter().zip(&line.values).all(|(name, value)| *name == value.name)
            && line.values.get(values).is_none_or(|value| value.name[0] == 0)
    }

    fn push(&self, line: &Line, to: &To<'_>) {
        let To { sink, faults, time_ns } = to;
        self.count_faults(line, to);
        let Some(schema) = self.schema else {
            faults.count(sink, Fault::NoLine, 1, || "a line that cannot be stored".to_owned());
            sink.count_dropped(Dropped { invalid: 1, ..Dropped::default() });
            return;
        };
        let mut texts: SmallVec<[Cow<'_, str>; INDEXES]> = SmallVec::new();
        for at in &self.tags {
            let index = &line.indexs[usize::from(*at)];
            let value = text(&index.index);
            let shown = utf8(value);
            if value.len() == index.index.len() {
                faults.count(sink, Fault::Unterminated, 1, || {
                    let of = self.of(&index.name);
                    format!(
                        "{of}: the text `{shown}` fills its 16 bytes, the last of which must be NUL"
                    )
                });
            }
            if matches!(shown, Cow::Owned(_)) {
                faults.count(sink, Fault::NotText, 1, || {
                    let of = self.of(&index.name);
                    format!(
                        "{of}: the text `{shown}` is not UTF-8: bytes that are none become \u{fffd}"
                    )
                });
            }
            texts.push(shown);
        }
        let tags: SmallVec<[RStr<'_>; INDEXES]> =
            texts.iter().map(|text| RStr::from_str(text)).collect();
        let log = if self.log_is_field { self.log_text(line, to) } else { None };
        let mut fields: SmallVec<[Val<'_>; VALUES + LOGS + 3]> = SmallVec::new();
        for at in &self.fields {
            let value = line.values[usize::from(*at)].value;
            if !value.is_finite() {
                faults.count(sink, Fault::NotFinite, 1, || {
                    let of = self.of(&line.values[usize::from(*at)].name);
                    format!("{of} is {value}, which no database stores: left out")
                });
            }
            fields.push(Val::F64(value));
        }
        if self.log_is_field {
            fields.push(log.as_ref().map_or(Val::None, |log| Val::Str(RStr::from_str(log))));
        }
        sink.row(schema, &tags, &fields, *time_ns);
    }

    /// A log as it can be stored; none when there is none.
    fn log_text<'a>(
        &self,
        line: &'a Line,
        To { sink, faults, .. }: &To<'_>,
    ) -> Option<Cow<'a, str>> {
        let of = || self.of(&line.logs[0].name);
        let Some(mut bytes) = log_of(line) else {
            faults.count(sink, Fault::Log, 1, || format!("{} has no text (NULL): left out", of()));
            return None;
        };
        if bytes.len() > MAX_TEXT {
            faults.count(sink, Fault::Log, 1, || {
                format!("{} is longer than {MAX_TEXT} bytes: cut there", of())
            });
            let mut end = MAX_TEXT;
            while end > MAX_TEXT - 4 && bytes[end] & 0xc0 == 0x80 {
                end -= 1; // not within a character
            }
            bytes = &bytes[..end];
        }
        let mut text = utf8(bytes);
        if let Cow::Owned(long) = &mut text {
            faults.count(sink, Fault::NotText, 1, || {
                format!("{} is not UTF-8: bytes that are none become \u{fffd}", of())
            });
            // Such a byte becomes three.
            long.truncate(long.floor_char_boundary(MAX_TEXT));
        }
        Some(text)
    }

    /// What is wrong with this line's names, and what stands behind an empty one.
    fn count_faults(&self, line: &Line, To { sink, faults, .. }: &To<'_>) {
        if self.unterminated + self.not_text + self.bad_name > 0 {
            let told = || "names as above".to_owned(); // by `register`
            for (fault, number) in [
                (Fault::Unterminated, self.unterminated),
                (Fault::NotText, self.not_text),
                (Fault::Name, self.bad_name),
            ] {
                if number > 0 {
                    faults.count(sink, fault, number, told);
                }
            }
        }
        let indexes = line.indexs[self.indexes.len()..].iter().map(|index| index.name[0]);
        let values = line.values[self.values.len()..].iter().map(|value| value.name[0]);
        if indexes.chain(values).fold(0, |all, byte| all | byte) == 0 {
            return;
        }
        let indexes = line.indexs[self.indexes.len()..].iter().map(|index| &index.name);
        let values = line.values[self.values.len()..].iter().map(|value| &value.name);
        let lost: Vec<&Name> = indexes.chain(values).filter(|name| name[0] != 0).collect();
        faults.count(sink, Fault::Hole, lost.len(), || {
            format!(
                "{} comes after an empty name, which ends the list, and is left out: fill indexes and values \
                 from number 0 on, without a gap",
                self.of(lost[0])
            )
        });
    }

    /// A name and its table for a message.
    fn of(&self, name: &[u8]) -> String {
        let [table, name] = [&self.table, name].map(|name| utf8(text(name)));
        format!("table `{table}`: `{name}`")
    }
}

/// Whether lines can have a table of this name.
fn check_table(table: &str) -> Result<(), String> {
    if table.is_empty() {
        Err("a line without a table: unity_set_table() names it".to_owned())
    } else if table.starts_with('#') {
        Err(format!("table `{table}`: a name that begins with `#` makes a comment of the line"))
    } else if is_report(table) {
        Err(format!(
            "table `{table}`: the collector keeps names that begin with `collector_` for itself"
        ))
    } else {
        Ok(())
    }
}
