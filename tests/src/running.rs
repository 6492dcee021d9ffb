//! The collector of the install tree, with one of this package's plugins alone.

use crate::wait;
use rustix::process::{Pid, Signal, kill_process};
use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A folder for what outlives a run of the collector: its configuration, plugins and spools.
#[derive(Debug)]
pub struct Home(TempDir);

impl Home {
    /// With nothing but the plugin `stream`.
    ///
    /// # Panics
    /// It was not built.
    #[must_use]
    pub fn new() -> Self {
        Self::of("stream")
    }

    /// With nothing but one of this package's plugins.
    ///
    /// # Panics
    /// It was not built.
    #[must_use]
    pub fn of(plugin: &str) -> Self {
        let home = Self(tempfile::tempdir().expect("a folder"));
        let plugins = home.path("plugins");
        fs::create_dir(&plugins).expect("a folder for the plugin");
        let file = format!("lib{plugin}.so");
        fs::copy(example(&file), plugins.join(&file)).expect("a copy of the plugin");
        home
    }

    /// With the plugins of the install tree.
    ///
    /// # Panics
    /// There is no install tree.
    #[must_use]
    pub fn with_tools() -> Self {
        let home = Self(tempfile::tempdir().expect("a folder"));
        symlink(dist().join("plugins"), home.path("plugins")).expect("a link to the plugins");
        home
    }

    /// With copies of tools of the install tree: the tool, and what the copy is called.
    ///
    /// # Panics
    /// There is no install tree, or not such a tool.
    #[must_use]
    pub fn with_copies(tools: &[(&str, &str)]) -> Self {
        let home = Self(tempfile::tempdir().expect("a folder"));
        let (from, to) = (dist().join("plugins"), home.path("plugins"));
        fs::create_dir(&to).expect("a folder for the plugins");
        for (tool, name) in tools {
            let file = from.join(format!("lib{tool}.so"));
            fs::copy(file, to.join(format!("lib{name}.so"))).expect("a copy of the tool");
        }
        home
    }

    /// A place in it: for a spool, a socket, a token.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Starts the collector with a configuration: the keys before its first section, then the others. It says
    /// everything about itself.
    ///
    /// # Panics
    /// There is no install tree.
    #[must_use]
    pub fn start(&self, toml: &str) -> Running {
        self.start_with(toml, |_| {})
    }

    /// The same, with flags and standard streams as they are prepared; standard error is ours.
    ///
    /// # Panics
    /// As [`Home::start`].
    #[must_use]
    pub fn start_with(&self, toml: &str, prepare: impl FnOnce(&mut Command)) -> Running {
        let config = self.path("collector.toml");
        fs::write(&config, toml).expect("a config file");
        let mut command = Command::new(dist().join("collector"));
        command.arg("--config").arg(config).arg("--plugins").arg(self.path("plugins"));
        command.args(["--self", "full"]);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        prepare(&mut command);
        command.stderr(Stdio::piped());
        let began = Instant::now();
        let mut child = command.spawn().expect("the collector starts");
        let stderr = BufReader::new(child.stderr.take().expect("it is piped"));
        let said = Arc::<Mutex<String>>::default();
        let sayings = Arc::clone(&said);
        let ear = thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                *sayings.lock().unwrap_or_else(PoisonError::into_inner) += &(line + "\n");
            }
        });
        Running { child, said, ear: Some(ear), began }
    }
}

impl Default for Home {
    fn default() -> Self {
        Self::new()
    }
}

/// The install tree.
///
/// # Panics
/// There is none.
#[must_use]
pub fn dist() -> PathBuf {
    let dist = std::env::var_os("COLLECTOR_DIST");
    dist.expect("COLLECTOR_DIST: run this by `cargo xtask test` or `bench`").into()
}

