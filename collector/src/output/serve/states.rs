//! How the plugins are, as the main thread says it: lines that become numbers have no texts.
//!
//! One for the process, like [`descriptions`](crate::descriptions). While nobody serves it nothing is kept.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

static SERVERS: AtomicUsize = AtomicUsize::new(0);
static STATES: Mutex<Option<States>> = Mutex::new(None);

/// A plugin, or a file that is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PluginState {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// The state, as in `collector_plugin`.
    pub state: &'static str,
    /// Why it is not well.
    pub reason: Option<String>,
}

/// All of them.
#[derive(Clone, Debug)]
pub struct States {
    /// When they were told.
    pub told: Instant,
    /// How often they are told.
    pub interval: Duration,
    /// By no order.
    pub plugins: Vec<PluginState>,
}

/// One who serves it; as long as it lives they are kept.
#[derive(Debug)]
pub struct Interest(());

impl Interest {
    /// From now on.
    pub fn begin() -> Self {
        SERVERS.fetch_add(1, Ordering::Relaxed);
        Self(())
    }
}

impl Drop for Interest {
    fn drop(&mut self) {
        SERVERS.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Tells how all plugins are, if anybody wants to know. They are told again after the interval.
pub fn publish(interval: Duration, plugins: impl FnOnce() -> Vec<PluginState>) {
    if SERVERS.load(Ordering::Relaxed) > 0 {
        let states = States { told: Instant::now(), interval, plugins: plugins() };
        *STATES.lock().unwrap_or_else(PoisonError::into_inner) = Some(states);
    }
}

/// What was told last.
pub fn last() -> Option<States> {
    STATES.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

/// What a supervisor is told: whether all is well, and why not.
pub type Verdict = (bool, String);

/// How late the main thread may be.
const LATE: Duration = Duration::from_secs(10);

/// Whether the collector lives: its main thread has told something not long ago. At the start there is nothing to tell.
pub fn healthy(states: Option<&States>, now: Instant) -> Verdict {
    let Some(States { told, interval, .. }) = states else {
        return (true, "starting\n".to_owned());
    };
    let age = now.saturating_duration_since(*told);
    if age <= interval.saturating_mul(3).saturating_add(LATE) {
        return (true, "ok\n".to_owned());
    }
    let seconds = age.as_secs();
    (
        false,
        format!(
            "the main thread has said nothing for {seconds} s: the collector hangs, restart it\n"
        ),
    )
}

/// Whether it collects: no plugin is still starting, and one at least works.
pub fn ready(states: Option<&States>, now: Instant) -> Verdict {
    let (healthy, why) = healthy(states, now);
    let Some(states) = states.filter(|_| healthy) else { return (false, why) };
    let loading = states.plugins.iter().any(|plugin| plugin.state == "loading");
    let running = states.plugins.iter().any(|plugin| plugin.state == "running");
    let mut text = match (loading, running) {
        (false, true) => "ready\n".to_owned(),
        (true, _) => "a plugin is still starting\n".to_owned(),
        (false, false) => "no plugin works\n".to_owned(),
    };
    for PluginState { name, state, reason, .. } in &states.plugins {
        let reason = reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
        text += &format!("{name}: {state}{}\n", reason.replace('\n', " "));
    }
    (running && !loading, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_healthy_while_the_main_thread_tells_and_ready_when_a_plugin_works() {
        let now = Instant::now();
        let plugin = |state: &'static str| PluginState {
            name: state.to_owned(),
            version: String::new(),
            state,
            reason: (state == "failed").then(|| "no\nmore".to_owned()),
        };
        let states = |age: u64, all: &[&'static str]| States {
            told: now.checked_sub(Duration::from_secs(age)).unwrap(),
            interval: Duration::from_secs(1),
            plugins: all.iter().map(|state| plugin(state)).collect(),
        };
        assert!(healthy(None, now).0 && !ready(None, now).0);
        for (age, all, well, is_ready) in [
            (1, &["running"][..], true, true),
            (13, &["running", "failed"], true, true),
            (14, &["running"], false, false),
            (1, &["running", "loading"], true, false),
            (1, &["failed", "refused"], true, false),
            (1, &[], true, false),
        ] {
            let states = states(age, all);
            let found = (healthy(Some(&states), now).0, ready(Some(&states), now).0);
            assert_eq!(found, (well, is_ready), "{age} {all:?}");
        }
        let text = ready(Some(&states(0, &["running", "failed"])), now).1;
        assert_eq!(text, "ready\nrunning: running\nfailed: failed: no more\n");
    }
}
