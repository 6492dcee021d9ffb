//! SIGINT and SIGTERM.

use crate::process::exit_now;
use anyhow::{Context, Result};
use crossbeam_channel::{Receiver, bounded};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::thread;

/// From now on the first of the signals arrives in the channel. The second one ends the process: whoever
/// presses Ctrl-C twice does not want to wait.
///
/// # Errors
/// The kernel refuses a handler or a thread.
pub fn listen() -> Result<Receiver<&'static str>> {
    let mut signals = Signals::new([SIGINT, SIGTERM]).context("listening for signals")?;
    let (sender, receiver) = bounded(1);
    thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            let mut signals = signals.forever();
            if let Some(signal) = signals.next() {
                let name = if signal == SIGINT { "SIGINT" } else { "SIGTERM" };
                let _ = sender.send(name);
            }
            if let Some(signal) = signals.next() {
                exit_now(128 + signal as u8);
            }
        })
        .context("starting the signals' thread")?;
    Ok(receiver)
}
