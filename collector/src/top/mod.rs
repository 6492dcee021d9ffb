//! `collector top` and `collector replay`: the numbers on a terminal.
//!
//! There is one way for all of them: lines come into the store of the page (`output/serve/`), and what is drawn is made of
//! the page's JSON. So plugins that `top` starts itself, a collector that is asked over its socket, and a file differ in
//! where that JSON comes from ([`feed`]) and in nothing else.

mod feed;
mod moment;
mod page_url;
mod remote;
mod replay;
mod rows;
mod screen;
mod text;
mod view;

use crate::capabilities::{self, CapabilitySet, drop_all};
use crate::event::Event;
use crate::folder;
use crate::messages;
use crate::metrics;
use crate::output::serve::{self, Listen, ServeConfig};
use crate::process::thread_name;
use crate::run;
use crate::settings::{Settings, Usage};
use crate::signals::{self, HangUp};
use crate::terminal::{self, Input, Terminal};
use anyhow::{Context as _, Result, bail};
use crossbeam_channel::{Receiver, Sender, bounded, select, unbounded};
use feed::{Order, Snapshot, Source};
use log::Level;
pub use page_url::PageUrl;
use plugin_api::describe::Table;
use remote::Remote;
use replay::{Known, Replay};
use screen::{Act, Screen};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Between two looks at a source, unless ticks are further apart or closer together.
const SELDOM: Duration = Duration::from_secs(1);
const OFTEN: Duration = Duration::from_millis(100);
/// The same of a file, and of a file whose page is served.
const FILE: Duration = Duration::from_millis(250);
/// How long the terminal may take to be given back.
const GIVE_BACK: Duration = Duration::from_millis(500);

/// Starts plugins and shows them, until a key, a signal or the terminal ends it. The exit code.
///
/// # Errors
/// There is no terminal, or nothing can be started.
pub fn top(settings: Settings) -> Result<u8> {
    terminal::check()?;
    terminal::divert_prints()?;
    let every = settings.config.interval.clamp(OFTEN, SELDOM);
    let source = settings.shown().cloned().context("nothing is kept to be shown")?;
    let mut front = None;
    let code = run::run_with(settings, |events| {
        front = Some(Front::start(Box::new(source), every, false, events)?);
        Ok(())
    });
    front.into_iter().for_each(Front::end);
    code
}

/// Shows a collector that runs.
///
/// # Errors
/// There is no terminal, or nobody answers who is to be trusted.
pub fn of_collector(settings: &Settings, at: PageUrl, ca_file: Option<PathBuf>) -> Result<u8> {
    terminal::check()?;
    capabilities::keep(CapabilitySet::empty(), Level::Debug);
    if ca_file.is_some() && matches!(at, PageUrl::Plain(_)) {
        bail!(Usage(format!("{at} speaks no TLS: `--ca` goes with https://HOST:PORT")));
    }
    let mut remote = Remote::new(at, settings.config.http_token.clone(), ca_file)?;
    remote.tables().map_err(anyhow::Error::msg)?; // who sees an error reads it on the terminal as it was
    show(Box::new(remote), SELDOM, false)
}

/// Shows what a file output has written, on the terminal or on the page.
///
/// # Errors
/// The file cannot be read, the time is none, there is no terminal, or the page cannot be served.
pub fn replay(
    settings: &Settings,
    file: &Path,
    at: Option<String>,
    http: Option<Listen>,
) -> Result<u8> {
    if http.is_none() {
        terminal::check()?;
        terminal::divert_prints()?;
    }
    let tables = known_tables(settings);
    capabilities::keep(CapabilitySet::empty(), Level::Debug);
    let mut replay = Replay::open(file, tables, at.as_deref())?;
    let Some(listen) = http else { return show(Box::new(replay), FILE, true) };
    let (sender, events) = unbounded();
    signals::listen(HangUp::of_a_command(), false, &sender)?;
    let config = ServeConfig {
        listen,
        token: settings.config.http_token.clone(),
        tls: settings.config.http_tls.clone(),
    };
    let _server = serve::serve(&config, &replay.store())?;
    loop {
        let more = replay.advance().with_context(|| file.display().to_string())?;
        let wait = if more { Duration::ZERO } else { FILE };
        if let Ok(Event::End(_)) = events.recv_timeout(wait) {
            return Ok(0);
        }
    }
}

