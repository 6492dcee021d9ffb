//! What others wrote: the Rust that it needs, and what `cargo deny` says of it. And what others write against.

use super::stage::Stage;
use crate::api::{self, Verdict};
use crate::{command, tools};
use anyhow::{Context, Result, bail};
use serde_json::Value;

/// Says so where the database of advisories cannot be had.
const NO_DATABASE: &str = "the database of advisories cannot be fetched here";

pub fn stage() -> Stage {
    let mut stage = Stage::begin("dependencies");
    stage.check("no dependency needs a newer Rust than we do", rust_versions());
    let same = stage.check("plugin-api offers what it did", api::check());
    if same == Some(Verdict::Unreadable) {
        stage.skip("plugin-api offers what it did", &api::unreadable());
    }
    let Some(deny) = stage.check("cargo-deny", tools::cargo_deny()) else { return stage.end() };
    let check = |what: &[&str]| {
        let mut cargo_deny = std::process::Command::new(&deny);
        cargo_deny.current_dir(crate::workspace::root());
        cargo_deny.args(["--workspace", "--locked", "check", "--hide-inclusion-graph"]).args(what);
        cargo_deny
    };
    let what = "licences, duplicates and sources";
    stage.check(what, command::run(&mut check(&["licenses", "bans", "sources"])));
    match check(&["advisories"]).output() {
        Ok(output) if output.status.success() => _ = stage.check("advisories", Ok(())),
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr);
            if said.contains("failed to fetch advisory database") {
                stage.skip("advisories", NO_DATABASE);
            } else {
                stage.fail("advisories", &said);
            }
        }
        Err(why) => stage.fail("advisories", &why.to_string()),
    }
    stage.end()
}

fn rust_versions() -> Result<()> {
    let mut metadata = command::cargo();
    metadata.args(["metadata", "--format-version", "1", "--locked"]);
    let metadata: Value = serde_json::from_str(&command::output(&mut metadata)?)?;
    let newer = newer(&metadata).context("cargo's metadata lack a field")?;
    if newer.is_empty() {
        return Ok(());
    }
    bail!("newer than our rust-version: {}", newer.join(", "))
}

/// Packages that need a newer Rust than xtask, whose version is the workspace's.
fn newer(metadata: &Value) -> Option<Vec<String>> {
    let packages = metadata["packages"].as_array()?;
    let ours = packages.iter().find(|package| package["name"] == "xtask")?;
    let ours = numbers(ours["rust_version"].as_str()?);
    let name = |package: &Value, version: &str| {
        format!("{} {} needs {version}", package["name"], package["version"]).replace('"', "")
    };
    let needs = packages.iter().filter_map(|package| {
        let version = package["rust_version"].as_str()?;
        (numbers(version) > ours).then(|| name(package, version))
    });
    Some(needs.collect())
}

/// `1.85` is as old as `1.85.0`.
fn numbers(version: &str) -> [u32; 3] {
    let mut numbers = version.split('.').map(|part| part.parse().unwrap_or_default());
    [(); 3].map(|()| numbers.next().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_dependency_that_needs_a_newer_rust_is_named() {
        let package = |name: &str, rust: Value| json!({"name": name, "version": "1.2.3", "rust_version": rust});
        let all = json!({"packages": [
            package("xtask", json!("1.95")),
            package("same", json!("1.95.0")),
            package("old", json!("1.9")),
            package("silent", Value::Null),
            package("new", json!("1.95.1")),
            package("newer", json!("2.0")),
        ]});
        let expected = ["new 1.2.3 needs 1.95.1", "newer 1.2.3 needs 2.0"];
        assert_eq!(newer(&all).unwrap(), expected);
        assert_eq!(newer(&json!({"packages": []})), None);
    }
}
