//! What lies in a spool's folder, read without the collector: see `collector/src/output/spool/record.rs`.

use std::fs;
use std::path::{Path, PathBuf};

/// A record of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    pub offset: usize,
    pub length: usize,
    pub lines: u64,
}

/// Where a record says how many lines it has.
const LINES_AT: usize = 21;
const MAGIC: &[u8] = b"\xf5SP1";

/// The segments below a folder, oldest first; only one output has a spool there.
pub fn segments(spool: &Path) -> Vec<PathBuf> {
    let list = |folder: &Path| {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).collect::<Vec<_>>()
    };
    let folders = list(spool).into_iter().filter(|path| path.is_dir());
    let mut found: Vec<_> = folders.flat_map(|folder| list(&folder)).collect();
    found.retain(|path| path.extension().is_some_and(|end| end == "spool"));
    found.sort();
    found
}

/// Bytes of all segments.
pub fn size(spool: &Path) -> u64 {
    segments(spool).iter().filter_map(|path| fs::metadata(path).ok()).map(|file| file.len()).sum()
}

/// A segment's records, whole ones and nothing else.
pub fn records(segment: &Path) -> Vec<Record> {
    let bytes = fs::read(segment).unwrap_or_default();
    let mut begins: Vec<_> = offsets(&bytes).collect();
    begins.push(bytes.len());
    let record = |pair: &[usize]| {
        let lines = bytes.get(pair[0] + LINES_AT..)?.first_chunk()?;
        let (offset, length) = (pair[0], pair[1] - pair[0]);
        Some(Record { offset, length, lines: u64::from_le_bytes(*lines) })
    };
    begins.windows(2).filter_map(record).collect()
}

/// Where records begin among some bytes: what they begin with is no UTF-8, and so in no line.
pub fn offsets(bytes: &[u8]) -> impl Iterator<Item = usize> {
    bytes.windows(MAGIC.len()).enumerate().filter(|(_, four)| *four == MAGIC).map(|(at, _)| at)
}

/// Lines in all records of the folder.
pub fn lines(spool: &Path) -> u64 {
    segments(spool).iter().flat_map(|segment| records(segment)).map(|record| record.lines).sum()
}
