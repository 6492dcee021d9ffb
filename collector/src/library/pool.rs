//! The libraries that this process has loaded. None is ever closed, so one whose plugin has ended waits here until a file
//! of the same content is to run again. An instance has a library to itself: two instances of one content are two copies.

use super::Opened;
use crate::digest::Digest;
use crate::instance::{Instance, Outcome, PluginError};
use crate::sink::{Sink, Terms};
use plugin_api::Tick;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

/// Libraries without a plugin that there may be. One takes 76 KiB of memory (release builds of sixteen tools); its code
/// and constants, up to 1.5 MB, are given back ([`Opened::rests`]).
pub const MOST_IDLE: usize = 32;

static LIBRARIES: Mutex<Vec<Arc<Kept>>> = Mutex::new(Vec::new());

/// A library for good.
struct Kept {
    digest: Digest,
    opened: Opened,
    /// What its lines fall into; the library logs by the first one that it got.
    sink: OnceLock<&'static Sink>,
    used: AtomicBool,
}

/// The right to run a library, given back by dropping it.
pub struct Lease(Arc<Kept>);

impl Drop for Lease {
    fn drop(&mut self) {
        self.0.opened.rests();
        self.0.used.store(false, Ordering::Release);
    }
}

fn libraries() -> MutexGuard<'static, Vec<Arc<Kept>>> {
    LIBRARIES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How many wait.
#[must_use]
pub fn idle() -> usize {
    libraries().iter().filter(|library| !library.used.load(Ordering::Acquire)).count()
}

impl Lease {
    /// A library of this content that waits. Not one of a C plugin, whose variables would still be those of before.
    #[must_use]
    pub fn again(digest: Digest) -> Option<Self> {
        let free = |library: &&Arc<Kept>| {
            library.digest == digest
                && library.opened.json().is_some()
                && !library.used.swap(true, Ordering::AcqRel)
        };
        libraries().iter().find(free).map(|library| Self(Arc::clone(library)))
    }

    /// One that was just loaded.
    #[must_use]
    pub fn new(digest: Digest, opened: Opened) -> Self {
        let used = AtomicBool::new(true);
        let library = Arc::new(Kept { digest, opened, sink: OnceLock::new(), used });
        libraries().push(Arc::clone(&library));
        Self(library)
    }

    /// The library.
    #[must_use]
    pub fn opened(&self) -> Opened {
        self.0.opened
    }

    /// What can be started: see [`Opened::instance`].
    #[must_use]
    pub fn instance(self: &Arc<Self>, terms: Terms, options: String) -> Box<dyn Instance> {
        let name = terms.plugin.clone();
        let mut terms = Some(terms);
        let sink = *self.0.sink.get_or_init(|| Sink::leak(terms.take().expect("it is there")));
        if let Some(terms) = terms {
            sink.renew(terms);
        }
        let instance = self.0.opened.instance(&name, sink, options);
        Box::new(Leased { instance, _lease: Arc::clone(self) })
    }
}

struct Leased {
    instance: Box<dyn Instance>,
    _lease: Arc<Lease>,
}

impl Instance for Leased {
    fn start(&mut self) -> Result<(), PluginError> {
        self.instance.start()
    }

    fn call(&mut self, tick: &Tick) -> Outcome {
        self.instance.call(tick)
    }

    fn skip(&mut self, tick: &Tick) -> Outcome {
        self.instance.skip(tick)
    }

    fn end(&mut self) -> Outcome {
        self.instance.end()
    }
}
