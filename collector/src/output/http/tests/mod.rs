//! The output against a small server in this process.

mod ages;
mod answers;
mod bad_lines;
mod certificates;
mod failover;
mod headers;
mod misconfigured;
mod proxy;
mod receivers;
mod secrets;
mod server;
mod tls;
mod trouble;
mod waiting;

use super::deliver::{Http, Shared};
use super::{Auth, HttpConfig, Server as Kind};
use crate::encode::Tags;
use crate::output::parcel::testing::parcel;
use crate::output::{Cause, Failure, Output, Parcel};
use server::{Reaction, Request, Server};
use std::time::{Duration, Instant};

/// For an answer that comes; whoever waits for it to fail sets a shorter one.
const TIMEOUT: Duration = Duration::from_secs(20);

fn v1() -> Kind {
    Kind::Influxdb1 { database: "db".into(), retention_policy: None }
}

fn config(server: &Server) -> HttpConfig {
    let mut config = HttpConfig::new(v1(), server.url(), Auth::None);
    config.timeout = TIMEOUT;
    config
}

fn output(server: &Server) -> Patient {
    open(&config(server)).unwrap()
}

/// One sender of an output, which makes all requests.
fn open(config: &HttpConfig) -> anyhow::Result<Patient> {
    Ok(Patient(Box::new(Http::new(config, &Shared::new(config, &Tags::new())?)?)))
}

/// An output that delivers whole parcels: a request as long as there is no failure.
struct Patient(Box<dyn Output>);

impl Patient {
    fn deliver(&mut self, parcel: &mut Parcel, end: Option<Instant>) -> Result<(), Failure> {
        while !parcel.is_done() {
            self.0.deliver(parcel, end)?;
        }
        Ok(())
    }
}

/// Lines of one batch, each its own.
fn lines(count: usize) -> String {
    (0..count).map(|i| format!("m,i={i} v={i}i {i}\n")).collect()
}

/// Lines delivered, and lost by cause.
fn fates(parcel: &mut Parcel) -> (u64, u64, u64) {
    parcel.items().iter().fold((0, 0, 0), |(delivered, rejected, too_long), item| {
        let (fate, dropped) = (item.fate, item.fate.dropped);
        let rejected = rejected + dropped[Cause::Rejected];
        (delivered + fate.delivered, rejected, too_long + dropped[Cause::TooLong])
    })
}

fn later(result: Result<(), Failure>) -> (String, Option<Duration>) {
    match result {
        Err(Failure::Later { why, after }) => (format!("{why:#}"), after),
        other => panic!("{other:?}"),
    }
}

fn held(result: Result<(), Failure>) -> String {
    match result {
        Err(Failure::Hold(why)) => format!("{why:#}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn lines_arrive_compressed_over_one_connection() {
    let server = Server::start(|_| Reaction::status(204));
    let mut output = output(&server);
    for i in 0..3 {
        let mut parcel = parcel(&[lines(i + 1), lines(1000)]);
        output.deliver(&mut parcel, None).unwrap();
        assert_eq!(fates(&mut parcel), (1001 + i as u64, 0, 0));
    }
    let requests = server.requests();
    let bodies: Vec<&str> = requests.iter().map(|request| request.body.as_str()).collect();
    assert_eq!(bodies, [1, 2, 3].map(|i| lines(i) + &lines(1000)));
    assert!(requests.iter().all(|request| request.connection == 0));
    let first = &requests[0];
    assert_eq!(first.head[0], "POST /write?db=db&precision=ns HTTP/1.1");
    assert_eq!(first.header("content-encoding"), Some("gzip"));
    assert_eq!(first.header("authorization"), None);
    assert_eq!(first.header("expect"), None);
    let agent = format!("collector/{}", env!("CARGO_PKG_VERSION"));
    assert_eq!(first.header("user-agent"), Some(agent.as_str()));
}

#[test]
fn lines_arrive_uncompressed_when_asked_to_and_no_request_is_larger_than_configured() {
    let server = Server::start(|_| Reaction::status(204));
    let mut config = config(&server);
    config.gzip = false;
    let batches = [lines(3000), lines(1), lines(2000)];
    open(&config).unwrap().deliver(&mut parcel(&batches), None).unwrap();
    let requests = server.requests();
    let bodies: Vec<&str> = requests.iter().map(|request| &*request.body).collect();
    let sizes: Vec<usize> = bodies.iter().map(|body| body.lines().count()).collect();
    assert_eq!(sizes, [5000, 1]);
    assert!(bodies.concat() == batches.concat());
    assert_eq!(requests[0].header("content-encoding"), None);
}

#[test]
fn what_the_server_asks_for_is_handed_on() {
    let server = Server::start(|_| Reaction::Answer(429, "Retry-After: 30\r\n", String::new()));
    let mut parcel = parcel(&["a v=1 1\n"]);
    let (why, after) = later(output(&server).deliver(&mut parcel, None));
    assert_eq!((why.as_str(), after), ("429", Some(Duration::from_secs(30))));
    assert_eq!(parcel.lines(), 1);
}

#[test]
fn a_redirection_is_not_followed() {
    let other = Server::start(|_| Reaction::status(204));
    let location = format!("Location: {}/write\r\n", other.url()).leak();
    let server = Server::start(|_| Reaction::Answer(307, location, String::new()));
    let why = held(output(&server).deliver(&mut parcel(&["a v=1 1\n"]), None));
    assert!(why.contains("not followed"), "{why}");
    assert!(other.requests().is_empty());
}

#[test]
fn a_size_that_the_server_takes_is_found_and_remembered() {
    let lines_of = |request: &Request| request.body.matches('\n').count();
    let server = Server::start(move |request| {
        Reaction::status(if lines_of(request) > 700 { 413 } else { 204 })
    });
    let mut output = output(&server);
    for _ in 0..2 {
        let mut parcel = parcel(&[lines(5000)]);
        output.deliver(&mut parcel, None).unwrap();
        assert_eq!(fates(&mut parcel), (5000, 0, 0));
    }
    let sizes: Vec<usize> = server.requests().iter().map(lines_of).collect();
    assert_eq!(sizes[..4], [5000, 2500, 1250, 625]);
    assert!(sizes[4..].iter().all(|&size| size <= 625), "{sizes:?}");
}

#[test]
fn a_server_that_refuses_a_long_body_before_it_is_read_is_understood() {
    let server = Server::with(|_| Reaction::status(204), None, Some(200_000));
    let mut config = config(&server);
    config.gzip = false;
    let mut output = open(&config).unwrap();
    // Longer than what the kernel buffers: the server closes while we write.
    let line = format!("m s=\"{}\" 1\n", "x".repeat(990));
    let mut parcel = parcel(&[line.repeat(8000)]);
    let mut failures = 0;
    while let Err(failure) = output.deliver(&mut parcel, None) {
        assert!(matches!(failure, Failure::Later { .. }), "{failure:?}");
        failures += 1;
        assert!(failures < 10, "{failure:?}");
    }
    assert_eq!(fates(&mut parcel), (8000, 0, 0));
    let stored: usize = server.requests().iter().map(|request| request.body.len()).sum();
    assert_eq!(stored, line.len() * 8000);
}

#[test]
fn a_line_that_is_too_long_alone_is_given_up_as_such() {
    let server = Server::start(|request| {
        Reaction::status(if request.body.contains("long") { 413 } else { 204 })
    });
    let mut output = output(&server);
    let mut parcel = parcel(&[lines(10) + "long v=1 1\n" + &lines(10)]);
    output.deliver(&mut parcel, None).unwrap();
    assert_eq!(fates(&mut parcel), (20, 0, 1));
}
