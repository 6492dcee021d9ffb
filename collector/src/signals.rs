//! What tells the collector something while it runs: signals, and the end of standard input.

use crate::capabilities::drop_all;
use crate::process::exit_now;
use anyhow::{Context, Result};
use crossbeam_channel::{Receiver, Sender, bounded};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::{Errno, read};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::thread;

/// Where the collector is told.
#[derive(Debug)]
pub struct Told {
    /// To end, and by what.
    pub end: Receiver<&'static str>,
    /// To open the outputs again (SIGHUP).
    pub reopen: Receiver<()>,
}

/// From now on SIGHUP, and the first of SIGINT and SIGTERM, arrive in channels; the end of standard input
/// too, if asked for. The second SIGINT or SIGTERM ends the process: whoever presses Ctrl-C twice does not
/// want to wait.
///
/// # Errors
/// The kernel refuses a handler or a thread.
pub fn listen(stop_on_stdin_close: bool) -> Result<Told> {
    let mut signals = Signals::new([SIGHUP, SIGINT, SIGTERM]).context("listening for signals")?;
    let (sender, end) = bounded(1);
    let (reopener, reopen) = bounded(1);
    if stop_on_stdin_close {
        let sender = sender.clone();
        thread::Builder::new()
            .name("stdin".to_owned())
            .spawn(move || {
                drop_all();
                wait_for_end_of_stdin(&sender);
            })
            .context("starting the thread of standard input")?;
    }
    thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            drop_all();
            let mut told = false;
            for signal in signals.forever() {
                // A channel that is full says the same already.
                match signal {
                    SIGHUP => {
                        let _ = reopener.try_send(());
                    }
                    _ if told => exit_now(128 + signal as u8),
                    _ => {
                        told = true;
                        let name = if signal == SIGINT { "SIGINT" } else { "SIGTERM" };
                        let _ = sender.try_send(name);
                    }
                }
            }
        })
        .context("starting the signals' thread")?;
    Ok(Told { end, reopen })
}

/// Reads standard input and throws it away: Telegraf writes a newline per tick if it is told to.
fn wait_for_end_of_stdin(sender: &Sender<&'static str>) {
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
    let _ = sender.try_send("standard input is closed");
}
