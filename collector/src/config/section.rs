//! Reading tables of TOML with the place of everything, and the names that are known.

use super::json;
use super::options::GivenOption;
use crate::nearest::{did_you_mean, nearest};
use humantime::format_duration;
use std::borrow::Cow;
use std::cell::RefCell;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;
use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

pub(super) type Key<'a> = Spanned<DeString<'a>>;
pub(super) type Value<'a> = Spanned<DeValue<'a>>;
/// Why a value is not what it must be; empty where what it must be says all.
pub(super) type Why = Cow<'static, str>;

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

/// A text without what may be a user and a password in a URL: all up to the last `@`.
pub(super) fn without_userinfo(text: &str) -> Cow<'_, str> {
    let Some(end) = text.rfind('@') else { return text.into() };
    let begin = text[..end].find("//").map_or(0, |slashes| slashes + 2);
    format!("{}[secret]{}", &text[..begin], &text[end..]).into()
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
        read: impl FnOnce(&Value<'a>) -> Result<T, Why>,
    ) -> Option<T> {
        self.known.push(key);
        let value = self.table.get(key)?;
        read(value)
            .map_err(|why| {
                let span = value.span();
                let given = self.source.text.get(span.clone()).unwrap_or_default();
                let given = without_userinfo(given.lines().next().unwrap_or_default());
                let why = if why.is_empty() { String::new() } else { format!(": {why}") };
                let text = format!("`{}{key}` must be {what}, not {given}{why}", self.path);
                self.source.problem(span.start, text);
            })
            .ok()
    }

    /// A name that people give: of a database, a user, a variable.
    pub fn name(&mut self, key: &'static str) -> Option<String> {
        self.read(key, "a name in quotes", |value| {
            let name = value.get_ref().as_str().ok_or("")?;
            check_name(name)?;
            Ok(name.to_owned())
        })
    }

    /// Where something lies.
    pub fn path(&mut self, key: &'static str) -> Option<PathBuf> {
        self.read(key, "a path in quotes", |value| {
            let path = value.get_ref().as_str().ok_or("")?;
            check_name(path)?;
            Ok(path.into())
        })
    }

    pub fn flag(&mut self, key: &'static str) -> Option<bool> {
        self.read(key, "true or false", |value| Ok(value.get_ref().as_bool().ok_or("")?))
    }

    /// One of some words.
    pub fn word<T: Copy>(&mut self, key: &'static str, words: &[(&str, T)]) -> Option<T> {
        let wanted: Vec<_> = words.iter().map(|(word, _)| format!("\"{word}\"")).collect();
        self.read(key, &format!("one of {}", wanted.join(", ")), |value| {
            let text = value.get_ref().as_str();
            words
                .iter()
                .find(|(word, _)| Some(*word) == text)
                .map(|(_, value)| *value)
                .ok_or("".into())
        })
    }

    /// A whole number above 0.
    pub fn positive(&mut self, key: &'static str) -> Option<u64> {
        self.read(key, "a whole number above 0", |value| match number(value)? {
            0 => Err("".into()),
            number => Ok(number),
        })
    }

    /// A whole number within a range.
    pub fn number(&mut self, key: &'static str, range: RangeInclusive<u64>) -> Option<u64> {
        let what = format!("a whole number from {} to {}", range.start(), range.end());
        self.read(key, &what, |value| {
            let number = number(value)?;
            if range.contains(&number) { Ok(number) } else { Err("".into()) }
        })
    }

    /// The same, of bytes.
    pub fn size(&mut self, key: &'static str, range: RangeInclusive<u64>) -> Option<usize> {
        self.number(key, range).map(|n| usize::try_from(n).unwrap_or(usize::MAX))
    }

    /// A duration within a range.
    pub fn duration(
        &mut self,
        key: &'static str,
        range: RangeInclusive<Duration>,
    ) -> Option<Duration> {
        let (shortest, longest) = (format_duration(*range.start()), format_duration(*range.end()));
        let what = format!("a duration such as \"10s\", from {shortest} to {longest}");
        self.read(key, &what, |value| {
            let text = value.get_ref().as_str().ok_or("")?;
            let duration = humantime::parse_duration(text).map_err(|_| "")?;
            if range.contains(&duration) { Ok(duration) } else { Err("".into()) }
        })
    }

    /// What was read must be there.
    pub fn needed<T>(&self, key: &'static str, read: Option<T>) -> Option<T> {
        if read.is_none() {
            self.missing(key);
        }
        read
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

    /// Whether a key is there, right or wrong.
    pub fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// A key that must be there is not.
    pub fn missing(&self, key: &'static str) {
        if self.has(key) {
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
    pub fn rest(self) -> Vec<GivenOption> {
        let mut options = Vec::new();
        for (key, value) in self.unknown() {
            let name = key.get_ref().to_string();
            let place = self.source.place(key.span().start);
            match json(value.get_ref()) {
                Some(value) => options.push(GivenOption { name, value, place }),
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

fn number(value: &Value<'_>) -> Result<u64, &'static str> {
    let number = value.get_ref().as_integer().ok_or("")?;
    u64::from_str_radix(number.as_str(), number.radix()).map_err(|_| "")
}

/// Whether a text can be a name or a path.
pub(super) fn check_name(name: &str) -> Result<(), &'static str> {
    if name.trim().is_empty() {
        Err("it is empty")
    } else if name.contains(char::is_control) {
        Err("it holds a control character")
    } else {
        Ok(())
    }
}
