//! An output at work: its queue and its threads.

use super::parcel::Parcel;
use super::queue::{Gaps, Pause, Queue, SPOOL_PAUSE, Snapshot, Turn};
use super::spool::Spool;
use super::{Failure, Output, OutputConfig};
use crate::capabilities::drop_all;
use crate::encode::Tags;
use crate::form::Form;
use crate::process::thread_name;
use anyhow::{Context, Result};
use crossbeam_channel::Sender;
use log::Level;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

/// A running output.
#[derive(Debug)]
pub struct Outlet {
    name: String,
    urls: Vec<String>,
    form: Form,
    queue: Arc<Queue>,
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
        let outputs = config.target.open().with_context(|| format!("output {name}"))?;
        let queue = Arc::new(Queue::new(config.queue_bytes, gaps, spool));
        let found = queue.snapshot().total().recovered;
        if found > 0 {
            log::info!("output {name}: {found} lines recovered from its spool");
        }
        let (urls, form) = (config.target.urls().to_vec(), config.form);
        let mut outlet = Self { name, urls, form, queue, threads: Vec::new() };
        outlet.start_threads(outputs, &gone)?;
        Ok(outlet)
    }

    fn start_threads(&mut self, outputs: Vec<Box<dyn Output>>, gone: &Sender<()>) -> Result<()> {
        for (number, output) in outputs.into_iter().enumerate() {
            let (name, queue) = (self.name.clone(), Arc::clone(&self.queue));
            let sending = Sending { name, number, output, queue, reopened: 0, gone: gone.clone() };
            self.threads.push(thread("out", move || sending.run())?);
        }
        if self.queue.has_spool() {
            let (name, queue) = (self.name.clone(), Arc::clone(&self.queue));
            self.threads.push(thread("spool", move || spool(&name, &queue))?);
        }
        Ok(())
    }

    /// Its name: the URL without secrets.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The URLs that its lines are divided among, when there are several.
    #[must_use]
    pub fn urls(&self) -> &[String] {
        &self.urls
    }

    /// The form that it asks for.
    #[must_use]
    pub fn form(&self) -> Form {
        self.form
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

    /// What it writes to is to be opened again, before the next line; and what failed is tried again.
    pub fn reopen(&self) {
        self.queue.reopen();
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
        while let Some(mut parcel) = self.queue.take(self.number, &limits) {
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
                    let _ = self.gone.send(()); // nobody listens when the collector already stops
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
