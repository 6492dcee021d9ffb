//! One connection through a proxy.

use super::{GLANCE, Mode, Shared};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::{Errno, ioctl_fionbio, read, write};
use rustix::net::{Shutdown, shutdown, sockopt};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

/// Read at once.
const CHUNK: usize = 64 << 10;
/// What a slow reader's kernel keeps for it.
const SLOW_BUFFER: usize = 16 << 10;

/// A sender and, unless it was never told, the server.
pub struct Connection<'a> {
    client: OwnedFd,
    server: Option<OwnedFd>,
    shared: &'a Shared,
    requests: Flow,
    answers: Flow,
    /// Something was: what would follow makes no sense to the server.
    swallowed: bool,
}

/// One direction.
#[derive(Default)]
struct Flow {
    /// Read and not yet written.
    held: Vec<u8>,
    /// Bytes read in this mode.
    seen: usize,
    /// The writer has said that it is done; passed on once nothing is held.
    done: bool,
    told: bool,
}

/// Why a connection ends.
enum End {
    /// Both sides are done, or are to think so.
    Over,
    /// One side broke it off, or the mode does: the other one gets a reset.
    Broken,
}

impl<'a> Connection<'a> {
    pub fn new(client: OwnedFd, server: Option<OwnedFd>, shared: &'a Shared) -> Self {
        for fd in [Some(&client), server.as_ref()].into_iter().flatten() {
            ioctl_fionbio(fd, true).expect("a socket can be made not to block");
        }
        let (requests, answers) = (Flow::default(), Flow::default());
        Self { client, server, shared, requests, answers, swallowed: false }
    }

    /// Until an end, of which both sides learn.
    pub fn run(mut self, id: u64) {
        let mut turn = None;
        let mut since = Instant::now();
        while let Some((mode, now)) = self.shared.look() {
            if turn != Some(now) {
                let senseless = self.swallowed || self.server.is_none();
                if mode == Mode::Closed || (senseless && mode != Mode::Silent) {
                    break;
                }
                if matches!(mode, Mode::Slow { .. }) {
                    let _ = sockopt::set_socket_recv_buffer_size(&self.client, SLOW_BUFFER);
                }
                (self.requests.seen, self.answers.seen) = (0, 0);
                (turn, since) = (Some(now), Instant::now());
                self.shared.notice(id, now);
            }
            match self.step(mode, now, since) {
                Ok(()) => {}
                Err(End::Over) => return,
                Err(End::Broken) => break,
            }
        }
        [Some(self.client), self.server].into_iter().flatten().for_each(reset);
    }

    /// Waits for a glance, and moves what can be moved.
    fn step(&mut self, mode: Mode, turn: u64, since: Instant) -> Result<(), End> {
        let room = self.room(mode, since);
        let wants = |flow: &Flow, room| room > 0 && !flow.done && flow.held.is_empty();
        let flags = |reads: bool, writes: bool| {
            let flag = |wanted, flag| if wanted { flag } else { PollFlags::empty() };
            flag(reads, PollFlags::IN) | flag(writes, PollFlags::OUT)
        };
        let of_client = flags(wants(&self.requests, room), !self.answers.held.is_empty());
        let of_server = flags(wants(&self.answers, CHUNK), !self.requests.held.is_empty());
        let mut fds = vec![PollFd::new(&self.client, of_client)];
        fds.extend(self.server.as_ref().map(|server| PollFd::new(server, of_server)));
        poll(&mut fds, Some(&GLANCE)).map_err(|_| End::Broken)?;
        // A side that is gone shows as readable or writable too, and fails below.
        let moved = |fd: Option<&PollFd<'_>>| fd.map_or(PollFlags::empty(), PollFd::revents);
        let (client, server) = (moved(fds.first()), moved(fds.get(1)));
        if (client | server).contains(PollFlags::ERR) {
            return Err(End::Broken);
        }
        drop(fds);
        if client.intersects(PollFlags::IN | PollFlags::HUP) && wants(&self.requests, room) {
            self.take_request(mode, turn, room)?;
        }
        if server.intersects(PollFlags::IN | PollFlags::HUP) && wants(&self.answers, CHUNK) {
            self.take_answer(mode, turn)?;
        }
        if let Some(server) = &self.server {
            self.requests.give(server)?;
        }
        self.answers.give(&self.client)?;
        let nobody_waits = client.contains(PollFlags::HUP) || self.answers.told;
        let all_said = self.requests.told || (self.requests.done && self.server.is_none());
        if all_said && nobody_waits { Err(End::Over) } else { Ok(()) }
    }

