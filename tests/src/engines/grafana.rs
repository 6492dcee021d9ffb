//! Grafana's own types of dashboards and panels (`@grafana/schema`), checked by TypeScript's compiler: each
//! dashboard is written as a literal, in which a key that Grafana does not know is an error too.

use super::node_modules;
use serde_json::Value as Json;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

const TYPES: &str = include_str!("grafana.ts");

/// What is wrong with dashboards, in the compiler's words; empty when nothing is.
///
/// # Panics
/// The compiler is missing.
#[must_use]
pub fn grafana(dashboards: &[Json]) -> String {
    let folder = tempfile::tempdir().expect("a folder");
    symlink(node_modules(), folder.path().join("node_modules")).expect("a link");
    let mut text = TYPES.to_owned();
    for (at, dashboard) in dashboards.iter().enumerate() {
        let _ = writeln!(text, "export const dashboard{at}: Plain<Dashboard> = {dashboard:#};");
    }
    // Many are alike.
    for (at, (of, part)) in parts(dashboards).iter().enumerate() {
        let _ = writeln!(text, "export const part{at}: Plain<{of}> = {part};");
    }
    fs::write(folder.path().join("check.ts"), text).expect("a file");
    let mut node = Command::new("node");
    node.arg(node_modules().join("typescript/bin/tsc"));
    node.args(["--noEmit", "--strict", "--skipLibCheck", "--target", "es2022"]);
    node.args(["--module", "esnext", "--moduleResolution", "bundler", "check.ts"]);
    let output = node.current_dir(folder.path()).output().expect("node");
    let said = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.success(), said.trim().is_empty(), "{said}");
    said
}

/// What a dashboard's type leaves open, by the types that the panels' kinds have for it. Those of data sources' queries are in no package.
fn parts(dashboards: &[Json]) -> BTreeSet<(&'static str, String)> {
    let list = |json: &Json| json.as_array().cloned().unwrap_or_default();
    let mut parts = BTreeSet::new();
    let panels = dashboards.iter().flat_map(|dashboard| list(&dashboard["panels"]));
    for panel in panels.filter(|panel| panel["type"] != "row") {
        let (options, fields) = match panel["type"].as_str() {
            Some("timeseries") => ("TimeSeriesOptions", Some("TimeSeriesFieldConfig")),
            Some("heatmap") => ("HeatmapOptions", None),
            Some("table") => ("TableOptions", None),
            _ => panic!("a panel of a kind that is not checked: {panel}"),
        };
        parts.insert((options, panel["options"].to_string()));
        if let Some(fields) = fields {
            parts.insert((fields, panel["fieldConfig"]["defaults"]["custom"].to_string()));
        }
    }
    parts
}
