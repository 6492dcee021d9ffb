//! Lines into a stream: standard output, a named pipe, a terminal.

use super::patience::Patience;
use super::pipe::{Channel, Descriptor, Fits};
use super::{Cause, Failure, Output, Parcel};
use crate::process::{self, closed_at_start};
use crate::stdout;
use anyhow::{Result, ensure};
use std::io::{self, ErrorKind, IoSlice};
use std::time::Instant;

/// A pipe takes this much whole or not at all, so a reader never sees part of a line, not
/// even when the collector is killed. A longer line is written alone, when the pipe is empty.
const WHOLE: usize = rustix::pipe::PIPE_BUF;
/// Batches in one write.
const SLICES: usize = 8;

/// A stream that takes bytes in order.
pub struct Stream<W> {
    pub(super) out: W,
    /// Bytes of the first line that is left that are already written.
    done: usize,
    /// Whether a line was refused.
    refused: bool,
}

impl Stream<Descriptor> {
    /// Standard output, by a descriptor of its own: past the standard library's line buffer.
    ///
    /// # Errors
    /// Standard output is closed.
    pub fn stdout() -> Result<Self> {
        ensure!(!closed_at_start(process::StandardStream::Stdout), "standard output is closed");
        Ok(Self::new(Descriptor::new(stdout::file()?)?))
    }
}

impl<W: Channel> Stream<W> {
    /// Writes into it.
    pub fn new(out: W) -> Self {
        Self { out, done: 0, refused: false }
    }

    fn write(&mut self, parcel: &mut Parcel, patience: &mut Patience) -> Result<(), Failure> {
        while !parcel.is_done() {
            let mut slices = [IoSlice::new(&[]); SLICES];
            let front = parcel.front(parcel.lines_within(WHOLE));
            slices.iter_mut().zip(front).for_each(|(slice, lines)| *slice = IoSlice::new(lines));
            slices[0].advance(self.done);
            let length = slices.iter().map(|slice| slice.len()).sum();
            match self.out.wait(length, patience) {
                Ok(Fits::Enough) => {}
                Ok(Fits::Never) => {
                    self.refuse(parcel, length);
                    continue;
                }
                Err(over) => return over.answer(),
            }
            match self.out.write_vectored(&slices) {
                Ok(0) => return Err(Failure::Gone(io::Error::from(ErrorKind::WriteZero).into())),
                Ok(written) => {
                    self.done += written;
                    self.settle(parcel);
                    patience.moved = true;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::BrokenPipe => {
                    return Err(Failure::Gone(error.into()));
                }
                Err(error) => return Err(Failure::later(error)),
            }
        }
        Ok(())
    }

    /// Lines that are written are delivered.
    fn settle(&mut self, parcel: &mut Parcel) {
        let whole = |rest: &[u8], done: usize| {
            memchr::memrchr(b'\n', &rest[..done.min(rest.len())]).map_or(0, |newline| newline + 1)
        };
        loop {
            let first = parcel.first();
            let length = whole(first, self.done);
            if length == 0 {
                return;
            }
            parcel.delivered(memchr::memchr_iter(b'\n', &first[..length]).count() as u64);
            self.done -= length;
        }
    }

    fn refuse(&mut self, parcel: &mut Parcel, length: usize) {
        parcel.give_up(1, Cause::TooLong);
        if !std::mem::replace(&mut self.refused, true) {
            log::warn!(
                "a line of {length} bytes is longer than its pipe may become (fs.pipe-max-size): \
                 refused (said once)"
            );
        }
    }
}

impl<W: Channel + Send> Output for Stream<W> {
    fn deliver(&mut self, parcel: &mut Parcel, deadline: Option<Instant>) -> Result<(), Failure> {
        self.write(parcel, &mut Patience::new(deadline))
    }
}

#[cfg(test)]
mod tests {
    use super::super::parcel::testing::parcel;
    use super::super::patience::Over;
    use super::*;
    use std::io::Write;

    /// Takes what it is told to, and remembers each write.
    struct Pipe {
        writes: Vec<Vec<u8>>,
        answers: Vec<io::Result<usize>>,
        /// Takes no more at once, ever.
        largest: usize,
    }

    impl Default for Pipe {
        fn default() -> Self {
            Self { writes: Vec::new(), answers: Vec::new(), largest: usize::MAX }
        }
    }

