//! The collector at work: everything is started, ticks go by, what changes is followed, everything is ended.

use crate::bpf_stats::BpfStats;
use crate::capabilities;
use crate::control::{Order, receive};
use crate::descriptions;
use crate::event::Event;
use crate::folder;
use crate::ledger::Ledger;
use crate::living::Living;
use crate::load::{self, Plugin};
use crate::messages::exit_now;
use crate::metrics::{self, Metrics};
use crate::outlets::Outlets;
use crate::output::serve::states::{self, PluginState};
use crate::process::{self, StandardStream, closed_at_start, trim_memory};
use crate::roster::{Reason, Roster, SLOW_START};
use crate::schedule::{End, Schedule};
use crate::service::{self, Service};
use crate::settings::{Settings, Usage};
use crate::signals::{self, HangUp};
use crate::tick::{self, Now};
use crate::watch::{Wanted, Watch};
use anyhow::{Result, bail};
use crossbeam_channel::{Receiver, Sender, unbounded};
use log::Level;
use plugin_api::describe::Table;
use plugin_api::{Tick, privileges};
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

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
pub fn run(settings: Settings) -> Result<u8> {
    run_with(settings, |_| Ok(()))
}

/// The same; `begin` is called when the outputs are open, with the way to end the collector.
///
/// # Errors
/// It cannot start.
pub fn run_with(
    settings: Settings,
    begin: impl FnOnce(&Sender<Event>) -> Result<()>,
) -> Result<u8> {
    process::usage(); // opens its file while there are files to open
    let settings = Arc::new(settings);
    if settings.stop_on_stdin_close && closed_at_start(StandardStream::Stdin) {
        bail!(Usage("--stop-on-stdin-close: standard input is closed already".to_owned()));
    }
    let dir = folder::find(settings.config.plugins.as_deref())?;
    let (event_sender, events) = unbounded();
    // What is in the folder is looked at before it is loaded, so that no change is missed. Its thread holds nothing.
    let watch = Watch::start(&event_sender)?;
    let plugins = living_plugins(&dir, &watch);
    let configuration = settings.file.as_deref().map(|file| living_file(file, &watch));
    let folder = folder::open(&settings, &|name| settings.chosen(name))?;
    folder::check_names(&folder, settings.only.iter().map(String::as_str))?;
    if let Some(missing) = privileges::missing() {
        log::warn!("{missing}"); // a plugin that loads no BPF program works all the same
    }
    let _bpf_stats = settings.config.bpf_stats.then(BpfStats::enable_or_say);
    // Before any other thread, and before outputs are opened: what fails later fails at the start.
    let chosen: Vec<&Plugin> = folder.plugins.iter().collect();
    capabilities::keep(folder::asked(&settings, &chosen), Level::Info);
    signals::listen(HangUp::of_collecting(), settings.stop_on_stdin_close, &event_sender)?;
    descriptions::learn(&metrics::TABLES.map(Table::new)); // a spool may have lines of them
    let outlets = Outlets::open(&settings.config, &event_sender)?;
    begin(&event_sender)?;
    folder::warn_of_sections_without_plugin(&settings, &folder);
    let mut roster = Roster::new(&settings, outlets.routes(), &event_sender)?;
    folder.plugins.into_iter().for_each(|plugin| roster.put(plugin));
    if settings.only.is_empty() {
        folder.refused.iter().for_each(|refusal| roster.refused(refusal));
    }
    if !roster.any() {
        bail!("nothing can run: no plugin in the folder {} can be started", dir.display());
    }
    capabilities::drop_all(); // from here on they are the plugins' threads' own

    let mut collector = Collector {
        service: Service::of_environment(),
        metrics: Metrics::new(&settings.config, &outlets.routes().forms())?,
        measured: Instant::now(),
        reported_ns: 0,
        seq: 0,
        settings,
        roster,
        outlets,
        watch,
        plugins,
        configuration,
        events,
        reread: false,
    };
    let end = collector.wait_for_starts(&dir)?;
    let end = end.unwrap_or_else(|| {
        trim_memory();
        let now = Now::read();
        collector.service.starts(collector.settings.config.interval);
        collector.tell_states();
        collector.roster.open(now);
        collector.collect(now)
    });
    Ok(collector.end(end))
}

fn living_plugins(dir: &Path, watch: &Watch) -> Living {
    let folder = dir.to_owned();
    Living::new(dir, Wanted::Plugins, Box::new(move || load::files(&folder)), watch)
}

/// A file, by the folder in which it lies.
fn living_file(file: &Path, watch: &Watch) -> Living {
    let parent = file.parent().filter(|parent| !parent.as_os_str().is_empty());
    let files = vec![file.to_owned()];
    let wanted = Wanted::File(file.file_name().unwrap_or_default().to_owned());
    Living::new(
        parent.unwrap_or(Path::new(".")),
        wanted,
        Box::new(move || Ok(files.clone())),
        watch,
    )
}

