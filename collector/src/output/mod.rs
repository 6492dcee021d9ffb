//! Where lines go. Each output has its own threads, queue and books, and a spool if it is told to.
//!
//! Whoever makes a batch hands it to the queues of its form ([`Routes`]) and never waits: an output that is slow or
//! dead loses its own oldest lines, counted, and holds up nobody else.

mod books;
mod file;
mod folder;
pub(crate) mod host;
pub mod http;
mod outlet;
mod parcel;
mod patience;
mod pem;
mod pipe;
mod portion;
mod queue;
mod reach;
mod routes;
pub mod secret;
pub mod serve;
pub mod socket;
pub mod spool;
mod stream;

pub use books::{Books, ByCause, Cause, Sent};
pub use file::FileConfig;
pub use outlet::Outlet;
pub use parcel::Parcel;
pub use portion::Portion;
pub use queue::{Snapshot, collector_gap};
pub use reach::reach;
pub use routes::Routes;
pub use spool::SpoolConfig;

use crate::encode::Tags;
use crate::form::Form;
use anyhow::{Error, Result};
use http::{HttpConfig, Server};
use serve::{ServeConfig, Shared};
use socket::SocketConfig;
use std::fmt;
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

    /// The same, and where it was.
    #[must_use]
    pub fn at(self, place: &str) -> Self {
        let at = |why: Error| why.context(place.to_owned());
        match self {
            Self::Later { why, after } => Self::Later { why: at(why), after },
            Self::Hold(why) => Self::Hold(at(why)),
            Self::Gone(why) => Self::Gone(at(why)),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Later { why, .. } | Self::Hold(why) | Self::Gone(why)) = self;
        write!(f, "{why:#}")
    }
}

/// Something that takes parcels, one after the other. One thread owns it.
pub trait Output: Send {
    /// How much a parcel is to hold.
    fn portion(&self) -> Portion {
        Portion::AT_ONCE
    }

    /// Delivers what is left of a parcel, or a part of it, and says in it what became of each line. It is
    /// called with the same parcel until nothing is left or the collector stops: at once after `Ok`, and
    /// later after a failure. A part that was already delivered is not repeated. There is a deadline once
    /// the collector stops.
    ///
    /// # Errors
    /// What went wrong, and with it what to do.
    fn deliver(&mut self, parcel: &mut Parcel, deadline: Option<Instant>) -> Result<(), Failure>;

    /// After a failure of this output: whether another attempt is worth it before the pause is over. Asked
    /// every few seconds, with the deadline of attempts. By default an attempt costs no more than looking.
    fn look(&mut self, _deadline: Option<Instant>) -> bool {
        true
    }

    /// Opens what it writes to again, because somebody has moved it away; reads secrets again.
    fn reopen(&mut self) {}
}

/// An output as it is configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutputConfig {
    /// What it is.
    pub target: Target,
    /// How it wants its lines.
    pub form: Form,
    /// Bytes that may wait for it in memory, those on their way among them.
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
    File(FileConfig),
    /// A socket: unix, unixgram, tcp, udp.
    Socket(SocketConfig),
    /// A database.
    Http(Box<HttpConfig>),
    /// Whoever asks.
    Serve(ServeConfig),
    /// A terminal of this process.
    Screen(Shared),
}

/// Bytes that may wait for an output in memory when nothing else is said.
pub const QUEUE_BYTES: usize = 16 << 20;

impl OutputConfig {
    /// A target without a spool, in the form that its functions expect.
    #[must_use]
    pub fn new(target: Target) -> Self {
        let form = match &target {
            Target::Http(http) => match http.server {
                Server::Victoriametrics => Form::VICTORIAMETRICS,
                Server::Prometheus { .. } => Form::PROMETHEUS,
                Server::Otlp => Form::OTLP,
                _ => Form::default(),
            },
            Target::Serve(_) | Target::Screen(_) => Form::OTLP, // they add up themselves
            _ => Form::default(),
        };
        Self { target, form, queue_bytes: QUEUE_BYTES, spool: None }
    }
}

impl Target {
    /// Opens it: as many outputs as parcels may be under way at once. Only what nothing can be done about
    /// later is an error: a server may be down. `tags` are those of every line.
    ///
    /// # Errors
    /// Names what cannot be opened, and why.
    pub fn open(&self, tags: &Tags) -> Result<Vec<Box<dyn Output>>> {
        Ok(match self {
            Self::Stdout => vec![Box::new(stream::Stream::stdout()?)],
            Self::File(config) => vec![file::open(config)?],
            Self::Socket(config) => vec![socket::open(config)?],
            Self::Http(config) => http::open(config, tags)?,
            Self::Serve(config) => vec![serve::open(config)?],
            Self::Screen(store) => vec![serve::keep(store)],
        })
    }

    /// Whether lines of a series have to arrive in order.
    #[must_use]
    pub fn in_order(&self) -> bool {
        matches!(self, Self::Http(config) if config.server.in_order())
    }

    /// The URLs that lines are divided among, when there are several.
    #[must_use]
    pub fn urls(&self) -> &[String] {
        match self {
            Self::Http(config) if config.urls.len() > 1 => &config.urls,
            _ => &[],
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stdout => f.write_str("stdout"),
            Self::File(config) => write!(f, "file:{}", config.path.display()),
            Self::Socket(config) => config.fmt(f),
            Self::Http(config) => config.fmt(f),
            Self::Serve(config) => config.fmt(f),
            Self::Screen(_) => f.write_str("screen"),
        }
    }
}
