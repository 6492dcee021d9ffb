//! A plugin that a command starts, calls and ends: for what can only be known by running it.

use crate::capabilities::{CapabilitySet, Held};
use crate::config::options;
use crate::form::Form;
use crate::instance::{self, Instance, Outcome, PluginError};
use crate::load::Plugin;
use crate::read::{Line, read};
use crate::settings::Settings;
use crate::sink::{Reports, Tally, Terms};
use crate::tick::Now;
use log::Level;
use plugin_api::Tick;
use std::thread;
use std::time::{Duration, Instant};

/// A plugin that was started and not ended.
pub(super) struct Trial<I> {
    pub instance: I,
    seq: u64,
    /// The start, or the begin of the last call.
    since: Instant,
}

/// What a call gave.
pub(super) struct Called {
    pub tick: Tick,
    pub took: Duration,
    /// Rows that became lines.
    pub rows: u64,
    pub lines: Vec<Line>,
    pub tally: Tally,
    pub result: Result<(), PluginError>,
}

impl<I: Instance> Trial<I> {
    /// Starts it. The thread holds what the plugin asks for from then on.
    pub fn start(name: &str, asked: CapabilitySet, mut instance: I) -> Result<Self, PluginError> {
        let mut held = Held::take(name, asked);
        instance::start(&mut held, name, &mut instance)?;
        Ok(Self { instance, seq: 0, since: Instant::now() })
    }

    /// Calls it.
    ///
    /// # Errors
    /// What it says are no lines.
    pub fn call(&mut self) -> anyhow::Result<Called> {
        let began = Instant::now();
        let elapsed_ns = u64::try_from((began - self.since).as_nanos()).unwrap_or(u64::MAX);
        let tick = Tick { seq: self.seq, time_ns: Now::read().wall_ns, elapsed_ns };
        (self.seq, self.since) = (self.seq + 1, began);
        let Outcome { closed, tally, result } = self.instance.call(&tick);
        let (took, rows) = (began.elapsed(), closed.rows);
        Ok(Called { tick, took, rows, lines: read(&closed.into_only())?, tally, result })
    }

    /// Ends it.
    pub fn end(mut self) -> Result<(), PluginError> {
        self.instance.end().result
    }
}

/// What lines of a plugin get that is tried, with all that it says about itself.
pub(super) fn terms(settings: &Settings, plugin: &Plugin) -> Terms {
    let name = plugin.description.name.clone();
    Terms {
        limits: settings.plugin(&name).limits,
        plugin: name,
        tables: plugin.tables(),
        forms: vec![Form::default()],
        reports: Reports::Full,
        tags: settings.config.tags.clone(),
        uint: settings.config.uint,
        // What it says when it starts is in the answer.
        log: |plugin, level, text| {
            if level <= Level::Warn {
                log::log!(target: plugin, level, "{text}");
            }
        },
    }
}

/// The lines of one call, `wait` after the start, with all reports. The thread holds what the plugin needs from then on.
/// `look` is called before the end, with the number of the process that the plugin has for itself.
///
/// # Errors
/// What failed, and the plugin's reason.
pub(super) fn trial(
    settings: &Settings,
    plugin: &Plugin,
    wait: Duration,
    look: impl FnOnce(Option<u32>),
) -> Result<Vec<Line>, String> {
    let description = &plugin.description;
    let config = settings.plugin(&description.name);
    let options = options::to_json(&config.options, description)?;
    let instance = plugin.instance(terms(settings, plugin), options, wait);
    let failed = |what: &str, error: PluginError| format!("{what} failed: {error}");
    let asked = plugin.asked(&config.options);
    let mut trial =
        Trial::start(&description.name, asked, instance).map_err(|error| failed("init", error))?;
    thread::sleep(wait);
    let called = trial.call();
    look(trial.instance.process());
    let ended = trial.end();
    let called = called.map_err(|error| format!("its lines cannot be read: {error:#}"))?;
    called.result.map_err(|error| failed("call", error))?;
    ended.map_err(|error| failed("deinit", error))?;
    Ok(called.lines)
}
