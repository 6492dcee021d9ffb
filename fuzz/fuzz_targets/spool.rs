//! Any records and any bytes as a segment of a spool, with checksums that count as right: it is opened and
//! read to its end, and what was promised at the start is handed out or counted as lost.
#![no_main]

use collector::output::Portion;
use collector::output::spool::{Lost, Side, Spool, SpoolConfig, Waiting};
use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use std::fs;
use std::time::Duration;

#[derive(Arbitrary, Debug)]
enum Piece {
    Record(Record),
    Bytes(Vec<u8>),
    /// The start of a record, and what the next pieces make of it.
    Magic,
}

/// A record that may lie about its lines.
#[derive(Arbitrary, Debug)]
struct Record {
    done: bool,
    /// Other than the right one.
    length: Option<u64>,
    lines: Lines,
    time_ns: i64,
    elapsed_ns: u64,
    plugin: Vec<u8>,
    body: Vec<u8>,
}

#[derive(Arbitrary, Debug)]
enum Lines {
    Few(u8),
    Any(u64),
}

const MAGIC: &[u8] = b"\xf5SP1";

impl Piece {
    fn bytes(&self) -> Vec<u8> {
        let record = match self {
            Self::Record(record) => record,
            Self::Bytes(bytes) => return bytes.clone(),
            Self::Magic => return MAGIC.to_vec(),
        };
        let length = record.length.unwrap_or(record.body.len() as u64);
        let lines = match record.lines {
            Lines::Few(lines) => lines.into(),
            Lines::Any(lines) => lines,
        };
        let plugin = &record.plugin[..record.plugin.len().min(255)];
        let state = if record.done { b'd' } else { b'w' };
        let mut bytes = [MAGIC, &[state], &[0; 8]].concat();
        for number in [length, lines, 0, record.time_ns as u64, record.elapsed_ns] {
            bytes.extend(number.to_le_bytes());
        }
        bytes.push(plugin.len() as u8);
        bytes.extend(plugin);
        bytes.extend(&record.body);
        bytes
    }
}

fuzz_target!(|pieces: Vec<Piece>| {
    let bytes: Vec<u8> = pieces.iter().flat_map(Piece::bytes).collect();
    let dir = tempfile::tempdir_in("/dev/shm").unwrap();
    let age = Duration::from_secs(3600);
    let config = SpoolConfig { dir: dir.path().to_owned(), bytes: 1 << 20, age };
    fs::create_dir(dir.path().join("out")).unwrap();
    fs::write(dir.path().join("out/0.spool"), &bytes).unwrap();

    let (mut spool, recovered) = Spool::open(&config, "out").unwrap();
    let promised: u64 = recovered.iter().map(|stretch| stretch.lines).sum();
    assert_eq!(spool.waiting().lines, promised);
    let limits = Portion { lines: 3, bytes: 100, wait: Duration::ZERO };
    let (mut given, mut lost) = (0, Lost::new());
    loop {
        let taken = spool.take(Side::Oldest, &limits, 0, &mut lost);
        for (batch, place) in &taken {
            assert!(batch.lines >= 1 && batch.lines <= batch.bytes.len() as u64);
            assert!(batch.bytes.len() <= bytes.len());
            given += batch.lines;
            spool.done(*place);
        }
        if taken.is_empty() {
            break;
        }
    }
    assert_eq!(spool.waiting(), Waiting::default());
    assert_eq!(promised, given + lost.iter().map(|(stretch, _)| stretch.lines).sum::<u64>());
    drop(spool);
    assert_eq!(Spool::open(&config, "out").unwrap().1, []);
});
