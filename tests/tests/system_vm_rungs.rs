//! The real collector with the real plugins: who attaches how on this kernel, and lines that parse.

use influxdb_line_protocol::{FieldValue, ParsedLine, parse_lines};
use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use system_tests::running::Home;
use system_tests::written::Written;

fn dist() -> String {
    std::env::var("COLLECTOR_DIST").expect("COLLECTOR_DIST: run this by `cargo xtask test`")
}

/// The tools of the install tree.
fn plugins() -> Vec<String> {
    let files = std::fs::read_dir(format!("{}/plugins", dist())).expect("the plugins folder");
    let name = |file: std::io::Result<std::fs::DirEntry>| {
        let name = file.expect("a file").file_name().into_string().expect("a plugin's name");
        name.strip_prefix("lib")?.strip_suffix(".so").map(str::to_owned)
    };
    files.filter_map(name).collect()
}

/// The hook of a program: `del` of `del_fentry_7`.
fn hook_of(program: &str) -> String {
    let kinds = [
        "btf",
        "raw",
        "tp",
        "fentry",
        "fexit",
        "kprobe",
        "kretprobe",
        "uprobe",
        "uretprobe",
        "session",
        "perf",
    ];
    let words: Vec<_> = program.split('_').collect();
    let at = words.iter().rposition(|word| kinds.contains(word)).unwrap_or(words.len());
    words[..at].join("_")
}

fn tag<'a>(line: &'a ParsedLine<'_>, key: &str) -> Option<&'a str> {
    let tags = line.series.tag_set.as_ref()?;
    tags.iter().find(|(k, _)| k.as_str() == key).map(|(_, v)| v.as_str())
}

fn text<'a>(line: &'a ParsedLine<'_>, key: &str) -> Option<&'a str> {
    line.field_set.iter().find(|(k, _)| k.as_str() == key).and_then(|(_, v)| match v {
        FieldValue::String(s) => Some(s.as_str()),
        _ => None,
    })
}

#[test]
fn every_tool_attaches_or_says_why_not_and_every_line_parses() {
    let home = Home::with_tools();
    let file = home.path("lines");
    let output = format!("[[output]]\nkind = \"file\"\npath = \"{}\"\n", file.display());
    // Without an option memleak looks at nothing. Every allocation of the kernel is much in an emulator.
    let memleak = "[plugin.memleak]\nkernel = true\nsample = 100\n";
    let mut running = home.start(&format!("interval = \"1s\"\n{output}{memleak}"));
    // In an emulator it takes them seconds to start.
    let (mut written, plugins) = (Written::at(file.clone()), plugins());
    running.wait_until("three ticks of every tool, or why there are none", |said| {
        plugins.iter().all(|plugin| {
            // Of the other tables a tick may have several lines, or none.
            let ticks = match written.count(&format!("{plugin}_lost")) {
                0 => written.count(plugin),
                ticks => ticks,
            };
            ticks >= 3 || said.contains(&format!("{plugin}: init failed"))
        })
    });
    running.terminate();
    let ended = running.end();
    let stderr = &ended.stderr;
    assert_eq!(ended.code, Some(0), "{stderr}");
    let stdout = std::fs::read_to_string(&file).expect("lines");
    assert!(stdout.ends_with('\n'), "the last line is whole");

    let mut lines_of: BTreeMap<String, usize> = BTreeMap::new();
    let mut won: BTreeMap<String, String> = BTreeMap::new();
    let mut ways: BTreeMap<(String, String), String> = BTreeMap::new();
    let mut refused: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut reasons: BTreeMap<(String, String), Vec<String>> = BTreeMap::new();
    for line in parse_lines(&stdout) {
        let line = line.unwrap_or_else(|e| panic!("{e}\n{stdout}"));
        let table = line.series.measurement.to_string();
        *lines_of.entry(table.clone()).or_default() += 1;
        let Some(plugin) = tag(&line, "plugin").map(str::to_owned) else { continue };
        if table == "collector_program" {
            let program = tag(&line, "program").expect("a program's line names it");
            let hook = (plugin.clone(), hook_of(program));
            match text(&line, "hook") {
                Some(way) => {
                    ways.insert(hook, way.to_owned());
                    won.insert(plugin, way.to_owned());
                }
                None => {
                    let why = text(&line, "reason").expect("a refusal has a reason");
                    reasons.entry(hook).or_default().push(format!("{program}: {why}"));
                }
            }
        } else if table == "collector_plugin"
            && matches!(text(&line, "state"), Some("failed" | "quarantined" | "refused"))
        {
            let reason = text(&line, "reason").unwrap_or("no reason");
            refused.insert(plugin, vec![reason.to_owned()]);
        }
    }
    for ((plugin, hook), way) in &ways {
        println!("WAY: {plugin} {hook} {way}");
    }
    for ((plugin, hook), reasons) in reasons {
        if !ways.contains_key(&(plugin.clone(), hook.clone())) && !refused.contains_key(&plugin) {
            println!("WAY: {plugin} {hook} - {}", reasons.join(" | "));
            // Debian's kernels open perf events for CAP_SYS_ADMIN only, which a plugin gets at its second start.
            let denied = |why: &String| why.contains("EACCES") || why.contains("not permitted");
            let guest = dist() == "/opt/collector";
            assert!(!guest || !reasons.iter().any(denied), "{plugin} {hook}: {reasons:?}");
        }
    }
    for (plugin, reasons) in &refused {
        println!("WAY: {plugin} (all) - {}", reasons.join(" | "));
    }
    for plugin in plugins {
        // A plugin in C reports no programs.
        let runs = (won.contains_key(&plugin) || plugin == "csample")
            && lines_of.keys().any(|table| table.starts_with(&plugin));
        assert!(runs || refused.contains_key(&plugin), "{plugin} says nothing\n{stdout}\n{stderr}");
    }
    let at_least = |table: &str, lines: usize| {
        let found = lines_of.get(table).copied().unwrap_or(0);
        assert!(found >= lines, "{found} lines of {table}, not {lines}\n{stdout}");
    };
    for plugin in ["runqlat", "bootstrap", "execsnoop", "exitsnoop"] {
        assert!(won.contains_key(plugin), "{plugin}: {:?}", refused.get(plugin));
        at_least(plugin, 3);
    }
    for table in ["hardirqs_lost", "softirqs_lost", "lathist_lost"] {
        at_least(table, 3);
    }
    at_least("softirqs", 30);
    match won.get("bpfsample").map(String::as_str) {
        Some("fentry" | "kprobe") => at_least("bpfsample", 3),
        Some(other) => panic!("bpfsample has no rung {other}"),
        // Debian's kernels have fentry or kprobes; only a locked machine may have neither.
        None if dist() == "/opt/collector" => panic!("bpfsample: {:?}", refused.get("bpfsample")),
        None => println!("SKIPPED: bpfsample's own lines: {:?}", refused.get("bpfsample")),
    }
}

