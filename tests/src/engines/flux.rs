//! The compiler of Flux: its parser, and the inference of types over its own library. It runs nothing.

use super::{node_modules, said, script};
use std::process::Command;

/// What the compiler finds wrong with each query.
///
/// # Panics
/// The compiler is missing.
#[must_use]
pub fn flux(queries: &[String]) -> Vec<Vec<String>> {
    let input = serde_json::to_string(queries).expect("texts");
    let mut node = Command::new("node");
    node.arg(script("compile_flux.mjs")).arg(node_modules());
    let found: Vec<Vec<String>> =
        serde_json::from_str(&said(&mut node, input)).expect("a list for each query");
    assert_eq!(found.len(), queries.len());
    found
}
