//! The proxy.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};
use system_tests::contract::{Contract, V3};
use system_tests::faults::{Mode, Proxy};
use system_tests::port::is_closed;
use system_tests::readers::Reader;
use system_tests::wait;

/// Sends a request as it stands, and gives what comes back until the connection ends, and how it ended.
fn exchange(stream: &mut TcpStream, lines: &str) -> (String, Option<ErrorKind>) {
    let length = lines.len();
    let head = "POST /api/v3/write_lp?db=d&precision=nanosecond HTTP/1.1\r\nHost: x\r\n\
                Authorization: Bearer token-of-v3\r\n";
    let request = format!("{head}Content-Length: {length}\r\nConnection: close\r\n\r\n{lines}");
    stream.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    let mut answer = Vec::new();
    let end = stream.write_all(request.as_bytes()).and_then(|()| stream.read_to_end(&mut answer));
    (String::from_utf8(answer).unwrap(), end.err().map(|why| why.kind()))
}

fn fixture() -> (Contract, Proxy) {
    let server = Contract::v3(V3::default());
    let proxy = Proxy::tcp(server.address());
    (server, proxy)
}

#[test]
fn a_proxy_that_passes_is_not_noticed() {
    let (server, proxy) = fixture();
    let mut stream = TcpStream::connect(proxy.address()).unwrap();
    let (answer, end) = exchange(&mut stream, "t i=1i 1");
    assert!(answer.starts_with("HTTP/1.1 204") && end.is_none(), "{answer} {end:?}");
    assert_eq!((server.points(), proxy.hits()), (1, 0));
}

#[test]
fn a_closed_proxy_refuses_and_has_ended_what_there_was() {
    let (server, proxy) = fixture();
    let mut stream = TcpStream::connect(proxy.address()).unwrap();
    proxy.set(Mode::Closed);
    assert!(is_closed(proxy.address()));
    let (answer, end) = exchange(&mut stream, "t i=1i 1");
    assert!(answer.is_empty() && end.is_some(), "{answer} {end:?}");
    proxy.set(Mode::Pass);
    assert!(!is_closed(proxy.address()));
    assert_eq!(server.points(), 0);
}

#[test]
fn a_silent_proxy_takes_everything_and_never_answers() {
    let (server, proxy) = fixture();
    let mut before = TcpStream::connect(proxy.address()).unwrap();
    proxy.set(Mode::Silent);
    let mut after = TcpStream::connect(proxy.address()).unwrap();
    for stream in [&mut before, &mut after] {
        assert_eq!(exchange(stream, "t i=1i 1"), (String::new(), Some(ErrorKind::WouldBlock)));
    }
    assert_eq!((proxy.hits(), server.seen().len()), (2, 0));
    proxy.set(Mode::Pass);
    let mut byte = [0];
    let end = before.read(&mut byte).map_err(|why| why.kind());
    assert_eq!(end, Err(ErrorKind::ConnectionReset), "what was swallowed cannot be continued");
}

#[test]
fn a_cut_answer_is_cut_and_the_request_was_served() {
    let (server, proxy) = fixture();
    for after in [0, 10] {
        proxy.set(Mode::CutAnswer { after });
        let mut stream = TcpStream::connect(proxy.address()).unwrap();
        let (answer, end) = exchange(&mut stream, &format!("t i=1i {after}"));
        assert_eq!((&*answer, end), (&"HTTP/1.1 204"[..after], None));
        assert_eq!(proxy.hits(), 1);
    }
    assert_eq!(server.points(), 2);
}

#[test]
fn a_reset_request_never_arrives_whole() {
    let (server, proxy) = fixture();
    let mut stream = TcpStream::connect(proxy.address()).unwrap();
    proxy.set(Mode::ResetRequest { after: 200 });
    let lines: String = (0..100).map(|n| format!("t i=1i {n}\n")).collect();
    let (answer, end) = exchange(&mut stream, &lines);
    assert_eq!((&*answer, end), ("", Some(ErrorKind::ConnectionReset)));
    assert_eq!((proxy.hits(), server.points()), (1, 0));
    proxy.set(Mode::Pass);
    let (answer, _) = exchange(&mut TcpStream::connect(proxy.address()).unwrap(), &lines);
    assert!(answer.starts_with("HTTP/1.1 204"), "{answer}");
    assert_eq!(server.points(), 100);
}

#[test]
fn a_slow_proxy_takes_as_much_as_it_is_told() {
    let reader = Reader::tcp();
    let proxy = Proxy::tcp(reader.address());
    proxy.set(Mode::Slow { bytes_per_second: 50_000 });
    let mut stream = TcpStream::connect(proxy.address()).unwrap();
    let began = Instant::now();
    stream.write_all(&b"123456789\n".repeat(3_000)).unwrap();
    wait::until("all to arrive", || reader.count() == 3_000);
    let took = began.elapsed();
    assert!((550..2_000).contains(&took.as_millis()), "30 kB at 50 kB/s took {took:?}");
    proxy.set(Mode::Pass);
    stream.write_all(&b"123456789\n".repeat(3_000)).unwrap();
    wait::until("all to arrive", || reader.count() == 6_000);
}

#[test]
fn a_unix_stream_has_its_faults_too() {
    let folder = tempfile::tempdir().unwrap();
    let (here, there) = (folder.path().join("here"), folder.path().join("there"));
    let reader = Reader::unix(there.clone());
    let proxy = Proxy::unix(here.clone(), there);
    let connect = || std::os::unix::net::UnixStream::connect(&here);
    let mut stream = connect().unwrap();
    stream.write_all(b"one\n").unwrap();
    wait::until("a line", || reader.count() == 1);
    proxy.set(Mode::Closed);
    assert_eq!(connect().unwrap_err().kind(), ErrorKind::ConnectionRefused);
    assert_eq!(stream.write_all(b"two\n").unwrap_err().kind(), ErrorKind::BrokenPipe);
    proxy.set(Mode::ResetRequest { after: 6 });
    let mut stream = connect().unwrap();
    stream.write_all(b"three\nfour\n").unwrap();
    assert_eq!(stream.read(&mut [0]).unwrap_or_default(), 0, "the end");
    wait::until("the line that was cut", || !reader.taken().torn.is_empty() || reader.count() == 2);
    proxy.set(Mode::Pass);
    connect().unwrap().write_all(b"five\n").unwrap();
    wait::until("the last line", || reader.taken().text.ends_with(b"five\n"));
    assert_eq!(reader.taken().text, b"one\nthree\nfive\n");
}
