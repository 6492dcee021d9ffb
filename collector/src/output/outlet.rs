//! An output at work: its queue, its threads, and the router that feeds them all.

use super::backoff::Backoff;
use super::gaps::Gaps;
use super::parcel::Parcel;
use super::queue::{Queue, SPOOL_PAUSE, Snapshot};
use super::spool::Spool;
use super::{Failure, Output, OutputConfig};
use crate::batch::Message;
use crate::encode::Tags;
use crate::form::Form;
use anyhow::{Context, Result};
use crossbeam_channel::{Receiver, Sender};
use log::Level;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Before an output that needs a person's help is tried again.
const HOLD: Duration = Duration::from_secs(60);
/// An outage of this length leaves a backlog, beside which the present is not to wait.
const BACKLOG: Duration = Duration::from_secs(5);

/// A running output.
#[derive(Debug)]
pub struct Outlet {
    name: String,
    form: Form,
    queue: Arc<Queue>,
    reopen: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Outlet {
    /// Opens an output and starts its threads; `gone` is told when its other end has gone for good.
    /// `tags` and `uint` are for the lines about gaps.
    ///
    /// # Errors
    /// It, or its spool, cannot be opened.
    pub fn start(config: &OutputConfig, tags: &Tags, uint: bool, gone: Sender<()>) -> Result<Self> {
        let name = config.target.to_string();
        let gaps = Gaps::new(&name, config.form, tags, uint)?;
        // The spool first: it makes the folder in which refused lines are kept too.
        let spool = config.spool.as_ref().map(|spool| Spool::open(spool, &name)).transpose();
        let spool = spool.with_context(|| format!("output {name}: its spool"))?;
        let output = config.target.open().with_context(|| format!("output {name}"))?;
        let queue = Arc::new(Queue::new(config.queue_bytes, gaps, spool));
        let reopen = Arc::new(AtomicBool::new(false));
        let found = queue.snapshot().total().recovered;
        if found > 0 {
            log::info!("output {name}: {found} lines recovered from its spool");
        }
        let form = config.form;
        let mut outlet = Self { name, form, queue, reopen, threads: Vec::new() };
        outlet.start_threads(output, gone)?;
        Ok(outlet)
    }

    fn start_threads(&mut self, output: Box<dyn Output>, gone: Sender<()>) -> Result<()> {
        let name = || self.name.clone();
        let sender = Sending {
            name: name(),
            output,
            queue: Arc::clone(&self.queue),
            reopen: Arc::clone(&self.reopen),
            gone,
        };
        let mut threads = vec![thread("output", move || sender.run())?];
        if self.queue.has_spool() {
            let (name, queue) = (name(), Arc::clone(&self.queue));
            threads.push(thread("spool", move || spool(&name, &queue))?);
        }
        self.threads = threads;
        Ok(())
    }

    /// Its name: the URL without secrets.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The form that it asks for.
    #[must_use]
    pub fn form(&self) -> Form {
        self.form
    }

    /// The queue, for the router.
    #[must_use]
    pub fn queue(&self) -> Arc<Queue> {
        Arc::clone(&self.queue)
    }

    /// What is known since the start.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        self.queue.snapshot()
    }

    /// What it writes to is to be opened again, before the next line.
    pub fn reopen(&self) {
        self.reopen.store(true, Ordering::Relaxed);
    }

    /// There is no time left: what waits in no spool is lost.
    pub fn abandon(&self) {
        self.queue.abandon();
    }

    /// Whether its threads have ended, with all that they could do.
    #[must_use]
    pub fn finished(&self) -> bool {
        self.threads.iter().all(JoinHandle::is_finished)
    }

    /// Whether it takes no lines any more.
    #[must_use]
    pub fn gone(&self) -> bool {
        self.queue.gone()
    }
}

fn thread(name: &str, run: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>> {
    thread::Builder::new()
        .name(name.to_owned())
        .spawn(run)
        .with_context(|| format!("starting the thread `{name}`"))
}

/// What an output's thread has.
struct Sending {
    name: String,
    output: Box<dyn Output>,
    queue: Arc<Queue>,
    reopen: Arc<AtomicBool>,
    gone: Sender<()>,
}

/// Whether a parcel's end is the end of the thread.
enum After {
    Next,
    End,
}

impl Sending {
    fn run(mut self) {
        let limits = self.output.limits();
        let mut backoff = Backoff::default();
        while let Some(mut parcel) = self.queue.take(&limits) {
            if let After::End = self.send(&mut parcel, &mut backoff) {
                return;
            }
        }
    }

    /// Sends a parcel, as often as it takes.
    fn send(&mut self, parcel: &mut Parcel, backoff: &mut Backoff) -> After {
        let name = &self.name;
        let mut outage: Option<Outage> = None;
        while !parcel.is_done() {
            if self.reopen.swap(false, Ordering::Relaxed) {
                self.output.reopen();
            }
            let result = self.output.deliver(parcel, self.queue.deadline());
            self.queue.account(parcel);
            let (level, why, pause) = match result {
                Ok(()) => continue,
                Err(Failure::Gone(why)) => {
                    log::warn!("output {name}: gone: {why:#}");
                    self.queue.give_back(parcel);
                    self.queue.abandon();
                    let _ = self.gone.send(()); // nobody listens when the collector already stops
                    return After::End;
                }
                Err(Failure::Later { why, after }) => {
                    (Level::Warn, format!("{why:#}"), backoff.next(after, fastrand::f64()))
                }
                Err(Failure::Hold(why)) => (Level::Error, format!("{why:#}"), HOLD),
            };
            let now = outage.get_or_insert_with(|| Outage::new(Instant::now()));
            if now.is_news(&why) {
                log::log!(level, "output {name}: {why}; its lines wait");
            }
            if !self.queue.failed(&why, pause) {
                log::error!("output {name}: still failing at the end: {why}");
                self.queue.give_back(parcel);
                return After::End;
            }
        }
        if let Some(outage) = outage {
            let lasted = outage.since.elapsed();
            log::info!("output {name}: works again after {:.1} s", lasted.as_secs_f64());
            backoff.reset();
            self.queue.works(lasted >= BACKLOG);
        }
        After::Next
    }
}

/// While nothing is delivered.
struct Outage {
    since: Instant,
    /// What was said about it last.
    said: String,
}

impl Outage {
    fn new(since: Instant) -> Self {
        Self { since, said: String::new() }
    }

    /// Whether it fails for another reason than before.
    fn is_news(&mut self, why: &str) -> bool {
        let news = self.said != why;
        self.said = why.to_owned();
        news
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

/// Hands every batch to every queue that asks for its form, until the end; then closes them.
pub fn route(batches: &Receiver<Message>, queues: &[(Form, Arc<Queue>)]) {
    loop {
        match batches.recv() {
            Ok(Message::Batch(form, batch)) => {
                for (_, queue) in queues.iter().filter(|(wanted, _)| *wanted == form) {
                    queue.push(Arc::clone(&batch));
                }
            }
            Ok(Message::End(deadline)) => {
                return queues.iter().for_each(|(_, queue)| queue.close(deadline));
            }
            Err(_) => return queues.iter().for_each(|(_, queue)| queue.close(Instant::now())),
        }
    }
}
