//! A wrong address loses nothing: what answers there is no server of lines, or one of another kind.

use super::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A server that answers so until it is mended; then as it should.
fn until_mended(status: u16, body: &'static str) -> (Server, Arc<AtomicBool>) {
    let mended = Arc::new(AtomicBool::new(false));
    let server = Server::start({
        let mended = Arc::clone(&mended);
        move |_| match mended.load(Ordering::SeqCst) {
            true => Reaction::status(204),
            false => Reaction::Answer(status, "", body.to_owned()),
        }
    });
    (server, mended)
}

/// Lines wait while a server answers so, in few requests, and arrive once it answers as it should. Why
/// they wait.
fn waits(kind: Kind, status: u16, body: &'static str, requests: usize) -> String {
    let (server, mended) = until_mended(status, body);
    let mut config = config(&server);
    config.server = kind;
    let mut output = open(&config).unwrap();
    let mut parcel = parcel(&[lines(3000), lines(2000)]);
    let why = held(output.deliver(&mut parcel, None));
    assert_eq!(fates(&mut parcel), (0, 0, 0), "{status} {body}");
    assert_eq!(server.requests().len(), requests, "{status} {body}");
    mended.store(true, Ordering::SeqCst);
    output.deliver(&mut parcel, None).unwrap();
    assert_eq!(fates(&mut parcel), (5000, 0, 0), "{status} {body}");
    let last = server.requests().last().unwrap().body.clone();
    assert_eq!(last, lines(3000) + &lines(2000), "all at once, as if nothing had been");
    why
}

fn kinds() -> [Kind; 4] {
    let database = || "db".to_owned();
    [
        v1(),
        Kind::Influxdb2 { org: "o".into(), bucket: "b".into() },
        Kind::Influxdb3 { database: database() },
        Kind::Victoriametrics,
    ]
}

#[test]
fn answers_that_are_about_no_line_cost_no_line() {
    let nginx = "<html>\r\n<head><title>400 The plain HTTP request was sent to HTTPS port</title></head>\r\n\
                 <body>\r\n<center><h1>400 Bad Request</h1></center>\r\n<center>The plain HTTP request was \
                 sent to HTTPS port</center>\r\n<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n";
    for kind in kinds() {
        for (status, body, advice) in [
            (400, nginx, "begin with https://"),
            (400, "Client sent an HTTP request to an HTTPS server.\n", "begin with https://"),
            (400, "{\"error\":\"database is required\"}\n", "check `kind` and `url`"),
            (400, "<html><body>Blocked by policy</body></html>", "check `kind` and `url`"),
            (422, "", "check `kind` and `url`"),
            (200, "<html><body>It works!</body></html>", "check `kind` and `url`"),
            (202, "", "check `kind` and `url`"),
            (206, "", "check `kind` and `url`"),
            (207, "", "check `kind` and `url`"),
        ] {
            let why = waits(kind.clone(), status, body, 1);
            assert!(why.contains(advice), "{why}");
        }
        let path =
            "remoteAddr: \"127.0.0.1:1\"; requestURI: /p/write; unsupported path requested: \"/p\"";
        waits(kind, 400, path, 1);
    }
}

