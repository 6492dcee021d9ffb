//! How names and values look on the wire: the part of line protocol that hostile bytes attack.
//!
//! InfluxDB, VictoriaMetrics and the `influxdb-line-protocol` crate disagree about backslashes and
//! control characters, so only what all of them read alike is written:
//!
//! - A backslash in a name or tag is raw where a plain character follows. Before a character that is
//!   itself escaped, before another backslash and at the end some readers see one backslash and others
//!   two, or an escaped delimiter; there it becomes `_`. So it does before a quote in a measurement's name:
//!   InfluxDB 1 takes that backslash away (its `escape.Codes` have the quote, which is for text fields).
//! - A control character (below 0x20, and 0x7f) would split the line or is refused by some; in a name
//!   or tag it becomes `_`.
//! - `#!~#` is what InfluxDB 1 and 2 put between tags and field inside their files (`keyFieldSeparator` in
//!   tsdb/engine/tsm1): a name or tag with it, or with `#!~` where their own may follow, is stored, and lost
//!   when the server starts again. The first `#` of either becomes `_`.
//! - A text field keeps its backslashes and quotes, as all readers undo `\\` and `\"`. Newline, carriage
//!   return and tab read back as a backslash and `n`, `r` or `t`; other control characters as `_`.
//!
//! The crate's parser, InfluxDB and the labels of VictoriaMetrics have exactly that; of values VictoriaMetrics
//! keeps 12 digits, milliseconds, and no texts (tests/tests/system_lines.rs says it in full).
//!
//! [`tag_text`], [`normal_name`] and [`normal_text`] say the same as functions: what a value reads back as.

use plugin_api::text::tag_text;
use std::borrow::Cow;
use std::str::Utf8Error;

/// Where a name or value stands decides what is special in it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Measurement,
    /// A tag's key or value.
    Tag,
    /// VictoriaMetrics counts quotes in the whole field set, so keys must have none.
    FieldKey,
}

const fn is_control(byte: u8) -> bool {
    byte < 0x20 || byte == 0x7f
}

const fn table(special: &[u8]) -> [bool; 256] {
    let mut plain = [true; 256];
    let mut i = 0;
    while i < 256 {
        plain[i] = i < 0x80 && !is_control(i as u8);
        i += 1;
    }
    i = 0;
    while i < special.len() {
        plain[special[i] as usize] = false;
        i += 1;
    }
    plain
}

/// Bytes that go into a tag as they are, whatever stands around them.
static PLAIN_TAG: [bool; 256] = table(br", =\#");
/// Bytes that go into a text field as they are.
static PLAIN_TEXT: [bool; 256] = table(br#""\"#);

fn all_plain(bytes: &[u8], plain: &[bool; 256]) -> bool {
    // Without an early exit: values are short, and nearly all of them are plain.
    bytes.iter().fold(true, |all, &byte| all & plain[usize::from(byte)])
}

/// Appends a tag's value; it must not be empty.
///
/// # Errors
/// It is no UTF-8. Nothing in Rust's `RStr` and `str` is that, but a plugin may be broken.
#[inline]
pub(crate) fn tag_value(out: &mut Vec<u8>, value: &[u8]) -> Result<(), Utf8Error> {
    if all_plain(value, &PLAIN_TAG) {
        out.extend_from_slice(value);
    } else {
        name(out, &normal_name(str::from_utf8(value)?, Place::Tag), Place::Tag);
    }
    Ok(())
}

/// Appends a name that went through [`normal_name`].
pub(crate) fn name(out: &mut Vec<u8>, normal: &str, place: Place) {
    for &byte in normal.as_bytes() {
        let escape = match byte {
            b',' | b' ' => true,
            b'=' => place != Place::Measurement,
            _ => false,
        };
        if escape {
            out.push(b'\\');
        }
        out.push(byte);
    }
}

/// Appends a text field's value with its quotes.
///
/// # Errors
/// As [`tag_value`].
#[inline]
pub(crate) fn text(out: &mut Vec<u8>, value: &[u8]) -> Result<(), Utf8Error> {
    out.push(b'"');
    if all_plain(value, &PLAIN_TEXT) {
        out.extend_from_slice(value);
    } else {
        for &byte in normal_text(str::from_utf8(value)?).as_bytes() {
            if matches!(byte, b'"' | b'\\') {
                out.push(b'\\');
            }
            out.push(byte);
        }
    }
    out.push(b'"');
    Ok(())
}

/// What a name or tag value reads back as.
pub(crate) fn normal_name(value: &str, place: Place) -> Cow<'_, str> {
    let normal = tag_text(value);
    match place {
        Place::Measurement if normal.contains(r#"\""#) => normal.replace(r#"\""#, r#"_""#).into(),
        Place::FieldKey if normal.contains('"') => normal.replace('"', "_").into(),
        _ => normal,
    }
}

/// What a text field reads back as.
pub(crate) fn normal_text(value: &str) -> Cow<'_, str> {
    if all_plain(value.as_bytes(), &PLAIN_TEXT) {
        return Cow::Borrowed(value);
    }
    let mut normal = String::with_capacity(value.len() + 8);
    for c in value.chars() {
        match c {
            '\n' => normal.push_str("\\n"),
            '\r' => normal.push_str("\\r"),
            '\t' => normal.push_str("\\t"),
            c if c.is_ascii_control() => normal.push('_'),
            c => normal.push(c),
        }
    }
    Cow::Owned(normal)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_tag_value_keeps_what_every_reader_understands() {
        for (value, wire) in [
            ("plain", "plain"),
            ("ü€", "ü€"),
            ("a b,c=d", r"a\ b\,c\=d"),
            (r"C:\temp", r"C:\temp"),
            (r"end\", "end_"),
            (r"a\\b", r"a_\b"),
            (r"a\,b", r"a_\,b"),
            (r"a\ b", r"a_\ b"),
            (r"\", "_"),
            ("a\nb\tc\0d\x7f", "a_b_c_d_"),
            ("\\\nb", r"\_b"),
            (r#"say "hi""#, r#"say\ "hi""#),
            ("#!~#!~#", "_!~_!~#"),
            ("a#!~", "a_!~"),
            ("#1 a#!~b", r"#1\ a#!~b"),
        ] {
            assert_eq!(written(|out| tag_value(out, value.as_bytes()).unwrap()), wire, "{value:?}");
        }
    }

    #[test]
    fn names_are_escaped_for_their_place() {
        for (place, wire) in [
            (Place::Measurement, r#"a\ b\,c=d"e"#),
            (Place::Tag, r#"a\ b\,c\=d"e"#),
            (Place::FieldKey, r"a\ b\,c\=d_e"),
        ] {
            let normal = normal_name(r#"a b,c=d"e"#, place);
            assert_eq!(written(|out| name(out, &normal, place)), wire);
        }
        assert_eq!(normal_name(r#"\"a\"#, Place::Measurement), r#"_"a_"#);
        assert_eq!(normal_name(r#"\"a\"#, Place::Tag), r#"\"a_"#);
    }

    #[test]
    fn a_text_stays_on_its_line() {
        for (value, wire) in [
            ("plain, with = and spaces", r#""plain, with = and spaces""#),
            ("", r#""""#),
            (r#"say "hi""#, r#""say \"hi\"""#),
            (r"C:\temp\", r#""C:\\temp\\""#),
            ("two\nlines\r\n", r#""two\\nlines\\r\\n""#),
            ("a\tb\0c\x7f", r#""a\\tb_c_""#),
        ] {
            assert_eq!(written(|out| text(out, value.as_bytes()).unwrap()), wire, "{value:?}");
        }
    }
}
