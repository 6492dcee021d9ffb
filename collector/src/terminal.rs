//! The terminal while something is drawn on it: taken over, given back, and gone.

use crate::capabilities::{drop_all, give_up_all};
use crate::messages::{self, readable};
use crate::process::thread_name;
use crate::settings::Usage;
use crate::stdout;
use anyhow::{Context as _, Result, bail};
use crossbeam_channel::{Receiver, Sender, unbounded};
use ratatui::Viewport;
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui::crossterm::{cursor, execute, terminal};
use ratatui::layout::Rect;
use ratatui::{Frame, TerminalOptions};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::stdio::{dup2_stderr, dup2_stdout};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, BufWriter, IsTerminal as _};
use std::os::fd::AsFd as _;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

/// How often it is looked whether the size has changed.
const LOOK: Duration = Duration::from_millis(250);
/// Bytes of what a plugin prints that are one message, unless a line ends before.
const PRINTED: u64 = 4 << 10;

/// What is to be put right at the end.
static TAKEN: Mutex<Option<Taken>> = Mutex::new(None);

struct Taken {
    out: File,
    before: Termios,
}

/// The terminal, taken over until this is dropped.
pub struct Terminal {
    inner: ratatui::Terminal<CrosstermBackend<BufWriter<File>>>,
    out: File,
    area: Rect,
}

/// What came from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// A key was pressed.
    Key(KeyEvent),
    /// It may have another size.
    Resized,
    /// Nobody is at its other end.
    Gone,
}

/// Makes sure that there is a terminal that can be drawn on.
///
/// # Errors
/// There is none, and what to do instead.
pub fn check() -> Result<()> {
    let name = std::env::var("TERM").unwrap_or_default();
    let why = if !io::stdin().is_terminal() || !stdout::file()?.is_terminal() {
        "it needs a terminal for standard input and output".to_owned()
    } else if name.is_empty() || name == "dumb" {
        format!("TERM={name:?} says that this terminal cannot be drawn on")
    } else {
        return Ok(());
    };
    bail!(Usage(format!(
        "{why}: `collector once NAME` prints a tool's numbers, `--http` shows a page"
    )));
}

/// From now on what plugins print becomes messages instead of lying across what is drawn, without what a terminal would
/// obey. To be called before any plugin is loaded; standard error that is no terminal stays as it is.
///
/// # Errors
/// The kernel gives no pipe or thread.
pub fn divert_prints() -> Result<()> {
    if !io::stderr().is_terminal() {
        return Ok(());
    }
    let (read, write) = pipe_with(PipeFlags::CLOEXEC).context("a pipe for what plugins print")?;
    dup2_stderr(&write).context("standard error")?;
    dup2_stdout(&write).context("standard output")?;
    let run = move || {
        give_up_all();
        let mut reader = BufReader::new(File::from(read));
        let mut line = Vec::new();
        while io::Read::take(&mut reader, PRINTED).read_until(b'\n', &mut line).is_ok_and(|n| n > 0)
        {
            messages::say(format!("{}\n", readable(&line)).as_bytes());
            line.clear();
        }
    };
    thread::Builder::new().name(thread_name("print")).spawn(run).context("a thread for prints")?;
    Ok(())
}

impl Terminal {
    /// Takes it over. Messages are kept back meanwhile.
    ///
    /// # Errors
    /// It cannot be set up.
    pub fn take() -> Result<Self> {
        Self::set_up().inspect_err(|_| give_back())
    }

    fn set_up() -> Result<Self> {
        let stdin = io::stdin();
        let mut out = stdout::file()?;
        let before = tcgetattr(&stdin).context("the terminal's settings")?;
        let mut raw = before.clone();
        raw.make_raw();
        messages::hold(give_back);
        *taken() = Some(Taken { out: out.try_clone()?, before });
        tcsetattr(&stdin, OptionalActions::Now, &raw).context("the terminal's settings")?;
        execute!(out, terminal::EnterAlternateScreen, cursor::Hide).context("the terminal")?;
        let area = size(&out);
        let backend = CrosstermBackend::new(BufWriter::with_capacity(64 << 10, out.try_clone()?));
        let options = TerminalOptions { viewport: Viewport::Fixed(area) };
        let inner = ratatui::Terminal::with_options(backend, options).context("the terminal")?;
        Ok(Self { inner, out, area })
    }

