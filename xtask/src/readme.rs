//! `readme`: what `collector describe` says of a plugin, in its README.

use crate::deps::{self, Need};
use crate::{build, command, workspace};
use anyhow::{Context, Result};
use std::fs;
use std::process::Command;

/// Opens the block that is made here.
const BEGIN: &str = "```describe\n";
const END: &str = "\n```\n";

pub fn verb(only: &[String]) -> Result<()> {
    only.iter().try_for_each(|name| workspace::check_plugin(name))?;
    deps::ensure(Need::Build)?;
    build::everything()?;
    let all = workspace::plugins()?;
    for name in if only.is_empty() { &all } else { only } {
        write(name)?;
    }
    Ok(())
}

fn write(name: &str) -> Result<()> {
    let path = workspace::root().join("plugins").join(name).join("README.md");
    let old = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    let dist = workspace::dist();
    let mut collector = Command::new(dist.join("collector"));
    collector.arg("--plugins").arg(dist.join("plugins")).args(["describe", name]);
    let described = command::output(&mut collector)?;
    let new = with_block(&old, described.trim_end())
        .with_context(|| format!("{} has no block that begins with ```describe", path.display()))?;
    if new != old {
        fs::write(&path, new).with_context(|| format!("writing {}", path.display()))?;
        println!("{}", path.display());
    }
    Ok(())
}

/// The text with another content of its block.
fn with_block(text: &str, content: &str) -> Option<String> {
    let (before, rest) = text.split_once(BEGIN)?;
    // A block may be empty.
    let at = if rest.starts_with("```\n") { 0 } else { rest.find(END)? + 1 };
    Some(format!("{before}{BEGIN}{content}\n{}", &rest[at..]))
}

#[cfg(test)]
mod tests {
    use super::with_block;

    #[test]
    fn the_block_changes_and_what_is_around_it_stays() {
        let text = "# demo\n```describe\nold\nlines\n```\nmore\n```\nexample\n```\n";
        let expected = "# demo\n```describe\nnew\n```\nmore\n```\nexample\n```\n";
        assert_eq!(with_block(text, "new").as_deref(), Some(expected));
        assert_eq!(with_block(expected, "new").as_deref(), Some(expected));
        let empty = "```describe\n```\nmore\n";
        assert_eq!(with_block(empty, "new").as_deref(), Some("```describe\nnew\n```\nmore\n"));
        assert_eq!(with_block("# demo\n", "new"), None);
    }
}
