//! A program on a terminal of its own, typed at line by line.

use std::ffi::CString;
use std::io::Read as _;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::ExitStatus;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

/// Shown by each shell when it waits for a line; no shell echoes it.
const PROMPT: &str = "@:@ ";
const LONG: Duration = Duration::from_secs(60);

/// What makes bash an interactive shell, and one that no file of its user changes.
pub const INTERACTIVE: [&str; 3] = ["--norc", "--noprofile", "-i"];

/// A program that reads lines; it is killed when this is dropped.
pub struct Terminal {
    /// Its process.
    pub pid: i32,
    end: OwnedFd,
    output: Receiver<Vec<u8>>,
    seen: Vec<u8>,
    /// Prompts in what was seen, and how much of it was searched for them.
    shown: (usize, usize),
    /// Those that were waited for.
    prompts: usize,
    ended: bool,
}

impl Terminal {
    /// An interactive shell.
    ///
    /// # Panics
    /// As [`Terminal::start`].
    #[must_use]
    pub fn shell(bash: &Path) -> Self {
        Self::start(bash, &INTERACTIVE, || {})
    }

    /// Executes a program in a child that `prepare` has made ready. It starts with one prompt.
    ///
    /// # Panics
    /// It shows none.
    pub fn start(program: &Path, arguments: &[&str], prepare: impl FnOnce()) -> Self {
        let c = |text: &str| CString::new(text).expect("no NUL");
        let path = c(program.to_str().expect("a path of text"));
        let list: Vec<CString> =
            [program.to_str().unwrap_or_default()].iter().chain(arguments).map(|a| c(a)).collect();
        let mut list: Vec<_> =
            list.iter().map(|argument| argument.as_ptr()).chain([std::ptr::null()]).collect();
        let mut environment: Vec<CString> =
            std::env::vars().map(|(k, v)| c(&format!("{k}={v}"))).collect();
        environment.retain(|text| {
            !["PS1", "PS2", "HISTFILE", "TERM", "LC_", "LANG", "INPUTRC"]
                .iter()
                .any(|name| text.to_bytes().starts_with(name.as_bytes()))
        });
        let own = [
            &format!("PS1={PROMPT}"),
            "HISTFILE=/dev/null",
            "TERM=dumb",
            "LC_ALL=C",
            "INPUTRC=/dev/null",
            "READS_LINES=1",
        ];
        environment.extend(own.map(c));
        let environment: Vec<_> =
            environment.iter().map(|text| text.as_ptr()).chain([std::ptr::null()]).collect();
        let mut end = -1;
        let size = libc::winsize { ws_row: 24, ws_col: 200, ws_xpixel: 0, ws_ypixel: 0 };
        // SAFETY: the child has a copy of the memory, makes itself ready and executes; pointers live until then.
        let pid = unsafe {
            let pid = libc::forkpty(&mut end, std::ptr::null_mut(), std::ptr::null(), &size);
            if pid == 0 {
                prepare();
                libc::execve(path.as_ptr(), list.as_mut_ptr().cast(), environment.as_ptr());
                libc::_exit(127);
            }
            pid
        };
        assert!(pid > 0, "{}", std::io::Error::last_os_error());
        // SAFETY: the descriptor is new and ours alone.
        let end = unsafe { OwnedFd::from_raw_fd(end) };
        let mut reader = std::fs::File::from(end.try_clone().expect("a descriptor"));
        let (sender, output) = channel();
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            // EIO when the last process on the terminal has gone.
            while let Ok(n @ 1..) = reader.read(&mut bytes) {
                if sender.send(bytes[..n].to_vec()).is_err() {
                    break;
                }
            }
        });
        let (seen, shown, prompts, ended) = (Vec::new(), (0, 0), 0, false);
        let mut terminal = Self { pid, end, output, seen, shown, prompts, ended };
        terminal.wait_for_prompts(1);
        terminal
    }

    /// Types bytes as they are.
    ///
    /// # Panics
    /// The terminal is gone.
    pub fn keys(&self, keys: &[u8]) {
        let mut rest = keys;
        while !rest.is_empty() {
            // SAFETY: bytes of ours and their number.
            let n = unsafe { libc::write(self.end.as_raw_fd(), rest.as_ptr().cast(), rest.len()) };
            rest = &rest[usize::try_from(n).expect("written")..];
        }
    }

    /// Types some lines, and waits until the program waits for the next one.
    ///
    /// # Panics
    /// It does not.
    pub fn lines<L: AsRef<[u8]>>(&mut self, lines: &[L]) {
        for part in lines.chunks(16) {
            let keys: Vec<_> =
                part.iter().flat_map(|line| [line.as_ref(), b"\n"].concat()).collect();
            self.keys(&keys);
            self.wait_for_prompts(part.len());
        }
    }

    /// Types something and gives it up with ^C.
    ///
    /// # Panics
    /// The terminal is gone.
    pub fn give_up(&mut self, keys: &[u8]) {
        self.keys(keys);
        let wanted = self.prompts + 1;
        while self.shown() < wanted {
            // A signal between the prompt and the wait for a key is kept by bash until the next one.
            self.keys(&[3]);
            let until = Instant::now() + Duration::from_secs(1);
            while self.shown() < wanted {
                let left = until.saturating_duration_since(Instant::now());
                let Ok(part) = self.output.recv_timeout(left) else { break };
                self.seen.extend(part);
            }
        }
        self.prompts = wanted;
    }

    fn wait_for_prompts(&mut self, n: usize) {
        let (wanted, since) = (self.prompts + n, Instant::now());
        while self.shown() < wanted {
            let part = self.output.recv_timeout(LONG.saturating_sub(since.elapsed()));
            let Ok(part) = part else {
                panic!("{} of {wanted} prompts: {:?}", self.shown(), self.text())
            };
            self.seen.extend(part);
        }
        self.prompts = wanted;
    }

    fn shown(&mut self) -> usize {
        let new = self.seen[self.shown.1..].windows(PROMPT.len());
        self.shown.0 += new.filter(|text| *text == PROMPT.as_bytes()).count();
        self.shown.1 = self.seen.len().saturating_sub(PROMPT.len() - 1);
        self.shown.0
    }

    /// All that it has shown.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.seen).into_owned()
    }

    /// Ends the input and waits for the program's end.
    ///
    /// # Panics
    /// It does not end.
    #[must_use]
    pub fn end(mut self) -> ExitStatus {
        self.keys(&[4]);
        let since = Instant::now();
        loop {
            let mut status = 0;
            while self.output.try_recv().is_ok() {}
            // SAFETY: writes to an integer of ours.
            if unsafe { libc::waitpid(self.pid, &mut status, libc::WNOHANG) } == self.pid {
                self.ended = true;
                return ExitStatus::from_raw(status);
            }
            assert!(since.elapsed() < LONG, "it does not end: {}", self.text());
            thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if !self.ended {
            // SAFETY: numbers of a child that nobody has waited for.
            unsafe {
                libc::kill(self.pid, libc::SIGKILL);
                libc::waitpid(self.pid, std::ptr::null_mut(), 0);
            }
        }
    }
}

/// What is typed as a prompt's text by programs of the tests' own.
#[must_use]
pub fn prompt() -> &'static str {
    PROMPT
}
