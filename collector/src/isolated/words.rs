//! What a plugin's process prints: shown under the plugin's name, as far as it is not too much, and its end kept for the
//! case that it was the last.

use crate::messages::{self, readable};
use rustix::io::{Errno, ioctl_fionbio, read};
use std::io::{self, PipeReader};
use std::os::fd::{AsFd, BorrowedFd};

/// Bytes that are shown while the plugin does one thing.
const SHOWN: usize = 64 << 10;
/// Bytes of a line that are shown together.
const LINE: usize = 4 << 10;
/// Bytes that are kept.
const KEPT: usize = 400;

/// Reads it.
pub struct Words {
    pipe: PipeReader,
    open: bool,
    name: String,
    /// A line that has not ended.
    line: Vec<u8>,
    shown: usize,
    /// The end of what was printed.
    end: Vec<u8>,
}

impl Words {
    /// From a pipe.
    pub fn new(name: &str, pipe: PipeReader) -> Self {
        let name = name.to_owned();
        Self { pipe, open: true, name, line: Vec::new(), shown: 0, end: Vec::new() }
    }

    /// Reading does not wait from now on.
    pub fn never_wait(&mut self) -> io::Result<()> {
        Ok(ioctl_fionbio(&self.pipe, true)?)
    }

    /// Whether more may come.
    pub fn is_open(&self) -> bool {
        self.open
    }

    /// The plugin is asked for something: as much again is shown.
    pub fn begin(&mut self) {
        self.shown = 0;
    }

    /// Takes what there is, but not for ever from one that prints without end.
    pub fn take(&mut self) {
        let mut bytes = [0; 4 << 10];
        for _ in 0..SHOWN / bytes.len() {
            match read(&self.pipe, &mut bytes) {
                Ok(0) => {
                    self.open = false;
                    return;
                }
                Ok(count) => self.add(&bytes[..count]),
                Err(Errno::INTR) => {}
                Err(_) => return, // there is no more, or none that can be had
            }
        }
    }

    /// Takes the rest; a line that has not ended is shown too.
    pub fn finish(&mut self) {
        self.take();
        if !self.line.is_empty() {
            self.show();
        }
    }

    fn add(&mut self, bytes: &[u8]) {
        self.end.extend_from_slice(&bytes[bytes.len().saturating_sub(2 * KEPT)..]);
        self.end.drain(..self.end.len().saturating_sub(2 * KEPT));
        for piece in bytes.split_inclusive(|&byte| byte == b'\n') {
            self.line.extend_from_slice(piece);
            if piece.ends_with(b"\n") || self.line.len() >= LINE {
                self.show();
            }
        }
    }

    fn show(&mut self) {
        let line = std::mem::take(&mut self.line);
        let before = self.shown;
        self.shown += line.len();
        let said = if self.shown <= SHOWN {
            readable(&line)
        } else if before <= SHOWN {
            format!("prints more than {} KiB at once: the rest is not shown", SHOWN >> 10)
        } else {
            return;
        };
        messages::say(format!("{}: {said}\n", self.name).as_bytes());
    }

    /// The end of what it has printed.
    pub fn last(&self) -> Option<String> {
        let text = readable(&self.end);
        let begin = text.ceil_char_boundary(text.len().saturating_sub(KEPT));
        let text = text[begin..].trim();
        (!text.is_empty()).then(|| text.to_owned())
    }
}

impl AsFd for Words {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pipe.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Write as _, pipe};

    #[test]
    fn the_end_of_what_was_printed_is_kept_on_one_line() {
        let (reader, mut writer) = pipe().unwrap();
        let mut words = Words::new("p", reader);
        words.never_wait().unwrap();
        words.take();
        assert_eq!((words.last(), words.is_open()), (None, true));
        writer.write_all(b"first\nsecond\x1b[1m\n").unwrap();
        words.take();
        assert_eq!(words.last().unwrap(), "first | second [1m");
        writer.write_all(&[b'x'; 60_000]).unwrap();
        drop(writer);
        words.take();
        words.take();
        assert_eq!(words.last().unwrap(), "x".repeat(KEPT));
        assert!(!words.is_open());
    }
}
