//! Lines into a stream: standard output, a named pipe, a terminal.

use super::{Failure, Output, Parcel};
use anyhow::Result;
use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsFd;
use std::time::Instant;

/// A pipe takes this much whole or not at all (PIPE_BUF), so a reader never sees part of a line, not
/// even when the collector is killed.
const WHOLE: usize = 4096;

/// A stream that takes bytes in order.
pub struct Stream<W> {
    out: W,
    /// Bytes of the batch at hand that are already written.
    done: usize,
}

impl Stream<File> {
    /// Standard output, by a descriptor of its own: past the standard library's line buffer.
    ///
    /// # Errors
    /// Standard output is closed.
    pub fn stdout() -> Result<Self> {
        Ok(Self::new(io::stdout().as_fd().try_clone_to_owned()?.into()))
    }
}

impl<W: Write> Stream<W> {
    /// Writes into it.
    pub fn new(out: W) -> Self {
        Self { out, done: 0 }
    }
}

impl<W: Write + Send> Output for Stream<W> {
    fn deliver(&mut self, parcel: &mut Parcel, _: Option<Instant>) -> Result<(), Failure> {
        while !parcel.is_done() {
            while self.done < parcel.first().len() {
                match self.out.write(whole_lines(&parcel.first()[self.done..])) {
                    Ok(0) => return Err(Failure::Gone(io::Error::from(ErrorKind::WriteZero).into())),
                    Ok(n) => self.done += n,
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    Err(error) if error.kind() == ErrorKind::BrokenPipe => {
                        return Err(Failure::Gone(error.into()));
                    }
                    Err(error) => return Err(Failure::later(error)),
                }
            }
            self.done = 0;
            parcel.delivered(parcel.lines_of_first());
        }
        Ok(())
    }
}

/// As many whole lines as a pipe takes at once; one that is longer alone.
fn whole_lines(bytes: &[u8]) -> &[u8] {
    if bytes.len() <= WHOLE {
        return bytes;
    }
    let end = bytes[..WHOLE].iter().rposition(|&byte| byte == b'\n');
    let end = end.or_else(|| bytes.iter().position(|&byte| byte == b'\n'));
    end.map_or(bytes, |newline| &bytes[..=newline])
}

#[cfg(test)]
mod tests {
    use super::super::parcel::testing::parcel;
    use super::*;

    /// Takes what it is told to, and remembers each write.
    #[derive(Default)]
    struct Pipe {
        writes: Vec<Vec<u8>>,
        answers: Vec<io::Result<usize>>,
    }

    impl Write for Pipe {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let n = self.answers.pop().unwrap_or(Ok(bytes.len()))?.min(bytes.len());
            self.writes.push(bytes[..n].to_vec());
            Ok(n)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
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
    fn a_line_longer_than_a_pipe_takes_is_written_alone() {
        let lines = ["a\n".to_owned(), format!("{}\n", "x".repeat(9000)), "b\n".to_owned()];
        let mut out = Stream::new(Pipe::default());
        out.deliver(&mut parcel(&lines), None).unwrap();
        assert_eq!(out.out.writes.iter().map(Vec::len).collect::<Vec<_>>(), [2, 9001, 2]);
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
