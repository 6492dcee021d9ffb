//! The promise of plugin-api 1.x: a plugin built against 1.0.0 runs in every later collector.

use crate::process::run;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

/// `fixtures/libgood-1.0.0.x86_64.so` is examples/good.rs, built (release) against plugin-api 1.0.0, and
/// never built again within 1.x.
#[test]
fn a_plugin_built_against_1_0_0_runs_in_this_collector() {
    if !cfg!(target_arch = "x86_64") {
        return println!("SKIPPED: the kept plugin is for x86-64");
    }
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/libgood-1.0.0.x86_64.so");
    let dir = tempfile::tempdir().unwrap();
    let plugin = dir.path().join("libgood.so");
    fs::copy(kept, &plugin).unwrap();
    fs::set_permissions(&plugin, fs::Permissions::from_mode(0o755)).unwrap();
    let ended = run(dir.path(), &["--interval", "100ms", "--ticks", "3"]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let calls: Vec<u64> = ended.table("good").map(|line| line.u64("calls")).collect();
    assert!(calls.iter().copied().eq(1..=calls.len() as u64), "{calls:?}");
    assert_eq!(ended.ticks("good"), 3, "{}", ended.stderr);
    // Its buckets had other names then.
    let wait = ended.table("good_wait").next().expect("a histogram");
    let buckets: Vec<&str> =
        wait.fields.keys().map(|key| &**key).filter(|key| key.starts_with("bucket_")).collect();
    assert!(!buckets.is_empty(), "{wait:?}");
    assert!(!wait.fields.keys().any(|key| key.starts_with("lt_") || key == "inf"), "{wait:?}");
}
