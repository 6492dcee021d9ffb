//! Lines that a server refuses, kept so that they can be looked at, corrected and sent again.
//!
//! The file is line protocol: the server's words are comments before the lines that they are about.

use super::DeadLetterConfig;
use super::refusals;
use crate::trust::{self, Folder};
use anyhow::{Context, Result};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

/// The log hears of refused lines no more often than this.
const SILENCE: Duration = Duration::from_secs(60);

/// What became of refused lines, for those who want to know.
pub struct DeadLetters {
    /// The output that they were meant for.
    name: String,
    file: Option<DeadLetterConfig>,
    /// Since when the log is told nothing, and of how many lines it was not told.
    silent: Option<Instant>,
    untold: u64,
}

impl DeadLetters {
    /// Keeps them in a file if one is configured, which is made here with mode 0600.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub fn new(name: String, file: Option<&DeadLetterConfig>) -> Result<Self> {
        if let Some(file) = file {
            open(&file.path)
                .with_context(|| format!("the dead-letter file {}", file.path.display()))?;
        }
        Ok(Self { name, file: file.cloned(), silent: None, untold: 0 })
    }

    /// Keeps lines that were given up, or among which so many were, and what the server says of them. That
    /// they are lost is counted elsewhere.
    pub fn keep(&mut self, words: &str, given_up: u64, lines: &[&[u8]]) {
        let mut words = refusals::shorten(words);
        let held = lines.iter().map(|slice| count(slice)).sum::<u64>();
        if given_up < held {
            words = format!("{given_up} of these {held} lines: {words}");
        }
        let kept = self.file.as_ref().map(|file| {
            let path = file.path.display();
            match self.write(file, &words, lines) {
                Ok(()) => format!("; {path} has them"),
                Err(error) => format!("; {path} cannot be written: {error}"),
            }
        });
        self.untold += given_up;
        if self.silent.is_none_or(|since| since.elapsed() >= SILENCE) {
            let first = lines.first().and_then(|slice| slice.split(|&byte| byte == b'\n').next());
            log::warn!(
                "output {}: lines given up: {}{}; the last for `{words}`, beginning with `{}`",
                self.name,
                std::mem::take(&mut self.untold),
                kept.unwrap_or_default(),
                refusals::shorten(&String::from_utf8_lossy(first.unwrap_or_default())),
            );
            self.silent = Some(Instant::now());
        }
    }

    fn write(&self, config: &DeadLetterConfig, words: &str, lines: &[&[u8]]) -> io::Result<()> {
        let now = humantime::format_rfc3339_seconds(SystemTime::now());
        let mut text = format!("# {now} {}: {words}\n", self.name).into_bytes();
        // Two files share the bound, so that there is always half of it to look back at.
        let most = config.bytes / 2;
        let fits = |text: &[u8], line: &[u8]| (text.len() + line.len()) as u64 <= most;
        let each = lines.iter().flat_map(|slice| slice.split_inclusive(|&byte| byte == b'\n'));
        for line in each {
            if !fits(&text, line) {
                break;
            }
            text.extend_from_slice(line);
        }
        if !fits(&text, b"") {
            return Err(io::Error::new(io::ErrorKind::StorageFull, "its bound is too small"));
        }
        let (mut file, folder, name) = open(&config.path)?;
        if file.metadata()?.len() + text.len() as u64 > most {
            folder.rename(&name, &older(&name))?;
            file = folder.write(&name, PRIVATE)?;
        }
        file.write_all(&text)
    }
}

fn count(slice: &[u8]) -> u64 {
    memchr::memchr_iter(b'\n', slice).count() as u64
}

/// For their owner only: lines may name people.
const PRIVATE: trust::Write = trust::Write::Append { mode: 0o600 };

/// Opened for each refusal, which are rare: so it does not matter when somebody moves the file away.
fn open(path: &Path) -> io::Result<(File, Folder, OsString)> {
    let (folder, name) = Folder::of_file(path)?;
    Ok((folder.write(&name, PRIVATE)?, folder, name))
}

