//! The servers that stand for InfluxDB 2 and 3.

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value as Json, json};
use std::io::{Read, Write};
use std::net::TcpStream;
use system_tests::Stored;
use system_tests::contract::{Contract, Refusal, V2, V3};
use system_tests::http::{Answer, post};

const V2_PATH: &str = "/api/v2/write?org=org&bucket=bucket&precision=ns";
const V3_PATH: &str = "/api/v3/write_lp?db=telegraf&precision=nanosecond";
const V2_TOKEN: (&str, &str) = ("Authorization", "Token token-of-v2");
const V3_TOKEN: (&str, &str) = ("Authorization", "Bearer token-of-v3");

fn write(server: &Contract, path: &str, token: (&str, &str), lines: &str) -> (u16, Json) {
    let headers = [token].into_iter().filter(|(_, value)| !value.is_empty()).collect::<Vec<_>>();
    let url = server.url() + path;
    let Answer { status, body } = post(&url, &[], &headers, lines.as_bytes()).unwrap();
    (status, serde_json::from_str(&body).unwrap_or(Json::String(body)))
}

fn v2(server: &Contract, lines: &str) -> (u16, Json) {
    write(server, V2_PATH, V2_TOKEN, lines)
}

fn v3(server: &Contract, lines: &str) -> (u16, Json) {
    write(server, V3_PATH, V3_TOKEN, lines)
}

#[test]
fn a_resend_changes_nothing() {
    for (server, path, token) in [
        (Contract::v2(V2::default()), V2_PATH, V2_TOKEN),
        (Contract::v3(V3::default()), V3_PATH, V3_TOKEN),
    ] {
        for _ in 0..2 {
            assert_eq!(write(&server, path, token, "t,a=x i=1i 1\nt,a=y i=2i 1\n").0, 204);
        }
        assert_eq!(write(&server, path, token, "t,a=x j=3i 1\n").0, 204, "fields are added");
        assert_eq!((server.points(), server.numbers("t", "i")), (2, vec![1, 2]));
        let fields: usize = server.lines("t").iter().map(|line| line.fields.len()).sum();
        assert_eq!(fields, 3);
        assert_eq!(server.seen().iter().map(|seen| seen.stored).collect::<Vec<_>>(), [2, 2, 1]);
    }
}

#[test]
fn whoever_lacks_the_token_or_names_what_is_not_there_is_told_so() {
    let server = Contract::v2(V2::default());
    let unauthorized = json!({ "code": "unauthorized", "message": "unauthorized access" });
    for token in ["", "Token wrong", "Bearer token-of-v2"] {
        let answer = write(&server, V2_PATH, ("Authorization", token), "t i=1i 1");
        assert_eq!(answer, (401, unauthorized.clone()), "{token}");
    }
    for (path, code, message) in [
        ("?org=org&bucket=no+b&precision=ns", 404, "bucket \"no b\" not found"),
        ("?org=n%C3%B6&bucket=bucket", 404, "organization name \"nö\" not found"),
        ("?org=org&bucket=bucket&precision=h", 400, "invalid precision; valid precision units are"),
    ] {
        let (status, body) = write(&server, &format!("/api/v2/write{path}"), V2_TOKEN, "t i=1i 1");
        let said = body["message"].as_str().unwrap();
        assert!(status == code && said.starts_with(message), "{status} {said}");
    }

    let server = Contract::v3(V3::default());
    for (token, status) in [("", 401), ("Bearer wrong", 401), ("token-of-v3", 400)] {
        let answer = write(&server, V3_PATH, ("Authorization", token), "t i=1i 1");
        assert_eq!(answer.0, status, "{token}");
    }
    assert_eq!(write(&server, "/api/v3/write_lp?precision=second", V3_TOKEN, "t i=1i 1").0, 400);
    assert_eq!(server.points(), 0);
}

#[test]
fn a_line_that_does_not_parse_costs_v2_the_request_and_v3_the_line() {
    let lines = "t i=1i 1\n\nt i= 2\nt i=3i 3\nt,=x i=1i 4\n";
    let server = Contract::v2(V2::default());
    let (status, body) = v2(&server, lines);
    assert_eq!((status, &body["code"]), (400, &json!("invalid")));
    let message = body["message"].as_str().unwrap();
    assert!(message.contains("unable to parse 't i= 2': "), "{message}");
    assert!(message.contains("\nunable to parse 't,=x i=1i 4': "), "{message}");
    assert_eq!(server.points(), 0);

    let server = Contract::v3(V3::default());
    let (status, body) = v3(&server, lines);
    assert_eq!((status, &body["error"]), (400, &json!("partial write of line protocol occurred")));
    let data = body["data"].as_array().unwrap();
    assert_eq!(data.len(), 2, "{body}");
    assert_eq!(data[0]["original_line"], "t i= 2");
    assert_eq!(data[0]["line_number"], 2, "blank lines do not count");
    assert_eq!(server.numbers("t", "i"), [1, 3]);
    let seen = server.seen();
    assert_eq!((seen[0].stored, seen[0].refused, &*seen[0].target), (2, 2, "telegraf"));

    let server = Contract::v3(V3::default());
    let path = V3_PATH.to_owned() + "&accept_partial=false";
    let (status, body) = write(&server, &path, V3_TOKEN, lines);
    assert_eq!((status, &body["error"]), (400, &json!("parsing failed for write_lp endpoint")));
    assert_eq!(body["data"]["line_number"], 2, "{body}");
    assert_eq!(server.points(), 0);
}

