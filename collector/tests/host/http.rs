//! To a server over HTTP.

use crate::process::{Running, collector, folder, run};
use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread;
use std::time::{Duration, Instant};

#[test]
fn a_token_is_sent_and_not_logged_at_any_level() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let (mut request, mut buffer) = (String::new(), [0; 1 << 16]);
        // Several requests may come; the collector closes at its end.
        loop {
            let length = stream.read(&mut buffer).unwrap();
            if length == 0 {
                return request;
            }
            let part = String::from_utf8_lossy(&buffer[..length]).into_owned();
            request += &part;
            if part.ends_with('\n') && !part.ends_with("\r\n\r\n") {
                stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").unwrap();
            }
        }
    });
    // Long enough that a dump in rows of 16 bytes shows it.
    let secret = "s3cret-".repeat(8);
    let dir = folder(&["good"]);
    let (config, token) = (dir.path().join("c.toml"), dir.path().join("token"));
    fs::write(&token, &secret).unwrap();
    let text = format!(
        "interval = \"100ms\"\nlog = \"trace\"\n[[output]]\nkind = \"influxdb2\"\nurl = \"{url}\"\n\
         org = \"o\"\nbucket = \"b\"\ngzip = false\ntoken_file = \"{}\"\n",
        token.display()
    );
    fs::write(&config, text).unwrap();
    let ended = run(dir.path(), &["--config", config.to_str().unwrap(), "--ticks", "1"]);
    let request = server.join().unwrap();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(request.contains(&format!(": Token {secret}\r\n")), "{request}");
    assert!(request.contains("\ngood,"), "{request}");
    assert!(ended.stderr.contains("trace: ureq: "), "{}", ended.stderr);
    assert!(!ended.stderr.contains("s3cret"), "{}", ended.stderr);
}

/// A server that lets in who has the token `right`, until the process ends.
fn server() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            thread::spawn(move || {
                let mut request = [0; 1 << 16];
                while let Ok(length @ 1..) = stream.read(&mut request) {
                    let right = String::from_utf8_lossy(&request[..length]).contains("Token right");
                    let answer = match right {
                        true => "HTTP/1.1 204 No Content\r\n\r\n",
                        false => "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n",
                    };
                    stream.write_all(answer.as_bytes()).unwrap();
                }
            });
        }
    });
    url
}

#[test]
fn a_corrected_token_counts_within_seconds_and_at_once_on_sighup() {
    let url = server();
    for sighup in [false, true] {
        let dir = folder(&["good"]);
        let (config, token) = (dir.path().join("c.toml"), dir.path().join("token"));
        fs::write(&token, "wrong").unwrap();
        let text = format!(
            "interval = \"100ms\"\n[[output]]\nkind = \"influxdb2\"\nurl = \"{url}\"\n\
             org = \"o\"\nbucket = \"b\"\nbatch_time = \"10ms\"\ntoken_file = \"{}\"\n",
            token.display()
        );
        fs::write(&config, text).unwrap();
        let running =
            Running::start(collector(dir.path(), &["--config", config.to_str().unwrap()]));
        running.wait_for("correct the token");
        fs::write(&token, "right").unwrap();
        let corrected = Instant::now();
        if sighup {
            running.signal("HUP");
        }
        running.wait_for("works again");
        // An attempt is due once in a minute; the rest is for a busy machine.
        let took = corrected.elapsed();
        assert!(took < Duration::from_secs(30), "{took:?}");
        println!("TABLE: from a corrected token to its use, SIGHUP {sighup}: {took:.1?}");
        running.signal("TERM");
        assert_eq!(running.end().code, Some(0));
    }
}
