//! Messages to standard error, for which nobody waits: a thread of its own writes them. While nobody reads
//! them, some wait in memory, and those for which there is no room are counted.

use crate::capabilities::give_up_all;
use crate::process::{exit_at_once, thread_name};
use rustix::event::{PollFd, PollFlags, poll};
use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsFd;
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Bytes that may wait.
const ROOM: usize = 256 << 10;
/// How long the end of the process may wait for its last messages to be read.
const LAST: Duration = Duration::from_millis(200);

/// Those of this process.
static MESSAGES: OnceLock<Messages> = OnceLock::new();

/// Messages that wait.
#[derive(Debug, Default)]
struct Messages {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Vec<u8>>,
    bytes: usize,
    /// Not counted among those that wait.
    writing: bool,
    /// For which there was no room, and of which nothing was said yet.
    lost: u64,
    /// All wait, because the terminal shows something else; how it is given back.
    held: Option<fn()>,
}

impl State {
    fn push(&mut self, message: Vec<u8>) {
        if self.bytes + message.len() > ROOM {
            self.lost += 1;
            return;
        }
        self.tell_of_lost();
        self.bytes += message.len();
        self.waiting.push_back(message);
    }

    /// In the place of those that are lost.
    fn tell_of_lost(&mut self) {
        if self.lost > 0 {
            let lost = std::mem::take(&mut self.lost);
            let text = format!("collector: warn: {lost} messages lost: nobody read them in time\n");
            self.bytes += text.len();
            self.waiting.push_back(text.into_bytes());
        }
    }

    fn take(&mut self) -> Option<Vec<u8>> {
        if self.waiting.is_empty() {
            self.tell_of_lost();
        }
        let message = self.waiting.pop_front()?;
        self.bytes -= message.len();
        Some(message)
    }
}

