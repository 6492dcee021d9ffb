//! Writing into a pipe so that its reader never sees part of a line.
//!
//! What the kernel promises (`pipe_write` in fs/pipe.c):
//! - Up to `PIPE_BUF` bytes are written whole or not at all.
//! - More are whole too if there is room for them when the call begins. The pipe's mutex is then held
//!   until the last byte is in, so the reader sees all or nothing; and the kernel looks for a signal, a
//!   SIGKILL too, only where it waits for room.
//! - Room is counted in pages, up to the pipe's size. Pages that are half empty count as full, and
//!   nobody says how many there are: only an empty pipe has room for sure.

use super::patience::{Over, Patience};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::{Errno, ioctl_fionread};
use rustix::pipe::{PIPE_BUF, fcntl_getpipe_size, fcntl_setpipe_size};
use std::fs::File;
use std::io::{self, ErrorKind, IoSlice, IsTerminal, Write};
use std::os::unix::fs::FileTypeExt;
use std::thread::sleep;
use std::time::Duration;

/// Between looks whether a pipe is empty.
const PAUSES: [Duration; 2] = [Duration::from_micros(50), Duration::from_millis(10)];

/// Whether bytes can be written whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fits {
    /// Now.
    Enough,
    /// Not ever: it is smaller, and may not be made larger.
    Never,
}

/// Something that takes bytes, and can be waited for.
pub trait Channel: Write {
    /// Waits until so many bytes can be written whole, and do not block.
    ///
    /// # Errors
    /// There is no room in time.
    fn wait(&mut self, bytes: usize, patience: &mut Patience) -> Result<Fits, Over>;
}

/// A descriptor that is no regular file: a pipe, a terminal, a device, a socket. It may be shared with
/// other processes, so it stays blocking, and is waited for.
#[derive(Debug)]
pub struct Descriptor {
    file: File,
    is_pipe: bool,
    /// Asked at the start: after a hang-up it is none any more.
    is_terminal: bool,
}

impl Descriptor {
    /// Over an open file.
    ///
    /// # Errors
    /// The kernel does not say what it is.
    pub fn new(file: File) -> io::Result<Self> {
        let is_pipe = file.metadata()?.file_type().is_fifo();
        let is_terminal = file.is_terminal();
        Ok(Self { file, is_pipe, is_terminal })
    }

    /// Waits until something can be written, or there is an error to be had by writing.
    fn wait_until_writable(&self, patience: &Patience) -> Result<(), Over> {
        loop {
            let left = patience.left()?.try_into().unwrap_or_default();
            match poll(&mut [PollFd::new(&self.file, PollFlags::OUT)], Some(&left)) {
                Ok(0) | Err(Errno::INTR) => {}
                Ok(_) | Err(_) => return Ok(()),
            }
        }
    }

    /// Makes a pipe large enough, if it may be: by default that is 1 MiB (fs.pipe-max-size).
    fn enlarge(&self, bytes: usize) -> Fits {
        let page = rustix::param::page_size();
        // One more for somebody who writes to the same pipe, such as our own messages.
        let size = bytes.next_multiple_of(page) + page;
        if fcntl_getpipe_size(&self.file).is_ok_and(|has| has >= size)
            || fcntl_setpipe_size(&self.file, size).is_ok_and(|has| has >= size)
        {
            Fits::Enough
        } else {
            Fits::Never
        }
    }

    fn wait_until_empty(&self, patience: &mut Patience) -> Result<(), Over> {
        let [mut pause, longest] = PAUSES;
        let mut before = None;
        // A reader that has left is for `write` to report.
        while let Ok(unread @ 1..) = ioctl_fionread(&self.file)
            && !self.reader_left()
        {
            patience.moved |= before.replace(unread).is_some_and(|before| unread < before);
            sleep(pause.min(patience.left()?));
            pause = longest.min(pause * 2);
        }
        Ok(())
    }

    fn reader_left(&self) -> bool {
        let mut fds = [PollFd::new(&self.file, PollFlags::empty())];
        poll(&mut fds, Some(&rustix::time::Timespec::default())).is_ok()
            && fds[0].revents().contains(PollFlags::ERR)
    }
}

impl Channel for Descriptor {
    fn wait(&mut self, bytes: usize, patience: &mut Patience) -> Result<Fits, Over> {
        if self.is_pipe && bytes > PIPE_BUF {
            if self.enlarge(bytes) == Fits::Never {
                return Ok(Fits::Never);
            }
            self.wait_until_empty(patience)?;
        }
        self.wait_until_writable(patience)?;
        Ok(Fits::Enough)
    }
}

