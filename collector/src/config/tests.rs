mod addresses;
mod output_keys;

use super::*;
use crate::form::{Buckets, Counters, Form};
use crate::output::http::{DEAD_LETTER_BYTES, HttpConfig};
use crate::output::{FileConfig, Target};

fn problems(text: &str) -> String {
    Config::parse("c.toml", text).unwrap_err()
}

#[test]
fn an_empty_configuration_is_the_default() {
    assert_eq!(Config::parse("c.toml", "").unwrap(), Config::default());
    assert_eq!(Config::default().interval, Duration::from_secs(10));
    assert_eq!(Config::default().reports, Reports::Brief);
}

#[test]
fn every_key_is_read() {
    let text = r#"
        interval = "2s 500ms"
        plugins = "/p"
        uint = true
        log = "debug"
        self = "full"
        [tags]
        dc = "fra1"
        [[output]]
        kind = "stdout"
        [[output]]
        kind = "file"
        path = "/tmp/lines"
        queue_bytes = 1_000_000
        histogram = "le"
        counters = "cumulative"
        [plugin.runqlat]
        interval = "1s"
        tags = { team = "kernel" }
        enabled = false
        max_lines = 5
        max_bytes = 0x1000
        max_series = 7
        isolation = "process"
        max_memory = 33_554_432
        processes = true
        by = "comm"
        top = 5
        deep = { share = 0.5, names = ["a", "b"], at = 2026-01-01 }
    "#;
    let config = Config::parse("c.toml", text).unwrap();
    let tags = |key: &str, value: &str| Tags::from([(key.to_owned(), value.to_owned())]);
    assert_eq!(config.interval, Duration::from_millis(2500));
    assert_eq!(config.plugins, Some("/p".into()));
    assert_eq!((config.uint, config.log), (true, LevelFilter::Debug));
    assert_eq!(config.reports, Reports::Full);
    assert_eq!(config.tags, tags("dc", "fra1"));
    assert_eq!(
        config.outputs,
        [
            OutputConfig::new(Target::Stdout),
            OutputConfig {
                queue_bytes: 1_000_000,
                form: Form { histogram: Buckets::Le, counters: Counters::Cumulative },
                ..OutputConfig::new(Target::File(FileConfig::new("/tmp/lines".into())))
            },
        ]
    );
    let plugin = &config.sections["runqlat"];
    assert_eq!(plugin.interval, Some(Duration::from_secs(1)));
    assert_eq!((plugin.enabled, &plugin.tags), (false, &tags("team", "kernel")));
    assert_eq!(plugin.limits, Limits { lines: 5, bytes: 4096, series: 7 });
    assert_eq!(plugin.isolation, Some(Isolation::Process));
    assert_eq!(plugin.bounds, Bounds { memory: 32 << 20, processes: Some(true) });
    let options: Vec<_> = plugin.options.iter().map(|o| (&*o.name, o.value.to_string())).collect();
    let deep = r#"{"at":"2026-01-01","names":["a","b"],"share":0.5}"#.to_owned();
    let expected = [("by", "\"comm\"".to_owned()), ("deep", deep), ("top", "5".to_owned())];
    assert_eq!(options, expected);
    assert_eq!(plugin.options[0].place, "c.toml:27:9");
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
        ("plugins = []", "1:11: `plugins` must be a path in quotes, not []"),
        ("plugins = \"\"", "1:11: `plugins` must be a path in quotes, not \"\": it is empty"),
        ("self = 1", "1:8: `self` must be one of \"off\", \"brief\", \"full\", not 1"),
        (
            "[[output]]\nkind = \"stdout\"\ncounters = \"sum\"",
            "3:12: `counters` must be one of \"delta\", \"cumulative\", not \"sum\"",
        ),
        ("http_cert_file = \"/c\"", "1:1: this needs a `http_key_file`"),
        ("http_key_file = \"/k\"", "1:1: this needs a `http_cert_file`"),
        ("tags = 1", "1:8: `tags` must be a table: [tags]"),
        ("[tags]\ndc = 1", "2:6: tag `dc` must be a text in quotes"),
        ("[tags]\ntime = \"x\"", "2:1: a tag named `time`: InfluxDB keeps that name for itself"),
        ("output = 1", "1:10: `output` must be a list of tables: [[output]]"),
        ("[output]\nkind = \"file\"", "`output` must be a list of tables: [[output]]"),
        ("[[output]]\npath = \"x\"", "c.toml:2:1: this needs a `kind`"),
        ("[[output]]\nkind = \"file\"", "2:1: this needs a `path`"),
        ("[[output]]\nkind = \"file\"\nmode = \"640\"\npath = 1", "`path` must be a path"),
        (
            "[[output]]\nkind = \"file\"\nmode = 640",
            "3:8: `mode` must be permissions such as \"0640\"",
        ),
        ("[[output]]\nkind = \"file\"\nmode = \"0666\"", "everybody could change"),
        ("[[output]]\nkind = \"file\"\nmode = \"0440\"", "must read and write it"),
        ("[[output]]\nkind = \"file\"\nmode = \"0755\"", "at most 0664"),
        ("[[output]]\nkind = 1", "2:8: `kind` must be a text such as \"stdout\", not 1"),
        ("[[output]]\nkind = \"stdout\"\npath = \"x\"", "3:1: unknown key `path`"),
        ("[[output]]\nkind = \"fil\"", "2:8: unknown output kind `fil` (did you mean `file`?)"),
        ("[[output]]\nkind = \"udp\"\nurl = \"x\"", "2:1: this needs a `address`"),
        ("[[output]]\nkind = \"tcp\"\naddress = \"h\"", "not \"h\": it has no port"),
        ("[[output]]\nkind = \"tcp\"\naddress = \"::1:80\"", "in brackets: [::1]:8086"),
        ("[[output]]\nkind = \"udp\"\naddress = \"h:99999\"", "a port is a number from 1 to 65535"),
        ("[[output]]\nkind = \"unix\"\npath = \"p\"\nspool_age = \"1d\"", "this needs a `spool`"),
        ("[[output]]\nkind = \"influxdb1\"\nurl = \"http://h:1\"", "this needs a `database`"),
        ("[[output]]\nkind = \"influxdb2\"\nurl = \"http://h:1\"", "this needs a `bucket`"),
        ("[[output]]\nkind = \"victoriametrics\"", "this needs a `url`"),
        ("[[output]]\nkind = \"victoriametrics\"\nurl = \"h:8428\"", "begins with http:// or"),
        (
            "[[output]]\nkind = \"influxdb3\"\nurl = \"http://u:p@h\"",
            "secrets do not stand in a URL",
        ),
        ("[[output]]\nkind = \"influxdb3\"\nurl = \"http://h:1?db=x\"", "has keys of its own"),
        (
            "[[output]]\nkind = \"influxdb2\"\ntoken = \"x\"",
            "3:1: `token`: secrets do not stand in",
        ),
        ("[[output]]\nkind = \"influxdb1\"\nusername = \"x\"", "this needs a `password_file`"),
        (
            "[[output]]\nkind = \"influxdb2\"\ntoken_file = \"a\"\ntoken_env = \"B\"",
            "4:1: `token_env`: `token_file` says already",
        ),
        (
            "[[output]]\nkind = \"influxdb1\"\ntoken_env = \"A\"\nusername = \"x\"",
            "4:1: `username`: a token says already",
        ),
        ("[[output]]\nkind = \"influxdb1\"\ndead_letter_bytes = 5000", "needs a `dead_letters`"),
        (
            "[[output]]\nkind = \"stdout\"\nqueue_bytes = 0",
            "3:15: `queue_bytes` must be a whole number from 4096 to 1099511627776, not 0",
        ),
        (
            "[[output]]\nkind = \"victoriametrics\"\nurl = \"http://h:1\"\nin_flight = 17",
            "4:13: `in_flight` must be a whole number from 1 to 16, not 17",
        ),
        ("[[output]]\nkind = \"file\"\npath = \"p\"\nin_flight = 2", "unknown key `in_flight`"),
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
    let default = Config {
        plugins: config.plugins.clone(),
        plugins_sha256: config.plugins_sha256.clone(),
        http: config.http.clone(),
        http_token: config.http_token.clone(),
        http_tls: config.http_tls.clone(),
        ..Config::default()
    };
    let told = Config { tags: Tags::new(), outputs: vec![], sections: [].into(), ..config.clone() };
    assert_eq!(told, default);
    assert!(config.http_token.is_some() && config.http_tls.is_some());
    assert_eq!(config.outputs[0], OutputConfig::new(Target::Stdout));
    let kinds = config.outputs.iter().map(|o| o.target.to_string());
    let kinds: Vec<String> =
        kinds.map(|name| name.split([':', '+']).next().unwrap().to_owned()).collect();
    assert_eq!(kinds, output::KINDS);
    let Target::Http(example) = &config.outputs[6].target else {
        panic!("influxdb1 is the seventh")
    };
    let spool = config.outputs[6].spool.as_ref().unwrap();
    assert_eq!((spool.bytes, spool.age), (output::SPOOL_BYTES, output::SPOOL_AGE));
    let HttpConfig { gzip, batch, timeout, connection_age, .. } =
        HttpConfig::new(example.server.clone(), example.to_string(), example.auth.clone());
    let told = (example.gzip, example.batch, example.timeout, example.connection_age);
    assert_eq!(told, (gzip, batch, timeout, connection_age));
    assert_eq!(example.dead_letters.as_ref().unwrap().bytes, DEAD_LETTER_BYTES);
    let plugin = &config.sections["runqlat"];
    assert_eq!((plugin.enabled, plugin.limits), (true, Limits::DEFAULT));
    let keys_of_outputs = [
        "path",
        "mode",
        "address",
        "datagram_bytes",
        "url",
        "urls",
        "headers",
        "proxy",
        "proxy_username",
        "proxy_password_file",
        "client_cert",
        "client_key",
        "connection_age",
        "database",
        "retention_policy",
        "org",
        "bucket",
        "username",
        "password_file",
        "password_env",
        "token_file",
        "token_env",
        "ca_file",
        "gzip",
        "batch_lines",
        "batch_bytes",
        "batch_time",
        "in_flight",
        "timeout",
        "dead_letters",
        "dead_letter_bytes",
        "kind",
        "queue_bytes",
        "spool",
        "spool_bytes",
        "spool_age",
    ];
    for key in HOST_KEYS.into_iter().chain(["uint", "log"]).chain(keys_of_outputs) {
        assert!(keys.contains(&format!("{key} = ")), "{key} is not in the example");
    }
}

