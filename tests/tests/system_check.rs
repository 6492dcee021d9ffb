//! `collector check` with the real tools: what attaches here, and why the others do not.

use std::process::Command;

fn check(prefix: &[&str], names: &[&str]) -> (Option<i32>, String) {
    let dist = std::env::var("COLLECTOR_DIST").expect("run this by `cargo xtask test`");
    let collector = format!("{dist}/collector");
    let words = [prefix, &[&collector, "check"], names].concat();
    let output = Command::new(words[0]).args(&words[1..]).output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    println!("{said}");
    (output.status.code(), said.into_owned())
}

/// State and text of a plugin.
fn row<'a>(said: &'a str, plugin: &str) -> (&'a str, &'a str) {
    let row = said.lines().find_map(|row| row.strip_prefix(&format!("plugin {plugin} ")));
    let row = row.unwrap_or_else(|| panic!("no row of {plugin}: {said}")).trim_start();
    row.split_once(' ').map(|(state, text)| (state, text.trim_start())).expect("state and text")
}

#[test]
fn each_tool_says_what_won_or_what_the_kernel_lacks() {
    let (code, said) = check(&[], &["runqlat", "bpfsample"]);
    let (state, text) = row(&said, "runqlat");
    assert!(state == "ok" && text.contains("attached: ") && text.contains("switch_"), "{said}");
    let (state, text) = row(&said, "bpfsample");
    if state == "ok" {
        assert!(text.contains("attached: shows_"), "{said}");
        assert_eq!(code, Some(0), "{said}");
    } else {
        // As on a kernel without kprobes.
        assert!(text.contains("no way to observe `shows` works here"), "{said}");
        let why = ["the kernel forbids BPF trampolines", "has no kprobes"];
        assert!(why.iter().any(|why| text.contains(why)), "{said}");
        assert_eq!(code, Some(1), "{said}");
    }
}

#[test]
fn without_privileges_that_is_the_reason_and_nothing_else() {
    let missing = "needs root, or CAP_BPF and CAP_PERFMON; missing: CAP_BPF, CAP_PERFMON";
    let (code, said) = check(&["setpriv", "--bounding-set=-all"], &["runqlat", "bpfsample"]);
    assert_eq!(code, Some(1));
    assert!(
        said.lines().any(|row| row.starts_with("privileges ") && row.ends_with(missing)),
        "{said}"
    );
    for plugin in ["runqlat", "bpfsample"] {
        assert_eq!(row(&said, plugin), ("fails", &*format!("init failed: {missing}")), "{said}");
    }
}

#[test]
fn root_of_a_user_namespace_is_told_that_it_is_not_root() {
    let (code, said) = check(&["unshare", "--user", "--map-root-user"], &["runqlat"]);
    if said.contains("unshare: ") {
        println!("SKIPPED: no user namespaces here: {said}");
        return;
    }
    assert_eq!(code, Some(1));
    assert!(row(&said, "runqlat").1.contains("runs in a user namespace"), "{said}");
}
