use super::*;

fn problems(text: &str) -> String {
    Config::parse("c.toml", text).unwrap_err()
}

#[test]
fn an_empty_configuration_is_the_default() {
    assert_eq!(Config::parse("c.toml", "").unwrap(), Config::default());
    assert_eq!(Config::default().interval, Duration::from_secs(10));
}

#[test]
fn every_key_is_read() {
    let text = r#"
        interval = "2s 500ms"
        plugins = "/p"
        uint = true
        log = "debug"
        [tags]
        dc = "fra1"
        [[output]]
        kind = "stdout"
        [[output]]
        kind = "file"
        path = "/tmp/lines"
        queue_bytes = 1_000_000
        [plugin.runqlat]
        interval = "1s"
        tags = { team = "kernel" }
        enabled = false
        max_lines = 5
        max_bytes = 0x1000
        by = "comm"
        top = 5
        deep = { share = 0.5, names = ["a", "b"], at = 2026-01-01 }
    "#;
    let config = Config::parse("c.toml", text).unwrap();
    let tags = |key: &str, value: &str| Tags::from([(key.to_owned(), value.to_owned())]);
    assert_eq!(config.interval, Duration::from_millis(2500));
    assert_eq!(config.plugins, Some("/p".into()));
    assert_eq!((config.uint, config.log), (true, LevelFilter::Debug));
    assert_eq!(config.tags, tags("dc", "fra1"));
    assert_eq!(
        config.outputs,
        [
            OutputConfig { target: Target::Stdout, queue_bytes: QUEUE_BYTES },
            OutputConfig { target: Target::File("/tmp/lines".into()), queue_bytes: 1_000_000 },
        ]
    );
    let plugin = &config.sections["runqlat"];
    assert_eq!(plugin.interval, Some(Duration::from_secs(1)));
    assert_eq!((plugin.enabled, &plugin.tags), (false, &tags("team", "kernel")));
    assert_eq!(plugin.limits, Limits { lines: 5, bytes: 4096 });
    let options: Vec<_> = plugin.options.iter().map(|o| (&*o.name, o.value.to_string())).collect();
    let deep = r#"{"at":"2026-01-01","names":["a","b"],"share":0.5}"#.to_owned();
    let expected = [("by", "\"comm\"".to_owned()), ("deep", deep), ("top", "5".to_owned())];
    assert_eq!(options, expected);
    assert_eq!(plugin.options[0].place, "c.toml:20:9");
}

