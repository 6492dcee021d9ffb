//! Which files are pages, and where they stand in the book.

use super::{links, paths};
use crate::workspace;
use anyhow::{Context, Result, ensure};
use std::fs;
use std::path::{Path, PathBuf};

/// Folders that git ignores, or that hold no text of ours.
const NOT_OURS: [&str; 4] = [".git", ".cache", "target", "node_modules"];

/// All .md files of a folder and below, relative to it.
pub fn markdown(root: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for path in workspace::list(root)? {
        let name = workspace::file_name(&path);
        if path.is_symlink() || NOT_OURS.contains(&name.as_str()) {
            continue;
        } else if path.is_dir() {
            found.extend(markdown(&path)?.into_iter().map(|below| Path::new(&name).join(below)));
        } else if name.ends_with(".md") {
            found.push(name.into());
        }
    }
    Ok(found)
}

/// Where a page of the repository stands in the book; none if it is no page of it.
pub fn place(page: &Path) -> Option<PathBuf> {
    let text = page.to_str()?;
    match text.split('/').collect::<Vec<_>>()[..] {
        ["README.md"] => Some("index.md".into()),
        ["docs", "SUMMARY.md"] => Some("SUMMARY.md".into()),
        ["docs", name] if name.ends_with(".md") => Some(name.into()),
        ["plugins", tool, "README.md"] => Some(format!("tools/{tool}.md").into()),
        ["etc", part, "README.md"] => Some(format!("etc/{part}.md").into()),
        [name] if name.ends_with(".md") => Some(name.to_lowercase().into()),
        _ => None,
    }
}

/// The pages of the book, in the repository and in the book.
pub fn of_the_book(root: &Path) -> Result<Vec<(PathBuf, PathBuf)>> {
    let pages = markdown(root)?.into_iter();
    let pages: Vec<_> = pages.filter_map(|page| Some((place(&page)?, page))).collect();
    let summary = root.join("docs/SUMMARY.md");
    let text =
        fs::read_to_string(&summary).with_context(|| format!("reading {}", summary.display()))?;
    let listed = links::of(&text).into_iter();
    let listed: Vec<_> =
        listed.filter_map(|link| paths::resolve(Path::new("docs"), &link.to)).collect();
    let is_listed = |page: &&PathBuf| listed.contains(page) || page.ends_with("SUMMARY.md");
    let missing: Vec<_> = pages.iter().map(|(_, page)| page).filter(|p| !is_listed(p)).collect();
    ensure!(missing.is_empty(), "docs/SUMMARY.md does not list {missing:?}");
    Ok(pages.into_iter().map(|(place, page)| (page, place)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_have_a_place_in_the_book() {
        let table = [
            ("README.md", Some("index.md")),
            ("SECURITY.md", Some("security.md")),
            ("docs/lines.md", Some("lines.md")),
            ("docs/SUMMARY.md", Some("SUMMARY.md")),
            ("plugins/runqlat/README.md", Some("tools/runqlat.md")),
            ("xtask/template/README.md", None),
            ("etc/collector.toml", None),
        ];
        for (page, expected) in table {
            assert_eq!(place(Path::new(page)), expected.map(PathBuf::from), "{page}");
        }
    }
}
