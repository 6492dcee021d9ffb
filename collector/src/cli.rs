//! The command line, and how it overrides the configuration.

use crate::config::{Config, PluginConfig, parse_interval, parse_output};
use crate::encode::check_key;
use crate::output::{OutputConfig, Target};
use crate::process::hostname;
use crate::sink::Reports;
use clap::{Args, Parser, Subcommand};
use log::LevelFilter;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// Collects what the plugins in a folder measure, and sends it as InfluxDB line protocol.
///
/// Without a command: loads all plugins, calls each once per interval, until SIGINT or SIGTERM.
/// Exit codes: 0 done, 1 nothing could run, 2 wrong usage or configuration.
#[derive(Debug, Parser)]
#[command(version)]
pub struct Cli {
    #[command(flatten)]
    /// What applies to every command.
    pub flags: Flags,
    #[command(subcommand)]
    /// What to do instead of collecting.
    pub command: Option<Command>,
}

/// Flags; each overrides the configuration.
#[derive(Debug, Default, Args)]
pub struct Flags {
    /// Between ticks, such as 10s or 100ms [default: 10s; of `once`: 5s]
    #[arg(long, global = true, value_name = "DURATION", value_parser = interval)]
    pub interval: Option<Duration>,
    /// The folder whose *.so files are loaded [default: `plugins` beside this program, `./plugins`,
    /// /usr/lib/collector/plugins: the first one that exists]
    #[arg(long, global = true, value_name = "DIR")]
    pub plugins: Option<PathBuf>,
    /// A configuration file (TOML)
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where lines go; may be given several times [default: stdout]. One of stdout, file:PATH,
    /// unix:PATH, unixgram:PATH, tcp://HOST:PORT, udp://HOST:PORT, influxdb1://HOST:PORT/DATABASE,
    /// influxdb2://HOST:PORT/ORG/BUCKET, influxdb3://HOST:PORT/DATABASE, victoriametrics://HOST:PORT;
    /// the last four over TLS as influxdb1+https://...
    #[arg(long = "output", global = true, value_name = "URL", value_parser = parse_output)]
    pub outputs: Vec<OutputConfig>,
    /// Stop after so many ticks
    #[arg(long, global = true, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub ticks: Option<u64>,
    /// Stop when standard input is closed, as Telegraf's execd does at its end
    #[arg(long)]
    pub stop_on_stdin_close: bool,
    /// Run these plugins only
    #[arg(long, global = true, value_name = "NAME,...", value_delimiter = ',')]
    pub only: Vec<String>,
    /// A tag of every line; may be given several times. An empty value takes a tag away (host=)
    #[arg(long = "tag", global = true, value_name = "KEY=VALUE", value_parser = tag)]
    pub tags: Vec<(String, String)>,
    /// What the collector sends about itself and the plugins: off, brief or full [default: brief]
    #[arg(long = "self", global = true, value_name = "HOW", value_parser = reports)]
    pub reports: Option<Reports>,
    /// off, error, warn, info, debug or trace, to standard error [default: info]
    #[arg(long, global = true, value_name = "LEVEL")]
    pub log: Option<LevelFilter>,
}

/// Commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show what lies in the plugins folder: name, version, state or why it is refused
    List,
    /// Load one plugin, wait for an interval, and show what it counted as a table or histogram
    Once {
        /// The plugin
        name: String,
    },
    /// Show a plugin's options, tables, tags and fields
    Describe {
        /// The plugin
        name: String,
        /// As the plugin says it
        #[arg(long)]
        json: bool,
    },
}

fn interval(text: &str) -> Result<Duration, String> {
    parse_interval(text).map_err(|why| match why {
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
    pub fn settings(self) -> Result<Settings, Usage> {
        let mut config = match &self.config {
            Some(path) => {
                let name = path.to_string_lossy();
                let text = std::fs::read_to_string(path).map_err(|error| {
                    Usage(format!("configuration {name} cannot be read: {error}"))
                })?;
                Config::parse(&name, &text).map_err(Usage)?
            }
            None => Config::default(),
        };
        config.tags.entry("host".to_owned()).or_insert_with(hostname);
        config.tags.extend(self.tags);
        config.interval = self.interval.unwrap_or(config.interval);
        config.plugins = self.plugins.or(config.plugins);
        config.log = self.log.unwrap_or(config.log);
        config.reports = self.reports.unwrap_or(config.reports);
        if !self.outputs.is_empty() {
            config.outputs = self.outputs;
        }
        if config.outputs.is_empty() {
            config.outputs = vec![OutputConfig::new(Target::Stdout)];
        }
        let Self { ticks, only, stop_on_stdin_close, .. } = self;
        Ok(Settings { config, ticks, only, stop_on_stdin_close })
    }
}

impl Settings {
    /// A plugin's section.
    #[must_use]
    pub fn plugin(&self, name: &str) -> PluginConfig {
        self.config.sections.get(name).cloned().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn flags(args: &[&str]) -> Result<Flags, clap::Error> {
        Ok(Cli::try_parse_from(["collector"].iter().chain(args))?.flags)
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

        let settings = flags(&["--config", path]).unwrap().settings().unwrap();
        assert_eq!(settings.config.interval, Duration::from_secs(1));
        assert_eq!(settings.config.log, LevelFilter::Warn);
        assert_eq!(settings.config.tags["host"], hostname());
        assert_eq!(settings.config.outputs[0].target, Target::File("/tmp/l".into()));

        let args = ["--config", path, "--interval", "2s", "--log", "debug", "--output", "stdout"];
        let args = [&args[..], &["--tag", "dc=b", "--tag", "host=", "--only", "a,b"]].concat();
        let settings = flags(&args).unwrap().settings().unwrap();
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
            (["--ticks", "0"], "0 is not in"),
            (["--tag", "novalue"], "not KEY=VALUE"),
            (["--tag", "time=x"], "InfluxDB keeps that name"),
            (["--output", "udp://h"], "it has no port"),
            (["--log", "loud"], "loud"),
            (["--self", "loud"], "one of off, brief, full"),
        ] {
            let error = flags(&args).unwrap_err().to_string();
            assert!(error.contains(words), "{args:?}: {error}");
        }
    }
}
