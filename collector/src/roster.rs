//! The list of plugins, which the main thread alone changes. A plugin is put on it in one way, be it at the start, for a
//! file that has come or changed, or for another configuration: an instance is loaded and started on a thread of its own,
//! and begins when the one before it has made its last call.
//!
//! What is promised then: of what happens, everything is in a line of the one instance or of the other, and nothing in
//! both, but for what happens from within the last call of the one until within the first of the other. That time is
//! measured and told (`gap_ns` of `collector_plugin`).

mod slot;

use crate::control::{Begin, Ending, Order, Word, control};
use crate::event::{Event, Loaded, News};
use crate::form::Form;
use crate::health::State;
use crate::ledger::Ledger;
use crate::library::name::name_of;
use crate::load::{NoPlugin, Plugin, already};
use crate::output::Routes;
use crate::settings::Settings;
use crate::start::{PluginSource, Recipe, Starter};
use crate::tick::Now;
use anyhow::Result;
use crossbeam_channel::Sender;
use slot::{Slot, Worker};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Who takes longer to start is not waited for at the collector's start.
pub const SLOW_START: Duration = Duration::from_secs(5);
/// A call of an instance that is to end may take so long; then it is left behind.
const PATIENCE: Duration = Duration::from_secs(5);
/// And the tick of its last call may be so far off, and more.
const NEXT_TICK: Duration = Duration::from_secs(15);

/// All plugins, and what they need.
pub struct Roster {
    settings: Arc<Settings>,
    forms: Vec<Form>,
    routes: Routes,
    starter: Starter,
    events: Sender<Event>,
    slots: Vec<Slot>,
    instances: u64,
    /// The moment from which on there are ticks.
    gate: Option<Now>,
    /// Who fills a table.
    tables: BTreeMap<String, String>,
    /// Of plugins that are on the list no longer: what they lost, and whether one ever started.
    gone: (u64, bool),
}

/// Why an instance is put on the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The file is new or has changed.
    File,
    /// The configuration has changed.
    Settings,
}

impl Roster {
    /// An empty list.
    ///
    /// # Errors
    /// The kernel gives no thread.
    pub fn new(settings: &Arc<Settings>, routes: &Routes, events: &Sender<Event>) -> Result<Self> {
        Ok(Self {
            settings: Arc::clone(settings),
            forms: routes.forms(),
            routes: routes.clone(),
            starter: Starter::start()?,
            events: events.clone(),
            slots: Vec::new(),
            instances: 0,
            gate: None,
            tables: BTreeMap::new(),
            gone: (0, false),
        })
    }

    /// Puts a plugin on the list that is loaded already.
    pub fn put(&mut self, plugin: Plugin) {
        let (name, path) = (plugin.description.name.clone(), plugin.entry.clone());
        self.begin(&name, &path, PluginSource::Loaded(Box::new(plugin)), Reason::File);
    }

    /// Puts the plugin of a file on the list, if it is to run.
    pub fn put_file(&mut self, path: &Path, why: Reason) {
        let name = name_of(path);
        if !self.settings.chosen(&name) {
            return;
        }
        let other = self.slots.iter().find(|slot| slot.name == name);
        if let Some(other) = other.and_then(|slot| slot.path.as_ref())
            && other != path
            && other.exists()
        {
            let reason = already(&name, other);
            return self.refused(&NoPlugin { path: path.to_owned(), reason });
        }
        self.begin(&name, path, PluginSource::File(path.to_owned()), why);
    }

    /// Opens books for a file that is no plugin, under a name that nobody has.
    pub fn refused(&mut self, refusal: &NoPlugin) {
        log::error!("{} refused: {}", refusal.path.display(), refusal.reason);
        let mut name = refusal.name();
        if self.slots.iter().any(|slot| slot.name == name) {
            name = refusal.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        }
        let ledger = Arc::new(Ledger::refused(&name, "", &refusal.reason));
        self.slots.retain(|slot| slot.name != name);
        self.slots.push(Slot::new(&name, Some(refusal.path.clone()), ledger));
    }

