//! The archive that the kernel unpacks as its first root: cpio in the `newc` format.

use std::collections::BTreeSet;

/// An archive that grows in memory.
#[derive(Default)]
pub struct Archive {
    bytes: Vec<u8>,
    folders: BTreeSet<String>,
    inode: u32,
}

impl Archive {
    /// Adds a file at an absolute path, and the folders above it.
    pub fn file(&mut self, path: &str, mode: u32, content: &[u8]) {
        let path = path.trim_start_matches('/');
        if let Some((above, _)) = path.rsplit_once('/') {
            self.folder(above);
        }
        self.entry(path, 0o100_000 | mode, content);
    }

    /// Adds a folder and those above it, unless they are there.
    pub fn folder(&mut self, path: &str) {
        let path = path.trim_start_matches('/');
        if self.folders.insert(path.to_owned()) {
            if let Some((above, _)) = path.rsplit_once('/') {
                self.folder(above);
            }
            self.entry(path, 0o040_755, &[]);
        }
    }

    /// The whole archive.
    pub fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, &[]);
        self.bytes
    }

    /// A header of 13 hexadecimal numbers, the name, the content; both end on multiples of four.
    fn entry(&mut self, name: &str, mode: u32, content: &[u8]) {
        self.inode += 1;
        let size = u32::try_from(content.len()).expect("a file below 4 GiB");
        let name_size = u32::try_from(name.len() + 1).expect("a short name");
        let (links, owner, time, device, checksum) = (1, 0, 0, 0, 0);
        self.bytes.extend(b"070701");
        for number in [
            self.inode, mode, owner, owner, links, time, size, device, device, device, device,
            name_size, checksum,
        ] {
            self.bytes.extend(format!("{number:08x}").bytes());
        }
        self.bytes.extend(name.bytes().chain([0]));
        self.pad();
        self.bytes.extend(content);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads an archive by the rules of the format: (name, mode, content) of each entry.
    fn read(mut rest: &[u8]) -> Vec<(String, u32, Vec<u8>)> {
        let mut entries = Vec::new();
        loop {
            assert_eq!(&rest[..6], b"070701");
            let number = |index: usize| {
                let digits = &rest[6 + index * 8..14 + index * 8];
                u32::from_str_radix(std::str::from_utf8(digits).unwrap(), 16).unwrap()
            };
            let (mode, size, name_size) = (number(1), number(6) as usize, number(11) as usize);
            let name = String::from_utf8(rest[110..109 + name_size].to_vec()).unwrap();
            assert_eq!(rest[109 + name_size], 0);
            let start = (110 + name_size).next_multiple_of(4);
            let content = rest[start..start + size].to_vec();
            rest = &rest[(start + size).next_multiple_of(4)..];
            if name == "TRAILER!!!" {
                assert!(rest.is_empty());
                return entries;
            }
            entries.push((name, mode, content));
        }
    }

    #[test]
    fn an_archive_reads_back_with_folders_before_their_files() {
        let mut archive = Archive::default();
        archive.file("/init", 0o755, b"#!/bin/sh\n");
        archive.file("/opt/a/one", 0o644, b"");
        archive.file("/opt/a/three", 0o644, b"xyz");
        let entries = read(&archive.finish());
        let expected: [(&str, u32, &[u8]); 5] = [
            ("init", 0o100_755, b"#!/bin/sh\n"),
            ("opt", 0o040_755, b""),
            ("opt/a", 0o040_755, b""),
            ("opt/a/one", 0o100_644, b""),
            ("opt/a/three", 0o100_644, b"xyz"),
        ];
        let expected =
            expected.map(|(name, mode, content)| (name.to_owned(), mode, content.to_vec()));
        assert_eq!(entries, expected);
    }
}
