//! Where lines go. Each output has its own thread, queue and books, and a spool if it is told to.
//!
//! The router hands every batch to the queues of its form and never waits: an output that is slow or dead loses its
//! own oldest lines, counted, and holds up nobody else.

mod backoff;
mod books;
mod file;
mod folder;
mod gaps;
pub mod http;
mod outlet;
mod parcel;
mod patience;
mod pipe;
mod queue;
pub mod secret;
pub mod socket;
pub mod spool;
mod stream;

pub use books::{Books, Cause, Dropped};
pub use outlet::{Outlet, route};
pub use parcel::{Limits, Parcel};
pub use queue::Snapshot;
pub use spool::SpoolConfig;

use crate::form::Form;
use anyhow::{Error, Result};
use http::{HttpConfig, Server};
use socket::SocketConfig;
use std::fmt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Why a parcel was not delivered.
#[derive(Debug)]
pub enum Failure {
    /// The rest of the parcel is to be tried again.
    Later {
        /// What went wrong.
        why: Error,
        /// How long the other end asks to be left alone.
        after: Option<Duration>,
    },
    /// A person has to help: a wrong token, a database that does not exist. Tried again now and then.
    Hold(Error),
    /// The other end is gone for good.
    Gone(Error),
}

impl Failure {
    /// To be tried again, at a time of our own choice.
    pub fn later(why: impl Into<Error>) -> Self {
        Self::Later { why: why.into(), after: None }
    }
}

/// Something that takes parcels. One thread owns it.
pub trait Output: Send {
    /// How much a parcel is to hold.
    fn limits(&self) -> Limits {
        Limits::AT_ONCE
    }

    /// Delivers what is left of a parcel, and says in it what became of each line. After a failure it is
    /// called with the same parcel again, until nothing is left or the collector stops; a part that was
    /// already delivered is not repeated. `Ok` with lines left means the same, at once. There is a
    /// deadline once the collector stops.
    ///
    /// # Errors
    /// What went wrong, and with it what to do.
    fn deliver(&mut self, parcel: &mut Parcel, deadline: Option<Instant>) -> Result<(), Failure>;

    /// Opens what it writes to again, because somebody has moved it away.
    fn reopen(&mut self) {}
}

/// An output as it is configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutputConfig {
    /// What it is.
    pub target: Target,
    /// How it wants its lines.
    pub form: Form,
    /// Bytes that may wait for it in memory.
    pub queue_bytes: usize,
    /// What may wait for it on disk.
    pub spool: Option<SpoolConfig>,
}

/// The kinds of outputs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// This process's standard output.
    Stdout,
    /// The end of a file.
    File(PathBuf),
    /// A socket: unix, unixgram, tcp, udp.
    Socket(SocketConfig),
    /// A database.
    Http(Box<HttpConfig>),
}

/// Bytes that may wait for an output in memory when nothing else is said.
pub const QUEUE_BYTES: usize = 16 << 20;

impl OutputConfig {
    /// A target without a spool, in the form that its functions expect.
    #[must_use]
    pub fn new(target: Target) -> Self {
        let form = match &target {
            Target::Http(http) if http.server == Server::Victoriametrics => Form::VICTORIAMETRICS,
            _ => Form::default(),
        };
        Self { target, form, queue_bytes: QUEUE_BYTES, spool: None }
    }
}

impl Target {
    /// Opens it. Only what nothing can be done about later is an error: a server may be down.
    ///
    /// # Errors
    /// Names what cannot be opened, and why.
    pub fn open(&self) -> Result<Box<dyn Output>> {
        match self {
            Self::Stdout => Ok(Box::new(stream::Stream::stdout()?)),
            Self::File(path) => file::open(path),
            Self::Socket(config) => socket::open(config),
            Self::Http(config) => http::open(config),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stdout => f.write_str("stdout"),
            Self::File(path) => write!(f, "file:{}", path.display()),
            Self::Socket(config) => config.fmt(f),
            Self::Http(config) => config.fmt(f),
        }
    }
}
