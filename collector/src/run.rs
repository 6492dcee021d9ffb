//! The collector at work: everything is started, ticks go by, everything is ended.

use crate::capabilities::{self, CapabilitySet};
use crate::cli::{Settings, Usage};
use crate::folder;
use crate::load::Plugin;
use crate::metrics::{Metrics, Subject};
use crate::output::{Outlet, Routes};
use crate::process::{Stream, closed_at_start, exit_now, trim_memory};
use crate::schedule::{End, Schedule};
use crate::signals::{self, HangUp, Told};
use crate::start::{Starter, open_outlets, warn_of_sections_without_plugin};
use crate::stop::{Order, Stopper, stop};
use crate::tick::Now;
use anyhow::{Result, bail};
use crossbeam_channel::{Receiver, RecvTimeoutError, bounded, select, unbounded};
use log::Level;
use plugin_api::{Tick, privileges};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::thread;
use std::time::{Duration, Instant};

/// Plugins that take longer to start are not waited for.
const START: Duration = Duration::from_secs(5);
/// Exit codes.
const NOTHING_RAN: u8 = 1;
const LINES_MISSING: u8 = 3;
/// How long the end may take: calls under way, and then the outputs, together. With what is left to do
/// after that it stays below 5 s.
const END_OF_PLUGINS: Duration = Duration::from_secs(3);
const END: Duration = Duration::from_millis(4500);

/// Runs until a signal, the last of `--ticks`, or the loss of all outputs. The exit code.
///
/// # Errors
/// It cannot start.
pub fn run(settings: &Settings) -> Result<u8> {
    let folder = folder::open(settings)?;
    folder::check_names(&folder, settings.only.iter().map(String::as_str))?;
    if settings.stop_on_stdin_close && closed_at_start(Stream::Stdin) {
        bail!(Usage("--stop-on-stdin-close: standard input is closed already".to_owned()));
    }
    let chosen = |plugin: &&Plugin| settings.chosen(&plugin.description.name);
    let chosen: Vec<&Plugin> = folder.plugins.iter().filter(chosen).collect();
    if let Some(missing) = privileges::missing() {
        log::warn!("{missing}"); // a plugin that loads no BPF program works all the same
    }
    // Before the first thread, and before outputs are opened: what fails later fails at the start.
    capabilities::keep(
        chosen.iter().fold(CapabilitySet::empty(), |all, p| all | p.capabilities),
        Level::Info,
    );
    let told = signals::listen(HangUp::of_collecting(), settings.stop_on_stdin_close)?;
    let (gone_sender, gone) = unbounded();
    let outlets = open_outlets(settings, &gone_sender)?;
    let routes = Routes::to(&outlets);
    let forms = routes.forms();

    let (stopper, stop) = stop();
    let (ready_sender, ready) = bounded(0);
    let (opener, gate) = unbounded();
    let (done_sender, done) = bounded(0);
    let mut starter = Starter {
        settings,
        forms: &forms,
        routes: routes.clone(),
        stop,
        ready: ready_sender,
        gate,
        done: done_sender,
        subjects: Vec::new(),
        tables: BTreeMap::new(),
    };
    warn_of_sections_without_plugin(settings, &folder.plugins);
    let mut running = 0;
    for plugin in chosen {
        running += usize::from(starter.start(plugin)?);
    }
    if settings.only.is_empty() {
        starter.refused(&folder.refused);
    }
    if running == 0 {
        let dir = folder::find(settings.config.plugins.as_deref())?;
        bail!("nothing can run: no plugin in the folder {} can be started", dir.display());
    }
    let subjects = starter.into_subjects();
    capabilities::drop_all(); // from here on they are the plugins' threads' own

    let mut collector = Collector {
        metrics: Metrics::new(&settings.config, &forms)?,
        measured: Instant::now(),
        seq: 0,
        subjects,
        outlets,
        routes,
        told,
        gone,
    };
    let end = collector.wait_for_starts(&ready).unwrap_or_else(|| {
        trim_memory();
        let now = Now::read();
        for _ in 0..running {
            let _ = opener.send(now);
        }
        collector.collect(Schedule::new(settings.config.interval, settings.ticks, now))
    });
    drop(opener);
    Ok(collector.end(end, stopper, &done))
}

/// The main thread's part.
struct Collector {
    metrics: Metrics,
    /// When the metrics were last taken.
    measured: Instant,
    seq: u64,
    subjects: Vec<Subject>,
    outlets: Vec<Outlet>,
    routes: Routes,
    told: Told,
    gone: Receiver<()>,
}

impl Collector {
    /// Until every plugin has started or failed to, but not for ever.
    fn wait_for_starts(&self, ready: &Receiver<Infallible>) -> Option<End> {
        select! {
            recv(ready) -> _ => None,
            recv(self.told.end) -> by => Some(End::Signal(by.unwrap_or_default())),
            default(START) => {
                for Subject { ledger, .. } in &self.subjects {
                    if ledger.starting_for(START) {
                        log::warn!("{}: still starting; the others begin", ledger.name());
                    }
                }
                None
            }
        }
    }

