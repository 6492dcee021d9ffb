//! One file of the spool.

use super::record::{DONE, HEADER_MAX, MAGIC, RecordHeader, STATE_AT};
use super::restore::leads_to;
use super::stretch::{Lost, Place};
use super::sums::Sums;
use crate::batch::Batch;
use crate::output::books::Cause;
use crate::trust::{Folder, Write};
use rustix::io::Errno;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;

/// How much is read at once to find the next record after damage.
const CHUNK: usize = 64 << 10;

/// Records one after the other. Those before the cursor were taken, or are done.
#[derive(Debug)]
pub struct Segment {
    pub number: u64,
    /// Its length.
    pub length: u64,
    folder: Arc<Folder>,
    name: OsString,
    /// Closed while nobody reads: a spool may have more segments than a process may have files.
    file: Option<File>,
    cursor: u64,
    /// What lies behind the cursor and is not done.
    pub sums: Sums,
    /// Offsets of the records that were taken and are not done.
    in_flight: BTreeSet<u64>,
    /// Records were skipped: what is left of the sums is no longer what lies behind the cursor.
    skipped: bool,
    /// Records were written since the last [`Segment::sync`].
    unsynced: bool,
}

/// How much may still be taken.
#[derive(Debug)]
pub struct Left {
    pub lines: u64,
    pub bytes: u64,
}

impl Segment {
    /// A new one, with mode 0600.
    pub fn create(folder: &Arc<Folder>, number: u64) -> io::Result<Self> {
        let name = OsString::from(format!("{number:08}.spool"));
        let file = folder.write(&name, Write::New)?;
        Ok(Self { file: Some(file), ..Self::new(folder, name, number) })
    }

    /// One that is there, with records that are not known yet: see [`super::recover`].
    pub fn found(folder: &Arc<Folder>, name: OsString, number: u64) -> io::Result<Self> {
        let mut segment = Self::new(folder, name, number);
        segment.length = segment.file()?.metadata()?.len();
        Ok(segment)
    }

    fn new(folder: &Arc<Folder>, name: OsString, number: u64) -> Self {
        Self {
            number,
            length: 0,
            folder: Arc::clone(folder),
            name,
            file: None,
            cursor: 0,
            sums: Sums::default(),
            in_flight: BTreeSet::new(),
            skipped: false,
            unsynced: false,
        }
    }

    fn file(&mut self) -> io::Result<&File> {
        match &mut self.file {
            Some(file) => Ok(file),
            none => {
                // After an error a file system may become read-only: what lies there can still be read.
                let file = self.folder.write(&self.name, Write::Found).or_else(|why| {
                    match Errno::from_io_error(&why) {
                        Some(Errno::ROFS | Errno::ACCESS | Errno::PERM) => {
                            self.folder.read(&self.name)
                        }
                        _ => Err(why),
                    }
                })?;
                Ok(none.insert(file))
            }
        }
    }

    /// Gives back what the system holds open for it; it is opened again when it is needed. A file that was
    /// removed stays open: what it holds is nowhere else.
    pub fn close(&mut self) {
        let path = self.path();
        self.file.take_if(|file| leads_to(&path, file));
    }

    /// Whether its path leads to its file.
    pub fn is_there(&self) -> bool {
        self.file.as_ref().is_none_or(|file| leads_to(&self.path(), file))
    }

    /// For messages, and to see whether it is still there.
    pub fn path(&self) -> PathBuf {
        self.folder.path().join(&self.name)
    }

    /// Whether records of it were taken and are not done.
    pub fn is_in_flight(&self) -> bool {
        !self.in_flight.is_empty()
    }

    /// Whether nothing of it will be asked for any more.
    pub fn is_spent(&self) -> bool {
        self.sums.waiting().lines == 0 && !self.is_in_flight()
    }

    /// The first record that is not done.
    pub fn oldest(&self) -> Option<Place> {
        let waits = (self.sums.waiting().lines > 0).then_some(self.cursor);
        let offset = self.in_flight.first().copied().into_iter().chain(waits).min()?;
        Some(Place { segment: self.number, offset })
    }

