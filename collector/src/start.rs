//! Starting plugins.

use crate::capabilities;
use crate::config::options;
use crate::control::Duty;
use crate::digest::Digest;
use crate::encode::Tags;
use crate::event::{Event, Loaded, News};
use crate::form::Form;
use crate::ledger::Ledger;
use crate::library::pool::MOST_IDLE;
use crate::load::{self, Plugin};
use crate::output::Routes;
use crate::process::thread_name;
use crate::runner::Runner;
use crate::settings::Settings;
use crate::sink::Terms;
use anyhow::{Context, Result};
use crossbeam_channel::{Sender, unbounded};
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;

/// Where a plugin comes from.
pub enum PluginSource {
    /// It is loaded.
    Loaded(Box<Plugin>),
    /// Its file.
    File(PathBuf),
}

/// All that makes an instance of a plugin, on the thread that is to run it.
pub struct Recipe {
    /// Its number.
    pub id: u64,
    /// The plugin's name.
    pub name: String,
    /// Where it comes from.
    pub source: PluginSource,
    /// The content of the instance that runs, if it differs by that alone.
    pub same: Option<Digest>,
    /// Another instance runs.
    pub replaces: bool,
    /// The configuration with the flags over it.
    pub settings: Arc<Settings>,
    /// The forms that outputs ask for, each once.
    pub forms: Vec<Form>,
    /// Ticks to make at most.
    pub ticks: Option<u64>,
    /// Where lines go.
    pub routes: Routes,
    /// Its books.
    pub ledger: Arc<Ledger>,
    /// What it is told.
    pub duty: Duty,
    /// Where it tells of itself.
    pub events: Sender<Event>,
}

impl Recipe {
    /// Loads the plugin, starts it and runs it to its end.
    fn run(self) {
        let (id, events) = (self.id, self.events.clone());
        let refused = match self.runner() {
            Ok(Some(runner)) => return runner.run(),
            Ok(None) => News::Same,
            Err(reason) => News::Refused(reason),
        };
        let _ = events.send(Event::Plugin(id, refused));
    }

    fn runner(self) -> Result<Option<Runner>, String> {
        let Self { id, name, source, settings, forms, routes, ledger, duty, events, .. } = self;
        let config = settings.plugin(&name);
        let plugin = match source {
            PluginSource::Loaded(plugin) => *plugin,
            PluginSource::File(path) => {
                let allowed = settings.config.plugins_sha256.as_ref();
                load::load(&path, &config, allowed, MOST_IDLE)?
            }
        };
        if self.same == Some(plugin.digest) {
            return Ok(None);
        }
        let description = &plugin.description;
        let options = options::to_json(&config.options, description)?;
        let capabilities = plugin.asked(&config.options);
        capabilities::still_there(capabilities)?;
        let mut tags: Tags = settings.config.tags.clone();
        tags.extend(config.tags);
        let terms = Terms {
            plugin: name.clone(),
            tables: plugin.tables(),
            forms,
            reports: settings.config.reports,
            tags,
            uint: settings.config.uint,
            limits: config.limits,
            log: |plugin, level, text| log::log!(target: plugin, level, "{text}"),
        };
        let version = &description.version;
        ledger.set_version(version);
        let interval = config.interval.unwrap_or(settings.config.interval);
        log::info!("{name} {version}: every {}", humantime::format_duration(interval));
        let tables = description.tables.iter().map(|table| table.name.clone()).collect();
        Ok(Some(Runner {
            id,
            instance: plugin.instance(terms, options, interval),
            capabilities,
            interval,
            ticks: self.ticks,
            replaces: self.replaces,
            loaded: Loaded { digest: plugin.digest, tables },
            seq: 0,
            ledger,
            routes,
            duty,
            events,
        }))
    }
}

/// Starts threads that hold what plugins need. It is a thread of its own, since the main thread gives everything up.
#[derive(Debug)]
pub struct Starter(Sender<Box<Recipe>>);

impl fmt::Debug for Recipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recipe").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Starter {
    /// Begins, with what this thread holds.
    ///
    /// # Errors
    /// The kernel gives no thread.
    pub fn start() -> Result<Self> {
        let (recipes, all) = unbounded::<Box<Recipe>>();
        thread::Builder::new()
            .name(thread_name("start"))
            .stack_size(64 << 10)
            .spawn(move || {
                for recipe in all {
                    begin(*recipe);
                }
            })
            .context("starting the thread that starts plugins")?;
        Ok(Self(recipes))
    }

    /// Starts a plugin's thread. What becomes of it is told by its events.
    pub fn run(&self, recipe: Recipe) {
        let _ = self.0.send(Box::new(recipe)); // the thread never ends
    }
}

fn begin(recipe: Recipe) {
    let (id, events) = (recipe.id, recipe.events.clone());
    let thread = thread::Builder::new().name(thread_name(&recipe.name));
    if let Err(error) = thread.spawn(move || recipe.run()) {
        let reason = format!("starting its thread: {error}");
        let _ = events.send(Event::Plugin(id, News::Refused(reason)));
    }
}
