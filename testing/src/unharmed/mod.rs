//! Programs that a tool looks into, and that shall not notice: each does what probes are known to disturb, and says
//! whether all went well.

mod collecting;

pub use collecting::Collecting;

use crate::Folder;
use crate::process::executable;
use crate::terminal::Terminal;
use std::fs;
use std::io::{BufRead as _, BufReader, ErrorKind, Write as _};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

/// Lines that [`Program::cpp`] reads by its own `readline()`: 4 threads with 50 and 5 children with 10.
pub const CPP_LINES: u64 = 4 * 50 + 5 * 10;
/// Blocks that each program but a shell holds in the end, and the bytes of each.
pub const HELD: u64 = 40;
/// See [`HELD`].
pub const HELD_BYTES: u64 = 123_456;
/// Lines that [`bash`] types, and the blocks that the shell holds then, with the bytes of each.
pub const BASH_LINES: u64 = 65;
/// See [`BASH_LINES`].
pub const BASH_HELD: u64 = 20;
/// See [`BASH_LINES`].
pub const BASH_HELD_BYTES: u64 = 54_322;

static WATCHED: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/watched"));

/// A program that has started and waits to be told. It ends with this.
pub struct Program {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    /// Sent to it while it works, and how often.
    signal: i32,
    pause: Duration,
    _folder: Folder,
}

impl Program {
    /// One in C++, under this name: exceptions, long jumps out of its own `readline()`, threads, signals, forks. At the
    /// end it spins in `spin`; what it holds was allocated in `forget`. `None` where it could not be compiled.
    #[must_use]
    pub fn cpp(name: &str) -> Option<Self> {
        if WATCHED.is_empty() {
            println!("there was no C++ compiler");
            return None;
        }
        let folder = Folder::new("cpp");
        let path = folder.at(name);
        executable(&path, WATCHED);
        Self::start(&mut Command::new(&path), folder, libc::SIGUSR2, Duration::from_millis(2))
    }

    /// Node: exceptions, a thread, children, signals. At the end it spins in `spin`, which is compiled while it runs and
    /// named in a perf map. `None` where there is none.
    #[must_use]
    pub fn node() -> Option<Self> {
        let (folder, mut command) = (Folder::new("node"), Command::new("node"));
        command.args(["--perf-basic-prof", "-e", include_str!("unharmed.js")]);
        // It leaves a log where it runs.
        command.current_dir(folder.path());
        Self::start(&mut command, folder, libc::SIGUSR2, Duration::from_millis(2))
    }

    /// A JVM: exceptions, threads, 5 forced collections, a child, dumps of its threads. `None` where there is none.
    #[must_use]
    pub fn jvm() -> Option<Self> {
        let folder = classes();
        let mut command = Command::new(java());
        command.args(["-Xmx64m", "-cp"]).arg(folder.path()).arg("Unharmed");
        Self::start(&mut command, folder, libc::SIGQUIT, Duration::from_millis(50))
    }

    fn start(command: &mut Command, folder: Folder, signal: i32, pause: Duration) -> Option<Self> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = loop {
            match command.spawn() {
                Ok(child) => break child,
                // It may still be open for writing in a child that another test is just starting.
                Err(error) if error.kind() == ErrorKind::ExecutableFileBusy => thread::yield_now(),
                Err(error) => {
                    println!("{command:?}: {error}");
                    return None;
                }
            }
        };
        let input = child.stdin.take();
        let output = BufReader::new(child.stdout.take().expect("its output"));
        let mut program = Self { child, input, output, signal, pause, _folder: folder };
        assert!(program.hears("ready"), "{command:?}");
        Some(program)
    }

    /// Its process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Lets it do all that, once, under signals. It lives on.
    ///
    /// # Panics
    /// It came to harm.
    pub fn work(&mut self) {
        let input = self.input.as_mut().expect("its input");
        input.write_all(b"\n").expect("it waits");
        let (pid, signal, pause) = (self.pid().cast_signed(), self.signal, self.pause);
        let done = AtomicBool::new(false);
        let right = thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    // SAFETY: numbers, of a child that nobody has waited for.
                    unsafe { libc::kill(pid, signal) };
                    thread::sleep(pause);
                }
            });
            let right = self.hears("right");
            done.store(true, Ordering::Relaxed);
            right
        });
        assert!(right, "{:?}", self.child.try_wait());
    }

    /// Whether it says this and not the contrary. A JVM says where its threads are, too.
    fn hears(&mut self, word: &str) -> bool {
        let mut lines = (&mut self.output).lines().map_while(Result::ok);
        let said = lines.find(|line| ["ready", "right", "wrong"].contains(&&**line));
        said.is_some_and(|said| said == word)
    }

    /// Lets it end.
    ///
    /// # Panics
    /// It came to harm.
    pub fn end(mut self) {
        drop(self.input.take());
        let status = self.child.wait().expect("its end");
        assert!(status.success(), "{status}");
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_file(format!("/tmp/perf-{}.map", self.child.id()));
    }
}

/// The JVM of this machine, or where one would be: a virtual machine has it without a link.
#[must_use]
pub fn java() -> PathBuf {
    let link = PathBuf::from("/usr/bin/java");
    let homes = fs::read_dir("/usr/lib/jvm").into_iter().flatten().flatten();
    let java = homes.map(|home| home.path().join("bin/java")).find(|java| java.exists());
    if link.exists() { link } else { java.unwrap_or(link) }
}

/// Types [`BASH_LINES`] at a shell that gets signals while it waits for a line and while it runs one, and gives up some
/// others. It lives on.
///
/// # Panics
/// It came to harm.
pub fn bash(shell: &mut Terminal) {
    shell.lines(&["n=0; trap 'n=$((n+1))' USR1", "set +m"]);
    for round in 0..20 {
        for signal in [libc::SIGWINCH, libc::SIGUSR1] {
            // SAFETY: numbers, of a child of this test.
            assert_eq!(unsafe { libc::kill(shell.pid, signal) }, 0);
        }
        // A trap ends a `wait`.
        shell.lines(&[
            "true",
            "(exit 3) & wait $!; x=$?; while [ $x = 138 ]; do wait $!; x=$?; done",
            "y=$(echo $x | cat)",
        ]);
        if round % 4 == 0 {
            shell.give_up(b"echo half");
        }
    }
    shell.lines(&[
        "for ((i = 0; i < 20; i++)); do printf -v v$i %054321d 0; done",
        "for ((i = 0; i < 500; i++)); do :; done",
        "echo x=$x y=$y n=$n end",
    ]);
    assert!(shell.text().contains("x=3 y=3 n=20 end"), "{}", shell.text());
}

/// A folder with the classes of this module.
fn classes() -> Folder {
    let folder = Folder::new("classes");
    for (name, class) in [
        ("Unharmed.class", &include_bytes!("Unharmed.class")[..]),
        ("Unharmed$1.class", &include_bytes!("Unharmed$1.class")[..]),
        ("Collect.class", &include_bytes!("Collect.class")[..]),
    ] {
        folder.write(name, class);
    }
    folder
}
