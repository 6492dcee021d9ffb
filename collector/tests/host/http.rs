//! To a server over HTTP.

use crate::process::{folder, run};
use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::thread;

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
    fs::set_permissions(&token, fs::Permissions::from_mode(0o600)).unwrap();
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
