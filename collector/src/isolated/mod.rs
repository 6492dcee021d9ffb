//! A plugin in a process of its own: the third kind of [`Instance`].
//!
//! ```text
//! the plugin's thread here            two pipes             the plugin's process
//! ProcessInstance -> link.rs   -- Open, Start, Call, End -->   child.rs -> the plugin -> the sink
//! lines are checked, then sent <-- Log, Opened, Done ---
//! ```
//!
//! The process is the collector's own program. It is started for each start of the plugin, holds the capabilities that the
//! plugin's thread holds, ends with that thread, and takes no more than its [`Bounds`]. Whatever happens in it, the
//! collector gets an answer in time or kills it; its maps and links go with it.

mod bytes;
pub mod child;
mod limits;
mod link;
mod meter;
pub mod protocol;
#[cfg(test)]
mod tests;
mod words;

use crate::capabilities::{self, CapabilitySet};
use crate::check::Checker;
use crate::elf::Abi;
use crate::encoder::Page;
use crate::instance::{Instance, Outcome, PluginError};
use crate::sink::{Closed, Limits, LogTo, REPORT_ROOM, Tally, Terms};
use link::{Link, Wait};
use meter::CpuTime;
use plugin_api::Tick;
use protocol::{Opening, ProcessAnswer, Request, Starting};
use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Where a plugin runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// In the collector's process.
    None,
    /// In a process of its own.
    Process,
}

impl Isolation {
    /// As in the configuration.
    pub const NAMED: [(&'static str, Self); 2] = [("none", Self::None), ("process", Self::Process)];
}

/// What a plugin's process may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Bytes of private memory that can be written to.
    pub memory: u64,
    /// Whether it may start other processes; when nothing is said, a C plugin may.
    pub processes: Option<bool>,
}

impl Bounds {
    /// What is plenty for a tool: libbpf takes up to 60 MB for the kernel's types while it loads a program.
    pub const DEFAULT: Self = Self { memory: 256 << 20, processes: None };
}

/// How long loading may take, which the collector's start waits for.
const OPEN: Duration = Duration::from_secs(10);
/// How long a start may take. A machine under emulation takes seconds for a large program.
const START: Duration = Duration::from_secs(20);
/// A call may take its interval, or this much where that is longer: then its lines are late, but they come.
const CALL: Duration = Duration::from_secs(2);
/// How long an end may take: a C plugin's threads get 2 s, and the collector's own end waits for 3 s.
const END: Duration = Duration::from_millis(2500);

/// A plugin's file that this process has not loaded.
#[derive(Clone, Debug)]
pub struct Unloaded {
    /// The file, which was looked at.
    pub file: Arc<File>,
    /// Where it lies.
    pub path: PathBuf,
    /// The plugin's name by its file.
    pub name: String,
    /// What it exports.
    pub abi: Abi,
    /// What its process may take.
    pub bounds: Bounds,
}

impl Unloaded {
    /// Loads it in a process for that alone, which holds no capability, and asks for its description as JSON; empty when
    /// the plugin has none.
    ///
    /// # Errors
    /// Why it cannot be loaded.
    pub fn describe(&self) -> Result<String, String> {
        let log: LogTo = |plugin, level, text| log::log!(target: plugin, level, "{text}");
        let mut link =
            Link::start(&self.name, &self.file, log, &CpuTime::default()).map_err(no_process)?;
        let json = self.open(&mut link, CapabilitySet::empty()).map_err(|error| error.to_string());
        link.leave();
        json
    }

    fn open(&self, link: &mut Link, capabilities: CapabilitySet) -> Result<String, PluginError> {
        let processes = self.bounds.processes.unwrap_or(self.abi == Abi::C);
        let opening = Opening {
            name: self.name.clone(),
            path: self.path.clone(),
            level: log::max_level(),
            parent: std::process::id(),
            capabilities: capabilities.bits(),
            bounds: Bounds { processes: Some(processes), ..self.bounds },
        };
        let wait = Wait { within: OPEN, forms: &[], most_lines: 0 };
        match link.ask(&Request::Open(opening), wait)? {
            ProcessAnswer::Opened(result) => result.map_err(PluginError::Answered),
            _ => Err(link.broken(WRONG.to_owned())),
        }
    }
}

const WRONG: &str = "an answer to another question";

fn no_process(error: std::io::Error) -> String {
    format!("starting a process for it: {error}")
}

fn gone() -> PluginError {
    PluginError::Died("it has no process".to_owned())
}

/// A plugin that runs in a process of its own.
pub struct ProcessInstance {
    plugin: Unloaded,
    starting: Starting,
    checker: Checker,
    log: LogTo,
    /// How long a call may take.
    call: Duration,
    link: Option<Link>,
    cpu: CpuTime,
}

impl ProcessInstance {
    /// As [`crate::load::Plugin::instance`].
    #[must_use]
    pub fn new(plugin: Unloaded, terms: Terms, options: String, interval: Duration) -> Self {
        let checker = Checker::new(&terms);
        let Terms { plugin: name, tables: _, forms, reports, tags, uint, limits, log } = terms;
        let starting = Starting { plugin: name, forms, reports, tags, uint, limits, options };
        let (call, cpu) = (interval.max(CALL), CpuTime::default());
        Self { plugin, starting, checker, log, call, link: None, cpu }
    }

