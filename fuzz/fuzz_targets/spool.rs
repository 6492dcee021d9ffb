//! Any bytes as a segment of a spool, with checksums that count as right: it is opened and read to its end,
//! and what was promised at the start is handed out or counted as lost.
#![no_main]

use collector::output::Limits;
use collector::output::spool::{End, Lost, Spool, SpoolConfig, Waiting};
use libfuzzer_sys::fuzz_target;
use std::fs;
use std::time::Duration;

/// What records start with, which would take long to guess.
const MAGIC: &[u8] = b"\xf5SP1";

fuzz_target!(|pieces: Vec<Vec<u8>>| {
    let bytes: Vec<u8> = pieces.iter().flat_map(|piece| [MAGIC, piece].concat()).collect();
    let dir = tempfile::tempdir_in("/dev/shm").unwrap();
    let age = Duration::from_secs(3600);
    let config = SpoolConfig { dir: dir.path().to_owned(), bytes: 1 << 20, age };
    fs::create_dir(dir.path().join("out")).unwrap();
    fs::write(dir.path().join("out/0.spool"), &bytes).unwrap();

    let (mut spool, recovered) = Spool::open(&config, "out").unwrap();
    let promised: u64 = recovered.iter().map(|stretch| stretch.lines).sum();
    assert_eq!(spool.waiting().lines, promised);
    let limits = Limits { lines: 3, bytes: 100, wait: Duration::ZERO };
    let (mut given, mut lost) = (0, Lost::new());
    loop {
        let taken = spool.take(End::Oldest, &limits, 0, &mut lost);
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
