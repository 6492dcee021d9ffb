//! `collector check FILE.so`: what an author wants to know of a plugin before it is shipped, point by point.
//!
//! The plugin runs in a process of its own ([`crate::isolated`]), wherever it is to run later: so a crash is a verdict, and
//! what it leaves behind is seen from outside.

mod declared;
pub(super) mod holdings;
mod judge;
pub(super) mod onlooker;
mod verdicts;

use super::trial::{self, Trial};
use super::{Width, grid, on_a_thread};
use crate::bpf_objects::{self, Kind};
use crate::bpf_stats::BpfStats;
use crate::config::{PluginConfig, options};
use crate::elf::Abi;
use crate::encode::Tags;
use crate::instance::Instance as _;
use crate::isolated::{Bounds, Isolation};
use crate::library::name::name_of;
use crate::load::{self, Plugin};
use crate::settings::{Settings, Usage};
use crate::sink::Terms;
use crate::stdout::print;
use anyhow::{Context as _, Result};
use holdings::Holdings;
use judge::Totals;
use log::{Level, LevelFilter};
use onlooker::{Onlooker, Watched};
use plugin_api::describe::Description;
use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};
use verdicts::{Point, Verdicts};

/// Between calls.
const INTERVAL: Duration = Duration::from_millis(500);
const CALLS: usize = 3;
/// Threads that were told to end may take so long.
const LEAVES: Duration = Duration::from_secs(1);
/// The kernel frees an object some time after its last user is gone.
const FREED: Duration = Duration::from_secs(2);

/// The file among what `check` was asked for; a name is none.
///
/// # Errors
/// There is more than one thing to check.
pub fn file_of(names: &[String]) -> Result<Option<&Path>, Usage> {
    let is_file = |name: &&String| name.contains('/') || name.ends_with(".so");
    match (names.iter().find(is_file), names.len()) {
        (None, _) => Ok(None),
        (Some(file), 1) => Ok(Some(Path::new(file))),
        (Some(file), _) => Err(Usage(format!("a file is checked alone: `collector check {file}`"))),
    }
}

/// Checks one plugin's file; 1 when it fails at a point.
///
/// # Errors
/// The check itself cannot be made.
pub fn check_file(settings: &Settings, file: &Path, width: Width) -> Result<u8> {
    let stats = BpfStats::enable();
    // What the plugin logs is kept for the point at which it fails; standard error has its own level.
    log::set_max_level(LevelFilter::Debug);
    let onlooker = Onlooker::start().context("a thread that looks on")?;
    let measured = stats.as_ref().map(|_| ()).map_err(ToString::to_string);
    let check = || Ok(Check { settings, file, onlooker: &onlooker, measured }.run());
    let verdicts = on_a_thread("check", check).map_err(anyhow::Error::msg)?;
    let mut rows = vec![["POINT", "STATE", "TEXT"].map(str::to_owned)];
    rows.extend(verdicts.rows());
    print(&grid::aligned(&rows, |_| false, width.columns()));
    if verdicts.failed() && !verdicts.log.is_empty() {
        print(&format!("\nThe verifier's log:\n{}\n", verdicts.log));
    }
    Ok(u8::from(verdicts.failed()))
}

/// What plugins log, of which a [`Terms`] can only say by what function.
static LOGGED: Mutex<Vec<String>> = Mutex::new(Vec::new());

fn keep_log(plugin: &str, level: Level, text: &str) {
    if level <= Level::Warn {
        log::log!(target: plugin, level, "{text}");
    }
    LOGGED.lock().unwrap_or_else(PoisonError::into_inner).push(text.to_owned());
}

/// The verifier's logs among what was logged.
fn verifiers_log() -> String {
    let logged = LOGGED.lock().unwrap_or_else(PoisonError::into_inner);
    let mut logs: Vec<&str> = Vec::new();
    for text in logged.iter().filter(|text| text.contains("-- BEGIN PROG LOAD LOG --")) {
        if !logs.contains(&text.as_str()) {
            logs.push(text);
        }
    }
    logs.join("\n")
}

/// A check of one file.
struct Check<'a> {
    settings: &'a Settings,
    file: &'a Path,
    onlooker: &'a Onlooker,
    /// Whether the kernel measures programs; or why not.
    measured: Result<(), String>,
}

/// What programs are called, by their numbers.
type Names = BTreeMap<u32, String>;

/// The point that fails, and why: nothing behind it can be found out.
type Stopped = (Point, String);

