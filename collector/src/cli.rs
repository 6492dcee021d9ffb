//! The command line, and how it overrides the configuration.

use crate::config::{Config, PluginConfig, parse_interval, parse_output};
use crate::encode::check_key;
use crate::output::{OutputConfig, Target};
use crate::process::hostname;
use crate::sink::Reports;
use crate::trust;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{ArgAction, Args, CommandFactory as _, Parser, Subcommand};
use log::LevelFilter;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// Collects what the plugins in a folder measure, and sends it as InfluxDB line protocol.
///
/// Without a command: loads all plugins, calls each once per interval, until SIGINT or SIGTERM. SIGHUP opens
/// the outputs again; it ends a collector that was started from a terminal.
///
/// Exit codes: 0 done; 1 nothing could run, or a check failed; 2 wrong usage or configuration; 3 `--ticks`
/// are done and lines were lost or not delivered; 130 or 143 a second SIGINT or SIGTERM.
#[derive(Debug, Parser)]
#[command(version, override_usage = "collector [OPTIONS] [COMMAND]")]
pub struct Cli {
    #[command(flatten)]
    /// What applies to every command.
    pub flags: Flags,
    #[command(flatten)]
    /// What applies to collecting.
    pub collecting: CollectingFlags,
    #[command(subcommand)]
    /// What to do instead of collecting.
    pub command: Option<Command>,
}

/// Flags of every command; each overrides the configuration.
#[derive(Debug, Default, Args)]
pub struct Flags {
    /// The folder whose *.so files are loaded [default: `plugins` beside this program, `./plugins`,
    /// /usr/lib/collector/plugins: the first one that exists]
    #[arg(long, global = true, value_name = "DIR")]
    pub plugins: Option<PathBuf>,
    /// A configuration file (TOML)
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Only warn when others may read secrets, or change plugins, the configuration or an output's folder
    #[arg(long, global = true)]
    pub allow_insecure: bool,
    /// How much goes to standard error [default: info]
    #[arg(long, global = true, value_name = "LEVEL", value_parser = level())]
    pub log: Option<LevelFilter>,
}

/// Flags of collecting; each overrides the configuration.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Options of collecting")]
pub struct CollectingFlags {
    /// Between ticks, such as 10s or 100ms [default: 10s]
    #[arg(long, value_name = "DURATION", value_parser = interval)]
    pub interval: Option<Duration>,
    /// Where lines go; may be given several times [default: stdout]. One of stdout, file:PATH,
    /// unix:PATH, unixgram:PATH, tcp://HOST:PORT, udp://HOST:PORT, influxdb1://HOST:PORT/DATABASE,
    /// influxdb2://HOST:PORT/ORG/BUCKET, influxdb3://HOST:PORT/DATABASE, victoriametrics://HOST:PORT;
    /// the last four over TLS as influxdb1+https://...
    #[arg(long = "output", value_name = "URL", value_parser = OutputParser)]
    pub outputs: Vec<OutputConfig>,
    /// Stop after so many ticks
    #[arg(long, value_name = "N", value_parser = at_least_1)]
    pub ticks: Option<u64>,
    /// Stop when standard input is closed, as Telegraf's execd does at its end
    #[arg(long)]
    pub stop_on_stdin_close: bool,
    /// Run these plugins only
    #[arg(long, value_name = "NAME,...", value_delimiter = ',')]
    pub only: Vec<String>,
    /// A tag of every line; may be given several times. An empty value takes a tag away (host=)
    #[arg(long = "tag", value_name = "KEY=VALUE", value_parser = tag)]
    pub tags: Vec<(String, String)>,
    /// What the collector sends about itself and the plugins: off, brief or full [default: brief]
    #[arg(long = "self", value_name = "HOW", value_parser = reports)]
    pub reports: Option<Reports>,
}

/// Commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List the files in the plugins folder: name, version, and whether each loads or why it is refused
    List {
        /// List these plugins only
        #[arg(long, value_name = "NAME,...", value_delimiter = ',')]
        only: Vec<String>,
        #[command(flatten)]
        /// How wide.
        width: Width,
    },
    /// Check whether this machine can run the plugins: attach each, call it once, end it; and whether the
    /// outputs can be reached. Sends nothing. Exit code 0: all can; 1: one cannot
    Check {
        /// Check these plugins [default: all that are enabled]
        #[arg(value_name = "NAME")]
        names: Vec<String>,
        /// Check these outputs instead of the configured ones
        #[arg(long = "output", value_name = "URL", value_parser = OutputParser)]
        outputs: Vec<OutputConfig>,
        #[command(flatten)]
        /// How wide.
        width: Width,
    },
    /// Load one plugin, wait for an interval, and show what it counted as a table or histogram
    Once {
        /// The plugin
        name: String,
        /// How long to count, such as 10s or 100ms; a plain number means seconds
        #[arg(default_value = "5s", value_parser = interval)]
        interval: Duration,
        /// How many times
        #[arg(default_value = "1", value_parser = at_least_1)]
        count: u64,
        /// The same as INTERVAL, spelled as for collecting
        #[arg(long = "interval", hide = true, value_name = "DURATION", value_parser = interval)]
        flag: Option<Duration>,
        /// What it says about itself: off, brief (what was lost) or full [default: brief]
        #[arg(long = "self", value_name = "HOW", value_parser = reports)]
        reports: Option<Reports>,
        #[command(flatten)]
        /// How wide.
        width: Width,
    },
    /// Show a plugin's options, tables, tags and fields
    Describe {
        /// The plugin
        name: String,
        /// Show the plugin's own description as JSON
        #[arg(long)]
        json: bool,
    },
    /// A word that is no command.
    #[command(external_subcommand)]
    Other(Vec<OsString>),
}

/// How wide a table may be.
#[derive(Clone, Copy, Debug, Default, Args)]
pub struct Width {
    /// Show long texts whole; by default they are cut at the terminal's edge
    #[arg(long, action = ArgAction::SetTrue)]
    pub wide: bool,
}

impl Cli {
    /// Reads the command line. `--help` and what is wrong with it end the process.
    #[must_use]
    pub fn of_this_process() -> Self {
        Self::of(std::env::args_os()).unwrap_or_else(|error| error.exit())
    }

    fn of(
        words: impl IntoIterator<Item = impl Into<OsString> + Clone>,
    ) -> Result<Self, clap::Error> {
        let cli = Self::try_parse_from(words).map_err(with_tip)?;
        let Some(command) = &cli.command else { return Ok(cli) };
        let (Some(flag), Some(name)) = (cli.collecting.first(), command.name()) else {
            return Ok(cli);
        };
        let mut all = Self::command();
        let own = all.find_subcommand(name).is_some_and(|command| has(command, flag));
        let text = match own {
            true => format!("`{flag}` stands behind `{name}`, whose flag it is here"),
            false => format!("`{name}` has no `{flag}`: {}", belongs(flag)),
        };
        Err(all.error(ErrorKind::ArgumentConflict, text))
    }
}

impl Command {
    fn name(&self) -> Option<&'static str> {
        match self {
            Self::List { .. } => Some("list"),
            Self::Check { .. } => Some("check"),
            Self::Once { .. } => Some("once"),
            Self::Describe { .. } => Some("describe"),
            Self::Other(_) => None,
        }
    }
}

impl CollectingFlags {
    /// One that is given.
    fn first(&self) -> Option<&'static str> {
        let given = [
            (self.interval.is_some(), "--interval"),
            (!self.outputs.is_empty(), "--output"),
            (self.ticks.is_some(), "--ticks"),
            (self.stop_on_stdin_close, "--stop-on-stdin-close"),
            (!self.only.is_empty(), "--only"),
            (!self.tags.is_empty(), "--tag"),
            (self.reports.is_some(), "--self"),
        ];
        given.into_iter().find_map(|(given, flag)| given.then_some(flag))
    }
}

/// Whether a command has a flag.
fn has(command: &clap::Command, flag: &str) -> bool {
    let mut flags = command.get_arguments().filter_map(|arg| arg.get_long());
    flags.any(|known| flag.strip_prefix("--") == Some(known))
}

fn belongs(flag: &str) -> String {
    format!("`{flag}` belongs to collecting, which is `collector` without a command")
}

/// Tells where a flag belongs that a command does not have.
fn with_tip(mut error: clap::Error) -> clap::Error {
    let Some(ContextValue::String(flag)) = error.get(ContextKind::InvalidArg) else { return error };
    if error.kind() == ErrorKind::UnknownArgument {
        let flag = flag.split('=').next().unwrap_or_default().to_owned();
        error.remove(ContextKind::Suggested); // how to pass it as a value
        if has(&Cli::command(), &flag) {
            let tip = vec![belongs(&flag).into()];
            error.insert(ContextKind::Suggested, ContextValue::StyledStrs(tip));
        }
    }
    error
}

