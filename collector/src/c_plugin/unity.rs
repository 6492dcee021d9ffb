//! The types that cross between the host and a C plugin, laid out as unity's header lays them out.
//!
//! `plugin-api/include/unity.h` is the C side of this file; both assert the same sizes and offsets when they are compiled.

use std::borrow::Cow;
use std::ffi::{c_char, c_int, c_void};
use std::ops::Range;

/// The most lines of one hand-over.
pub const MOST_LINES: usize = 2048;
/// Indexes of a line.
pub const INDEXES: usize = 4;
/// Values of a line.
pub const VALUES: usize = 32;

/// Logs of a line.
pub const LOGS: usize = 1;

/// A name, or the text of an index: up to 15 bytes and a NUL, if the author kept to it.
pub type Name = [u8; 16];
/// A table's name: up to 31 bytes and a NUL.
pub type Table = [u8; 32];

/// `struct unity_index`: a tag.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Index {
    pub name: Name,
    pub index: Name,
}

/// `struct unity_value`: a field.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Value {
    pub name: Name,
    pub value: f64,
}

/// `struct unity_log`: a field of text.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Log {
    pub name: Name,
    pub log: *mut c_char,
}

/// `struct unity_line`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Line {
    pub table: Table,
    pub indexs: [Index; INDEXES],
    pub values: [Value; VALUES],
    pub logs: [Log; LOGS],
}

/// `struct unity_lines`.
#[repr(C)]
pub struct Lines {
    pub num: c_int,
    pub line: *mut Line,
}

const _: () = {
    use std::mem::offset_of;
    assert!(size_of::<Index>() == 32 && offset_of!(Index, index) == 16);
    assert!(size_of::<Value>() == 24 && offset_of!(Value, value) == 16);
    assert!(size_of::<Log>() == 24 && offset_of!(Log, log) == 16);
    assert!(size_of::<Lines>() == 16 && offset_of!(Lines, line) == 8);
    assert!(size_of::<Line>() == 952 && align_of::<Line>() == 8);
    assert!(offset_of!(Line, indexs) == 32);
    assert!(offset_of!(Line, values) == 160);
    assert!(offset_of!(Line, logs) == 928);
};

/// `int init(void *arg)`
pub type Init = unsafe extern "C" fn(*mut c_void) -> c_int;
/// `int call(int t, struct unity_lines *lines)`
pub type Call = unsafe extern "C" fn(c_int, *mut Lines) -> c_int;
/// `void deinit(void)`, or `int deinit(void *)`: called with an argument that the first does not look at, and without
/// looking at the answer that only the second gives. Both are the same call in the C ABIs of Linux.
pub type Deinit = unsafe extern "C" fn(*mut c_void);

/// The functions of a C plugin, and where its file lies in memory.
#[derive(Clone, Copy)]
pub struct CLibrary {
    pub(super) init: Init,
    pub(super) call: Call,
    pub(super) deinit: Deinit,
    image: (usize, usize),
}

impl CLibrary {
    /// Of addresses.
    ///
    /// # Safety
    /// They are those of functions of these types, in a library that is never closed.
    #[must_use]
    pub unsafe fn new(
        init: *mut c_void,
        call: *mut c_void,
        deinit: *mut c_void,
        image: Range<usize>,
    ) -> Self {
        // SAFETY: the caller's promise.
        unsafe {
            Self {
                init: std::mem::transmute::<*mut c_void, Init>(init),
                call: std::mem::transmute::<*mut c_void, Call>(call),
                deinit: std::mem::transmute::<*mut c_void, Deinit>(deinit),
                image: (image.start, image.end),
            }
        }
    }

    /// Where the library's code, constants and variables lie.
    pub(super) fn image(&self) -> Range<usize> {
        self.image.0..self.image.1
    }
}

/// The bytes before the first NUL; all of them when there is none.
pub fn text(bytes: &[u8]) -> &[u8] {
    &bytes[..memchr::memchr(0, bytes).unwrap_or(bytes.len())]
}

/// Bytes as a text; what is not UTF-8 becomes U+FFFD.
pub fn utf8(bytes: &[u8]) -> Cow<'_, str> {
    match str::from_utf8(bytes) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => String::from_utf8_lossy(bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_ends_at_its_nul_or_with_the_array() {
        assert_eq!(text(b"ab\0cd"), b"ab");
        assert_eq!(text(b"\0ab"), b"");
        assert_eq!(text(b"0123456789abcdef"), b"0123456789abcdef");
    }
}
