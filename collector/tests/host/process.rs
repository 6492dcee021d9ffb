//! Running the collector, and reading what it says.

use collector::read::{Line, read};
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// No test takes longer.
const LIMIT: Duration = Duration::from_secs(60);

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
    let of_a_command = |arg| ["check", "describe", "list", "once", "--self"].contains(arg);
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

/// A collector that runs.
pub struct Running {
    child: Child,
    stdout: JoinHandle<Vec<u8>>,
    stderr: JoinHandle<()>,
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
        Self::of(command.spawn().unwrap())
    }

    /// One that was just started.
    pub fn of(mut child: Child) -> Self {
        let began = Instant::now();
        let mut stdout = child.stdout.take().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let stdout = thread::spawn(move || {
            let mut bytes = Vec::new();
            stdout.read_to_end(&mut bytes).unwrap();
            bytes
        });
        let said = Arc::new(Mutex::new(String::new()));
        let sayings = Arc::clone(&said);
        let stderr = thread::spawn(move || {
            for line in stderr.lines() {
                *sayings.lock().unwrap() += &(line.unwrap() + "\n");
            }
        });
        Self { child, stdout, stderr, said, began }
    }

    /// Waits until it has said something on standard error.
    pub fn wait_for(&self, words: &str) {
        while !self.said.lock().unwrap().contains(words) {
            assert!(self.began.elapsed() < LIMIT, "it never said {words}");
            thread::sleep(Duration::from_millis(5));
        }
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
        let stdout = std::mem::replace(&mut self.stdout, thread::spawn(Vec::new));
        std::mem::replace(&mut self.stderr, thread::spawn(|| ())).join().unwrap();
        let stdout = String::from_utf8(stdout.join().unwrap()).unwrap();
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