#[test]
fn a_problem_names_file_line_column_key_and_what_is_wanted() {
    for (text, message) in [
        ("intervall = \"1s\"", "c.toml:1:1: unknown key `intervall` (did you mean `interval`?)"),
        ("\n  xyzzy = 1", "c.toml:2:3: unknown key `xyzzy`"),
        ("interval = 10", "c.toml:1:12: `interval` must be a duration such as \"10s\", not 10"),
        (
            "interval = \"soon\"",
            "1:12: `interval` must be a duration such as \"10s\", not \"soon\"",
        ),
        ("interval = \"5ms\"", "not \"5ms\": the shortest is 10ms"),
        ("interval = \"900y\"", "not \"900y\": the longest is a year"),
        ("uint = 1", "1:8: `uint` must be true or false, not 1"),
        ("log = \"loud\"", "1:7: `log` must be one of off, error, warn, info, debug, trace"),
        ("plugins = []", "1:11: `plugins` must be a text in quotes, not []"),
        ("tags = 1", "1:8: `tags` must be a table: [tags]"),
        ("[tags]\ndc = 1", "2:6: tag `dc` must be a text in quotes"),
        ("[tags]\ntime = \"x\"", "2:1: a tag named `time`: InfluxDB keeps that name for itself"),
        ("output = 1", "1:10: `output` must be a list of tables: [[output]]"),
        ("[output]\nkind = \"file\"", "`output` must be a list of tables: [[output]]"),
        ("[[output]]\npath = \"x\"", "c.toml:2:1: this needs a `kind`"),
        ("[[output]]\nkind = \"file\"", "2:1: this needs a `path`"),
        ("[[output]]\nkind = 1", "2:8: `kind` must be a text such as \"stdout\", not 1"),
        ("[[output]]\nkind = \"stdout\"\npath = \"x\"", "3:1: unknown key `path`"),
        ("[[output]]\nkind = \"fil\"", "2:8: unknown output kind `fil` (did you mean `file`?)"),
        ("[[output]]\nkind = \"udp\"\nurl = \"x\"", "2:8: output kind `udp` comes later"),
        ("[[output]]\nkind = \"stdout\"\nqueue_bytes = 0", "must be a whole number above 0, not 0"),
        ("plugin = 1", "1:10: `plugin` must be a table: [plugin]"),
        ("[plugin]\nx = 1", "2:1: `plugin.x` must be a table: [plugin.x]"),
        ("[plugin.x]\nenabled = \"no\"", "2:11: `plugin.x.enabled` must be true or false"),
        ("[plugin.x]\nmax_lines = -1", "2:13: `plugin.x.max_lines` must be a whole number above 0"),
        ("[plugin.x]\nby = 99999999999999999999", "2:6: `plugin.x.by` is a number out of range"),
        ("interval = ", "c.toml:1:"),
        ("a = 1\na = 2", "c.toml:2:1: duplicate key"),
    ] {
        let problems = problems(text);
        assert!(problems.contains(message), "{text:?}: {problems} should say {message}");
    }
}

#[test]
fn all_problems_are_told_at_once_in_the_files_order() {
    let problems = problems("uint = 1\nxyzzy = 1\n[tags]\ndc = 1\n");
    let places: Vec<&str> = problems.lines().map(|l| &l[..10]).collect();
    assert_eq!(places, ["c.toml:1:8", "c.toml:2:1", "c.toml:4:6"], "{problems}");
}

#[test]
fn outputs_are_urls_on_the_command_line() {
    let file = parse_output("file:/tmp/a:b").unwrap();
    assert_eq!(file.target, Target::File("/tmp/a:b".into()));
    assert_eq!(parse_output("stdout").unwrap().target, Target::Stdout);
    for (url, words) in [
        ("file:", "file:PATH"),
        ("stdout:x", "takes no path"),
        ("stdot", "did you mean `stdout`?"),
        ("influxdb1://h:8086/db", "`influxdb1` comes later"),
    ] {
        assert!(parse_output(url).unwrap_err().contains(words), "{url}");
    }
}

/// The example file, as it is and with every key taken out of its comment.
#[test]
fn the_example_tells_every_key_and_its_default() {
    let example = include_str!("../../../etc/collector.toml");
    assert_eq!(Config::parse("etc/collector.toml", example), Ok(Config::default()));

    let is_key = |line: &&str| line.starts_with('#') && !line.starts_with("# ") && line.len() > 1;
    let keys: String = example
        .lines()
        .map(|line| if is_key(&line) { format!("{}\n", &line[1..]) } else { format!("{line}\n") })
        .collect();
    let config = Config::parse("etc/collector.toml", &keys).unwrap();
    let default = Config { plugins: config.plugins.clone(), ..Config::default() };
    let told = Config { tags: Tags::new(), outputs: vec![], sections: [].into(), ..config.clone() };
    assert_eq!(told, default);
    assert_eq!(
        config.outputs[0],
        OutputConfig { target: Target::Stdout, queue_bytes: QUEUE_BYTES }
    );
    assert_eq!(config.outputs.len(), 2);
    let plugin = &config.sections["runqlat"];
    assert_eq!((plugin.enabled, plugin.limits), (true, Limits::DEFAULT));
    for key in HOST_KEYS.into_iter().chain(["kind", "path", "queue_bytes", "uint", "log"]) {
        assert!(keys.contains(&format!("{key} = ")), "{key} is not in the example");
    }
}
