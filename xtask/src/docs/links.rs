//! Links of Markdown: found, checked, rewritten.

use super::{anchors, paths};
use anyhow::{Context, Result};
use pulldown_cmark::{Event, Parser, Tag};
use std::fs;
use std::ops::Range;
use std::path::Path;

/// A link or an image.
pub struct Link {
    pub to: String,
    /// All of it in the text: `[words](to)`.
    pub range: Range<usize>,
}

/// All links and images of a text.
pub fn of(text: &str) -> Vec<Link> {
    let events = Parser::new_ext(text, anchors::options()).into_offset_iter();
    let links = events.filter_map(|(event, range)| match event {
        Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) => {
            Some(Link { to: dest_url.into_string(), range })
        }
        _ => None,
    });
    links.collect()
}

/// The links of a page that lead nowhere; the page is relative to the root.
pub fn broken(root: &Path, page: &Path) -> Result<Vec<String>> {
    let path = root.join(page);
    let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    let mut found = Vec::new();
    for Link { to, range } in of(&text) {
        if let Some(why) = wrong(root, page, &text, &to)? {
            let line = text[..range.start].lines().count().max(1);
            found.push(format!("{}:{line}: {to}: {why}", page.display()));
        }
    }
    Ok(found)
}

/// Why a link leads nowhere.
fn wrong(root: &Path, page: &Path, text: &str, to: &str) -> Result<Option<String>> {
    if is_external(to) {
        return Ok((!is_well_formed(to)).then(|| "no address of the web".to_owned()));
    }
    let (file, anchor) = to.split_once('#').unwrap_or((to, ""));
    let here = if file.is_empty() {
        text.to_owned()
    } else {
        let folder = page.parent().unwrap_or(Path::new(""));
        let target = paths::resolve(folder, file).filter(|path| !is_made(path));
        let Some(target) = target.map(|path| root.join(path)).filter(|path| path.exists()) else {
            return Ok(Some("there is no such file in the repository".to_owned()));
        };
        if anchor.is_empty() {
            return Ok(None);
        }
        fs::read_to_string(&target).with_context(|| format!("reading {}", target.display()))?
    };
    let known = anchors::of(&here);
    Ok((!known.contains(anchor)).then(|| "there is no such heading".to_owned()))
}

/// Not in git.
fn is_made(path: &Path) -> bool {
    path.starts_with("target") || path.starts_with(".cache")
}

/// It begins with a scheme.
pub fn is_external(to: &str) -> bool {
    to.split_once(':').is_some_and(|(scheme, _)| {
        !scheme.is_empty() && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
    })
}

/// Nobody asks whether it is there: tests have no network.
pub fn is_well_formed(to: &str) -> bool {
    let rest = to.strip_prefix("https://").or_else(|| to.strip_prefix("http://"));
    let host = rest.and_then(|rest| rest.split(['/', '?', '#']).next());
    host.is_some_and(|host| {
        let (name, port) = host.split_once(':').unwrap_or((host, "80"));
        let is_label = |label: &str| {
            !label.is_empty() && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
        };
        name.split('.').all(is_label) && port.parse::<u16>().is_ok()
    }) && !to.chars().any(|c| c.is_whitespace() || "<>\"`{}|\\^".contains(c))
}

/// The text with other destinations: what `new` answers for each one, or the words alone where it has none.
pub fn rewritten(text: &str, mut new: impl FnMut(&str) -> Option<String>) -> String {
    let (mut out, mut done) = (String::new(), 0);
    for Link { to, range } in of(text) {
        let whole = &text[range.clone()];
        // Others are written in full, or refer to a list.
        let Some(at) = whole.rfind(&format!("]({to}")) else { continue };
        if range.start < done {
            continue; // an image in a link's words
        }
        out.push_str(&text[done..range.start]);
        match new(&to) {
            Some(other) => {
                out.push_str(&whole[..at + 2]);
                out.push_str(&other);
                out.push_str(&whole[at + 2 + to.len()..]);
            }
            None => out.push_str(&whole[1..at]),
        }
        done = range.end;
    }
    out + &text[done..]
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    #[test]
    fn a_broken_link_is_found_with_its_line_and_its_reason() {
        let root = std::env::temp_dir().join(format!("links-{}", std::process::id()));
        fs::create_dir_all(root.join("docs")).unwrap();
        fs::create_dir_all(root.join("target")).unwrap();
        fs::write(root.join("target/made.txt"), "").unwrap();
        fs::write(root.join("README.md"), "# Top\n\n## The end\n").unwrap();
        let good = "# A\n[x](../README.md), [y](../README.md#the-end), [z](#a), ![i](a.md)\n\
                    <https://example.org/a?b#c>, [w](http://h.example:80/)\n`[code](no)`\n";
        let bad = "# B\n[1](gone.md)\n\n![2](gone.svg)\n[3](../README.md#nowhere)\n[4](#nowhere)\n\
                   [5](../../etc/passwd)\n[6](https://)\n[7](../target/made.txt)\n";
        fs::write(root.join("docs/a.md"), good).unwrap();
        fs::write(root.join("docs/b.md"), bad).unwrap();
        assert_eq!(broken(&root, Path::new("docs/a.md")).unwrap(), [""; 0]);
        let file = "there is no such file in the repository";
        assert_eq!(
            broken(&root, &PathBuf::from("docs/b.md")).unwrap(),
            [
                format!("docs/b.md:1: gone.md: {file}"),
                format!("docs/b.md:3: gone.svg: {file}"),
                "docs/b.md:4: ../README.md#nowhere: there is no such heading".to_owned(),
                "docs/b.md:5: #nowhere: there is no such heading".to_owned(),
                format!("docs/b.md:6: ../../etc/passwd: {file}"),
                "docs/b.md:7: https://: no address of the web".to_owned(),
                format!("docs/b.md:8: ../target/made.txt: {file}"),
            ]
        );
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn addresses_of_the_web_are_well_formed_or_not() {
        for good in ["https://semver.org", "http://127.0.0.1:9090/a?b=c", "https://a.b-c.d/x#y"] {
            assert!(is_external(good) && is_well_formed(good), "{good}");
        }
        for bad in ["https://", "https:///a", "ftp://a", "https://a b", "http://a:x/", "mailto:a"] {
            assert!(is_external(bad) && !is_well_formed(bad), "{bad}");
        }
        assert!(!is_external("docs/lines.md") && !is_external("#a:b/"));
    }

    #[test]
    fn destinations_are_rewritten_and_nothing_else() {
        let text = "A [b `c`](d.md#e), `[f](d.md)`, [g](etc) and ![h](i.svg).\n\n    [k](d.md)\n";
        let new = |to: &str| match to {
            "d.md#e" => Some("x/d.md#e".to_owned()),
            "i.svg" => Some("j.svg".to_owned()),
            _ => None,
        };
        let expected = "A [b `c`](x/d.md#e), `[f](d.md)`, g and ![h](j.svg).\n\n    [k](d.md)\n";
        assert_eq!(rewritten(text, new), expected);
    }
}