#[test]
fn refused_lines_go_beside_the_spool_with_a_bound_of_their_own() {
    let text = "[[output]]\nkind = \"victoriametrics\"\nurl = \"http://h:1\"\nspool = \"/s\"\n";
    for (key, bytes) in [("", DEAD_LETTER_BYTES), ("dead_letter_bytes = 7000", 7000)] {
        let config = Config::parse("c.toml", &format!("{text}{key}")).unwrap();
        let Target::Http(http) = &config.outputs[0].target else { panic!("it is a database") };
        let letters = http.dead_letters.as_ref().unwrap();
        assert!(letters.path.starts_with("/s"), "{letters:?}");
        assert_eq!(letters.bytes, bytes);
    }
}

#[test]
fn an_output_has_the_form_that_its_database_expects_unless_it_is_told_another() {
    let form = |toml: &str| Config::parse("c.toml", toml).unwrap().outputs[0].form;
    let victoria = "[[output]]\nkind = \"victoriametrics\"\nurl = \"http://h:1\"\n";
    assert_eq!(form(victoria), Form::VICTORIAMETRICS);
    assert_eq!(form("[[output]]\nkind = \"stdout\""), Form::default());
    let told = form(&format!("{victoria}histogram = \"fields\""));
    assert_eq!(told, Form { histogram: Buckets::Fields, counters: Counters::Cumulative });
    assert_eq!(parse_output("victoriametrics://h:1").unwrap().form, Form::VICTORIAMETRICS);
}
