//! The readers.

use std::io::Write;
use std::net::{TcpStream, UdpSocket};
use std::os::unix::net::{UnixDatagram, UnixStream};
use system_tests::Stored;
use system_tests::port::is_closed;
use system_tests::readers::Reader;
use system_tests::wait;

#[test]
fn a_stream_is_cut_into_lines_wherever_it_was_read() {
    let reader = Reader::tcp();
    let mut a = TcpStream::connect(reader.address()).unwrap();
    let mut b = TcpStream::connect(reader.address()).unwrap();
    a.write_all(b"t v=1i 1\nt v=").unwrap();
    wait::until("a line", || reader.count() == 1);
    b.write_all(b"t v=2i 2\nu v=9i 2\n").unwrap();
    wait::until("two lines more", || reader.count() == 3);
    a.write_all(b"3i 3\nt v=4").unwrap();
    drop(a);
    wait::until("the torn line", || !reader.taken().torn.is_empty());
    let taken = reader.taken();
    assert_eq!((taken.lines, taken.pieces, &*taken.torn[0]), (4, 2, &b"t v=4"[..]));
    assert_eq!(reader.numbers("t", "v"), [1, 2, 3]);
}

#[test]
fn a_killed_reader_is_gone_and_comes_back_where_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    for tcp in [true, false] {
        let mut reader = if tcp { Reader::tcp() } else { Reader::unix(path.clone()) };
        let connect = |reader: &Reader| -> Box<dyn Write> {
            match tcp {
                true => Box::new(TcpStream::connect(reader.address()).unwrap()),
                false => Box::new(UnixStream::connect(&path).unwrap()),
            }
        };
        let mut sender = connect(&reader);
        sender.write_all(b"one\n").unwrap();
        wait::until("a line", || reader.count() == 1);
        reader.kill();
        assert!(if tcp {
            is_closed(reader.address())
        } else {
            UnixStream::connect(&path).is_err()
        });
        wait::until("the sender to notice", || sender.write_all(b"lost\n").is_err());
        reader.restart();
        connect(&reader).write_all(b"two\n").unwrap();
        wait::until("another line", || reader.count() == 2);
        assert_eq!(reader.taken().text, b"one\ntwo\n");
    }
}

#[test]
fn datagrams_are_counted_and_their_lines() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let unixgram = Reader::unixgram(path.clone()).counting();
    let udp = Reader::udp();
    let (a, b) = (UnixDatagram::unbound().unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap());
    for bytes in [&b"one\ntwo\n"[..], b"three\ntor"] {
        a.send_to(bytes, &path).unwrap();
        b.send_to(bytes, udp.address()).unwrap();
    }
    for reader in [&unixgram, &udp] {
        wait::until("two datagrams", || reader.taken().pieces == 2);
        let taken = reader.taken();
        assert_eq!((taken.lines, taken.longest, &*taken.torn[0]), (3, 9, &b"tor"[..]));
    }
    assert!(unixgram.taken().text.is_empty(), "it counts, and keeps nothing");
    drop(unixgram);
    assert!(a.send_to(b"x\n", &path).is_err());
}
