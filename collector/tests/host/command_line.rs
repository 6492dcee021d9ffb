//! Flags, configuration, subcommands.

use crate::process::{Running, collector, command, example, folder, run};
use std::fs;
use std::process::{Command, Stdio};

#[test]
fn without_any_configuration_lines_come_on_stdout() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("plugins")).unwrap();
    fs::copy(example("good"), dir.path().join("plugins/libgood.so")).unwrap();
    // As a user does it: the program beside its plugins.
    let program = dir.path().join("collector");
    fs::copy(env!("CARGO_BIN_EXE_collector"), &program).unwrap();
    let mut command = Command::new(program);
    command.args(["--interval", "100ms", "--ticks", "1"]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let ended = Running::start(command).end();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let good = ended.table("good").next().unwrap();
    assert_eq!(good.tag("by"), "nobody");
    let hostname = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    assert!(ended.lines.iter().all(|line| line.tag("host") == hostname.trim()));
}

#[test]
fn a_configuration_reaches_plugins_and_lines() {
    let dir = folder(&["good"]);
    let config = dir.path().join("c.toml");
    let text = "interval = \"100ms\"\nuint = true\n[tags]\ndc = \"fra1\"\nteam = \"a\"\n[plugin.good]\n\
                tags = { team = \"b\" }\nby = \"some, one\"\nwait = \"2s\"\n";
    fs::write(&config, text).unwrap();
    let args = ["--config", config.to_str().unwrap(), "--ticks", "1", "--tag", "host=h"];
    let ended = run(dir.path(), &args);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let start =
        "good,by=some\\,\\ one,dc=fra1,host=h,line=0,team=b calls=1u,wait_ms=2000i,interval_ns=";
    assert!(ended.stdout.starts_with(start), "{}", ended.stdout);
    assert!(ended.table("collector_host").all(|line| line.tag("team") == "a"));
}

#[test]
fn a_wrong_host_key_ends_it_with_2_and_names_its_place() {
    let dir = folder(&["good"]);
    let config = dir.path().join("c.toml");
    fs::write(&config, "interval = \"1s\"\npluigns = \"x\"\n").unwrap();
    let ended = run(dir.path(), &["--config", config.to_str().unwrap(), "--ticks", "1"]);
    assert_eq!(ended.code, Some(2));
    let words =
        format!("{}:2:1: unknown key `pluigns` (did you mean `plugins`?)", config.display());
    assert!(ended.stderr.contains(&words), "{}", ended.stderr);
}

