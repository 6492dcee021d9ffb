//! What the collector reads and did not write: a configuration, a plugin's description, a plugin's file, the lines of a C
//! plugin, a server's answer. Each function makes one of them out of any bytes and lets the collector read it; it panics when the collector
//! does not keep what it promises about it.
//!
//! The property test (`collector/tests/inputs.rs`) and the fuzz targets of the same names share them. No bytes at all mean
//! the simplest input, so that a fuzzer may cut and a property test may shrink.

mod answer;
mod c_lines;
mod config;
mod description;
mod elf;

pub use answer::answer;
pub use c_lines::c_lines;
pub use config::config;
pub use description::description;
pub use elf::elf;

use arbitrary::Unstructured;

/// The next byte; 0 behind the end.
fn byte(bytes: &mut Unstructured<'_>) -> u8 {
    bytes.arbitrary().unwrap_or(0)
}

/// The next number below a bound, which is not 0.
fn below(bytes: &mut Unstructured<'_>, bound: usize) -> usize {
    usize::from(bytes.arbitrary::<u16>().unwrap_or(0)) % bound
}

/// Up to so many bytes, of which the first few bits choose how many.
fn some(bytes: &mut Unstructured<'_>, most: usize) -> Vec<u8> {
    let count = below(bytes, most + 1).min(bytes.len());
    bytes.bytes(count).unwrap_or_default().to_vec()
}
