//! Texts that hurt.

use arbitrary::{Result, Unstructured};

/// What a byte below 0x20 stands for: what separates, ends, hides or joins somewhere.
const PIECES: [&str; 31] = [
    "\n",
    "\r",
    "\t",
    "\0",
    "\x1b",
    "\x7f",
    "#!~",
    "\\",
    "\\\\",
    "\\n",
    "\"",
    "\\\"",
    "\u{85}",
    "\u{a0}",
    "\u{2028}",
    "\u{feff}",
    "é",
    "e\u{301}",
    "🦀",
    "#",
    "#!~#",
    "time",
    "_field",
    "_measurement",
    "__name__",
    "interval_ns",
    "host",
    "true",
    "1i",
    "NaN",
    " 1\nx y=1 2\n",
];

/// What a byte of 0xa0 and more stands for: the characters of line protocol itself.
const DELIMITERS: [char; 8] = ['\\', ',', '=', ' ', '"', '_', 'a', '0'];

/// Lengths in bytes at which something ends: labels and items of `VictoriaMetrics`, keys of `InfluxDB`,
/// a text, the integers that hold a length.
const LENGTHS: [usize; 16] = [
    128, 255, 256, 257, 1024, 2000, 4083, 4084, 4095, 4096, 4097, 31_744, 32_768, 65_535, 65_536,
    65_537,
];

/// A text from bytes: printable ones stand for themselves, so that a fuzzer's dictionary works.
pub(crate) fn text(u: &mut Unstructured<'_>) -> Result<String> {
    let mut text = String::new();
    loop {
        match u.arbitrary::<u8>()? {
            0 | 0x80..=0x9f => return Ok(text),
            byte @ 1..=0x1f => text += PIECES[usize::from(byte) - 1],
            byte @ 0x20..=0x7e => text.push(char::from(byte)),
            0x7f => match u.arbitrary::<u8>()? {
                byte @ 0..=0xef => text.push(u.arbitrary().unwrap_or(char::from(byte))),
                byte => fill(&mut text, LENGTHS[usize::from(byte & 15)]),
            },
            byte => text.push(DELIMITERS[usize::from(byte & 7)]),
        }
    }
}

/// Repeats the last character until a text is `length` bytes long, or a little longer.
fn fill(text: &mut String, length: usize) {
    let last = text.chars().last().unwrap_or('x');
    while text.len() < length {
        text.push(last);
    }
}

/// A name: sometimes empty, sometimes one of `before`, sometimes the same but for a character that the
/// encoder replaces.
pub(crate) fn name(u: &mut Unstructured<'_>, before: &[String]) -> Result<String> {
    let how = u.arbitrary::<u8>()?;
    if how >= 0xf8 && !before.is_empty() {
        return Ok(u.choose(before)?.clone());
    }
    let name = text(u)?;
    Ok(match how {
        0xe8..=0xef => name.replace('_', "\u{1}"),
        0xf0..=0xf7 => name.replace('_', "\u{2}"),
        0xe0 => name,
        _ if name.is_empty() => format!("n{}", before.len()),
        _ => name,
    })
}
