//! Which files are C plugins, what they need, and what the commands say of them.

use super::{build, build_text, build_with};
use crate::process::{command, folder};
use collector::load;
use std::process::Command;

#[test]
fn a_library_that_is_not_there_is_named_with_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let stub = |name: &str| {
        let file = dir.path().join(name);
        let cc = Command::new("cc")
            .args(["-shared", "-o"])
            .arg(&file)
            .args(["-x", "c", "/dev/null"])
            .arg(format!("-Wl,-soname,{name}"))
            .status();
        assert!(cc.unwrap().success());
        file
    };
    for (name, what) in [("libcoolbpf.so", "coolbpf.h"), ("libgone.so.1", "-l:libgone.a")] {
        let library = stub(name);
        let flags = ["-Wl,--no-as-needed", library.to_str().unwrap()];
        let path = build_with(dir.path(), "needs", "limits.c", &[], &flags);
        std::fs::remove_file(&library).unwrap();
        let reason = load::load_here(&path).err().unwrap();
        assert!(
            reason.starts_with(&format!(
                "needs the library `{name}`, which this machine does not have"
            )),
            "{reason}"
        );
        assert!(reason.contains(what), "{reason}");
    }
}

#[test]
fn a_function_that_nobody_has_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let code = "int nobody_has_this(void); int init(void *a) { return a ? nobody_has_this() : 0; }\n\
                int call(int t, void *l) { return l ? t : 0; } void deinit(void) {}\n";
    let file = build_text(dir.path(), "x", code);
    let reason = load::load_here(&file).err().unwrap();
    assert!(reason.starts_with("uses `nobody_has_this`, which no library"), "{reason}");
}

#[test]
fn a_constructor_of_what_is_no_plugin_does_not_run() {
    let dir = tempfile::tempdir().unwrap();
    for (functions, reason) in [
        ("", "a shared library, but no plugin: it exports neither"),
        (
            "int init(void *a) { return !a; }",
            "a C plugin without the functions `call` and `deinit`: define them",
        ),
        (
            "int init(void *a) { return !a; } int call; void deinit(void) {}",
            "a C plugin without the function `call`: define it",
        ),
    ] {
        let constructor = "#include <stdlib.h>\n__attribute__((constructor)) static void run(void) { abort(); }\n";
        let file = build_text(dir.path(), "x", &format!("{constructor}{functions}\n"));
        let said = load::load_here(&file).err().unwrap();
        assert!(said.starts_with(reason), "{said}");
    }
}

#[test]
fn commands_work_with_c_plugins() {
    let plugins = folder(&["good"]);
    build(plugins.path(), "hole", "faults.c", &["FAULT=hole_in_values"]);
    build(plugins.path(), "broken", "faults.c", &["FAULT=init_positive"]);
    build(plugins.path(), "limits", "limits.c", &[]);
    let list = command(plugins.path(), &["list"]);
    let row = list.stdout.lines().find(|row| row.starts_with("hole ")).unwrap();
    assert!(row.contains("loads  C plugin"), "{}", list.stdout);

    let describe = command(plugins.path(), &["describe", "limits"]);
    assert_eq!(describe.code, Some(0), "{}", describe.stderr);
    for words in [
        "table a_table_of_31_bytes_as_they_fit",
        "index_15_bytes0",
        "value_15_byte31  float",
        "a_log_15_bytes_  text",
    ] {
        assert!(describe.stdout.contains(words), "{words}: {}", describe.stdout);
    }
    let broken = command(plugins.path(), &["describe", "broken"]);
    assert_eq!(broken.code, Some(1));
    assert!(broken.stderr.contains("its init failed: it returned 13"), "{}", broken.stderr);

    let check = command(plugins.path(), &["check"]);
    assert_eq!(check.code, Some(1));
    for words in ["2 lines; wrong: after_hole 2", "init failed: it returned 13 (Permission denied)"]
    {
        assert!(check.stdout.contains(words), "{}", check.stdout);
    }

    let once = command(plugins.path(), &["once", "hole", "50ms"]);
    assert_eq!(once.code, Some(0), "{}", once.stderr);
    assert!(once.stdout.contains("right, ") && once.stdout.contains("1.000"), "{}", once.stdout);
    assert!(once.stdout.contains("collector_c_plugin"), "what is lost: {}", once.stdout);
}
