//! Links that come and go while a tool runs.

use super::attached::Attached;
use super::follow::{State, plan};
use super::target::Target;
use plugin_api::{Result, bail};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What a tool attaches for things that come and go, by key: shells, JVMs, containers.
///
/// Its programs are those of [`crate::Hooks::later`]. The links themselves belong to the attached object and end
/// with it; dropping this detaches them at the next tick.
///
/// ```text
/// fn tend(&mut self, attached: &mut Attached) -> Result<()> {
///     let jvms = find_jvms().map(|jvm| {
///         let begin = Target::usdt(&jvm.library, "hotspot", "gc__begin");
///         let end = Target::usdt(&jvm.library, "hotspot", "gc__end");
///         (jvm.inode, vec![("gc_begin_usdt", begin), ("gc_end_usdt", end)])
///     });
///     self.links.follow(attached, jvms)?;
///     Ok(())
/// }
/// ```
#[derive(Debug)]
pub struct Links<K> {
    known: BTreeMap<K, State>,
    /// Calls of `follow`.
    tick: u64,
    alive: Arc<()>,
}

/// What a call of [`Links::follow`] changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changes<K> {
    /// Keys that are attached now and were not before.
    pub attached: Vec<K>,
    /// Keys that were attached before and are not now.
    pub detached: Vec<K>,
    /// Keys that were refused for the first time, or for another reason than before, with the reason. It is in
    /// `collector_program` too.
    pub refused: Vec<(K, String)>,
    /// Wanted keys that are not attached, of all ticks.
    pub missing: usize,
}

impl<K> Default for Links<K> {
    fn default() -> Self {
        Self { known: BTreeMap::new(), tick: 0, alive: Arc::new(()) }
    }
}

impl<K: Ord + Clone> Links<K> {
    /// Attaches the keys that are new, each to all of its targets or to none, and detaches those that are gone;
    /// once in a tick, from [`crate::Tool::tend`].
    ///
    /// A key stands for its targets: those of a key that is attached already are not looked at. So what
    /// makes a target another one belongs in the key, such as device and inode of a file. A key that is refused
    /// is tried again after 1, 2, 4, .. ticks, at last every 64 ticks.
    ///
    /// # Errors
    /// A program is not loaded: [`crate::Hooks::later`] does not name it. That a key is refused is no error.
    pub fn follow(
        &mut self,
        attached: &mut Attached,
        wanted: impl IntoIterator<Item = (K, Vec<(&'static str, Target)>)>,
    ) -> Result<Changes<K>> {
        let wanted: BTreeMap<K, Vec<_>> = wanted.into_iter().collect();
        for (name, _) in wanted.values().flatten() {
            if attached.programs().iter().all(|program| program.name() != *name) {
                bail!("program `{name}` is not loaded: name it in Hooks::later");
            }
        }
        self.tick += 1;
        let plan = plan(&self.known, &wanted.keys().collect::<BTreeSet<_>>(), self.tick);
        let mut changes =
            Changes { attached: Vec::new(), detached: Vec::new(), refused: Vec::new(), missing: 0 };
        for key in plan.detach {
            if let Some(State::Attached(number)) = self.known.remove(&key) {
                attached.detach_late(number);
                changes.detached.push(key);
            }
        }
        for key in plan.attach {
            let before = self.known.get(&key);
            let state = match attached.attach_late(Arc::downgrade(&self.alive), &wanted[&key]) {
                Ok(number) => {
                    changes.attached.push(key.clone());
                    State::Attached(number)
                }
                Err(failure) => {
                    let reason = failure.reason;
                    if !matches!(before, Some(State::Refused { reason: r, .. }) if *r == reason) {
                        attached.trouble(&failure.program.unwrap_or_default(), reason.clone());
                        changes.refused.push((key.clone(), reason.clone()));
                    }
                    State::refused(before, self.tick, reason)
                }
            };
            self.known.insert(key, state);
        }
        let refused = |state: &&State| matches!(state, State::Refused { .. });
        changes.missing = self.known.values().filter(refused).count();
        Ok(changes)
    }

    /// Detaches a key, whose places nobody comes to any more, without waiting for the kernel.
    pub(super) fn let_go(&mut self, attached: &mut Attached, key: &K) {
        if let Some(State::Attached(number)) = self.known.remove(key) {
            attached.let_go(number);
        }
    }

    /// How many keys are attached.
    #[must_use]
    pub fn len(&self) -> usize {
        self.known.values().filter(|state| matches!(state, State::Attached(_))).count()
    }

    /// Whether no key is attached.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
