//! `/tmp/perf-PID.map`: names of code that a process has compiled at run time.

use super::file::{Folder, Seen};
use super::name;
use crate::elf::read::Budget;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::sync::Arc;

/// Addresses whose names are kept.
const NAMES: usize = 4_096;
/// Of a line; a longer one ends there.
const LINE: usize = 1_024;
const PIECE: usize = 64 << 10;

/// The list of one process, which grows at its end; of an address the last line counts.
pub(super) struct PerfMap {
    /// The process's id in its own namespace, and its user, who alone may have written the list, or root.
    pid: u32,
    uid: u32,
    /// Addresses that were asked for.
    names: BTreeMap<u64, Option<Arc<str>>>,
    ino: u64,
    /// Up to here it was looked at for them.
    read: u64,
}

impl PerfMap {
    pub(super) fn new(pid: u32, uid: u32) -> Self {
        Self { pid, uid, names: BTreeMap::new(), ino: 0, read: 0 }
    }

    pub(super) fn name(&self, address: u64) -> Option<Arc<str>> {
        self.names.get(&address).cloned().flatten()
    }

    /// Looks for names of addresses, and whether the list has new ones for those from before.
    pub(super) fn look(
        &mut self,
        mut roots: impl Iterator<Item = Folder>,
        addresses: impl IntoIterator<Item = u64>,
        budget: &mut Budget,
    ) {
        let path = format!("/tmp/perf-{}.map", self.pid);
        let ours = |seen: &Seen| seen.uid == self.uid || seen.uid == 0;
        let Some(seen) = roots.find_map(|root| root.within(path.as_ref()).filter(ours)) else {
            return;
        };
        if let Some(file) = seen.open() {
            self.read_from(file, seen.identity.ino, seen.identity.size, addresses, budget);
        }
    }

    fn read_from(
        &mut self,
        mut file: File,
        ino: u64,
        size: u64,
        addresses: impl IntoIterator<Item = u64>,
        budget: &mut Budget,
    ) {
        if ino != self.ino || size < self.read || self.names.len() > NAMES {
            (self.ino, self.read) = (ino, 0);
            self.names.clear();
        }
        let new = addresses.into_iter().filter(|address| !self.names.contains_key(address));
        let mut new: Vec<_> = new.map(|address| (address, None)).collect();
        new.sort_unstable_by_key(|(address, _)| *address);
        new.dedup_by_key(|(address, _)| *address);
        if new.is_empty() || scan(&mut file, 0..self.read, &mut new, budget) == self.read {
            self.names.extend(new);
        } // else there was no time: they are new the next time, too
        let mut all: Vec<_> = std::mem::take(&mut self.names).into_iter().collect();
        self.read += scan(&mut file, self.read..size, &mut all, budget);
        self.names = all.into_iter().collect();
    }
}

/// Names addresses, which are in rising order, by the lines of a part of the list. Returns how many bytes the
/// whole lines among them have.
fn scan(
    file: &mut File,
    part: std::ops::Range<u64>,
    wants: &mut [(u64, Option<Arc<str>>)],
    budget: &mut Budget,
) -> u64 {
    let (mut done, mut rest) = (0, Vec::new());
    if part.is_empty() || file.seek(SeekFrom::Start(part.start)).is_err() {
        return 0;
    }
    let mut file = file.take(part.end - part.start);
    loop {
        let at = rest.len();
        rest.resize(at + PIECE, 0);
        let read = file.read(&mut rest[at..]).unwrap_or(0);
        rest.truncate(at + read);
        if read == 0 || budget.spend(read).is_none() {
            return done;
        }
        let Some(end) = rest.iter().rposition(|byte| *byte == b'\n') else {
            if rest.len() > PIECE {
                return done; // no list
            }
            continue;
        };
        for line in rest[..end].split(|byte| *byte == b'\n') {
            meet(line, wants);
        }
        done += end as u64 + 1;
        rest.drain(..=end);
    }
}

/// `7f0123456780 40 name of the function`.
fn meet(line: &[u8], wants: &mut [(u64, Option<Arc<str>>)]) -> Option<()> {
    let mut fields = line[..line.len().min(LINE)].splitn(3, |byte| *byte == b' ');
    let mut number = || {
        let text = std::str::from_utf8(fields.next()?).ok()?;
        u64::from_str_radix(text.trim_start_matches("0x"), 16).ok()
    };
    let (start, size) = (number()?, number()?);
    let first = wants.partition_point(|(address, _)| *address < start);
    let end = start.saturating_add(size);
    let mut met = wants[first..].iter_mut().take_while(|(address, _)| *address < end).peekable();
    if met.peek().is_some() {
        let name: Arc<str> = name::readable(fields.next()?).into();
        met.for_each(|(_, of)| *of = Some(name.clone()));
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;
    use std::time::{Duration, Instant};

    #[test]
    fn the_last_line_counts_and_new_lines_are_read_once() {
        let mut list = tempfile::tempfile().expect("a file");
        let mut write = |text: &str| list.write_all(text.as_bytes()).expect("written");
        write("1000 100 old\n2000 10 Lcom/A;::run\nzzz\n1000 80 new name\n3000 10 half a li");
        let mut map = PerfMap::new(1, 0);
        let mut look = |file: &File, addresses: &[u64], bytes| {
            let file = file.try_clone().expect("a copy");
            let size = file.metadata().expect("there").len();
            let mut budget = Budget { until: Instant::now() + Duration::from_secs(9), bytes };
            map.read_from(file, 1, size, addresses.iter().copied(), &mut budget);
            let name = |at: &u64| map.name(*at).map(|name| name.to_string()).unwrap_or_default();
            (addresses.iter().map(name).collect::<Vec<_>>(), bytes - budget.bytes)
        };
        let (names, _) = look(&list, &[0x1000, 0x1090, 0x200f, 0x2010, 0x3000, 0xfff], 1 << 20);
        assert_eq!(names, ["new name", "old", "Lcom/A:::run", "", "", ""]);
        (&list).write_all(b"ne\n1090 1 moved\n").expect("written");
        let (names, read) = look(&list, &[0x1000, 0x1090, 0x3000], 1 << 20);
        assert_eq!(names, ["new name", "moved", "half a line"]);
        assert!(read < 60, "{read} bytes: only those behind the last whole line");
    }
}
