//! What goes wrong between a sender and a server: a proxy on the loopback, for TCP and for unix streams,
//! whose behaviour is switched while it runs.

mod connection;

use crate::port::Port;
use connection::Connection;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::collections::HashMap;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use std::{fs, io};

/// How long a thread may not notice that the mode has changed.
const GLANCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 5_000_000 };
/// How long [`Proxy::set`] waits for all to have noticed.
const NOTICE: Duration = Duration::from_secs(10);

/// How a proxy behaves. The counts of bytes begin anew for every connection and every mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// It passes everything on.
    Pass,
    /// Nobody listens: connecting is refused.
    Closed,
    /// It accepts and swallows what comes; the server hears nothing and no answer arrives.
    Silent,
    /// The request reaches the server. The answer ends after so many bytes, and so does the connection.
    CutAnswer { after: usize },
    /// After so many bytes of requests both sides get a reset; a unix stream, which has none, just ends.
    ResetRequest { after: usize },
    /// It takes so many bytes a second from the sender, and has little room for more.
    Slow { bytes_per_second: usize },
}

/// Where to listen or to connect.
#[derive(Clone, Debug)]
enum Place {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

/// A running proxy. When it is dropped, all its connections end.
pub struct Proxy {
    shared: Arc<Shared>,
    here: Place,
    _port: Option<Port>,
    acceptor: Option<JoinHandle<()>>,
}

impl Proxy {
    /// In front of a TCP server, which need not run yet.
    #[must_use]
    pub fn tcp(server: SocketAddr) -> Self {
        let port = Port::reserve();
        Self::start(Place::Tcp(port.address()), Place::Tcp(server), Some(port))
    }

    /// In front of a server that listens on a unix stream; `here` is the path for the sender.
    #[must_use]
    pub fn unix(here: PathBuf, server: PathBuf) -> Self {
        Self::start(Place::Unix(here), Place::Unix(server), None)
    }

    fn start(here: Place, server: Place, port: Option<Port>) -> Self {
        let shared = Arc::new(Shared { control: Mutex::default(), noticed: Condvar::new() });
        let id = shared.join();
        let acceptor = Acceptor { id, here: here.clone(), server, shared: Arc::clone(&shared) };
        let listener = acceptor.listen().expect("a listener");
        let acceptor = Some(thread::spawn(move || acceptor.run(listener)));
        Self { shared, here, _port: port, acceptor }
    }

    /// Where the sender connects to.
    ///
    /// # Panics
    /// It is a unix stream.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        match self.here {
            Place::Tcp(address) => address,
            Place::Unix(_) => panic!("a unix stream has no address"),
        }
    }

    /// `http://127.0.0.1:PORT`.
    ///
    /// # Panics
    /// It is a unix stream.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address())
    }

    /// Behaves otherwise from now on: when this returns, every connection does. Connections that a mode
    /// cannot leave as they are end: all when the new one is [`Mode::Closed`], and after [`Mode::Silent`]
    /// those of which something was swallowed.
    ///
    /// # Panics
    /// A connection does not notice.
    pub fn set(&self, mode: Mode) {
        let mut control = self.shared.control();
        control.mode = mode;
        control.turn += 1;
        control.hits = 0;
        let noticed = self.shared.noticed.wait_timeout_while(control, NOTICE, |control| {
            control.members.values().any(|turn| *turn != control.turn)
        });
        let timeout = noticed.unwrap_or_else(PoisonError::into_inner).1;
        assert!(!timeout.timed_out(), "the proxy is stuck before {mode:?}");
    }

    /// How many connections the present mode has spoilt.
    #[must_use]
    pub fn hits(&self) -> usize {
        self.shared.control().hits
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.control().over = true;
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
        if let Place::Unix(path) = &self.here {
            let _ = fs::remove_file(path);
        }
    }
}

/// What the proxy and its threads have in common.
struct Shared {
    control: Mutex<Control>,
    noticed: Condvar,
}

struct Control {
    mode: Mode,
    /// Counts the changes of the mode.
    turn: u64,
    hits: usize,
    over: bool,
    /// The threads, each with the turn that it has noticed.
    members: HashMap<u64, u64>,
    joined: u64,
}

