//! `collector check FILE.so`: each fault is caught at its point.

use crate::c_plugins::{build, build_text};
use crate::process::{Ended, Running, collector, command, example, folder};
use std::fs;
use std::path::Path;
use std::thread;
use tempfile::TempDir;

/// State and text of a point.
fn point<'a>(ended: &'a Ended, name: &str) -> (&'a str, &'a str) {
    let rows = ended.stdout.lines();
    let row = rows.filter_map(|row| row.strip_prefix(name)).find(|row| row.starts_with("  "));
    let row = row.unwrap_or_else(|| panic!("no point {name}: {}{}", ended.stdout, ended.stderr));
    let row = row.trim_start();
    ["not run", "ok", "fails", "n/a"]
        .iter()
        .find_map(|state| Some((*state, row.strip_prefix(*state)?.trim_start())))
        .unwrap_or_else(|| panic!("{row}"))
}

/// The points that fail.
fn failed(ended: &Ended) -> Vec<String> {
    let rows = ended.stdout.lines().filter(|row| row.contains("  fails  "));
    rows.map(|row| row.split("  ").next().unwrap_or_default().to_owned()).collect()
}

/// Again when a call was too long, unless that is wanted: a machine that stands still is no fault of the plugin.
fn check(file: &Path, more: &[&str], point: &str) -> Ended {
    let args = [&["check", "--wide", file.to_str().unwrap()], more].concat();
    let once = || Running::start(collector(file.parent().unwrap(), &args)).end_of_command();
    let is_late =
        |ended: &Ended| point != "deadline" && failed(ended).contains(&"deadline".to_owned());
    Some(once()).filter(|ended| !is_late(ended)).unwrap_or_else(once)
}

/// What is to be seen of one fault.
struct Case {
    file: std::path::PathBuf,
    config: String,
    point: &'static str,
    words: &'static str,
}

/// Runs all of them at once: each takes some seconds, in which it does nothing.
fn each_at_its_point(dir: &TempDir, cases: Vec<Case>) {
    thread::scope(|scope| {
        for (number, Case { file, config, point: name, words }) in cases.into_iter().enumerate() {
            scope.spawn(move || {
                let path = dir.path().join(format!("{number}.toml"));
                fs::write(&path, &config).unwrap();
                let ended = check(&file, &["--config", path.to_str().unwrap()], name);
                let all = format!("{file:?} {config}: {}{}", ended.stdout, ended.stderr);
                assert_eq!(ended.code, Some(1), "{all}");
                let (state, text) = point(&ended, name);
                assert!(state == "fails" && text.contains(words), "{words}: {all}");
                assert_eq!(failed(&ended), [name], "{all}");
            });
        }
    });
}

#[test]
fn a_healthy_plugin_passes_every_point() {
    let ended = check(&example("good"), &[], "");
    assert_eq!(ended.code, Some(0), "{}{}", ended.stdout, ended.stderr);
    for (name, words) in [
        ("loads", "a plugin in Rust"),
        ("description", "2 tables, 3 fields, 3 options"),
        ("init", ""),
        ("call", "3 calls, 6 rows"),
        ("lines", "6 lines"),
        ("deinit", ""),
        ("deadline", "the longest call"),
        ("second start", ""),
        ("books", "8 rows, each one a line"),
        ("left behind", "nothing; it had 0 programs"),
        ("signals", "none of the collector's"),
        ("cost", "KiB resident"),
    ] {
        let (state, text) = point(&ended, name);
        assert!(state == "ok" && text.contains(words), "{name}: {}", ended.stdout);
    }
}

#[test]
fn a_healthy_c_plugin_passes_those_that_apply() {
    let dir = tempfile::tempdir().unwrap();
    build(dir.path(), "healthy", "breaks.c", &["FAULT=none", "AT=nowhere"]);
    let ended = check(&dir.path().join("libhealthy.so"), &[], "");
    assert_eq!(ended.code, Some(0), "{}{}", ended.stdout, ended.stderr);
    assert_eq!(point(&ended, "loads"), ("ok", "healthy, a plugin in C"));
    assert_eq!(point(&ended, "description").0, "n/a");
    assert_eq!(point(&ended, "lines"), ("n/a", "tables seen: breaks"));
    let books = "4 lines by call and 0 sent, each one known";
    assert_eq!(point(&ended, "books"), ("ok", books));
    assert_eq!(point(&ended, "left behind").0, "ok", "{}", ended.stdout);
}

