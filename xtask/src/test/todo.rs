//! What the author of a plugin has still to write: the template says TODO there.

use crate::workspace;
use anyhow::{Result, ensure};
use std::fmt::Write as _;
use std::fs;

/// Fails with the places when something is left.
pub fn none(plugin: &str) -> Result<()> {
    let mut places = String::new();
    for file in workspace::files(&workspace::root().join("plugins").join(plugin))? {
        let name = file.strip_prefix(workspace::root()).unwrap_or(&file);
        // What is no text has no TODO.
        let text = fs::read_to_string(&file).unwrap_or_default();
        for (index, line) in text.lines().enumerate().filter(|(_, line)| is_todo(line)) {
            writeln!(places, "    {}:{}: {}", name.display(), index + 1, line.trim())?;
        }
    }
    ensure!(places.is_empty(), "write what stands here instead of TODO:\n{places}");
    Ok(())
}

fn is_todo(line: &str) -> bool {
    line.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == "TODO")
}

#[cfg(test)]
mod tests {
    use super::is_todo;

    #[test]
    fn a_todo_is_a_word() {
        for line in ["//! TODO: hooks", "description = \"TODO\"", "/* TODO */"] {
            assert!(is_todo(line), "{line}");
        }
        for line in ["", "TODOS", "MY_TODO", "todo: forks"] {
            assert!(!is_todo(line), "{line}");
        }
    }
}