fn level() -> impl TypedValueParser<Value = LevelFilter> {
    let levels = PossibleValuesParser::new(["off", "error", "warn", "info", "debug", "trace"]);
    levels.map(|level| level.parse().expect("a level of the log crate"))
}

fn at_least_1(text: &str) -> Result<u64, String> {
    let number: u64 = text.parse().map_err(|_| "not a whole number")?;
    if number == 0 { Err("must be at least 1".to_owned()) } else { Ok(number) }
}

/// Reads `--output`. clap's own errors repeat the value, which may hold a password.
#[derive(Clone)]
struct OutputParser;

impl TypedValueParser for OutputParser {
    type Value = OutputConfig;

    fn parse_ref(
        &self,
        command: &clap::Command,
        _: Option<&clap::Arg>,
        value: &OsStr,
    ) -> Result<OutputConfig, clap::Error> {
        let text = value.to_str().ok_or("it is no UTF-8".to_owned());
        text.and_then(parse_output).map_err(|why| {
            let text = format!("invalid value for --output: {why}\n");
            clap::Error::raw(ErrorKind::ValueValidation, text).with_cmd(command)
        })
    }
}

fn interval(text: &str) -> Result<Duration, String> {
    let seconds = text.bytes().all(|byte| byte.is_ascii_digit()).then(|| format!("{text}s"));
    parse_interval(seconds.as_deref().unwrap_or(text)).map_err(|why| match why {
        "" => "not a duration such as 10s or 100ms".to_owned(),
        why => why.to_owned(),
    })
}

fn reports(text: &str) -> Result<Reports, String> {
    let known = Reports::NAMED.iter().find(|(word, _)| *word == text);
    known.map(|(_, reports)| *reports).ok_or("one of off, brief, full".to_owned())
}

fn tag(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("not KEY=VALUE")?;
    check_key("tag", key).map_err(|error| format!("{error:#}"))?;
    Ok((key.to_owned(), value.to_owned()))
}

/// What was asked for is wrong, not what happened: exit code 2.
#[derive(Debug)]
pub struct Usage(pub String);

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}

/// The configuration with the flags over it.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What both have.
    pub config: Config,
    /// `--config`
    pub file: Option<PathBuf>,
    /// `--ticks`
    pub ticks: Option<u64>,
    /// `--only`
    pub only: Vec<String>,
    /// `--stop-on-stdin-close`
    pub stop_on_stdin_close: bool,
}

impl Flags {
    /// Reads the configuration and puts the flags over it.
    ///
    /// # Errors
    /// The file cannot be read, or all that is wrong in it.
    pub fn settings(self, collecting: CollectingFlags) -> Result<Settings, Usage> {
        if self.allow_insecure {
            trust::allow_insecure();
        }
        let mut config = match &self.config {
            Some(path) => Config::read(path).map_err(Usage)?,
            None => Config::default(),
        };
        let CollectingFlags { interval, outputs, ticks, stop_on_stdin_close, only, tags, reports } =
            collecting;
        config.tags.entry("host".to_owned()).or_insert_with(hostname);
        config.tags.extend(tags);
        config.interval = interval.unwrap_or(config.interval);
        config.plugins = self.plugins.or(config.plugins);
        config.log = self.log.unwrap_or(config.log);
        config.reports = reports.unwrap_or(config.reports);
        if !outputs.is_empty() {
            config.outputs = outputs;
        }
        if config.outputs.is_empty() {
            config.outputs = vec![OutputConfig::new(Target::Stdout)];
        }
        Ok(Settings { config, file: self.config, ticks, only, stop_on_stdin_close })
    }
}

impl Settings {
    /// Whether a plugin is to run: one that `--only` names, else one that is enabled.
    #[must_use]
    pub fn chosen(&self, name: &str) -> bool {
        match &*self.only {
            [] => self.plugin(name).enabled,
            only => only.iter().any(|chosen| chosen == name),
        }
    }

    /// A plugin's section.
    #[must_use]
    pub fn plugin(&self, name: &str) -> PluginConfig {
        self.config.sections.get(name).cloned().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::FileConfig;

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
        assert_eq!(
            settings.config.outputs[0].target,
            Target::File(FileConfig::new("/tmp/l".into()))
        );

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
            let Some(Command::Once { interval, count, flag, .. }) = parse(args).unwrap().command
            else {
                panic!("{args:?}");
            };
            assert_eq!((flag.unwrap_or(interval).as_secs_f64(), count), (seconds, times));
        }
    }
}
