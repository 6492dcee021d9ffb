//! Starting outputs and plugins.

use crate::cli::{Settings, Usage};
use crate::config::{Config, options};
use crate::encode::Tags;
use crate::form::Form;
use crate::ledger::Ledger;
use crate::load::{Plugin, Refusal};
use crate::metrics::Subject;
use crate::nearest::{did_you_mean, nearest};
use crate::output::{Outlet, OutputConfig, Routes, spool};
use crate::runner::Runner;
use crate::sink::{Sink, Terms};
use crate::stop::Stop;
use crate::tick::Now;
use anyhow::{Result, bail};
use crossbeam_channel::{Receiver, Sender};
use std::collections::{BTreeMap, HashSet};
use std::convert::Infallible;
use std::path::Path;
use std::sync::Arc;

/// Opens the outputs; `gone` hears of those whose other end leaves.
///
/// # Errors
/// One cannot be opened, or stands there twice.
pub fn open_outlets(settings: &Settings, gone: &Sender<()>) -> Result<Vec<Outlet>> {
    inherit_spools(&settings.config.outputs)?;
    let mut outlets: Vec<Outlet> = Vec::new();
    for config in &settings.config.outputs {
        let name = config.target.to_string();
        if outlets.iter().any(|other| other.name() == name) {
            bail!(Usage(format!("output {name} is there twice")));
        }
        let Config { tags, uint, .. } = &settings.config;
        let outlet = Outlet::start(config, tags, *uint, gone.clone());
        outlets.push(outlet.map_err(|error| Usage(format!("{error:#}")))?);
    }
    Ok(outlets)
}

/// Spools of outputs that got another name.
fn inherit_spools(outputs: &[OutputConfig]) -> Result<()> {
    let mut folders: BTreeMap<&Path, Vec<String>> = BTreeMap::new();
    for OutputConfig { target, spool, .. } in outputs {
        if let Some(spool) = spool {
            folders.entry(&spool.dir).or_default().push(target.to_string());
        }
    }
    folders.iter().try_for_each(|(dir, names)| spool::inherit(dir, names))
}

/// A section for a plugin that is not there is likely a slip; the plugin may also come later.
pub fn warn_of_sections_without_plugin(settings: &Settings, plugins: &[Plugin]) {
    let names = || plugins.iter().map(|plugin| plugin.description.name.as_str());
    for section in settings.config.sections.keys() {
        if !names().any(|name| name == section) {
            let near = did_you_mean(nearest(section, names()));
            log::warn!("[plugin.{section}] is configured, but no such plugin is there{near}");
        }
    }
}

/// Starts plugins one by one. The ends of channels are those of [`Runner`].
pub struct Starter<'a> {
    /// The configuration with the flags over it.
    pub settings: &'a Settings,
    /// The forms that outputs ask for, each once.
    pub forms: &'a [Form],
    /// Where lines go.
    pub routes: Routes,
    /// The order to end.
    pub stop: Stop,
    /// Dropped by each that has started.
    pub ready: Sender<Infallible>,
    /// The moment from which on there are ticks.
    pub gate: Receiver<Now>,
    /// Dropped by each that has ended.
    pub done: Sender<Infallible>,
    /// All that `collector_plugin` tells of.
    pub subjects: Vec<Subject>,
    /// Who fills a table.
    pub tables: BTreeMap<String, String>,
}

impl Starter<'_> {
    /// Starts a plugin's thread; false when its options are wrong.
    ///
    /// # Errors
    /// The kernel gives no thread.
    pub fn start(&mut self, plugin: &Plugin) -> Result<bool> {
        let description = &plugin.description;
        let (name, version) = (&description.name, &description.version);
        let config = self.settings.plugin(name);
        let options = match options::to_json(&config.options, description) {
            Ok(options) => options,
            Err(reason) => {
                log::error!("{name}: not started: {reason}");
                let ledger = Ledger::refused(name, version, &reason);
                self.subjects.push(Subject { ledger: Arc::new(ledger), sink: None });
                return Ok(false);
            }
        };
        for table in description.tables.iter().map(|table| &table.name) {
            if let Some(other) = self.tables.insert(table.clone(), name.clone()) {
                log::warn!(
                    "`{other}` and `{name}` both fill table `{table}`: lines of equal tags and time \
                     overwrite each other"
                );
            }
        }
        let mut tags: Tags = self.settings.config.tags.clone();
        tags.extend(config.tags);
        let sink = Sink::leak(Terms {
            plugin: name.clone(),
            tables: Some(description.tables.clone()),
            forms: self.forms.to_vec(),
            reports: self.settings.config.reports,
            tags,
            uint: self.settings.config.uint,
            limits: config.limits,
            log: |plugin, level, text| log::log!(target: plugin, level, "{text}"),
        });
        let base = self.settings.config.interval;
        let interval = config.interval.unwrap_or(base);
        let ledger = Arc::new(Ledger::new(name, version, interval));
        self.subjects.push(Subject { ledger: Arc::clone(&ledger), sink: Some(sink) });
        log::info!("{name} {version}: every {}", humantime::format_duration(interval));
        let runner = Runner {
            module: plugin.module,
            options,
            capabilities: plugin.capabilities,
            interval,
            // Ticks of another interval end with the collector's own.
            ticks: self.settings.ticks.filter(|_| interval == base),
            sink,
            ledger,
            routes: self.routes.clone(),
            stop: self.stop.clone(),
            ready: Some(self.ready.clone()),
            gate: self.gate.clone(),
            done: self.done.clone(),
        };
        runner.start()?;
        Ok(true)
    }

    /// Opens books for files that are no plugins, under names that nobody has.
    pub fn refused(&mut self, refused: &[Refusal]) {
        let mut taken: HashSet<String> =
            self.subjects.iter().map(|s| s.ledger.name().to_owned()).collect();
        for refusal in refused {
            log::error!("{} refused: {}", refusal.path.display(), refusal.reason);
            let mut name = refusal.name();
            if !taken.insert(name.clone()) {
                name = refusal.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            }
            let ledger = Arc::new(Ledger::refused(&name, "", &refusal.reason));
            self.subjects.push(Subject { ledger, sink: None });
        }
    }

    /// All are started: from now on only their threads hold the ends that tell of them.
    #[must_use]
    pub fn into_subjects(self) -> Vec<Subject> {
        self.subjects
    }
}
