//! The thread that answers: one for all connections, of which there are few.

use super::address::Listener;
use super::connection::{Connection, Next};
use super::request::Access;
use super::route::Router;
use super::store::Store;
use super::tls::ServerCert;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::Errno;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Connections at once; for one more the one that has waited the longest is closed.
const MOST: usize = 64;
/// Connections that are taken before those that are there have their turn.
const TAKEN: usize = 32;
/// How long nobody is taken when there are no descriptors left.
const PAUSE: Duration = Duration::from_millis(200);

/// Tells the thread to end, when it is dropped.
#[derive(Debug)]
pub struct Stop(Arc<OwnedFd>);

impl Drop for Stop {
    fn drop(&mut self) {
        let _ = rustix::io::write(&self.0, &1u64.to_ne_bytes());
    }
}

/// What the thread has.
pub struct Server {
    listener: Arc<Listener>,
    stop: Arc<OwnedFd>,
    access: Access,
    /// With it TLS is spoken.
    cert: Option<Arc<ServerCert>>,
    store: Arc<Mutex<Store>>,
    connections: Vec<Connection>,
    /// Until when nobody is taken.
    paused: Option<Instant>,
}

impl Server {
    /// # Errors
    /// The kernel gives no descriptor.
    pub fn new(
        listener: Arc<Listener>,
        access: Access,
        cert: Option<Arc<ServerCert>>,
        store: Arc<Mutex<Store>>,
    ) -> std::io::Result<(Self, Stop)> {
        let stop = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        let server = Self {
            listener,
            stop: Arc::clone(&stop),
            access,
            cert,
            store,
            connections: Vec::new(),
            paused: None,
        };
        Ok((server, Stop(stop)))
    }

    /// Answers until it is stopped.
    pub fn run(mut self) {
        let mut again = false;
        while let Some(ready) = self.wait(again) {
            again = self.round(&ready);
        }
    }

    /// Waits until there is something to do: which connections have it, and as the last one the listener.
    fn wait(&self, again: bool) -> Option<Vec<bool>> {
        let now = Instant::now();
        let mut polled = vec![PollFd::new(&*self.stop, PollFlags::IN)];
        for connection in &self.connections {
            let wanted = if connection.writes() { PollFlags::OUT } else { PollFlags::IN };
            polled.push(PollFd::new(connection.stream(), wanted));
        }
        if self.paused.is_none() {
            polled.push(PollFd::new(&*self.listener, PollFlags::IN));
        }
        let deadlines = self.connections.iter().map(Connection::deadline).chain(self.paused);
        let left = if again {
            Some(Duration::ZERO)
        } else {
            deadlines.min().map(|deadline| deadline.saturating_duration_since(now))
        };
        // A little later rather than a little too early, and then again.
        let left = left.map(|left| left + Duration::from_millis(u64::from(!again)));
        let timeout = left.and_then(|left| Timespec::try_from(left).ok());
        match poll(&mut polled, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => {
                log::error!("http: it ends: {error}");
                return None;
            }
        }
        let mut ready: Vec<bool> = polled.iter().map(|it| !it.revents().is_empty()).collect();
        if ready.remove(0) {
            return None;
        }
        ready.resize(self.connections.len() + 1, false);
        Some(ready)
    }

    /// Everyone has a turn; whether one has more to do at once.
    fn round(&mut self, ready: &[bool]) -> bool {
        let now = Instant::now();
        let Self { access, store, connections, .. } = self;
        let pending = connections.iter().map(Connection::pending).sum();
        let mut router = Router { access, store, pending };
        let mut again = false;
        let mut number = 0;
        connections.retain_mut(|connection| {
            let has_more = ready.get(number).is_some_and(|ready| *ready);
            number += 1;
            let next = match has_more || connection.is_unfinished() {
                true => connection.turn(&mut router, now),
                false => Next::Wait,
            };
            again |= next == Next::Again;
            next != Next::Close && connection.deadline() > now
        });
        self.paused = self.paused.filter(|until| *until > now);
        if ready.last() == Some(&true) {
            again |= self.accept(now);
        }
        again
    }

    fn accept(&mut self, now: Instant) -> bool {
        let mut again = false;
        for _ in 0..TAKEN {
            let stream = match self.listener.accept() {
                Ok(Some(stream)) => stream,
                Ok(None) => break,
                Err(error) => {
                    log::debug!("http: nobody is answered for now: {error}");
                    self.paused = Some(now + PAUSE);
                    break;
                }
            };
            if self.connections.len() >= MOST {
                let longest = (0..self.connections.len())
                    .min_by_key(|at| self.connections[*at].moved())
                    .unwrap_or_default();
                self.connections.swap_remove(longest);
            }
            let tls = self.cert.as_ref().map(|cert| cert.config(now));
            let mut connection = Connection::new(stream, tls, now);
            let pending = self.connections.iter().map(Connection::pending).sum();
            let mut router = Router { access: &self.access, store: &self.store, pending };
            // Most have sent their request already.
            match connection.turn(&mut router, now) {
                Next::Close => {}
                next => {
                    again |= next == Next::Again;
                    self.connections.push(connection);
                }
            }
        }
        again
    }
}
