//! A terminal that is closed.

use crate::process::{Running, an_hour_beside_prints, collector, folder, wait_until};
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::ptr::{null, null_mut};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const LIMIT: Duration = Duration::from_secs(60);

/// How wide a terminal is here.
const COLUMNS: usize = 40;

/// A pseudoterminal; the master's end closes it.
struct Terminal {
    master: File,
    slave: OwnedFd,
}

impl Terminal {
    fn open() -> Self {
        let (mut master, mut slave) = (-1, -1);
        let size = libc::winsize { ws_row: 25, ws_col: COLUMNS as u16, ws_xpixel: 0, ws_ypixel: 0 };
        // SAFETY: the descriptors and the size are ours; no name is asked for, no settings are given.
        let error =
            unsafe { libc::openpty(&mut master, &mut slave, null_mut(), null(), &raw const size) };
        assert_eq!(error, 0, "{}", std::io::Error::last_os_error());
        // SAFETY: both are new, and nobody else's.
        let (master, slave) = unsafe { (File::from_raw_fd(master), OwnedFd::from_raw_fd(slave)) };
        // The process must not keep its own terminal open.
        rustix::io::fcntl_setfd(&master, rustix::io::FdFlags::CLOEXEC).unwrap();
        Self { master, slave }
    }

    /// Becomes the terminal that a command is started from.
    fn starts(&self, command: &mut Command) {
        let slave = self.slave.as_raw_fd();
        let take = move || {
            rustix::process::setsid()?;
            // SAFETY: an ioctl on an open descriptor, without a pointer.
            match unsafe { libc::ioctl(slave, libc::TIOCSCTTY, 0) } {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            }
        };
        // SAFETY: both calls may be made between fork and exec.
        unsafe { command.pre_exec(take) };
    }

    fn stdio(&self) -> Stdio {
        self.slave.try_clone().unwrap().into()
    }

    /// Reads what is shown until some words are there, then closes the window.
    fn close_after(self, words: &str) {
        let Self { mut master, slave } = self;
        drop(slave);
        let (mut shown, mut part) = (String::new(), [0; 4096]);
        while !shown.contains(words) {
            match master.read(&mut part) {
                Ok(read) => shown += &String::from_utf8_lossy(&part[..read]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => panic!("{error}: {shown}"),
            }
        }
    }
}

/// What a command shows on a terminal, to its end.
fn shown(args: &[&str]) -> String {
    let (plugins, terminal, mut command) = on_a_terminal(&["list"]);
    std::fs::write(plugins.path().join("libtext.so"), "hello").unwrap();
    command.args(args);
    let mut child = command.spawn().unwrap();
    // The command has copies of the terminal.
    drop(command);
    let Terminal { mut master, slave } = terminal;
    drop(slave);
    // At the end of the last process that has it, reading fails (EIO).
    let mut shown = Vec::new();
    let _ = master.read_to_end(&mut shown);
    assert!(child.wait().unwrap().success());
    String::from_utf8(shown).unwrap()
}

#[test]
fn tables_are_cut_at_the_terminals_edge_unless_they_are_to_be_wide() {
    let text = shown(&[]);
    let longest = text.lines().map(|line| line.trim_end().chars().count()).max();
    assert_eq!(longest, Some(COLUMNS), "{text}");
    assert!(text.lines().any(|line| line.trim_end().ends_with('…')), "{text}");
    let text = shown(&["--wide"]);
    assert!(text.contains("a text file, not a shared library (no ELF header)"), "{text}");
}

/// A collector that was started from a terminal, and writes there.
fn on_a_terminal(args: &[&str]) -> (TempDir, Terminal, Command) {
    let (plugins, terminal) = (folder(&["good"]), Terminal::open());
    let mut command = collector(plugins.path(), args);
    terminal.starts(&mut command);
    command.stdin(terminal.stdio()).stdout(terminal.stdio()).stderr(terminal.stdio());
    (plugins, terminal, command)
}

/// Waits for the end of a process, and kills it if it does not come.
fn ends(command: &mut Command, close: impl FnOnce()) -> Option<i32> {
    let mut child = command.spawn().unwrap();
    // The command's copies of the terminal would keep it open.
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    close();
    let closed = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code();
        }
        if closed.elapsed() > LIMIT {
            child.kill().unwrap();
            child.wait().unwrap();
            panic!("it lives on without its terminal");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_collector_that_writes_to_a_terminal_ends_with_it() {
    let (_plugins, terminal, mut command) = on_a_terminal(&["--interval", "50ms"]);
    let code = ends(&mut command, || terminal.close_after("good,by=nobody"));
    assert_eq!(code, Some(0));
}

#[test]
fn a_collector_that_writes_elsewhere_ends_with_the_terminal_that_it_was_started_from() {
    let (plugins, terminal) = (folder(&["good", "prints"]), Terminal::open());
    let lines = plugins.path().join("lines");
    let url = format!("file:{}", lines.display());
    let config = an_hour_beside_prints(plugins.path());
    let mut command = collector(plugins.path(), &["--config", &config, "--output", &url]);
    terminal.starts(&mut command);
    let running = Running::start(command);
    let has = |words| std::fs::read_to_string(&lines).is_ok_and(|text| text.contains(words));
    wait_until("lines", || has("prints"));
    drop(terminal);
    let ended = running.end();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let words = "ending: SIGHUP: the terminal is closed";
    assert!(ended.stderr.contains(words), "{}", ended.stderr);
    // It took its last tick.
    assert!(has("good,by=nobody"));
}

#[test]
fn once_ends_with_its_terminal() {
    let (_plugins, terminal, mut command) = on_a_terminal(&["once", "good", "1h"]);
    ends(&mut command, || terminal.close_after("1h to go"));
}

#[test]
fn once_ends_on_sighup_without_a_terminal_too() {
    let plugins = folder(&["good"]);
    let command = collector(plugins.path(), &["once", "good", "1h"]);
    let running = Running::start(crate::process::as_a_service(command));
    running.wait_for("1h to go");
    running.signal("HUP");
    let ended = running.end_of_command();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
}

#[test]
fn nohup_keeps_a_collector_alive() {
    let (plugins, terminal) = (folder(&["good"]), Terminal::open());
    let mut command = collector(plugins.path(), &["--interval", "50ms"]);
    let mut nohup = Command::new("nohup");
    nohup.arg(command.get_program()).args(command.get_args());
    nohup.stdout(Stdio::piped()).stderr(Stdio::piped()).stdin(Stdio::null());
    std::mem::swap(&mut command, &mut nohup);
    terminal.starts(&mut command);
    let running = Running::start(command);
    running.wait_for("good: by nobody");
    drop(terminal);
    running.wait_for("SIGHUP: outputs are opened again");
    running.signal("TERM");
    let ended = running.end();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(ended.stderr.contains("ending: SIGTERM"), "{}", ended.stderr);
}
