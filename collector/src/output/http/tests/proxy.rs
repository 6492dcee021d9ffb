//! A proxy on the way.

use super::super::Proxy;
use super::tls::authority;
use super::*;
use crate::output::secret::Secret;
use crate::trust::testing::write_secret;
use std::fs;
use std::io::{BufRead, BufReader, Write, copy};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

fn through(config: &mut HttpConfig, proxy: &str, password: Option<&std::path::Path>) {
    let auth = password.map_or(Auth::None, |file| Auth::Basic {
        username: "me".into(),
        password: Secret::File(file.into()),
    });
    config.proxy = Some(Proxy { url: proxy.to_owned(), auth });
}

#[test]
fn a_request_without_tls_is_handed_to_the_proxy_as_it_is() {
    let proxy = Server::start(|_| Reaction::status(204));
    let mut config = config(&proxy);
    config.urls = vec!["http://influx.invalid:8086/x".to_owned()];
    through(&mut config, &proxy.url(), None);
    let mut output = open(&config).unwrap();
    let long = lines(200_000); // more than one buffer, and asked for with `Expect`
    config.gzip = false;
    for batch in [lines(10), lines(20)] {
        output.deliver(&mut parcel(&[batch]), None).unwrap();
    }
    open(&config).unwrap().deliver(&mut parcel(&[&long]), None).unwrap();
    let requests = proxy.requests();
    for request in requests.iter() {
        let line = "POST http://influx.invalid:8086/x/write?db=db&precision=ns HTTP/1.1";
        assert_eq!(request.head[0], line);
        assert_eq!(request.header("host"), Some("influx.invalid:8086"));
        assert_eq!(request.header("proxy-authorization"), None);
    }
    assert_eq!((&requests[0].body, &requests[1].body), (&lines(10), &lines(20)));
    assert_eq!((requests[0].connection, requests[1].connection), (0, 0));
    assert!(requests[2..].iter().map(|r| &*r.body).collect::<String>() == long);
}

#[test]
fn a_proxy_that_wants_a_password_gets_it_also_when_it_changes() {
    let proxy = Server::start(|request| match request.header("proxy-authorization") {
        Some("Basic bWU6bmV3") => Reaction::status(204),
        _ => Reaction::status(407),
    });
    let dir = tempfile::tempdir().unwrap();
    let password = dir.path().join("password");
    write_secret(&password, "old");
    let mut config = config(&proxy);
    config.urls = vec!["http://influx.invalid:8086".to_owned()];
    through(&mut config, &proxy.url(), Some(&password));
    let mut output = open(&config).unwrap();
    let why = held(output.deliver(&mut parcel(&["a v=1 1\n"]), None));
    assert!(why.contains(&proxy.url()) && why.contains("correct `proxy_username`"), "{why}");
    write_secret(&password, "new");
    output.deliver(&mut parcel(&["a v=1 1\n"]), None).unwrap();
}

/// Connects whoever has the right to a server, and keeps what it was asked with. It ends with the test's
/// process.
fn tunnel(to: SocketAddr, right: &'static str) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let asked = Arc::new(Mutex::new(Vec::new()));
    let asks = Arc::clone(&asked);
    thread::spawn(move || {
        for client in listener.incoming() {
            let mut client = client.unwrap();
            let head = BufReader::new(client.try_clone().unwrap()).lines();
            let head: Vec<String> =
                head.map(Result::unwrap).take_while(|line| !line.is_empty()).collect();
            let head = head.join("\n");
            let allowed = head.contains(right);
            asks.lock().unwrap().push(head);
            if !allowed {
                let _ = client.write_all(b"HTTP/1.1 407 Who are you?\r\nContent-Length: 0\r\n\r\n");
                continue;
            }
            client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
            let server = TcpStream::connect(to).unwrap();
            let (mut from, mut back) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            thread::spawn(move || copy(&mut from, &mut &server));
            thread::spawn(move || copy(&mut back, &mut client));
        }
    });
    (url, asked)
}

#[test]
fn a_request_with_tls_goes_through_a_tunnel() {
    let (ca, tls) = authority("ours", "influx.invalid");
    let server = Server::with(|_| Reaction::status(204), Some(tls), None);
    let address = SocketAddr::from(([127, 0, 0, 1], server.port()));
    let (url, asked) = tunnel(address, "Proxy-Authorization: Basic bWU6YTpiL0AlICM=");
    let dir = tempfile::tempdir().unwrap();
    let (password, ca_file) = (dir.path().join("password"), dir.path().join("ca"));
    write_secret(&password, "old");
    fs::write(&ca_file, ca).unwrap();
    let mut config = config(&server);
    config.urls = vec!["https://influx.invalid".to_owned()];
    config.ca_file = Some(ca_file);
    through(&mut config, &url, Some(&password));
    let mut output = open(&config).unwrap();
    let why = held(output.deliver(&mut parcel(&["a v=1 1\n"]), None));
    assert!(why.contains(&url) && why.contains("correct `proxy_username`"), "{why}");
    write_secret(&password, "a:b/@% #");
    for _ in 0..2 {
        output.deliver(&mut parcel(&["a v=1 1\n"]), None).unwrap();
    }
    let requests = server.requests();
    assert_eq!(requests.iter().map(|r| r.connection).collect::<Vec<_>>(), [0, 0]);
    assert_eq!(requests[0].head[0], "POST /write?db=db&precision=ns HTTP/1.1");
    assert_eq!(requests[0].header("proxy-authorization"), None, "the server is not the proxy");
    let asked = asked.lock().unwrap();
    assert!(asked[0].starts_with("CONNECT influx.invalid:443 HTTP/1.1"), "{}", asked[0]);
}

#[test]
fn a_proxy_that_is_not_there_is_named() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    for to in ["http://influx.invalid:8086", "https://influx.invalid"] {
        let server = Server::start(|_| Reaction::status(204));
        let mut config = config(&server);
        config.urls = vec![to.to_owned()];
        through(&mut config, &url, None);
        let (why, _) = later(open(&config).unwrap().deliver(&mut parcel(&["a v=1 1\n"]), None));
        assert!(why.contains("refused") && why.contains(&url), "{to}: {why}");
    }
}
