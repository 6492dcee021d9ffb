//! What all misuses cost a plugin beside them.

use super::build;
use super::misuse::{CASES, OTHER_CASES};
use crate::process::{folder, run};
use std::path::Path;
use tempfile::TempDir;

/// A configuration's file of a folder.
fn config(dir: &Path, text: &str) -> String {
    let path = dir.join("c.toml");
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

/// A folder with `good` and a C plugin for each misuse that is no crash.
fn all_misuses() -> TempDir {
    let plugins = folder(&["good"]);
    for fault in
        CASES.iter().map(|case| case.0).chain(OTHER_CASES).chain(["init_negative", "init_positive"])
    {
        build(plugins.path(), fault, "faults.c", &[&format!("FAULT={fault}")]);
    }
    build(plugins.path(), "push", "push.c", &["PAUSE_US=1000"]);
    plugins
}

#[test]
fn beside_all_misuses_for_a_thousand_ticks_the_books_of_a_rust_plugin_stay_exact() {
    let plugins = all_misuses();
    let text =
        "[plugin.num_over_limit]\ninterval = \"1s\"\n[plugin.log_too_long]\ninterval = \"100ms\"\n";
    let text = config(plugins.path(), text);
    let args = ["--interval", "10ms", "--ticks", "1000", "--config", &text];
    let ended = run(plugins.path(), &args);
    assert_eq!(ended.code, Some(3), "{}", ended.stderr);
    let calls: Vec<u64> = ended.table("good").map(|line| line.u64("calls")).collect();
    let expected: Vec<u64> = (1..=calls.len() as u64).collect();
    assert_eq!(calls, expected, "each call's line once, in order");
    assert_eq!(calls.len() as u64 + ended.sum("good", "ticks_missed"), 1000);
    assert_eq!(ended.sum("good", "calls"), calls.len() as u64);
    let rows = (calls.len() + ended.table("good_wait").count()) as u64;
    assert_eq!(ended.sum("good", "lines"), rows);
    // The last report may be made before the last lines are out.
    let waiting = ended.about("good").last().unwrap().u64("lines_waiting");
    assert_eq!(ended.sum("good", "lines_delivered") + waiting, rows);
    for zero in [
        "errors",
        "dropped_full",
        "dropped_invalid",
        "dropped_closed",
        "dropped_duplicate",
        "lines_dropped",
    ] {
        assert_eq!(ended.sum("good", zero), 0, "{zero}");
    }
    // And those of the C plugins: a misuse in each call.
    for (case, counted, ..) in CASES {
        let sum = |field: &str| -> u64 {
            let reports = ended.table("collector_c_plugin");
            let reports = reports.filter(|line| line.tag("plugin") == case);
            reports.filter(|line| line.get(field).is_some()).map(|line| line.u64(field)).sum()
        };
        let calls = ended.sum(case, "calls");
        assert!(calls > 0, "{case}");
        for (field, per_call) in counted {
            assert_eq!(sum(field), per_call * calls, "{case}: {field}");
        }
        let dropped = ["full", "invalid", "closed", "duplicate", "series"];
        let dropped: u64 =
            dropped.iter().map(|cause| ended.sum(case, &format!("dropped_{cause}"))).sum();
        assert_eq!(
            sum("lines_called"),
            ended.sum(case, "lines") - calls + dropped,
            "{case}: less the reports"
        );
    }
}
