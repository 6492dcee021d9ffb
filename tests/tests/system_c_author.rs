//! The author of a C plugin, who has an install tree and no checkout.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use system_tests::tree::{Tree, printed};

fn dist() -> PathBuf {
    std::env::var_os("COLLECTOR_DIST").expect("run this by `cargo xtask test`").into()
}

/// A copy of a folder, without what was made there.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_file() {
            fs::copy(&path, to.join(path.file_name().expect("a name"))).expect("a copy");
        }
    }
}

fn make(folder: &Path, words: &[&str]) -> Output {
    let mut make = Command::new("make");
    // Nothing but the tree tells where the headers are.
    make.env_remove("COLLECTOR_DIST").env_remove("MAKEFLAGS").arg("-C").arg(folder).args(words);
    make.output().expect("make")
}

fn sources(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("c/plugin").join(name)
}

/// Libraries that a file names.
fn needed(so: &Path) -> Vec<String> {
    let output = Command::new("objdump").arg("-p").arg(so).output().expect("objdump");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let lines = text.lines().filter_map(|line| line.trim().strip_prefix("NEEDED"));
    lines.map(|name| name.trim().to_owned()).collect()
}

#[test]
fn unmodified_sources_become_a_library_in_an_empty_folder() {
    let folder = tempfile::tempdir().expect("a folder");
    let tree = folder.path().join("plugin");
    fs::create_dir(&tree).expect("a folder");
    fs::copy(dist().join("etc/bpfso.mk"), tree.join("bpfso.mk")).expect("a copy");
    for name in ["bpfsample", "perf_events", "ownmacros", "hist", "threads"] {
        copy(&sources(name), &tree.join(name));
        let output = make(&tree.join(name), &[]);
        let text = printed(&output);
        assert!(output.status.success(), "{name}: {text}");
        assert!(!text.contains("warning"), "{name}: {text}");
        let so = tree.join(name).join(format!("lib{name}.so"));
        let needed = needed(&so);
        let known = ["libelf.so.1", "libz.so.1", "libc.so.6", "ld-linux-x86-64.so.2"];
        assert!(
            needed.iter().all(|library| known.contains(&library.as_str())),
            "{name}: {needed:?}"
        );
        if name == "threads" {
            assert_eq!(needed, ["libc.so.6"], "no BPF, no libelf");
        }
        // A second make has nothing to do, and `find ./ -type d` does not find what was made.
        let again = printed(&make(&tree.join(name), &[]));
        assert!(again.contains("Nothing to be done"), "{name}: {again}");
        let cleaned = make(&tree.join(name), &["clean"]);
        assert!(cleaned.status.success() && !so.exists());
    }
}

#[test]
fn mistakes_in_building_say_what_to_do() {
    let folder = tempfile::tempdir().expect("a folder");
    let tree = folder.path();
    fs::copy(dist().join("etc/bpfso.mk"), tree.join("bpfso.mk")).expect("a copy");
    copy(&sources("hist"), &tree.join("hist"));
    let text = printed(&make(&tree.join("hist"), &["BPFTOOL=/no/bpftool"]));
    assert!(
        text.contains("bpftool makes the skeleton") && text.contains("apt install bpftool"),
        "{text}"
    );
    assert!(!tree.join("hist/.build/hist.skel.h").exists());

    // A copy that knows no install tree, where there is none.
    let text = fs::read_to_string(tree.join("bpfso.mk")).expect("text");
    let home =
        text.lines().find(|line| line.starts_with("bpfso_home :=")).expect("a line").to_owned();
    assert!(home.len() > "bpfso_home := ".len(), "the installed one knows its place");
    fs::write(tree.join("bpfso.mk"), text.replace(&home, "bpfso_home :=")).expect("written");
    let output = Command::new("make")
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .arg("-C")
        .arg(tree.join("hist"))
        .output();
    let text = printed(&output.expect("make"));
    assert!(text.contains("Set COLLECTOR_DIST to its install tree"), "{text}");
}

