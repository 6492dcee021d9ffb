//! `collector once NAME`: a plugin's lines for people.

use super::Width;
use super::folded::{Folded, Stacks};
use super::lines;
use super::trial::{self, Called, Trial};
use super::whole_file::WholeFile;
use crate::capabilities;
use crate::config::options;
use crate::duration::short;
use crate::encode::Tags;
use crate::event::Event;
use crate::folder;
use crate::instance::PluginError;
use crate::messages;
use crate::process::hostname;
use crate::read::Line;
use crate::settings::{Settings, Usage};
use crate::signals::{self, HangUp};
use crate::sink::{Limits, Reports, Terms, is_report, tells_of_loss};
use crate::stdout::print;
use anyhow::{Context, Result, anyhow, bail};
use clap::Args;
use crossbeam_channel::{Receiver, unbounded};
use log::Level;
use plugin_api::describe::Description;
use plugin_api::privileges;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Files of the stacks that a plugin counted, such as profile and memleak.
#[derive(Clone, Debug, Default, Args)]
pub struct StackFiles {
    /// Draw the plugin's stacks as a flame graph; a browser shows it
    #[arg(long, value_name = "FILE.svg")]
    pub flame: Option<PathBuf>,
    /// Write the plugin's stacks as text, a line for each: `main;work;read 17`
    #[arg(long, value_name = "FILE.txt")]
    pub folded: Option<PathBuf>,
}

/// What a plugin may say of its stacks in one call; a stack has at most 4 KiB.
const STACKS: Limits = Limits { lines: 100_000, bytes: 256 << 20, series: 100_000 };

/// Starts a plugin, calls it after each of `count` intervals, shows its lines, writes its stacks, ends it.
///
/// # Errors
/// There is no such plugin, or it fails.
pub fn once(
    settings: &Settings,
    name: &str,
    interval: Duration,
    count: u64,
    files: &StackFiles,
    width: Width,
) -> Result<u8> {
    let plugin = folder::one(settings, name)?;
    let mut drawing = Drawing::begin(files, &plugin.description, settings)?;
    let config = settings.plugin(name);
    let options = options::to_json(&config.options, &plugin.description).map_err(Usage)?;
    let reports =
        if settings.config.reports == Reports::Off { Reports::Off } else { Reports::Full };
    let known = trial::terms(settings, &plugin);
    let terms = Terms {
        reports,
        tags: Tags::new(), // the same on every line: no news here
        uint: true,
        limits: if drawing.is_some() { STACKS } else { known.limits },
        log: |plugin, level, text| log::log!(target: plugin, level, "{text}"),
        ..known
    };
    let instance = plugin.instance(terms, options, interval);
    if let Some(missing) = privileges::missing() {
        log::warn!("{missing}");
    }
    let asked = plugin.asked(&config.options);
    capabilities::keep(asked, Level::Debug);
    let (event_sender, events) = unbounded();
    signals::listen(HangUp::of_a_command(), false, &event_sender)?;
    let failed = |what: &str, error: PluginError| anyhow!("{name}: {what} failed: {error}");
    let mut trial = Trial::start(name, asked, instance).map_err(|error| failed("init", error))?;

    let began = Instant::now();
    let left = humantime::format_duration(interval);
    messages::say(format!("{name}: {left} to go, or Ctrl-C\n").as_bytes());
    for _ in 0..count {
        // A signal ends the wait, as with bcc's tools.
        let told = ends_within(&events, interval);
        let Called { tick, mut lines, result, .. } =
            trial.call().context("reading the plugin's lines back")?;
        drawing.iter_mut().for_each(|drawing| drawing.take(&mut lines));
        if settings.config.reports == Reports::Brief {
            lines.retain(|line| !is_report(&line.table) || tells_of_loss(line));
        }
        print(&lines::shown(&lines, &tick, &plugin.description, width.columns()));
        if let Err(error) = result {
            let _ = trial.end(); // the first reason is the one to tell
            return Err(failed("call", error));
        }
        if told {
            break;
        }
    }
    trial.end().map_err(|error| failed("deinit", error))?;
    drawing.map_or(Ok(()), |drawing| drawing.end(began.elapsed()))?;
    Ok(0)
}

/// The plugins that count stacks.
fn with_stacks(settings: &Settings) -> Result<Vec<String>> {
    let plugins = folder::open(settings, &|_| true)?.plugins;
    let with = plugins.into_iter().filter(|plugin| Stacks::of(&plugin.description).is_some());
    Ok(with.map(|plugin| plugin.description.name).collect())
}

/// What is drawn of the stacks, and where it goes.
struct Drawing<'a> {
    plugin: &'a str,
    stacks: Stacks<'a>,
    folded: Folded,
    text: Option<WholeFile>,
    picture: Option<WholeFile>,
}

impl<'a> Drawing<'a> {
    /// `None` where nothing is to be drawn.
    fn begin(
        files: &StackFiles,
        plugin: &'a Description,
        settings: &Settings,
    ) -> Result<Option<Self>> {
        if files.flame.is_none() && files.folded.is_none() {
            return Ok(None);
        }
        let Some(stacks) = Stacks::of(plugin) else {
            let which = match &*with_stacks(settings)? {
                [] => "no plugin in this folder has".to_owned(),
                names => format!("these plugins have: {}", names.join(", ")),
            };
            let text = format!(
                "`{}` counts no stacks, which --flame and --folded write; {which}",
                plugin.name
            );
            bail!(Usage(text));
        };
        let make = |path: &Option<PathBuf>| path.as_deref().map(WholeFile::create).transpose();
        let (text, picture) = (make(&files.folded)?, make(&files.flame)?);
        Ok(Some(Self { plugin: &plugin.name, stacks, folded: Folded::default(), text, picture }))
    }

    /// What goes to a file is not shown too.
    fn take(&mut self, lines: &mut Vec<Line>) {
        self.stacks.add(lines, &mut self.folded);
        lines.retain(|line| line.table != self.stacks.table());
    }

    fn end(self, time: Duration) -> Result<()> {
        let Self { plugin, stacks, folded, text, picture } = self;
        let (table, weight) = (stacks.table(), stacks.weight());
        if folded.is_empty() {
            bail!(
                "{plugin}: no line of {table} has {weight} above 0, so there is no stack to write"
            );
        }
        let tell = |path: &Path| {
            let text = format!("{plugin}: {} stacks are in {}\n", folded.len(), path.display());
            messages::say(text.as_bytes());
        };
        if let Some(file) = text {
            tell(&file.write(folded.text().as_bytes())?);
        }
        if let Some(file) = picture {
            let about = format!("{}, {}, {}", hostname(), table, short(time));
            let svg = folded.picture(format!("{plugin}: {weight}"), about, stacks.unit());
            tell(&file.write(&svg.context("drawing the flame graph")?)?);
        }
        Ok(())
    }
}

/// Waits, and ends early when it is told to.
fn ends_within(events: &Receiver<Event>, time: Duration) -> bool {
    let until = Instant::now() + time;
    loop {
        match events.recv_deadline(until) {
            Ok(Event::End(_)) => return true,
            Ok(_) => {}
            Err(_) => return false,
        }
    }
}
