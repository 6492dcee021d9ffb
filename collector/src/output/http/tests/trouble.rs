//! Servers that do not answer, or not properly.

use super::*;
use std::net::TcpListener;
use std::time::Instant;

const SHORT: Duration = Duration::from_millis(200);

/// Delivers once in vain, and then again.
fn fails_once(server: &Server) -> String {
    let mut output = output(server);
    let mut parcel = parcel(&["a v=1 1\nb v=2 2\n"]);
    let (why, after) = later(output.deliver(&mut parcel, None));
    assert_eq!((fates(&mut parcel), after), ((0, 0, 0), None));
    output.deliver(&mut parcel, None).unwrap();
    assert_eq!(fates(&mut parcel), (2, 0, 0));
    why
}

/// Does one thing first, and then what is right.
fn first(reaction: Reaction) -> Server {
    let mut first = Some(reaction);
    Server::start(move |_| first.take().unwrap_or_else(|| Reaction::status(204)))
}

#[test]
fn a_connection_that_the_server_closed_between_two_ticks_is_no_failure() {
    let server = Server::start(|_| Reaction::AnswerAndClose(204));
    let mut output = output(&server);
    for _ in 0..3 {
        output.deliver(&mut parcel(&["a v=1 1\n"]), None).unwrap();
    }
    assert_eq!(server.requests().last().unwrap().connection, 2);
}

#[test]
fn a_connection_that_the_server_closes_when_the_request_arrives_is_no_failure() {
    let server = Server::start(|request| match request.connection {
        0 if request.body.starts_with('b') => Reaction::Raw(""),
        _ => Reaction::status(204),
    });
    let mut output = output(&server);
    output.deliver(&mut parcel(&["a v=1 1\n"]), None).unwrap();
    output.deliver(&mut parcel(&["b v=1 1\n"]), None).unwrap();
    let requests = server.requests();
    let connections: Vec<usize> = requests.iter().map(|request| request.connection).collect();
    assert_eq!(connections, [0, 0, 1]);
}

#[test]
fn a_new_connection_that_is_closed_is_a_failure() {
    assert!(fails_once(&first(Reaction::Raw(""))).contains("disconnected"));
}

#[test]
fn an_answer_that_is_cut_is_none() {
    for cut in [
        "HTTP/1.1 204 No Con",
        "HTTP/1.1 400 Bad Request\r\nContent-Length: 100\r\n\r\n{\"error\"",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
    ] {
        fails_once(&first(Reaction::Raw(cut)));
    }
}

#[test]
fn what_is_no_http_is_a_failure() {
    assert!(fails_once(&first(Reaction::Raw("SSH-2.0-OpenSSH_9.2\r\n"))).contains("protocol"));
}

#[test]
fn a_server_that_never_answers_is_waited_for_only_so_long() {
    let server = first(Reaction::silence());
    let mut config = config(&server);
    config.timeout = SHORT;
    let begin = Instant::now();
    let (why, _) = later(open(&config).unwrap().deliver(&mut parcel(&["a v=1 1\n"]), None));
    assert_eq!(why, "no answer within 0.2 s");
    assert!(begin.elapsed() >= SHORT && begin.elapsed() < TIMEOUT / 2);
}

#[test]
fn a_server_that_accepts_nothing_is_waited_for_only_so_long() {
    // Connections end in the kernel's queue.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let mut config = HttpConfig::new(v1(), url, Auth::None);
    config.timeout = SHORT;
    later(open(&config).unwrap().deliver(&mut parcel(&["a v=1 1\n"]), None));
}

#[test]
fn a_deadline_shortens_the_wait_and_ends_it() {
    let server = Server::start(|_| Reaction::silence());
    let mut output = output(&server);
    let begin = Instant::now();
    later(output.deliver(&mut parcel(&["a v=1 1\n"]), Some(begin + SHORT)));
    assert!(begin.elapsed() >= SHORT && begin.elapsed() < TIMEOUT / 2);
    let (why, _) = later(output.deliver(&mut parcel(&["a v=1 1\n"]), Some(begin)));
    assert_eq!(why, "no time is left");
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn a_closed_port_is_a_failure_that_passes() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let mut output = open(&HttpConfig::new(v1(), url, Auth::None)).unwrap();
    let (why, _) = later(output.deliver(&mut parcel(&["a v=1 1\n"]), None));
    assert!(why.contains("refused"), "{why}");
}

#[test]
fn of_an_endless_answer_only_the_begin_is_read() {
    let endless = || {
        let head = "HTTP/1.1 400 x\r\nContent-Length: 1000000000\r\n\r\n";
        Reaction::Begin(format!("{head}{{\"error\":\"metric parse error: {}", "no ".repeat(40_000)))
    };
    let server = Server::start(move |request| match request.body.contains("bad") {
        true => endless(),
        false => Reaction::status(204),
    });
    let mut output = output(&server);
    let mut parcel = parcel(&["a v=1 1\nbad v=1 1\nc v=1 1\n"]);
    output.deliver(&mut parcel, None).unwrap();
    assert_eq!(fates(&mut parcel), (2, 1, 0));
}
