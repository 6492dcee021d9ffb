//! Any answer of a server: see [`inputs::answer`].
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    inputs::answer(bytes);
});