    /// Ticks, until there is a reason to end.
    fn collect(&mut self, mut schedule: Schedule) -> End {
        // Overruns are found within the shortest deadline, without waking for nothing.
        let shortest = self.subjects.iter().filter_map(|s| s.ledger.deadline()).min();
        let watch =
            shortest.unwrap_or_default().clamp(Duration::from_millis(10), Duration::from_secs(1));
        loop {
            let now = Now::read();
            self.watch(now.mono);
            let step = schedule.step(now);
            if let Some(time_ns) = step.report {
                self.report(time_ns);
            }
            if let Some(end) = step.end {
                return end;
            }
            select! {
                recv(self.told.end) -> by => return End::Signal(by.unwrap_or_default()),
                recv(self.told.reopen) -> _ => {
                    log::info!("SIGHUP: outputs are opened again");
                    self.outlets.iter().for_each(Outlet::reopen);
                }
                recv(self.gone) -> _ => {
                    if self.outlets.iter().all(Outlet::gone) {
                        return End::OutputsGone;
                    }
                }
                default(step.sleep.min(watch)) => {}
            }
        }
    }

    fn watch(&self, now: Instant) {
        for subject in &self.subjects {
            if let Some(text) = subject.ledger.watch(now) {
                log::warn!("{}: {text}", subject.ledger.name());
            }
        }
    }

    /// Sends the collector's own lines.
    fn report(&mut self, time_ns: i64) {
        let elapsed = self.measured.elapsed();
        self.measured += elapsed;
        let elapsed_ns = u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX);
        let tick = Tick { seq: self.seq, time_ns, elapsed_ns };
        self.seq += 1;
        let pages = self.metrics.take(tick, &self.subjects, &self.outlets);
        self.routes.send(&"collector".into(), tick, pages);
    }

    /// Ends plugins, then outputs, each within its time.
    fn end(mut self, end: End, mut stopper: Stopper, done: &Receiver<Infallible>) -> u8 {
        let now = Now::read();
        let end_by = now.mono + END;
        log::info!("ending: {end}");
        let (order, report) = match end {
            End::Signal(_) => (Order::LastTick(now.wall_ns), Some(now.wall_ns)),
            End::Ticks(time_ns) => (Order::NoneAfter(time_ns), Some(time_ns)),
            End::OutputsGone => (Order::NoneAfter(i64::MIN), None),
        };
        stopper.stop(order);
        let plugins_ended = self.wait_for_plugins(done, now.mono + END_OF_PLUGINS);
        if let Some(time_ns) = report {
            self.report(time_ns);
        }
        self.routes.close(end_by);
        while !self.outlets.iter().all(Outlet::finished) && Instant::now() < end_by {
            thread::sleep(Duration::from_millis(1));
        }
        let outputs_ended = self.outlets.iter().all(Outlet::finished);
        for outlet in &self.outlets {
            outlet.abandon();
            let (name, snapshot) = (outlet.name(), outlet.snapshot());
            log::info!("output {name}: {}", snapshot.total());
            for url in outlet.urls() {
                log::info!("output {name}: {} lines went to {url}", snapshot.sent_to(url).lines);
            }
        }
        let ran = self.subjects.iter().any(|subject| subject.ledger.ever_started());
        if !ran {
            log::error!("nothing could run: no plugin ever started");
        }
        let code = match (end, self.missing_lines()) {
            _ if !ran => NOTHING_RAN,
            // Who ends it by a signal, or takes no more lines, knows that the last ones may be missing.
            (End::Ticks(_), missing @ 1..) => {
                log::error!(
                    "{missing} lines were lost or not delivered: exit code {LINES_MISSING}"
                );
                LINES_MISSING
            }
            _ => 0,
        };
        if !plugins_ended || !outputs_ended {
            exit_now(code); // a thread hangs: no destructor may run beside it
        }
        code
    }

    /// Lines that were lost on the way or that nobody has taken, and rows that became no line.
    fn missing_lines(&self) -> u64 {
        let outputs = self.outlets.iter().map(|outlet| outlet.snapshot().total());
        let outputs: u64 = outputs.map(|books| books.waiting + books.dropped.sum()).sum();
        outputs + self.subjects.iter().map(|subject| subject.ledger.lost()).sum::<u64>()
    }

    /// Waits for the plugins' threads, and watches them meanwhile.
    fn wait_for_plugins(&self, done: &Receiver<Infallible>, end_by: Instant) -> bool {
        loop {
            let now = Instant::now();
            self.watch(now);
            let left = end_by.saturating_duration_since(now).min(Duration::from_millis(100));
            match done.recv_timeout(left) {
                Ok(never) => match never {},
                Err(RecvTimeoutError::Disconnected) => return true,
                Err(RecvTimeoutError::Timeout) if Instant::now() >= end_by => {
                    for Subject { ledger, .. } in self.subjects.iter().filter(|s| s.hangs()) {
                        log::warn!("{}: has not ended in time: left behind", ledger.name());
                    }
                    return false;
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }
}