    /// How many bytes may be taken from the sender now.
    fn room(&self, mode: Mode, since: Instant) -> usize {
        let Mode::Slow { bytes_per_second } = mode else { return CHUNK };
        let due = since.elapsed().as_secs_f64() * bytes_per_second as f64;
        (due as usize).saturating_sub(self.requests.seen).min(CHUNK)
    }

    fn take_request(&mut self, mode: Mode, turn: u64, room: usize) -> Result<(), End> {
        let before = self.requests.seen;
        self.requests.take(&self.client, room)?;
        match mode {
            Mode::Silent => self.swallow(turn),
            Mode::ResetRequest { after } if self.requests.seen > after => {
                self.requests.held.truncate(after.saturating_sub(before));
                if let Some(server) = &self.server {
                    self.requests.give(server)?;
                }
                self.shared.hit(turn);
                return Err(End::Broken);
            }
            _ => {}
        }
        Ok(())
    }

    fn take_answer(&mut self, mode: Mode, turn: u64) -> Result<(), End> {
        let Some(server) = &self.server else { return Ok(()) };
        let before = self.answers.seen;
        self.answers.take(server, CHUNK)?;
        match mode {
            Mode::Silent => self.swallow(turn),
            Mode::CutAnswer { after } if self.answers.seen > after => {
                self.answers.held.truncate(after.saturating_sub(before));
                self.answers.done = true;
                self.shared.hit(turn);
                self.say_the_last()?;
                return Err(End::Over);
            }
            _ => {}
        }
        Ok(())
    }

    /// Whatever is held goes nowhere.
    fn swallow(&mut self, turn: u64) {
        self.requests.held.clear();
        self.answers.held.clear();
        if !std::mem::replace(&mut self.swallowed, true) {
            self.shared.hit(turn);
        }
    }

    /// What is left of an answer, and that nothing follows, before the connection ends: a reset would
    /// overtake it.
    fn say_the_last(&mut self) -> Result<(), End> {
        let began = Instant::now();
        while !self.answers.told && began.elapsed() < Duration::from_secs(1) {
            self.answers.give(&self.client)?;
        }
        // The client closes in turn; what it still sends is not read.
        let mut rest = [0; 4096];
        while began.elapsed() < Duration::from_secs(1) {
            match read(&self.client, &mut rest) {
                Ok(0) => break,
                Ok(_) => {}
                Err(Errno::AGAIN) => std::thread::sleep(Duration::from_millis(1)),
                Err(_) => return Err(End::Over),
            }
        }
        Ok(())
    }
}

impl Flow {
    fn take(&mut self, from: &OwnedFd, room: usize) -> Result<(), End> {
        let mut chunk = vec![0; room];
        match read(from, &mut chunk) {
            Ok(0) => self.done = true,
            Ok(count) => {
                self.seen += count;
                self.held.extend_from_slice(&chunk[..count]);
            }
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(_) => return Err(End::Broken),
        }
        Ok(())
    }

    fn give(&mut self, to: &OwnedFd) -> Result<(), End> {
        if !self.held.is_empty() {
            match write(to, &self.held) {
                Ok(count) => drop(self.held.drain(..count)),
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(_) => return Err(End::Broken),
            }
        }
        if self.done && self.held.is_empty() && !self.told {
            self.told = true;
            shutdown(to, Shutdown::Write).map_err(|_| End::Broken)?;
        }
        Ok(())
    }
}

/// Closes without a word: a TCP connection that is not over already is reset.
pub fn reset(fd: OwnedFd) {
    let _ = sockopt::set_socket_linger(&fd, Some(Duration::ZERO));
}
