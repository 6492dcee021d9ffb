//! A request's body.

use flate2::Compression;
use flate2::write::GzEncoder;
use std::io::{self, Read, Write};

/// More than this is not kept between requests.
const KEPT: usize = 1 << 20;

/// Makes bodies, and keeps its buffer for the next.
#[derive(Debug, Default)]
pub struct Gzip {
    buffer: Vec<u8>,
}

impl Gzip {
    /// Compresses slices one after the other, fast rather than well.
    pub fn compress<'a>(&mut self, slices: impl Iterator<Item = &'a [u8]>) -> io::Result<&[u8]> {
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.clear();
        buffer.shrink_to(KEPT);
        let mut gzip = GzEncoder::new(buffer, Compression::fast());
        for slice in slices {
            gzip.write_all(slice)?;
        }
        self.buffer = gzip.finish()?;
        Ok(&self.buffer)
    }
}

/// Slices that are read one after the other.
#[derive(Debug)]
pub struct Slices<'a> {
    left: &'a [&'a [u8]],
    /// Bytes of the first that are read.
    read: usize,
}

impl<'a> Slices<'a> {
    /// From their begin.
    pub fn new(slices: &'a [&'a [u8]]) -> Self {
        Self { left: slices, read: 0 }
    }
}

impl Read for Slices<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while let Some(first) = self.left.first() {
            let part = &first[self.read..];
            let length = part.len().min(buffer.len() - filled);
            buffer[filled..filled + length].copy_from_slice(&part[..length]);
            filled += length;
            if length < part.len() {
                self.read += length;
                break;
            }
            (self.left, self.read) = (&self.left[1..], 0);
        }
        Ok(filled)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::read::GzDecoder;

    #[test]
    fn what_was_compressed_is_what_comes_out() {
        let mut gzip = Gzip::default();
        for rounds in [3, 1000, 0, 1] {
            let slices: Vec<Vec<u8>> =
                (0..rounds).map(|i| format!("a,b=c v={i}i {i}\n").into_bytes()).collect();
            let body = gzip.compress(slices.iter().map(Vec::as_slice)).unwrap();
            let mut text = Vec::new();
            GzDecoder::new(body).read_to_end(&mut text).unwrap();
            assert_eq!(text, slices.concat());
        }
    }

    #[test]
    fn slices_are_read_in_order_by_any_reader() {
        let slices: [&[u8]; 5] = [b"ab", b"", b"c", b"defg", b"h"];
        for step in 1..10 {
            let (mut reader, mut text) = (Slices::new(&slices), Vec::new());
            loop {
                let mut buffer = vec![0; step];
                let read = reader.read(&mut buffer).unwrap();
                if read == 0 {
                    break;
                }
                text.extend_from_slice(&buffer[..read]);
            }
            assert_eq!(text, b"abcdefgh");
        }
    }
}
