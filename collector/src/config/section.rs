//! Reading tables of TOML with the place of everything, and the names that are known.

use super::json;
use super::options::PluginOption;
use crate::nearest::{did_you_mean, nearest};
use std::cell::RefCell;
use std::time::Duration;
use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

pub(super) type Key<'a> = Spanned<DeString<'a>>;
pub(super) type Value<'a> = Spanned<DeValue<'a>>;

/// A file and what is wrong in it.
pub(super) struct Source<'a> {
    name: &'a str,
    text: &'a str,
    /// By offset.
    problems: RefCell<Vec<(usize, String)>>,
}

impl<'a> Source<'a> {
    pub fn new(name: &'a str, text: &'a str) -> Self {
        Self { name, text, problems: RefCell::default() }
    }

    pub fn parse(&self) -> Result<DeTable<'a>, String> {
        DeTable::parse(self.text).map(Spanned::into_inner).map_err(|error| {
            let at = error.span().map_or(0, |span| span.start);
            format!("{}: {}", self.place(at), error.message())
        })
    }

    pub fn problem(&self, offset: usize, text: String) {
        self.problems.borrow_mut().push((offset, text));
    }

    /// All problems in the file's order, one a line.
    pub fn problems(&self) -> Result<(), String> {
        let mut problems = self.problems.borrow_mut();
        if problems.is_empty() {
            return Ok(());
        }
        problems.sort();
        let lines = problems.iter().map(|(at, text)| format!("{}: {text}", self.place(*at)));
        Err(lines.collect::<Vec<_>>().join("\n"))
    }

    /// `FILE:LINE:COLUMN`
    pub fn place(&self, offset: usize) -> String {
        let before = self.text.get(..offset).unwrap_or(self.text);
        let line = before.matches('\n').count() + 1;
        let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
        format!("{}:{line}:{column}", self.name)
    }
}

pub(super) fn duration(value: &Value<'_>) -> Result<Duration, &'static str> {
    let text = value.get_ref().as_str().ok_or("")?;
    humantime::parse_duration(text).map_err(|_| "")
}

/// One table. What is read of it is known; the rest is not.
pub(super) struct Section<'a> {
    pub source: &'a Source<'a>,
    /// Its own name with a dot behind, or nothing.
    path: String,
    table: &'a DeTable<'a>,
    known: Vec<&'static str>,
}

impl<'a> Section<'a> {
    pub fn new(source: &'a Source<'a>, path: &str, table: &'a DeTable<'a>) -> Self {
        Self { source, path: path.to_owned(), table, known: Vec::new() }
    }

