//! `fuzz`: a target of the folder fuzz, built with coverage and run for a while.

use crate::deps::{self, Need};
use crate::{artifacts, command, workspace};
use anyhow::{Context, Result, bail};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

#[derive(clap::Args)]
pub struct Args {
    /// A file of fuzz/fuzz_targets, without its .rs; or all
    target: String,
    /// For how long
    #[arg(default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..))]
    seconds: u32,
    /// What libFuzzer gets: its flags, or files to run instead of new inputs
    #[arg(last = true)]
    flags: Vec<String>,
}

/// What `cargo fuzz build --sanitizer none` sets; all of it works with a stable compiler. The traces of
/// compares are left out: texts are compared byte by byte here, and they halve the speed.
const COVERAGE: [&str; 7] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-simplifycfg-branch-fold-threshold=0",
    "-Ccodegen-units=1",
    "--cfg=fuzzing",
];

/// Builds and runs. What was learned and what failed stays in .cache/fuzz/TARGET.
pub fn verb(args: &Args) -> Result<()> {
    let targets = targets(&args.target)?;
    deps::ensure(Need::Build)?;
    for target in targets {
        fuzz(&target, args)?;
    }
    Ok(())
}

fn fuzz(target: &str, args: &Args) -> Result<()> {
    let executable = build(target)?;
    let cache = workspace::root().join(".cache/fuzz").join(target);
    let (corpus, failures) = (cache.join("corpus"), cache.join("failures"));
    for folder in [&corpus, &failures] {
        fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    }
    let mut fuzzer = Command::new(executable);
    fuzzer.arg(format!("-max_total_time={}", args.seconds));
    fuzzer.arg(format!("-artifact_prefix={}/", failures.display()));
    // What a C plugin's sink keeps for good adds up over millions of plugins.
    fuzzer.args(["-timeout=10", "-rss_limit_mb=6144", "-print_final_stats=1"]).args(&args.flags);
    if args.flags.iter().all(|flag| flag.starts_with('-')) {
        fuzzer.arg(corpus);
    }
    command::run(&mut fuzzer).with_context(|| {
        format!(
            "an input failed; see it again with `cargo xtask fuzz {target} -- FILE`, FILE in {}",
            failures.display()
        )
    })
}

/// Those that are meant.
fn targets(target: &str) -> Result<Vec<String>> {
    let files = workspace::list(&workspace::root().join("fuzz/fuzz_targets"))?;
    let known: Vec<String> = files.iter().map(|file| name(file)).collect();
    if target == "all" {
        return Ok(known);
    }
    if !known.iter().any(|name| name == target) {
        bail!(
            "there is no {target}.rs in fuzz/fuzz_targets; the targets are: {}",
            known.join(", ")
        );
    }
    Ok(vec![target.to_owned()])
}

/// `line` of `fuzz/fuzz_targets/line.rs`.
fn name(file: &Path) -> String {
    file.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

fn build(target: &str) -> Result<PathBuf> {
    let mut cargo = command::cargo();
    cargo.args(["build", "--release", "--manifest-path", "fuzz/Cargo.toml", "--bin", target]);
    // A target of its own, though it is this machine's: build scripts and macros get no coverage.
    cargo.args(["--target", "host-tuple"]);
    cargo.arg("--target-dir").arg(workspace::root().join("target/fuzz"));
    cargo.env("CARGO_ENCODED_RUSTFLAGS", COVERAGE.join("\u{1f}"));
    if std::env::var_os("CXX").is_none() {
        cargo.env("CXX", "clang++"); // of the package clang, which is there
    }
    let built = artifacts::of(&mut cargo)?
        .into_iter()
        .filter(|artifact| artifact.target == target)
        .find_map(|artifact| artifact.executable);
    built.with_context(|| format!("cargo built no executable {target}"))
}
