//! The page: one file that asks nobody but this server, and may do nothing else.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::digest::{SHA256, digest};
use std::sync::LazyLock;

/// All of it.
pub const HTML: &str = include_str!("page.html");

/// What the browser lets it do: run and show what stands in it, and read from here.
pub static POLICY: LazyLock<String> = LazyLock::new(|| {
    let hash = |tag: &str| STANDARD.encode(digest(&SHA256, inner(tag).as_bytes()));
    format!(
        "Content-Security-Policy: default-src 'none'; script-src 'sha256-{}'; style-src 'sha256-{}'; \
         connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'\r\n\
         Referrer-Policy: no-referrer\r\n",
        hash("script"),
        hash("style")
    )
});

/// What stands between the only tags of a kind.
fn inner(tag: &str) -> &'static str {
    let (begin, end) = (format!("<{tag}>"), format!("</{tag}>"));
    let after = HTML.split_once(&*begin).map_or("", |(_, after)| after);
    after.split_once(&*end).map_or("", |(inner, _)| inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_stands_alone() {
        for tag in ["script", "style"] {
            assert_eq!(HTML.matches(&format!("<{tag}")).count(), 1, "the policy has one hash");
            assert!(inner(tag).len() > 500);
        }
        for word in ["http://", "https://", "//cdn", "@import", "style=\"", "onclick=", "innerHTML"]
        {
            assert!(!HTML.contains(word), "{word}");
        }
        assert!(HTML.len() < 64 << 10, "{}", HTML.len());
    }
}
