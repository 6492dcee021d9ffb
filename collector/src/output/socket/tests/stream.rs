//! Streams: what arrives, what comes again, and readers that stand still.

use super::*;

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
        let (mut before, mut since) = (0, Instant::now());
        while before == 0 || since.elapsed() < Duration::from_millis(500) {
            thread::sleep(Duration::from_millis(50));
            let now = peeked(&stream);
            if now != before {
                (before, since) = (now, Instant::now());
            }
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
        // The shortest of three: the machine may stand still.
        let mut soon = || {
            let began = Instant::now();
            let soon = began + Duration::from_millis(100);
            assert!(output.deliver(&mut parcel, Some(soon)).is_err());
            began.elapsed()
        };
        let took = (0..3).map(|_| soon()).min().unwrap();
        assert!(took < SECOND, "the deadline is kept: {took:?}");
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
