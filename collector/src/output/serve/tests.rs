//! The server with real sockets: what it answers, and what those get who mean it no good.

use super::address::{Listen, Listener};
use super::request::Access;
use super::server::{Server, Stop};
use super::store::Store;
use super::store::testing::add;
use super::tls::ServerCert;
use super::tls::testing::Authority;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use tempfile::TempDir;

mod tls;

struct Rig {
    path: PathBuf,
    store: Arc<Mutex<Store>>,
    stop: Option<Stop>,
    thread: Option<JoinHandle<()>>,
    _dir: TempDir,
}

impl Rig {
    fn start() -> Self {
        Self::with(None)
    }

    fn with(cert: Option<Arc<ServerCert>>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let listener = Listener::open(&Listen::Unix(path.clone())).unwrap();
        let store = Arc::new(Mutex::new(Store::new(30_000)));
        let access = Access { loopback: true, token: None, tls: cert.is_some() };
        let (server, stop) = Server::new(listener, access, cert, Arc::clone(&store)).unwrap();
        let thread = Some(thread::spawn(|| server.run()));
        Self { path, store, stop: Some(stop), thread, _dir: dir }
    }

    fn connect(&self) -> UnixStream {
        let stream = UnixStream::connect(&self.path).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream
    }

    /// The answer to some bytes, until the end of the connection.
    fn say(&self, bytes: &[u8]) -> String {
        let mut stream = self.connect();
        let _ = stream.write_all(bytes);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).into_owned()
    }

    fn get(&self, path: &str) -> String {
        self.say(
            format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                .as_bytes(),
        )
    }

    /// Many series with histograms.
    fn fill(&self, series: usize) {
        let line = |n| {
            format!(
                "w,s={n} count=3u,sum_us=9u,max_us=4i,bucket_0_2=1u,bucket_4_8=2u,interval_ns=1i 1\n"
            )
        };
        let text: String = (0..series).map(line).collect();
        add(&mut self.store.lock().unwrap(), &text);
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        drop(self.stop.take());
        self.thread.take().unwrap().join().unwrap();
    }
}

/// A body that came in chunks.
fn unchunked(answer: &str) -> String {
    let (head, mut rest) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.contains("Transfer-Encoding: chunked"), "{head}");
    let mut body = String::new();
    loop {
        let (length, after) = rest.split_once("\r\n").unwrap();
        let length = usize::from_str_radix(length, 16).unwrap();
        if length == 0 {
            assert_eq!(after, "\r\n");
            return body;
        }
        body += &after[..length];
        rest = after[length..].strip_prefix("\r\n").unwrap();
    }
}

#[test]
fn everything_that_is_there_is_answered() {
    let rig = Rig::start();
    rig.fill(3);
    for (path, status, words) in [
        ("/", 200, "<!doctype html>"),
        ("/healthz", 200, ""),
        ("/metrics", 200, "w_us_bucket{s=\"0\",le=\"2\"} 1"),
        ("/api/tables", 200, "\"name\":\"w\""),
        ("/api/series?table=w", 200, "\"count\":3"),
        ("/api/series?table=x", 404, "no table"),
        ("/api/series", 400, "table=NAME is missing"),
        ("/nothing", 404, "/metrics"),
    ] {
        let answer = rig.get(path);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{path}: {answer}");
        assert!(
            answer.contains(words) && answer.contains("Cache-Control: no-store\r\n"),
            "{path}: {answer}"
        );
    }
    let page = rig.get("/");
    assert!(
        page.contains("Content-Security-Policy: default-src 'none'; script-src 'sha256-"),
        "{}",
        &page[..900]
    );
    // Several requests on one connection, sent at once; a head alone.
    let one = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let all = format!(
        "{}HEAD /metrics HTTP/1.1\r\nHost: localhost\r\n\r\nGET /metrics HTTP/1.0\r\n\r\n",
        one.repeat(40)
    );
    let answer = rig.say(all.as_bytes());
    assert_eq!(answer.matches("HTTP/1.1 200 OK\r\n").count(), 42);
    assert!(answer.ends_with("w_us_count{s=\"2\"} 3\n"), "{answer}");
}

