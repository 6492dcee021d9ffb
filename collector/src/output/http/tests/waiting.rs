//! What is looked at while an output waits.

use super::*;
use crate::output::secret::Secret;
use crate::trust::testing::write_secret;
use std::collections::BTreeSet;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A server that is away at first, and then takes everything.
fn away(reaction: Reaction) -> (Server, Arc<AtomicBool>) {
    let back = Arc::new(AtomicBool::new(false));
    let is_back = Arc::clone(&back);
    let server = Server::start(move |_| match is_back.load(Ordering::Relaxed) {
        true => Reaction::status(204),
        false => reaction.clone(),
    });
    (server, back)
}

fn posts(server: &Server) -> usize {
    server.requests().iter().filter(|request| request.head[0].starts_with("POST")).count()
}

#[test]
fn a_server_that_comes_back_is_seen_and_until_then_no_lines_are_sent_to_it() {
    for reaction in [Reaction::Raw(""), Reaction::status(502)] {
        let (server, back) = away(reaction);
        let mut output = output(&server);
        let mut parcel = parcel(&[lines(1000)]);
        later(output.deliver(&mut parcel, None));
        (0..3).for_each(|_| assert!(!output.0.look(None)));
        later(output.deliver(&mut parcel, None));
        assert_eq!(posts(&server), 1, "the second attempt is a ping");
        back.store(true, Ordering::Relaxed);
        assert!(output.0.look(None));
        output.deliver(&mut parcel, None).unwrap();
        assert_eq!((fates(&mut parcel), posts(&server)), ((1000, 0, 0), 2));
    }
}

#[test]
fn a_ping_goes_to_the_servers_own_path_behind_that_of_a_proxy() {
    for (kind, path) in [(v1(), "/proxy/ping"), (Kind::Victoriametrics, "/proxy/health")] {
        let (server, _) = away(Reaction::Raw(""));
        let mut config = config(&server);
        (config.server, config.urls) = (kind, vec![server.url() + "/proxy"]);
        let mut output = open(&config).unwrap();
        later(output.deliver(&mut parcel(&["a v=1 1\n"]), None));
        output.0.look(None);
        let requests = server.requests();
        assert_eq!(requests[1].head[0], format!("GET {path} HTTP/1.1"));
        assert_eq!(requests[1].header("authorization"), None);
    }
}

#[test]
fn a_server_that_is_there_and_busy_is_not_asked() {
    for status in [429, 500] {
        let server = Server::start(move |_| Reaction::status(status));
        let mut output = output(&server);
        later(output.deliver(&mut parcel(&["a v=1 1\n"]), None));
        assert!(!output.0.look(None));
        assert_eq!(server.requests().len(), 1);
    }
}

#[test]
fn a_corrected_secret_is_seen_by_a_look_and_one_that_works_is_read_again_when_told_to() {
    let wanted = |request: &Request| request.header("authorization") == Some("Token right");
    let server = Server::start(move |request| match wanted(request) {
        true => Reaction::status(204),
        false => Reaction::status(401),
    });
    let dir = tempfile::tempdir().unwrap();
    let token = dir.path().join("token");
    let mut config = config(&server);
    config.auth = Auth::Token(Secret::File(token.clone()));
    let mut output = open(&config).unwrap();
    let mut parcel = parcel(&["a v=1 1\n", "b v=1 1\n"]);
    let attempts = |output: &mut Patient, parcel: &mut Parcel| {
        held(output.deliver(parcel, None));
        assert!(!output.0.look(None));
        server.requests().len()
    };
    assert_eq!(attempts(&mut output, &mut parcel), 0, "the file is not there yet");
    write_secret(&token, "wrong");
    assert!(output.0.look(None));
    assert_eq!(attempts(&mut output, &mut parcel), 1);
    write_secret(&token, "right");
    assert!(output.0.look(None));
    output.deliver(&mut parcel, None).unwrap();
    assert_eq!(server.requests().len(), 2);

    write_secret(&token, "new");
    output.0.reopen();
    held(output.deliver(&mut super::parcel(&["c v=1 1\n"]), None));
    assert_eq!(server.requests()[2].header("authorization"), Some("Token new"));
    // While somebody writes it anew, the one that was read before is used.
    fs::remove_file(&token).unwrap();
    output.0.reopen();
    held(output.deliver(&mut super::parcel(&["d v=1 1\n"]), None));
    assert_eq!(server.requests()[3].header("authorization"), Some("Token new"));
}

#[test]
fn requests_under_way_at_once_have_a_connection_each_and_one_file_for_what_is_refused() {
    use crate::output::http::DeadLetterConfig;
    let server = Server::start(|request| match request.body.contains("bad") {
        true => Reaction::Answer(400, "", r#"{"error":"unable to parse 'bad v=1 1'"}"#.into()),
        false => Reaction::status(204),
    });
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("dead");
    let mut config = config(&server);
    config.in_flight = 3;
    config.dead_letters = Some(DeadLetterConfig { path: path.clone(), bytes: 1000 });
    let mut outputs = crate::output::http::open(&config, &Tags::new()).unwrap();
    assert_eq!(outputs.len(), 3);
    for _ in 0..10 {
        for output in &mut outputs {
            output.deliver(&mut parcel(&["bad v=1 1\n"]), None).unwrap();
        }
    }
    let older = fs::read_to_string(dir.path().join("dead.1")).unwrap();
    let kept = older + &fs::read_to_string(&path).unwrap();
    assert!(kept.len() <= 1000 && kept.ends_with("bad v=1 1\n"), "{kept}");
    let requests = server.requests();
    let posts = requests.iter().filter(|request| request.head[0].starts_with("POST "));
    let connections: BTreeSet<_> = posts.map(|request| request.connection).collect();
    assert_eq!(connections.len(), 3);
}