#[test]
fn faults_of_rust_plugins_are_caught_at_their_points() {
    let dir = folder(&["good"]);
    fs::copy(example("good"), dir.path().join("libother.so")).unwrap();
    fs::write(dir.path().join("text.so"), "no library").unwrap();
    let isolated = |fault: &str, at: &str, point, words| Case {
        file: example("isolated"),
        config: format!("[plugin.isolated]\nfault = \"{fault}\"\nat = \"{at}\"\n"),
        point,
        words,
    };
    let other = |file, point, words| Case { file, config: String::new(), point, words };
    each_at_its_point(
        &dir,
        vec![
            other(dir.path().join("text.so"), "loads", "a text file"),
            other(dir.path().join("none.so"), "loads", "cannot be found"),
            other(example("foreign_abi"), "loads", "build it again"),
            other(dir.path().join("libother.so"), "description", "should be called libgood.so"),
            isolated("panic", "init", "init", "panic at"),
            isolated("segv", "init", "init", "killed by SIGSEGV"),
            isolated("segv", "call", "call", "killed by SIGSEGV"),
            isolated("stack", "call", "call", "overflowed its stack"),
            isolated("exit", "call", "call", "ended with exit code 7"),
            isolated("hang", "call", "call", "no answer within 2.0 s"),
            isolated("flood", "call", "call", "no answer within 2.0 s"),
            isolated("lines", "call", "books", "rows over the caps of a tick"),
            isolated("slow", "call", "deadline", " s: at most 1.0 s"),
            isolated("panic", "deinit", "deinit", "panic at"),
            isolated("hang", "deinit", "deinit", "no answer within 2.5 s"),
            isolated("thread", "call", "left behind", "after deinit it still has 2 threads"),
            isolated("descriptors", "init", "left behind", "16 descriptors (/dev/null)"),
            isolated("handler", "init", "signals", "it changes what happens at SIGTERM"),
        ],
    );
}

#[test]
fn faults_of_c_plugins_are_caught_at_their_points() {
    let dir = tempfile::tempdir().unwrap();
    let case = |name: &str, fault: &str, at: &str, point, words| {
        build(dir.path(), name, "breaks.c", &[&format!("FAULT={fault}"), &format!("AT={at}")]);
        let file = dir.path().join(format!("lib{name}.so"));
        Case { file, config: String::new(), point, words }
    };
    let functions = "int call(int t, void *l) { return l ? 0 : t; } void deinit(void) {}";
    build_text(
        dir.path(),
        "refuses",
        &format!("int init(void *a) {{ return a ? -22 : 0; }} {functions}"),
    );
    let refuses = dir.path().join("librefuses.so");
    each_at_its_point(
        &dir,
        vec![
            case("segv_init", "segv", "init", "init", "killed by SIGSEGV"),
            case("abort", "abort", "call", "call", "killed by SIGABRT"),
            case("segv_thread", "segv", "thread", "call", "killed by SIGSEGV"),
            case("garbage", "garbage", "call", "call", "it sent a message with an unknown kind"),
            case("spins", "spin", "deinit", "deinit", "no answer within 2.5 s"),
            case("files", "descriptors", "call", "left behind", "descriptors (/dev/null)"),
            Case {
                file: refuses,
                config: String::new(),
                point: "init",
                words: "-22 (Invalid argument)",
            },
        ],
    );
}

#[test]
fn a_file_is_checked_alone() {
    let dir = folder(&["good"]);
    let file = dir.path().join("libgood.so");
    let file = file.to_str().unwrap();
    for args in [&["check", file, "good"][..], &["check", file, "--output", "stdout"]] {
        let ended = command(dir.path(), args);
        assert_eq!(ended.code, Some(2), "{}", ended.stdout);
        assert!(ended.stderr.contains("a file is checked alone"), "{}", ended.stderr);
    }
}