    fn begin(&mut self, name: &str, path: &Path, source: PluginSource, why: Reason) {
        let config = self.settings.plugin(name);
        let base = self.settings.config.interval;
        let interval = config.interval.unwrap_or(base);
        let ledger = Arc::new(Ledger::new(name, "", interval, config.limits));
        let at = self.slots.iter().position(|slot| slot.name == name).unwrap_or_else(|| {
            self.slots.push(Slot::new(name, None, Arc::clone(&ledger)));
            self.slots.len() - 1
        });
        let slot = &mut self.slots[at];
        slot.path = Some(path.to_owned());
        slot.removed = false;
        if slot.is_changing_over() {
            slot.again = Some(why);
            return;
        }
        slot.cancel_next();
        let beside = !slot.is_over();
        let running = slot.current.as_ref();
        let same = running.filter(|_| why == Reason::File).and_then(|it| it.loaded.as_ref());
        let (same, replaces) = (same.map(|loaded| loaded.digest), running.is_some());
        if !replaces {
            slot.show(&ledger);
        }
        let (control, duty) = control();
        self.instances += 1;
        slot.next = Some(Worker::new(self.instances, control, &ledger, beside));
        self.starter.run(Recipe {
            id: self.instances,
            name: name.to_owned(),
            source,
            same,
            replaces,
            settings: Arc::clone(&self.settings),
            forms: self.forms.clone(),
            // Ticks of another interval end with the collector's own.
            ticks: self.settings.ticks.filter(|_| interval == base && self.gate.is_none()),
            routes: self.routes.clone(),
            ledger,
            duty,
            events: self.events.clone(),
        });
    }

    /// Takes a plugin off the list: its last interval is told of, and it ends.
    pub fn remove(&mut self, name: &str) {
        let Some(slot) = self.slots.iter_mut().find(|slot| slot.name == name) else { return };
        if slot.current.is_some() || slot.next.is_some() {
            log::info!("{name}: removed");
        }
        slot.order(Order::LastTick(Now::read().wall_ns));
        slot.removed = true;
        slot.path = None;
        self.tables.retain(|_, owner| owner != name);
    }

    /// The plugin of a file is gone with it.
    pub fn remove_file(&mut self, path: &Path) {
        let of_file = |slot: &&Slot| slot.path.as_deref() == Some(path);
        if let Some(name) = self.slots.iter().find(of_file).map(|slot| slot.name.clone()) {
            self.remove(&name);
        }
    }

    /// Other settings hold from now on, and outputs ask for these forms: what that changes is started anew, or ended;
    /// or `all` are.
    pub fn change(
        &mut self,
        settings: &Arc<Settings>,
        forms: Vec<Form>,
        files: &[PathBuf],
        all: bool,
    ) {
        let old = std::mem::replace(&mut self.settings, Arc::clone(settings));
        self.forms = forms;
        let names: Vec<String> = self.slots.iter().map(|slot| slot.name.clone()).collect();
        for name in names {
            let slot = self.slots.iter().find(|slot| slot.name == name);
            let Some(path) = slot.and_then(|slot| slot.path.clone()) else { continue };
            if !settings.chosen(&name) || !files.contains(&path) {
                self.remove(&name);
            }
        }
        for path in files {
            let name = name_of(path);
            let slot = self.slots.iter().find(|slot| slot.name == name && !slot.removed);
            match slot {
                None => self.put_file(path, Reason::File),
                Some(slot) if slot.path.as_deref() != Some(path) => {
                    self.put_file(path, Reason::File)
                }
                Some(slot) => {
                    let forbidden = slot.digest().is_some_and(|it| !settings.allows(it));
                    if forbidden {
                        log::error!("{name}: `plugins_sha256` does not list its file any more");
                        self.remove(&name);
                        self.put_file(path, Reason::File); // to say so
                    } else if all || !settings.same_for(&name, &old) || !slot.runs() {
                        self.put_file(path, Reason::Settings);
                    }
                }
            }
        }
    }

    /// An instance has told something.
    pub fn hear(&mut self, id: u64, news: News) {
        let Some(at) = self.slots.iter().position(|slot| slot.has(id)) else { return };
        match news {
            News::Started(loaded) => {
                self.note_tables(at, &loaded);
                if let Some(next) = self.slots[at].next.as_mut().filter(|next| next.id == id) {
                    next.loaded = Some(loaded);
                }
            }
            News::Refused(reason) => self.slots[at].refused(id, &reason),
            News::Same => {
                log::debug!("{}: its file's content is the same", self.slots[at].name);
                self.slots[at].same(id);
            }
            News::TookOver => self.slots[at].took_over(id),
            News::Ended => self.slots[at].ended(id),
        }
        self.advance(at);
        let slot = &mut self.slots[at];
        if let (false, Some(why), Some(path)) =
            (slot.is_changing_over(), slot.again, slot.path.clone())
        {
            slot.again = None;
            self.put_file(&path, why);
        }
    }

    fn note_tables(&mut self, at: usize, loaded: &Loaded) {
        let name = &self.slots[at].name;
        for table in &loaded.tables {
            if let Some(other) = self.tables.insert(table.clone(), name.clone())
                && other != *name
            {
                let (one, other) = (name.min(&other), name.max(&other));
                log::warn!(
                    "`{one}` and `{other}` both fill table `{table}`: lines of equal tags and time \
                     overwrite each other"
                );
            }
        }
    }