#[test]
fn a_new_plugin_builds_as_it_is() {
    let folder = tempfile::tempdir().expect("a folder");
    let bpfso = dist().join("etc/bpfso.mk");
    let new = |name: &str| {
        let mut make = Command::new("make");
        let name = format!("NAME={name}");
        make.arg("-f")
            .arg(&bpfso)
            .arg("new")
            .arg(name)
            .current_dir(folder.path())
            .output()
            .expect("make")
    };
    assert!(new("demo").status.success());
    let output = make(&folder.path().join("demo"), &["CFLAGS=-Wextra -Werror", "BPFFLAGS=-Werror"]);
    assert!(output.status.success(), "{}", printed(&output));
    assert!(folder.path().join("demo/libdemo.so").exists());
    for (name, says) in
        [("demo", "exists already"), ("De-mo", "is no plugin name"), ("", "is no plugin name")]
    {
        let output = new(name);
        let text = printed(&output);
        assert!(!output.status.success() && text.contains(says), "{name}: {text}");
    }
}

/// Whoever unpacks the tree somewhere else starts plugins that build with what is there.
#[test]
fn a_new_plugin_of_a_copied_tree_builds_with_that_tree() {
    let folder = tempfile::tempdir().expect("a folder");
    let tree = folder.path().join("opt/collector");
    fs::create_dir_all(&tree).expect("a folder");
    for part in ["etc", "include", "lib", "share"] {
        let copied = Command::new("cp").arg("-a").arg(dist().join(part)).arg(&tree).status();
        assert!(copied.expect("cp").success());
    }
    let new =
        Command::new(tree.join("share/new.sh")).arg("demo").current_dir(folder.path()).output();
    let new = new.expect("new.sh");
    assert!(new.status.success(), "{}", printed(&new));
    let bpfso = fs::read_to_string(folder.path().join("bpfso.mk")).expect("text");
    assert!(bpfso.contains(&format!("bpfso_home := {}\n", tree.display())), "{bpfso}");
    let built = make(&folder.path().join("demo"), &[]);
    assert!(built.status.success(), "{}", printed(&built));
    // Without the tree it cannot be built, so it was that one.
    fs::remove_dir_all(&tree).expect("removed");
    assert!(!make(&folder.path().join("demo"), &["-B"]).status.success());
}

/// Each header alone, with all warnings, in C and in C++.
#[test]
fn headers_compile_without_a_warning_in_c_and_in_cpp() {
    let folder = tempfile::tempdir().expect("a folder");
    let headers =
        ["unity.h", "plugin_head.h", "proto_sender.h", "beeQ.h", "bpf_head.h", "coolbpf.h"];
    let headers = headers.into_iter().chain([
        "unity_host.h",
        "unity_exact.h",
        "unity_object.h",
        "sched_jit.h",
    ]);
    for header in headers {
        for (compiler, file, flags) in [
            ("cc", "a.c", &["-std=gnu11", "-Wstrict-prototypes"][..]),
            ("cc", "a.c", &["-std=gnu11", "-DCOOLBPF_PERF_THREAD"]),
            ("clang", "a.c", &["-std=gnu11"]),
            ("c++", "a.cpp", &["-std=gnu++17"]),
        ] {
            if Command::new(compiler).arg("--version").output().is_err() {
                println!("SKIPPED: no {compiler}");
                continue;
            }
            let source = folder.path().join(file);
            fs::write(&source, format!("#include \"{header}\"\n#include \"{header}\"\n"))
                .expect("a source");
            let mut command = Command::new(compiler);
            command.args(flags).args([
                "-O2",
                "-Wall",
                "-Wextra",
                "-Werror",
                "-c",
                "-o",
                "/dev/null",
            ]);
            command.arg(format!("-I{}", dist().join("include").display())).arg(&source);
            let output = command.output().expect("a compiler");
            assert!(output.status.success(), "{compiler} {header}: {}", printed(&output));
        }
    }
}

#[test]
fn a_checkout_makes_a_plugin_in_c_that_is_no_package() {
    let tree = Tree::copy();
    let output = tree.cargo(&["xtask", "new", "--c", "cdemo"]);
    assert!(output.status.success(), "{}", printed(&output));
    let metadata = tree.cargo(&["metadata", "--offline", "--no-deps", "--format-version=1"]);
    assert!(metadata.status.success(), "{}", printed(&metadata));
    assert!(!String::from_utf8_lossy(&metadata.stdout).contains("cdemo"));

    let folder = tree.path("plugins/cdemo");
    let mut make = Command::new("make");
    make.env("COLLECTOR_DIST", dist()).arg("-C").arg(&folder);
    let output = make.output().expect("make");
    assert!(output.status.success() && folder.join("libcdemo.so").exists(), "{}", printed(&output));
    let again = printed(&tree.cargo(&["xtask", "new", "--c", "cdemo"]));
    assert!(again.contains("plugins/cdemo exists already"), "{again}");
}