/// The names of its plugins, in order.
///
/// # Panics
/// There is no install tree.
#[must_use]
pub fn tools() -> Vec<String> {
    let files = fs::read_dir(dist().join("plugins")).expect("plugins").flatten();
    let names = files.filter_map(|file| {
        let name = file.file_name().into_string().ok()?;
        Some(name.strip_prefix("lib")?.strip_suffix(".so")?.to_owned())
    });
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}

/// The plugin, which cargo puts beside its test executables and binaries.
fn example(file: &str) -> PathBuf {
    let exe = std::env::current_exe().expect("a path of this program");
    let places = exe.ancestors().skip(1).take(2).map(|dir| dir.join("examples").join(file));
    let found = places.into_iter().find(|path| path.exists());
    found.unwrap_or_else(|| panic!("{file}: `cargo build -p system-tests --examples` builds it"))
}

/// A collector that runs. It ends with this value.
#[derive(Debug)]
pub struct Running {
    child: Child,
    said: Arc<Mutex<String>>,
    ear: Option<JoinHandle<()>>,
    began: Instant,
}

/// Memory of a process, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    pub now: u64,
    pub peak: u64,
}

fn copy(said: &Mutex<String>) -> String {
    said.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

impl Running {
    /// What stands on standard error so far.
    #[must_use]
    pub fn said(&self) -> String {
        copy(&self.said)
    }

    /// Waits until it has said something on standard error.
    ///
    /// # Panics
    /// It does not, or ends before.
    pub fn wait_for(&mut self, words: &str) {
        self.wait_until(&format!("the collector to say `{words}`"), |said| said.contains(words));
    }

    /// Waits until something is so, for as long as the collector runs; `so` gets what it has said.
    ///
    /// # Panics
    /// It is not so within [`wait::LIMIT`], or the collector ends before.
    pub fn wait_until(&mut self, what: &str, mut so: impl FnMut(&str) -> bool) {
        let (child, said) = (&mut self.child, &self.said);
        wait::until(std::fmt::from_fn(|f| write!(f, "{what}\n{}", copy(said))), || {
            let ended = child.try_wait().expect("it is ours to wait for");
            let fine = so(&copy(said));
            assert!(fine || ended.is_none(), "it ended before {what}: {ended:?}\n{}", copy(said));
            fine
        });
    }

    /// Its process.
    #[must_use]
    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Asks it to end.
    ///
    /// # Panics
    /// It has ended.
    pub fn terminate(&self) {
        kill_process(self.pid(), Signal::TERM).expect("it runs");
    }

    /// Ends it at once.
    ///
    /// # Panics
    /// It has ended.
    #[must_use]
    pub fn kill9(self) -> Ended {
        kill_process(self.pid(), Signal::KILL).expect("it runs");
        self.end()
    }

    /// What it takes now, and took at most.
    ///
    /// # Panics
    /// It has ended.
    #[must_use]
    pub fn memory(&self) -> Memory {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()));
        let status = status.expect("it runs");
        let bytes = |key: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(key)).expect(key);
            let kib = line.trim_start_matches(':').trim().trim_end_matches(" kB");
            kib.parse::<u64>().expect("a number of KiB") * 1024
        };
        Memory { now: bytes("VmRSS"), peak: bytes("VmHWM") }
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// It does not end within [`wait::LIMIT`].
    #[must_use]
    pub fn end(mut self) -> Ended {
        let asked = Instant::now();
        let mut status = None;
        wait::until("the collector to end", || {
            status = self.child.try_wait().expect("it is ours to wait for");
            status.is_some()
        });
        let took = asked.elapsed();
        if let Some(ear) = self.ear.take() {
            let _ = ear.join();
        }
        let code = status.and_then(|status| status.code());
        Ended { code, stderr: self.said(), took, ran: self.began.elapsed() }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A collector that has ended.
#[derive(Debug)]
pub struct Ended {
    /// None after a signal.
    pub code: Option<i32>,
    pub stderr: String,
    /// Since the end was waited for.
    pub took: Duration,
    /// Since the start.
    pub ran: Duration,
}

impl Ended {
    /// The books that it printed at its end, by the outputs' names.
    ///
    /// # Panics
    /// What it printed are no books.
    #[must_use]
    pub fn books(&self) -> BTreeMap<String, Books> {
        self.stderr.lines().filter_map(Books::of).collect()
    }

    /// The books of the only output.
    ///
    /// # Panics
    /// There are several, or none.
    #[must_use]
    pub fn only_books(&self) -> Books {
        let mut books = self.books().into_values();
        match (books.next(), books.next()) {
            (Some(only), None) => only,
            _ => panic!("not one output's books\n{}", self.stderr),
        }
    }
}

/// What became of the lines for an output.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Books {
    pub produced: u64,
    /// From the spool of an earlier run.
    pub recovered: u64,
    pub delivered: u64,
    pub waiting: u64,
    /// By cause; causes without lines are not there.
    pub dropped: BTreeMap<String, u64>,
}

