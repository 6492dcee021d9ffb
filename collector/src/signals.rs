//! What tells the collector something while it runs: signals, and the end of standard input.

use crate::capabilities::drop_all;
use crate::event::Event;
use crate::messages::exit_now;
use crate::process::thread_name;
use anyhow::{Context, Result};
use crossbeam_channel::Sender;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::{Errno, read};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::fs::File;
use std::mem::MaybeUninit;
use std::thread;

/// What SIGHUP means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HangUp {
    /// The terminal is closed: end.
    End,
    /// Files were rotated: open the outputs again.
    Reopen,
}

impl HangUp {
    /// For a collector that runs until it is told to end: one that was started from a terminal ends with the
    /// terminal. To be asked before the terminal can be closed: afterwards the process has none.
    #[must_use]
    pub fn of_collecting() -> Self {
        // Opening it fails without a controlling terminal (ENXIO).
        if File::open("/dev/tty").is_ok() { Self::of_a_command() } else { Self::Reopen }
    }

    /// For a command that ends by itself. `nohup` keeps both alive: it starts them with SIGHUP ignored.
    #[must_use]
    pub fn of_a_command() -> Self {
        if is_ignored(SIGHUP) { Self::Reopen } else { Self::End }
    }
}

/// Whether whoever started this process made it ignore a signal.
fn is_ignored(signal: i32) -> bool {
    let mut action = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: only asks; `action` is ours and large enough.
    let error = unsafe { libc::sigaction(signal, std::ptr::null(), action.as_mut_ptr()) };
    // SAFETY: zeroed above, which is a valid value of it; filled unless there was an error.
    let action = unsafe { action.assume_init() };
    error == 0 && action.sa_sigaction == libc::SIG_IGN
}

/// From now on SIGHUP, and the first of SIGINT and SIGTERM, arrive as events; the end of standard input
/// too, if asked for. The second signal to end ends the process at once, with exit code 128 + its number (130
/// for Ctrl-C): whoever presses Ctrl-C twice does not want to wait.
///
/// # Errors
/// The kernel refuses a handler or a thread.
pub fn listen(hang_up: HangUp, stop_on_stdin_close: bool, events: &Sender<Event>) -> Result<()> {
    let mut signals = Signals::new([SIGHUP, SIGINT, SIGTERM]).context("listening for signals")?;
    if stop_on_stdin_close {
        let events = events.clone();
        thread::Builder::new()
            .name(thread_name("stdin"))
            .spawn(move || {
                drop_all();
                wait_for_end_of_stdin(&events);
            })
            .context("starting the thread of standard input")?;
    }
    let events = events.clone();
    thread::Builder::new()
        .name(thread_name("sig"))
        .spawn(move || {
            drop_all();
            let mut told = false;
            for signal in signals.forever() {
                // At the end nobody listens any more.
                match signal {
                    SIGHUP if hang_up == HangUp::Reopen => {
                        let _ = events.send(Event::Reopen);
                    }
                    // A shell passes on what it gets, so this one often comes twice.
                    SIGHUP if told => {}
                    _ if told => exit_now(128 + signal as u8),
                    _ => {
                        told = true;
                        let _ = events.send(Event::End(name(signal)));
                    }
                }
            }
        })
        .context("starting the signals' thread")?;
    Ok(())
}

fn name(signal: i32) -> &'static str {
    match signal {
        SIGHUP => "SIGHUP: the terminal is closed",
        SIGINT => "SIGINT",
        _ => "SIGTERM",
    }
}

/// Reads standard input and throws it away: Telegraf writes a newline per tick if it is told to.
fn wait_for_end_of_stdin(events: &Sender<Event>) {
    let stdin = std::io::stdin();
    let mut buffer = [0; 1024];
    loop {
        match read(&stdin, &mut buffer) {
            Ok(1..) | Err(Errno::INTR) => {}
            // Somebody else, who shares it, does not want to wait.
            Err(Errno::AGAIN) => {
                let _ = poll(&mut [PollFd::new(&stdin, PollFlags::IN)], None);
            }
            // One that cannot be read has nobody at its other end either.
            Ok(0) | Err(_) => break,
        }
    }
    let _ = events.send(Event::End("standard input is closed"));
}