impl Check<'_> {
    fn run(self) -> Verdicts {
        let mut verdicts = Verdicts::default();
        if let Err((point, reason)) = self.points(&mut verdicts) {
            verdicts.fails(point, reason);
            verdicts.log = verifiers_log();
        }
        verdicts
    }

    fn points(&self, verdicts: &mut Verdicts) -> Result<(), Stopped> {
        let plugin = self.load().map_err(|reason| (Point::Loads, reason))?;
        let description = &plugin.description;
        let (name, c) = (&description.name, plugin.abi() == Abi::C);
        verdicts.ok(
            Point::Loads,
            match plugin.abi() {
                Abi::Rust => format!("{name} {}, a plugin in Rust", description.version),
                Abi::C => format!("{name}, a plugin in C"),
            },
        );
        self.description(&plugin, verdicts);

        let at = |point| move |reason| (point, reason);
        let config = self.configured(name);
        let options = options::to_json(&config.options, description).map_err(at(Point::Starts))?;
        let terms = Terms {
            tags: Tags::new(),
            uint: true,
            log: keep_log,
            ..trial::terms(self.settings, &plugin)
        };
        let process = plugin.process(terms, options, INTERVAL);
        let process = process.ok_or((Point::Loads, "it has no process of its own".to_owned()))?;
        let none = Err(io::Error::other("it was not started"));
        let watched = Watched { process, onlooker: self.onlooker, before: none };
        let begin = Instant::now();
        let trial = Trial::start(name, plugin.asked(&config.options), watched);
        let mut trial = trial.map_err(|error| (Point::Starts, error.to_string()))?;
        let start = begin.elapsed();

        let mut sums = Totals::default();
        let called = (0..CALLS).try_for_each(|_| {
            thread::sleep(INTERVAL);
            call(&mut trial, &mut sums)
        });
        verdicts.ok(Point::Starts, judge::attached(&sums.lines).unwrap_or_default());
        called.map_err(at(Point::Calls))?;
        verdicts.ok(Point::Calls, format!("{CALLS} calls, {} rows", sums.rows));
        judge::lines(&plugin, &sums.lines, verdicts);
        let during = self.onlooker.holdings(trial.instance.process.process());
        let names = during.as_ref().map(|during| self.names(during)).unwrap_or_default();

        let begin = Instant::now();
        let ended = trial.instance.process.end_here();
        let end = begin.elapsed();
        ended.result.map_err(|error| (Point::Ends, error.to_string()))?;
        verdicts.ok(Point::Ends, "");
        sums.dropped += ended.tally.dropped;
        judge::deadline(start, sums.longest, end, verdicts);
        let left = self.left(&trial.instance);

        let process = &mut trial.instance.process;
        process.start_here().map_err(|error| (Point::Again, format!("init failed: {error}")))?;
        thread::sleep(INTERVAL);
        let again = |why| (Point::Again, format!("call failed: {why}"));
        call(&mut trial, &mut sums).map_err(again)?;
        let ended = trial.instance.process.end_here();
        ended.result.map_err(|error| (Point::Again, format!("deinit failed: {error}")))?;
        verdicts.ok(Point::Again, "");
        let left_again = self.left(&trial.instance);
        judge::books(c, &sums, verdicts);
        let during = during.map(|during| (during, names));
        self.leaves(left, left_again, &during, trial, verdicts)
    }

    fn load(&self) -> Result<Plugin, String> {
        load::load(self.file, &self.configured(&name_of(self.file)), None, usize::MAX)
    }

    /// As it is configured, but for where it runs.
    fn configured(&self, name: &str) -> PluginConfig {
        let mut config = self.settings.plugin(name);
        // One that will run in the collector's process may start others.
        let processes =
            config.bounds.processes.or(Some(config.isolation != Some(Isolation::Process)));
        config.bounds = Bounds { processes, ..config.bounds };
        config.isolation = Some(Isolation::Process);
        config
    }

    fn description(&self, plugin: &Plugin, verdicts: &mut Verdicts) {
        if plugin.abi() == Abi::C {
            return verdicts
                .does_not_apply(Point::Description, "C plugins do not describe themselves");
        }
        let description = &plugin.description;
        let mut faults = declared::faults(description);
        // It goes by its file's name, whatever it calls itself.
        let own = Description::from_json(&plugin.json).map(|own| own.name).unwrap_or_default();
        if own != description.name {
            faults.push(format!("it calls itself `{own}`: its file should be called lib{own}.so"));
        }
        let fields: usize = description.tables.iter().map(|table| table.fields.len()).sum();
        let (tables, options) = (description.tables.len(), description.options.len());
        let text = format!("{tables} tables, {fields} fields, {options} options");
        verdicts.judge(Point::Description, &faults, text);
    }

    /// What is left in a plugin's process after its end; threads may take a moment.
    fn left(&self, watched: &Watched<'_>) -> Result<(Holdings, Vec<String>), String> {
        let until = Instant::now() + LEAVES;
        let before = watched.before.as_ref().map_err(ToString::to_string)?;
        loop {
            let now = self.onlooker.holdings(watched.process.process());
            let now = now.map_err(|error| error.to_string())?;
            let more = now.more_than(before);
            if more.is_empty() || Instant::now() > until {
                return Ok((now, more));
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// What it leaves behind in its process, what it does to the process, and what it costs.
    fn leaves(
        &self,
        left: Result<(Holdings, Vec<String>), String>,
        left_again: Result<(Holdings, Vec<String>), String>,
        during: &io::Result<(Holdings, Names)>,
        mut trial: Trial<Watched<'_>>,
        verdicts: &mut Verdicts,
    ) -> Result<(), Stopped> {
        let before = std::mem::replace(&mut trial.instance.before, Err(io::Error::other("taken")));
        drop(trial); // and with it the process
        let all = match (&before, during, left, left_again) {
            (Ok(before), Ok(during), Ok(left), Ok((_, again))) => (before, during, left, again),
            (Err(why), ..) | (_, Err(why), ..) => {
                let text = format!("what its process holds cannot be seen: {why}");
                for point in [Point::Leaves, Point::Signals, Point::Cost] {
                    verdicts.does_not_apply(point, &text);
                }
                return Ok(());
            }
            (_, _, Err(why), _) | (_, _, _, Err(why)) => return Err((Point::Leaves, why)),
        };
        let (before, (during, names), (after, more), again) = all;
        let mut faults = Vec::new();
        if !more.is_empty() {
            faults.push(format!("after deinit it still has {}", more.join(", ")));
        }
        if !again.is_empty() && again != more {
            faults.push(format!("after another start and end it has {}", again.join(", ")));
        }
        faults.extend(self.in_the_kernel(during));
        let Holdings { programs, maps, links, .. } = during;
        let text = format!(
            "nothing; it had {} programs, {} maps, {} links, {} threads and {} descriptors",
            programs.len(),
            maps.len(),
            links.len(),
            during.threads.len().saturating_sub(before.threads.len()),
            during.descriptors.len().saturating_sub(before.descriptors.len()),
        );
        verdicts.judge(Point::Leaves, &faults, text);
        judge::signals(before, during, &after, verdicts);
        self.cost(before, during, names, verdicts);
        Ok(())
    }

    /// Objects that are there without the process that made them.
    fn in_the_kernel(&self, during: &Holdings) -> Vec<String> {
        let of = |kind, ids: Vec<u32>| ids.into_iter().map(move |id| (kind, id));
        let programs = of(Kind::Program, during.programs.keys().copied().collect());
        let maps = of(Kind::Map, during.maps.keys().copied().collect());
        let links = of(Kind::Link, during.links.keys().copied().collect());
        let all: Vec<(Kind, u32)> = programs.chain(maps).chain(links).collect();
        let left = self.onlooker.ask(move || {
            let until = Instant::now() + FREED;
            let there = |(kind, id): &&(Kind, u32)| bpf_objects::open(*kind, *id).is_ok();
            loop {
                let left: Vec<(Kind, u32)> = all.iter().filter(there).copied().collect();
                if left.is_empty() || Instant::now() > until {
                    return left;
                }
                thread::sleep(Duration::from_millis(50));
            }
        });
        let left = left.unwrap_or_default();
        let left = left.iter().map(|(kind, id)| format!("{kind:?} {id}").to_lowercase());
        left.map(|what| format!("{what} is there after the end of its process")).collect()
    }

    /// Programs with their names.
    fn names(&self, during: &Holdings) -> Names {
        let ids: Vec<u32> = during.programs.keys().copied().collect();
        let name = |id: u32| bpf_objects::program_name(id).map(|name| (id, name)).ok();
        self.onlooker.ask(move || ids.into_iter().filter_map(name).collect()).unwrap_or_default()
    }

    fn cost(&self, before: &Holdings, during: &Holdings, names: &Names, verdicts: &mut Verdicts) {
        let mut parts = Vec::new();
        let mut runs: Vec<String> = Vec::new();
        for (id, program) in during.programs.iter().filter(|(_, program)| program.runs > 0) {
            let name = names.get(id).map_or_else(|| format!("program {id}"), String::clone);
            runs.push(format!(
                "{name} {} ns ({} runs)",
                program.run_ns / program.runs,
                program.runs
            ));
        }
        if !runs.is_empty() {
            parts.push(runs.join(", "));
        } else if let (Err(why), false) = (&self.measured, during.programs.is_empty()) {
            parts.push(format!("runs are not measured: {why}"));
        }
        if !during.maps.is_empty() {
            let bytes: u64 = during.maps.values().sum();
            parts.push(format!("{} maps of {} KiB", during.maps.len(), bytes >> 10));
        }
        let more = during.resident.saturating_sub(before.resident);
        parts.push(format!("{} KiB resident since it was loaded", more >> 10));
        verdicts.ok(Point::Cost, parts.join("; "));
    }
}

fn call(trial: &mut Trial<Watched<'_>>, sums: &mut Totals) -> Result<(), String> {
    let called = trial.call().map_err(|error| format!("its lines cannot be read: {error:#}"))?;
    sums.add(called).map_err(|error| error.to_string())
}
