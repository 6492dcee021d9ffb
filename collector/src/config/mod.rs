//! The configuration: TOML, every key optional.
//!
//! The host's own keys are checked here, before anything is loaded; a plugin's options are checked
//! against its description when it is loaded ([`options`]).

pub mod options;
mod output;
mod section;

pub use output::parse_output;

use crate::digest::Digest;
use crate::encode::{Tags, check_key};
use crate::isolated::{Bounds, Isolation};
use crate::output::OutputConfig;
use crate::output::secret::Secret;
use crate::output::serve::{CertFiles, Listen};
use crate::sink::{Limits, Reports};
use crate::trust;
use log::LevelFilter;
use options::GivenOption;
use section::{Section, Source, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;
use toml::de::DeValue;

/// No interval is shorter: below, ticks cost more than they tell.
pub const SHORTEST_INTERVAL: Duration = Duration::from_millis(10);

/// And none is longer, so that sums of them stay far from overflow.
const LONGEST_INTERVAL: Duration = Duration::from_secs(366 * 24 * 3600);

/// A process with less memory has no room for a plugin.
const LEAST_MEMORY: u64 = 16 << 20;
const MOST_MEMORY: u64 = 1 << 40;

/// The keys of `[plugin.NAME]` that are the host's. The rest are the plugin's own options.
pub const HOST_KEYS: [&str; 9] = [
    "interval",
    "tags",
    "enabled",
    "max_lines",
    "max_bytes",
    "max_series",
    "isolation",
    "max_memory",
    "processes",
];

/// All of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Between ticks.
    pub interval: Duration,
    /// The plugins folder, when one is named.
    pub plugins: Option<PathBuf>,
    /// The digests of the only plugin files that may be loaded; `None` allows all.
    pub plugins_sha256: Option<BTreeSet<Digest>>,
    /// Tags of every line.
    pub tags: Tags,
    /// `u64` stays unsigned on the wire.
    pub uint: bool,
    /// How much goes to standard error.
    pub log: LevelFilter,
    /// How much the collector says about itself and the plugins.
    pub reports: Reports,
    /// The kernel measures the runs of BPF programs meanwhile.
    pub bpf_stats: bool,
    /// Where lines go; empty means standard output, unless there is a page.
    pub outputs: Vec<OutputConfig>,
    /// Where the page and the metrics are to be had.
    pub http: Option<Listen>,
    /// What those who ask there must have.
    pub http_token: Option<Secret>,
    /// The server's certificate there.
    pub http_tls: Option<CertFiles>,
    /// `[plugin.NAME]`, by name.
    pub sections: BTreeMap<String, PluginConfig>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(10),
            plugins: None,
            plugins_sha256: None,
            tags: Tags::new(),
            uint: false,
            log: LevelFilter::Info,
            reports: Reports::default(),
            bpf_stats: false,
            outputs: Vec::new(),
            http: None,
            http_token: None,
            http_tls: None,
            sections: BTreeMap::new(),
        }
    }
}

/// One `[plugin.NAME]`.
#[derive(Clone, Debug, PartialEq)]
pub struct PluginConfig {
    /// Between its ticks; the global one when none is given.
    pub interval: Option<Duration>,
    /// Tags of its lines, over the global ones.
    pub tags: Tags,
    /// Whether it runs.
    pub enabled: bool,
    /// Its caps per tick.
    pub limits: Limits,
    /// Where it runs; it depends on the plugin when nothing is said.
    pub isolation: Option<Isolation>,
    /// What its process may take, if it has one.
    pub bounds: Bounds,
    /// Its own options, not yet checked.
    pub options: Vec<GivenOption>,
}

impl Default for PluginConfig {
    fn default() -> Self {
        Self {
            interval: None,
            tags: Tags::new(),
            enabled: true,
            limits: Limits::DEFAULT,
            isolation: None,
            bounds: Bounds::DEFAULT,
            options: Vec::new(),
        }
    }
}

impl Config {
    /// Reads a configuration's file.
    ///
    /// # Errors
    /// It cannot be read, others may change it, or all that is wrong in it.
    pub fn read(path: &Path) -> Result<Self, String> {
        let name = path.to_string_lossy();
        let text = trust::open(path).and_then(|(file, _)| io::read_to_string(file));
        let text = text.map_err(|error| format!("configuration {name} cannot be read: {error}"))?;
        Self::parse(&name, &text)
    }