#[test]
fn a_wrong_plugin_option_costs_that_plugin_only() {
    let dir = folder(&["good", "fails"]);
    let config = dir.path().join("c.toml");
    fs::write(&config, "interval = \"100ms\"\n\n[plugin.fails]\natt = \"init\"\n").unwrap();
    let ended = run(dir.path(), &["--config", config.to_str().unwrap(), "--ticks", "2"]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert_eq!(ended.ticks("good"), 2);
    assert_eq!(ended.states("fails"), ["refused"]);
    let words = format!("{}:4:1: unknown option `att` (did you mean `at`?)", config.display());
    assert!(ended.reasons("fails").contains(&words), "{}", ended.reasons("fails"));
}

#[test]
fn wrong_usage_ends_with_2_and_the_nearest_name() {
    let dir = folder(&["good", "fails"]);
    fs::write(dir.path().join("libtext.so"), "hello").unwrap();
    for (args, code, words) in [
        (
            &["--only", "god"][..],
            2,
            "no plugin `god` (did you mean `good`?): there are fails, good",
        ),
        (&["once", "xyzzy"], 2, "no plugin `xyzzy`: there are fails, good"),
        (&["describe", "goods"], 2, "did you mean `good`?"),
        (&["once", "text"], 1, "libtext.so is no plugin: a text file"),
        (&["--interval", "never"], 2, "not a duration such as 10s"),
        (&["--output", "file:/nowhere/lines"], 2, "its folder /nowhere does not exist"),
        (&["--output", "stdout", "--output", "stdout"], 2, "output stdout is there twice"),
        (&["--config", "/nowhere.toml"], 2, "configuration /nowhere.toml cannot be read"),
        (&["--nonsense"], 2, "--nonsense"),
    ] {
        let ended = command(dir.path(), args);
        assert_eq!(ended.code, Some(code), "{args:?}: {}", ended.stderr);
        assert!(ended.stderr.contains(words), "{args:?}: {}", ended.stderr);
        assert_eq!(ended.stdout, "", "{args:?}");
    }
    let ended = command("/nowhere".as_ref(), &["list"]);
    assert_eq!(ended.code, Some(2));
    assert!(
        ended.stderr.contains("the plugins folder /nowhere does not exist"),
        "{}",
        ended.stderr
    );
}

#[test]
fn a_password_in_an_address_is_refused_and_printed_nowhere() {
    let dir = folder(&["good"]);
    let config = dir.path().join("c.toml");
    let text =
        "[[output]]\nkind = \"influxdb1\"\nurl = \"http://u:s3cret@h:1\"\ndatabase = \"d\"\n";
    fs::write(&config, text).unwrap();
    let config = config.to_str().unwrap();
    for (args, words) in [
        (&["--output", "influxdb1://u:s3cret@h:1/db"][..], "--output"),
        (&["--output=influxdb2+https://u:s3cret@h/o/b"], "--output"),
        (&["check", "--output", "http://u:s3cret@h:1"], "unknown output kind `http`"),
        (&["--config", config], "c.toml:3:7: `url`"),
    ] {
        let ended = command(dir.path(), args);
        assert_eq!(ended.code, Some(2), "{args:?}: {}", ended.stderr);
        let said = ended.stderr + &ended.stdout;
        assert!(said.contains(words) && said.contains("[secret]@h"), "{args:?}: {said}");
        assert!(!said.contains("s3cret"), "{args:?}: {said}");
    }
}

#[test]
fn nothing_that_ever_ran_is_exit_code_1() {
    let dir = folder(&["fails"]);
    let config = dir.path().join("c.toml");
    fs::write(&config, "interval = \"100ms\"\n[plugin.fails]\nat = \"init\"\n").unwrap();
    let ended = run(dir.path(), &["--config", config.to_str().unwrap(), "--ticks", "2"]);
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert!(ended.reasons("fails").contains("tcp_v4_rcv"));
}

#[test]
fn once_shows_a_table_and_a_histogram() {
    let dir = folder(&["good"]);
    let ended = command(dir.path(), &["once", "good", "--interval", "100ms"]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let shown = without_times(&ended.stdout);
    let expected = "
good:
BY      LINE  CALLS  WAIT_MS
nobody  0         1     1000

good_wait:
     usecs               : count    distribution
         0 -> 1          : 1        |********************                    |
         2 -> 3          : 0        |                                        |
         4 -> 7          : 2        |****************************************|
";
    assert!(shown.starts_with(expected), "{}", ended.stdout);
    let last = "\ncount 4, avg 227.8, max 900, p50 5, p90 900, p99 900\n";
    assert!(ended.stdout.ends_with(last), "{}", ended.stdout);
}

/// `TABLE, TIME:` without the time, which depends on the machine.
fn without_times(text: &str) -> String {
    let head = |line: &str| Some(format!("{}:\n", line.strip_suffix("s:")?.split_once(", ")?.0));
    text.lines().map(|line| head(line).unwrap_or_else(|| format!("{line}\n"))).collect()
}

#[test]
fn once_tells_why_a_plugin_does_not_work() {
    let dir = folder(&["fails"]);
    let ended = command(dir.path(), &["once", "fails", "--interval", "10ms"]);
    assert_eq!(ended.code, Some(1));
    let shown = without_times(&ended.stdout);
    assert!(shown.contains("\nfails:\nCOUNT\n    1\n"), "{}", ended.stdout);
    assert!(ended.stderr.contains("fails: call failed: map `start` cannot be read"));
}

#[test]
fn once_ends_early_at_ctrl_c() {
    let dir = folder(&["good"]);
    let running = Running::start(collector(dir.path(), &["once", "good", "--interval", "1h"]));
    running.wait_for("1h to go");
    running.signal("INT");
    let ended = running.end_of_command();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(ended.stdout.contains("nobody  0         1     1000"), "{}", ended.stdout);
}

#[test]
fn describe_tells_all_that_there_is_to_set_and_to_read() {
    let dir = folder(&["good"]);
    let ended = command(dir.path(), &["describe", "good"]);
    let expected = r#"
options, in [plugin.good] with their defaults:
  by = "nobody"  text                     Text of a tag.
  lines = 1      whole number             Lines per call.
  wait = "1s"    duration such as "10ms"  Shown in a field.

table good: Calls.
  by       tag          The option `by`.
  line     tag          Number of the line.
  calls    counter      How many calls so far.
  wait_ms  gauge    ms  The option `wait`.

table good_wait: Made-up waiting times.
"#;
    assert!(ended.stdout.contains(expected), "{}", ended.stdout);
    let ended = command(dir.path(), &["describe", "good", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(json["name"], "good");
}

#[test]
fn a_plugins_log_carries_its_name_and_the_level_is_set() {
    let dir = folder(&["good"]);
    let args = ["--interval", "100ms", "--ticks", "1"];
    let ended = run(dir.path(), &args);
    assert!(ended.stderr.contains("collector: info: good: by nobody\n"), "{}", ended.stderr);
    let ended = run(dir.path(), &[&args[..], &["--log", "error"]].concat());
    assert_eq!(ended.stderr, "");
}

#[test]
fn a_section_without_a_plugin_is_a_warning() {
    let dir = folder(&["good"]);
    let config = dir.path().join("c.toml");
    fs::write(&config, "[plugin.goood]\nby = \"x\"\n").unwrap();
    let args = ["--interval", "100ms", "--ticks", "1", "--config", config.to_str().unwrap()];
    let ended = run(dir.path(), &args);
    assert_eq!(ended.code, Some(0));
    let words = "[plugin.goood] is configured, but no such plugin is there (did you mean `good`?)";
    assert!(ended.stderr.contains(words), "{}", ended.stderr);
}

#[test]
fn two_plugins_that_fill_one_table_are_a_warning() {
    let dir = folder(&["outside"]);
    let mut bytes = fs::read(example("outside")).unwrap();
    let name = br#"{"name":"outside","version""#;
    let at = bytes.windows(name.len()).position(|w| w == name).unwrap();
    bytes[at + 9..at + 16].copy_from_slice(b"another");
    fs::write(dir.path().join("libanother.so"), bytes).unwrap();
    let ended = run(dir.path(), &["--interval", "100ms", "--ticks", "1"]);
    // 3 when it pushed a row outside of its call, which it does at any time.
    assert!(matches!(ended.code, Some(0 | 3)), "{}", ended.stderr);
    assert_eq!((ended.sum("outside", "calls"), ended.sum("another", "calls")), (1, 1));
    let words = "`another` and `outside` both fill table `outside`";
    assert!(ended.stderr.contains(words), "{}", ended.stderr);
}

#[test]
fn describe_names_the_fields_that_lines_have() {
    let dir = folder(&["good"]);
    let described = command(dir.path(), &["describe", "good"]).stdout;
    let (_, tables) = described.split_once("\ntable good: ").unwrap();
    let names: Vec<&str> = tables
        .lines()
        .filter_map(|line| line.strip_prefix("  "))
        .flat_map(|row| row.split(", "))
        .filter_map(|cell| cell.split_whitespace().next())
        .collect();
    let lines = run(dir.path(), &["--interval", "100ms", "--ticks", "1"]);
    for line in lines.table("good").chain(lines.table("good_wait")) {
        for field in line.fields.keys().filter(|field| *field != "interval_ns") {
            // One for each power of two.
            let bucket = field.bytes().any(|byte| byte.is_ascii_digit()) && !field.starts_with('p');
            assert!(bucket || names.contains(&&**field), "`{field}` is not in\n{described}");
        }
    }
    for name in
        ["count", "sum_us", "max_us", "p50_us", "p90_us", "p99_us", "bucket_2_4", "calls", "line"]
    {
        assert!(names.contains(&name), "{name}: {names:?}");
    }
    assert!(!names.contains(&"wait"), "a name that no line has: {described}");
}

#[test]
fn once_with_interval_and_count_shows_as_many_tables() {
    let dir = folder(&["good"]);
    let ended = command(dir.path(), &["once", "good", "50ms", "3"]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let shown = without_times(&ended.stdout);
    assert_eq!(shown.matches("\ngood:\nBY ").count(), 3, "{}", ended.stdout);
    for calls in 1..=3 {
        assert!(shown.contains(&format!("nobody  0         {calls}     1000")), "{}", ended.stdout);
    }
}

#[test]
fn a_plugin_that_is_no_command_is_asked_for() {
    let dir = folder(&["good"]);
    let ended = command(dir.path(), &["good"]);
    assert_eq!(ended.code, Some(2));
    assert!(ended.stderr.contains("`collector once good`"), "{}", ended.stderr);
    let ended = command(dir.path(), &["lits"]);
    assert_eq!(ended.code, Some(2));
    assert!(ended.stderr.contains("no command `lits` (did you mean `list`?)"), "{}", ended.stderr);
}

#[test]
fn list_lists_those_that_are_named_and_promises_no_more_than_it_knows() {
    let dir = folder(&["good", "fails"]);
    fs::write(dir.path().join("libtext.so"), "hello").unwrap();
    let list = |only: &str| command(dir.path(), &["list", "--only", only]);
    let ended = list("good");
    assert!(ended.stdout.contains("good  0.1.0    loads  "), "{}", ended.stdout);
    assert_eq!(ended.stdout.lines().count(), 2, "{}", ended.stdout);
    assert!(list("text").stdout.contains("refused  a text file"));
    let ended = list("god");
    assert_eq!(ended.code, Some(2));
    assert!(ended.stderr.contains("did you mean `good`?"), "{}", ended.stderr);
}

#[test]
fn a_file_in_place_of_the_plugins_folder_is_called_one() {
    let dir = folder(&["good"]);
    let ended = command(&dir.path().join("libgood.so"), &["list"]);
    assert_eq!(ended.code, Some(2));
    assert!(ended.stderr.contains("libgood.so is a file: name the folder"), "{}", ended.stderr);
}

#[test]
fn what_a_plugin_prints_is_never_between_lines() {
    let dir = folder(&["prints"]);
    let ended = run(dir.path(), &["--interval", "50ms", "--ticks", "2"]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(!ended.stdout.contains("printed"), "{}", ended.stdout);
    assert!(ended.stderr.contains("printed by init\n"), "{}", ended.stderr);
    assert!(ended.stderr.contains("printed by call\n"), "{}", ended.stderr);
    let ended = command(dir.path(), &["once", "prints", "50ms"]);
    assert!(!ended.stdout.contains("printed"), "{}", ended.stdout);
    assert!(ended.stdout.contains("COUNT\n    1\n"), "{}", ended.stdout);
}

#[test]
fn every_thread_carries_the_collectors_name() {
    let dir = folder(&["good"]);
    let mut command = collector(dir.path(), &["--interval", "1h", "--stop-on-stdin-close"]);
    command.stdin(Stdio::piped());
    let running = Running::start(command);
    running.wait_for("good: by nobody");
    let parts = ["", "/good", "/log", "/out", "/sig", "/start", "/stdin", "/watch"];
    assert_eq!(running.threads(), parts.map(|part| format!("collector{part}")));
    running.signal("TERM");
    assert_eq!(running.end().code, Some(0));
}