impl Default for Control {
    fn default() -> Self {
        let (turn, hits, over) = (0, 0, false);
        Self { mode: Mode::Pass, turn, hits, over, members: HashMap::new(), joined: 0 }
    }
}

impl Shared {
    fn control(&self) -> MutexGuard<'_, Control> {
        self.control.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A thread's number; from now on [`Proxy::set`] waits for it.
    fn join(&self) -> u64 {
        let mut control = self.control();
        control.joined += 1;
        let (id, turn) = (control.joined, control.turn);
        control.members.insert(id, turn);
        id
    }

    fn leave(&self, id: u64) {
        self.control().members.remove(&id);
        self.noticed.notify_all();
    }

    /// The mode and its turn; none when all is over. The thread acts on what it asked before.
    fn look(&self) -> Option<(Mode, u64)> {
        let control = self.control();
        (!control.over).then_some((control.mode, control.turn))
    }

    /// The thread has done what a turn asks of it.
    fn notice(&self, id: u64, turn: u64) {
        self.control().members.insert(id, turn);
        self.noticed.notify_all();
    }

    /// A connection was spoilt in this turn.
    fn hit(&self, turn: u64) {
        let mut control = self.control();
        if control.turn == turn {
            control.hits += 1;
        }
    }
}

/// The thread that listens.
struct Acceptor {
    id: u64,
    here: Place,
    server: Place,
    shared: Arc<Shared>,
}

enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Acceptor {
    fn run(self, first: Listener) {
        let mut listener = Some(first);
        let mut connections: Vec<JoinHandle<()>> = Vec::new();
        while let Some((mode, turn)) = self.shared.look() {
            match mode {
                Mode::Closed => drop(listener.take()),
                _ if listener.is_none() => listener = self.listen().ok(),
                _ => {}
            }
            self.shared.notice(self.id, turn);
            connections.retain(|thread| !thread.is_finished());
            match &listener {
                Some(open) if readable(open.as_fd()) => {
                    if let Ok(client) = open.accept() {
                        connections.extend(self.connect(client, mode));
                    }
                }
                Some(_) => {}
                None => thread::sleep(Duration::from_millis(1)),
            }
        }
        connections.into_iter().for_each(|thread| drop(thread.join()));
    }

    /// A sender of which the server hears nothing is not announced to it either.
    fn connect(&self, client: OwnedFd, mode: Mode) -> Option<JoinHandle<()>> {
        let server = match mode {
            Mode::Silent => None,
            _ => match self.server.connect() {
                Ok(server) => Some(server),
                Err(_) => {
                    connection::reset(client);
                    return None;
                }
            },
        };
        let (id, shared) = (self.shared.join(), Arc::clone(&self.shared));
        Some(thread::spawn(move || {
            Connection::new(client, server, &shared).run(id);
            shared.leave(id);
        }))
    }

    fn listen(&self) -> io::Result<Listener> {
        Ok(match &self.here {
            Place::Tcp(address) => Listener::Tcp(TcpListener::bind(address)?),
            Place::Unix(path) => {
                let _ = fs::remove_file(path);
                Listener::Unix(UnixListener::bind(path)?)
            }
        })
    }
}

impl Place {
    fn connect(&self) -> io::Result<OwnedFd> {
        Ok(match self {
            Self::Tcp(address) => TcpStream::connect(address)?.into(),
            Self::Unix(path) => UnixStream::connect(path)?.into(),
        })
    }
}

impl Listener {
    fn accept(&self) -> io::Result<OwnedFd> {
        Ok(match self {
            Self::Tcp(listener) => listener.accept()?.0.into(),
            Self::Unix(listener) => listener.accept()?.0.into(),
        })
    }

    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(listener) => listener.as_fd(),
            Self::Unix(listener) => listener.as_fd(),
        }
    }
}

/// Waits for a glance.
fn readable(fd: BorrowedFd<'_>) -> bool {
    let mut fds = [PollFd::from_borrowed_fd(fd, PollFlags::IN)];
    poll(&mut fds, Some(&GLANCE)).is_ok_and(|ready| ready > 0)
}