    /// The next instance begins, or the one before it hears that it is to end.
    fn advance(&mut self, at: usize) {
        let (Some(gate), slot) = (self.gate, &mut self.slots[at]) else { return };
        let Some(next) = slot.next.as_ref().filter(|next| next.loaded.is_some()) else { return };
        if let Some(current) = &mut slot.current {
            if current.asked.is_none() {
                current.asked = Some(Instant::now());
                let successor = Some(next.control.sender());
                current.control.say(Word::End(Ending { order: Order::NextTick, successor }));
            }
        } else if slot.leaving.iter().all(|worker| worker.abandoned) {
            let newest_ns = slot.ledger.newest_ns();
            let begin = Begin { at: gate, skip: next.beside, after: None, newest_ns };
            next.control.say(Word::Begin(begin));
            slot.promote();
        }
    }

    /// Ticks begin for those that have started; for the others when they have.
    pub fn open(&mut self, gate: Now) {
        self.gate = Some(gate);
        (0..self.slots.len()).for_each(|at| self.advance(at));
    }

    /// Whether all have started or failed to.
    #[must_use]
    pub fn all_started(&self) -> bool {
        self.slots.iter().all(|slot| slot.next.as_ref().is_none_or(|next| next.loaded.is_some()))
    }

    /// Whether a plugin runs or is about to.
    #[must_use]
    pub fn any(&self) -> bool {
        self.slots.iter().any(|slot| slot.current.is_some() || slot.next.is_some())
    }

    /// Finds calls that are late, and those that are waited for in vain.
    pub fn watch(&mut self, now: Instant) {
        for at in 0..self.slots.len() {
            let slot = &mut self.slots[at];
            for ledger in slot.current.iter().map(|worker| &worker.ledger) {
                if let Some(text) = ledger.watch(now) {
                    log::warn!("{}: {text}", slot.name);
                }
            }
            slot.warn_of_slow_start(now);
            if slot.leave_behind(now) {
                self.advance(at);
            }
        }
    }

    /// Each plugin, and how it is.
    #[must_use]
    pub fn states(&self) -> Vec<(String, State)> {
        self.slots.iter().map(|slot| (slot.name.clone(), slot.ledger.state())).collect()
    }

    /// Whether there are plugins that run, and a call of each of them has been under way for longer than that.
    #[must_use]
    pub fn all_hang(&self, now: Instant, longer: Duration) -> bool {
        let running = self.slots.iter().filter_map(|slot| slot.current.as_ref());
        let mut since = running.map(|worker| worker.ledger.called()).peekable();
        let hangs = |began: Instant| now.saturating_duration_since(began) > longer;
        since.peek().is_some() && since.all(|since| since.is_some_and(hangs))
    }

    /// The shortest deadline of a call.
    #[must_use]
    pub fn shortest_deadline(&self) -> Duration {
        let all = self.slots.iter().filter_map(|slot| slot.ledger.deadline());
        all.min().unwrap_or(Duration::from_secs(1))
    }

    /// All are to end.
    pub fn order(&mut self, order: Order) {
        self.slots.iter_mut().for_each(|slot| slot.order(order));
    }

    /// Whether all threads have ended but those that nobody waits for.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.slots.iter().all(Slot::is_over)
    }

    /// Whether all threads have ended.
    #[must_use]
    pub fn ended(&self) -> bool {
        self.slots.iter().all(Slot::is_empty)
    }

    /// Says of those whose threads have not ended that nobody waits for them.
    pub fn warn_of_hanging(&self) {
        for slot in self.slots.iter().filter(|slot| !slot.is_empty()) {
            log::warn!("{}: has not ended in time: left behind", slot.name);
        }
    }

    /// Ticks until the end that those have passed whose threads have not ended are missed.
    pub fn close(&self, at: Now) {
        self.slots.iter().for_each(|slot| slot.close(at));
    }

    /// The books of all.
    #[must_use]
    pub fn ledgers(&self) -> Vec<Arc<Ledger>> {
        self.slots.iter().map(|slot| Arc::clone(&slot.ledger)).collect()
    }

    /// The books of all were shown: those of plugins that are gone are closed, unless lines of theirs wait.
    pub fn shown(&mut self, wait: impl Fn(&str) -> bool) {
        let over = |slot: &mut Slot| slot.removed && slot.is_over() && !wait(&slot.name);
        for Slot { ledger, .. } in self.slots.extract_if(.., over) {
            let (lost, started) = &mut self.gone;
            *lost += ledger.lost();
            *started |= ledger.ever_started();
        }
    }

    /// Rows and calls whose lines are lost, since the start.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.gone.0 + self.slots.iter().map(|slot| slot.ledger.lost()).sum::<u64>()
    }

    /// Whether a plugin ever started.
    #[must_use]
    pub fn ever_started(&self) -> bool {
        self.gone.1 || self.slots.iter().any(|slot| slot.ledger.ever_started())
    }
}
