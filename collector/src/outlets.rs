//! The list of outputs, which the main thread alone changes. What a change of the configuration leaves as it is goes on
//! without noticing; of what it takes away, the lines that wait are still delivered. Nobody waits for an output.

use crate::config::Config;
use crate::event::Event;
use crate::output::{Books, Cause, Outlet, OutputConfig, Routes, Snapshot, spool};
use crate::settings::Usage;
use anyhow::{Result, bail};
use crossbeam_channel::Sender;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long an output that is taken away may deliver what waits.
const LEAVING: Duration = Duration::from_secs(10);
/// How often it is looked whether such a one has left its spool to the next.
const LOOK: Duration = Duration::from_millis(50);

/// All outputs.
pub struct Outlets {
    running: Vec<Outlet>,
    /// In the order in which they were taken away.
    leaving: Vec<Outlet>,
    past: BTreeMap<Seat, Past>,
    routes: Routes,
    events: Sender<Event>,
}

/// An output's name, and its spool's folder: two of one place cannot be open together.
type Seat = (String, Option<PathBuf>);

fn seat_of(config: &OutputConfig) -> Seat {
    (config.target.to_string(), config.spool.as_ref().map(|spool| spool.dir.clone()))
}

/// What became of the lines of outputs that have ended.
#[derive(Default)]
struct Past {
    urls: Vec<String>,
    snapshot: Snapshot,
    /// Lines that one left in the spool and the next has found there: no earlier run's.
    moved: BTreeMap<Arc<str>, u64>,
}

impl Past {
    fn add(&mut self, outlet: &Outlet) {
        self.urls = outlet.urls().to_vec();
        self.snapshot.add(&outlet.snapshot());
        (self.snapshot.trouble, self.snapshot.spool_bytes) = (None, 0);
    }

    /// What waits has gone on to another output, as far as that has found it in the spool.
    fn move_on(&mut self, found: &Snapshot) {
        for (plugin, books) in &mut self.snapshot.plugins {
            let found = found.plugins.get(plugin).map_or(0, |books| books.recovered);
            let left = std::mem::take(&mut books.waiting);
            let moved = left.min(found);
            books.dropped[Cause::SpoolError] += left - moved;
            *self.moved.entry(Arc::clone(plugin)).or_default() += moved;
        }
    }
}

/// What is known of an output.
pub struct Known<'a> {
    /// Its name.
    pub name: &'a str,
    /// The URLs that its lines are divided among, when there are several.
    pub urls: Vec<&'a str>,
    /// Its books.
    pub snapshot: Snapshot,
    /// Whether it is configured, or still delivers.
    pub lives: bool,
}

impl Outlets {
    /// Opens the outputs; `events` hears of those whose other end leaves.
    ///
    /// # Errors
    /// One cannot be opened, or stands there twice.
    pub fn open(config: &Config, events: &Sender<Event>) -> Result<Self> {
        check_names(&config.outputs)?;
        inherit_spools(&config.outputs)?;
        let mut outlets = Self {
            running: Vec::new(),
            leaving: Vec::new(),
            past: BTreeMap::new(),
            routes: Routes::default(),
            events: events.clone(),
        };
        for output in &config.outputs {
            let outlet = outlets.start(output, config)?;
            outlets.running.push(outlet);
        }
        outlets.routes.change(outlets.running.iter());
        Ok(outlets)
    }

    fn start(&mut self, output: &OutputConfig, config: &Config) -> Result<Outlet> {
        let Config { tags, uint, .. } = config;
        let place = seat_of(output);
        let taken = place.1.is_some() && self.all().any(|outlet| seat_of(outlet.config()) == place);
        let outlet = if taken {
            Outlet::wait(output, tags, *uint)
        } else {
            Outlet::start(output, tags, *uint, &self.events)
        };
        let outlet = outlet.map_err(|error| Usage(format!("{error:#}")))?;
        if let (false, Some(past)) = (taken, self.past.get_mut(&place)) {
            past.move_on(&outlet.snapshot());
        }
        Ok(outlet)
    }

    fn all(&self) -> impl Iterator<Item = &Outlet> {
        self.running.iter().chain(&self.leaving)
    }

    /// The way to all of them.
    #[must_use]
    pub fn routes(&self) -> &Routes {
        &self.routes
    }

    /// Other outputs are configured. What is the same goes on.
    ///
    /// # Errors
    /// One cannot be opened: then all is as before.
    pub fn change(&mut self, old: &Config, new: &Config) -> Result<()> {
        check_names(&new.outputs)?;
        let as_before = old.tags == new.tags && old.uint == new.uint; // lines about gaps have them
        let same = |outlet: &Outlet, output: &OutputConfig| {
            as_before && outlet.config() == output && !outlet.gone()
        };
        let mut started = Vec::new();
        for output in &new.outputs {
            if self.running.iter().any(|outlet| same(outlet, output)) {
                continue;
            }
            match self.start(output, new) {
                Ok(outlet) => started.push(outlet),
                Err(error) => {
                    let open = started.into_iter().filter(|outlet| !outlet.waits());
                    open.for_each(|outlet| self.retire(outlet, Duration::ZERO));
                    return Err(error);
                }
            }
        }
        let before = std::mem::take(&mut self.running);
        let (kept, ended): (Vec<_>, Vec<_>) = before
            .into_iter()
            .partition(|outlet| new.outputs.iter().any(|output| same(outlet, output)));
        self.running = kept.into_iter().chain(started).collect();
        self.running.sort_by_key(|outlet| new.outputs.iter().position(|it| it == outlet.config()));
        self.routes.change(self.running.iter());
        for outlet in ended {
            log::info!("output {}: ends, as it is configured", outlet.name());
            self.retire(outlet, LEAVING);
        }
        Ok(())
    }