impl Messages {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, message: Vec<u8>) {
        self.state().push(message);
        self.changed.notify_all();
    }

    fn write_to(&self, out: &File) {
        let mut state = self.state();
        loop {
            let message = if state.held.is_some() { None } else { state.take() };
            let Some(message) = message else {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            state.writing = true;
            drop(state);
            write_all(out, &message);
            state = self.state();
            state.writing = false;
            self.changed.notify_all();
        }
    }

    fn flush(&self, within: Duration) {
        let end = Instant::now() + within;
        let mut state = self.state();
        while state.writing
            || (state.held.is_none() && (state.lost > 0 || !state.waiting.is_empty()))
        {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            (state, _) =
                self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// A message that cannot be written has nobody to be told to.
fn write_all(mut out: &File, mut message: &[u8]) {
    while !message.is_empty() {
        match out.write(message) {
            Ok(0) => return,
            Ok(written) => message = &message[written..],
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            // Somebody else, who shares it, does not want to wait.
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                let _ = poll(&mut [PollFd::new(&out, PollFlags::OUT)], None);
            }
            Err(_) => return,
        }
    }
}

/// From now on messages are written by a thread; before, and if there is none, by whoever has one.
///
/// # Errors
/// The kernel refuses a descriptor or a thread.
pub fn start() -> io::Result<()> {
    // Not the one of the standard library, whose lock would be held meanwhile.
    let out = File::from(io::stderr().as_fd().try_clone_to_owned()?);
    thread::Builder::new().name(thread_name("log")).spawn(move || {
        give_up_all();
        MESSAGES.get_or_init(Messages::default).write_to(&out);
    })?;
    MESSAGES.get_or_init(Messages::default);
    Ok(())
}

/// Says something, in whole lines.
pub fn say(text: &[u8]) {
    match MESSAGES.get() {
        Some(messages) => messages.push(text.to_vec()),
        None => {
            let _ = io::stderr().write_all(text);
        }
    }
}

/// What others print, for a message: on one line, and without what a terminal would obey.
#[must_use]
pub fn readable(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let lines = text.trim().split('\n').map(|line| line.replace(|c: char| c.is_control(), " "));
    lines.collect::<Vec<_>>().join(" | ")
}

/// Keeps messages back, while the terminal shows something else. Whoever ends the process calls `give_back` before.
pub fn hold(give_back: fn()) {
    if let Some(messages) = MESSAGES.get() {
        messages.state().held = Some(give_back);
    }
}

/// Lets those go that were kept back.
pub fn release() {
    if let Some(messages) = MESSAGES.get() {
        messages.state().held = None;
        messages.changed.notify_all();
    }
}

/// The last one of those that are kept back.
#[must_use]
pub fn last() -> Option<String> {
    let state = MESSAGES.get()?.state();
    let last = state.waiting.back().filter(|_| state.held.is_some())?;
    Some(String::from_utf8_lossy(last).trim_end().to_owned())
}

/// Before the process ends: waits a moment for the last messages to be read.
pub fn flush() {
    if let Some(messages) = MESSAGES.get() {
        messages.flush(LAST);
    }
}

/// Ends the process at once, after such a moment: see [`exit_at_once`].
pub fn exit_now(code: u8) -> ! {
    let give_back = MESSAGES.get().and_then(|messages| messages.state().held);
    give_back.iter().for_each(|give_back| give_back());
    flush();
    exit_at_once(code)
}

/// [`say`] for those who write whole lines at once.
#[derive(Debug)]
pub struct Sayer;

impl Write for Sayer {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        say(text);
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader, pipe};
    use std::os::fd::OwnedFd;

    #[test]
    fn while_nobody_reads_nobody_waits_and_what_is_lost_is_counted() {
        let (reader, writer) = pipe().unwrap();
        let messages: &'static Messages = Box::leak(Box::default());
        let out = File::from(OwnedFd::from(writer));
        thread::spawn(move || messages.write_to(&out));
        let line = |i: u32| format!("{i} {}\n", "x".repeat(990)).into_bytes();
        let began = Instant::now();
        (0..1000).for_each(|i| messages.push(line(i)));
        messages.flush(Duration::from_millis(50));
        assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
        messages.push(line(1000));
        // Read again, each of them is there or counted, in order.
        let mut lines = BufReader::new(reader).lines().map(Result::unwrap);
        let (mut next, mut all_lost) = (0, 0);
        while next < 1001 {
            let line = lines.next().unwrap();
            let told = line.strip_prefix("collector: warn: ").and_then(|rest| {
                rest.strip_suffix(" messages lost: nobody read them in time")?.parse::<u32>().ok()
            });
            match told {
                Some(lost) => {
                    next += lost;
                    all_lost += lost;
                }
                None => {
                    assert!(line.starts_with(&format!("{next} ")), "{next}: {line}");
                    next += 1;
                }
            }
        }
        assert_eq!(next, 1001);
        // A pipe holds 64 KiB, and four times as much waits.
        assert!(all_lost > 600, "{all_lost}");
    }

    #[test]
    fn what_is_kept_back_is_written_when_it_is_let_go() {
        let (mut reader, writer) = pipe().unwrap();
        let messages: &'static Messages = Box::leak(Box::default());
        let out = File::from(OwnedFd::from(writer));
        thread::spawn(move || messages.write_to(&out));
        messages.state().held = Some(|| {});
        messages.push(b"a\n".to_vec());
        messages.flush(Duration::from_secs(60));
        assert_eq!(messages.state().waiting.len(), 1);
        messages.state().held = None;
        messages.changed.notify_all();
        messages.flush(Duration::from_secs(60));
        let mut read = [0; 2];
        io::Read::read_exact(&mut reader, &mut read).unwrap();
        assert_eq!(&read, b"a\n");
    }

    #[test]
    fn what_is_lost_is_told_in_its_place() {
        let mut state = State { lost: 3, ..State::default() };
        state.push(b"later\n".to_vec());
        assert!(state.take().unwrap().starts_with(b"collector: warn: 3 messages lost"));
        assert_eq!(state.take().unwrap(), b"later\n");
        assert_eq!((state.take(), state.bytes), (None, 0));
    }
}
