//! `collector check`.

use crate::process::{Running, collector, command, folder, without_privileges};
use std::fs;
use std::net::TcpListener;

/// The row about something: its state and text.
fn row<'a>(table: &'a str, what: &str) -> (&'a str, &'a str) {
    let rest = table.lines().find_map(|row| row.strip_prefix(&format!("{what} ")));
    let rest = rest.unwrap_or_else(|| panic!("no row about {what}: {table}")).trim_start();
    rest.split_once(' ').map_or((rest, ""), |(state, text)| (state, text.trim_start()))
}

#[test]
fn plugins_that_work_and_outputs_that_answer_are_exit_code_0() {
    let dir = folder(&["good", "fails", "prints"]);
    let config = dir.path().join("c.toml");
    let text = "[plugin.fails]\nat = \"call\"\nenabled = false\n";
    fs::write(&config, text).unwrap();
    let here = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("influxdb1://{}/db", here.local_addr().unwrap());
    let args = ["check", "--config", config.to_str().unwrap(), "--output", &url];
    let ended = command(dir.path(), &args);
    assert_eq!(ended.code, Some(0), "{}{}", ended.stdout, ended.stderr);
    assert_eq!(row(&ended.stdout, "plugin good"), ("ok", "2 lines"));
    assert_eq!(row(&ended.stdout, "plugin prints"), ("ok", "1 line"));
    assert_eq!(row(&ended.stdout, &format!("output {url}")), ("ok", ""));
    assert_eq!(row(&ended.stdout, &format!("configuration {}", config.display())), ("ok", ""));
    assert!(!ended.stdout.contains("plugin fails"), "it is not enabled: {}", ended.stdout);
    // Nothing was sent.
    let (mut connection, _) = here.accept().unwrap();
    let mut sent = Vec::new();
    std::io::Read::read_to_end(&mut connection, &mut sent).unwrap();
    assert_eq!(sent, b"");
}

#[test]
fn what_does_not_work_is_exit_code_1_with_its_reason() {
    let dir = folder(&["good", "fails"]);
    fs::write(dir.path().join("libtext.so"), "hello").unwrap();
    let config = dir.path().join("c.toml");
    for (at, words) in [
        ("init", "init failed: no such function: tcp_v4_rcv"),
        ("call", "call failed: map `start` cannot be read"),
        ("deinit", "deinit failed: the link does not let go"),
        ("cal", "did you mean \"call\"?"),
    ] {
        fs::write(&config, format!("[plugin.fails]\nat = \"{at}\"\n")).unwrap();
        let args = ["check", "fails", "--config", config.to_str().unwrap()];
        let ended = command(dir.path(), &args);
        assert_eq!(ended.code, Some(1), "{}", ended.stdout);
        let (state, text) = row(&ended.stdout, "plugin fails");
        assert!(state == "fails" && text.contains(words), "{}", ended.stdout);
        assert!(!ended.stdout.contains("plugin good"), "only one was asked for: {}", ended.stdout);
        assert!(!ended.stdout.contains("text.so"), "only one was asked for: {}", ended.stdout);
    }
    let file = format!("file {}", dir.path().join("libtext.so").display());
    let ended = command(dir.path(), &["check"]);
    assert_eq!(
        row(&ended.stdout, &file),
        ("fails", "a text file, not a shared library (no ELF header)")
    );

    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = format!("tcp://{nobody}");
    let ended = command(dir.path(), &["check", "good", "--output", &url]);
    assert_eq!(ended.code, Some(1), "{}", ended.stdout);
    let (state, text) = row(&ended.stdout, &format!("output {url}"));
    assert!(state == "fails" && text.contains("refused"), "{}", ended.stdout);

    let ended = command(dir.path(), &["check", "god"]);
    assert_eq!(ended.code, Some(2));
    assert!(ended.stderr.contains("did you mean `good`?"), "{}", ended.stderr);
}

#[test]
fn missing_privileges_are_named_before_any_plugin_and_once() {
    let dir = folder(&["good", "prints"]);
    let missing = "needs root, or CAP_BPF and CAP_PERFMON; missing: CAP_BPF, CAP_PERFMON";
    let run = |args: &[&str]| Running::start(without_privileges(collector(dir.path(), args)));
    let ended = run(&["--interval", "50ms", "--ticks", "1"]).end();
    assert_eq!(ended.code, Some(0), "these two load no BPF program: {}", ended.stderr);
    // A thread writes the collector's messages: what a plugin prints itself may come between them.
    let line = format!("collector: warn: {missing}");
    let first =
        |said: &str| said.lines().find(|line| line.starts_with("collector: ")) == Some(&line);
    assert!(first(&ended.stderr), "{}", ended.stderr);
    assert_eq!(ended.stderr.matches("missing: ").count(), 1, "{}", ended.stderr);
    let ended = run(&["once", "good", "10ms"]).end_of_command();
    assert!(first(&ended.stderr), "{}", ended.stderr);
    let ended = run(&["check", "good"]).end_of_command();
    assert_eq!(row(&ended.stdout, "privileges"), ("missing", missing));
}
