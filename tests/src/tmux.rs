//! A program on a terminal of tmux, which shows what a person would see.

use crate::{family, wait};
use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;
use tempfile::TempDir;

/// A tmux of its own, with one window. It ends with this value.
#[derive(Debug)]
pub struct Tmux {
    dir: TempDir,
    /// The program's process.
    pub pid: u32,
}

impl Tmux {
    /// Starts a program on a terminal of 80 columns and 24 rows.
    ///
    /// # Panics
    /// There is no tmux.
    #[must_use]
    pub fn start(program: &Path, arguments: &[&str]) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let config = "set -g status off\nset -g remain-on-exit on\nset -s escape-time 0\n";
        fs::write(dir.path().join("tmux.conf"), config).expect("a file");
        let code = dir.path().join("code");
        let mut tmux = Self { dir, pid: 0 };
        // tmux 3.3 does not always say how a program has ended.
        let shell = ["sh", "-c", "\"$@\"; echo $? > \"$0\"", text(&code), text(program)];
        let words = ["new-session", "-d", "-x", "80", "-y", "24"];
        tmux.ask(&[&words[..], &shell, arguments].concat());
        let shell = tmux.ask(&["display-message", "-p", "#{pane_pid}"]).trim().parse();
        let shell = shell.expect("a pid");
        wait::until("the program on the terminal", || {
            tmux.pid = family::children(shell).first().copied().unwrap_or_default();
            tmux.pid != 0 || code.exists()
        });
        tmux
    }

    fn run(&self, words: &[&str]) -> Output {
        let mut tmux = Command::new("tmux");
        tmux.arg("-S").arg(self.dir.path().join("socket"));
        tmux.arg("-f").arg(self.dir.path().join("tmux.conf")).args(words);
        tmux.env_remove("TMUX").env("LC_ALL", "C.UTF-8").output().expect("tmux")
    }

    fn ask(&self, words: &[&str]) -> String {
        let output = self.run(words);
        assert!(output.status.success(), "tmux {words:?}: {output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// What is seen, a line for each row.
    #[must_use]
    pub fn screen(&self) -> String {
        self.ask(&["capture-pane", "-p"])
    }

    /// The same with what was scrolled away.
    #[must_use]
    pub fn whole(&self) -> String {
        self.ask(&["capture-pane", "-p", "-S", "-"])
    }

    /// The same with the codes for colours and the like.
    #[must_use]
    pub fn styled(&self) -> String {
        self.ask(&["capture-pane", "-p", "-e"])
    }

    /// Types keys by tmux's names: `Enter`, `Escape`, `j`.
    pub fn keys(&self, keys: &[&str]) {
        self.ask(&[&["send-keys"], keys].concat());
    }

    /// Changes its size.
    pub fn resize(&self, columns: u32, rows: u32) {
        let (columns, rows) = (columns.to_string(), rows.to_string());
        self.ask(&["resize-window", "-x", &columns, "-y", &rows]);
    }

    /// Waits until something is seen.
    ///
    /// # Panics
    /// It is not.
    pub fn wait_for(&self, words: &str) -> String {
        self.wait_until(words, |screen| screen.contains(words))
    }

    /// The same for whatever can be told of a screen.
    ///
    /// # Panics
    /// It is not so.
    pub fn wait_until(&self, what: &str, so: impl Fn(&str) -> bool) -> String {
        let mut seen = String::new();
        let describe = std::fmt::from_fn(|f| write!(f, "{what} on\n{}", self.screen()));
        wait::until_within(Duration::from_secs(60), describe, || {
            seen = self.screen();
            so(&seen)
        });
        seen
    }

    /// Waits for the program's end: its exit code.
    ///
    /// # Panics
    /// It does not end.
    #[must_use]
    pub fn end(&self) -> i32 {
        let mut code = None;
        let describe =
            std::fmt::from_fn(|f| write!(f, "the program to end, on\n{}", self.screen()));
        wait::until_within(Duration::from_secs(60), describe, || {
            let written = fs::read_to_string(self.dir.path().join("code")).unwrap_or_default();
            code = written.strip_suffix('\n').and_then(|code| code.parse().ok());
            code.is_some()
        });
        code.expect("waited for")
    }

    /// Closes the terminal.
    pub fn close(&self) {
        let _ = self.run(&["kill-server"]);
    }
}

impl Drop for Tmux {
    fn drop(&mut self) {
        self.close();
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("text")
}
