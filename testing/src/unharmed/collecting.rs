//! A JVM that collects when it is told to.

use super::classes;
use crate::Folder;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// The JVM. It ends with this.
pub struct Collecting {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    _classes: Folder,
}

impl Collecting {
    /// Starts `java` with these options; `None` where there is none.
    ///
    /// # Panics
    /// It does not start.
    #[must_use]
    pub fn start(java: &Path, options: &[&str]) -> Option<Self> {
        let classes = classes();
        let mut command = Command::new(java);
        command.args(options).args(["-Xmx64m", "-cp"]).arg(classes.path()).arg("Collect");
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().ok()?;
        let input = child.stdin.take().expect("its input");
        let output = BufReader::new(child.stdout.take().expect("its output"));
        let mut started = Self { child, input, output, _classes: classes };
        started.hear("ready");
        Some(started)
    }

    /// Its process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// So many full collections, one after another.
    ///
    /// # Panics
    /// It has ended.
    pub fn collect(&mut self, times: usize) {
        for _ in 0..times {
            self.input.write_all(b"\n").expect("it reads");
            self.hear("done");
        }
    }

    fn hear(&mut self, word: &str) {
        let mut line = String::new();
        self.output.read_line(&mut line).expect("it says something");
        assert_eq!(line.trim_end(), word);
    }
}

impl Drop for Collecting {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
