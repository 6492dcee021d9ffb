//! `collector once` with a real tool: its tables, and nothing about itself unless it is asked for.

use std::process::Command;

fn once(flags: &[&str]) -> String {
    collector(&[&["once", "runqlat", "--interval", "300ms"], flags].concat())
}

/// What a run of the collector prints.
fn collector(flags: &[&str]) -> String {
    let dist = std::env::var("COLLECTOR_DIST").expect("run this by `cargo xtask test`");
    let output = Command::new(format!("{dist}/collector"))
        .args(["--plugins", &format!("{dist}/plugins")])
        .args(flags)
        .output()
        .expect("the collector runs");
    let text = String::from_utf8(output.stdout).expect("text");
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

#[test]
fn once_shows_reports_when_they_are_wanted_or_something_is_wrong() {
    let text = once(&[]);
    assert!(text.contains("runqlat, ") && text.contains("usecs"), "{text}");
    // On a kernel that skipped a program its line says so.
    assert!(!text.contains("collector_") || text.contains("MISSED"), "{text}");
    assert!(once(&["--self", "full"]).contains("collector_program"));
    assert!(!once(&["--self", "off"]).contains("collector_"));
}

/// Values of a field of `collector_program`.
fn of_programs(text: &str, field: &str) -> Vec<u64> {
    let lines = text.lines().filter(|line| line.starts_with("collector_program,"));
    let value =
        |line: &str| line.split_once(&format!("{field}="))?.1.split_once('i')?.0.parse().ok();
    lines.filter_map(value).collect()
}

#[test]
fn runs_and_their_time_are_measured_while_the_configuration_asks_for_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = folder.path().join("collector.toml");
    let lines = |toml: &str| {
        std::fs::write(&config, toml).expect("a config file");
        let config = config.to_str().expect("text");
        let run = ["--config", config, "--only", "runqlat", "--interval", "200ms", "--ticks", "3"];
        collector(&[&run[..], &["--self", "full"]].concat())
    };
    let enabled = std::fs::read_to_string("/proc/sys/kernel/bpf_stats_enabled").expect("a sysctl");
    if enabled.trim() != "0" {
        return println!("SKIPPED: kernel.bpf_stats_enabled is set for the whole machine");
    }
    let text = lines("");
    assert_eq!(of_programs(&text, "runs"), [], "{text}");
    let text = lines("bpf_stats = true\n");
    let (runs, ns) = (of_programs(&text, "runs"), of_programs(&text, "run_ns"));
    assert!(!runs.is_empty() && runs.len() == ns.len(), "{text}");
    // A run takes more than 10 ns, and less than 100 us unless the machine stands still meanwhile.
    assert!(runs.iter().zip(&ns).all(|(runs, ns)| *ns >= 10 * runs), "{text}");
    let all = [&ns, &runs].map(|list| list.iter().sum::<u64>());
    assert!(all[0] < 100_000 * all[1] + 3_000_000_000, "{text}");
    assert!(of_programs(&text, "verified").iter().all(|verified| *verified > 10), "{text}");
    let text = lines("");
    assert_eq!(of_programs(&text, "runs"), [], "the switch is off again: {text}");
}
