//! Running the collector, and reading what it says.

use collector::read::{Line, read};
use std::io::{BufRead, BufReader, ErrorKind, Read};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tempfile::TempDir;

/// No test takes longer, on a machine that does something else most of the time.
const LIMIT: Duration = Duration::from_secs(180);

/// One of this package's examples.
pub fn example(name: &str) -> PathBuf {
    // target/PROFILE/deps/host-HASH, beside which cargo puts examples.
    let exe = std::env::current_exe().unwrap();
    let path = exe.ancestors().nth(2).unwrap().join(format!("examples/lib{name}.so"));
    assert!(
        path.exists(),
        "{} is missing: `cargo test -p collector` builds it, or `cargo build -p collector --examples`",
        path.display()
    );
    path
}

/// A plugins folder with some of the examples.
pub fn folder(names: &[&str]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for name in names {
        std::fs::copy(example(name), dir.path().join(format!("lib{name}.so"))).unwrap();
    }
    dir
}

/// The collector with its flags, on a plugins folder; all that it says about itself is there, unless the flags
/// want it otherwise.
pub fn collector(plugins: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_collector"));
    command.arg("--plugins").arg(plugins).args(args);
    let of_a_command = |arg| {
        ["check", "dashboard", "describe", "list", "once", "replay", "top", "--self"].contains(arg)
    };
    if !args.iter().any(of_a_command) {
        command.args(["--self", "full"]);
    }
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).stdin(Stdio::null());
    command
}

/// Started as a service is: in a session of its own, without the terminal of who runs the tests. SIGHUP then
/// means to open files again.
pub fn as_a_service(mut command: Command) -> Command {
    // SAFETY: setsid(2) may be called between fork and exec.
    unsafe { command.pre_exec(|| Ok(rustix::process::setsid().map(drop)?)) };
    command
}

/// Without any capability, whoever runs the tests.
pub fn without_privileges(mut command: Command) -> Command {
    const PR_CAPBSET_DROP: libc::c_int = 24;
    let drop_all = || {
        // One that the caller may not drop, or that the kernel does not know, it does not have either.
        for capability in 0..64 {
            // SAFETY: prctl(2) may be called between fork and exec, and takes no pointer here.
            unsafe { libc::prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) };
        }
        Ok(())
    };
    // SAFETY: see above.
    unsafe { command.pre_exec(drop_all) };
    command
}

/// A configuration with an hour between ticks, but for `prints`, which is in the folder too: once that gives lines, all
/// plugins have started.
pub fn an_hour_beside_prints(plugins: &Path) -> String {
    let path = plugins.join("hour.toml");
    std::fs::write(&path, "interval = \"1h\"\n[plugin.prints]\ninterval = \"50ms\"\n").unwrap();
    path.to_str().unwrap().to_owned()
}

/// Waits until something is so.
pub fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < LIMIT, "waited in vain for {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Starts a program that may just have been copied: a child that another test is just starting may still have it open for
/// writing.
pub fn spawn(command: &mut Command) -> Child {
    loop {
        match command.spawn() {
            Err(error) if error.kind() == ErrorKind::ExecutableFileBusy => thread::yield_now(),
            child => return child.unwrap(),
        }
    }
}

/// A collector that runs.
pub struct Running {
    child: Child,
    stdout: JoinHandle<()>,
    stderr: JoinHandle<()>,
    /// What stands on standard output so far.
    printed: Arc<Mutex<Vec<u8>>>,
    /// What stands on standard error so far.
    said: Arc<Mutex<String>>,
    began: Instant,
}

/// One that has ended.
pub struct Ended {
    pub code: Option<i32>,
    /// Every line, read back: a line that is none fails the test here.
    pub lines: Vec<Line>,
    pub stdout: String,
    pub stderr: String,
    pub took: Duration,
}

impl Running {
    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn start(mut command: Command) -> Self {
        Self::of(spawn(&mut command))
    }

    /// One that was just started.
    pub fn of(mut child: Child) -> Self {
        let began = Instant::now();
        let mut stdout = child.stdout.take().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let printed = Arc::new(Mutex::new(Vec::new()));
        let lines = Arc::clone(&printed);
        let stdout = thread::spawn(move || {
            let mut part = [0; 1 << 16];
            loop {
                let length = stdout.read(&mut part).unwrap();
                if length == 0 {
                    break;
                }
                lines.lock().unwrap().extend(&part[..length]);
            }
        });
        let said = Arc::new(Mutex::new(String::new()));
        let sayings = Arc::clone(&said);
        let stderr = thread::spawn(move || {
            for line in stderr.lines() {
                *sayings.lock().unwrap() += &(line.unwrap() + "\n");
            }
        });
        Self { child, stdout, stderr, printed, said, began }
    }

    /// What it has said on standard error so far.
    pub fn said(&self) -> String {
        self.said.lock().unwrap().clone()
    }

    /// Waits until it has said something on standard error.
    pub fn wait_for(&self, words: &str) {
        self.wait_for_times(words, 1);
    }