#[test]
fn a_server_that_refuses_a_comment_in_the_words_that_it_has_for_lines_refuses_all() {
    let [one, two, three, victoria] = kinds();
    for (kind, status, body) in [
        (one.clone(), 400, r#"{"error":"metric parse error: expected field at 1:1"}"#),
        (one.clone(), 400, r#"{"error":"unable to parse 'x': missing fields"}"#),
        (one, 400, r#"{"error":"partial write: no dropped=5000"}"#),
        (two, 400, r#"{"code":"invalid","message":"unable to parse 'x': missing fields"}"#),
        (three, 400, r#"{"error":"line protocol parsing error"}"#),
        (victoria, 400, "incorrect influx line \"x\": cannot find Whitespace I in \"x\""),
    ] {
        // From 5,000 lines to one, and the comment; or at once, when all are said to be bad.
        let requests = if body.contains("dropped") { 2 } else { 14 };
        let why = waits(kind, status, body, requests);
        assert!(why.contains("refuses a comment too"), "{why}");
    }
}

#[test]
fn a_size_that_nothing_fits_into_is_no_fault_of_the_lines() {
    assert!(waits_once(413).contains("refuses a comment too"));
}

fn waits_once(status: u16) -> String {
    let (server, mended) = until_mended(status, "");
    let mut output = output(&server);
    let mut parcel = parcel(&[lines(2)]);
    let why = held(output.deliver(&mut parcel, None));
    assert_eq!(fates(&mut parcel), (0, 0, 0));
    mended.store(true, Ordering::SeqCst);
    output.deliver(&mut parcel, None).unwrap();
    assert_eq!(fates(&mut parcel), (2, 0, 0));
    why
}

#[test]
fn a_line_that_is_bad_and_the_first_ever_sent_holds_up_nobody() {
    for nothing in [
        Reaction::status(204),
        Reaction::Answer(400, "", "write buffer error: No data was written".to_owned()),
        Reaction::Answer(
            400,
            "",
            r#"{"code":"invalid","message":"writing requires points"}"#.into(),
        ),
    ] {
        let server = Server::start(move |request| match request.body.as_bytes()[0] {
            b'#' => nothing.clone(),
            b'b' => Reaction::Answer(400, "", r#"{"error":"metric parse error: no"}"#.to_owned()),
            _ => Reaction::status(204),
        });
        let mut output = output(&server);
        let mut first = parcel(&["bad v=1 1\n"]);
        output.deliver(&mut first, None).unwrap();
        assert_eq!(fates(&mut first), (0, 1, 0));
        // Once it was asked, it is known; and a good line is as good as a comment.
        let mut second = parcel(&["bad v=1 1\n", "a v=1 1\n"]);
        output.deliver(&mut second, None).unwrap();
        assert_eq!(fates(&mut second), (1, 1, 0));
        let comments = server.requests().iter().filter(|r| r.body.starts_with('#')).count();
        assert_eq!(comments, 1);
    }
}

#[test]
fn what_comes_instead_of_the_answer_about_the_comment_is_obeyed() {
    let mut asked = 0;
    let server = Server::start(move |request| match request.body.as_bytes()[0] {
        b'#' => {
            asked += 1;
            match asked {
                1 => Reaction::Answer(503, "Retry-After: 7\r\n", String::new()),
                2 => Reaction::status(401),
                _ => Reaction::status(204),
            }
        }
        _ => Reaction::Answer(400, "", r#"{"error":"metric parse error: no"}"#.to_owned()),
    });
    let mut output = output(&server);
    let mut parcel = parcel(&["bad v=1 1\n"]);
    assert_eq!(later(output.deliver(&mut parcel, None)).1, Some(Duration::from_secs(7)));
    held(output.deliver(&mut parcel, None));
    assert_eq!(fates(&mut parcel), (0, 0, 0));
    output.deliver(&mut parcel, None).unwrap();
    assert_eq!(fates(&mut parcel), (0, 1, 0));
}

/// As InfluxDB 1 answers to `uint = true`.
#[test]
fn lines_that_are_all_refused_in_the_same_words_are_not_bad() {
    let mended = Arc::new(AtomicBool::new(false));
    let server = Server::start({
        let mended = Arc::clone(&mended);
        move |request| {
            if request.body.starts_with('#') || mended.load(Ordering::SeqCst) {
                return Reaction::status(204);
            }
            let each =
                request.body.lines().map(|l| format!("unable to parse '{l}': invalid number"));
            let words = each.collect::<Vec<_>>().join("\\n");
            Reaction::Answer(400, "", format!(r#"{{"error":"{words}"}}"#))
        }
    });
    let mut output = output(&server);
    let mut parcel = parcel(&[lines(30), lines(20)]);
    let why = held(output.deliver(&mut parcel, None));
    assert!(why.contains("each line that was tried") && why.contains("`uint`"), "{why}");
    assert_eq!(fates(&mut parcel), (0, 0, 0));
    mended.store(true, Ordering::SeqCst);
    output.deliver(&mut parcel, None).unwrap();
    assert_eq!(fates(&mut parcel), (50, 0, 0));
}