    /// Writes a batch at the end. After an error it is as before.
    pub fn append(&mut self, batch: &Batch, header: &RecordHeader) -> io::Result<()> {
        let place = Place { segment: self.number, offset: self.length };
        let length = self.length;
        let file = self.file()?;
        let written = file
            .write_all_at(&header.encode(place), place.offset)
            .and_then(|()| file.write_all_at(&batch.bytes, place.offset + header.length()));
        if let Err(error) = written {
            // The part that did get there; should this fail too, the next record is written over it.
            let _ = file.set_len(length);
            return Err(error);
        }
        self.length += header.record_length();
        self.sums.add(header);
        self.unsynced = true;
        Ok(())
    }

    /// Takes batches from the cursor on while there is room; the first of all comes whatever its size.
    /// What ended before `since_ns` is given up, and what cannot be read. Returns whether the segment
    /// came to its end.
    ///
    /// # Errors
    /// There are no files or no memory to read with; nothing is given up for that.
    pub fn take(
        &mut self,
        room: &mut Left,
        since_ns: i64,
        lost: &mut Lost,
        taken: &mut Vec<(Arc<Batch>, Place)>,
    ) -> io::Result<bool> {
        while let Some(header) = self.peek()? {
            let place = Place { segment: self.number, offset: self.cursor };
            if header.tick.time_ns < since_ns {
                self.pass(&header);
                self.mark_done(place.offset);
                lost.push((header.stretch(), Cause::SpoolAge));
                continue;
            }
            if !taken.is_empty() && (header.lines > room.lines || header.bytes > room.bytes) {
                return Ok(false);
            }
            let body = self.body(&header);
            match body {
                Ok(bytes) => {
                    self.pass(&header);
                    room.lines = room.lines.saturating_sub(header.lines);
                    room.bytes = room.bytes.saturating_sub(header.bytes);
                    self.in_flight.insert(place.offset);
                    let RecordHeader { plugin, tick, lines, .. } = header;
                    taken.push((Arc::new(Batch { plugin, tick, lines, bytes }), place));
                }
                Err(why) if is_passing(&why) => return Err(why),
                Err(why) => {
                    self.pass(&header);
                    let (path, lines) = (self.path().display().to_string(), header.lines);
                    let (offset, bytes) = (place.offset, header.record_length());
                    log::warn!(
                        "{path}: {bytes} bytes at {offset} with {lines} lines of {} are lost: {why}",
                        header.plugin
                    );
                    self.mark_done(place.offset);
                    lost.push((header.stretch(), Cause::SpoolError));
                }
            }
        }
        // What was counted in and did not turn up lay where the file is damaged.
        lost.extend(self.sums.drain().map(|stretch| (stretch, Cause::SpoolError)));
        Ok(true)
    }

    /// The next record that waits; moves the cursor over what is done or damaged.
    fn peek(&mut self) -> io::Result<Option<RecordHeader>> {
        while self.cursor < self.length {
            let skipped = match self.header(self.cursor) {
                Ok(Some(header)) if header.done => {
                    self.cursor += header.record_length();
                    Ok(())
                }
                Ok(Some(header)) if self.sums.holds(&header) => return Ok(Some(header)),
                Ok(_) => self.skip(),
                Err(why) => Err(why),
            };
            match skipped {
                Err(why) if is_passing(&why) => return Err(why),
                Err(why) => self.skip_rest(&why),
                Ok(()) => {}
            }
        }
        Ok(None)
    }

    fn pass(&mut self, header: &RecordHeader) {
        self.sums.subtract(header, !self.skipped);
        self.cursor += header.record_length();
    }

    fn skip(&mut self) -> io::Result<()> {
        let next = self.next_header(self.cursor + 1)?;
        let (path, bytes) = (self.path().display().to_string(), next - self.cursor);
        log::warn!("{path}: {bytes} bytes at {} are damaged and skipped", self.cursor);
        self.skipped = true;
        self.cursor = next;
        Ok(())
    }

