//! As much of protobuf's wire format as is needed to write a message and to look into a short one.
//!
//! A field is a key (its number and how it is written) and a value; a message within a message has its length
//! before it. See <https://protobuf.dev/programming-guides/encoding>.

/// Appends a number of seven bits a byte.
pub fn varint(mut n: u64, out: &mut Vec<u8>) {
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

/// How many bytes that takes.
pub fn varint_length(n: u64) -> usize {
    (64 - (n | 1).leading_zeros() as usize).div_ceil(7)
}

/// A signed number as an unsigned one: small ones stay small.
pub fn zigzag(n: i64) -> u64 {
    ((n << 1) ^ (n >> 63)) as u64
}

fn key(field: u32, kind: u32, out: &mut Vec<u8>) {
    varint(u64::from(field << 3 | kind), out);
}

/// Appends a field that is an unsigned number; 0 is what is not there.
pub fn number(field: u32, n: u64, out: &mut Vec<u8>) {
    if n != 0 {
        key(field, 0, out);
        varint(n, out);
    }
}

/// Appends a field of 64 bits, also when they are 0.
pub fn fixed(field: u32, bits: u64, out: &mut Vec<u8>) {
    key(field, 1, out);
    out.extend_from_slice(&bits.to_le_bytes());
}

/// Appends a field that is a float, also when it is 0.
pub fn float(field: u32, value: f64, out: &mut Vec<u8>) {
    fixed(field, value.to_bits(), out);
}

/// Appends the begin of a field of so many bytes, which follow: a text, a message, a list of numbers.
pub fn begin(field: u32, length: usize, out: &mut Vec<u8>) {
    key(field, 2, out);
    varint(length as u64, out);
}

/// Appends a field that is a text, a message or a list of numbers.
pub fn bytes(field: u32, bytes: &[u8], out: &mut Vec<u8>) {
    begin(field, bytes.len(), out);
    out.extend_from_slice(bytes);
}

/// A field of a message that came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field<'a> {
    /// A number, or 32 or 64 bits.
    Number(u64),
    /// A text or a message.
    Bytes(&'a [u8]),
}

/// The last of a message's fields with a number; none when it is not there, or this is no message.
pub fn find(mut message: &[u8], wanted: u64) -> Option<Field<'_>> {
    let mut found = None;
    while !message.is_empty() {
        let key = read_varint(&mut message)?;
        let field = match key & 7 {
            0 => Field::Number(read_varint(&mut message)?),
            1 => Field::Number(u64::from_le_bytes(*message.split_off(..8)?.first_chunk()?)),
            2 => {
                let length = usize::try_from(read_varint(&mut message)?).ok()?;
                Field::Bytes(message.split_off(..length)?)
            }
            5 => {
                let bits = u32::from_le_bytes(*message.split_off(..4)?.first_chunk()?);
                Field::Number(bits.into())
            }
            _ => return None,
        };
        if key >> 3 == wanted {
            found = Some(field);
        }
    }
    found
}

fn read_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut n = 0;
    for shift in (0..64).step_by(7) {
        let byte = *bytes.split_off_first()?;
        n |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(n);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_as_the_encoding_guide_has_them() {
        for (n, bytes) in
            [(0, &[0][..]), (1, &[1]), (127, &[127]), (150, &[0x96, 1]), (u64::MAX, &[0xff; 10])]
        {
            let mut out = Vec::new();
            varint(n, &mut out);
            assert_eq!(varint_length(n), out.len(), "{n}");
            let expected =
                if n == u64::MAX { [&[0xff; 9][..], &[1]].concat() } else { bytes.to_vec() };
            assert_eq!(out, expected, "{n}");
            assert_eq!(read_varint(&mut &*out), Some(n));
        }
        assert_eq!([0, -1, 1, -2, i64::MAX].map(zigzag), [0, 1, 2, 3, u64::MAX - 1]);
    }

    #[test]
    fn a_field_is_found_among_others_and_what_is_no_message_has_none() {
        let mut message = Vec::new();
        number(1, 5, &mut message);
        bytes(2, b"text", &mut message);
        float(3, 0.5, &mut message);
        number(4, 0, &mut message);
        number(1, 6, &mut message);
        assert_eq!(find(&message, 1), Some(Field::Number(6)), "the last one counts");
        assert_eq!(find(&message, 2), Some(Field::Bytes(b"text")));
        assert_eq!(find(&message, 3), Some(Field::Number(0.5f64.to_bits())));
        assert_eq!((find(&message, 4), find(b"", 1)), (None, None));
        for wrong in [&b"<html>"[..], &[0x12, 0x7f, 1], &[0x80], &[0x0b], &[0xff; 20]] {
            assert_eq!(find(wrong, 1), None, "{wrong:?}");
        }
    }
}
