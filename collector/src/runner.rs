//! One thread per plugin: `init`, `call` and `deinit` always on it, ticks on the grid, failures healed.

use crate::capabilities::{CapabilitySet, Held};
use crate::control::{Begin, Duty, Ending, Order, Word};
use crate::event::{Event, Loaded, News};
use crate::health::{Health, Remedy, State};
use crate::instance::{self, Instance, PluginError};
use crate::ledger::Ledger;
use crate::output::Routes;
use crate::process::{take_short_turns, thread_cpu_ns, trim_memory};
use crate::sink::Closed;
use crate::tick::{self, Due, Grid, Now};
use crossbeam_channel::Sender;
use log::Level;
use plugin_api::Tick;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// All that a plugin's thread needs.
pub struct Runner {
    /// Its number.
    pub id: u64,
    /// The plugin.
    pub instance: Box<dyn Instance>,
    /// What its thread needs beside what every plugin's needs.
    pub capabilities: CapabilitySet,
    /// Between ticks.
    pub interval: Duration,
    /// Ticks to make at most.
    pub ticks: Option<u64>,
    /// Another instance runs: without a start it is given up.
    pub replaces: bool,
    /// What is known of it.
    pub loaded: Loaded,
    /// Its books.
    pub ledger: Arc<Ledger>,
    /// Calls so far.
    pub seq: u64,
    /// Where its lines go.
    pub routes: Routes,
    /// What it is told.
    pub duty: Duty,
    /// Where it tells of itself.
    pub events: Sender<Event>,
}

/// A plugin between its ticks.
enum Phase {
    /// Started; the time of the start or of the last successful call.
    Up(Instant),
    /// Not started; intervals until the next attempt.
    Down(u32),
}

impl Phase {
    /// So far behind its tick a plugin does what is due: calls begin at once. A start takes its time, and would keep
    /// the calls of all others waiting.
    fn lag(&self, interval: Duration) -> Duration {
        match self {
            Self::Up(_) => Duration::ZERO,
            Self::Down(_) => (interval / 2).min(LONGEST_LAG),
        }
    }
}

const LONGEST_LAG: Duration = Duration::from_secs(1);

/// A tick that is further off is not waited for by an instance that is to be replaced.
const NEXT_TICK: Duration = Duration::from_secs(10);

impl Runner {
    /// Starts the plugin, calls it tick by tick until it is told to end, and ends it.
    pub fn run(mut self) {
        take_short_turns();
        let mut held = Held::take(self.ledger.name(), self.capabilities);
        let mut health = Health::default();
        let phase = self.init(&mut health, &mut held);
        trim_memory(); // libbpf reads the kernel's types to load a program
        if self.replaces
            && let Phase::Down(_) = phase
        {
            let reason = self.ledger.reason().unwrap_or_default();
            return self.tell(News::Refused(format!("it does not start: {reason}")));
        }
        let started = Now::read();
        self.tell(News::Started(self.loaded.clone()));
        let (phase, ending) = match self.duty.wait() {
            Word::Begin(begin) => self.tick(phase, begin, started, &mut health, &mut held),
            Word::End(ending) => (phase, (ending, None)),
        };
        self.end(phase, ending, &mut health);
    }

    fn tell(&self, news: News) {
        let _ = self.events.send(Event::Plugin(self.id, news)); // at the very end nobody listens
    }

    /// Ticks, until it is told to end: how, and the time of a last tick if there is to be one.
    fn tick(
        &mut self,
        mut phase: Phase,
        begin: Begin,
        started: Now,
        health: &mut Health,
        held: &mut Held,
    ) -> (Phase, (Ending, Option<i64>)) {
        self.ledger.ticks_at(begin.newest_ns);
        if begin.skip {
            phase = self.take_over(phase, begin, health);
        }
        // All who were ready at that moment have the same first tick, however late they wake.
        let from = if begin.at.mono > started.mono { begin.at } else { started };
        let mut grid = Grid::new(self.interval, self.ticks, from);
        grid.follow(self.ledger.newest_ns());
        let mut planned = grid.next(from);
        let mut leaving = None;
        loop {
            let lag = phase.lag(self.interval);
            let due = match self.sleep(&mut grid, &mut planned, lag, &mut leaving) {
                Ok(due) => due,
                Err(ending) => {
                    let last = self.last_tick(&mut grid, ending.order, planned);
                    return (phase, (ending, last));
                }
            };
            self.ledger.missed(due.missed);
            self.ledger.stands_at(Some(grid));
            if let Some(ending) = leaving {
                return (phase, (ending, Some(due.time_ns)));
            }
            phase = match phase {
                Phase::Up(since) => self.call(since, due.time_ns, health, None),
                Phase::Down(1) => {
                    let phase = self.init(health, held);
                    grid.restart(Now::read()); // a start takes its time
                    trim_memory();
                    phase
                }
                Phase::Down(left) => Phase::Down(left - 1),
            };
            if grid.done() {
                let order = Order::NoneAfter(due.time_ns);
                return (phase, (Ending { order, successor: None }, None));
            }
            if self.duty.is_abandoned() {
                return (phase, (Ending { order: Order::NOW, successor: None }, None));
            }
            planned = grid.next(Now::read().before(phase.lag(self.interval)));
        }
    }

