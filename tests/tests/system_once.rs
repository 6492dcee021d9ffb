//! `collector once` with a real tool: its tables, and nothing about itself unless it is asked for.

use std::process::Command;

fn once(flags: &[&str]) -> String {
    let dist = std::env::var("COLLECTOR_DIST").expect("run this by `cargo xtask test`");
    let output = Command::new(format!("{dist}/collector"))
        .args(["--plugins", &format!("{dist}/plugins"), "once", "runqlat", "--interval", "300ms"])
        .args(flags)
        .output()
        .expect("the collector runs");
    let text = String::from_utf8(output.stdout).expect("text");
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

#[test]
fn once_shows_reports_when_they_are_wanted_or_something_is_wrong() {
    let text = once(&[]);
    assert!(text.contains("runqlat, ") && text.contains("usecs"), "{text}");
    // On a kernel that skipped a program its line says so.
    assert!(!text.contains("collector_") || text.contains("MISSED"), "{text}");
    assert!(once(&["--self", "full"]).contains("collector_program"));
    assert!(!once(&["--self", "off"]).contains("collector_"));
}
