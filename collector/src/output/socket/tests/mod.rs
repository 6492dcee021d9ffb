//! Sockets with both ends in this process.

mod address;
mod datagram;
mod stream;

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

/// So many datagrams.
fn datagrams(recv: impl Fn(&mut [u8]) -> std::io::Result<usize>, count: usize) -> Vec<String> {
    let mut buffer = vec![0; 1 << 20];
    let text = |_| {
        let length = recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    };
    (0..count).map(text).collect()
}
