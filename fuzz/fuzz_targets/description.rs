//! Any plugin's description: see [`inputs::description`].
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    inputs::description(bytes);
});