#[test]
fn a_field_of_another_type_costs_the_line() {
    let server = Contract::v2(V2::default());
    assert_eq!(v2(&server, "t i=1i 1").0, 204);
    let (status, body) = v2(&server, "t i=2i 2\nt i=3.0 3\nt i=4.0 4\nt i=5i 5\n");
    let words = "failure writing points to database: partial write: field type conflict: input field \
                 \"i\" on measurement \"t\" is type float, already exists as type integer dropped=2";
    assert_eq!((status, body), (422, json!({ "code": "unprocessable entity", "message": words })));
    assert_eq!(server.numbers("t", "i"), [1, 2, 5]);

    let server = Contract::v3(V3::default());
    let (status, body) = v3(&server, "t i=1i 1\nt i=3.0 3\n");
    assert_eq!(status, 400);
    assert_eq!(body["data"][0]["line_number"], 2);
    let words = body["data"][0]["error_message"].as_str().unwrap();
    assert!(words.starts_with("invalid field value in line protocol for field 'i'"), "{words}");
    assert_eq!(server.numbers("t", "i"), [1]);
}

#[test]
fn lines_are_refused_by_a_rule() {
    let rule = |line: &str| line.contains("i=2i").then(|| Refusal::Malformed("no twos".to_owned()));
    let server = Contract::v2(V2::default());
    server.refuse(rule);
    let (status, body) = v2(&server, "t i=1i 1\nt i=2i 2\n");
    let words = "unable to parse 't i=2i 2': no twos";
    assert_eq!((status, body), (400, json!({ "code": "invalid", "message": words })));
    server.refuse(|line| line.contains("i=2i").then(|| Refusal::Conflict("no twos".to_owned())));
    let (status, body) = v2(&server, "t i=1i 1\nt i=2i 2\n");
    assert_eq!(status, 422);
    assert!(body["message"].as_str().unwrap().ends_with("partial write: no twos dropped=1"));

    let server = Contract::v3(V3::default());
    server.refuse(rule);
    let (status, body) = v3(&server, "t i=1i 1\nt i=2i 2\n");
    assert_eq!((status, &body["data"][0]["error_message"]), (400, &json!("no twos")));
    assert_eq!(server.numbers("t", "i"), [1]);
}

#[test]
fn a_body_over_the_limit_is_refused_by_its_size_unpacked() {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::best());
    gzip.write_all("t i=1i 1\n".repeat(200).as_bytes()).unwrap();
    let packed = gzip.finish().unwrap();
    let refused = |api: Contract, path: &str, token| {
        let headers = [token, ("Content-Encoding", "gzip")];
        let answer = post(&(api.url() + path), &[], &headers, &packed).unwrap();
        assert!(packed.len() < 100 && api.seen()[0].gzip);
        (answer.status, answer.body, api.points())
    };
    let api = |body_limit| V2 { body_limit, ..V2::default() };
    let words = r#"{"code":"request too large","message":"unable to read data: points batch is too large"}"#;
    assert_eq!(refused(Contract::v2(api(1799)), V2_PATH, V2_TOKEN), (413, words.to_owned(), 0));
    assert_eq!(refused(Contract::v2(api(1800)), V2_PATH, V2_TOKEN), (204, String::new(), 1));
    for too_large in [413, 500] {
        let api = V3 { body_limit: 1799, too_large, ..V3::default() };
        let words = "max request size (1799 bytes) exceeded".to_owned();
        assert_eq!(refused(Contract::v3(api), V3_PATH, V3_TOKEN), (too_large, words, 0));
    }
}

#[test]
fn a_busy_server_says_when_to_come_back() {
    let server = Contract::v2(V2::default());
    server.busy(1, 429, Some("30"));
    server.busy(1, 503, None);
    let agent = ureq::Agent::new_with_config(
        ureq::Agent::config_builder().http_status_as_error(false).proxy(None).build(),
    );
    let mut answers = Vec::new();
    for _ in 0..3 {
        let request = agent.post(server.url() + V2_PATH).header(V2_TOKEN.0, V2_TOKEN.1);
        let answer = request.send("t i=1i 1").unwrap();
        let wait = answer.headers().get("Retry-After").map(|v| v.to_str().unwrap().to_owned());
        answers.push((answer.status().as_u16(), wait));
        drop(answer.into_body().read_to_vec().unwrap());
    }
    assert_eq!(answers, [(429, Some("30".to_owned())), (503, None), (204, None)]);
    assert_eq!(server.seen().iter().map(|seen| seen.status).collect::<Vec<_>>(), [429, 503, 204]);
    assert_eq!(server.points(), 1);
}

#[test]
fn a_connection_serves_more_than_one_request() {
    let server = Contract::v2(V2::default());
    let mut stream = TcpStream::connect(server.address()).unwrap();
    for time in 1..=3 {
        let line = format!("t i=1i {time}");
        let request =
            format!("POST {V2_PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: {}", line.len());
        let token = "Authorization: Token token-of-v2";
        stream.write_all(format!("{request}\r\n{token}\r\n\r\n{line}").as_bytes()).unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            answer.extend(byte);
        }
        assert!(answer.starts_with(b"HTTP/1.1 204"), "{}", String::from_utf8_lossy(&answer));
        assert_eq!(server.points(), time);
    }
}
