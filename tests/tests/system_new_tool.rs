//! A tool in an evening: the template builds, attaches, emits and passes its own test, unchanged.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn run(folder: &Path, program: &str, args: &[&str]) -> String {
    let root = root();
    let output = Command::new(program)
        .args(args)
        .current_dir(folder)
        .env("CARGO_TARGET_DIR", root.join("target"))
        .output()
        .expect("it runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {args:?}\n{text}\n{errors}");
    text
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").to_owned()
}

#[test]
fn a_new_tool_passes_its_own_test_unchanged() {
    let copy = root().join("target/new-tool");
    let _ = fs::remove_dir_all(&copy);
    let files = run(&root(), "git", &["ls-files", "--cached", "--others", "--exclude-standard"]);
    for file in files.lines().filter(|file| root().join(file).is_file()) {
        let to = copy.join(file);
        fs::create_dir_all(to.parent().expect("a folder")).expect("a folder");
        fs::copy(root().join(file), to).expect("a copy");
    }
    run(&copy, "cargo", &["xtask", "new", "demo"]);

    let folder = copy.join("plugins/demo");
    let files = ["Cargo.toml", "build.rs", "README.md", "src/lib.rs", "src/demo.bpf.c"];
    let lines: usize = files
        .iter()
        .map(|file| fs::read_to_string(folder.join(file)).expect(file).lines().count())
        .sum();
    let count = |folder: &Path| fs::read_dir(folder).expect("a folder").count();
    let all = count(&folder) - 2 + count(&folder.join("src")) + count(&folder.join("tests"));
    assert_eq!(all, 6, "six files, no more");
    assert!(lines <= 90, "{lines} lines, without the test");

    let text = run(&copy, "cargo", &["xtask", "test", "demo"]);
    let closing = text.lines().last().unwrap_or_default();
    println!("{lines} lines; {closing}");

    // The BPF program is compiled again for its header, and for nothing else.
    let compiled = || {
        let builds = fs::read_dir(root().join("target/debug/build")).expect("a target folder");
        let skeletons = builds.filter_map(|entry| {
            let out = entry.ok()?.path().join("out/demo.skel.rs");
            fs::metadata(out).ok()?.modified().ok()
        });
        skeletons.max().expect("a skeleton of demo")
    };
    let rebuild = |changed: &str| {
        let before = compiled();
        let file = copy.join(changed);
        let text = fs::read_to_string(&file).expect(changed);
        fs::write(&file, format!("{text}\n")).expect(changed);
        run(&copy, "cargo", &["build", "--package", "demo"]);
        compiled() > before
    };
    for (changed, expected) in [
        ("plugins/demo/README.md", false),
        ("plugins/demo/src/lib.rs", false),
        ("plugin-bpf/bpf/coolbpf.h", false),
        ("plugin-bpf/bpf/unity.bpf.h", true),
        ("plugins/demo/src/demo.bpf.c", true),
    ] {
        assert_eq!(rebuild(changed), expected, "compiled again after a change of {changed}");
    }
    assert!(!closing.starts_with("0 passed") && closing.contains("0 failed"), "{text}");
    let _ = fs::remove_dir_all(&copy);
}
