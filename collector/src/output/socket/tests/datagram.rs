//! Datagrams.

use super::*;

/// A Unix datagram socket that does not wait for ever.
fn bind(path: &Path) -> UnixDatagram {
    let socket = UnixDatagram::bind(path).unwrap();
    socket.set_read_timeout(Some(10 * SECOND)).unwrap();
    socket
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