/// The main thread's part.
struct Collector {
    service: Service,
    metrics: Metrics,
    /// When the metrics were last taken.
    measured: Instant,
    /// The time of the last report.
    reported_ns: i64,
    seq: u64,
    settings: Arc<Settings>,
    roster: Roster,
    outlets: Outlets,
    watch: Watch,
    plugins: Living,
    configuration: Option<Living>,
    events: Receiver<Event>,
    /// The interval is another one.
    reread: bool,
}

impl Collector {
    /// Until every plugin has started or failed to, but not for ever.
    fn wait_for_starts(&mut self, dir: &Path) -> Result<Option<End>> {
        let until = Instant::now() + SLOW_START;
        while !self.roster.all_started()
            && let Ok(event) = self.events.recv_deadline(until)
        {
            if let Some(end) = self.hear(event) {
                return Ok(Some(end));
            }
        }
        if !self.roster.any() {
            bail!("nothing can run: no plugin in the folder {} can be started", dir.display());
        }
        Ok(None)
    }

    /// What an event asks for is done; or it is a reason to end.
    fn hear(&mut self, event: Event) -> Option<End> {
        match event {
            Event::End(by) => return Some(End::Signal(by)),
            Event::Reopen => {
                log::info!("SIGHUP: outputs are opened again, and the configuration is read again");
                self.service.reloads();
                self.reload();
                self.outlets.reopen();
                self.service.reloaded();
            }
            Event::OutputGone => return self.outlets.all_gone().then_some(End::OutputsGone),
            Event::Plugin(id, news) => self.roster.hear(id, news),
            Event::Seen(all) => {
                for seen in &all {
                    self.plugins.hear(seen);
                    self.configuration.iter_mut().for_each(|it| it.hear(seen));
                }
            }
        }
        None
    }

    /// Ticks, until there is a reason to end.
    fn collect(&mut self, from: Now) -> End {
        let mut schedule = Schedule::new(self.settings.config.interval, self.settings.ticks, from);
        loop {
            let now = Now::read();
            self.roster.watch(now.mono);
            self.outlets.tend();
            self.look(now.mono);
            if std::mem::take(&mut self.reread) {
                schedule = Schedule::new(self.settings.config.interval, self.settings.ticks, now);
            }
            let step = schedule.step(now);
            if let Some(time_ns) = step.report {
                self.report(time_ns);
            }
            self.outlets.routes().wake();
            self.feed_watchdog(now.mono);
            if let Some(end) = step.end {
                return end;
            }
            // Overruns are found within the shortest deadline, without waking for nothing.
            let watch = self.roster.shortest_deadline();
            let watch = watch.clamp(Duration::from_millis(10), Duration::from_secs(1));
            let looks = self.configuration.iter().chain([&self.plugins]);
            let sleep = step.sleep.min(watch).min(self.outlets.sleep());
            let sleep = looks.map(|it| it.sleep(now.mono)).fold(sleep, Duration::min);
            if let Ok(event) = receive(&self.events, sleep)
                && let Some(end) = self.hear(event)
            {
                return end;
            }
        }
    }

    /// Tells the service manager that ticks and outputs go on. One plugin that hangs is no reason to end the others.
    fn feed_watchdog(&mut self, now: Instant) {
        let Self { service, roster, outlets, .. } = self;
        let Some(period) = service.watchdog() else { return };
        service.feed(now, || {
            let seconds = period.as_secs();
            if roster.all_hang(now, period) {
                return Err(format!("no plugin has come to the end of its call for {seconds} s"));
            }
            match outlets.stuck(now, period) {
                Some(name) => {
                    Err(format!("output {name}: an attempt has not ended for {seconds} s"))
                }
                None => Ok(()),
            }
        });
    }

    /// Follows what has become of the plugins folder and the configuration.
    fn look(&mut self, now: Instant) {
        let changes = self.plugins.look(&self.watch, now);
        for name in &changes.gone {
            self.roster.remove_file(&self.plugins.path(name));
        }
        for name in &changes.complete {
            self.roster.put_file(&self.plugins.path(name), Reason::File);
        }
        let complete = self.configuration.as_mut().map(|it| it.look(&self.watch, now).complete);
        if complete.is_some_and(|complete| !complete.is_empty()) {
            self.reload();
        }
    }

    /// Reads the configuration again; where something is wrong with it, everything goes on as it is.
    fn reload(&mut self) {
        if self.settings.file.is_none() {
            return;
        }
        let changed = match self.settings.again() {
            Err(why) => Err(why.into()),
            Ok(new) if new == *self.settings => return,
            Ok(new) => self.change(new),
        };
        match changed {
            Ok(()) => log::info!("the configuration has changed: what differs is started again"),
            Err(why) => {
                log::error!("the configuration is not taken, all goes on as before: {why:#}")
            }
        }
    }

