//! What listens on a socket and takes lines, as Telegraf's socket_listener does.

use crate::Stored;
use crate::port::Port;
use collector::read::{Line, read};
use influxdb_line_protocol::{FieldValue, ParsedLine, parse_lines, split_lines};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::sockopt;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// How long the thread may not notice that it is to end.
const GLANCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 5_000_000 };
/// More than any datagram.
const CHUNK: usize = 256 << 10;
/// The kernel counts more than 2 KiB for a datagram of 1432 bytes, and doubles what it is told.
const UDP_BUFFER: usize = 128 << 20;

/// Where it listens.
enum Place {
    Unix(PathBuf),
    Tcp(SocketAddr),
    Unixgram(PathBuf),
    Udp(SocketAddr),
}

/// Listens and takes lines, until it is killed or dropped.
pub struct Reader {
    place: Place,
    _port: Option<Port>,
    taken: Arc<Mutex<Taken>>,
    thread: Option<(Arc<AtomicBool>, JoinHandle<()>)>,
}

/// What it has taken so far, whoever sent it.
#[derive(Clone, Debug, Default)]
pub struct Taken {
    /// Whole lines, when they are kept; a line that was sent twice is there twice.
    pub text: Vec<u8>,
    /// Number of whole lines.
    pub lines: u64,
    pub bytes: u64,
    /// What stood without a newline at the end of a connection or a datagram.
    pub torn: Vec<Vec<u8>>,
    /// Connections that were accepted; datagrams.
    pub pieces: u64,
    /// The longest read or datagram.
    pub longest: usize,
    /// Text is not kept.
    forgets: bool,
}

impl Reader {
    /// A stream socket at a path.
    #[must_use]
    pub fn unix(path: PathBuf) -> Self {
        Self::started(Place::Unix(path), None)
    }

    /// A stream socket at a port.
    #[must_use]
    pub fn tcp() -> Self {
        let port = Port::reserve();
        Self::started(Place::Tcp(port.address()), Some(port))
    }

    /// A datagram socket at a path.
    #[must_use]
    pub fn unixgram(path: PathBuf) -> Self {
        Self::started(Place::Unixgram(path), None)
    }

    /// A datagram socket at a port.
    ///
    /// # Panics
    /// There is no free one.
    #[must_use]
    pub fn udp() -> Self {
        let probe = UdpSocket::bind("127.0.0.1:0").expect("a free port");
        let address = probe.local_addr().expect("its address");
        drop(probe);
        Self::started(Place::Udp(address), None)
    }

    /// It counts lines and forgets them: for a million and more.
    #[must_use]
    pub fn counting(self) -> Self {
        lock(&self.taken).forgets = true;
        self
    }

    fn started(place: Place, port: Option<Port>) -> Self {
        let mut reader = Self { place, _port: port, taken: Arc::default(), thread: None };
        reader.restart();
        reader
    }

    /// Ends it at once, with all connections: what it has not read is lost. The path stays, as after
    /// `kill -9`.
    pub fn kill(&mut self) {
        if let Some((over, thread)) = self.thread.take() {
            over.store(true, Ordering::Relaxed);
            let _ = thread.join();
        }
    }

    /// Listens again, at the same place; what it took before stays counted.
    ///
    /// # Panics
    /// It listens already, or cannot.
    pub fn restart(&mut self) {
        assert!(self.thread.is_none(), "it listens already");
        let sockets = Sockets::open(&self.place).expect("a socket at a place of our own");
        let over = Arc::<AtomicBool>::default();
        let (stop, taken) = (Arc::clone(&over), Arc::clone(&self.taken));
        self.thread = Some((over, thread::spawn(move || sockets.read(&taken, &stop))));
    }

