//! Lines that a process of less trust has encoded, checked before a database sees them.
//!
//! The process runs this crate's encoder, and a plugin that may have overwritten its memory. What passes here is
//! line protocol that every reader reads alike, within the limits that databases have, of tables that the plugin may fill:
//! a broken one can write wrong numbers about itself, and nothing else. Its numbers of series and the values of its
//! configured tags are not checked.

use crate::encode::{MAX_KEY, MAX_TAG, MAX_TAG_KEY, MAX_TAGS, MAX_TEXT, RESERVED};
use crate::escape::{self, Place};
use crate::sink::{OWN_REPORTS, Terms, is_report};
use std::fmt;

/// What is wrong with lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Malformed {
    /// The number of the line, from 1.
    pub line: u64,
    /// What is wrong with it.
    pub what: What,
}

/// What is wrong with a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// Not UTF-8.
    Text,
    /// A control character, or no newline at the end.
    Control,
    /// Their number is not the one that was said.
    Count,
    /// A table that the plugin may not fill.
    Table,
    /// A report about another plugin.
    Report,
    /// A tag that no reader reads alike, out of order, or too long.
    Tag,
    /// A field, likewise.
    Field,
    /// Measurement, tags and a field's key together are too long.
    Key,
    /// The time.
    Time,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.what {
            What::Text => "it is not UTF-8",
            What::Control => "it has a control character or no end",
            What::Count => "the number of lines is not the one that was said",
            What::Table => "it is of a table that the plugin may not fill",
            What::Report => "it reports about another plugin",
            What::Tag => "a tag is wrong",
            What::Field => "a field is wrong",
            What::Key => "measurement and tags are too long",
            What::Time => "its time is wrong",
        };
        write!(f, "line {}: {what}", self.line)
    }
}

/// Checks lines of one plugin.
#[derive(Debug)]
pub struct Checker {
    /// Measurements that the plugin may fill, as they stand on the wire; `None`: any.
    tables: Option<Vec<Vec<u8>>>,
    /// Measurements of the collector's own reports.
    own_reports: Vec<Vec<u8>>,
    /// The value of the tag `plugin` in reports.
    plugin: Vec<u8>,
}

impl Checker {
    /// Of what a plugin is allowed.
    #[must_use]
    pub fn new(terms: &Terms) -> Self {
        let tables = terms.tables.as_ref().map(|tables| {
            let names = tables.iter().map(|table| table.name.as_str());
            names.map(measurement).collect()
        });
        let mut plugin = Vec::new();
        escape::name(&mut plugin, &escape::normal_name(&terms.plugin, Place::Tag), Place::Tag);
        Self {
            tables,
            own_reports: OWN_REPORTS.iter().map(|name| measurement(name)).collect(),
            plugin,
        }
    }

    /// Checks that these are so many lines.
    ///
    /// # Errors
    /// The first line that is none.
    pub fn check(&self, bytes: &[u8], lines: u64) -> Result<(), Malformed> {
        let whole = |what| Malformed { line: 1, what };
        str::from_utf8(bytes).map_err(|_| whole(What::Text))?;
        let ends = bytes.iter().filter(|&&byte| byte == b'\n').count();
        let controls = bytes.iter().filter(|&&byte| byte < 0x20 || byte == 0x7f).count();
        if controls != ends || bytes.last().is_some_and(|&last| last != b'\n') {
            return Err(whole(What::Control));
        }
        if ends as u64 != lines {
            return Err(whole(What::Count));
        }
        let mut rest = Rest { bytes, at: 0 };
        (1..=lines)
            .try_for_each(|line| self.line(&mut rest).map_err(|what| Malformed { line, what }))
    }

    fn line(&self, rest: &mut Rest<'_>) -> Result<(), What> {
        let begin = rest.at;
        let table = rest.name(Place::Measurement).ok_or(What::Table)?;
        let report = self.is_allowed(table.bytes)?;
        let (mut tags, mut before, mut about) = (0, &[][..], None);
        while rest.take(b',') {
            let key_begin = rest.at;
            let key = rest.name(Place::Tag).ok_or(What::Tag)?;
            if !rest.take(b'=') {
                return Err(What::Tag);
            }
            // With the `=`: so the encoder sorts them.
            let sorted = &rest.bytes[key_begin..rest.at];
            let value = rest.name(Place::Tag).ok_or(What::Tag)?;
            tags += 1;
            if key.len() > MAX_TAG_KEY
                || value.len() > MAX_TAG
                || tags > MAX_TAGS
                || sorted <= before
                || is_reserved(key.bytes)
            {
                return Err(What::Tag);
            }
            before = sorted;
            if report && key.bytes == b"plugin" {
                about = Some(value.bytes);
            }
        }
        if report && about != Some(&*self.plugin) {
            return Err(What::Report);
        }
        let series = rest.at - begin;
        if !rest.take(b' ') {
            return Err(What::Field);
        }
        loop {
            let key = rest.name(Place::FieldKey).ok_or(What::Field)?;
            if !rest.take(b'=') || is_reserved(key.bytes) || !rest.value() {
                return Err(What::Field);
            }
            if series + key.bytes.len() > MAX_KEY || table.len() + 1 + key.len() > MAX_TAG {
                return Err(What::Key);
            }
            if !rest.take(b',') {
                break;
            }
        }
        (rest.take(b' ') && rest.time() && rest.take(b'\n')).then_some(()).ok_or(What::Time)
    }