    fn change(&mut self, new: Settings) -> Result<()> {
        let (old, forms) = (Arc::clone(&self.settings), self.outlets.routes().forms());
        let mut plugins = None;
        let files = if new.config.plugins == old.config.plugins {
            self.plugins.files()?
        } else {
            let living = living_plugins(&folder::find(new.config.plugins.as_deref())?, &self.watch);
            plugins.insert(living).files()?
        };
        self.outlets.change(&old.config, &new.config)?; // with a mistake there, nothing changes
        self.reread |= new.config.interval != old.config.interval;
        log::set_max_level(new.config.log);
        self.settings = Arc::new(new);
        if let Some(plugins) = plugins {
            self.plugins = plugins;
        }
        let now = self.outlets.routes().forms();
        let all = now != forms || !self.settings.same_for_plugins(&old);
        if all {
            self.metrics.renew(&self.settings.config, &now, self.reported_ns)?;
        }
        self.roster.change(&self.settings, now, &files, all);
        Ok(())
    }

    /// Sends the collector's own lines.
    fn report(&mut self, time_ns: i64) {
        self.reported_ns = time_ns;
        let elapsed = self.measured.elapsed();
        self.measured += elapsed;
        let elapsed_ns = u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX);
        let tick = Tick { seq: self.seq, time_ns, elapsed_ns };
        self.seq += 1;
        self.outlets.tend();
        self.tell_states();
        let known = self.outlets.known();
        let status = self.service.is_there().then(|| {
            let troubled = known.iter().filter(|it| it.lives && it.snapshot.trouble.is_some());
            service::status(&self.roster.states(), troubled.map(|it| it.name))
        });
        let pages = self.metrics.take(tick, &self.roster.ledgers(), known);
        self.roster.shown(|plugin| self.metrics.wait(plugin));
        self.outlets.routes().send(&"collector".into(), tick, pages);
        status.iter().for_each(|status| self.service.tick(status));
    }

    /// Tells whoever serves a page how the plugins are.
    fn tell_states(&self) {
        states::publish(self.settings.config.interval, || {
            let state = |ledger: &Arc<Ledger>| {
                let (state, reason, version) = ledger.now();
                PluginState { name: ledger.name().to_owned(), version, state: state.word(), reason }
            };
            self.roster.ledgers().iter().map(state).collect()
        });
    }

    /// Ends plugins, then outputs, each within its time.
    fn end(mut self, end: End) -> u8 {
        let now = Now::read();
        let end_by = now.mono + END;
        log::info!("ending: {end}");
        self.service.stops(&end.to_string());
        let (order, report) = match end {
            End::Signal(_) => {
                let report = tick::after(self.reported_ns, now.wall_ns);
                (Order::LastTick(now.wall_ns), Some(report))
            }
            End::Ticks(time_ns) => (Order::NoneAfter(time_ns), Some(time_ns)),
            End::OutputsGone => (Order::NOW, None),
        };
        self.roster.order(order);
        let plugins_ended = self.wait_for_plugins(now.mono + END_OF_PLUGINS);
        if let Some(time_ns) = report {
            self.roster.close(now.back_at(time_ns.min(now.wall_ns)));
            self.report(time_ns);
        }
        self.outlets.close(end_by);
        while !self.outlets.finished() && Instant::now() < end_by {
            self.outlets.tend(); // one may wait for another one's spool
            thread::sleep(Duration::from_millis(1));
        }
        let outputs_ended = self.outlets.finished();
        self.outlets.abandon();
        let ran = self.roster.ever_started();
        if !ran {
            log::error!("nothing could run: no plugin ever started");
        }
        // Lines that were lost on the way or that nobody has taken, rows that became no line, and calls whose lines
        // are lost.
        let missing = self.outlets.missing() + self.roster.lost();
        let code = match end {
            _ if !ran => NOTHING_RAN,
            // Who ends it by a signal, or takes no more lines, knows that the last ones may be missing.
            End::Ticks(_) if missing > 0 => {
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

    /// Waits for the plugins' threads, and watches them meanwhile. Whether all have ended.
    fn wait_for_plugins(&mut self, end_by: Instant) -> bool {
        while !self.roster.is_over() {
            let now = Instant::now();
            self.roster.watch(now);
            self.outlets.routes().wake(); // the others' last lines need not wait for one that hangs
            // Also without any time left: this thread may have stood still, or all of them.
            match self.events.recv_timeout(Duration::from_millis(100)) {
                Ok(Event::Plugin(id, news)) => self.roster.hear(id, news),
                Err(_) if now >= end_by => {
                    self.roster.warn_of_hanging();
                    return false;
                }
                _ => {}
            }
        }
        self.roster.ended()
    }
}
