//! Maps that a tool makes by itself, which no object knows of: they take memory like the others.

use std::cell::RefCell;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Weak};

thread_local! {
    static MADE: RefCell<Vec<Weak<OwnedFd>>> = const { RefCell::new(Vec::new()) };
}

/// Remembers one for as long as it is held.
pub(super) fn remember(map: &Arc<OwnedFd>) {
    MADE.with_borrow_mut(|made| {
        made.retain(|map| map.strong_count() > 0);
        made.push(Arc::downgrade(map));
    });
}

/// Those that this thread has made and that are held: a plugin has a thread of its own.
pub(crate) fn made_here() -> Vec<Arc<OwnedFd>> {
    MADE.with_borrow(|made| made.iter().filter_map(Weak::upgrade).collect())
}