    /// The first call of an instance that replaces another: what it has counted since its start is in the other's lines.
    /// At that call's time its sums begin, so it stands behind the other's last tick: where both are in one millisecond,
    /// a database may swap them, and would see a sum begin, go on as the other one, and begin again.
    fn take_over(&mut self, mut phase: Phase, begin: Begin, health: &mut Health) -> Phase {
        if let Phase::Up(since) = phase {
            let began = Instant::now();
            let elapsed_ns = u64::try_from((began - since).as_nanos()).unwrap_or(u64::MAX);
            let time_ns = tick::after(begin.newest_ns, Now::read().wall_ns);
            let tick = Tick { seq: self.seq, time_ns, elapsed_ns };
            self.seq += 1;
            self.ledger.ticks_at(time_ns);
            self.ledger.call_begins(began);
            let outcome = self.instance.skip(&tick);
            self.ledger.took_over(begin.after.map_or(Duration::ZERO, |after| after.elapsed()));
            phase = match outcome.result {
                Ok(()) => Phase::Up(began),
                Err(error) => {
                    self.ledger.failed(State::Failed, &error.to_string());
                    self.after_failure("call", &error, health.call_failed(&error), since)
                }
            };
        }
        self.tell(News::TookOver);
        phase
    }

    /// The last tick if there is one, and the end.
    fn end(
        mut self,
        mut phase: Phase,
        (ending, last_tick): (Ending, Option<i64>),
        health: &mut Health,
    ) {
        if let (Phase::Up(since), Some(time_ns)) = (&phase, last_tick) {
            phase = self.call(*since, time_ns, health, Some(&ending));
        }
        self.hand_over(&ending, None); // if it was not called
        if matches!(phase, Phase::Up(_)) {
            self.deinit();
            if matches!(ending.order, Order::LastTick(_) | Order::NextTick) {
                self.ledger.set(State::Stopped, None);
            }
        }
        let (events, id) = (self.events.clone(), self.id);
        drop(self); // with the library, which another instance may take
        let _ = events.send(Event::Plugin(id, News::Ended));
    }

    /// The successor begins now. False when it has begun without waiting for this one.
    fn hand_over(&self, ending: &Ending, called: Option<Instant>) -> bool {
        let first = !self.duty.has_left();
        let ours = self.duty.leave();
        if let (true, true, Some(successor)) = (first, ours, &ending.successor) {
            let newest_ns = self.ledger.newest_ns();
            let begin = Begin { at: Now::read(), skip: true, after: called, newest_ns };
            let _ = successor.send(Word::Begin(begin));
        }
        ours
    }

    /// The last tick when the order to end comes while this one is slept for. Where several are due, the newest one is
    /// made, or the last one in its place; the others count as missed, and so do those that a call has passed.
    fn last_tick(&self, grid: &mut Grid, order: Order, planned: i64) -> Option<i64> {
        let (Order::LastTick(end_ns) | Order::NoneAfter(end_ns)) = order else { return None };
        let beside = matches!(order, Order::LastTick(_)).then(|| grid.beside(end_ns));
        let end = Now::read().back_at(end_ns);
        self.ledger.stands_at(None);
        if planned > end_ns {
            self.ledger.missed(grid.passed(end));
            return beside;
        }
        let Some(due) = grid.fire(planned, end) else { return beside.or(Some(planned)) };
        self.ledger.missed(due.missed);
        Some(beside.unwrap_or(due.time_ns))
    }

