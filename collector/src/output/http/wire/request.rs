//! The series of a request of remote write, in either version.

use super::names;
use super::protobuf::{begin, bytes, number, varint, varint_length};
use crate::typed::{Line, unescaped};
use std::borrow::Cow;
use std::collections::HashMap;

/// More than this is not kept between requests.
const KEPT: usize = 1 << 20;

/// A request that is being made.
#[derive(Default)]
pub struct WriteRequest {
    /// Whether it is of version 2.
    pub v2: bool,
    /// Its series as fields.
    pub series: Vec<u8>,
    /// Texts by their numbers, in version 2.
    symbols: HashMap<Box<str>, u32>,
    /// The same as fields.
    pub symbol_fields: Vec<u8>,
    /// How many samples it has.
    pub samples: u64,
    /// The labels of one series that its neighbours do not have.
    name: Vec<u8>,
    le: Vec<u8>,
    metadata: Vec<u8>,
}

/// The labels of a line, as they stand in a series: those before `__name__`, those up to `le`, the others.
#[derive(Default)]
pub struct Labels(pub [Vec<u8>; 3]);

const NAME: &str = "__name__";
const LE: &str = "le";

impl Labels {
    /// Those of a line, sorted as the servers compare them.
    pub fn set(&mut self, line: &Line<'_>, request: &mut WriteRequest) {
        let mut plain: Vec<(Cow<'_, str>, Cow<'_, str>)> = Vec::with_capacity(line.tags.len());
        for (key, value) in &line.tags {
            let key = match unescaped(key) {
                Cow::Borrowed(key) => names::label(key),
                Cow::Owned(key) => names::label(&key).into_owned().into(),
            };
            plain.push((key, unescaped(value)));
        }
        plain.sort();
        self.0.iter_mut().for_each(Vec::clear);
        for (key, value) in plain {
            let part = usize::from(*key > *NAME) + usize::from(*key > *LE);
            request.label(&key, &value, &mut self.0[part]);
        }
    }
}

impl WriteRequest {
    /// Another one begins, of version 2 or 1.
    pub fn begin(&mut self, v2: bool) {
        self.v2 = v2;
        self.series.clear();
        self.series.shrink_to(KEPT);
        self.symbols.clear();
        self.symbol_fields.clear();
        self.samples = 0;
        if v2 {
            self.symbol(""); // the first one is empty
        }
    }

    /// The number of a text.
    fn symbol(&mut self, text: &str) -> u32 {
        if let Some(number) = self.symbols.get(text) {
            return *number;
        }
        let number = self.symbols.len() as u32;
        self.symbols.insert(text.into(), number);
        bytes(4, text.as_bytes(), &mut self.symbol_fields);
        number
    }

    /// Appends a label: in version 1 as a field of the series, in version 2 as two numbers.
    fn label(&mut self, name: &str, value: &str, out: &mut Vec<u8>) {
        if self.v2 {
            varint(self.symbol(name).into(), out);
            varint(self.symbol(value).into(), out);
        } else {
            let length = |text: &str| 1 + varint_length(text.len() as u64) + text.len();
            begin(1, length(name) + length(value), out);
            bytes(1, name.as_bytes(), out);
            bytes(2, value.as_bytes(), out);
        }
    }

    /// Appends a series with its sample, which is a field already, and its metadata where they belong there.
    pub fn add(
        &mut self,
        name: &str,
        le: Option<&str>,
        labels: &Labels,
        sample: &[u8],
        (kind, help, unit): (u64, &str, &str),
    ) {
        let (mut name_label, mut le_label) =
            (std::mem::take(&mut self.name), std::mem::take(&mut self.le));
        let mut metadata = std::mem::take(&mut self.metadata);
        [&mut name_label, &mut le_label, &mut metadata].into_iter().for_each(Vec::clear);
        self.label(NAME, name, &mut name_label);
        if let Some(bound) = le {
            self.label(LE, bound, &mut le_label);
        }
        let [first, second, third] = &labels.0;
        let parts = [first, &name_label, second, &le_label, third];
        let length: usize = parts.iter().map(|part| part.len()).sum();
        if self.v2 {
            let (help, unit) = (self.symbol(help), self.symbol(unit));
            number(1, kind, &mut metadata);
            number(3, help.into(), &mut metadata);
            number(4, unit.into(), &mut metadata);
            let of = |length: usize| 1 + varint_length(length as u64) + length;
            let series = &mut self.series;
            begin(5, of(length) + sample.len() + of(metadata.len()), series);
            begin(1, length, series);
            parts.iter().for_each(|part| series.extend_from_slice(part));
            series.extend_from_slice(sample);
            bytes(5, &metadata, series);
        } else {
            let series = &mut self.series;
            begin(1, length + sample.len(), series);
            parts.iter().for_each(|part| series.extend_from_slice(part));
            series.extend_from_slice(sample);
        }
        self.samples += 1;
        (self.name, self.le, self.metadata) = (name_label, le_label, metadata);
    }
}
