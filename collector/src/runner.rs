//! One thread per plugin: `init`, `call` and `deinit` always on it, ticks on the grid, failures healed.

use crate::capabilities::{CapabilitySet, Held};
use crate::health::{Health, Next, State};
use crate::ledger::Ledger;
use crate::output::Routes;
use crate::process::{thread_name, trim_memory};
use crate::sink::Sink;
use crate::stop::{Order, Stop};
use crate::tick::{Due, Grid, Now};
use anyhow::{Context, Result};
use crossbeam_channel::{Receiver, Sender};
use log::Level;
use plugin_api::Tick;
use plugin_api::abi::{Answer, PluginRef};
use plugin_api::abi_stable::std_types::RStr;
use std::convert::Infallible;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

/// All that a plugin's thread needs.
pub struct Runner {
    /// The plugin's verbs.
    pub module: PluginRef,
    /// Its options as JSON.
    pub options: String,
    /// What its thread needs beside what every plugin's needs.
    pub capabilities: CapabilitySet,
    /// Between ticks.
    pub interval: Duration,
    /// Ticks to make at most.
    pub ticks: Option<u64>,
    /// Where its rows go.
    pub sink: &'static Sink,
    /// Its books.
    pub ledger: Arc<Ledger>,
    /// Where its lines go.
    pub routes: Routes,
    /// The order to end.
    pub stop: Stop,
    /// Dropped after the first `init`, whatever came of it.
    pub ready: Option<Sender<Infallible>>,
    /// No tick before this says from when on.
    pub gate: Receiver<Now>,
    /// Dropped when the thread has ended.
    pub done: Sender<Infallible>,
}

/// A plugin between its ticks.
enum Phase {
    /// Started; the time of the start or of the last successful call.
    Up(Instant),
    /// Not started; intervals until the next attempt.
    Down(u32),
}

impl Runner {
    /// Starts the thread.
    ///
    /// # Errors
    /// The kernel gives no thread.
    pub fn start(self) -> Result<()> {
        let name = self.ledger.name();
        thread::Builder::new()
            .name(thread_name(name))
            .spawn(move || self.run())
            .context("starting a plugin's thread")?;
        Ok(())
    }

    fn run(mut self) {
        let mut held = Held::take(self.ledger.name(), self.capabilities);
        let mut health = Health::default();
        let mut phase = self.init(&mut health, &mut held);
        let started = Now::read();
        self.ready = None;
        let opened = self.gate.recv().unwrap_or(started);
        // All who were ready when the gate opened have the same first tick, however late they wake.
        let begin = if opened.mono > started.mono { opened } else { started };
        let mut grid = Grid::new(self.interval, self.ticks, begin);
        let mut planned = grid.next(begin);
        let mut seq = 0;
        let (order, last_tick) = loop {
            let due = match self.sleep(&mut grid, &mut planned) {
                Ok(due) => due,
                Err(order) => break (order, last_tick(order, planned)),
            };
            self.ledger.missed(due.missed);
            phase = match phase {
                Phase::Up(since) => self.call(since, &mut seq, due.time_ns, &mut health),
                Phase::Down(1) => {
                    let phase = self.init(&mut health, &mut held);
                    grid.restart(Now::read()); // a start takes its time
                    trim_memory(); // and memory: libbpf reads the kernel's types for it
                    phase
                }
                Phase::Down(left) => Phase::Down(left - 1),
            };
            if grid.done() {
                break (Order::NoneAfter(due.time_ns), None);
            }
            planned = grid.next(Now::read());
        };
        if let (Phase::Up(since), Some(time_ns)) = (&phase, last_tick) {
            phase = self.call(*since, &mut seq, time_ns, &mut health);
        }
        if matches!(phase, Phase::Up(_)) {
            self.deinit();
            if matches!(order, Order::LastTick(_)) {
                self.ledger.set(State::Stopped, None);
            }
        }
        self.ledger.ends();
    }

    /// Sleeps until a tick, or until the order to end. The planned tick changes when the clock is set.
    fn sleep(&self, grid: &mut Grid, planned: &mut i64) -> Result<Due, Order> {
        loop {
            let now = Now::read();
            if let Some(due) = grid.fire(*planned, now) {
                return Ok(due);
            }
            *planned = grid.next(now);
            if let Some(order) = self.stop.sleep(now.until(*planned)) {
                return Err(order);
            }
        }
    }

