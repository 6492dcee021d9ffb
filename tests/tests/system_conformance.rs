//! `collector check FILE.so` with the real tools: they pass every point, or the kernel cannot run them.

use std::process::Command;
use std::thread;

/// Tools of different kinds: a table and events, histograms by CPU and by name, uprobes with threads of their own.
const TOOLS: [&str; 6] =
    ["bootstrap", "runqlat", "softirqs", "execsnoop", "profile", "bashreadline"];

/// Again when a call was too long: a machine that stands still is no fault of the tool.
fn check(file: &str) -> (Option<i32>, String) {
    let (code, said) = check_once(file);
    let late = said.lines().any(|row| row.starts_with("deadline ") && row.contains(" fails "));
    if late { check_once(file) } else { (code, said) }
}

fn check_once(file: &str) -> (Option<i32>, String) {
    let dist = std::env::var("COLLECTOR_DIST").expect("run this by `cargo xtask test`");
    let file = format!("{dist}/plugins/lib{file}.so");
    let collector = format!("{dist}/collector");
    let output =
        Command::new(collector).args(["check", "--wide", &file]).output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    (output.status.code(), said.into_owned())
}

/// The text of a point that is well.
fn ok<'a>(said: &'a str, point: &str) -> &'a str {
    let row = said.lines().find_map(|row| row.strip_prefix(&format!("{point}  ")));
    let row = row.unwrap_or_else(|| panic!("no point {point}: {said}")).trim_start();
    row.strip_prefix("ok").unwrap_or_else(|| panic!("{point}: {said}")).trim_start()
}

#[test]
fn the_tools_are_sound() {
    thread::scope(|scope| {
        for tool in TOOLS {
            scope.spawn(move || {
                let (code, said) = check(tool);
                assert_eq!(code, Some(0), "{tool}: {said}");
                assert!(ok(&said, "init").contains("attached: "), "{said}");
                assert!(!ok(&said, "left behind").contains(" 0 programs"), "{said}");
                assert!(ok(&said, "cost").contains(" maps of "), "{said}");
                println!("{tool}: {}", ok(&said, "cost"));
            });
        }
    });
}

#[test]
fn programs_are_measured_while_they_are_checked() {
    let (_, said) = check("runqlat");
    let cost = ok(&said, "cost");
    assert!(
        cost.contains("switch_") && cost.contains(" ns (") && cost.contains(" runs)"),
        "{said}"
    );
}

#[test]
fn what_a_kernel_cannot_run_fails_at_its_start_with_the_reason() {
    let (code, said) = check("bpfsample");
    if code == Some(0) {
        return println!("SKIPPED: this kernel has kprobes");
    }
    assert_eq!(code, Some(1), "{said}");
    let row = said.lines().find(|row| row.starts_with("init ")).expect("a row");
    assert!(
        row.contains("fails") && row.contains("no way to observe `shows` works here"),
        "{said}"
    );
    assert!(said.contains("\ncost          not run"), "{said}");
}
