//! Paths as links write them.

use std::path::{Component, Path, PathBuf};

/// A path relative to a folder, from the root of both; none when it leads out of it.
pub fn resolve(folder: &Path, to: &str) -> Option<PathBuf> {
    let mut path = folder.to_owned();
    for part in Path::new(to).components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir if path.pop() => {}
            Component::Normal(name) => path.push(name),
            _ => return None,
        }
    }
    Some(path)
}

/// How a page in `folder` names `target`; both are relative to the same root.
pub fn relative(folder: &Path, target: &Path) -> String {
    let (mut from, mut to) = (folder.components().peekable(), target.components().peekable());
    while from.peek().is_some() && from.peek() == to.peek() {
        from.next();
        to.next();
    }
    let up = from.map(|_| "..".to_owned());
    let down = to.map(|part| part.as_os_str().to_string_lossy().into_owned());
    up.chain(down).collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_resolved_and_named_again() {
        let table = [
            ("docs", "lines.md", Some("docs/lines.md")),
            ("docs", "../README.md", Some("README.md")),
            ("plugins/csample", "../../docs/./c-plugins.md", Some("docs/c-plugins.md")),
            ("docs", "../../secret", None),
            ("docs", "/etc/passwd", None),
        ];
        for (folder, to, expected) in table {
            assert_eq!(resolve(Path::new(folder), to), expected.map(PathBuf::from), "{to}");
        }
        assert_eq!(relative(Path::new("tools"), Path::new("lines.md")), "../lines.md");
        assert_eq!(relative(Path::new(""), Path::new("tools/x.md")), "tools/x.md");
        assert_eq!(relative(Path::new("a/b"), Path::new("a/c")), "../c");
    }
}
