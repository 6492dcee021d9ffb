//! The book: pages out of the whole repository, put together below target/ and made HTML of by mdBook.

use super::{links, pages, paths};
use crate::{command, workspace};
use anyhow::{Context, Result};
use std::fs;
use std::path::{Path, PathBuf};

/// Where the book is made.
pub fn folder() -> PathBuf {
    workspace::root().join("target/book")
}

/// Makes the book anew.
pub fn build() -> Result<()> {
    let root = workspace::root();
    let source = root.join("target/book-source");
    for folder in [&source, &folder()] {
        if folder.exists() {
            fs::remove_dir_all(folder).with_context(|| format!("removing {}", folder.display()))?;
        }
    }
    put(&source.join("book.toml"), &fs::read(root.join("docs/book.toml"))?)?;
    for (page, place) in pages::of_the_book(root)? {
        let text = fs::read_to_string(root.join(&page))
            .with_context(|| format!("reading {}", page.display()))?;
        let mut files = Vec::new();
        let text = links::rewritten(&text, |to| {
            let (to, file) = destination(root, &page, &place, to)?;
            files.extend(file);
            Some(to)
        });
        put(&source.join("src").join(&place), text.as_bytes())?;
        for file in files {
            let content = fs::read(root.join(&file))
                .with_context(|| format!("reading {}", file.display()))?;
            put(&source.join("src").join(in_book(&file)), &content)?;
        }
    }
    let mut mdbook = command::cargo();
    mdbook.args(["run", "--quiet", "--locked", "--manifest-path", "xtask/book/Cargo.toml"]);
    mdbook.args(["--target-dir", "target/book-tool", "--"]).arg(&source);
    command::run(&mut mdbook)
}

/// Files that are no pages are there as they are.
fn in_book(file: &Path) -> PathBuf {
    if let Ok(below) = file.strip_prefix("docs") {
        below.into()
    } else {
        Path::new("files").join(file)
    }
}

/// What a link of a page is in the book, and the file that has to be there for it. None for a folder without a
/// page: the words stay.
fn destination(
    root: &Path,
    page: &Path,
    place: &Path,
    to: &str,
) -> Option<(String, Option<PathBuf>)> {
    if links::is_external(to) || to.starts_with('#') {
        return Some((to.to_owned(), None));
    }
    let (file, anchor) = to.split_once('#').map_or((to, None), |(file, a)| (file, Some(a)));
    let mut target = paths::resolve(page.parent()?, file)?;
    if root.join(&target).is_dir() {
        target.push("README.md");
        root.join(&target).exists().then_some(())?;
    }
    let (there, file) = match pages::place(&target) {
        Some(place) => (place, None),
        None => (in_book(&target), Some(target)),
    };
    let mut link = paths::relative(place.parent()?, &there);
    if let Some(anchor) = anchor {
        link = format!("{link}#{anchor}");
    }
    Some((link, file))
}

fn put(path: &Path, content: &[u8]) -> Result<()> {
    let write = || {
        fs::create_dir_all(path.parent().unwrap_or(path))?;
        fs::write(path, content)
    };
    write().with_context(|| format!("writing {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_lead_to_pages_files_or_nowhere() {
        let table = [
            ("README.md", "docs/lines.md#series", Some(("lines.md#series", None))),
            ("README.md", "plugins/runqlat/README.md", Some(("tools/runqlat.md", None))),
            ("docs/c-plugins.md", "../plugins/csample", Some(("tools/csample.md", None))),
            ("plugins/csample/README.md", "../../docs/exact.md", Some(("../exact.md", None))),
            ("docs/outputs.md", "../etc/telegraf", None),
            ("docs/outputs.md", "lines.md", Some(("lines.md", None))),
            (
                "docs/outputs.md",
                "../etc/collector.toml",
                Some(("files/etc/collector.toml", Some("etc/collector.toml"))),
            ),
            ("docs/lines.md", "https://semver.org", Some(("https://semver.org", None))),
            ("docs/lines.md", "#series", Some(("#series", None))),
        ];
        for (page, to, expected) in table {
            let page = Path::new(page);
            let found = destination(workspace::root(), page, &pages::place(page).unwrap(), to);
            let expected = expected.map(|(to, file)| (to.to_owned(), file.map(PathBuf::from)));
            assert_eq!(found, expected, "{to} of {}", page.display());
        }
    }
}