    /// `127.0.0.1:PORT`.
    ///
    /// # Panics
    /// It listens at a path.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        match self.place {
            Place::Tcp(address) | Place::Udp(address) => address,
            Place::Unix(_) | Place::Unixgram(_) => panic!("it listens at a path"),
        }
    }

    /// What it took, as of now.
    #[must_use]
    pub fn taken(&self) -> Taken {
        lock(&self.taken).clone()
    }

    /// Datagrams that the kernel has dropped since there was no room for them.
    ///
    /// # Panics
    /// It reads no UDP.
    #[must_use]
    pub fn kernel_dropped(&self) -> u64 {
        let port = format!(":{:04X}", self.address().port());
        let sockets = fs::read_to_string("/proc/net/udp").expect("the kernel's UDP sockets");
        let mut rows = sockets.lines().map(|row| row.split_whitespace().collect::<Vec<_>>());
        let row = rows.find(|row| row[1].ends_with(&port)).expect("its socket");
        row.last().and_then(|drops| drops.parse().ok()).expect("a number")
    }

    /// Number of whole lines, as of now.
    #[must_use]
    pub fn count(&self) -> u64 {
        lock(&self.taken).lines
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.kill();
        if let Place::Unix(path) | Place::Unixgram(path) = &self.place {
            let _ = fs::remove_file(path);
        }
    }
}

impl Stored for Reader {
    fn lines(&self, table: &str) -> Vec<Line> {
        lock(&self.taken).text.lines(table)
    }

    fn numbers(&self, table: &str, field: &str) -> Vec<i64> {
        lock(&self.taken).text.numbers(table, field)
    }
}

/// Lines as they came: those of a file. A line that is there twice is told twice.
impl Stored for Vec<u8> {
    fn lines(&self, table: &str) -> Vec<Line> {
        let text = std::str::from_utf8(self).expect("line protocol is UTF-8");
        // To make a million lines only to throw them away would take a while.
        let lines = split_lines(text).filter(|line| line.starts_with(table));
        let lines = lines.flat_map(|line| read(line.as_bytes()).expect("a whole line"));
        lines.filter(|line| line.table == table).collect()
    }

    fn numbers(&self, table: &str, field: &str) -> Vec<i64> {
        let text = std::str::from_utf8(self).expect("line protocol is UTF-8");
        let lines = parse_lines(text).map(|line| line.expect("whole lines, and nothing else"));
        let number = |line: ParsedLine<'_>| match line.field_value(field) {
            Some(FieldValue::I64(n)) if line.series.measurement == table => Some(*n),
            _ => None,
        };
        let mut numbers: Vec<i64> = lines.filter_map(number).collect();
        numbers.sort_unstable();
        numbers
    }
}

fn lock(taken: &Mutex<Taken>) -> MutexGuard<'_, Taken> {
    taken.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The sockets of one life.
enum Sockets {
    Streams(Listener, Vec<Stream>),
    Datagrams(Box<dyn Datagrams>),
}

enum Listener {
    Unix(UnixListener),
    Tcp(TcpListener),
}

/// A connection, and the line that has begun on it.
struct Stream {
    connection: File,
    begun: Vec<u8>,
}

trait Datagrams: AsFd + Send {
    fn take(&self, chunk: &mut [u8]) -> io::Result<usize>;
}

impl Datagrams for UdpSocket {
    fn take(&self, chunk: &mut [u8]) -> io::Result<usize> {
        self.recv(chunk)
    }
}

impl Datagrams for UnixDatagram {
    fn take(&self, chunk: &mut [u8]) -> io::Result<usize> {
        self.recv(chunk)
    }
}

impl Sockets {
    fn open(place: &Place) -> io::Result<Self> {
        if let Place::Unix(path) | Place::Unixgram(path) = place {
            let _ = fs::remove_file(path);
        }
        let streams = |listener| Self::Streams(listener, Vec::new());
        Ok(match place {
            Place::Unix(path) => streams(Listener::Unix(UnixListener::bind(path)?)),
            Place::Tcp(address) => streams(Listener::Tcp(TcpListener::bind(address)?)),
            Place::Unixgram(path) => {
                let socket = UnixDatagram::bind(path)?;
                socket.set_nonblocking(true)?;
                Self::Datagrams(Box::new(socket))
            }
            Place::Udp(address) => {
                let socket = UdpSocket::bind(address)?;
                socket.set_nonblocking(true)?;
                // Nobody holds up who sends: what does not fit is lost. Here a million lines do, for root.
                sockopt::set_socket_recv_buffer_size_force(&socket, UDP_BUFFER)
                    .or_else(|_| sockopt::set_socket_recv_buffer_size(&socket, UDP_BUFFER))?;
                Self::Datagrams(Box::new(socket))
            }
        })
    }