#[test]
fn a_long_answer_comes_whole() {
    let rig = Rig::start();
    rig.fill(2000);
    let body = unchunked(&rig.get("/metrics"));
    assert_eq!(body.matches("le=\"+Inf\"} 3\n").count(), 2000);
    assert_eq!(body.matches("# TYPE w_us histogram\n").count(), 1);
    assert!(body.len() > 4 << 20, "{}", body.len());
}

#[test]
fn bad_requests_get_a_sentence_and_the_next_one_an_answer() {
    let rig = Rig::start();
    let mut random = fastrand::Rng::with_seed(7);
    for (bytes, status) in [
        (&b"\x16\x03\x01\x02\x00"[..], 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"POST /metrics HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\nabc", 405),
        (b"GET /metrics HTTP/1.1\r\nHost: evil.example\r\n\r\n", 403),
        (b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nOrigin: http://evil.example\r\nConnection: close\r\n\r\n", 403),
        (b"GET / HTTP/3\r\n\r\n", 505),
    ] {
        let mut stream = rig.connect();
        stream.write_all(bytes).unwrap();
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(str::from_utf8(&answer).unwrap(), format!("HTTP/1.1 {status}"), "{bytes:?}");
    }
    let long = format!("GET / HTTP/1.1\r\nHost: localhost\r\n{}", "A: b\r\n".repeat(5000));
    assert!(rig.say(long.as_bytes()).starts_with("HTTP/1.1 431 "));
    let valid = "GET /api/series?table=w&limit=3 HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\nConnection: close\r\n\r\n";
    for _ in 0..2000 {
        let mut bytes = valid.as_bytes().to_vec();
        for _ in 0..random.usize(1..6) {
            match random.u8(0..3) {
                0 => _ = bytes.remove(random.usize(0..bytes.len())),
                1 => bytes.insert(random.usize(0..bytes.len()), random.u8(..)),
                _ => {
                    let at = random.usize(0..bytes.len());
                    bytes[at] = random.u8(..);
                }
            }
        }
        let mut stream = rig.connect();
        let _ = stream.write_all(&bytes);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 "), "{bytes:?}");
    }
    assert!(rig.get("/healthz").starts_with("HTTP/1.1 200 "));
}

#[test]
fn ten_thousand_slow_connections_and_readers_that_stand_still_keep_nobody_away() {
    let rig = Rig::start();
    rig.fill(2000);
    // They ask for 17 MB and never read.
    let mut still: Vec<UnixStream> = Vec::new();
    for _ in 0..20 {
        let mut stream = rig.connect();
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        still.push(stream);
    }
    let mut slow = std::collections::VecDeque::new();
    let mut longest = Duration::ZERO;
    for n in 0..10_000 {
        let mut stream = rig.connect();
        let _ = stream.write_all(b"GET / HT");
        slow.push_back(stream);
        if slow.len() > 400 {
            slow.pop_front();
        }
        if n % 500 == 0 {
            let began = Instant::now();
            assert!(rig.get("/healthz").starts_with("HTTP/1.1 200 "), "after {n}");
            longest = longest.max(began.elapsed());
        }
    }
    println!("the longest answer took {longest:?}");
    assert!(longest < Duration::from_secs(5), "{longest:?}");
    let body = unchunked(&rig.get("/metrics"));
    assert_eq!(body.matches("le=\"+Inf\"} 3\n").count(), 2000);
}

#[test]
fn one_that_sends_too_slowly_is_closed() {
    let rig = Rig::start();
    let mut stream = rig.connect();
    stream.write_all(b"GET / HTTP/1.1\r\n").unwrap();
    let began = Instant::now();
    assert_eq!(stream.read(&mut [0; 1]).unwrap_or(0), 0);
    assert!((4..15).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
}
