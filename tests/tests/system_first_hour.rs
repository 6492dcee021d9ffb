//! The first hour of a new user is a script, and it works on the tree as it is.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

/// Runs `tests/first_hour.sh`; with an install tree of its own, if there is one.
fn first_hour(dist: Option<&Path>) -> Output {
    let mut script = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("first_hour.sh"));
    for variable in ["COLLECTOR_DIST", "COLLECTOR_SERVERS"] {
        assert!(std::env::var_os(variable).is_some(), "{variable}: run this by `cargo xtask test`");
    }
    script.envs(dist.map(|dist| ("COLLECTOR_DIST", dist)));
    script.output().expect("the script runs")
}

#[test]
fn the_first_hour_goes_well() {
    let Output { status, stdout, stderr } = first_hour(None);
    let (said, wrong) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    println!("{said}");
    assert!(status.success(), "{status}\n{said}{wrong}");
    assert!(said.ends_with("first_hour: all answers are right\n"), "{said}{wrong}");
}

/// A collector that answers nothing, and one that fails.
#[test]
fn the_first_wrong_answer_ends_it() {
    let dist = tempfile::tempdir().expect("a folder");
    let collector = dist.path().join("collector");
    for (script, expected) in [("exit 0", "no `plugin runqlat +ok`"), ("exit 1", "exit code 1 of")]
    {
        fs::write(&collector, format!("#!/bin/sh\n{script}\n")).expect("a script");
        fs::set_permissions(&collector, fs::Permissions::from_mode(0o755)).expect("its mode");
        let Output { status, stderr, .. } = first_hour(Some(dist.path()));
        let wrong = String::from_utf8_lossy(&stderr);
        assert_eq!(status.code(), Some(1), "{wrong}");
        assert!(wrong.contains(expected), "{wrong}");
    }
}
