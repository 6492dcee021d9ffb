//! Sockets with both ends in this process.

use super::*;
use crate::output::parcel::testing::parcel;
use crate::output::{Cause, Failure, Parcel};
use std::fs;
use std::io::Read;
use std::net::{TcpListener, UdpSocket};
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::Path;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;

const SECOND: Duration = Duration::from_secs(1);

/// A folder with a path for a socket.
fn place() -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("socket");
    (dir, path)
}

/// Batches of numbered lines, 1 to 97 bytes each before the newline.
fn numbered(batches: usize, lines: usize) -> Vec<String> {
    let line = |i: usize| format!("{i}{}\n", "x".repeat(i * 7 % 91));
    (0..batches).map(|batch| (0..lines).map(|i| line(batch * lines + i)).collect()).collect()
}

fn output(config: SocketConfig) -> Box<dyn Output> {
    open(&config).unwrap()
}

fn unixgram(path: &Path, datagram_bytes: usize) -> Box<dyn Output> {
    output(SocketConfig::Unixgram { path: path.to_owned(), datagram_bytes })
}

fn udp(address: impl ToString, datagram_bytes: usize) -> Box<dyn Output> {
    output(SocketConfig::Udp { address: address.to_string(), datagram_bytes })
}

/// Delivers all, as an output's thread does, however often it takes.
fn deliver(output: &mut dyn Output, parcel: &mut Parcel) {
    let end = Instant::now() + 20 * SECOND;
    while !parcel.is_done() {
        assert!(Instant::now() < end, "{} lines are left", parcel.lines());
        if output.deliver(parcel, None).is_err() {
            thread::sleep(Duration::from_millis(10));
        }
    }
}

/// What an attempt failed with.
fn failure(output: &mut dyn Output, parcel: &mut Parcel) -> String {
    match output.deliver(parcel, None) {
        Err(Failure::Later { why, .. }) => format!("{why:#}"),
        other => panic!("{other:?}"),
    }
}

/// Sends until the reader stands still; what the buffers take on the way is no standstill.
fn stand_still(output: &mut dyn Output, parcel: &mut Parcel) -> String {
    let end = Instant::now() + 20 * SECOND;
    loop {
        assert!(Instant::now() < end, "it never stands still");
        match output.deliver(parcel, None) {
            Ok(()) => {}
            Err(Failure::Later { why, after: Some(Duration::ZERO) }) => return why.to_string(),
            other => panic!("{other:?}"),
        }
    }
}

/// Lines delivered, and refused as too long.
fn fate(parcel: &mut Parcel) -> (u64, u64) {
    parcel.items().iter().fold((0, 0), |(delivered, refused), item| {
        (delivered + item.fate.delivered, refused + item.fate.dropped[Cause::TooLong])
    })
}

