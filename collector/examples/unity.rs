//! What a plugin for unity looks like to the loader: three C symbols, no header. For the collector's tests.
use std::ffi::{c_int, c_void};

// SAFETY: the library's only item of that name, as unity wants it.
#[unsafe(no_mangle)]
extern "C" fn init(_: *mut c_void) -> c_int {
    0
}

// SAFETY: the library's only item of that name, as unity wants it.
#[unsafe(no_mangle)]
extern "C" fn call(_: c_int, _: *mut c_void) -> c_int {
    0
}

// SAFETY: the library's only item of that name, as unity wants it.
#[unsafe(no_mangle)]
extern "C" fn deinit() {}
