//! An output at work: its queue and its threads.

use super::parcel::Parcel;
use super::queue::{Gaps, Pause, Queue, SPOOL_PAUSE, Snapshot, Turn};
use super::spool::Spool;
use super::{Failure, Output, OutputConfig};
use crate::capabilities::drop_all;
use crate::encode::Tags;
use crate::event::Event;
use crate::form::Form;
use crate::process::thread_name;
use anyhow::{Context, Result};
use crossbeam_channel::Sender;
use log::Level;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Instant;

/// A running output.
pub struct Outlet {
    config: OutputConfig,
    name: String,
    queue: Arc<Queue>,
    /// One for each thread, until they start.
    outputs: Vec<Box<dyn Output>>,
    threads: Vec<JoinHandle<()>>,
}

impl Outlet {
    /// Opens an output and starts its threads; `events` hears when its other end has gone for good.
    /// `tags` and `uint` are for the lines about gaps.
    ///
    /// # Errors
    /// It, or its spool, cannot be opened.
    pub fn start(
        config: &OutputConfig,
        tags: &Tags,
        uint: bool,
        events: &Sender<Event>,
    ) -> Result<Self> {
        let mut outlet = Self::new(config, tags, uint)?;
        // The spool first: it makes the folder in which refused lines are kept too.
        outlet.open_spool()?;
        outlet.open(tags)?;
        outlet.start_threads(events)?;
        Ok(outlet)
    }

    /// The same for one whose spool another one has: its lines wait in memory until [`Outlet::succeed`].
    ///
    /// # Errors
    /// It cannot be opened.
    pub fn wait(config: &OutputConfig, tags: &Tags, uint: bool) -> Result<Self> {
        let mut outlet = Self::new(config, tags, uint)?;
        outlet.open(tags)?;
        Ok(outlet)
    }

    /// Takes the spool over, and starts its threads. Without the spool it works too.
    ///
    /// # Errors
    /// The kernel gives no thread.
    pub fn succeed(&mut self, events: &Sender<Event>) -> Result<()> {
        if let Err(why) = self.open_spool() {
            log::error!("{why:#}; its lines wait in memory only");
            self.queue.has_no_spool(&format!("{why:#}"));
        }
        self.start_threads(events)
    }

    fn new(config: &OutputConfig, tags: &Tags, uint: bool) -> Result<Self> {
        let name = config.target.to_string();
        let gaps = Gaps::new(&name, config.form, tags, uint)?;
        let queue = Queue::new(config.queue_bytes, gaps);
        let queue = Arc::new(if config.target.in_order() { queue.in_order() } else { queue });
        Ok(Self { config: config.clone(), name, queue, outputs: Vec::new(), threads: Vec::new() })
    }

    fn open_spool(&self) -> Result<()> {
        let Self { config, name, queue, .. } = self;
        let Some(spool) = &config.spool else { return Ok(()) };
        let opened = Spool::open(spool, name);
        queue.set_spool(opened.with_context(|| format!("output {name}: its spool"))?);
        let found = queue.snapshot().total().recovered;
        if found > 0 {
            log::info!("output {name}: {found} lines recovered from its spool");
        }
        Ok(())
    }

    fn open(&mut self, tags: &Tags) -> Result<()> {
        let opened = self.config.target.open(tags);
        self.outputs = opened.with_context(|| format!("output {}", self.name))?;
        Ok(())
    }

    fn start_threads(&mut self, events: &Sender<Event>) -> Result<()> {
        for (number, output) in std::mem::take(&mut self.outputs).into_iter().enumerate() {
            let (name, queue) = (self.name.clone(), Arc::clone(&self.queue));
            let sending =
                Sending { name, number, output, queue, reopened: 0, events: events.clone() };
            self.threads.push(thread("out", move || sending.run())?);
        }
        if self.queue.has_spool() {
            let (name, queue) = (self.name.clone(), Arc::clone(&self.queue));
            self.threads.push(thread("spool", move || spool(&name, &queue))?);
        }
        Ok(())
    }

    /// How it is configured.
    #[must_use]
    pub fn config(&self) -> &OutputConfig {
        &self.config
    }

    /// Its name: the URL without secrets.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The URLs that its lines are divided among, when there are several.
    #[must_use]
    pub fn urls(&self) -> &[String] {
        self.config.target.urls()
    }

    /// The form that it asks for.
    #[must_use]
    pub fn form(&self) -> Form {
        self.config.form
    }

    /// The queue, for those who make lines.
    #[must_use]
    pub fn queue(&self) -> Arc<Queue> {
        Arc::clone(&self.queue)
    }