    /// Draws a frame in the size that it has now.
    ///
    /// # Errors
    /// It is gone.
    pub fn draw(&mut self, render: impl FnOnce(&mut Frame<'_>)) -> io::Result<()> {
        let area = size(&self.out);
        if area != self.area {
            self.inner.resize(area)?;
            self.area = area;
        }
        self.inner.draw(render)?;
        Ok(())
    }

    /// What comes from it, read by a thread of its own.
    ///
    /// # Errors
    /// The kernel gives no thread.
    pub fn inputs() -> Result<Receiver<Input>> {
        let (sender, inputs) = unbounded();
        let run = move || {
            drop_all();
            read(&sender);
        };
        thread::Builder::new().name(thread_name("keys")).spawn(run).context("a thread for keys")?;
        Ok(inputs)
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        give_back();
    }
}

fn taken() -> std::sync::MutexGuard<'static, Option<Taken>> {
    TAKEN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Puts right what was changed, if anything was and it is still there. Who ends the process calls it before.
pub fn give_back() {
    let Some(Taken { mut out, before }) = taken().take() else { return };
    let _ = tcsetattr(io::stdin(), OptionalActions::Now, &before);
    // One that takes nothing is not waited for.
    let mut ready = [PollFd::new(&out, PollFlags::OUT)];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    let takes = poll(&mut ready, Some(&now)).is_ok_and(|n| n > 0)
        && ready[0].revents().contains(PollFlags::OUT)
        && !ready[0].revents().intersects(PollFlags::HUP | PollFlags::ERR);
    if takes {
        let _ = execute!(out, cursor::Show, terminal::LeaveAlternateScreen);
    }
    messages::release();
}

/// It is gone: there is nothing to put right.
pub fn is_gone() {
    taken().take();
    messages::release();
}

fn size(out: &File) -> Rect {
    let size = tcgetwinsize(out).ok().filter(|it| it.ws_col > 0 && it.ws_row > 0);
    size.map_or(Rect::new(0, 0, 80, 24), |it| Rect::new(0, 0, it.ws_col, it.ws_row))
}

/// Until it is gone. The reader of `crossterm` tries for ever to read from a terminal that is gone, and misses keys that
/// come together with another size.
fn read(sender: &Sender<Input>) {
    let stdin = io::stdin();
    let look = Timespec::try_from(LOOK).unwrap_or(Timespec { tv_sec: 1, tv_nsec: 0 });
    let (mut before, mut typed) = (tcgetwinsize(&stdin).ok(), Vec::new());
    loop {
        let mut ready = [PollFd::from_borrowed_fd(stdin.as_fd(), PollFlags::IN)];
        let polled = poll(&mut ready, Some(&look));
        let flags = ready[0].revents();
        let gone = match polled {
            Err(Errno::INTR) | Ok(0) => false,
            Ok(_) => flags.intersects(PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL),
            Err(_) => true,
        };
        let mut inputs = Vec::new();
        if gone {
            inputs.push(Input::Gone);
        } else if flags.contains(PollFlags::IN) {
            let mut part = [0; 256];
            match rustix::io::read(&stdin, &mut part) {
                Ok(n @ 1..) => typed.extend(&part[..n]),
                Err(Errno::INTR | Errno::AGAIN) => {}
                Ok(0) | Err(_) => inputs.push(Input::Gone),
            }
            inputs.extend(keys(&mut typed).into_iter().map(Input::Key));
        }
        let now = tcgetwinsize(&stdin).ok();
        let size = |it: &Option<rustix::termios::Winsize>| it.map(|it| (it.ws_col, it.ws_row));
        if size(&now) != size(&before) {
            before = now;
            inputs.push(Input::Resized);
        }
        for input in inputs {
            let last = input == Input::Gone;
            if sender.send(input).is_err() || last {
                return;
            }
        }
    }
}

/// The keys of what was typed. What is left is the beginning of a sequence whose end has not come.
fn keys(typed: &mut Vec<u8>) -> Vec<KeyEvent> {
    let mut keys = Vec::new();
    let mut at = 0;
    while let Some(&byte) = typed.get(at) {
        let rest = &typed[at..];
        let (length, key) = match byte {
            0x1b if matches!(rest.get(1), Some(b'[' | b'O')) => {
                let end = rest[2..].iter().position(|byte| (0x40..=0x7e).contains(byte));
                let Some(end) = end else { break };
                (end + 3, sequence(&rest[2..2 + end], rest[2 + end]))
            }
            0x1b => (1, Some(KeyCode::Esc)),
            b'\r' | b'\n' => (1, Some(KeyCode::Enter)),
            b'\t' => (1, Some(KeyCode::Tab)),
            0x08 | 0x7f => (1, Some(KeyCode::Backspace)),
            0x01..=0x1a => {
                let letter = KeyCode::Char(char::from(byte + b'a' - 1));
                keys.push(KeyEvent::new(letter, KeyModifiers::CONTROL));
                (1, None)
            }
            0x20..=0x7e => (1, Some(KeyCode::Char(char::from(byte)))),
            _ => (1, None),
        };
        keys.extend(key.map(|code| KeyEvent::new(code, KeyModifiers::NONE)));
        at += length;
    }
    typed.drain(..at);
    if typed.len() > 64 {
        typed.clear(); // no key's sequence is so long
    }
    keys
}

/// The key of a sequence that begins with `ESC [` or `ESC O`.
fn sequence(numbers: &[u8], last: u8) -> Option<KeyCode> {
    Some(match (last, numbers) {
        (b'A', _) => KeyCode::Up,
        (b'B', _) => KeyCode::Down,
        (b'C', _) => KeyCode::Right,
        (b'D', _) => KeyCode::Left,
        (b'H', _) | (b'~', b"1" | b"7") => KeyCode::Home,
        (b'F', _) | (b'~', b"4" | b"8") => KeyCode::End,
        (b'~', b"5") => KeyCode::PageUp,
        (b'~', b"6") => KeyCode::PageDown,
        (b'Z', _) => KeyCode::BackTab,
        (b'P', b"") | (b'~', b"11") => KeyCode::F(1),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_typed_are_keys_also_when_a_sequence_comes_in_two_parts() {
        let mut typed = b"j\x1b[A\x1bOB\x1b[6~\r\x7f\x03?\xff\x1b[Z\x1b[200~\x1b".to_vec();
        let codes: Vec<KeyCode> = keys(&mut typed).iter().map(|key| key.code).collect();
        let expected = [
            KeyCode::Char('j'),
            KeyCode::Up,
            KeyCode::Down,
            KeyCode::PageDown,
            KeyCode::Enter,
            KeyCode::Backspace,
            KeyCode::Char('c'),
            KeyCode::Char('?'),
            KeyCode::BackTab,
            KeyCode::Esc,
        ];
        assert_eq!((codes, typed.is_empty()), (expected.to_vec(), true));
        let mut typed = b"\x1b[".to_vec();
        assert!(keys(&mut typed).is_empty() && typed.len() == 2);
        typed.push(b'B');
        assert_eq!(keys(&mut typed)[0].code, KeyCode::Down);
    }
}