/// The tables of the installed plugins, and the collector's own. Without plugins the others are shown all the same.
fn known_tables(settings: &Settings) -> HashMap<String, Known> {
    let own = metrics::TABLES.map(Table::new);
    let mut known: HashMap<String, Known> = HashMap::new();
    crate::descriptions::learn(&own);
    match folder::open(settings, &|_| true) {
        Err(why) => log::warn!("{why:#}: without descriptions, all numbers are shown as they are"),
        Ok(folder) => {
            for plugin in &folder.plugins {
                let described = &plugin.description;
                let tables = described.tables.iter();
                known.extend(tables.map(|it| (it.name.clone(), Known::new(&described.name, it))));
            }
        }
    }
    known.extend(own.iter().map(|it| (it.name.clone(), Known::new("collector", it))));
    known
}

/// Until a key, a signal or the terminal ends it.
fn show(source: Box<dyn Source>, every: Duration, replays: bool) -> Result<u8> {
    let (sender, events) = unbounded();
    signals::listen(HangUp::of_a_command(), false, &sender)?;
    let front = Front::start(source, every, replays, &sender)?;
    while !matches!(events.recv(), Ok(Event::End(_)) | Err(_)) {}
    front.end();
    Ok(0)
}

/// What draws.
struct Front {
    /// Dropped, it ends.
    stop: Sender<()>,
    thread: JoinHandle<()>,
}

impl Front {
    /// Takes the terminal; `events` hears when a key or the terminal's end is the end.
    fn start(
        source: Box<dyn Source>,
        every: Duration,
        replays: bool,
        events: &Sender<Event>,
    ) -> Result<Self> {
        let (orders, snapshots) = feed::start(source, every)?;
        let terminal = Terminal::take()?;
        let inputs = Terminal::inputs()?;
        let (stop, stopped) = bounded(0);
        let events = events.clone();
        let run = move || {
            drop_all();
            let ending = Ending(events, "the screen");
            let drawing = Drawing {
                terminal,
                screen: Screen::new(replays),
                inputs,
                snapshots,
                orders,
                stopped,
            };
            drawing.run(ending);
        };
        let thread = thread::Builder::new().name(thread_name("screen")).spawn(run);
        Ok(Self { stop, thread: thread.context("a thread that draws")? })
    }

    /// Waits for the terminal to be given back, which a terminal that takes nothing could delay for ever.
    fn end(self) {
        drop(self.stop);
        let until = Instant::now() + GIVE_BACK;
        while !self.thread.is_finished() && Instant::now() < until {
            thread::sleep(Duration::from_millis(2));
        }
        terminal::give_back();
    }
}

/// Tells of the end, also when the thread panics.
struct Ending(Sender<Event>, &'static str);

impl Drop for Ending {
    fn drop(&mut self) {
        let _ = self.0.send(Event::End(self.1));
    }
}

/// The drawing thread's part.
struct Drawing {
    terminal: Terminal,
    screen: Screen,
    inputs: Receiver<Input>,
    snapshots: Receiver<Snapshot>,
    orders: Sender<Order>,
    stopped: Receiver<()>,
}

impl Drawing {
    fn run(mut self, mut ending: Ending) {
        loop {
            let message = messages::last();
            let screen = &mut self.screen;
            if self.terminal.draw(|frame| view::draw(screen, message.as_deref(), frame)).is_err() {
                terminal::is_gone();
                ending.1 = "the terminal is gone";
                return;
            }
            let input = select! {
                recv(self.inputs) -> input => input.unwrap_or(Input::Gone),
                recv(self.snapshots) -> snapshot => match snapshot {
                    Ok(snapshot) => {
                        let wish = self.screen.wish();
                        self.screen.take(snapshot);
                        if self.screen.wish() != wish {
                            self.ask(); // its table has come
                        }
                        continue;
                    }
                    Err(_) => return,
                },
                recv(self.stopped) -> _ => return,
            };
            // What was typed meanwhile is drawn at once.
            let more = self.inputs.clone();
            for input in std::iter::once(input).chain(more.try_iter()) {
                match input {
                    Input::Gone => {
                        terminal::is_gone();
                        ending.1 = "the terminal is gone";
                        return;
                    }
                    Input::Resized => {}
                    Input::Key(key) => match self.screen.key(key) {
                        Act::None => {}
                        Act::Quit => {
                            ending.1 = "a key";
                            return;
                        }
                        Act::Ask => self.ask(),
                        Act::Go(to) => _ = self.orders.send(Order::Go(to)),
                    },
                }
            }
        }
    }

    fn ask(&self) {
        let _ = self.orders.send(Order::Wish(self.screen.wish()));
    }
}
