//! Names as they stand in a tag.

use plugin_api::text::tag_text;
use std::borrow::Cow;

/// The row of all names beyond the first K.
pub(super) const OTHER: &str = "other";

/// What a name is shown as. Two names with the same result are one series, and so one row.
///
/// - Characters that no tag can hold become `_`, by [`tag_text`].
/// - An empty name becomes `_`, because a tag without a text is left out of the line.
/// - `other` is kept for the sum of the rest: a real name `other` gets a `_` more, and so does `other_`,
///   `other__` and so on. Different texts stay different.
pub(super) fn shown(name: String) -> String {
    let mut text = match tag_text(&name) {
        Cow::Borrowed(_) => name,
        Cow::Owned(text) => text,
    };
    let reserved = text.strip_prefix(OTHER).is_some_and(|rest| rest.bytes().all(|b| b == b'_'));
    if text.is_empty() || reserved {
        text.push('_');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_shown_as_a_tag_reads_back_and_never_empty() {
        for (name, text) in [("ü a,b=c", "ü a,b=c"), ("a\nb", "a_b"), ("", "_"), ("_", "_")] {
            assert_eq!(shown(name.into()), text, "{name:?}");
        }
    }

    #[test]
    fn no_real_name_is_shown_as_other() {
        let names = ["other", "other_", "other__", "others", "another", "other_x", "Other"];
        let texts = names.map(|name| shown(name.into()));
        assert_eq!(
            texts,
            ["other_", "other__", "other___", "others", "another", "other_x", "Other"]
        );
        // Also where the `_` comes from a character that no tag can hold.
        assert_eq!([shown("other\n".into()), shown(r"other\".into())], ["other__", "other__"]);
    }
}
