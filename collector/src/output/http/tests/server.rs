//! A small HTTP server that does what servers do, and what they should not do.

use flate2::read::GzDecoder;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};

/// What arrived.
#[derive(Clone, Debug)]
pub struct Request {
    /// Number of its connection, from 0.
    pub connection: usize,
    /// Its first line and headers, in lower case but for the values.
    pub head: Vec<String>,
    /// The body, decompressed.
    pub body: String,
    /// The same, where it is no text; snappy is left as it is.
    pub bytes: Vec<u8>,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        let value = |line: &'_ String| line.strip_prefix(name)?.strip_prefix(": ").map(str::len);
        let line = self.head.iter().find(|line| value(line).is_some())?;
        Some(&line[name.len() + 2..])
    }
}

/// What to do about it.
#[derive(Clone, Debug)]
pub enum Reaction {
    /// An answer: status, further headers, body.
    Answer(u16, &'static str, String),
    /// An answer that is right, and the connection is closed without a word.
    AnswerAndClose(u16),
    /// These bytes, and the connection is closed.
    Raw(&'static str),
    /// These bytes, and then nothing until the other end closes.
    Begin(String),
}

impl Reaction {
    pub fn status(status: u16) -> Self {
        Self::Answer(status, "", String::new())
    }

    pub fn silence() -> Self {
        Self::Begin(String::new())
    }
}

type Handler = Box<dyn FnMut(&Request) -> Reaction + Send>;

/// A server on a port of its own; it ends with the value.
pub struct Server {
    address: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    handler: Mutex<Handler>,
    requests: Mutex<Vec<Request>>,
    tls: Option<Arc<ServerConfig>>,
    /// Bodies that say to be longer are refused before they are read.
    longest: Option<usize>,
    stop: AtomicBool,
}

impl Server {
    pub fn start(handler: impl FnMut(&Request) -> Reaction + Send + 'static) -> Self {
        Self::with(handler, None, None)
    }

    pub fn with(
        handler: impl FnMut(&Request) -> Reaction + Send + 'static,
        tls: Option<Arc<ServerConfig>>,
        longest: Option<usize>,
    ) -> Self {
        Self::at("127.0.0.1:0", handler, tls, longest)
    }

    pub fn at(
        address: impl ToSocketAddrs,
        handler: impl FnMut(&Request) -> Reaction + Send + 'static,
        tls: Option<Arc<ServerConfig>>,
        longest: Option<usize>,
    ) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            handler: Mutex::new(Box::new(handler)),
            requests: Mutex::default(),
            tls,
            longest,
            stop: AtomicBool::new(false),
        });
        let thread = thread::spawn({
            let shared = Arc::clone(&shared);
            move || accept(&listener, &shared)
        });
        Self { address, shared, thread: Some(thread) }
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn requests(&self) -> MutexGuard<'_, Vec<Request>> {
        self.shared.requests.lock().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
        self.thread.take().unwrap().join().unwrap();
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for connection in 0.. {
        let (stream, _) = listener.accept().unwrap();
        if shared.stop.load(Ordering::SeqCst) {
            return;
        }
        stream.set_nodelay(true).unwrap();
        let shared = Arc::clone(shared);
        // It ends when the client closes the connection.
        thread::spawn(move || {
            let _ = match &shared.tls {
                None => serve(stream, connection, &shared),
                Some(config) => {
                    let tls = ServerConnection::new(Arc::clone(config)).unwrap();
                    serve(StreamOwned::new(tls, stream), connection, &shared)
                }
            };
        });
    }
}

fn serve(stream: impl Read + Write, connection: usize, shared: &Shared) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let head = read_head(&mut stream)?;
        let (body, bytes) = (String::new(), Vec::new());
        let mut request = Request { connection, head, body, bytes };
        let length: usize = request.header("content-length").unwrap_or("0").parse().unwrap();
        if shared.longest.is_some_and(|longest| length > longest) {
            shared.requests.lock().unwrap().push(request);
            return answer(stream.get_mut(), 413, "Connection: close\r\n", "");
        }
        if request.header("expect").is_some() {
            stream.get_mut().write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body)?;
        match request.header("content-encoding") {
            Some("gzip") => _ = GzDecoder::new(&body[..]).read_to_end(&mut request.bytes)?,
            _ => request.bytes = body,
        }
        request.body = String::from_utf8_lossy(&request.bytes).into_owned();
        let reaction = (*shared.handler.lock().unwrap())(&request);
        shared.requests.lock().unwrap().push(request);
        match reaction {
            Reaction::Answer(status, headers, body) => {
                answer(stream.get_mut(), status, headers, &body)?;
            }
            Reaction::AnswerAndClose(status) => return answer(stream.get_mut(), status, "", ""),
            Reaction::Raw(bytes) => return stream.get_mut().write_all(bytes.as_bytes()),
            Reaction::Begin(bytes) => {
                stream.get_mut().write_all(bytes.as_bytes())?;
                stream.read_to_end(&mut Vec::new())?;
            }
        }
    }
}

fn read_head(stream: &mut impl BufRead) -> io::Result<Vec<String>> {
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let line = line.trim_end();
        if line.is_empty() {
            return Ok(head);
        }
        head.push(match line.split_once(": ") {
            Some((name, value)) => format!("{}: {value}", name.to_lowercase()),
            None => line.to_owned(),
        });
    }
}

fn answer(stream: &mut impl Write, status: u16, headers: &str, body: &str) -> io::Result<()> {
    let length = match status {
        204 => String::new(),
        _ => format!("Content-Length: {}\r\n", body.len()),
    };
    let answer = format!("HTTP/1.1 {status} x\r\n{headers}{length}\r\n{body}");
    stream.write_all(answer.as_bytes())?;
    stream.flush()
}
