//! Links of the built book.

use super::{links, paths};
use crate::workspace;
use anyhow::{Context, Result};
use html5gum::{Token, Tokenizer};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// What a page says of itself and of others.
#[derive(Default)]
struct Page {
    anchors: BTreeSet<String>,
    links: BTreeSet<String>,
}

/// The links of all pages in a folder that lead nowhere.
pub fn broken(folder: &Path) -> Result<Vec<String>> {
    let mut pages = BTreeMap::new();
    for file in workspace::files(folder)? {
        if file.extension().is_some_and(|extension| extension == "html") {
            let html =
                fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
            pages.insert(file.strip_prefix(folder)?.to_owned(), read(&html));
        }
    }
    let mut found = Vec::new();
    for (path, page) in &pages {
        for link in &page.links {
            if let Some(why) = wrong(folder, &pages, path, link) {
                found.push(format!("{}: {link}: {why}", path.display()));
            }
        }
    }
    Ok(found)
}

fn read(html: &str) -> Page {
    let mut page = Page::default();
    for Ok(token) in Tokenizer::new(html) {
        let Token::StartTag(tag) = token else { continue };
        for (name, value) in &tag.attributes {
            let value = String::from_utf8_lossy(value).into_owned();
            match &name[..] {
                b"id" => _ = page.anchors.insert(value),
                b"href" | b"src" => _ = page.links.insert(value),
                _ => {}
            }
        }
    }
    page
}

fn wrong(
    folder: &Path,
    pages: &BTreeMap<PathBuf, Page>,
    from: &Path,
    link: &str,
) -> Option<&'static str> {
    if links::is_external(link) {
        return (!link.starts_with("data:") && !links::is_well_formed(link))
            .then_some("no address of the web");
    }
    let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
    let file = file.split('?').next().unwrap_or_default();
    let target = if file.is_empty() {
        Some(from.to_owned())
    } else {
        paths::resolve(from.parent().unwrap_or(Path::new("")), file)
    };
    let there = target.filter(|target| folder.join(target).is_file());
    match there.map(|target| pages.get(&target)) {
        None => Some("there is no such file in the book"),
        Some(page) => {
            let known = anchor.is_empty() || page.is_some_and(|page| page.anchors.contains(anchor));
            (!known).then_some("there is no such anchor")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_leads_nowhere_in_a_book_is_found() {
        let folder = std::env::temp_dir().join(format!("book-{}", std::process::id()));
        fs::create_dir_all(folder.join("tools")).unwrap();
        let index = r##"<h1 id="top">A</h1><a href="tools/a.html#b">a</a> <a href="#top">b</a>
            <a href='gone.html'>c</a> <img src="gone.svg"> <a href="tools/a.html#gone">d</a>
            <!-- <a href="in/a/comment"> --> <a href="https://example.org/">e</a>"##;
        fs::write(folder.join("index.html"), index).unwrap();
        let tool = r#"<h2 id="b">B</h2><a href="../index.html">up</a> <a href="../../x">out</a>"#;
        fs::write(folder.join("tools/a.html"), tool).unwrap();
        let expected = [
            "index.html: gone.html: there is no such file in the book",
            "index.html: gone.svg: there is no such file in the book",
            "index.html: tools/a.html#gone: there is no such anchor",
            "tools/a.html: ../../x: there is no such file in the book",
        ];
        assert_eq!(broken(&folder).unwrap(), expected);
        fs::remove_dir_all(folder).unwrap();
    }
}