    /// Waits until it has said something so many times.
    pub fn wait_for_times(&self, words: &str, times: usize) {
        while self.said.lock().unwrap().matches(words).count() < times {
            assert!(self.began.elapsed() < LIMIT, "it never said {words}");
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits until there are so many lines on standard output that begin like this and whose time is later than this
    /// call, however long their ticks take to come.
    pub fn wait_for_lines(&self, begin: &str, count: usize) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos();
        let later = |line: &&[u8]| {
            let Some(line) = line.strip_suffix(b"\n") else { return false }; // torn so far
            let time = line.rsplit(|byte| *byte == b' ').next().unwrap_or_default();
            let time = std::str::from_utf8(time).ok().and_then(|time| time.parse::<u128>().ok());
            line.starts_with(begin.as_bytes()) && time.is_some_and(|time| time > now)
        };
        let lines = || {
            let printed = self.printed.lock().unwrap();
            printed.split_inclusive(|byte| *byte == b'\n').filter(later).count()
        };
        while lines() < count {
            assert!(self.began.elapsed() < LIMIT, "no {count} lines of {begin}: {}", self.said());
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// The whole lines on standard output so far.
    pub fn lines(&self) -> Vec<Line> {
        let printed = self.printed.lock().unwrap().clone();
        let whole = printed.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
        read(&printed[..whole]).unwrap()
    }

    /// Waits until `good` has made so many ticks more, and the collector has told of itself as often.
    pub fn wait_for_ticks(&self, count: usize) {
        self.wait_for_lines("good,", count);
        self.wait_for_lines("collector_host,", count);
    }

    /// Its threads' names, sorted.
    pub fn threads(&self) -> Vec<String> {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap();
        let name = |comm: PathBuf| Some(std::fs::read_to_string(comm).ok()?.trim_end().to_owned());
        let mut names: Vec<String> =
            tasks.filter_map(|task| name(task.unwrap().path().join("comm"))).collect();
        names.sort_unstable();
        names
    }

    /// Waits until it has a thread.
    pub fn wait_for_thread(&self, name: &str) {
        while !self.threads().iter().any(|thread| thread == name) {
            assert!(self.began.elapsed() < LIMIT, "it never had a thread {name}");
            thread::sleep(Duration::from_millis(5));
        }
    }

    pub fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
    }

    /// Waits for its end.
    pub fn end(mut self) -> Ended {
        let ended = self.text();
        let lines = read(ended.stdout.as_bytes());
        let lines = lines.unwrap_or_else(|e| panic!("{e:#}\n{}", ended.stderr));
        assert!(ended.stdout.is_empty() || ended.stdout.ends_with('\n'), "a torn line at the end");
        Ended { lines, ..ended }
    }

    /// Waits for its end; what it prints is no line protocol.
    pub fn end_of_command(mut self) -> Ended {
        self.text()
    }

    fn text(&mut self) -> Ended {
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            if self.began.elapsed() > LIMIT {
                self.child.kill().unwrap();
                panic!("the collector did not end within {LIMIT:?}");
            }
            thread::sleep(Duration::from_millis(5));
        };
        let took = self.began.elapsed();
        for thread in [&mut self.stdout, &mut self.stderr] {
            std::mem::replace(thread, thread::spawn(|| ())).join().unwrap();
        }
        let stdout = String::from_utf8(std::mem::take(&mut *self.printed.lock().unwrap())).unwrap();
        let stderr = self.said.lock().unwrap().clone();
        Ended { code: status.code(), lines: Vec::new(), stdout, stderr, took }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs the collector to its end.
pub fn run(plugins: &Path, args: &[&str]) -> Ended {
    Running::start(collector(plugins, args)).end()
}

/// Runs a subcommand to its end.
pub fn command(plugins: &Path, args: &[&str]) -> Ended {
    Running::start(collector(plugins, args)).text()
}

impl Ended {
    /// The lines of a table.
    pub fn table<'a>(&'a self, table: &'a str) -> impl Iterator<Item = &'a Line> {
        self.lines.iter().filter(move |line| line.table == table)
    }

    /// The lines of `collector_plugin` about a plugin.
    pub fn about(&self, plugin: &str) -> Vec<&Line> {
        self.table("collector_plugin").filter(|line| line.tag("plugin") == plugin).collect()
    }

    /// A field of those, summed.
    pub fn sum(&self, plugin: &str, field: &str) -> u64 {
        self.about(plugin).iter().map(|line| line.u64(field)).sum()
    }

    /// How many ticks a plugin has had: with a line in the table of its name, or counted as missed.
    pub fn ticks(&self, plugin: &str) -> u64 {
        self.table(plugin).count() as u64 + self.sum(plugin, "ticks_missed")
    }

    /// The reasons that were ever given for a plugin.
    pub fn reasons(&self, plugin: &str) -> String {
        let about = self.about(plugin);
        let reasons = about.iter().filter(|line| line.get("reason").is_some());
        reasons.map(|line| line.text("reason").to_owned() + "\n").collect()
    }

    /// The states that a plugin was in, in order, without repetitions.
    pub fn states(&self, plugin: &str) -> Vec<String> {
        let mut states: Vec<_> =
            self.about(plugin).iter().map(|line| line.text("state").to_owned()).collect();
        states.dedup();
        states
    }
}
