//! Whole lines, packed for one call of `send`.

/// Lines in order, as slices of whole lines; the first may begin within a line.
pub struct LinePacker<'a, I> {
    slices: I,
    rest: &'a [u8],
}

/// What could be packed.
#[derive(Debug, PartialEq, Eq)]
pub enum PackedLines {
    /// As many whole lines as fit, at least one.
    Lines,
    /// The next line alone, of so many bytes: it does not fit.
    TooLong(usize),
    /// Nothing is left.
    End,
}

impl<'a, I: Iterator<Item = &'a [u8]>> LinePacker<'a, I> {
    /// Packs what follows the first `skip` bytes of the slices.
    pub fn new(mut slices: I, mut skip: usize) -> Self {
        let mut rest: &[u8] = &[];
        for slice in slices.by_ref() {
            if skip < slice.len() {
                rest = &slice[skip..];
                break;
            }
            skip -= slice.len();
        }
        Self { slices, rest }
    }

    /// Fills the buffer with the next whole lines, up to so many bytes. A line that is longer is put
    /// there alone.
    pub fn next(&mut self, most: usize, buffer: &mut Vec<u8>) -> PackedLines {
        buffer.clear();
        loop {
            if self.rest.is_empty() {
                match self.slices.next() {
                    Some(slice) => self.rest = slice,
                    None if buffer.is_empty() => return PackedLines::End,
                    None => return PackedLines::Lines,
                }
            }
            let room = most - buffer.len();
            if self.rest.len() <= room {
                buffer.extend_from_slice(std::mem::take(&mut self.rest));
                continue;
            }
            if let Some(newline) = memchr::memrchr(b'\n', &self.rest[..room]) {
                self.put(newline + 1, buffer);
            } else if buffer.is_empty() {
                let length = memchr::memchr(b'\n', self.rest).map_or(self.rest.len(), |n| n + 1);
                self.put(length, buffer);
                return PackedLines::TooLong(length);
            }
            return PackedLines::Lines;
        }
    }

    fn put(&mut self, length: usize, buffer: &mut Vec<u8>) {
        let (now, later) = self.rest.split_at(length);
        buffer.extend_from_slice(now);
        self.rest = later;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every pack of some slices, and what is said of it.
    fn packs(slices: &[&str], skip: usize, most: usize) -> Vec<(PackedLines, String)> {
        let mut packer = LinePacker::new(slices.iter().map(|slice| slice.as_bytes()), skip);
        let mut buffer = Vec::new();
        let mut packs = Vec::new();
        loop {
            let packed = packer.next(most, &mut buffer);
            let text = String::from_utf8(buffer.clone()).unwrap();
            if packed == PackedLines::End {
                assert_eq!(text, "");
                return packs;
            }
            packs.push((packed, text));
        }
    }

    fn lines(texts: &[&str]) -> Vec<(PackedLines, String)> {
        texts.iter().map(|text| (PackedLines::Lines, (*text).to_owned())).collect()
    }

    #[test]
    fn a_pack_holds_as_many_whole_lines_as_fit_across_slices() {
        let slices = ["a\nbb\n", "ccc\n", "d\n"];
        assert_eq!(packs(&slices, 0, 100), lines(&["a\nbb\nccc\nd\n"]));
        assert_eq!(packs(&slices, 0, 9), lines(&["a\nbb\nccc\n", "d\n"]));
        assert_eq!(packs(&slices, 0, 8), lines(&["a\nbb\n", "ccc\nd\n"]));
        assert_eq!(packs(&slices, 0, 4), lines(&["a\n", "bb\n", "ccc\n", "d\n"]));
        assert_eq!(packs(&[], 0, 4), []);
    }

    #[test]
    fn what_was_sent_is_skipped_to_the_byte() {
        let slices = ["a\nbb\n", "ccc\n"];
        assert_eq!(packs(&slices, 3, 100), lines(&["b\nccc\n"]));
        assert_eq!(packs(&slices, 5, 100), lines(&["ccc\n"]));
        assert_eq!(packs(&slices, 9, 100), []);
    }

    #[test]
    fn a_line_that_does_not_fit_stands_alone_and_the_next_ones_follow() {
        let expected = [
            (PackedLines::Lines, "a\n".to_owned()),
            (PackedLines::TooLong(6), "bbbbb\n".to_owned()),
            (PackedLines::Lines, "c\nd\n".to_owned()),
        ];
        assert_eq!(packs(&["a\nbbbbb\nc\n", "d\n"], 0, 5), expected);
    }
}