    /// Reads a key; `what` says what it must be, an error of the reader why it is not (or nothing).
    pub fn read<T>(
        &mut self,
        key: &'static str,
        what: &str,
        read: impl FnOnce(&Value<'a>) -> Result<T, &'static str>,
    ) -> Option<T> {
        self.known.push(key);
        let value = self.table.get(key)?;
        read(value)
            .map_err(|why| {
                let span = value.span();
                let given = self.source.text.get(span.clone()).unwrap_or_default();
                let given = given.lines().next().unwrap_or_default();
                let why = if why.is_empty() { String::new() } else { format!(": {why}") };
                let text = format!("`{}{key}` must be {what}, not {given}{why}", self.path);
                self.source.problem(span.start, text);
            })
            .ok()
    }

    pub fn text(&mut self, key: &'static str) -> Option<String> {
        let text = |value: &Value<'_>| Ok(value.get_ref().as_str().ok_or("")?.to_owned());
        self.read(key, "a text in quotes", text)
    }

    pub fn flag(&mut self, key: &'static str) -> Option<bool> {
        self.read(key, "true or false", |value| value.get_ref().as_bool().ok_or(""))
    }

    /// A whole number above 0.
    /// One of some words.
    pub fn word<T: Copy>(&mut self, key: &'static str, words: &[(&str, T)]) -> Option<T> {
        let wanted: Vec<_> = words.iter().map(|(word, _)| format!("\"{word}\"")).collect();
        self.read(key, &format!("one of {}", wanted.join(", ")), |value| {
            let text = value.get_ref().as_str();
            words.iter().find(|(word, _)| Some(*word) == text).map(|(_, value)| *value).ok_or("")
        })
    }

    pub fn positive(&mut self, key: &'static str) -> Option<u64> {
        self.read(key, "a whole number above 0", |value| {
            let number = value.get_ref().as_integer().ok_or("")?;
            let number = u64::from_str_radix(number.as_str(), number.radix()).map_err(|_| "")?;
            if number == 0 { Err("") } else { Ok(number) }
        })
    }

    /// A whole number above 0, of bytes.
    pub fn size(&mut self, key: &'static str) -> Option<usize> {
        self.positive(key).map(|n| usize::try_from(n).unwrap_or(usize::MAX))
    }

    pub fn duration(&mut self, key: &'static str) -> Option<Duration> {
        self.read(key, "a duration such as \"10s\"", duration)
    }

    /// A text that must be there.
    pub fn needed(&mut self, key: &'static str) -> Option<String> {
        let text = self.text(key);
        if text.is_none() {
            self.missing(key);
        }
        text
    }

    /// A key that somebody may try; its value is not shown.
    pub fn forbid(&mut self, key: &'static str, text: &str) {
        self.known.push(key);
        if let Some((key, _)) = self.table.get_key_value(key) {
            self.source.problem(key.span().start, text.to_owned());
        }
    }

    /// The entries of a table below this one.
    pub fn table(&mut self, key: &'static str) -> Vec<(&'a Key<'a>, &'a Value<'a>)> {
        let table = self.below(key);
        table.map(|table| table.iter().collect()).unwrap_or_default()
    }

    fn below(&mut self, key: &'static str) -> Option<&'a DeTable<'a>> {
        let header = format!("a table: [{}{key}]", self.path);
        self.known.push(key);
        let value = self.table.get(key)?;
        let table = value.get_ref().as_table();
        if table.is_none() {
            let text = format!("`{}{key}` must be {header}", self.path);
            self.source.problem(value.span().start, text);
        }
        table
    }

    /// Tables below this one that have names: `[key.NAME]`.
    pub fn sections_by_name(&mut self, key: &'static str) -> Vec<(String, Section<'a>)> {
        let mut sections = Vec::new();
        for (name, value) in self.table(key) {
            let path = format!("{key}.{}", name.get_ref());
            match value.get_ref().as_table() {
                Some(table) => {
                    let section = Section::new(self.source, &format!("{path}."), table);
                    sections.push((name.get_ref().to_string(), section));
                }
                None => {
                    let text = format!("`{path}` must be a table: [{path}]");
                    self.source.problem(name.span().start, text);
                }
            }
        }
        sections
    }

    /// Tables below this one in a row: `[[key]]`.
    pub fn sections(&mut self, key: &'static str) -> Vec<Section<'a>> {
        self.known.push(key);
        let Some(value) = self.table.get(key) else { return Vec::new() };
        let tables: Option<Vec<_>> = value.get_ref().as_array().and_then(|list| {
            list.iter()
                .map(|v| Some(Section::new(self.source, "", v.get_ref().as_table()?)))
                .collect()
        });
        tables.unwrap_or_else(|| {
            let text = format!("`{key}` must be a list of tables: [[{key}]]");
            self.source.problem(value.span().start, text);
            Vec::new()
        })
    }

    /// A key that must be there is not.
    pub fn missing(&self, key: &'static str) {
        if self.table.contains_key(key) {
            return; // it is there, but wrong: said already
        }
        let at = self.table.keys().map(|k| k.span().start).min().unwrap_or(0);
        self.source.problem(at, format!("this needs a `{}{key}`", self.path));
    }

    /// What nobody has asked for is unknown.
    pub fn refuse_the_rest(self) {
        for (key, _) in self.unknown() {
            let name = key.get_ref();
            let near = did_you_mean(nearest(name, self.known.iter().copied()));
            let text = format!("unknown key `{}{name}`{near}", self.path);
            self.source.problem(key.span().start, text);
        }
    }

    /// What nobody has asked for, as options of a plugin.
    pub fn rest(self) -> Vec<PluginOption> {
        let mut options = Vec::new();
        for (key, value) in self.unknown() {
            let name = key.get_ref().to_string();
            let place = self.source.place(key.span().start);
            match json(value.get_ref()) {
                Some(value) => options.push(PluginOption { name, value, place }),
                None => {
                    let text = format!("`{}{name}` is a number out of range", self.path);
                    self.source.problem(value.span().start, text);
                }
            }
        }
        options
    }

    fn unknown(&self) -> impl Iterator<Item = (&'a Key<'a>, &'a Value<'a>)> {
        self.table.iter().filter(|(key, _)| !self.known.contains(&key.get_ref().as_ref()))
    }
}