impl Write for Descriptor {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(bytes)])
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.file.write_vectored(slices).map_err(|error| match Errno::from_io_error(&error) {
            // The terminal's window was closed.
            Some(Errno::IO) if self.is_terminal => ErrorKind::BrokenPipe.into(),
            _ => error,
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::parcel::testing::parcel;
    use super::super::stream::Stream;
    use super::super::{Failure, Output, Parcel};
    use super::*;
    use std::io::{PipeReader, Read, pipe};
    use std::os::fd::OwnedFd;
    use std::thread;
    use std::time::Instant;

    fn stream() -> (PipeReader, Stream<Descriptor>) {
        let (reader, writer) = pipe().unwrap();
        let file = File::from(OwnedFd::from(writer));
        (reader, Stream::new(Descriptor::new(file).unwrap()))
    }

    fn lines(lengths: &[usize]) -> Vec<String> {
        lengths.iter().map(|length| format!("{}\n", "x".repeat(length - 1))).collect()
    }

    fn delivered(parcel: &mut Parcel) -> u64 {
        parcel.items().iter().map(|item| item.fate.delivered).sum()
    }

    /// What is in the pipe.
    fn unread(reader: &PipeReader) -> usize {
        ioctl_fionread(reader).unwrap().try_into().unwrap()
    }

    #[test]
    fn a_full_pipe_holds_whole_lines_and_the_deadline_is_kept() {
        let (mut reader, mut out) = stream();
        let all = lines(&[100, 5000, 300].repeat(100));
        let mut parcel = parcel(&all);
        let began = Instant::now();
        let soon = Some(began + Duration::from_millis(100));
        let Err(Failure::Later { why, .. }) = out.deliver(&mut parcel, soon) else { panic!() };
        assert_eq!(why.to_string(), "its reader has not read everything in time");
        assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
        let mut text = vec![0; unread(&reader)];
        reader.read_exact(&mut text).unwrap();
        assert!(text.ends_with(b"\n"), "a torn line");
        assert_eq!(delivered(&mut parcel), memchr::memchr_iter(b'\n', &text).count() as u64);
        let rest = thread::spawn(move || {
            reader.read_to_end(&mut text).unwrap();
            text
        });
        while !parcel.is_done() {
            out.deliver(&mut parcel, None).unwrap();
        }
        drop(out);
        assert!(rest.join().unwrap() == all.concat().into_bytes());
    }

    #[test]
    fn a_reader_that_stands_still_is_a_failure_to_be_tried_again() {
        let (_reader, mut out) = stream();
        let mut parcel = parcel(&lines(&[1000; 100]));
        out.deliver(&mut parcel, None).unwrap(); // 64 of them went into the pipe
        let Err(Failure::Later { why, .. }) = out.deliver(&mut parcel, None) else { panic!() };
        assert_eq!(why.to_string(), "its reader has read nothing for 2 s");
    }

    #[test]
    fn a_line_longer_than_the_pipe_makes_it_larger_and_comes_whole() {
        let (mut reader, mut out) = stream();
        let all = lines(&[100, 200_000, 300]);
        let mut parcel = parcel(&all);
        let soon = || Some(Instant::now() + Duration::from_millis(50));
        assert!(out.deliver(&mut parcel, soon()).is_err());
        assert_eq!(
            unread(&reader),
            100,
            "no part of the long line, as there is no room for all of it"
        );
        reader.read_exact(&mut [0; 100]).unwrap();
        out.deliver(&mut parcel, soon()).unwrap();
        assert_eq!(unread(&reader), 200_300);
        drop(out);
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert!(text == all[1..].concat());
    }

    #[test]
    fn a_pipe_does_not_become_larger_than_the_kernel_has_it() {
        let (_reader, out) = stream();
        assert_eq!(out.out.enlarge(200_000), Fits::Enough);
        assert_eq!(out.out.enlarge(3 << 30), Fits::Never);
    }

    #[test]
    fn a_reader_that_left_is_gone_also_while_a_long_line_waits() {
        let (reader, mut out) = stream();
        let mut parcel = parcel(&lines(&[100, 5000]));
        assert!(
            out.deliver(&mut parcel, Some(Instant::now() + Duration::from_millis(50))).is_err()
        );
        drop(reader);
        assert!(matches!(out.deliver(&mut parcel, None), Err(Failure::Gone(_))));
    }
}