    /// A disk that cannot be read takes seconds for each attempt: there is only one.
    fn skip_rest(&mut self, why: &io::Error) {
        let (path, bytes) = (self.path().display().to_string(), self.length - self.cursor);
        log::warn!("{path}: {bytes} bytes at {} cannot be read: {why}", self.cursor);
        self.skipped = true;
        self.cursor = self.length;
    }

    /// The header at an offset; none when there is no whole one.
    pub fn header(&mut self, offset: u64) -> io::Result<Option<RecordHeader>> {
        let mut buffer = [0; HEADER_MAX];
        let (number, length) = (self.number, self.length);
        let read = read_at(self.file()?, &mut buffer, offset)?;
        Ok(RecordHeader::parse(&buffer[..read], Place { segment: number, offset }, length))
    }

    /// Where the next whole header lies, from an offset on; the segment's length when there is none.
    pub fn next_header(&mut self, mut offset: u64) -> io::Result<u64> {
        let (number, length) = (self.number, self.length);
        let file = self.file()?;
        let mut buffer = vec![0; CHUNK + HEADER_MAX];
        while offset < length {
            let read = read_at(file, &mut buffer, offset)?;
            let chunk = &buffer[..read];
            for at in memchr::memmem::find_iter(&chunk[..read.min(CHUNK + MAGIC.len() - 1)], &MAGIC)
            {
                let place = Place { segment: number, offset: offset + at as u64 };
                if RecordHeader::parse(&chunk[at..], place, length).is_some() {
                    return Ok(place.offset);
                }
            }
            if read <= CHUNK {
                break;
            }
            offset += CHUNK as u64;
        }
        Ok(length)
    }

    fn body(&mut self, header: &RecordHeader) -> io::Result<Vec<u8>> {
        let offset = self.cursor + header.length();
        let mut bytes = vec![0; header.bytes as usize];
        self.file()?.read_exact_at(&mut bytes, offset)?;
        if !cfg!(fuzzing) && crc32fast::hash(&bytes) != header.checksum {
            return Err(io::Error::other("the checksum is wrong"));
        }
        Ok(bytes)
    }

    /// A record that was taken needs no second try. Returns whether it was in flight.
    pub fn land(&mut self, offset: u64) -> bool {
        self.in_flight.remove(&offset)
    }

    /// Remembers on disk that a record is done. When that fails, it is handed out once more after the
    /// next start: a receiver takes the same lines twice without harm.
    pub fn mark_done(&mut self, offset: u64) {
        let marked = self.file().and_then(|file| file.write_all_at(&[DONE], offset + STATE_AT));
        if let Err(why) = marked {
            log::debug!("{}: what is done cannot be marked: {why}", self.path().display());
        }
    }

    /// Cuts what lies behind an offset.
    pub fn cut(&mut self, length: u64) -> io::Result<()> {
        self.file()?.set_len(length)?;
        self.length = length;
        Ok(())
    }

    /// Makes a spent one empty, to be written again from its start.
    pub fn clear(&mut self) -> io::Result<()> {
        if self.length > 0 {
            self.cut(0)?;
        }
        self.cursor = 0;
        self.skipped = false;
        self.unsynced = false;
        Ok(())
    }

    /// Takes it from the disk.
    pub fn remove(self) {
        if let Err(why) = self.folder.remove(&self.name)
            && why.kind() != io::ErrorKind::NotFound
        {
            log::warn!("{} cannot be removed: {why}", self.path().display());
        }
    }

    /// Has the disk keep what was written since the last time.
    pub fn sync(&mut self) -> io::Result<()> {
        if self.unsynced {
            self.file()?.sync_data()?;
            self.unsynced = false;
        }
        Ok(())
    }
}

/// Whether an error says nothing about the file.
fn is_passing(error: &io::Error) -> bool {
    let code = error.raw_os_error().map(Errno::from_raw_os_error);
    matches!(code, Some(Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::INTR | Errno::AGAIN))
}

/// Reads until the buffer is full or the file ends; returns how much.
fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut read = 0;
    while read < buffer.len() {
        match file.read_at(&mut buffer[read..], offset + read as u64) {
            Ok(0) => break,
            Ok(more) => read += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(read)
}
