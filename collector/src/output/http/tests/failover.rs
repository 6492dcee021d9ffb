//! Several URLs of one output.

use super::*;
use crate::output::Sent;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

/// A server whose answer can be changed.
fn server(status: &Arc<AtomicU16>) -> Server {
    let status = Arc::clone(status);
    Server::start(move |_| match status.load(Ordering::SeqCst) {
        0 => Reaction::silence(),
        status => Reaction::status(status),
    })
}

fn several(servers: &[&Server]) -> HttpConfig {
    let mut config = config(servers[0]);
    config.urls = servers.iter().map(|server| server.url()).collect();
    config
}

/// What went to which URL, all requests together: lines, and errors.
fn sent(parcels: &mut [Parcel], servers: &[&Server]) -> Vec<(u64, u64)> {
    let mut sums = vec![Sent::default(); servers.len()];
    for (url, sent) in parcels.iter_mut().flat_map(Parcel::take_sent) {
        let at = servers.iter().position(|server| server.url() == *url).unwrap();
        sums[at] += sent;
    }
    sums.iter().map(|sent| (sent.lines, sent.errors)).collect()
}

#[test]
fn whatever_is_wrong_with_one_url_the_next_gets_the_lines() {
    for status in [500, 503, 429, 404, 401, 0] {
        let (first, second) = (Arc::new(AtomicU16::new(status)), Arc::new(AtomicU16::new(204)));
        let (a, b) = (server(&first), server(&second));
        let mut config = several(&[&a, &b]);
        config.timeout = Duration::from_millis(if status == 0 { 300 } else { 20_000 });
        let mut output = open(&config).unwrap();
        let mut parcels = [parcel(&[lines(10)]), parcel(&[lines(20)])];
        for parcel in &mut parcels {
            output.deliver(parcel, None).unwrap();
        }
        assert_eq!(fates(&mut parcels[0]), (10, 0, 0), "{status}");
        let requests = (a.requests().len(), b.requests().len());
        assert_eq!(requests, (1, 2), "{status}: it stays where it works");
        assert_eq!(sent(&mut parcels, &[&a, &b]), [(0, 1), (30, 0)], "{status}");
    }
}

#[test]
fn a_closed_port_is_gone_around() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let closed = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let b = Server::start(|_| Reaction::status(204));
    let mut config = config(&b);
    config.urls = vec![closed, b.url()];
    open(&config).unwrap().deliver(&mut parcel(&[lines(10)]), None).unwrap();
    assert_eq!(b.requests().len(), 1);
}

#[test]
fn when_all_fail_the_output_does_and_names_each() {
    let (first, second) = (Arc::new(AtomicU16::new(503)), Arc::new(AtomicU16::new(404)));
    let (a, b) = (server(&first), server(&second));
    let mut output = open(&several(&[&a, &b])).unwrap();
    let mut parcels = [parcel(&[lines(10)])];
    let (why, after) = later(output.deliver(&mut parcels[0], None));
    assert!(why.starts_with(&format!("{}: 503; {}: 404", a.url(), b.url())), "{why}");
    assert_eq!((parcels[0].lines(), after), (10, None));
    assert_eq!(sent(&mut parcels, &[&a, &b]), [(0, 1), (0, 1)]);
    first.store(404, Ordering::SeqCst);
    held(output.deliver(&mut parcels[0], None));
    // The next attempt begins with the first again.
    first.store(204, Ordering::SeqCst);
    output.deliver(&mut parcels[0], None).unwrap();
    assert_eq!((a.requests().len(), b.requests().len()), (3, 2));
    assert_eq!(sent(&mut parcels, &[&a, &b]), [(10, 1), (0, 1)]);
}

#[test]
fn a_line_that_is_bad_is_bad_at_the_url_that_said_so() {
    let refuses = Server::start(|request| match request.body.contains("bad") {
        true => Reaction::Answer(400, "", "{\"error\":\"unable to parse 'bad'\"}".into()),
        false => Reaction::status(204),
    });
    let takes = Server::start(|_| Reaction::status(204));
    let mut output = open(&several(&[&refuses, &takes])).unwrap();
    let mut parcel = parcel(&[lines(10) + "bad\n" + &lines(10)]);
    output.deliver(&mut parcel, None).unwrap();
    assert_eq!(fates(&mut parcel), (20, 1, 0));
    assert!(takes.requests().is_empty());
    assert_eq!(sent(&mut [parcel], &[&refuses, &takes]), [(20, 0), (0, 0)]);
}
