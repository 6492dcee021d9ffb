//! Who looks at a plugin's process from outside, and when.

use super::holdings::Holdings;
use crate::instance::{Instance, Outcome, PluginError};
use crate::isolated::ProcessInstance;
use crossbeam_channel::{Sender, bounded, unbounded};
use plugin_api::Tick;
use std::io;
use std::thread;

type Look = Box<dyn FnOnce() + Send>;

/// A thread that keeps what this process may do, while the plugin's thread holds no more than the plugin needs.
pub(in crate::show) struct Onlooker(Sender<Look>);

impl Onlooker {
    pub fn start() -> io::Result<Self> {
        let (sender, looks) = unbounded::<Look>();
        let thread = thread::Builder::new().name("collector/look".to_owned());
        thread.spawn(move || looks.iter().for_each(|look| look()))?;
        Ok(Self(sender))
    }

    pub fn ask<T: Send + 'static>(&self, look: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        let (sender, seen) = bounded(1);
        let look = Box::new(move || drop(sender.send(look())));
        self.0.send(look).ok()?;
        seen.recv().ok()
    }

    /// What a process holds.
    pub fn holdings(&self, process: Option<u32>) -> io::Result<Holdings> {
        let process = process.ok_or_else(|| io::Error::other("it has no process"))?;
        self.ask(move || Holdings::of(process))
            .unwrap_or_else(|| Err(io::Error::other("no onlooker")))
    }
}

/// A plugin whose process is looked at once it has loaded the file.
pub(super) struct Watched<'a> {
    pub process: ProcessInstance,
    pub onlooker: &'a Onlooker,
    pub before: io::Result<Holdings>,
}

impl Instance for Watched<'_> {
    fn start(&mut self) -> Result<(), PluginError> {
        self.process.open()?;
        self.before = self.onlooker.holdings(self.process.process());
        self.process.start_here()
    }

    fn call(&mut self, tick: &Tick) -> Outcome {
        self.process.call(tick)
    }

    fn skip(&mut self, tick: &Tick) -> Outcome {
        self.process.skip(tick)
    }

    fn end(&mut self) -> Outcome {
        self.process.end()
    }
}
