//! The command line, and how it overrides the configuration.

use crate::config::options::GivenOption;
use crate::config::{Config, HOST_KEYS, parse_interval, parse_output};
use crate::dashboard::Language;
use crate::encode::check_key;
use crate::output::OutputConfig;
use crate::output::serve::{Listen, Shared};
use crate::settings::{Given, Settings, Usage};
use crate::show::{StackFiles, Width};
use crate::sink::Reports;
use crate::top::PageUrl;
use crate::trust;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Args, CommandFactory as _, Parser, Subcommand};
use log::LevelFilter;
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::time::Duration;

/// Collects what the plugins in a folder measure, and sends it as InfluxDB line protocol.
///
/// Without a command: loads all plugins, calls each once per interval, until SIGINT or SIGTERM. Files that
/// come into the plugins folder, change or go are followed, and so is the configuration: only what changed is started
/// again. SIGHUP opens the outputs again and reads the configuration; it ends a collector that was started from a terminal.
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

/// Flags of collecting; each but the first overrides the configuration.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Options of collecting")]
pub struct CollectingFlags {
    /// Only read the configuration and say what is wrong in it. Exit code 0: nothing; 2: something
    #[arg(long, requires = "config")]
    pub check_config: bool,
    /// Between ticks, such as 10s or 100ms [default: 10s]
    #[arg(long, value_name = "DURATION", value_parser = interval)]
    pub interval: Option<Duration>,
    /// Where lines go; may be given several times [default: stdout]. One of stdout, file:PATH,
    /// unix:PATH, unixgram:PATH, tcp://HOST:PORT, udp://HOST:PORT, influxdb1://HOST:PORT/DATABASE,
    /// influxdb2://HOST:PORT/ORG/BUCKET, influxdb3://HOST:PORT/DATABASE, victoriametrics://HOST:PORT,
    /// prometheus://HOST:PORT, otlp://HOST:PORT; the last six over TLS as influxdb1+https://...
    #[arg(long = "output", value_name = "URL", value_parser = OutputParser)]
    pub outputs: Vec<OutputConfig>,
    /// Show a page of the last 15 minutes there, and metrics for Prometheus at /metrics: ADDRESS:PORT, such as
    /// 127.0.0.1:9435, or unix:PATH. Without --output nothing goes to standard output then
    #[arg(long, value_name = "ADDRESS", value_parser = Listen::parse)]
    pub http: Option<Listen>,
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
    #[arg(skip)]
    /// Where `top` looks.
    pub shown: Option<Shared>,
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
    /// outputs can be reached. Or check one plugin's FILE.so point by point, for its author. Sends nothing.
    /// Exit code 0: all can; 1: one cannot
    Check {
        /// Check these plugins, or this file [default: all plugins that are enabled]
        #[arg(value_name = "NAME|FILE.so")]
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
        /// One of the plugin's options, as in its section of the configuration; may be given several times
        #[arg(long = "set", value_name = "KEY=VALUE", value_parser = option)]
        options: Vec<GivenOption>,
        #[command(flatten)]
        /// Where its stacks go.
        stacks: StackFiles,
        #[command(flatten)]
        /// How wide.
        width: Width,
    },
    /// Show the tools on the terminal: state, cost, numbers, histograms, what was lost. It starts the plugins itself, or
    /// asks a collector that runs (`--http`). `?` lists the keys
    Top {
        /// Ask the collector whose page is there: ADDRESS:PORT, unix:PATH or https://HOST:PORT. The token is the
        /// configuration's (`http_token_file`)
        #[arg(long, value_name = "ADDRESS", value_parser = PageUrl::parse, conflicts_with_all = ["interval", "only"])]
        http: Option<PageUrl>,
        /// Trust these certificates beside the system's: PEM, of an authority or of the collector itself
        #[arg(long, value_name = "FILE", requires = "http")]
        ca: Option<PathBuf>,
        /// Between ticks, such as 10s or 100ms [default: 1s]
        #[arg(long, value_name = "DURATION", value_parser = interval)]
        interval: Option<Duration>,
        /// Start these plugins only
        #[arg(long, value_name = "NAME,...", value_delimiter = ',')]
        only: Vec<String>,
    },
    /// Show what an output of the kind `file` has written, also while it is written: on the terminal as `top` does, or
    /// on the page
    Replay {
        /// The file
        file: PathBuf,
        /// Show that time instead of the end: 2026-01-31T12:00:00Z, 12:00:00 (the day of the last line, UTC), -5m (before
        /// the end), or nanoseconds since 1970
        #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
        at: Option<String>,
        /// Show the page there instead, until SIGINT: ADDRESS:PORT or unix:PATH
        #[arg(long, value_name = "ADDRESS", value_parser = Listen::parse)]
        http: Option<Listen>,
    },
    /// Show a plugin's options, tables, tags and fields
    Describe {
        /// The plugin
        name: String,
        /// Show the plugin's own description as JSON
        #[arg(long)]
        json: bool,
    },
    /// Print a Grafana dashboard as JSON: an overview of the collector and all plugins, or all that some plugins say
    Dashboard {
        /// All tables of these plugins [default: the overview of all that are enabled]
        #[arg(value_name = "NAME")]
        names: Vec<String>,
        /// The language of its queries
        #[arg(long = "for", value_name = "LANGUAGE")]
        language: Language,
    },
    /// A word that is no command.
    #[command(external_subcommand)]
    Other(Vec<OsString>),
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
            Self::Dashboard { .. } => Some("dashboard"),
            Self::Top { .. } => Some("top"),
            Self::Replay { .. } => Some("replay"),
            Self::Other(_) => None,
        }
    }
}

impl CollectingFlags {
    /// One that is given.
    fn first(&self) -> Option<&'static str> {
        let given = [
            (self.check_config, "--check-config"),
            (self.interval.is_some(), "--interval"),
            (!self.outputs.is_empty(), "--output"),
            (self.http.is_some(), "--http"),
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

/// A value is TOML; what is none is a text, so that nobody needs quotes within quotes.
fn option(text: &str) -> Result<GivenOption, String> {
    let (name, value) = text.split_once('=').ok_or("not KEY=VALUE")?;
    let (name, value) = (name.trim(), value.trim());
    let is_bare = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    if name.is_empty() || !name.chars().all(is_bare) {
        return Err("not KEY=VALUE".to_owned());
    }
    if HOST_KEYS.contains(&name) {
        return Err(format!("`{name}` is no option of a plugin; `--config` can set it"));
    }
    let place = format!("--set {name}");
    let line = format!("[plugin.x]\n{name} = {value}");
    let parsed = Config::parse(&place, &line).ok();
    let parsed = parsed.and_then(|mut config| config.sections.remove("x")?.options.pop());
    let value = parsed.map_or_else(|| value.into(), |option| option.value);
    Ok(GivenOption { name: name.to_owned(), value, place })
}

fn tag(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("not KEY=VALUE")?;
    check_key("tag", key).map_err(|error| format!("{error:#}"))?;
    Ok((key.to_owned(), value.to_owned()))
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
        let CollectingFlags {
            interval,
            outputs,
            http,
            ticks,
            stop_on_stdin_close,
            only,
            tags,
            reports,
            shown,
            check_config: _,
        } = collecting;
        let Self { plugins, config: file, log, .. } = self;
        let given = Given {
            file,
            plugins,
            log,
            interval,
            outputs,
            http,
            ticks,
            stop_on_stdin_close,
            only,
            tags,
            reports,
            shown,
        };
        Settings::read(given)
    }
}

#[cfg(test)]
mod tests;
