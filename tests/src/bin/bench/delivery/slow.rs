//! A server that does nothing but count lines, and takes its time to answer.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

/// It runs as long as this program.
pub struct Slow {
    /// Lines that came.
    pub lines: Arc<AtomicU64>,
}

impl Slow {
    pub fn start(address: SocketAddr, answer: Duration) -> Self {
        let lines = Arc::<AtomicU64>::default();
        let count = Arc::clone(&lines);
        let listener = TcpListener::bind(address).expect("a port of our own");
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let count = Arc::clone(&count);
                thread::spawn(move || serve(stream, answer, &count));
            }
        });
        Self { lines }
    }
}

/// Until the other end closes.
fn serve(stream: TcpStream, answer: Duration, count: &AtomicU64) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut stream = BufReader::new(stream);
    let mut body = Vec::new();
    loop {
        let (mut length, mut asks) = (0, false);
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line)? == 0 {
                return Ok(());
            }
            let line = line.trim_end().to_lowercase();
            if let Some(value) = line.strip_prefix("content-length: ") {
                length = value.parse().unwrap_or(0);
            }
            asks |= line.starts_with("expect: ");
            if line.is_empty() {
                break;
            }
        }
        if asks {
            stream.get_mut().write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        body.resize(length, 0);
        stream.read_exact(&mut body)?;
        thread::sleep(answer);
        stream.get_mut().write_all(b"HTTP/1.1 204 No Content\r\n\r\n")?;
        let lines = body.iter().filter(|byte| **byte == b'\n').count();
        count.fetch_add(lines as u64, Ordering::Relaxed);
    }
}
