//! `--http`: what those who ask get.

use crate::process::{Running, collector, command, folder, run};
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

/// The answer to a request on a socket; nothing when nobody listens.
fn ask(socket: &Path, path: &str, headers: &str) -> Option<String> {
    let mut stream = UnixStream::connect(socket).ok()?;
    let request =
        format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}\r\n");
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}

fn until(what: &str, mut so: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !so() {
        assert!(Instant::now() < end, "it never came to pass: {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

fn answers(socket: &Path, path: &str, words: &str) -> bool {
    ask(socket, path, "").is_some_and(|answer| answer.contains(words))
}

#[test]
fn those_who_ask_get_metrics_states_and_the_page() {
    let (plugins, dir) = (folder(&["good", "fails"]), tempfile::tempdir().unwrap());
    let socket = dir.path().join("http.sock");
    let flag = format!("unix:{}", socket.display());
    let running =
        Running::start(collector(plugins.path(), &["--interval", "50ms", "--http", &flag]));
    until("readiness", || answers(&socket, "/readyz", "good: running"));
    until("metrics", || answers(&socket, "/metrics", "# TYPE collector_plugin_up gauge\n"));
    until("the failure", || answers(&socket, "/readyz", "fails: quarantined: "));
    assert!(
        answers(&socket, "/", "<!doctype html>") && answers(&socket, "/healthz", "\r\n\r\nok\n")
    );
    assert!(answers(&socket, "/api/tables", "\"state\":\"running\""));
    assert!(answers(&socket, "/metrics", "collector_output_lines_delivered_total{"));
    assert_eq!(fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o660);
    running.signal("TERM");
    let ended = running.end();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(ended.stdout.is_empty(), "no lines are asked for: {}", ended.stdout);
    assert!(
        ended.stderr.contains(&format!("output http+unix:{}: ", socket.display())),
        "{}",
        ended.stderr
    );
    assert!(!socket.exists());
}

#[test]
fn another_address_is_followed_and_a_token_asked_for() {
    let (plugins, dir) = (folder(&["good"]), tempfile::tempdir().unwrap());
    let (config, token) = (dir.path().join("c.toml"), dir.path().join("token"));
    let sockets = ["one", "two"].map(|name| dir.path().join(name));
    let write = |text: &str| {
        let new = dir.path().join("new");
        fs::write(&new, format!("interval = \"50ms\"\n{text}")).unwrap();
        fs::rename(new, &config).unwrap();
    };
    let http = |socket: &Path| format!("http = \"unix:{}\"\n", socket.display());
    write(&http(&sockets[0]));
    let running =
        Running::start(collector(plugins.path(), &["--config", config.to_str().unwrap()]));
    until("the first", || answers(&sockets[0], "/healthz", "ok\n"));
    write(&http(&sockets[1]));
    until("the second", || answers(&sockets[1], "/metrics", "good_"));
    until("the end of the first", || !sockets[0].exists());
    // The same address with a token: the next server takes over from the one before.
    fs::write(&token, "s3cret\n").unwrap();
    fs::set_permissions(&token, fs::Permissions::from_mode(0o600)).unwrap();
    write(&format!("{}http_token_file = \"{}\"\n", http(&sockets[1]), token.display()));
    until("a question for the token", || answers(&sockets[1], "/metrics", " 401 Unauthorized\r\n"));
    until("the end of the one before", || {
        (0..20).all(|_| answers(&sockets[1], "/metrics", " 401 "))
    });
    let shown = ask(&sockets[1], "/metrics", "Authorization: Bearer s3cret\r\n").unwrap();
    assert!(shown.starts_with("HTTP/1.1 200 OK\r\n"), "{shown}");
    write("");
    until("the end", || !sockets[1].exists());
    running.signal("TERM");
    let ended = running.end();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(!ended.stderr.contains("s3cret"), "{}", ended.stderr);
}

#[test]
fn an_address_for_everybody_needs_a_token() {
    let plugins = folder(&["good"]);
    let ended = run(plugins.path(), &["--http", "0.0.0.0:9435", "--ticks", "1"]);
    assert_eq!(ended.code, Some(2));
    assert!(
        ended.stderr.contains("0.0.0.0:9435 can be reached from other machines"),
        "{}",
        ended.stderr
    );
    let ended = run(plugins.path(), &["--http", "unix:/nowhere/at/all", "--ticks", "1"]);
    assert_eq!(ended.code, Some(2));
    assert!(ended.stderr.contains("it cannot listen at unix:/nowhere/at/all"), "{}", ended.stderr);
    let ended = command(plugins.path(), &["list", "--http", "127.0.0.1:9435"]);
    assert!(
        ended.stderr.contains("belongs to collecting") || ended.stderr.contains("has no `--http`"),
        "{}",
        ended.stderr
    );
}

#[test]
fn without_it_there_is_no_such_thread() {
    let plugins = folder(&["good"]);
    let running = Running::start(collector(plugins.path(), &["--interval", "50ms"]));
    running.wait_for("good 0");
    let threads = running.threads();
    assert!(!threads.iter().any(|name| name == "collector/http"), "{threads:?}");
    running.signal("TERM");
    running.end();
}