    fn init(&self, health: &mut Health, held: &mut Held) -> Phase {
        match init(held, self.ledger.name(), self.module, self.sink, &self.options) {
            Ok(()) => {
                self.ledger.started(health.in_quarantine());
                Phase::Up(Instant::now())
            }
            Err(reason) => {
                let next = health.init_failed();
                self.ledger.failed(State::Failed, &reason);
                self.after_failure("init", &reason, next, Instant::now())
            }
        }
    }

    fn call(&self, since: Instant, seq: &mut u64, time_ns: i64, health: &mut Health) -> Phase {
        let began = Instant::now();
        let elapsed_ns = u64::try_from((began - since).as_nanos()).unwrap_or(u64::MAX);
        let tick = Tick { seq: *seq, time_ns, elapsed_ns };
        *seq += 1;
        self.ledger.call_begins(began);
        self.sink.open(tick);
        let result = text(self.module.call()(&tick, self.sink.host()));
        let closed = self.sink.close();
        let bytes = closed.pages.iter().map(|page| page.bytes.len()).sum();
        self.ledger.call_ends(Instant::now(), closed.rows, bytes, &result);
        self.routes.send(&self.ledger.name().into(), tick, closed.pages);
        match result {
            Ok(()) => {
                health.succeeded();
                if self.ledger.works_again() {
                    log::info!("{}: works again", self.ledger.name());
                }
                Phase::Up(began)
            }
            Err(reason) => self.after_failure("call", &reason, health.call_failed(&reason), since),
        }
    }

    fn after_failure(&self, verb: &str, reason: &str, next: Next, since: Instant) -> Phase {
        let name = self.ledger.name();
        let failure = format!("{verb} failed: {reason}");
        match next {
            Next::Call => {
                let news = self.ledger.is_news(false, &failure);
                log::log!(level(news, Level::Warn), "{name}: {failure}");
                Phase::Up(since)
            }
            Next::Restart { after } => {
                let pause = humantime::format_duration(self.interval * after);
                let news = self.ledger.is_news(true, &failure);
                log::log!(level(news, Level::Error), "{name}: {failure}; next start in {pause}");
                // Also after an init that failed or panicked: it clears what is left.
                self.deinit();
                self.ledger.set(State::Quarantined, Some(reason));
                Phase::Down(after)
            }
        }
    }

    fn deinit(&self) {
        if let Err(reason) = text(self.module.deinit()()) {
            log::warn!("{}: deinit failed: {reason}", self.ledger.name());
            self.ledger.failed(State::Failed, &format!("deinit: {reason}"));
        }
    }
}

/// What was said already is for those who look for it.
fn level(news: bool, level: Level) -> Level {
    if news { level } else { Level::Debug }
}

/// The tick that is still to be made after the order to end, when this one was slept for.
fn last_tick(order: Order, planned: i64) -> Option<i64> {
    match order {
        Order::LastTick(time_ns) => Some(time_ns),
        Order::NoneAfter(time_ns) => (planned <= time_ns).then_some(planned),
    }
}

/// Starts a plugin with the capabilities that its thread holds.
///
/// # Errors
/// The plugin's reason.
pub fn init(
    held: &mut Held,
    name: &str,
    module: PluginRef,
    sink: &'static Sink,
    options: &str,
) -> Result<(), String> {
    let mut attempts = 0;
    held.start(name, || {
        attempts += 1;
        if attempts > 1 {
            let _ = text(module.deinit()()); // clears what the one before has left
        }
        text(module.init()(sink.host(), RStr::from_str(options)))
    })
}

/// A plugin's answer as the host keeps it: what its error points to lies in the plugin.
pub fn text(answer: Answer) -> Result<(), String> {
    answer.into_result().map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_to_end_decides_about_the_last_tick() {
        for (order, planned, tick) in [
            (Order::LastTick(15), 20, Some(15)),
            (Order::LastTick(15), 10, Some(15)),
            (Order::NoneAfter(20), 20, Some(20)),
            (Order::NoneAfter(20), 30, None),
        ] {
            assert_eq!(last_tick(order, planned), tick, "{order:?}, {planned}");
        }
    }
}
