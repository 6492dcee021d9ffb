//! `api`: what plugin-api offers to authors, compared with a list of what it has offered.
//!
//! The ABI has a test of its own, with a plugin that was built against 1.0.0 (collector/tests/host/older.rs). This is
//! about sources: whatever an author could write against 1.x compiles with every later 1.y. The list of public items
//! is in plugin-api/api.txt. It begins on 30 November 2026, before the first release: signatures had changed since the
//! first 1.0.0 of the repository. An item that is gone, or has another signature, fails; a new one has to be put on the
//! list, where a review sees it.

use crate::{command, workspace};
use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

/// The format of rustdoc's JSON that the library reads, which is that of Rust 1.95.
const FORMAT: u64 = 57;

type Items = BTreeSet<String>;

/// What a comparison came to.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    Same,
    /// This Rust writes another format.
    Unreadable,
}

pub fn verb(write: bool) -> Result<()> {
    let Some(now) = now()? else { bail!("{}", unreadable()) };
    let listed = listed()?;
    let (gone, new) = compare(&listed, &now);
    let text =
        |items: &[&String]| items.iter().map(|item| format!("    {item}\n")).collect::<String>();
    print!("gone, or with another signature:\n{}new:\n{}", text(&gone), text(&new));
    ensure!(gone.is_empty(), "plugin-api needs another major version, or what is gone back");
    if write {
        let text = now.iter().map(|item| format!("{item}\n")).collect::<String>();
        fs::write(list(), text).with_context(|| format!("writing {}", list().display()))?;
    } else {
        ensure!(new.is_empty(), "`cargo xtask api --write` puts what is new on the list");
    }
    Ok(())
}

/// Fails unless the list is right.
pub fn check() -> Result<Verdict> {
    let Some(now) = now()? else { return Ok(Verdict::Unreadable) };
    let listed = listed()?;
    let (gone, new) = compare(&listed, &now);
    if gone.is_empty() && new.is_empty() {
        return Ok(Verdict::Same);
    }
    let lines = |sign: char, items: Vec<&String>| {
        items.iter().map(|item| format!("    {sign} {item}\n")).collect::<String>()
    };
    bail!(
        "plugin-api has changed since its list (`cargo xtask api`):\n{}{}",
        lines('-', gone),
        lines('+', new)
    )
}

/// Why nothing was compared.
pub fn unreadable() -> String {
    format!("rustdoc of this Rust writes another format of JSON than {FORMAT}, that of Rust 1.95")
}

/// Items that are not there any more, and items that were not there.
fn compare<'a>(before: &'a Items, now: &'a Items) -> (Vec<&'a String>, Vec<&'a String>) {
    (before.difference(now).collect(), now.difference(before).collect())
}

fn list() -> PathBuf {
    workspace::root().join("plugin-api/api.txt")
}

fn listed() -> Result<Items> {
    let text =
        fs::read_to_string(list()).with_context(|| format!("reading {}", list().display()))?;
    Ok(text.lines().map(str::to_owned).collect())
}

/// The public items, if this Rust tells them in the known format.
fn now() -> Result<Option<Items>> {
    let folder = workspace::root().join("target/api");
    fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
    // JSON is not stable: rustdoc alone is told to write it. For cargo as a whole, build scripts would find another
    // compiler than in other builds, and all would be compiled twice.
    let rustdoc = folder.join("rustdoc");
    fs::write(&rustdoc, "#!/bin/sh\nRUSTC_BOOTSTRAP=1 exec rustdoc \"$@\"\n")?;
    fs::set_permissions(&rustdoc, fs::Permissions::from_mode(0o755))?;
    let mut cargo = command::cargo();
    cargo.args(["rustdoc", "--quiet", "--package", "plugin-api", "--lib", "--"]);
    cargo.args(["-Zunstable-options", "--output-format", "json"]).env("RUSTDOC", &rustdoc);
    command::run(&mut cargo)?;
    let json = target()?.join("doc/plugin_api.json");
    let text = fs::read_to_string(&json).with_context(|| format!("reading {}", json.display()))?;
    let format = serde_json::from_str::<Value>(&text)?["format_version"].as_u64();
    if format != Some(FORMAT) {
        return Ok(None);
    }
    let api = public_api::Builder::from_rustdoc_json(json)
        .omit_blanket_impls(true)
        .omit_auto_trait_impls(true)
        .build()
        .context("reading rustdoc's JSON")?;
    Ok(Some(api.items().map(ToString::to_string).collect()))
}

/// Where cargo compiles.
fn target() -> Result<PathBuf> {
    let mut metadata = command::cargo();
    metadata.args(["metadata", "--format-version", "1", "--no-deps", "--locked"]);
    let metadata: Value = serde_json::from_str(&command::output(&mut metadata)?)?;
    Ok(metadata["target_directory"].as_str().context("no target folder")?.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_signature_is_gone_and_new() {
        let items = |list: &[&str]| list.iter().map(|item| (*item).to_owned()).collect::<Items>();
        let before = items(&["pub fn a(u32)", "pub fn b()", "pub struct S"]);
        let now = items(&["pub fn a(u64)", "pub fn b()", "pub struct S", "pub struct T"]);
        let (gone, new) = compare(&before, &now);
        assert_eq!(gone, ["pub fn a(u32)"]);
        assert_eq!(new, ["pub fn a(u64)", "pub struct T"]);
    }
}