    /// Whether it is a report.
    fn is_allowed(&self, table: &[u8]) -> Result<bool, What> {
        let among = |names: &[Vec<u8>]| names.iter().any(|name| name == table);
        let report = str::from_utf8(table).is_ok_and(is_report);
        let allowed = match &self.tables {
            _ if report => !among(&self.own_reports),
            Some(tables) => among(tables),
            None => true,
        };
        allowed.then_some(report).ok_or(What::Table)
    }
}

fn measurement(name: &str) -> Vec<u8> {
    let mut out = Vec::new();
    escape::name(&mut out, &escape::normal_name(name, Place::Measurement), Place::Measurement);
    out
}

fn is_reserved(key: &[u8]) -> bool {
    RESERVED.iter().any(|(name, _)| name.as_bytes() == key)
}

/// A name or a tag's value, as it stands there.
struct Name<'a> {
    bytes: &'a [u8],
    escapes: usize,
}

impl Name<'_> {
    /// Its length as it is read.
    fn len(&self) -> usize {
        self.bytes.len() - self.escapes
    }
}

/// What was not looked at yet: UTF-8, and no control character but the newlines.
struct Rest<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Rest<'a> {
    fn peek(&self) -> u8 {
        self.bytes.get(self.at).copied().unwrap_or(b'\n')
    }

    fn take(&mut self, byte: u8) -> bool {
        let there = self.bytes.get(self.at) == Some(&byte);
        self.at += usize::from(there);
        there
    }

    /// Up to what ends it; none when it is empty or holds what the encoder never writes.
    fn name(&mut self, place: Place) -> Option<Name<'a>> {
        let begin = self.at;
        let (mut escapes, mut marks) = (0, false);
        loop {
            match self.peek() {
                b',' | b' ' | b'\n' => break,
                b'=' if place != Place::Measurement => break,
                b'\\' => {
                    self.at += 1;
                    match self.peek() {
                        b',' | b' ' => escapes += 1,
                        b'=' if place != Place::Measurement => escapes += 1,
                        b'=' | b'\\' | b'\n' => return None,
                        b'"' if place == Place::Measurement => return None,
                        _ => continue,
                    }
                }
                b'"' if place == Place::FieldKey => return None,
                b'#' => marks = true,
                _ => {}
            }
            self.at += 1;
        }
        let bytes = &self.bytes[begin..self.at];
        // `#` begins a comment, `#!~#` ends a series in InfluxDB's files.
        let comment = place == Place::Measurement && bytes.starts_with(b"#");
        let split =
            marks && (bytes.windows(4).any(|four| four == b"#!~#") || bytes.ends_with(b"#!~"));
        (!bytes.is_empty() && !comment && !split).then_some(Name { bytes, escapes })
    }

    /// A field's value.
    fn value(&mut self) -> bool {
        if self.take(b'"') {
            return self.text();
        }
        let begin = self.at;
        while !matches!(self.peek(), b',' | b' ' | b'\n') {
            self.at += 1;
        }
        number(&self.bytes[begin..self.at])
    }

    /// The rest of a text and its quote.
    fn text(&mut self) -> bool {
        let (begin, mut escapes) = (self.at, 0);
        loop {
            match self.peek() {
                b'"' => break,
                b'\n' => return false,
                b'\\' => {
                    self.at += 1;
                    escapes += 1;
                    if !matches!(self.peek(), b'"' | b'\\') {
                        return false;
                    }
                }
                _ => {}
            }
            self.at += 1;
        }
        self.at += 1;
        // A newline is two characters there, of which the encoder has counted one.
        self.at - 1 - begin - escapes <= 2 * MAX_TEXT
    }

    /// Nanoseconds since 1970.
    fn time(&mut self) -> bool {
        let begin = self.at;
        while self.peek().is_ascii_digit() {
            self.at += 1;
        }
        let digits = &self.bytes[begin..self.at];
        integer::<i64>(digits).is_some_and(|time| time > 0 && time < i64::MAX)
    }
}

