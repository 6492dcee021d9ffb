//! Where lines go. Each output has a thread, a queue bounded in bytes, and books.
//!
//! The router hands every batch to every queue and never waits: an output that is slow or dead loses its
//! own oldest lines, counted, and holds up nobody else.

mod file;
mod outlet;
mod queue;
mod stream;

pub use outlet::{Outlet, route};
pub use queue::Books;

use crate::batch::Batch;
use anyhow::Result;
use std::fmt;
use std::io;
use std::path::PathBuf;

/// Why a batch was not delivered.
#[derive(Debug)]
pub enum Failure {
    /// The same batch is to be tried again later.
    Later(io::Error),
    /// The other end is gone for good.
    Gone(io::Error),
}

/// Something that takes batches. One thread owns it.
pub trait Output: Send {
    /// Delivers a whole batch. After [`Failure::Later`] it is called with the same batch again, until
    /// it succeeds or the collector stops; a part that was already delivered is not repeated.
    ///
    /// # Errors
    /// What went wrong, and with it what to do.
    fn deliver(&mut self, batch: &Batch) -> Result<(), Failure>;
}

/// An output as it is configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutputConfig {
    /// What it is.
    pub target: Target,
    /// Bytes that may wait for it.
    pub queue_bytes: usize,
}

/// The kinds of outputs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// This process's standard output.
    Stdout,
    /// The end of a file.
    File(PathBuf),
}

/// Bytes that may wait for an output when nothing else is said.
pub const QUEUE_BYTES: usize = 16 << 20;

impl Target {
    /// Opens it.
    ///
    /// # Errors
    /// Names what cannot be opened, and why.
    pub fn open(&self) -> Result<Box<dyn Output>> {
        match self {
            Self::Stdout => Ok(Box::new(stream::Stream::stdout()?)),
            Self::File(path) => file::open(path),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stdout => f.write_str("stdout"),
            Self::File(path) => write!(f, "file:{}", path.display()),
        }
    }
}