    /// Reads a configuration's text; `name` is its file's, for messages.
    ///
    /// # Errors
    /// All problems, one a line, each with file, line, column, the key and what is wanted.
    pub fn parse(name: &str, text: &str) -> Result<Self, String> {
        let source = Source::new(name, text);
        let table = source.parse()?;
        let mut top = Section::new(&source, "", &table);
        let default = Self::default();
        let (http, http_token, http_tls) = output::serve(&mut top);
        let mut config = Self {
            interval: interval(&mut top).unwrap_or(default.interval),
            plugins: top.path("plugins"),
            plugins_sha256: digests(&mut top),
            tags: tags(&mut top),
            uint: top.flag("uint").unwrap_or(default.uint),
            log: log(&mut top).unwrap_or(default.log),
            reports: top.word("self", &Reports::NAMED).unwrap_or(default.reports),
            bpf_stats: top.flag("bpf_stats").unwrap_or(default.bpf_stats),
            http,
            http_token,
            http_tls,
            ..default
        };
        for output in top.sections("output") {
            config.outputs.extend(output::output(output));
        }
        for (name, section) in top.sections_by_name("plugin") {
            config.sections.insert(name, plugin(section));
        }
        top.refuse_the_rest();
        source.problems().map(|()| config)
    }
}

fn interval(section: &mut Section<'_>) -> Option<Duration> {
    section.read("interval", "a duration such as \"10s\"", |value| {
        Ok(parse_interval(value.get_ref().as_str().ok_or("")?)?)
    })
}

/// Reads an interval.
///
/// # Errors
/// What is wrong with it; empty when it is no duration at all.
pub fn parse_interval(text: &str) -> Result<Duration, &'static str> {
    let interval = humantime::parse_duration(text).map_err(|_| "")?;
    if interval < SHORTEST_INTERVAL {
        Err("the shortest is 10ms")
    } else if interval > LONGEST_INTERVAL {
        Err("the longest is a year")
    } else {
        Ok(interval)
    }
}

fn digests(section: &mut Section<'_>) -> Option<BTreeSet<Digest>> {
    section.read("plugins_sha256", "a list of SHA-256 digests in quotes", |value| {
        let list = value.get_ref().as_array().ok_or("")?;
        let digest = |value: &Value<'_>| Ok(value.get_ref().as_str().ok_or("")?.parse()?);
        list.iter().map(digest).collect()
    })
}

fn tags(section: &mut Section<'_>) -> Tags {
    let source = section.source;
    let mut tags = Tags::new();
    for (key, value) in section.table("tags") {
        let name = key.get_ref();
        if let Err(error) = check_key("tag", name) {
            source.problem(key.span().start, format!("{error:#}"));
        } else if let Some(text) = value.get_ref().as_str() {
            tags.insert(name.to_string(), text.to_owned());
        } else {
            let text = format!("tag `{name}` must be a text in quotes");
            source.problem(value.span().start, text);
        }
    }
    tags
}

fn log(section: &mut Section<'_>) -> Option<LevelFilter> {
    section.read("log", "one of off, error, warn, info, debug, trace", |value| {
        Ok(value.get_ref().as_str().and_then(|text| text.parse().ok()).ok_or("")?)
    })
}

fn plugin(mut section: Section<'_>) -> PluginConfig {
    let default = PluginConfig::default();
    PluginConfig {
        interval: interval(&mut section),
        tags: tags(&mut section),
        enabled: section.flag("enabled").unwrap_or(default.enabled),
        limits: Limits {
            lines: section.positive("max_lines").unwrap_or(default.limits.lines),
            bytes: section
                .positive("max_bytes")
                .map_or(default.limits.bytes, |n| usize::try_from(n).unwrap_or(usize::MAX)),
            series: section
                .positive("max_series")
                .map_or(default.limits.series, |n| usize::try_from(n).unwrap_or(usize::MAX)),
        },
        isolation: section.word("isolation", &Isolation::NAMED),
        bounds: Bounds {
            memory: section
                .number("max_memory", LEAST_MEMORY..=MOST_MEMORY)
                .unwrap_or(default.bounds.memory),
            processes: section.flag("processes"),
        },
        options: section.rest(),
    }
}

/// A value as the JSON that a plugin takes.
fn json(value: &DeValue<'_>) -> Option<serde_json::Value> {
    Some(match value {
        DeValue::String(text) => text.to_string().into(),
        DeValue::Integer(n) => i64::from_str_radix(n.as_str(), n.radix()).ok()?.into(),
        DeValue::Float(n) => n.as_str().parse::<f64>().ok()?.into(),
        DeValue::Boolean(flag) => (*flag).into(),
        DeValue::Datetime(time) => time.to_string().into(),
        DeValue::Array(list) => list.iter().map(|v| json(v.get_ref())).collect::<Option<_>>()?,
        DeValue::Table(table) => {
            let entry = |(key, value): (&section::Key<'_>, &Value<'_>)| {
                Some((key.get_ref().to_string(), json(value.get_ref())?))
            };
            serde_json::Value::Object(table.iter().map(entry).collect::<Option<_>>()?)
        }
    })
}

#[cfg(test)]
mod tests;
