//! A tool in an evening: the template builds, attaches, emits and passes its own test, unchanged; what is left to
//! its author is named.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use system_tests::tree::{Tree, printed, root};

#[test]
fn a_new_tool_passes_its_own_test_and_names_what_is_left_to_write() {
    let tree = Tree::copy();
    assert!(tree.cargo(&["xtask", "new", "demo"]).status.success());

    let folder = tree.path("plugins/demo");
    let files = ["Cargo.toml", "build.rs", "README.md", "src/lib.rs", "src/demo.bpf.c"];
    let lines: usize = files
        .iter()
        .map(|file| fs::read_to_string(folder.join(file)).expect(file).lines().count())
        .sum();
    let count = |folder: &Path| fs::read_dir(folder).expect("a folder").count();
    let all = count(&folder) - 2 + count(&folder.join("src")) + count(&folder.join("tests"));
    assert_eq!(all, 6, "six files, no more");
    assert!(lines <= 90, "{lines} lines, without the test");

    // All but the words are there.
    let output = tree.cargo(&["xtask", "test", "demo"]);
    let text = printed(&output);
    assert!(!output.status.success() && text.contains(" passed, 1 failed, 0 skipped"), "{text}");
    for place in
        ["Cargo.toml:3: description = \"TODO", "README.md:3: TODO", "src/lib.rs:1: //! TODO"]
    {
        assert!(text.contains(&format!("plugins/demo/{place}")), "{place}: {text}");
    }
    for file in files {
        let text = fs::read_to_string(folder.join(file)).expect(file);
        fs::write(folder.join(file), text.replace("TODO", "Done")).expect(file);
    }
    let output = tree.cargo(&["xtask", "test", "demo"]);
    let text = printed(&output);
    assert!(output.status.success() && text.contains(" passed, 0 failed, 0 skipped"), "{text}");
    println!("{lines} lines");

    compiles_only_what_changed(&tree);
}

/// The BPF program is compiled again for its header, and for nothing else.
fn compiles_only_what_changed(tree: &Tree) {
    let compiled = |name: &str| {
        let builds = fs::read_dir(root().join("target/debug/build")).expect("a target folder");
        let skeletons = builds.filter_map(|entry| {
            let out = entry.ok()?.path().join(format!("out/{name}.skel.rs"));
            fs::metadata(out).ok()?.modified().ok()
        });
        skeletons.max()
    };
    let build = || {
        let output = tree.cargo(&["build", "--package", "demo"]);
        assert!(output.status.success(), "{}", printed(&output));
    };
    for (changed, expected) in [
        ("plugins/demo/README.md", false),
        ("plugins/demo/src/lib.rs", false),
        ("plugin-bpf/bpf/coolbpf.h", false),
        ("plugin-bpf/bpf/unity.bpf.h", true),
        ("plugins/demo/src/demo.bpf.c", true),
    ] {
        let before = compiled("demo").expect("a skeleton of demo");
        let file = tree.path(changed);
        let text = fs::read_to_string(&file).expect(changed);
        fs::write(&file, format!("{text}\n")).expect(changed);
        build();
        let again = compiled("demo") > Some(before);
        assert_eq!(again, expected, "compiled again after a change of {changed}");
    }
    // A second program is seen without a change of build.rs.
    let before = compiled("second_demo"); // of an earlier run, in the same target folder
    let source = fs::read_to_string(tree.path("plugins/demo/src/demo.bpf.c")).expect("a program");
    fs::write(tree.path("plugins/demo/src/second_demo.bpf.c"), source).expect("a program");
    build();
    assert!(compiled("second_demo") > before);
}

/// It ran what lay in target/dist, however old. Here the newer tree cannot be built, which cargo sees in the manifest of a
/// plugin: before anything is compiled.
#[test]
fn a_machine_never_runs_an_old_tree() {
    let tree = Tree::copy();
    fs::create_dir_all(tree.path("target/dist")).expect("a folder");
    fs::write(tree.path("target/dist/collector"), "old").expect("a file");
    symlink(root().join(".cache"), tree.path(".cache")).expect("the kernels");
    let built = tree.cargo(&["build", "--package", "xtask"]);
    assert!(built.status.success(), "{}", printed(&built));
    tree.replace("plugins/runqlat/Cargo.toml", "[package]\n", "[package]\na newer tree\n");
    let mut xtask = Command::new(tree.path("target/debug/xtask"));
    // As cargo says it of a program that it runs; what runs this test may be another xtask.
    xtask.env("CARGO_MANIFEST_DIR", tree.path("xtask"));
    let output = xtask.args(["vm", "--kernel", "6.12", "--", "true"]).output().expect("it runs");
    let text = printed(&output);
    assert!(!output.status.success() && text.contains("a newer tree"), "{text}");
}