    /// Sleeps until a while behind a tick, or until it is to end without one. The planned tick changes when the clock is set.
    fn sleep(
        &self,
        grid: &mut Grid,
        planned: &mut i64,
        lag: Duration,
        leaving: &mut Option<Ending>,
    ) -> Result<Due, Ending> {
        loop {
            let now = Now::read();
            let behind = now.before(lag);
            if let Some(due) = grid.fire(*planned, behind) {
                return Ok(due);
            }
            *planned = grid.next(behind);
            let left = behind.until(*planned);
            if left >= NEXT_TICK
                && let Some(ending) = leaving.take()
            {
                return Err(Ending { order: Order::LastTick(now.wall_ns), ..ending });
            }
            match self.duty.sleep(left) {
                None | Some(Word::Begin(_)) => {}
                Some(Word::End(ending)) if ending.order == Order::NextTick => {
                    *leaving = Some(ending);
                }
                Some(Word::End(ending)) => {
                    // The successor was named before.
                    let successor = ending.successor.or(leaving.take().and_then(|it| it.successor));
                    return Err(Ending { order: ending.order, successor });
                }
            }
        }
    }

    fn init(&mut self, health: &mut Health, held: &mut Held) -> Phase {
        let started = instance::start(held, self.ledger.name(), &mut *self.instance);
        self.count_cpu();
        match started {
            Ok(()) => {
                self.ledger.started(health.in_quarantine());
                Phase::Up(Instant::now())
            }
            Err(error) => {
                let next = health.init_failed();
                self.ledger.failed(State::Failed, &error.to_string());
                self.after_failure("init", &error, next, Instant::now())
            }
        }
    }

    /// Makes a call; the last one of an instance that ends when an order is given with it.
    fn call(
        &mut self,
        since: Instant,
        time_ns: i64,
        health: &mut Health,
        last: Option<&Ending>,
    ) -> Phase {
        let began = Instant::now();
        let elapsed_ns = u64::try_from((began - since).as_nanos()).unwrap_or(u64::MAX);
        let tick = Tick { seq: self.seq, time_ns, elapsed_ns };
        self.seq += 1;
        self.ledger.ticks_at(time_ns);
        self.ledger.call_begins(began);
        let mut outcome = self.instance.call(&tick);
        let ours = match last {
            Some(ending) => self.hand_over(ending, Some(began)),
            None => !self.duty.is_abandoned(),
        };
        if !ours {
            let why =
                "its call returned after another instance had taken over: its lines are dropped";
            outcome.closed = Closed::default();
            outcome.result = Err(PluginError::Late(why.to_owned()));
        }
        self.ledger.call_ends(Instant::now(), &outcome);
        self.routes.send(&self.ledger.name().into(), tick, outcome.closed.pages);
        self.count_cpu();
        match outcome.result {
            Ok(()) => {
                health.succeeded();
                if self.ledger.works_again() {
                    log::info!("{}: works again", self.ledger.name());
                }
                Phase::Up(began)
            }
            Err(error) => self.after_failure("call", &error, health.call_failed(&error), since),
        }
    }

    fn after_failure(
        &mut self,
        verb: &str,
        error: &PluginError,
        next: Remedy,
        since: Instant,
    ) -> Phase {
        let failure = format!("{verb} failed: {error}");
        match next {
            Remedy::Call => {
                let news = self.ledger.is_news(false, &failure);
                log::log!(level(news, Level::Warn), "{}: {failure}", self.ledger.name());
                Phase::Up(since)
            }
            Remedy::Restart { after } => {
                let pause = humantime::format_duration(self.interval * after);
                let news = self.ledger.is_news(true, &failure);
                let name = self.ledger.name();
                log::log!(level(news, Level::Error), "{name}: {failure}; next start in {pause}");
                // Also after an init that failed or panicked: it clears what is left.
                self.deinit();
                self.ledger.set(State::Quarantined, Some(&error.to_string()));
                Phase::Down(after)
            }
        }
    }

    fn count_cpu(&mut self) {
        self.ledger.used(thread_cpu_ns(), self.instance.take_cpu_ns());
    }

    fn deinit(&mut self) {
        let outcome = self.instance.end();
        self.count_cpu();
        self.ledger.tally(outcome.tally);
        if let Err(error) = outcome.result {
            log::warn!("{}: deinit failed: {error}", self.ledger.name());
            self.ledger.failed(State::Failed, &format!("deinit: {error}"));
        }
    }
}

/// What was said already is for those who look for it.
fn level(news: bool, level: Level) -> Level {
    if news { level } else { Level::Debug }
}
