//! An output at work: its queue, its thread, and the router that feeds them all.

use super::queue::{Books, Queue};
use super::{Failure, Output, OutputConfig};
use crate::batch::Message;
use crate::metrics::collector_output;
use anyhow::{Context, Result};
use crossbeam_channel::{Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Between attempts to write.
const RETRY: Duration = Duration::from_millis(500);

/// A running output.
#[derive(Debug)]
pub struct Outlet {
    name: String,
    queue: Arc<Queue>,
    thread: JoinHandle<()>,
    /// The books when they were last shown.
    shown: Mutex<Books>,
}

impl Outlet {
    /// Opens an output and starts its thread; `gone` is told when its other end has gone for good.
    ///
    /// # Errors
    /// It cannot be opened.
    pub fn start(config: &OutputConfig, gone: Sender<()>) -> Result<Self> {
        let name = config.target.to_string();
        let output = config.target.open().with_context(|| format!("output {name}"))?;
        let queue = Arc::new(Queue::new(config.queue_bytes));
        let (theirs, label) = (Arc::clone(&queue), name.clone());
        let thread = thread::Builder::new()
            .name("output".to_owned())
            .spawn(move || write(&label, output, &theirs, &gone))?;
        Ok(Self { name, queue, thread, shown: Mutex::default() })
    }

    /// Its name: the URL without secrets.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The queue, for the router.
    #[must_use]
    pub fn queue(&self) -> Arc<Queue> {
        Arc::clone(&self.queue)
    }

    /// The books since the start.
    #[must_use]
    pub fn books(&self) -> Books {
        self.queue.books()
    }

    /// Whether its thread has ended, with all that it could write.
    #[must_use]
    pub fn finished(&self) -> bool {
        self.thread.is_finished()
    }

    /// Whether it takes no lines any more.
    #[must_use]
    pub fn gone(&self) -> bool {
        self.queue.gone()
    }

    /// The line about the time since this was last asked.
    pub fn take(&self) -> collector_output::Row {
        let now = self.queue.books();
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut *shown, now);
        collector_output::Row {
            output: self.name.clone().into(),
            lines_produced: now.produced - before.produced,
            lines_delivered: now.delivered - before.delivered,
            lines_waiting: now.waiting as i64,
            lines_dropped_full: now.dropped_full - before.dropped_full,
            lines_dropped_error: now.dropped_error - before.dropped_error,
            bytes: now.bytes - before.bytes,
            errors: now.errors - before.errors,
        }
    }
}

/// An output's thread.
fn write(name: &str, mut output: Box<dyn Output>, queue: &Queue, gone: &Sender<()>) {
    let mut failing = false;
    while let Some(batch) = queue.next() {
        match output.deliver(&batch) {
            Ok(()) => {
                queue.delivered();
                if std::mem::take(&mut failing) {
                    log::info!("output {name}: works again");
                }
            }
            Err(Failure::Later(error)) => {
                if !std::mem::replace(&mut failing, true) {
                    log::warn!("output {name}: {error}; its lines wait, the oldest go first");
                }
                if !queue.failed(RETRY) {
                    log::error!("output {name}: still failing at the end: {error}");
                    return queue.abandon();
                }
            }
            Err(Failure::Gone(error)) => {
                log::warn!("output {name}: gone: {error}");
                queue.abandon();
                let _ = gone.send(()); // nobody listens any more when the collector already stops
                return;
            }
        }
    }
}

/// Hands every batch to every queue, until the end; then closes them.
pub fn route(batches: &Receiver<Message>, queues: &[Arc<Queue>]) {
    loop {
        match batches.recv() {
            Ok(Message::Batch(batch)) => {
                queues.iter().for_each(|queue| queue.push(Arc::clone(&batch)));
            }
            Ok(Message::End(deadline)) => {
                return queues.iter().for_each(|queue| queue.close(deadline));
            }
            Err(_) => return queues.iter().for_each(|queue| queue.close(Instant::now())),
        }
    }
}
