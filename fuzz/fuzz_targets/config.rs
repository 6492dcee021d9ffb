//! Any configuration: see [`inputs::config`].
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    inputs::config(bytes);
});