    /// What is known since the start.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        self.queue.snapshot()
    }

    /// When the oldest attempt began that is under way.
    #[must_use]
    pub fn trying_since(&self) -> Option<Instant> {
        self.queue.trying_since()
    }

    /// What it writes to is to be opened again, before the next line; and what failed is tried again.
    pub fn reopen(&self) {
        self.queue.reopen();
    }

    /// Nothing comes any more that is worth waiting for: it may deliver what it has until then. What a plugin sends all
    /// the same, one that hung and was left behind, is lost and counted.
    pub fn close(&self, deadline: Instant) {
        self.queue.close(deadline);
    }

    /// There is no time left: what waits in no spool is lost.
    pub fn abandon(&self) {
        self.queue.abandon();
    }

    /// Whether it waits for [`Outlet::succeed`].
    #[must_use]
    pub fn waits(&self) -> bool {
        !self.outputs.is_empty()
    }

    /// Whether its threads have ended, with all that they could do.
    #[must_use]
    pub fn finished(&self) -> bool {
        !self.waits() && self.threads.iter().all(JoinHandle::is_finished)
    }

    /// Whether lines stay here for those who ask, instead of going somewhere.
    #[must_use]
    pub fn serves(&self) -> bool {
        matches!(self.config.target, super::Target::Serve(_) | super::Target::Screen(_))
    }

    /// Whether it takes no lines any more.
    #[must_use]
    pub fn gone(&self) -> bool {
        self.queue.gone()
    }
}

fn thread(name: &str, run: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>> {
    thread::Builder::new()
        .name(thread_name(name))
        .spawn(|| {
            drop_all();
            run();
        })
        .with_context(|| format!("starting the thread `{name}`"))
}

/// A sender: what one of an output's threads has.
struct Sending {
    name: String,
    /// Which of the output's senders it is.
    number: usize,
    output: Box<dyn Output>,
    queue: Arc<Queue>,
    /// See [`Attempt::reopened`](super::queue::Attempt::reopened).
    reopened: u64,
    events: Sender<Event>,
}

/// Whether a parcel's end is the end of the thread.
enum After {
    Next,
    End,
}

impl Sending {
    fn run(mut self) {
        let portion = self.output.portion();
        while let Some(mut parcel) = self.queue.take(self.number, &portion) {
            if let After::End = self.send(&mut parcel) {
                return;
            }
        }
    }

    /// Sends a parcel, as often as it takes.
    fn send(&mut self, parcel: &mut Parcel) -> After {
        let name = &self.name;
        while !parcel.is_done() {
            let attempt = match self.queue.turn(self.number) {
                Turn::Go(attempt) => attempt,
                Turn::Look => {
                    let worth_it = self.output.look(self.queue.deadline());
                    self.queue.looked(worth_it);
                    continue;
                }
                Turn::Over(why) => {
                    if let Some(why) = why {
                        log::error!("output {name}: still failing at the end: {why}");
                    }
                    self.queue.give_back(parcel);
                    return After::End;
                }
            };
            if std::mem::replace(&mut self.reopened, attempt.reopened) != attempt.reopened {
                self.output.reopen();
            }
            let result = self.output.deliver(parcel, self.queue.deadline());
            let settled = self.queue.account(parcel);
            let (level, why, pause) = match result {
                Ok(()) => {
                    if settled > 0
                        && let Some(lasted) = self.queue.worked(attempt)
                    {
                        let seconds = lasted.as_secs_f64();
                        log::info!("output {name}: works again after {seconds:.1} s");
                    }
                    continue;
                }
                Err(Failure::Gone(why)) => {
                    log::warn!("output {name}: gone: {why:#}");
                    self.queue.give_back(parcel);
                    self.queue.abandon();
                    let _ = self.events.send(Event::OutputGone); // nobody listens when the collector already stops
                    return After::End;
                }
                Err(Failure::Later { why, after }) => (Level::Warn, why, Pause::Own(after)),
                Err(Failure::Hold(why)) => (Level::Error, why, Pause::Hold),
            };
            let why = format!("{why:#}");
            if self.queue.failed(self.number, attempt, &why, pause) {
                log::log!(level, "output {name}: {why}; its lines wait");
            }
        }
        After::Next
    }
}

/// The spool's thread: moves what comes to the disk.
fn spool(name: &str, queue: &Queue) {
    let mut failing = false;
    while let Some(result) = queue.spool_next() {
        match result {
            Ok(()) => {
                if std::mem::take(&mut failing) {
                    log::info!("output {name}: its spool works again");
                }
            }
            Err(why) => {
                if !std::mem::replace(&mut failing, true) {
                    log::error!(
                        "output {name}: its spool cannot be written: {why}; lines wait in memory only"
                    );
                }
                if !queue.wait_for_spool(SPOOL_PAUSE) {
                    return;
                }
            }
        }
    }
}
