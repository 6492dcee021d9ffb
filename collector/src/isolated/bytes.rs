//! The bytes of a message, written and read one value after the other.

use log::Level;
use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// How many bytes stand before those of a message: its kind, a number, its length.
pub const HEADER: usize = 9;

/// Bytes that are no message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoMessage {
    /// A length that no message of this kind has.
    Length(u32),
    /// It belongs to no request that was made.
    Number,
    /// What it holds makes no sense.
    Content(&'static str),
}

impl fmt::Display for NoMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length(length) => write!(f, "a message of {length} bytes"),
            Self::Number => f.write_str("an answer that nobody asked for"),
            Self::Content(what) => write!(f, "a message with {what}"),
        }
    }
}

/// A message that is written.
pub struct Out(Vec<u8>);

impl Out {
    pub fn new(kind: u8, number: u32) -> Self {
        let mut out = Self(Vec::with_capacity(256));
        out.u8(kind);
        out.0.extend(number.to_le_bytes());
        out.0.extend([0; 4]);
        out
    }

    pub fn raw(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    pub fn u8(&mut self, value: u8) {
        self.0.push(value);
    }

    pub fn u64(&mut self, value: u64) {
        self.0.extend(value.to_le_bytes());
    }

    pub fn numbers(&mut self, values: &[u64]) {
        values.iter().for_each(|value| self.u64(*value));
    }

    pub fn bytes(&mut self, bytes: &[u8]) {
        self.u64(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    pub fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }

    pub fn list<T>(&mut self, list: &[T], each: impl Fn(&mut Self, &T)) {
        self.u64(list.len() as u64);
        list.iter().for_each(|item| each(self, item));
    }

    /// A message of 4 GiB or more says the longest length, which nobody takes.
    pub fn done(mut self) -> Vec<u8> {
        let length = u32::try_from(self.0.len() - HEADER).unwrap_or(u32::MAX);
        self.0[HEADER - 4..HEADER].copy_from_slice(&length.to_le_bytes());
        self.0
    }
}

/// What is left of a message.
pub struct In<'a>(pub &'a [u8]);

impl<'a> In<'a> {
    pub fn take(&mut self, length: usize) -> Result<&'a [u8], NoMessage> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(NoMessage::Content("no end"))?;
        self.0 = rest;
        Ok(taken)
    }

    pub fn u8(&mut self) -> Result<u8, NoMessage> {
        Ok(self.take(1)?[0])
    }

    pub fn u64(&mut self) -> Result<u64, NoMessage> {
        let bytes = self.take(8)?.try_into().map_err(|_| NoMessage::Content("no end"))?;
        Ok(u64::from_le_bytes(bytes))
    }

    pub fn size(&mut self) -> Result<usize, NoMessage> {
        Ok(usize::try_from(self.u64()?).unwrap_or(usize::MAX))
    }

    pub fn flag(&mut self) -> Result<bool, NoMessage> {
        self.one_of([false, true].into_iter())
    }

    pub fn bytes(&mut self) -> Result<&'a [u8], NoMessage> {
        let length = self.size()?;
        self.take(length)
    }

    pub fn text(&mut self) -> Result<String, NoMessage> {
        let text = str::from_utf8(self.bytes()?);
        text.map(str::to_owned).map_err(|_| NoMessage::Content("a text that is not UTF-8"))
    }

    pub fn path(&mut self) -> Result<PathBuf, NoMessage> {
        Ok(OsStr::from_bytes(self.bytes()?).into())
    }

    pub fn level(&mut self) -> Result<Level, NoMessage> {
        let level = self.u8()?;
        let known = Level::iter().find(|known| *known as u8 == level);
        known.ok_or(NoMessage::Content("an unknown level"))
    }

    /// A value by its number.
    pub fn one_of<T>(&mut self, mut values: impl Iterator<Item = T>) -> Result<T, NoMessage> {
        values.nth(self.u8()?.into()).ok_or(NoMessage::Content("an unknown value"))
    }

    pub fn named<T: Copy>(&mut self, named: &[(&str, T)]) -> Result<T, NoMessage> {
        self.one_of(named.iter().map(|(_, value)| *value))
    }

    pub fn list<T>(
        &mut self,
        each: impl Fn(&mut Self) -> Result<T, NoMessage>,
    ) -> Result<Vec<T>, NoMessage> {
        // Each item takes bytes, so a number that is too large ends with them.
        (0..self.u64()?).map(|_| each(self)).collect()
    }

    pub fn end(&self) -> Result<(), NoMessage> {
        if self.0.is_empty() { Ok(()) } else { Err(NoMessage::Content("more behind it")) }
    }
}