    /// Until it is over.
    fn read(mut self, taken: &Mutex<Taken>, over: &AtomicBool) {
        let mut chunk = vec![0; CHUNK];
        while !over.load(Ordering::Relaxed) {
            match &mut self {
                Self::Streams(listener, streams) => serve(listener, streams, &mut chunk, taken),
                Self::Datagrams(socket) => {
                    if !readable(&[socket.as_fd()])[0] {
                        continue;
                    }
                    while let Ok(count) = socket.take(&mut chunk) {
                        let mut taken = lock(taken);
                        taken.pieces += 1;
                        let mut begun = Vec::new();
                        taken.add(&chunk[..count], &mut begun);
                        taken.end(begun);
                    }
                }
            }
        }
        if let Self::Streams(_, streams) = self {
            for stream in streams {
                // Whoever killed the process did not let it say goodbye.
                let _ = sockopt::set_socket_linger(&stream.connection, Some(Duration::ZERO));
                lock(taken).end(stream.begun);
            }
        }
    }
}

/// Accepts who comes, and reads what is there.
fn serve(listener: &Listener, streams: &mut Vec<Stream>, chunk: &mut [u8], taken: &Mutex<Taken>) {
    let mut fds = vec![listener.as_fd()];
    fds.extend(streams.iter().map(|stream| stream.connection.as_fd()));
    let ready = readable(&fds);
    if ready[0]
        && let Ok(connection) = listener.accept()
    {
        lock(taken).pieces += 1;
        // The newest is at the end: the others keep their places in `ready`.
        streams.push(Stream { connection, begun: Vec::new() });
    }
    let mut index = 0;
    streams.retain_mut(|stream| {
        index += 1;
        if !ready.get(index).is_some_and(|ready| *ready) {
            return true;
        }
        match stream.connection.read(chunk) {
            Ok(0) => {}
            Ok(count) => {
                lock(taken).add(&chunk[..count], &mut stream.begun);
                return true;
            }
            Err(why) if why.kind() == ErrorKind::Interrupted => return true,
            Err(_) => {}
        }
        lock(taken).end(std::mem::take(&mut stream.begun));
        false
    });
}

impl Taken {
    /// Bytes that came, after those of a line that has begun.
    fn add(&mut self, bytes: &[u8], begun: &mut Vec<u8>) {
        self.bytes += bytes.len() as u64;
        self.longest = self.longest.max(bytes.len());
        let Some(last) = bytes.iter().rposition(|byte| *byte == b'\n') else {
            return begun.extend_from_slice(bytes);
        };
        let (whole, rest) = bytes.split_at(last + 1);
        self.lines += whole.iter().map(|byte| u64::from(*byte == b'\n')).sum::<u64>();
        if !self.forgets {
            self.text.append(begun);
            self.text.extend_from_slice(whole);
        }
        begun.clear();
        begun.extend_from_slice(rest);
    }

    /// No more follows.
    fn end(&mut self, begun: Vec<u8>) {
        if !begun.is_empty() {
            self.torn.push(begun);
        }
    }
}

impl Listener {
    /// Something to read from.
    fn accept(&self) -> io::Result<File> {
        let connection: OwnedFd = match self {
            Self::Unix(listener) => listener.accept()?.0.into(),
            Self::Tcp(listener) => listener.accept()?.0.into(),
        };
        Ok(connection.into())
    }

    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Unix(listener) => listener.as_fd(),
            Self::Tcp(listener) => listener.as_fd(),
        }
    }
}

/// Waits for a glance; which of them can be read.
fn readable(fds: &[BorrowedFd<'_>]) -> Vec<bool> {
    let mut fds: Vec<_> =
        fds.iter().map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN)).collect();
    let _ = poll(&mut fds, Some(&GLANCE));
    fds.iter().map(|fd| !fd.revents().is_empty()).collect()
}
