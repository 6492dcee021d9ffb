//! What a tool's README says is what `collector describe` says.

use std::fs;
use std::path::Path;
use std::process::Command;

fn describe(plugin: &str) -> String {
    let dist = std::env::var("COLLECTOR_DIST").expect("run this by `cargo xtask test`");
    let output = Command::new(format!("{dist}/collector"))
        .args(["--plugins", &format!("{dist}/plugins"), "describe", plugin])
        .output()
        .expect("the collector runs");
    let text = String::from_utf8(output.stdout).expect("text");
    assert!(output.status.success(), "{text}");
    text
}

fn section<'a>(readme: &'a str, title: &str) -> &'a str {
    let (_, rest) =
        readme.split_once(&format!("## {title}\n")).unwrap_or_else(|| panic!("no {title}"));
    rest.split("\n## ").next().unwrap_or(rest)
}

/// Options, tables, fields and the line of text are written once, in the source.
#[test]
fn readmes_say_what_describe_says() {
    let plugins =
        Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").join("plugins");
    let mut checked = 0;
    for folder in fs::read_dir(plugins).expect("plugins") {
        let folder = folder.expect("a folder").path();
        if !folder.join("Cargo.toml").exists() {
            continue; // in C, which describes nothing
        }
        let name = folder.file_name().expect("a name").to_string_lossy().into_owned();
        let readme = fs::read_to_string(folder.join("README.md")).expect("its README");
        let block =
            readme.split_once("```describe\n").and_then(|(_, rest)| rest.split_once("```\n"));
        let (block, _) = block.unwrap_or_else(|| panic!("{name}: no block ```describe"));
        let how =
            format!("plugins/{name}/README.md is of another version: cargo xtask readme {name}");
        assert_eq!(block.trim_end(), describe(&name).trim_end(), "{how}");
        for title in ["Requirements", "Example output"] {
            assert!(!section(&readme, title).trim().is_empty(), "{name}: {title}");
        }
        checked += 1;
    }
    assert!(checked >= 3, "only {checked} plugins");
}
