//! Secrets are sent to the server and shown to nobody.

use super::super::{DeadLetterConfig, SHOWS_SECRETS};
use super::*;
use crate::output::secret::Secret;
use crate::trust::testing::write_secret;
use log::{Level, LevelFilter, Log, Metadata, Record};
use std::fs;
use std::sync::Mutex;

/// All that was logged by any test, at all levels that are let through.
static LOG: Mutex<String> = Mutex::new(String::new());

struct Logger;

impl Log for Logger {
    fn enabled(&self, record: &Metadata) -> bool {
        !record.target().starts_with(SHOWS_SECRETS) || record.level() <= Level::Debug
    }
    fn log(&self, record: &Record) {
        if self.enabled(record.metadata()) {
            let line = format!("{} {}\n", record.target(), record.args());
            LOG.lock().unwrap().push_str(&line);
        }
    }
    fn flush(&self) {}
}

#[test]
fn a_changed_token_is_read_at_once_and_none_is_ever_shown() {
    log::set_logger(&Logger).unwrap();
    log::set_max_level(LevelFilter::Trace);
    let (old, new) = ("0ld-s3cret-of-ours", "n3w-s3cret-of-ours");
    // It repeats what it was sent, as a proxy does whose debugging was left on; where its words are cut,
    // part of the token is left. And it writes into the terminal of whoever reads its words.
    let server = Server::start(move |request| {
        let token = request.header("authorization").unwrap_or_default().to_owned();
        let words = format!("authorization: {token} \u{202e}\u{1b}[2J{} {token}", ".".repeat(230));
        let line = serde_json::json!({
            "code": "invalid",
            "message": format!("unable to parse 'bad v=1 1': {words}"),
        });
        match (token.ends_with(new), request.body.contains("bad")) {
            (false, _) => Reaction::Answer(401, "X-Echo: Token 0ld-s3cret-of-ours\r\n", words),
            (true, true) => Reaction::Answer(400, "", line.to_string()),
            (true, false) => Reaction::status(204),
        }
    });
    let dir = tempfile::tempdir().unwrap();
    let token = dir.path().join("token");
    let dead = dir.path().join("dead");
    let mut config = config(&server);
    config.server = Kind::Influxdb2 { org: "o".into(), bucket: "b".into() };
    config.auth = Auth::Token(Secret::File(token.clone()));
    config.dead_letters = Some(DeadLetterConfig { path: dead.clone(), bytes: 10_000 });
    let mut output = open(&config).unwrap();
    let mut parcel = parcel(&["a v=1 1\nbad v=1 1\n"]);
    let mut said = vec![format!("{config:?} {config}")];

    said.push(held(output.deliver(&mut parcel, None)));
    assert!(said[1].contains("token cannot be read"), "{}", said[1]);
    assert!(server.requests().is_empty());
    write_secret(&token, old);
    said.push(held(output.deliver(&mut parcel, None)));
    assert!(said[2].starts_with("401 authorization: Token [secret]  [2J..."), "{}", said[2]);
    assert!(said[2].contains("correct the token"), "{}", said[2]);
    write_secret(&token, new);
    output.deliver(&mut parcel, None).unwrap();
    assert_eq!(fates(&mut parcel), (1, 1, 0));

    said.push(fs::read_to_string(dead).unwrap());
    assert!(said[3].contains("authorization: Token [secret]  [2J..."), "{}", said[3]);
    assert!(said[3].ends_with(" Token [secret]\nbad v=1 1\n"), "{}", said[3]);
    said.push(LOG.lock().unwrap().clone());
    assert!(said[4].contains("ureq") && said[4].contains("lines given up: 1"), "{}", said[4]);
    for line in said.iter().flat_map(|text| text.lines()) {
        assert!(!line.contains("ld-s3") && !line.contains("3w-s3"), "{line}");
        assert!(!line.contains(['\u{202e}', '\u{1b}']), "{line}");
    }
}

#[test]
fn the_password_of_a_user_is_sent_as_basic_authentication_and_not_told_in_either_form() {
    let server = Server::start(|request| {
        let basic = request.header("authorization").unwrap();
        let words = format!("Authorization: {basic}, not {}, user:passphrase", &basic[..20]);
        Reaction::Answer(403, "", words)
    });
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("password");
    write_secret(&file, "passphrase");
    let mut config = config(&server);
    config.auth = Auth::Basic { username: "user".into(), password: Secret::File(file) };
    let why = held(open(&config).unwrap().deliver(&mut parcel(&["a v=1 1\n"]), None));
    let words = "403 Authorization: Basic [secret], not Basic [secret], user:[secret]: allow us";
    assert!(why.starts_with(words), "{why}");
    let basic = server.requests()[0].header("authorization").unwrap().to_owned();
    assert_eq!(basic, "Basic dXNlcjpwYXNzcGhyYXNl");
}
