//! The anchors that a page's headings get where repositories are shown, and in the book.

use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};
use std::collections::{BTreeSet, HashMap};

/// What this documentation is written in.
pub fn options() -> Options {
    Options::ENABLE_TABLES | Options::ENABLE_STRIKETHROUGH | Options::ENABLE_FOOTNOTES
}

/// The anchors of a page.
pub fn of(text: &str) -> BTreeSet<String> {
    let (mut anchors, mut times) = (BTreeSet::new(), HashMap::<String, usize>::new());
    let mut heading: Option<String> = None;
    for event in Parser::new_ext(text, options()) {
        match event {
            Event::Start(Tag::Heading { .. }) => heading = Some(String::new()),
            Event::Text(words) | Event::Code(words) => {
                if let Some(heading) = &mut heading {
                    heading.push_str(&words);
                }
            }
            Event::End(TagEnd::Heading(_)) => {
                let slug = slug(&heading.take().unwrap_or_default());
                let before = times.entry(slug.clone()).or_default();
                anchors.insert(if *before == 0 { slug } else { format!("{slug}-{before}") });
                *before += 1;
            }
            _ => {}
        }
    }
    anchors
}

/// Letters, digits, `-` and `_` stay, spaces become `-`.
fn slug(heading: &str) -> String {
    let kept = heading.trim().chars().filter_map(|letter| match letter {
        ' ' => Some('-'),
        '-' | '_' => Some(letter),
        _ if letter.is_alphanumeric() => Some(letter),
        _ => None,
    });
    kept.flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headings_are_anchors() {
        let text = "# Remote write and `OTLP`\n## What, if?\n## A_b-c\nText\n## What, if?\n";
        let expected = ["remote-write-and-otlp", "what-if", "a_b-c", "what-if-1"];
        assert_eq!(of(text), expected.map(str::to_owned).into());
        assert!(of("```\n# no heading\n```\n").is_empty());
    }
}