    /// Starts a process that loads the plugin, and leaves it at that.
    ///
    /// # Errors
    /// Why it is not loaded.
    pub fn open(&mut self) -> Result<(), PluginError> {
        self.link = None;
        let (plugin, log, cpu) = (&self.plugin, self.log, &self.cpu);
        let link = capabilities::passed_on(|held| {
            Link::start(&plugin.name, &plugin.file, log, cpu).map(|link| (link, held))
        });
        let (link, held) = link.map_err(|why| PluginError::Answered(no_process(why)))?;
        let link = self.link.insert(link);
        self.plugin.open(link, held).map(drop).inspect_err(|_| self.link = None)
    }

    /// Starts it in the process that has loaded it, for the first time or after [`Self::end_here`].
    ///
    /// # Errors
    /// Why it does not start.
    pub fn start_here(&mut self) -> Result<(), PluginError> {
        let started = self.begin();
        if started.as_ref().is_err_and(PluginError::loses_lines) {
            self.link = None;
        }
        started
    }

    /// Ends it; the process is left as it is.
    pub fn end_here(&mut self) -> Outcome {
        self.outcome(&Request::End, END)
    }

    fn begin(&mut self) -> Result<(), PluginError> {
        let link = self.link.as_mut().ok_or_else(gone)?;
        let wait = Wait { within: START, forms: &[], most_lines: 0 };
        match link.ask(&Request::Start(self.starting.clone()), wait)? {
            ProcessAnswer::Done(Outcome { result, .. }) => result.map_err(|error| match error {
                // A C plugin answers with a number, and has printed why.
                PluginError::Answered(text) if self.plugin.abi == Abi::C => {
                    let words = link.last_words().map(|words| format!("; it said: {words}"));
                    PluginError::Answered(text + &words.unwrap_or_default())
                }
                error => error,
            }),
            _ => Err(link.broken(WRONG.to_owned())),
        }
    }

    /// Asks for something that is answered with an outcome, and looks at what comes.
    fn ask(&mut self, request: &Request, within: Duration) -> Result<Outcome, PluginError> {
        let link = self.link.as_mut().ok_or_else(gone)?;
        let Starting { forms, limits, .. } = &self.starting;
        let Limits { lines: rows, bytes, .. } = *limits;
        let most = bytes.saturating_add(REPORT_ROOM.bytes);
        let most_lines = most.saturating_mul(forms.len()).saturating_add(PAGE * forms.len());
        let answer = link.ask(request, Wait { within, forms, most_lines })?;
        let ProcessAnswer::Done(outcome) = answer else {
            return Err(link.broken(WRONG.to_owned()));
        };
        let most_rows = rows.saturating_add(REPORT_ROOM.lines);
        let closed = &outcome.closed;
        if closed.rows > most_rows || closed.pages.iter().any(|page| page.bytes.len() > most) {
            return Err(link.broken("more lines than it may".to_owned()));
        }
        for Page { lines, bytes, .. } in &closed.pages {
            if let Err(malformed) = self.checker.check(bytes, *lines) {
                return Err(link.broken(format!("what is no line protocol ({malformed})")));
            }
        }
        Ok(outcome)
    }

    fn outcome(&mut self, request: &Request, within: Duration) -> Outcome {
        let mut outcome = self.ask(request, within).unwrap_or_else(|error| {
            self.link = None;
            Outcome { closed: Closed::default(), tally: Tally::default(), result: Err(error) }
        });
        // As from a sink: a page for each form, whatever is on it.
        if outcome.closed.pages.is_empty() {
            let page = |form: &_| Page { form: *form, lines: 0, bytes: Vec::new() };
            outcome.closed.pages = self.starting.forms.iter().map(page).collect();
        }
        outcome
    }
}

/// What a page takes in a message beside its lines.
const PAGE: usize = 16;

impl Instance for ProcessInstance {
    fn start(&mut self) -> Result<(), PluginError> {
        self.open()?;
        self.start_here()
    }

    fn call(&mut self, tick: &Tick) -> Outcome {
        self.outcome(&Request::Call(*tick), self.call)
    }

    fn skip(&mut self, tick: &Tick) -> Outcome {
        self.outcome(&Request::Skip(*tick), self.call)
    }

    fn end(&mut self) -> Outcome {
        if self.link.is_none() {
            let tally = Tally::default();
            return Outcome { closed: Closed::default(), tally, result: Ok(()) };
        }
        let outcome = self.end_here();
        if let Some(link) = self.link.take() {
            link.leave();
        }
        outcome
    }

    fn take_cpu_ns(&mut self) -> u64 {
        self.link.iter_mut().for_each(Link::measure);
        self.cpu.take()
    }

    fn process(&self) -> Option<u32> {
        self.link.as_ref().map(Link::process)
    }
}
