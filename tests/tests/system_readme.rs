//! What a tool's README says is what `collector describe` says.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

/// Names of a histogram's fields, in the notation of the READMEs.
const HISTOGRAM: [&str; 7] = ["count", "sum_", "max_", "p50_", "p90_", "p99_", "bucket_"];

/// What `describe` prints of a plugin: options, and tables with their tags and fields.
#[derive(Debug, Default)]
struct Described {
    options: Vec<String>,
    names: BTreeSet<String>,
    histogram: bool,
    words: BTreeSet<String>,
}

fn describe(plugin: &str) -> Described {
    let dist = std::env::var("COLLECTOR_DIST").expect("run this by `cargo xtask test`");
    let output = Command::new(format!("{dist}/collector"))
        .args(["--plugins", &format!("{dist}/plugins"), "describe", plugin])
        .output()
        .expect("the collector runs");
    let text = String::from_utf8(output.stdout).expect("text");
    assert!(output.status.success(), "{text}");
    let words = text.split(|c: char| !c.is_alphanumeric() && c != '_').map(str::to_owned).collect();
    let mut described = Described { words, ..Described::default() };
    let mut in_options = false;
    for line in text.lines() {
        if line.starts_with("options,") {
            in_options = true;
        } else if let Some(table) = line.strip_prefix("table ") {
            in_options = false;
            described.names.insert(table.split(':').next().unwrap_or_default().to_owned());
        } else if let Some(entry) = line.strip_prefix("  ") {
            let mut words = entry.split_whitespace();
            let name = words.next().unwrap_or_default().to_owned();
            if in_options {
                described.options.push(name);
            } else if words.next() == Some("histogram") {
                described.histogram = true;
            } else {
                described.names.insert(name);
            }
        }
    }
    described
}

/// Words in backticks.
fn quoted(text: &str) -> BTreeSet<String> {
    text.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

fn section<'a>(readme: &'a str, title: &str) -> &'a str {
    let (_, rest) =
        readme.split_once(&format!("## {title}\n")).unwrap_or_else(|| panic!("no {title}"));
    rest.split("\n## ").next().unwrap_or(rest)
}

fn check(plugin: &str, readme: &str) {
    let described = describe(plugin);
    let configuration = section(readme, "Configuration");
    for option in &described.options {
        let line = format!("\n{option} = ");
        assert!(configuration.contains(&line), "{plugin}: option `{option}` is not in its README");
    }
    let given = configuration.lines().filter_map(|line| line.split_once(" = "));
    for (option, _) in given {
        let known = described.options.iter().any(|known| known == option);
        assert!(known, "{plugin}: its README has an option `{option}` that it does not take");
    }

    let metrics = quoted(section(readme, "Metrics"));
    for name in &described.names {
        assert!(metrics.contains(name), "{plugin}: `{name}` is not in its README");
    }
    for quoted in &metrics {
        let of_histogram = HISTOGRAM.iter().any(|name| quoted.starts_with(name));
        let known = described.names.contains(quoted)
            || described.histogram && of_histogram
            || described.options.iter().any(|option| quoted.starts_with(&**option))
            || described.words.contains(quoted);
        assert!(known, "{plugin}: its README speaks of `{quoted}`, and describe does not");
    }
    for title in ["Requirements", "Example output"] {
        assert!(!section(readme, title).trim().is_empty());
    }
}

#[test]
fn readmes_say_what_describe_says() {
    let plugins =
        Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").join("plugins");
    let mut checked = 0;
    for folder in fs::read_dir(plugins).expect("plugins") {
        let folder = folder.expect("a folder").path();
        let name = folder.file_name().expect("a name").to_string_lossy().into_owned();
        check(&name, &fs::read_to_string(folder.join("README.md")).expect("its README"));
        checked += 1;
    }
    assert!(checked >= 3, "only {checked} plugins");
}