impl Books {
    /// From `output NAME: 5 lines produced + 1 recovered from the spool = 4 delivered + 1 waiting +
    /// 1 dropped (full)`, as it stands at the end of a line of the log.
    ///
    /// # Panics
    /// The line has the words and other numbers.
    #[must_use]
    pub fn of(line: &str) -> Option<(String, Self)> {
        let (_, line) = line.split_once("output ")?;
        let (before, after) = line.split_once(" lines produced")?;
        let (name, produced) = before.rsplit_once(": ")?;
        let mut books = Self { produced: number(produced), ..Self::default() };
        for term in after.replace(" = ", " + ").split(" + ").filter(|term| !term.is_empty()) {
            let (count, what) = term.split_once(' ').unwrap_or_else(|| panic!("{term}: {line}"));
            let cause = what.strip_prefix("dropped (").and_then(|rest| rest.strip_suffix(')'));
            match (what, cause) {
                ("recovered from the spool", _) => books.recovered = number(count),
                ("delivered", _) => books.delivered = number(count),
                ("waiting", _) => books.waiting = number(count),
                (_, Some(cause)) => _ = books.dropped.insert(cause.to_owned(), number(count)),
                _ => panic!("books with `{what}`: {line}"),
            }
        }
        books.dropped.retain(|_, lines| *lines > 0);
        Some((name.to_owned(), books))
    }

    /// Whether every line is accounted for.
    #[must_use]
    pub fn balance(&self) -> bool {
        let dropped: u64 = self.dropped.values().sum();
        self.produced + self.recovered == self.delivered + self.waiting + dropped
    }
}

fn number(text: &str) -> u64 {
    text.parse().unwrap_or_else(|_| panic!("`{text}` is no number of lines"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn books_are_read_as_they_are_printed() {
        let line = "[INFO] output http://u:1/x: 9 lines produced + 2 recovered from the spool = \
                    4 delivered + 1 waiting + 5 dropped (full) + 1 dropped (spool_age)";
        let (name, books) = Books::of(line).unwrap();
        assert_eq!(name, "http://u:1/x");
        assert_eq!((books.produced, books.recovered, books.delivered), (9, 2, 4));
        let dropped = [("full", 5), ("spool_age", 1)].map(|(k, v)| (k.to_owned(), v));
        assert_eq!((books.waiting, books.dropped.clone()), (1, BTreeMap::from(dropped)));
        assert!(books.balance());
        assert!(!Books { waiting: 2, ..books }.balance());

        let line = "output stdout: 5 lines produced = 5 delivered + 0 waiting + \
                    0 dropped (queue full) + 0 dropped (error)";
        let (name, books) = Books::of(line).unwrap();
        assert_eq!((&*name, books.delivered, books.dropped.len()), ("stdout", 5, 0));
        assert_eq!(Books::of("output stdout: works again"), None);
    }
}