    fn retire(&mut self, outlet: Outlet, within: Duration) {
        outlet.close(Instant::now() + within);
        self.leaving.push(outlet);
    }

    /// Closes the books of those that have ended; those that wait for their spools begin.
    pub fn tend(&mut self) {
        if self.leaving.is_empty() && !self.running.iter().any(Outlet::waits) {
            return;
        }
        for outlet in self.leaving.extract_if(.., |outlet| outlet.finished()) {
            outlet.abandon();
            log::info!("output {}: {}", outlet.name(), outlet.snapshot().total());
            self.past.entry(seat_of(outlet.config())).or_default().add(&outlet);
        }
        let mut taken: Vec<Seat> = Vec::new();
        for outlet in self.leaving.iter_mut().chain(&mut self.running) {
            let place = seat_of(outlet.config());
            if outlet.waits() && !taken.contains(&place) {
                if let Err(error) = outlet.succeed(&self.events) {
                    log::error!("output {}: {error:#}", outlet.name());
                }
                if let Some(past) = self.past.get_mut(&place) {
                    past.move_on(&outlet.snapshot());
                }
            }
            taken.push(place);
        }
    }

    /// How long there is nothing to tend.
    #[must_use]
    pub fn sleep(&self) -> Duration {
        if self.all().any(Outlet::waits) { LOOK } else { Duration::MAX }
    }

    /// What is known of all, also of those that have ended.
    #[must_use]
    pub fn known(&self) -> Vec<Known<'_>> {
        let mut known: Vec<Known<'_>> = Vec::new();
        let now = self.all().map(|it| (it.name(), it.urls(), it.snapshot(), true));
        let past = self.past.iter();
        let past = past.map(|((name, _), it)| (&**name, &*it.urls, it.snapshot.clone(), false));
        for (name, urls, snapshot, lives) in now.chain(past) {
            let urls = urls.iter().map(String::as_str);
            match known.iter_mut().find(|known| known.name == name) {
                Some(known) => {
                    let new = urls.filter(|url| !known.urls.contains(url)).collect::<Vec<_>>();
                    known.urls.extend(new);
                    known.snapshot.add(&snapshot);
                }
                None => known.push(Known { name, urls: urls.collect(), snapshot, lives }),
            }
        }
        for Known { name, snapshot, .. } in &mut known {
            let past = self.past.iter().filter(|(place, _)| place.0 == *name);
            for (plugin, moved) in past.flat_map(|(_, past)| &past.moved) {
                if let Some(books) = snapshot.plugins.get_mut(plugin) {
                    books.recovered -= moved;
                }
            }
        }
        known
    }

    /// One of which an attempt has been under way for longer than that: each ends by itself much earlier.
    #[must_use]
    pub fn stuck(&self, now: Instant, longer: Duration) -> Option<&str> {
        let is_stuck = |outlet: &&Outlet| {
            let began = outlet.trying_since();
            began.is_some_and(|began| now.saturating_duration_since(began) > longer)
        };
        self.running.iter().find(is_stuck).map(Outlet::name)
    }

    /// What they write to is opened again.
    pub fn reopen(&self) {
        self.running.iter().for_each(Outlet::reopen);
    }

    /// Whether nobody takes lines any more.
    #[must_use]
    pub fn all_gone(&self) -> bool {
        self.running.iter().filter(|outlet| !outlet.serves()).all(Outlet::gone)
    }

    /// Nothing comes any more: what waits may be delivered until then.
    pub fn close(&self, deadline: Instant) {
        self.all().for_each(|outlet| outlet.close(deadline));
    }

    /// Whether all threads have ended.
    #[must_use]
    pub fn finished(&self) -> bool {
        self.all().all(Outlet::finished)
    }

    /// There is no time left. Says what became of all lines.
    pub fn abandon(&self) {
        self.all().for_each(Outlet::abandon);
        for Known { name, urls, snapshot, .. } in self.known().iter().filter(|known| known.lives) {
            log::info!("output {name}: {}", snapshot.total());
            for url in urls {
                log::info!("output {name}: {} lines went to {url}", snapshot.sent_to(url).lines);
            }
        }
    }

    /// Lines that nobody has taken.
    #[must_use]
    pub fn missing(&self) -> u64 {
        let books = self.known().into_iter().map(|known| known.snapshot.total());
        books.map(|Books { waiting, dropped, .. }| waiting + dropped.sum()).sum()
    }
}

fn check_names(outputs: &[OutputConfig]) -> Result<()> {
    let names: Vec<String> = outputs.iter().map(|output| output.target.to_string()).collect();
    for (at, name) in names.iter().enumerate() {
        if names[..at].contains(name) {
            bail!(Usage(format!("output {name} is there twice")));
        }
    }
    Ok(())
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
