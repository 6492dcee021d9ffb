//! Programs that would never run: a tool with hooks of its own (`Tool::hooks`) names none for them.
//!
//! Without such a function every program is a way of the hook that its name begins with. With one, the names
//! stand as texts in the Rust source, beside `skeleton!`. What cannot be seen there, `init` finds.

use crate::Result;
use crate::elf::Program;
use std::fs;
use std::path::Path;

/// Fails when a program of the skeleton `name` is neither named in the package's Rust source nor begins with a
/// name that is.
pub fn check(name: &str, programs: &[Program], folder: &Path) -> Result<()> {
    let texts = texts(folder);
    let brings = [format!("skeleton!({name})"), format!("skeleton!({name} as ")];
    let users: Vec<&String> =
        texts.iter().filter(|text| brings.iter().any(|words| text.contains(words))).collect();
    let has_own = |text: &&String| text.contains("fn hooks(") && !text.contains("without_others");
    if users.is_empty() || !users.iter().all(has_own) {
        return Ok(());
    }
    let is_text = |name: &str| texts.iter().any(|text| text.contains(&format!("\"{name}\"")));
    let unnamed = programs.iter().map(|program| program.name.as_str()).find(|program| {
        let ends = program.match_indices('_').map(|(at, _)| at).chain([program.len()]);
        !ends.into_iter().any(|end| is_text(&program[..end]))
    });
    match unnamed {
        None => Ok(()),
        Some(program) => Err(format!(
            "program `{program}` belongs to no hook and would never run: `fn hooks` of its tool has neither its \
             name nor the beginning of it; name it there, or in `Hooks::without(&[\"{program}\"])`"
        )),
    }
}

/// The Rust sources below a folder.
fn texts(folder: &Path) -> Vec<String> {
    let mut texts = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            texts.extend(self::texts(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            texts.extend(fs::read_to_string(path));
        }
    }
    texts
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use tempfile::tempdir;

    fn checked(source: &str) -> Result<()> {
        let folder = tempdir().expect("a folder");
        fs::write(folder.path().join("lib.rs"), source).expect("a file");
        let programs = ["exit_btf", "exit_tp_group", "gc_usdt"].map(|name| Program {
            name: name.to_owned(),
            section: String::new(),
            maps: BTreeSet::new(),
        });
        check("demo", &programs, folder.path())
    }

    #[test]
    fn a_program_that_no_hook_names_is_an_error() {
        let hooks = "skeleton!(demo);\nfn hooks(&self) -> Hooks { Hooks::all([Hook::of(\"exit\")])";
        let why = checked(hooks).unwrap_err();
        assert!(why.contains("program `gc_usdt` belongs to no hook"), "{why}");
        for rest in [".later(&[\"gc_usdt\"])", ".without(&[\"gc_usdt\"])", ".without_others()"] {
            assert_eq!(checked(&format!("{hooks}{rest} }}")), Ok(()), "{rest}");
        }
        assert_eq!(checked(&hooks.replace("\"exit\"", "\"exit\"), Hook::of(\"gc\"")), Ok(()));
        assert!(checked(&hooks.replace("demo)", "demo as skel)")).is_err());
    }

    #[test]
    fn without_hooks_of_its_own_a_tool_has_them_all() {
        assert_eq!(checked("skeleton!(demo);"), Ok(()));
        assert_eq!(checked("skeleton!(other);\nfn hooks(&self) {}"), Ok(()));
        assert_eq!(checked(""), Ok(()));
    }
}
