//! Any lines of a C plugin: see [`inputs::c_lines`].
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    inputs::c_lines(bytes);
});
