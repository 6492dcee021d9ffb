//! Standard output, which carries the collector's own text and lines only.

use rustix::io::fcntl_dupfd_cloexec;
use rustix::stdio::dup2_stdout;
use rustix::termios::tcgetwinsize;
use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::sync::OnceLock;

static OURS: OnceLock<File> = OnceLock::new();

/// Keeps standard output for the collector. Descriptor 1 becomes standard error: what a plugin prints does
/// not land between lines.
///
/// # Errors
/// No descriptor is left.
pub fn keep() -> io::Result<()> {
    let ours = fcntl_dupfd_cloexec(io::stdout(), 3)?;
    dup2_stdout(io::stderr())?;
    let _ = OURS.set(ours.into()); // a second call finds what the first one kept
    Ok(())
}

/// Standard output, by a descriptor of its own.
///
/// # Errors
/// No descriptor is left.
pub fn file() -> io::Result<File> {
    match OURS.get() {
        Some(ours) => ours.try_clone(),
        None => Ok(io::stdout().as_fd().try_clone_to_owned()?.into()),
    }
}

/// Prints a text. A reader that has left is no error.
pub fn print(text: &str) {
    let _ = file().and_then(|mut file| file.write_all(text.as_bytes()));
}

/// Columns of the terminal; `None` when it is none.
#[must_use]
pub fn width() -> Option<usize> {
    let file = file().ok().filter(File::is_terminal)?;
    let columns = tcgetwinsize(file).ok()?.ws_col;
    (columns > 0).then_some(columns.into())
}