/// Whether it is a number or a flag, in the one way that the encoder writes each.
fn number(bytes: &[u8]) -> bool {
    match bytes {
        b"true" | b"false" => true,
        [b'-', digits @ .., b'i'] => {
            integer::<i64>(digits).is_some() || digits == b"9223372036854775808"
        }
        [digits @ .., b'i'] => integer::<i64>(digits).is_some(),
        [digits @ .., b'u'] => integer::<u64>(digits).is_some(),
        _ => float(bytes),
    }
}

/// Of digits only.
fn integer<T: std::str::FromStr>(digits: &[u8]) -> Option<T> {
    let all = !digits.is_empty() && digits.len() <= 20 && digits.iter().all(u8::is_ascii_digit);
    all.then(|| str::from_utf8(digits).ok()?.parse().ok())?
}

/// `-1.5e-7` or `1e+16`: digits, a fraction, an exponent; finite.
fn float(bytes: &[u8]) -> bool {
    let digits = |bytes: &[u8]| !bytes.is_empty() && bytes.iter().all(u8::is_ascii_digit);
    let unsigned = bytes.strip_prefix(b"-").unwrap_or(bytes);
    let (mantissa, exponent) = match unsigned.iter().position(|&byte| byte == b'e') {
        Some(at) => (&unsigned[..at], Some(&unsigned[at + 1..])),
        None => (unsigned, None),
    };
    let (whole, fraction) = match mantissa.iter().position(|&byte| byte == b'.') {
        Some(at) => (&mantissa[..at], Some(&mantissa[at + 1..])),
        None => (mantissa, None),
    };
    let exponent = exponent.map(|exponent| {
        exponent.strip_prefix(b"-").or(exponent.strip_prefix(b"+")).unwrap_or(exponent)
    });
    bytes.len() <= 32
        && digits(whole)
        && fraction.is_none_or(digits)
        && exponent.is_none_or(digits)
        // Only an exponent of three digits can leave the range of f64.
        && (exponent.is_none_or(|exponent| exponent.len() < 3)
            || str::from_utf8(bytes).is_ok_and(|text| text.parse().is_ok_and(f64::is_finite)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::form::Form;
    use crate::sink::{Limits, Reports};
    use plugin_api::describe::Table;
    use std::collections::BTreeMap;

    fn checker(tables: Option<&[&str]>) -> Checker {
        let table = |name: &&str| {
            let (name, text) = ((*name).to_owned(), String::new());
            Table { name, text, tags: Vec::new(), fields: Vec::new() }
        };
        Checker::new(&Terms {
            plugin: "a b".to_owned(),
            tables: tables.map(|tables| tables.iter().map(table).collect()),
            forms: vec![Form::default()],
            reports: Reports::Full,
            tags: BTreeMap::new(),
            uint: false,
            limits: Limits::DEFAULT,
            log: |_, _, _| {},
        })
    }

    fn wrong(line: &str) -> Option<What> {
        checker(Some(&["t", "my table"])).check(line.as_bytes(), 1).err().map(|wrong| wrong.what)
    }

    #[test]
    fn what_the_encoder_writes_passes() {
        for line in [
            "t n=1i 1\n",
            "my\\ table,a=b,c=d\\ e n=1.5e-7,s=\"x, \\\"y\\\" \\\\ z=\",b=true,u=18446744073709551615u 42\n",
            "t,a-b=\\x,a=ü\\,€ n=-9223372036854775808i,f=-0.0,g=1e+16 9223372036854775806\n",
            "t,#=#x n=\"#!~#\" 1\n",
            "collector_program,plugin=a\\ b n=1i 1\n",
        ] {
            assert_eq!(wrong(line), None, "{line}");
        }
        let two = b"t n=1i 1\nt n=1i 2\n";
        let checker = checker(Some(&["t"]));
        assert_eq!(checker.check(two, 2), Ok(()));
        assert_eq!(checker.check(b"", 0), Ok(()));
        for count in [0, 1, 3] {
            assert_eq!(checker.check(two, count), Err(Malformed { line: 1, what: What::Count }));
        }
        let second = Malformed { line: 2, what: What::Time };
        assert_eq!(checker.check(b"t n=1i 1\nt n=1i\n", 2), Err(second));
    }

    #[test]
    fn what_it_never_writes_is_named() {
        for (line, what) in [
            ("t n=1i 1", What::Control),
            ("t n=1i 1\nt", What::Control),
            ("t,a=b\tc n=1i 1\n", What::Control),
            ("t n=\"a\0\" 1\n", What::Control),
            ("other n=1i 1\n", What::Table),
            ("t\\ n=1i 1\n", What::Table),
            (" n=1i 1\n", What::Table),
            ("\n", What::Table),
            ("#t n=1i 1\n", What::Table),
            ("collector_plugin,plugin=a\\ b n=1i 1\n", What::Table),
            ("collector_program n=1i 1\n", What::Report),
            ("collector_program,plugin=other n=1i 1\n", What::Report),
            ("t, n=1i 1\n", What::Tag),
            ("t,a n=1i 1\n", What::Tag),
            ("t,a= n=1i 1\n", What::Tag),
            ("t,=b n=1i 1\n", What::Tag),
            ("t,b=1,a=1 n=1i 1\n", What::Tag),
            ("t,a=1,a=1 n=1i 1\n", What::Tag),
            ("t,a=b=c n=1i 1\n", What::Field),
            ("t,a=b\\\\c n=1i 1\n", What::Tag),
            ("t,a=b\\\n", What::Tag),
            ("t,a=#!~ n=1i 1\n", What::Tag),
            ("t,a=x#!~#y n=1i 1\n", What::Tag),
            ("t,time=1 n=1i 1\n", What::Tag),
            ("t 1\n", What::Field),
            ("t n= 1\n", What::Field),
            ("t n=1i, 1\n", What::Field),
            ("t =1i 1\n", What::Field),
            ("t time=1i 1\n", What::Field),
            ("t n\"=1i 1\n", What::Field),
            ("t n=1i,m=x 1\n", What::Field),
            ("t n=NaN 1\n", What::Field),
            ("t n=1e999 1\n", What::Field),
            ("t n=+1 1\n", What::Field),
            ("t n=.5 1\n", What::Field),
            ("t n=5. 1\n", What::Field),
            ("t n=9223372036854775808i 1\n", What::Field),
            ("t n=1ii 1\n", What::Field),
            ("t n=\"a 1\n", What::Field),
            ("t n=\"a\\b\" 1\n", What::Field),
            ("t n=\"a\"b 1\n", What::Time),
            ("t n=1i\n", What::Time),
            ("t n=1i  1\n", What::Time),
            ("t n=1i 0\n", What::Time),
            ("t n=1i -1\n", What::Time),
            ("t n=1i 9223372036854775807\n", What::Time),
            ("t n=1i 1 \n", What::Time),
        ] {
            assert_eq!(wrong(line), Some(what), "{line:?}");
        }
        let invalid = checker(None).check(b"t,a=\xff n=1i 1\n", 1).unwrap_err();
        assert_eq!(invalid.what, What::Text);
    }

    #[test]
    fn no_line_is_longer_than_a_database_takes() {
        let x = |length: usize| "x".repeat(length);
        for (line, what) in [
            (format!("t,a={} n=1i 1\n", x(MAX_TAG)), None),
            (format!("t,a={} n=1i 1\n", x(MAX_TAG + 1)), Some(What::Tag)),
            (format!("t,{}=b n=1i 1\n", x(MAX_TAG_KEY + 1)), Some(What::Tag)),
            (format!("t {}=1i 1\n", x(MAX_TAG)), Some(What::Key)),
            (format!("t n=\"{}\" 1\n", x(MAX_TEXT)), None),
            (format!("t n=\"{}\" 1\n", x(2 * MAX_TEXT + 1)), Some(What::Field)),
            (
                format!(
                    "t{} n=1i 1\n",
                    (10..20).map(|n| format!(",a{n}={}", x(MAX_TAG))).collect::<String>()
                ),
                Some(What::Key),
            ),
            (
                format!("t{} n=1i 1\n", (10..40).map(|n| format!(",a{n}=b")).collect::<String>()),
                Some(What::Tag),
            ),
        ] {
            assert_eq!(wrong(&line), what, "{}", &line[..line.len().min(80)]);
        }
    }

    #[test]
    fn a_c_plugin_may_fill_any_table_but_those_of_others_reports() {
        let check = |line: &[u8]| checker(None).check(line, 1).err().map(|wrong| wrong.what);
        assert_eq!(check(b"anything n=1i 1\n"), None);
        assert_eq!(check(b"collector_c_plugin,plugin=a\\ b n=1i 1\n"), None);
        assert_eq!(check(b"collector_c_plugin,plugin=c n=1i 1\n"), Some(What::Report));
        assert_eq!(check(b"collector_host n=1i 1\n"), Some(What::Table));
    }
}
