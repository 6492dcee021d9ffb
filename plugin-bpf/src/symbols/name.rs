//! Names as a line shows them: demangled, short, and without what separates frames.

use super::Folded;
use std::fmt::{self, Write as _};
use std::sync::Arc;

/// Of a frame, in bytes.
const FRAME: usize = 256;
/// Of a folded stack.
const TEXT: usize = 4_096;
pub(super) const TRUNCATED: &str = "[truncated]";

/// A symbol's name: that of the source, where it is one of Rust or C++, without hashes and parameters.
pub(super) fn readable(raw: &[u8]) -> String {
    let text = String::from_utf8_lossy(raw);
    clean(demangled(&text).as_deref().unwrap_or(&text).as_bytes())
}

fn demangled(text: &str) -> Option<String> {
    if !text.starts_with('_') {
        return None;
    }
    let mut short = Short(String::new());
    // Both may write more than memory holds, of a name that was made for it: a full text ends it.
    if let Ok(rust) = rustc_demangle::try_demangle(text) {
        let _ = write!(short, "{rust:#}");
    } else {
        let options = cpp_demangle::DemangleOptions::new().no_params().no_return_type();
        let symbol = cpp_demangle::Symbol::new(text).ok()?;
        let _ = symbol.structured_demangle(&mut Cpp(&mut short), &options);
    }
    (!short.0.is_empty()).then_some(short.0)
}

/// A text that takes no more than a frame shows, and one byte, by which it is seen to be longer.
struct Short(String);

impl fmt::Write for Short {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = (FRAME + 1).saturating_sub(self.0.len());
        self.0.push_str(&text[..text.floor_char_boundary(room)]);
        if text.len() > room { Err(fmt::Error) } else { Ok(()) }
    }
}

struct Cpp<'a>(&'a mut Short);

impl cpp_demangle::DemangleWrite for Cpp<'_> {
    fn write_string(&mut self, text: &str) -> fmt::Result {
        self.0.write_str(text)
    }
}

/// A frame's text: `;` becomes `:`, a control character `_`, and what is longer than 256 bytes ends in `...`.
pub(super) fn clean(name: &[u8]) -> String {
    let name = String::from_utf8_lossy(name);
    let mut text = String::with_capacity(name.len().min(FRAME));
    for c in name.chars() {
        if text.len() + c.len_utf8() > FRAME {
            text.truncate(text.floor_char_boundary(FRAME - 3));
            text.push_str("...");
            break;
        }
        text.push(match c {
            ';' => ':',
            c if c.is_control() => '_',
            c => c,
        });
    }
    if text.is_empty() { "_".to_owned() } else { text }
}

/// Joins frames, the outermost first.
pub(super) fn fold(frames: &[String]) -> (Folded, bool) {
    let hash = hash(frames);
    let len = frames.iter().map(|frame| frame.len() + 1).sum::<usize>().saturating_sub(1);
    let (text, truncated) = match frames {
        [outer @ .., leaf] if len > TEXT => {
            let mut text = String::with_capacity(TEXT);
            let room = TEXT - TRUNCATED.len() - 1 - leaf.len();
            for frame in outer {
                if text.len() + frame.len() + 1 > room {
                    break;
                }
                text.push_str(frame);
                text.push(';');
            }
            text.push_str(TRUNCATED);
            text.push(';');
            text.push_str(leaf);
            (text, true)
        }
        _ => (frames.join(";"), false),
    };
    (Folded { text: Arc::from(text), hash, resolved: true }, truncated)
}

/// FNV-1a of the whole text, the frames joined by `;`.
fn hash(frames: &[String]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    for (i, frame) in frames.iter().enumerate() {
        let separator = if i == 0 { "" } else { ";" };
        for byte in separator.bytes().chain(frame.bytes()) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_source() {
        for (raw, name) in [
            ("main", "main"),
            ("_start", "_start"),
            ("__libc_start_main", "__libc_start_main"),
            ("_ZN4core3fmt5write17h0123456789abcdefE", "core::fmt::write"),
            ("_RNvC6_123foo3bar", "123foo::bar"),
            (
                "_ZNSt6vectorIiSaIiEE9push_backERKi",
                "std::vector<int, std::allocator<int> >::push_back",
            ),
            ("_Z4spinv", "spin"),
            ("_ZN5shape6Square4areaEv.isra.0", "shape::Square::area"),
            ("_Znot a name", "_Znot a name"),
            ("Lcom/example/Main;::run", "Lcom/example/Main:::run"),
            ("a\nb\u{1}c", "a_b_c"),
            ("", "_"),
        ] {
            let readable = readable(raw.as_bytes());
            assert!(
                readable == name || readable.starts_with(&format!("{name} ")),
                "{raw}: {readable}"
            );
        }
        assert_eq!(readable(b"\xff\xfe"), "\u{fffd}\u{fffd}");
    }

    #[test]
    fn a_long_name_is_cut_also_where_it_is_made_by_the_demangler() {
        let long = readable("é".repeat(1000).as_bytes());
        assert!(long.len() <= FRAME && long.ends_with("é..."), "{long}");
        // Each substitution doubles the text: 2^40 times.
        let mut bomb = "_Z1fI1aE".to_owned();
        let mut name = "1aIS_S_E".to_owned();
        for _ in 0..40 {
            name = format!("1bI{name}S_E");
        }
        bomb.push_str(&name);
        let began = std::time::Instant::now();
        for bomb in [bomb, format!("_Z{}", "NK1a".repeat(250)), "_ZI".repeat(300)] {
            assert!(readable(bomb.as_bytes()).len() <= FRAME);
        }
        assert!(began.elapsed().as_secs() < 20);
    }

    #[test]
    fn a_long_stack_keeps_its_root_and_its_leaf() {
        let frames: Vec<_> = (0..1000).map(|i| format!("frame{i}")).collect();
        let (folded, truncated) = fold(&frames);
        assert!(truncated && folded.text.len() <= TEXT && folded.text.len() > TEXT - 20);
        assert!(folded.text.starts_with("frame0;frame1;"));
        assert!(folded.text.ends_with(";[truncated];frame999"));
        // The hash is of the whole.
        let (other, _) = fold(&[&frames[..900], &frames[901..]].concat());
        assert!(other.text == folded.text && other.hash != folded.hash);
        let (short, truncated) = fold(&frames[..2]);
        assert_eq!((&*short.text, truncated), ("frame0;frame1", false));
        // FNV-1a's own test vector.
        assert_eq!(hash(&["foobar".to_owned()]), 0x8594_4171_f739_67e8);
    }
}