/// A kernel without BTF, as far as a program can see: something else lies over the folder, in a mount
/// namespace of its own.
#[test]
fn without_the_kernels_btf_the_tools_read_tracepoint_records() {
    let run = format!(
        "mount -t tmpfs none /sys/kernel/btf && \
         exec {}/collector --only runqlat,bootstrap,execsnoop,exitsnoop,hardirqs,softirqs --interval 1s --ticks 4",
        dist()
    );
    let output =
        Command::new("unshare").args(["-m", "sh", "-c", &run]).output().expect("unshare runs");
    let stdout = String::from_utf8(output.stdout).expect("text");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}\n{stderr}", output.status);
    let mut hooks: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut won = BTreeSet::new();
    let mut series = Vec::new();
    for line in parse_lines(&stdout).map(|line| line.expect("a line")) {
        if line.series.measurement != "collector_program" {
            continue;
        }
        let plugin = tag(&line, "plugin").expect("a plugin").to_owned();
        let program = tag(&line, "program").expect("a program").to_owned();
        if let Some(hook) = text(&line, "hook") {
            won.insert(format!("{plugin} {program}"));
            hooks.entry(plugin.clone()).or_default().push(hook.to_owned());
        }
        series.push((plugin, program, line.timestamp));
    }
    for plugin in ["runqlat", "bootstrap", "execsnoop", "exitsnoop"] {
        let hooks =
            hooks.get(plugin).unwrap_or_else(|| panic!("{plugin} attached nothing\n{stdout}"));
        assert!(hooks.iter().all(|hook| hook == "tp"), "{plugin}: {hooks:?}");
    }
    // A handler's name needs types or a record, for its begin and its end alike. The numbers that all others
    // read are in raw tracepoints without any types.
    for program in ["entry_tp", "exit_tp", "local_timer_entry_raw", "local_timer_exit_raw"] {
        assert!(won.contains(&format!("hardirqs {program}")), "{program}: {won:?}");
    }
    for program in ["entry_raw", "exit_raw"] {
        assert!(won.contains(&format!("softirqs {program}")), "{program}: {won:?}");
    }
    let all = series.len();
    series.sort();
    series.dedup();
    assert_eq!(series.len(), all, "no point of a series overwrites another one\n{stdout}");
}
