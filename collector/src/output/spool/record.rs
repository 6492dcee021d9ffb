//! One record of a segment: a batch, and what tells whether it is whole.
//!
//! ```text
//!  0  magic: 0xf5, which occurs in no text, and SP1
//!  4  state: w waits, d done; in no checksum, since it is changed in place
//!  5  CRC-32 of bytes 9 to the end of the name, and of the place
//!  9  CRC-32 of the lines
//! 13  length of the lines
//! 21  how many they are
//! 29  the tick: seq, time_ns, elapsed_ns
//! 53  length of the plugin's name
//! 54  the name, then the lines
//! ```
//! Numbers are little-endian. The place is in the checksum, so that a record inside another one's lines is
//! never taken for one of its own.

use super::stretch::{Place, Stretch};
use crate::batch::Batch;
use plugin_api::Tick;
use std::sync::Arc;

/// What every record starts with.
pub const MAGIC: [u8; 4] = *b"\xf5SP1";
/// The longest header, name included.
pub const HEADER_MAX: usize = FIXED + u8::MAX as usize;
/// Where the state lies in a record.
pub const STATE_AT: u64 = 4;
/// The state of a record that is never handed out again.
pub const DONE: u8 = b'd';

const WAITS: u8 = b'w';
const FIXED: usize = 54;
/// No batch is longer: they come out of memory. Keeps a header that lies from asking for all of it.
const LINES_MAX: u64 = 1 << 30;

/// What a record says before its lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordHeader {
    pub plugin: Arc<str>,
    pub tick: Tick,
    pub lines: u64,
    pub bytes: u64,
    pub checksum: u32,
    pub done: bool,
}

impl RecordHeader {
    /// The header of a batch; none when it is empty, longer than 1 GiB, says a number of lines that it
    /// cannot have, or its plugin's name is longer than 255 bytes.
    pub fn of(batch: &Batch) -> Option<Self> {
        let header = Self {
            plugin: Arc::clone(&batch.plugin),
            tick: batch.tick,
            lines: batch.lines,
            bytes: batch.bytes.len() as u64,
            checksum: crc32fast::hash(&batch.bytes),
            done: false,
        };
        (header.is_plausible() && header.plugin.len() <= usize::from(u8::MAX)).then_some(header)
    }

    fn is_plausible(&self) -> bool {
        // Each line has its newline.
        self.bytes <= LINES_MAX && (1..=self.bytes).contains(&self.lines)
    }

    /// Its own length.
    pub fn length(&self) -> u64 {
        (FIXED + self.plugin.len()) as u64
    }

    /// The whole record's length.
    pub fn record_length(&self) -> u64 {
        self.length() + self.bytes
    }

    /// The lines, and the interval they are about.
    pub fn stretch(&self) -> Stretch {
        Stretch::of(&self.plugin, &self.tick, self.lines)
    }

    /// As it is written at a place.
    pub fn encode(&self, place: Place) -> Vec<u8> {
        let mut sealed = Vec::with_capacity(HEADER_MAX);
        sealed.extend(self.checksum.to_le_bytes());
        sealed.extend(self.bytes.to_le_bytes());
        sealed.extend(self.lines.to_le_bytes());
        sealed.extend(self.tick.seq.to_le_bytes());
        sealed.extend(self.tick.time_ns.to_le_bytes());
        sealed.extend(self.tick.elapsed_ns.to_le_bytes());
        sealed.push(self.plugin.len() as u8);
        sealed.extend(self.plugin.as_bytes());
        let mut out = MAGIC.to_vec();
        out.push(if self.done { DONE } else { WAITS });
        out.extend(seal(&sealed, place).to_le_bytes());
        out.extend(sealed);
        out
    }

    /// Reads the header at the start of some bytes that lie at a place of a segment of `length` bytes;
    /// none unless it and its place are whole and its lines end inside.
    pub fn parse(bytes: &[u8], place: Place, length: u64) -> Option<Self> {
        let mut rest = bytes;
        if take(&mut rest)? != MAGIC {
            return None;
        }
        let [state] = take(&mut rest)?;
        let claimed = u32::from_le_bytes(take(&mut rest)?);
        let sealed = rest;
        let checksum = u32::from_le_bytes(take(&mut rest)?);
        let bytes = u64::from_le_bytes(take(&mut rest)?);
        let lines = u64::from_le_bytes(take(&mut rest)?);
        let seq = u64::from_le_bytes(take(&mut rest)?);
        let time_ns = i64::from_le_bytes(take(&mut rest)?);
        let elapsed_ns = u64::from_le_bytes(take(&mut rest)?);
        let [name] = take(&mut rest)?;
        let plugin = rest.get(..usize::from(name))?;
        let sealed = &sealed[..sealed.len() - rest.len() + plugin.len()];
        // A fuzzer never guesses a checksum; what comes behind it has to stand any header.
        if !cfg!(fuzzing) && seal(sealed, place) != claimed {
            return None;
        }
        let plugin = std::str::from_utf8(plugin).ok()?.into();
        let tick = Tick { seq, time_ns, elapsed_ns };
        let header = Self { plugin, tick, lines, bytes, checksum, done: state == DONE };
        let fits = |header: &Self| place.offset + header.record_length() <= length;
        (header.is_plausible() && fits(&header)).then_some(header)
    }
}

fn seal(sealed: &[u8], place: Place) -> u32 {
    let mut checksum = crc32fast::Hasher::new();
    checksum.update(sealed);
    checksum.update(&place.segment.to_le_bytes());
    checksum.update(&place.offset.to_le_bytes());
    checksum.finalize()
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (head, tail) = rest.split_first_chunk()?;
    *rest = tail;
    Some(*head)
}
