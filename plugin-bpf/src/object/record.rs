//! Types that are the same bytes in BPF and in Rust.

/// A plain value that a BPF program and Rust read alike: a map's key or value, an event.
///
/// Integers, arrays of them, and the structs that the build script writes from a program's keys, values and
/// events, with padding written out as fields.
///
/// # Safety
/// Every pattern of bytes is a value of the type, and it has no padding.
pub unsafe trait Record: Copy + 'static {}

macro_rules! records {
    ($($type:ty),+) => {
        $(
            // SAFETY: an integer is all of its bytes, and any.
            unsafe impl Record for $type {}
        )+
    };
}
records!(u8, u16, u32, u64, i8, i16, i32, i64);

// SAFETY: an array of records has nothing between them.
unsafe impl<T: Record, const N: usize> Record for [T; N] {}

/// The bytes of a record.
pub fn bytes<T: Record>(record: &T) -> &[u8] {
    // SAFETY: a record has no padding, so all its bytes are initialised; the borrow keeps it alive.
    unsafe { std::slice::from_raw_parts(std::ptr::from_ref(record).cast(), size_of::<T>()) }
}

/// Reads a record out of bytes of any alignment.
///
/// # Panics
/// There are fewer bytes than the record has.
pub fn from_bytes<T: Record>(bytes: &[u8]) -> T {
    assert!(bytes.len() >= size_of::<T>(), "{} bytes for {}", bytes.len(), size_of::<T>());
    // SAFETY: the bytes are there, and every pattern of them is a record.
    unsafe { bytes.as_ptr().cast::<T>().read_unaligned() }
}

/// A record of zeros.
#[must_use]
pub fn zeroed<T: Record>() -> T {
    // SAFETY: every pattern of bytes is a record, zeros among them.
    unsafe { std::mem::zeroed() }
}

/// A name out of a kernel record (C's `char[]`): up to the first NUL, bytes that are not UTF-8 replaced.
#[must_use]
pub fn text(chars: &[i8]) -> String {
    let bytes: Vec<u8> = chars.iter().map(|c| *c as u8).take_while(|b| *b != 0).collect();
    String::from_utf8(bytes).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned())
}

#[cfg(test)]
mod tests {
    use super::text;

    #[test]
    fn a_name_ends_at_its_nul_and_is_always_text() {
        assert_eq!(text(&[98, 97, 115, 104, 0, 120]), "bash");
        assert_eq!(text(&[-1, 97]), "\u{fffd}a");
    }
}
