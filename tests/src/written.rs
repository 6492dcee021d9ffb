//! What a collector writes into a file, looked at while it does. Each line is read once: reading all of them again and
//! again is much in an emulator.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::path::PathBuf;

/// A file of lines that grows, and may not be there yet.
#[derive(Debug)]
pub struct Written {
    path: PathBuf,
    file: Option<File>,
    /// The last line, as far as it is written.
    rest: Vec<u8>,
    counts: BTreeMap<Vec<u8>, usize>,
}

impl Written {
    /// The file at a path.
    #[must_use]
    pub fn at(path: PathBuf) -> Self {
        Self { path, file: None, rest: Vec::new(), counts: BTreeMap::new() }
    }

    /// How many whole lines of a table are in it.
    ///
    /// # Panics
    /// The file cannot be read.
    pub fn count(&mut self, table: &str) -> usize {
        self.read();
        self.counts.get(table.as_bytes()).copied().unwrap_or(0)
    }

    fn read(&mut self) {
        if self.file.is_none() {
            self.file = File::open(&self.path).ok();
        }
        let Some(file) = &mut self.file else { return };
        file.read_to_end(&mut self.rest).expect("a file that can be read");
        let whole = self.rest.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        for line in self.rest[..whole].split(|byte| *byte == b'\n') {
            let end = line.iter().position(|byte| matches!(byte, b',' | b' '));
            if let Some(end) = end {
                *self.counts.entry(line[..end].to_vec()).or_default() += 1;
            }
        }
        self.rest.drain(..whole);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    #[test]
    fn each_whole_line_is_counted_once_under_its_table() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lines");
        let mut written = Written::at(path.clone());
        assert_eq!(written.count("a"), 0);
        let mut file = File::create(path).unwrap();
        file.write_all(b"a,k=v n=1i 1\na_lost n=1i 1\na,k=w n=2").unwrap();
        assert_eq!((written.count("a"), written.count("a_lost")), (1, 1));
        file.write_all(b"i 1\n\na,k=x n=3i 2\n").unwrap();
        assert_eq!((written.count("a"), written.count("a_lost"), written.count("")), (3, 1, 0));
    }
}