/// Reads a stream to its end.
fn rest(mut stream: impl Read) -> String {
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

/// Takes one connection and reads it to its end.
fn reader<S: Read>(accept: impl FnOnce() -> S + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = channel();
    thread::spawn(move || sender.send(rest(accept())).unwrap());
    receiver
}

fn unix_reader(listener: UnixListener) -> Receiver<String> {
    reader(move || listener.accept().unwrap().0)
}

fn tcp_reader(listener: TcpListener) -> Receiver<String> {
    reader(move || listener.accept().unwrap().0)
}

#[test]
fn a_stream_gets_every_line_once_and_in_order() {
    let batches = numbered(40, 2000);
    let (_dir, path) = place();
    let unix = unix_reader(UnixListener::bind(&path).unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let tcp = tcp_reader(listener);
    for (config, reader) in [(SocketConfig::Unix(path), unix), (SocketConfig::Tcp(address), tcp)] {
        let mut output = output(config);
        for _ in 0..3 {
            let mut parcel = parcel(&batches);
            deliver(&mut *output, &mut parcel);
            assert_eq!(fate(&mut parcel), (80_000, 0));
        }
        drop(output);
        assert!(reader.recv().unwrap() == batches.concat().repeat(3));
    }
}

/// What two readers had, one after the other: lines of the first one may be there again, from the start
/// of a line, but no more than so many bytes; none may be missing.
fn assert_nothing_is_missing(first: &str, second: &str, all: &str, buffers: usize) {
    assert!(all.starts_with(first), "the first reader had something else");
    assert!(all.ends_with(second), "the second reader had something else");
    let begins = all.len() - second.len();
    assert!(begins == 0 || all.as_bytes()[begins - 1] == b'\n', "a torn line");
    assert!(begins <= first.len(), "{} bytes are missing", begins.saturating_sub(first.len()));
    assert!(first.len() - begins <= buffers, "{} bytes came again", first.len() - begins);
}

#[test]
fn what_a_unix_reader_had_not_read_when_it_was_killed_is_sent_again() {
    let batches = numbered(40, 2000);
    for read in [0, 1, 5000, 30_000, 250_001, 1_000_000] {
        let (_dir, path) = place();
        let listener = UnixListener::bind(&path).unwrap();
        let readers = thread::spawn(move || {
            let mut first = vec![0; read];
            let mut stream = listener.accept().unwrap().0;
            stream.read_exact(&mut first).unwrap();
            // Closes with the rest unread, as it is for a process that is killed.
            drop(stream);
            (String::from_utf8(first).unwrap(), rest(listener.accept().unwrap().0))
        });
        let mut output = output(SocketConfig::Unix(path));
        let mut parcel = parcel(&batches);
        deliver(&mut *output, &mut parcel);
        drop(output);
        let (first, second) = readers.join().unwrap();
        assert_nothing_is_missing(&first, &second, &batches.concat(), 300_000);
        assert_eq!(fate(&mut parcel), (80_000, 0));
    }
}

#[test]
fn lines_in_a_socket_that_nobody_accepted_are_sent_again() {
    let (_dir, path) = place();
    let listener = UnixListener::bind(&path).unwrap();
    let mut output = output(SocketConfig::Unix(path.clone()));
    let mut parcel = parcel(&["a\n"]);
    assert_eq!(stand_still(&mut *output, &mut parcel), "its reader has read nothing for 2 s");
    drop(listener);
    fs::remove_file(&path).unwrap();
    let reader = unix_reader(UnixListener::bind(&path).unwrap());
    deliver(&mut *output, &mut parcel);
    drop(output);
    assert_eq!(reader.recv().unwrap(), "a\n");
}

#[test]
fn what_a_tcp_peer_had_not_acknowledged_is_sent_again_from_the_start_of_a_line() {
    let batches = numbered(200, 2000);
    let all = batches.concat();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let readers = thread::spawn(move || {
        let mut first = vec![0; 100_001];
        let mut stream = listener.accept().unwrap().0;
        stream.read_exact(&mut first).unwrap();
        // Until its kernel takes no more, so that there is more to be lost than that acknowledged.
        let peeked = |stream: &std::net::TcpStream| stream.peek(&mut vec![0; 8 << 20]).unwrap();
        let mut before = 0;
        loop {
            thread::sleep(Duration::from_millis(50));
            let now = peeked(&stream);
            if now == before {
                break;
            }
            before = now;
        }
        drop(stream);
        (first.len() + before, rest(listener.accept().unwrap().0))
    });
    let mut output = output(SocketConfig::Tcp(address));
    deliver(&mut *output, &mut parcel(&batches));
    drop(output);
    let (acknowledged, second) = readers.join().unwrap();
    // The other kernel threw away what its process had not read: that nobody can know.
    assert_nothing_is_missing(&all[..acknowledged], &second, &all, 8 << 20);
}

#[test]
fn a_reader_that_stands_still_is_a_failure_and_then_gets_every_line_once() {
    let (_dir, path) = place();
    let unix = UnixListener::bind(&path).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let batches = numbered(200, 2000);
    let all = batches.concat();
    type Accept = Box<dyn FnOnce() -> Receiver<String>>;
    let accepts: [(SocketConfig, Accept); 2] = [
        (SocketConfig::Unix(path), Box::new(move || unix_reader(unix))),
        (SocketConfig::Tcp(address), Box::new(move || tcp_reader(listener))),
    ];
    for (config, accept) in accepts {
        let mut output = output(config);
        let mut parcel = parcel(&batches);
        assert_eq!(stand_still(&mut *output, &mut parcel), "its reader has read nothing for 2 s");
        let began = Instant::now();
        let soon = began + Duration::from_millis(100);
        assert!(output.deliver(&mut parcel, Some(soon)).is_err());
        assert!(began.elapsed() < SECOND, "the deadline is kept: {:?}", began.elapsed());
        let reader = accept();
        deliver(&mut *output, &mut parcel);
        drop(output);
        assert!(reader.recv().unwrap() == all);
        assert_eq!(fate(&mut parcel), (400_000, 0));
    }
}

#[test]
fn lines_that_a_slow_reader_has_are_delivered_and_no_others() {
    let (_dir, path) = place();
    let listener = UnixListener::bind(&path).unwrap();
    let mut output = output(SocketConfig::Unix(path));
    let batches = numbered(10, 2000);
    let mut parcel = parcel(&batches);
    let soon = || Some(Instant::now() + Duration::from_millis(100));
    assert!(output.deliver(&mut parcel, soon()).is_err());
    assert_eq!(fate(&mut parcel).0, 0, "nothing is read");
    let mut stream = listener.accept().unwrap().0;
    let mut text = vec![0; 200_000];
    stream.read_exact(&mut text).unwrap();
    assert!(output.deliver(&mut parcel, soon()).is_err());
    let read = memchr::memchr_iter(b'\n', &text).count() as u64;
    let delivered = fate(&mut parcel).0;
    // The kernel counts packets of 32 KiB, and memory around them.
    assert!(delivered <= read && delivered + 2000 > read, "{delivered} delivered, {read} read");
}

#[test]
fn a_reader_that_comes_later_or_is_started_anew_gets_its_lines() {
    let (_dir, path) = place();
    let mut output = output(SocketConfig::Unix(path.clone()));
    let mut first = parcel(&["a\n"]);
    assert!(failure(&mut *output, &mut first).contains("nobody has made the socket yet"));
    let listener = UnixListener::bind(&path).unwrap();
    let reader = thread::spawn(move || {
        let mut text = [0; 2];
        listener.accept().unwrap().0.read_exact(&mut text).unwrap();
        text
    });
    deliver(&mut *output, &mut first);
    assert_eq!(&reader.join().unwrap(), b"a\n");
    let mut second = parcel(&["b\n"]);
    output.deliver(&mut second, None).unwrap(); // notices
    assert!(failure(&mut *output, &mut second).contains("nobody listens on the socket"));
    fs::remove_file(&path).unwrap();
    let reader = unix_reader(UnixListener::bind(&path).unwrap());
    deliver(&mut *output, &mut second);
    drop(output);
    assert_eq!(reader.recv().unwrap(), "b\n");
}

#[test]
fn a_reader_that_left_after_reading_everything_loses_and_repeats_nothing() {
    let (_dir, path) = place();
    let listener = UnixListener::bind(&path).unwrap();
    let mut output = output(SocketConfig::Unix(path));
    let (sender, left) = channel();
    let reader = thread::spawn(move || {
        let mut texts = Vec::new();
        for _ in 0..50 {
            let mut text = [0; 4];
            listener.accept().unwrap().0.read_exact(&mut text).unwrap();
            texts.push(text);
            sender.send(()).unwrap();
        }
        texts.concat()
    });
    let lines: Vec<String> = (0..50).map(|i| format!("a{i:02}\n")).collect();
    for line in &lines {
        deliver(&mut *output, &mut parcel(&[line]));
        left.recv().unwrap();
    }
    assert_eq!(reader.join().unwrap(), lines.concat().into_bytes());
}

#[test]
fn a_socket_that_nobody_accepts_does_not_hang() {
    let (_dir, path) = place();
    let _listener = UnixListener::bind(&path).unwrap();
    let mut waiting = Vec::new();
    loop {
        let began = Instant::now();
        let mut output = output(SocketConfig::Unix(path.clone()));
        let result = output.deliver(&mut parcel(&["a\n"]), Some(began));
        assert!(began.elapsed() < SECOND);
        let Err(Failure::Later { why, .. }) = result else { panic!("{result:?}") };
        waiting.push(output);
        if why.to_string().contains("too many wait to be accepted") {
            break;
        }
        assert!(waiting.len() < 10_000, "{why}");
    }
}

#[test]
fn every_address_of_a_name_is_tried() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let reader = tcp_reader(listener);
    // Where this is ::1 first, nobody listens there.
    let mut output = output(SocketConfig::Tcp(format!("localhost:{port}")));
    deliver(&mut *output, &mut parcel(&["a\n"]));
    drop(output);
    assert_eq!(reader.recv().unwrap(), "a\n");

    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut output = udp(format!("localhost:{}", socket.local_addr().unwrap().port()), 1432);
    deliver(&mut *output, &mut parcel(&["a\n"]));
    assert_eq!(datagrams(|buffer| socket.recv(buffer), 1), ["a\n"]);
}

#[test]
fn ipv6_is_an_address_like_any_other() {
    let Ok(listener) = TcpListener::bind("[::1]:0") else {
        return eprintln!("SKIPPED: no IPv6 on this machine");
    };
    let address = listener.local_addr().unwrap().to_string();
    let reader = tcp_reader(listener);
    let mut output = output(SocketConfig::Tcp(address));
    deliver(&mut *output, &mut parcel(&["a\n"]));
    drop(output);
    assert_eq!(reader.recv().unwrap(), "a\n");
    let socket = UdpSocket::bind("[::1]:0").unwrap();
    deliver(&mut *udp(socket.local_addr().unwrap(), 1432), &mut parcel(&["b\n"]));
    assert_eq!(datagrams(|buffer| socket.recv(buffer), 1), ["b\n"]);
}

#[test]
fn a_path_that_no_socket_can_have_is_refused_at_the_start() {
    let path = PathBuf::from(format!("/{}", "x".repeat(108)));
    let error = open(&SocketConfig::Unix(path)).err().unwrap().to_string();
    assert!(error.ends_with("is too long for a socket: 107 bytes at most"), "{error}");
}

#[test]
fn a_refused_connection_names_the_address() {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut output = output(SocketConfig::Tcp(address.to_string()));
    let why = failure(&mut *output, &mut parcel(&["a\n"]));
    assert!(why.contains(&format!("{address}: Connection refused")), "{why}");
}

#[test]
fn a_long_line_that_the_reader_closes_the_connection_at_is_refused_and_the_next_ones_arrive() {
    let (_dir, path) = place();
    let listener = UnixListener::bind(&path).unwrap();
    let reader = thread::spawn(move || {
        let mut text = String::new();
        loop {
            // As Telegraf does: closes the connection at a line that its buffer does not hold.
            let mut stream = listener.accept().unwrap().0;
            let mut buffer = Vec::new();
            while !buffer.ends_with(b"\n") && buffer.len() < 65_536 {
                let mut byte = [0; 4096];
                match stream.read(&mut byte).unwrap() {
                    0 => break,
                    n => buffer.extend_from_slice(&byte[..n]),
                }
            }
            if buffer.ends_with(b"z\n") {
                return text + std::str::from_utf8(&buffer).unwrap();
            }
            text +=
                if buffer.ends_with(b"\n") { std::str::from_utf8(&buffer).unwrap() } else { "" };
        }
    });
    let mut output = output(SocketConfig::Unix(path));
    let long = format!("{}\n", "x".repeat(100_000));
    let mut parcel = parcel(&["a\n", &long, "z\n"]);
    deliver(&mut *output, &mut parcel);
    assert_eq!(fate(&mut parcel), (2, 1));
    assert!(reader.join().unwrap().ends_with("z\n"));
}

/// A Unix datagram socket that does not wait for ever.
fn bind(path: &Path) -> UnixDatagram {
    let socket = UnixDatagram::bind(path).unwrap();
    socket.set_read_timeout(Some(10 * SECOND)).unwrap();
    socket
}

/// So many datagrams.
fn datagrams(recv: impl Fn(&mut [u8]) -> std::io::Result<usize>, count: usize) -> Vec<String> {
    let mut buffer = vec![0; 1 << 20];
    let text = |_| {
        let length = recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    };
    (0..count).map(text).collect()
}

#[test]
fn datagrams_hold_as_many_whole_lines_as_fit_and_a_longer_line_is_refused() {
    let (_dir, path) = place();
    let gram = bind(&path);
    let inet = UdpSocket::bind("127.0.0.1:0").unwrap();
    let batches = ["1\n22\n", "333\n4444\nmuch too long\n", "5\n", "also too long\n"];
    let expected = ["1\n22\n333\n", "4444\n", "5\n"];
    let mut output = unixgram(&path, 9);
    let mut parcels = [parcel(&batches), parcel(&batches)];
    let reader = thread::spawn(move || (datagrams(|buffer| gram.recv(buffer), 3), gram));
    deliver(&mut *output, &mut parcels[0]);
    assert_eq!(reader.join().unwrap().0, expected);
    deliver(&mut *udp(inet.local_addr().unwrap(), 9), &mut parcels[1]);
    assert_eq!(datagrams(|buffer| inet.recv(buffer), 3), expected);
    for parcel in &mut parcels {
        assert_eq!(fate(parcel), (5, 2));
    }
}

#[test]
fn every_datagram_that_a_unix_reader_had_not_read_when_it_was_killed_is_sent_again() {
    let batches = numbered(10, 1000);
    let all = batches.concat();
    let (_dir, path) = place();
    let gram = bind(&path);
    let mut output = unixgram(&path, 2000);
    let mut parcel = parcel(&batches);
    let why = stand_still(&mut *output, &mut parcel); // its queue is full
    assert_eq!(why, "its reader has read nothing for 2 s");
    assert_eq!(fate(&mut parcel).0, 0);
    let first = datagrams(|buffer| gram.recv(buffer), 3).concat();
    assert!(output.deliver(&mut parcel, Some(Instant::now())).is_err());
    drop(gram);
    output.deliver(&mut parcel, None).unwrap(); // notices
    assert!(failure(&mut *output, &mut parcel).contains("nobody listens"));
    fs::remove_file(&path).unwrap();
    let gram = bind(&path);
    let last = all.split_inclusive('\n').next_back().unwrap().to_owned();
    let done = thread::spawn(move || {
        let mut text = String::new();
        while !text.ends_with(&last) {
            text += &datagrams(|buffer| gram.recv(buffer), 1)[0];
        }
        (text, gram)
    });
    deliver(&mut *output, &mut parcel);
    assert_nothing_is_missing(&first, &done.join().unwrap().0, &all, 300_000);
}

#[test]
fn datagrams_that_wait_in_the_queue_of_a_reader_that_dies_are_not_delivered() {
    let (_dir, path) = place();
    let gram = bind(&path);
    let mut output = unixgram(&path, 10);
    let mut parcel = parcel(&["1\n", "22\n", "much longer\n", "333\n"]);
    assert!(output.deliver(&mut parcel, Some(Instant::now())).is_err());
    drop(gram);
    output.deliver(&mut parcel, None).unwrap(); // notices
    assert_eq!(fate(&mut parcel), (0, 0));
    assert!(failure(&mut *output, &mut parcel).contains("nobody listens"));
    fs::remove_file(&path).unwrap();
    let gram = bind(&path);
    let reader = thread::spawn(move || (datagrams(|buffer| gram.recv(buffer), 2), gram));
    deliver(&mut *output, &mut parcel);
    assert_eq!(reader.join().unwrap().0, ["1\n22\n", "333\n"]);
    assert_eq!(fate(&mut parcel), (3, 1));
}

#[test]
fn a_udp_datagram_that_was_refused_is_not_delivered() {
    let address = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut output = udp(address, 100);
    let mut parcel = parcel(&numbered(1, 100));
    for _ in 0..3 {
        assert!(failure(&mut *output, &mut parcel).contains("Connection refused"));
        assert_eq!(fate(&mut parcel).0, 0);
    }
    let socket = UdpSocket::bind(address).unwrap();
    socket.set_read_timeout(Some(10 * SECOND)).unwrap();
    deliver(&mut *output, &mut parcel);
    let mut text = String::new();
    while text.len() < numbered(1, 100).concat().len() {
        text += &datagrams(|buffer| socket.recv(buffer), 1)[0];
    }
    assert_eq!(text, numbered(1, 100).concat());
}

#[test]
fn datagrams_that_the_kernel_does_not_take_become_smaller() {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut output = udp(socket.local_addr().unwrap(), 70_000);
    let line = |length: usize| format!("{}\n", "x".repeat(length - 1));
    let lines = [line(40_000), line(26_000), line(66_000), line(65_507), line(10)];
    let mut parcel = parcel(&[lines.concat()]);
    let reader = thread::spawn(move || datagrams(|buffer| socket.recv(buffer), 4));
    deliver(&mut *output, &mut parcel);
    assert_eq!(fate(&mut parcel), (4, 1));
    let lengths: Vec<usize> = reader.join().unwrap().iter().map(String::len).collect();
    assert_eq!(lengths, [40_000, 26_000, 65_507, 10]);
}

#[test]
fn after_reopening_a_new_connection_is_made() {
    let (_dir, path) = place();
    let listener = UnixListener::bind(&path).unwrap();
    let reader = thread::spawn(move || [0, 1].map(|_| rest(listener.accept().unwrap().0)));
    let mut output = output(SocketConfig::Unix(path));
    deliver(&mut *output, &mut parcel(&["a\n"]));
    output.reopen();
    deliver(&mut *output, &mut parcel(&["b\n"]));
    drop(output);
    assert_eq!(reader.join().unwrap(), ["a\n", "b\n"]);
}
