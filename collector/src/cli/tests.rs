use super::*;
use crate::output::{FileConfig, Target};
use crate::process::hostname;

fn parse(args: &[&str]) -> Result<Cli, clap::Error> {
    Cli::of(["collector"].iter().chain(args))
}

fn settings_of(args: &[&str]) -> Settings {
    let Cli { flags, collecting, .. } = parse(args).unwrap();
    flags.settings(collecting).unwrap()
}

#[test]
fn the_command_line_is_sound() {
    Cli::command().debug_assert();
}

#[test]
fn flags_override_the_configuration() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("c.toml");
    let text = "interval = \"1s\"\nlog = \"warn\"\ntags = { dc = \"a\", x = \"y\" }\n\
                [[output]]\nkind = \"file\"\npath = \"/tmp/l\"\n";
    std::fs::write(&path, text).unwrap();
    let path = path.to_str().unwrap();

    let settings = settings_of(&["--config", path]);
    assert_eq!(settings.config.interval, Duration::from_secs(1));
    assert_eq!(settings.config.log, LevelFilter::Warn);
    assert_eq!(settings.config.tags["host"], hostname());
    assert_eq!(settings.config.outputs[0].target, Target::File(FileConfig::new("/tmp/l".into())));

    let args = ["--config", path, "--interval", "2s", "--log", "debug", "--output", "stdout"];
    let args = [&args[..], &["--tag", "dc=b", "--tag", "host=", "--only", "a,b"]].concat();
    let settings = settings_of(&args);
    assert_eq!(settings.config.interval, Duration::from_secs(2));
    assert_eq!(settings.config.log, LevelFilter::Debug);
    let tags: Vec<_> = settings.config.tags.iter().map(|(k, v)| format!("{k}={v}")).collect();
    assert_eq!(tags, ["dc=b", "host=", "x=y"]);
    assert_eq!(settings.config.outputs[0].target, Target::Stdout);
    assert_eq!(settings.only, ["a", "b"]);
}

#[test]
fn wrong_flags_are_refused_with_the_reason() {
    for (args, words) in [
        (["--interval", "1ms"], "the shortest is 10ms"),
        (["--interval", "soon"], "such as 10s"),
        (["--ticks", "0"], "must be at least 1"),
        (["--tag", "novalue"], "not KEY=VALUE"),
        (["--tag", "time=x"], "InfluxDB keeps that name"),
        (["--output", "udp://h"], "it has no port"),
        (["--http", "127.0.0.1"], "it has no port"),
        (["--log", "loud"], "off, error, warn, info, debug, trace"),
        (["--self", "loud"], "one of off, brief, full"),
    ] {
        let error = parse(&args).unwrap_err().to_string();
        assert!(error.contains(words), "{args:?}: {error}");
    }
}

#[test]
fn a_flag_of_collecting_is_refused_where_it_means_nothing() {
    for args in [
        &["once", "runqlat", "--ticks", "3"][..],
        &["once", "runqlat", "--output=stdout"],
        &["--ticks", "3", "once", "runqlat"],
        &["list", "--tag", "a=b"],
        &["describe", "runqlat", "--interval", "1s"],
    ] {
        let error = parse(args).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("belongs to collecting"), "{args:?}: {text}");
        assert!(!text.contains("as a value"), "{args:?}: {text}");
        assert_eq!(error.exit_code(), 2);
    }
    let error = parse(&["--interval", "1s", "once", "runqlat"]).unwrap_err().to_string();
    assert!(error.contains("`--interval` stands behind `once`"), "{error}");
    let error = parse(&["once", "runqlat", "--nonsense"]).unwrap_err().to_string();
    assert!(!error.contains("tip"), "{error}");
}

#[test]
fn once_takes_interval_and_count_as_the_bcc_tools_do() {
    for (args, seconds, times) in [
        (&["once", "runqlat"][..], 5.0, 1),
        (&["once", "runqlat", "1"], 1.0, 1),
        (&["once", "runqlat", "1", "10"], 1.0, 10),
        (&["once", "runqlat", "100ms", "2"], 0.1, 2),
        (&["once", "runqlat", "--interval", "2s"], 2.0, 1),
    ] {
        let Some(Command::Once { interval, count, flag, .. }) = parse(args).unwrap().command else {
            panic!("{args:?}");
        };
        assert_eq!((flag.unwrap_or(interval).as_secs_f64(), count), (seconds, times));
    }
}