    impl Write for Pipe {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let n = self.answers.pop().unwrap_or(Ok(bytes.len()))?.min(bytes.len());
            self.writes.push(bytes[..n].to_vec());
            Ok(n)
        }
        fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
            self.write(&slices.iter().flat_map(|slice| slice.to_vec()).collect::<Vec<_>>())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Channel for Pipe {
        fn wait(&mut self, bytes: usize, _: &mut Patience) -> Result<Fits, Over> {
            Ok(if bytes > self.largest { Fits::Never } else { Fits::Enough })
        }
    }

    #[test]
    fn every_write_is_whole_lines_that_a_pipe_takes_at_once() {
        let lines: Vec<String> = (0..500).map(|i| format!("{}\n", "x".repeat(i % 97))).collect();
        let mut out = Stream::new(Pipe::default());
        out.deliver(&mut parcel(&lines), None).unwrap();
        assert!(out.out.writes.len() > 3);
        assert!(out.out.writes.iter().all(|w| w.len() <= WHOLE && w.ends_with(b"\n")));
        assert_eq!(out.out.writes.concat(), lines.concat().into_bytes());
    }

    #[test]
    fn small_batches_are_one_write_and_each_is_settled() {
        let mut batches = parcel(&["a\nb\n", "c\n", "d\ne\n"]);
        // The first write ends within the third batch's last line.
        let pipe = Pipe { answers: vec![Ok(usize::MAX), Ok(9)], ..Pipe::default() };
        let mut out = Stream::new(pipe);
        out.deliver(&mut batches, None).unwrap();
        assert_eq!(out.out.writes, [b"a\nb\nc\nd\ne".to_vec(), b"\n".to_vec()]);
        let delivered = batches.items().iter().map(|item| item.fate.delivered);
        assert_eq!(delivered.collect::<Vec<_>>(), [2, 1, 2]);
    }

    #[test]
    fn a_line_longer_than_a_pipe_takes_is_written_alone() {
        let lines = ["a\n".to_owned(), format!("{}\n", "x".repeat(9000)), "b\n".to_owned()];
        let mut out = Stream::new(Pipe::default());
        out.deliver(&mut parcel(&lines), None).unwrap();
        assert_eq!(out.out.writes.iter().map(Vec::len).collect::<Vec<_>>(), [2, 9001, 2]);
    }

    #[test]
    fn a_line_that_no_pipe_takes_is_refused_and_the_others_come() {
        let long = format!("{}\n", "x".repeat(9000));
        let text = format!("a\n{long}b\n{long}c\n");
        let mut parcel = parcel(&[&text, &long]);
        let mut out = Stream::new(Pipe { largest: 9000, ..Pipe::default() });
        out.deliver(&mut parcel, None).unwrap();
        assert_eq!(out.out.writes.concat(), b"a\nb\nc\n");
        let fates = parcel.items().iter().map(|item| item.fate);
        let fates: Vec<_> = fates.map(|f| (f.delivered, f.dropped[Cause::TooLong])).collect();
        assert_eq!(fates, [(3, 2), (0, 1)]);
    }

    #[test]
    fn after_an_error_the_rest_follows_and_nothing_is_repeated() {
        let mut batch = parcel(&["abc\ndef\n"]);
        let full = || Err(io::Error::from(ErrorKind::StorageFull));
        let pipe = Pipe { answers: vec![full(), full(), Ok(3)], ..Pipe::default() };
        let mut out = Stream::new(pipe);
        assert!(matches!(out.deliver(&mut batch, None), Err(Failure::Later { .. })));
        assert!(matches!(out.deliver(&mut batch, None), Err(Failure::Later { .. })));
        out.deliver(&mut batch, None).unwrap();
        assert!(batch.is_done());
        out.deliver(&mut parcel(&["abc\ndef\n"]), None).unwrap();
        assert_eq!(out.out.writes.concat(), b"abc\ndef\nabc\ndef\n");
    }

    #[test]
    fn a_reader_that_left_is_gone_for_good() {
        let pipe = Pipe { answers: vec![Err(ErrorKind::BrokenPipe.into())], ..Pipe::default() };
        let mut out = Stream::new(pipe);
        assert!(matches!(out.deliver(&mut parcel(&["a\n"]), None), Err(Failure::Gone(_))));
    }
}
