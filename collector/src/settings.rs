//! The settings: the configuration with what was given on the command line over it. They can be read again.

use crate::config::options::GivenOption;
use crate::config::{Config, PluginConfig};
use crate::digest::Digest;
use crate::output::serve::{Listen, ServeConfig, Shared};
use crate::output::{OutputConfig, Target};
use crate::process::hostname;
use crate::sink::Reports;
use log::LevelFilter;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// What was asked for is wrong, not what happened: exit code 2.
#[derive(Debug)]
pub struct Usage(pub String);

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}

/// What was given when the collector was started. Each overrides the configuration.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Given {
    /// The configuration's file.
    pub file: Option<PathBuf>,
    /// The plugins folder.
    pub plugins: Option<PathBuf>,
    /// How much goes to standard error.
    pub log: Option<LevelFilter>,
    /// Between ticks.
    pub interval: Option<Duration>,
    /// Where lines go, if any are given.
    pub outputs: Vec<OutputConfig>,
    /// Where the page and the metrics are to be had.
    pub http: Option<Listen>,
    /// Ticks to make.
    pub ticks: Option<u64>,
    /// End with standard input.
    pub stop_on_stdin_close: bool,
    /// The only plugins to run, if any are given.
    pub only: Vec<String>,
    /// Tags of every line.
    pub tags: Vec<(String, String)>,
    /// What the collector sends about itself.
    pub reports: Option<Reports>,
    /// Where `collector top` looks: no line goes anywhere else then.
    pub shown: Option<Shared>,
}

/// The configuration with what was given over it.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// What both have.
    pub config: Config,
    /// The configuration's file.
    pub file: Option<PathBuf>,
    /// Ticks to make.
    pub ticks: Option<u64>,
    /// The only plugins to run, if any are named.
    pub only: Vec<String>,
    /// End with standard input.
    pub stop_on_stdin_close: bool,
    given: Given,
}

impl Settings {
    /// Reads the configuration.
    ///
    /// # Errors
    /// The file cannot be read, or all that is wrong in it.
    pub fn read(given: Given) -> Result<Self, Usage> {
        let mut config = match &given.file {
            Some(path) => Config::read(path).map_err(Usage)?,
            None => Config::default(),
        };
        let Given {
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
        } = given.clone();
        config.tags.entry("host".to_owned()).or_insert_with(hostname);
        config.tags.extend(tags);
        config.interval = interval.unwrap_or(config.interval);
        config.plugins = plugins.or(config.plugins);
        config.log = log.unwrap_or(config.log);
        config.reports = reports.unwrap_or(config.reports);
        if !outputs.is_empty() {
            config.outputs = outputs;
        }
        config.http = http.or(config.http);
        if let Some(store) = shown {
            config.outputs = vec![OutputConfig::new(Target::Screen(store))];
            config.http = None;
            config.log = log.unwrap_or(LevelFilter::Warn);
            config.reports = Reports::Full;
            config.bpf_stats = true; // the cost of programs is part of what is shown
        }
        match &config.http {
            Some(listen) => {
                let serve = ServeConfig {
                    listen: listen.clone(),
                    token: config.http_token.clone(),
                    tls: config.http_tls.clone(),
                };
                serve.check_access().map_err(Usage)?;
                config.outputs.push(OutputConfig::new(Target::Serve(serve)));
            }
            None if config.outputs.is_empty() => {
                config.outputs = vec![OutputConfig::new(Target::Stdout)];
            }
            None => {}
        }
        Ok(Self { config, file, ticks, only, stop_on_stdin_close, given })
    }

    /// Whether what all plugins' lines depend on is the same.
    #[must_use]
    pub fn same_for_plugins(&self, other: &Self) -> bool {
        let of = |it: &Self| (it.config.tags.clone(), it.config.uint, it.config.reports);
        of(self) == of(other)
    }

    /// Whether a plugin is configured in the same way.
    #[must_use]
    pub fn same_for(&self, name: &str, other: &Self) -> bool {
        let of = |it: &Self| {
            let mut config = it.plugin(name);
            config.interval = config.interval.or(Some(it.config.interval));
            config.options.iter_mut().for_each(|option| option.place.clear());
            config
        };
        of(self) == of(other)
    }

    /// Whether a file of this content may be loaded.
    #[must_use]
    pub fn allows(&self, digest: Digest) -> bool {
        self.config.plugins_sha256.as_ref().is_none_or(|allowed| allowed.contains(&digest))
    }

    /// Reads the configuration again.
    ///
    /// # Errors
    /// As [`Settings::read`].
    pub fn again(&self) -> Result<Self, Usage> {
        Self::read(self.given.clone())
    }

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

    /// Where `collector top` looks.
    #[must_use]
    pub fn shown(&self) -> Option<&Shared> {
        self.given.shown.as_ref()
    }

    /// Sets options of a plugin over those of the configuration.
    pub fn set(&mut self, plugin: &str, options: Vec<GivenOption>) {
        if options.is_empty() {
            return;
        }
        let section = self.config.sections.entry(plugin.to_owned()).or_default();
        for option in options {
            section.options.retain(|known| known.name != option.name);
            section.options.push(option);
        }
    }
}
