//! What a cargo invocation made, from its JSON messages.

use crate::command;
use anyhow::{Context, Result};
use serde_json::Value;
use std::path::PathBuf;
use std::process::Command;

/// One compiled target of a workspace package.
pub struct Artifact {
    /// The package's folder.
    pub package: PathBuf,
    /// The target's name: `runqlat`, `kernel_exact`.
    pub target: String,
    /// The target's kinds as cargo names them: `bin`, `cdylib`, `test`...
    pub kinds: Vec<String>,
    /// Compiled with the test harness.
    pub test: bool,
    pub files: Vec<PathBuf>,
    pub executable: Option<PathBuf>,
}

/// What a cargo invocation made.
pub struct Made {
    pub artifacts: Vec<Artifact>,
    /// The package ids of those whose build script ran, now or earlier, with the folders of what it made.
    pub out_dirs: Vec<(String, PathBuf)>,
}

/// Runs a compiling cargo command; diagnostics go to standard error as usual.
pub fn made(cargo: &mut Command) -> Result<Made> {
    let messages = command::output(cargo.arg("--message-format=json-render-diagnostics"))?;
    let mut made = Made { artifacts: Vec::new(), out_dirs: Vec::new() };
    for line in messages.lines() {
        let message: Value = serde_json::from_str(line).context("reading cargo's JSON messages")?;
        if message["reason"] == "compiler-artifact" {
            let artifact = artifact(&message).context("cargo's artifact message lacks a field")?;
            made.artifacts.push(artifact);
        } else if message["reason"] == "build-script-executed" {
            let text = |key: &str| message[key].as_str().map(str::to_owned);
            let script = text("package_id").zip(text("out_dir").map(PathBuf::from));
            made.out_dirs.push(script.context("cargo's message on a build script lacks a field")?);
        }
    }
    Ok(made)
}

/// The artifacts alone.
pub fn of(cargo: &mut Command) -> Result<Vec<Artifact>> {
    Ok(made(cargo)?.artifacts)
}

fn artifact(message: &Value) -> Option<Artifact> {
    let texts = |list: &Value| -> Option<Vec<String>> {
        list.as_array()?.iter().map(|item| Some(item.as_str()?.to_owned())).collect()
    };
    Some(Artifact {
        package: PathBuf::from(message["manifest_path"].as_str()?).parent()?.to_owned(),
        target: message["target"]["name"].as_str()?.to_owned(),
        kinds: texts(&message["target"]["kind"])?,
        test: message["profile"]["test"].as_bool()?,
        files: texts(&message["filenames"])?.into_iter().map(PathBuf::from).collect(),
        executable: message["executable"].as_str().map(PathBuf::from),
    })
}
