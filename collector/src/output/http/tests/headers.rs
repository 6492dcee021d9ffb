//! Headers of the operator's own.

use super::super::{Header, HeaderText};
use super::*;
use crate::output::secret::Secret;
use crate::trust::testing::write_secret;
use ureq::http::HeaderName;

fn header(name: &'static str, text: HeaderText) -> Header {
    Header { name: HeaderName::from_static(name), text }
}

#[test]
fn headers_are_sent_and_a_changed_secret_among_them_is_read_again() {
    let server = Server::start(|request| match request.header("x-key") {
        Some("new-k3y") => Reaction::status(204),
        key => Reaction::Answer(403, "", format!("what is {key:?}?")),
    });
    let dir = tempfile::tempdir().unwrap();
    let key = dir.path().join("key");
    write_secret(&key, "old-k3y\n");
    let mut config = config(&server);
    config.headers = vec![
        header("x-scope-orgid", HeaderText::Plain("tenant-7".into())),
        header("x-key", HeaderText::Secret(Secret::File(key.clone()))),
    ];
    let mut output = open(&config).unwrap();
    let mut parcel = parcel(&["a v=1 1\n"]);
    let why = held(output.deliver(&mut parcel, None));
    assert!(why.contains("[secret]") && !why.contains("k3y"), "{why}");
    write_secret(&key, "new-k3y\n");
    output.deliver(&mut parcel, None).unwrap();
    let requests = server.requests();
    let sent: Vec<_> = requests.iter().map(|request| request.header("x-scope-orgid")).collect();
    assert_eq!(sent, [Some("tenant-7"); 3]);
}

#[test]
fn a_secret_header_that_cannot_be_read_holds_the_lines() {
    let server = Server::start(|_| Reaction::status(204));
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(&server);
    let key = HeaderText::Secret(Secret::File(dir.path().join("key")));
    config.headers = vec![header("x-key", key)];
    let mut output = open(&config).unwrap();
    let why = held(output.deliver(&mut parcel(&["a v=1 1\n"]), None));
    assert!(why.contains("key cannot be read"), "{why}");
    assert!(server.requests().is_empty());
    config.headers =
        vec![header("x-key", HeaderText::Secret(Secret::Env("COLLECTOR_TEST_NO_SUCH".into())))];
    let error = open(&config).err().unwrap();
    assert!(error.to_string().contains("COLLECTOR_TEST_NO_SUCH"), "{error}");
}