/// What the file is called when it is full.
fn older(name: &OsStr) -> OsString {
    let mut name = name.to_owned();
    name.push(".1");
    name
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{CWD, FileType, Mode, mknodat};
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::path::PathBuf;

    fn letters(path: &Path, bytes: u64) -> DeadLetters {
        let config = DeadLetterConfig { path: path.to_owned(), bytes };
        DeadLetters::new("influxdb1://h:1/db".into(), Some(&config)).unwrap()
    }

    fn keep(letters: &mut DeadLetters, words: &str, lines: &[&str]) {
        let lines: Vec<&[u8]> = lines.iter().map(|line| line.as_bytes()).collect();
        letters.keep(words, lines.iter().map(|slice| count(slice)).sum(), &lines);
    }

    #[test]
    fn lines_are_kept_with_the_servers_words_for_their_owner_only() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("dead");
        let mut letters = letters(&path, 10_000);
        keep(&mut letters, "400 no\nway", &["a v=1 1\nb v=2 2\n", "c v=3 3\n"]);
        keep(&mut letters, "400 never", &["d v=4 4\n"]);
        let text = fs::read_to_string(&path).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 6, "{text}");
        assert!(
            lines[0].starts_with("# 20") && lines[0].ends_with("Z influxdb1://h:1/db: 400 no way")
        );
        assert_eq!(lines[1..4], ["a v=1 1", "b v=2 2", "c v=3 3"]);
        assert!(lines[4].ends_with("400 never"));
        assert_eq!(lines[5], "d v=4 4");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn when_some_of_the_lines_are_bad_it_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("dead");
        letters(&path, 10_000).keep("400 no", 2, &[b"a\nb\n", b"c\n"]);
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.ends_with(": 2 of these 3 lines: 400 no\na\nb\nc\n"), "{text}");
    }

    #[test]
    fn the_bound_holds_over_both_files_and_the_newest_are_there() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("dead");
        let mut letters = letters(&path, 1000);
        let older = PathBuf::from(older(path.as_os_str()));
        let size = |path: &Path| fs::metadata(path).map_or(0, |file| file.len());
        for i in 0..100 {
            keep(&mut letters, "400 no", &[&format!("a v={i}i {i}\n")]);
            assert!(size(&path) + size(&older) <= 1000);
        }
        assert!(fs::read_to_string(&path).unwrap().ends_with("a v=99i 99\n"));
        assert!(size(&older) > 400);
        // More than fits is cut between two lines.
        keep(&mut letters, "400 no", &["x v=1 1\n".repeat(500).as_str()]);
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.len() <= 500 && text.ends_with("\nx v=1 1\n"), "{text}");
    }

    #[test]
    fn a_named_pipe_is_an_error_whether_it_is_read_or_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("dead");
        mknodat(CWD, &path, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
        let config = DeadLetterConfig { path: path.clone(), bytes: 1000 };
        let error = || DeadLetters::new("x".into(), Some(&config)).err().unwrap();
        let words = "dead: a named pipe, not a regular file";
        assert!(format!("{:#}", error()).ends_with(words), "{:#}", error());
        let _reader = fs::OpenOptions::new().read(true).write(true).open(&path).unwrap();
        assert!(format!("{:#}", error()).ends_with(words), "{:#}", error());
    }

    #[test]
    fn what_cannot_be_written_is_no_reason_to_stop() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("gone/dead");
        fs::create_dir(path.parent().unwrap()).unwrap();
        let mut letters = letters(&path, 1000);
        fs::remove_dir_all(path.parent().unwrap()).unwrap();
        keep(&mut letters, "400 no", &["a v=1 1\n"]);
        let config = DeadLetterConfig { path, bytes: 1000 };
        let error = DeadLetters::new("x".into(), Some(&config)).err().unwrap();
        assert!(format!("{error:#}").contains("gone/dead"), "{error:#}");
    }
}
