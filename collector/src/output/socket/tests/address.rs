//! Connecting.

use super::*;

#[test]
fn a_socket_that_nobody_accepts_does_not_hang() {
    let (_dir, path) = place();
    let _listener = UnixListener::bind(&path).unwrap();
    let (mut waiting, mut slow) = (Vec::new(), 0);
    loop {
        let began = Instant::now();
        let mut output = output(SocketConfig::Unix(path.clone()));
        let result = output.deliver(&mut parcel(&["a\n"]), Some(began));
        // A machine may stand still now and then.
        slow += u32::from(began.elapsed() >= SECOND);
        assert!(slow < 5);
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
