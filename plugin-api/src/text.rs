//! What a tag's value becomes on its way through line protocol.

use std::borrow::Cow;

/// What a tag's value reads back as, in every database.
///
/// Databases disagree about some characters in a tag, so the encoder replaces these by `_`, one for one:
///
/// - a control character (below 0x20, and 0x7f);
/// - a backslash before `,`, a space, `=` or another backslash, and one at the end;
/// - the first `#` of `#!~#`, and of `#!~` at the end.
///
/// Everything else reads back as it was. A plugin whose keys are texts merges by this function: two keys
/// with the same tag text are one series, and of two lines of one tick the databases keep the last.
/// A tag whose value is empty is left out of the line; a line with a value of more than 4096 bytes is refused.
///
/// ```
/// use plugin_api::text::tag_text;
/// assert_eq!(tag_text("kworker/0:1 events"), "kworker/0:1 events");
/// assert_eq!(tag_text("a\nb"), "a_b");
/// assert_eq!(tag_text(r"end\"), "end_");
/// ```
#[must_use]
pub fn tag_text(value: &str) -> Cow<'_, str> {
    if !value.bytes().any(|byte| byte.is_ascii_control() || matches!(byte, b'\\' | b'#')) {
        return Cow::Borrowed(value);
    }
    let mut text = String::with_capacity(value.len());
    for (at, c) in value.char_indices() {
        let rest = &value[at + c.len_utf8()..];
        text.push(match c {
            '\\' if rest.is_empty() || rest.starts_with([',', ' ', '=', '\\']) => '_',
            '#' if rest == "!~" || rest.starts_with("!~#") => '_',
            c if c.is_ascii_control() => '_',
            c => c,
        });
    }
    Cow::Owned(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_databases_read_differently_is_replaced() {
        for (value, text) in [
            ("", ""),
            ("plain", "plain"),
            ("ü, €=1", "ü, €=1"),
            (r"C:\temp", r"C:\temp"),
            (r"end\", "end_"),
            (r"a\\b", r"a_\b"),
            (r"a\,b\ c\=d", "a_,b_ c_=d"),
            ("a\nb\tc\0d\x7f", "a_b_c_d_"),
            ("#!~#!~#", "_!~_!~#"),
            ("a#!~", "a_!~"),
            ("#1 a#!~b", "#1 a#!~b"),
        ] {
            assert_eq!(tag_text(value), text, "{value:?}");
        }
    }

    #[test]
    fn a_text_that_was_read_back_stays_as_it_is() {
        for value in [r"a\\,", "#!~#!~#", "\\\n", "\n#!~#!~"] {
            let once = tag_text(value).into_owned();
            assert_eq!(tag_text(&once), once, "{value:?}");
        }
    }
}
