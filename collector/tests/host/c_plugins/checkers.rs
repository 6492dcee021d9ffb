//! Each misuse under what finds a wrong access to memory, and for so long that a leak would show.

use super::misuse::{CASES, OTHER_CASES};
use super::{build, build_with};
use crate::process::example;
use std::path::{Path, PathBuf};
use std::process::Command;

/// All plugins of these tests that need no thread, with numbers of ticks.
fn all_for_checkers(dir: &Path, ticks: impl Fn(&str) -> u64, flags: &[&str]) -> Vec<String> {
    let faults = CASES.iter().map(|case| case.0).chain(OTHER_CASES);
    let faults = faults.chain(["init_negative", "init_positive"]).map(|fault| {
        (fault, build_with(dir, fault, "faults.c", &[&format!("FAULT={fault}")], flags))
    });
    let limits = ("limits", build_with(dir, "limits", "limits.c", &[], flags));
    let word = |(name, file): (&str, PathBuf)| format!("{}:{}", ticks(name), file.display());
    faults.chain([limits]).map(word).collect()
}

/// The example, an executable.
fn c_ticks() -> PathBuf {
    example("good").with_file_name("c_ticks")
}

#[test]
fn ten_thousand_ticks_leak_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let ticks = |name: &str| match name {
        "limits" => 200,
        "num_over_limit" => 500,
        _ => 10_000,
    };
    let words = all_for_checkers(dir.path(), ticks, &[]);
    let out = Command::new(c_ticks()).args(&words).output().unwrap();
    let text = String::from_utf8_lossy(&out.stdout);
    assert!(out.status.success(), "{text}{}", String::from_utf8_lossy(&out.stderr));
    let mut seen = 0;
    for line in text.lines().filter(|line| line.contains(" after")) {
        let numbers: Vec<usize> = line.split(' ').filter_map(|word| word.parse().ok()).collect();
        let [_, before, after] = numbers[..] else { panic!("{line}") };
        // An array of a line takes a kilobyte, thousands of times.
        assert!(after < before + 100_000, "{line}");
        seen += 1;
    }
    assert_eq!(seen, words.len() - 2, "{text}");
}

#[test]
fn valgrind_finds_no_error() {
    if Command::new("valgrind").arg("--version").output().is_err() {
        return println!("SKIPPED: no valgrind here; `cargo xtask deps` installs it");
    }
    let dir = tempfile::tempdir().unwrap();
    let ticks = |name: &str| if ["limits", "num_over_limit"].contains(&name) { 1 } else { 20 };
    let mut words = all_for_checkers(dir.path(), ticks, &[]);
    let push = build(dir.path(), "push", "push.c", &["PAUSE_US=2000"]);
    words.push(format!("300:{}", push.display()));
    let out = Command::new("valgrind")
        .args(["--quiet", "--error-exitcode=99", "--leak-check=full"])
        .args(["--errors-for-leak-kinds=definite", "--show-leak-kinds=definite"])
        .arg(c_ticks())
        .args(words)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&out.stderr);
    let found: Vec<&str> = said.lines().filter(|line| line.starts_with("==")).collect();
    assert!(out.status.success() && found.is_empty(), "{:?}\n{}", out.status, found.join("\n"));
}

#[test]
fn address_sanitizer_finds_no_error() {
    let library = Command::new("cc").arg("-print-file-name=libasan.so").output().unwrap();
    let library = PathBuf::from(String::from_utf8(library.stdout).unwrap().trim());
    if !library.is_absolute() {
        return println!("SKIPPED: this compiler has no AddressSanitizer");
    }
    let dir = tempfile::tempdir().unwrap();
    let ticks = |name: &str| if ["limits", "num_over_limit"].contains(&name) { 20 } else { 1000 };
    let flags = ["-fsanitize=address"];
    let mut words = all_for_checkers(dir.path(), ticks, &flags);
    let push = build_with(dir.path(), "push", "push.c", &["PAUSE_US=10"], &flags);
    words.push(format!("300:{}", push.display()));
    let out = Command::new(c_ticks())
        .args(words)
        .env("LD_PRELOAD", library)
        .env("ASAN_OPTIONS", "detect_leaks=1:exitcode=99:allocator_may_return_null=1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&out.stderr);
    let found = said.find("ERROR").map_or("", |at| &said[at..said.len().min(at + 4000)]);
    assert!(out.status.success(), "{:?}: {found}", out.status);
}
