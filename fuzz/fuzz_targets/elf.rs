//! Any plugin's file: see [`inputs::elf`].
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    inputs::elf(bytes);
});
