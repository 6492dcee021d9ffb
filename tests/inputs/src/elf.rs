//! A plugin's file, as it is looked at before the dynamic linker sees it.

use crate::{below, byte, some};
use arbitrary::Unstructured;
use collector::elf::{Library, check};
use std::time::{Duration, Instant};

/// A plugin.
const FILE: &[u8] = include_bytes!("../../../collector/tests/fixtures/libgood-1.0.0.x86_64.so");
/// Where its headers are, on which all depends: at the begin, and the sections' at the end.
const HEADERS: usize = 1024;
const SECTIONS: usize = 4096;
/// Of a file of half a MiB. A file that makes the look take longer would hold up the start.
const LONGEST: Duration = Duration::from_secs(2);

/// That plugin with some of its bytes replaced, perhaps cut; or any bytes.
fn file(bytes: &mut Unstructured<'_>) -> Vec<u8> {
    if byte(bytes) >= 240 {
        return some(bytes, 8192);
    }
    let mut file = FILE.to_vec();
    for _ in 0..below(bytes, 16) {
        let at = match byte(bytes) {
            ..96 => below(bytes, HEADERS),
            96..192 => file.len() - SECTIONS + below(bytes, SECTIONS),
            192.. => (below(bytes, 1 << 16) * file.len()) >> 16,
        };
        let new = some(bytes, 8);
        let end = file.len().min(at + new.len());
        file[at..end].copy_from_slice(&new[..end - at]);
    }
    if byte(bytes) >= 224 {
        file.truncate((below(bytes, 1 << 16) * file.len()) >> 16);
    }
    file
}

/// It is a library with what the file says (true), or there is a sentence that says what it is instead.
///
/// # Panics
/// Neither is so, or it takes for ever.
pub fn elf(bytes: &[u8]) -> bool {
    let file = file(&mut Unstructured::new(bytes));
    let began = Instant::now();
    let looked = check(&file);
    match &looked {
        Ok(Library { needed, .. }) => {
            assert!(needed.iter().map(String::len).sum::<usize>() <= file.len() * 64);
        }
        Err(why) => assert!(!why.is_empty()),
    }
    assert!(began.elapsed() < LONGEST, "{:?}", began.elapsed());
    looked.is_ok()
}
