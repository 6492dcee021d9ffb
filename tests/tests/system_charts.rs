//! The chart and the manifest: Helm renders one from the other, and the schemas of Kubernetes take them.

use std::path::Path;
use std::process::Command;

#[test]
fn helm_and_kubernetes_schemas_take_the_chart_and_the_manifest() {
    let packages = std::env::var_os("COLLECTOR_CHARTS");
    let packages = packages.expect("COLLECTOR_CHARTS: run this by `cargo xtask test`");
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut python = Command::new("python3");
    python.arg(tests.join("charts.py")).arg(tests.join("../etc")).env("PYTHONPATH", packages);
    // It leaves nothing behind.
    let output = python.env("PYTHONDONTWRITEBYTECODE", "1").output().expect("python3 runs");
    let said = String::from_utf8_lossy(&output.stdout);
    let wrong = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}{wrong}");
    println!("TABLE: {}", said.trim());
    let chart = include_str!("../../etc/helm/collector/Chart.yaml");
    for key in ["version: ", "appVersion: "] {
        let mut versions = chart.lines().filter_map(|line| line.strip_prefix(key));
        let version = versions.next().expect("it is there").trim_matches('"');
        assert_eq!(version, env!("CARGO_PKG_VERSION"), "{key}of the chart");
    }
}
