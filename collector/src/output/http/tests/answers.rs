//! What every server is documented to answer.

use super::super::answer::{Answer, Reply};
use super::super::wire::answer;
use super::super::{Server, Version};
use Kind::*;
use std::time::{Duration, SystemTime};

#[derive(Clone, Copy, Debug)]
enum Kind {
    V1,
    V2,
    V3,
    Vm,
    /// Prometheus' remote write.
    Rw,
    Otlp,
}

fn server(kind: Kind) -> Server {
    let database = "db".to_owned();
    match kind {
        V1 => Server::Influxdb1 { database, retention_policy: None },
        V2 => Server::Influxdb2 { org: "org".into(), bucket: "b".into() },
        V3 => Server::Influxdb3 { database },
        Vm => Server::Victoriametrics,
        Rw => Server::Prometheus { version: Version::Auto, native: false },
        Otlp => Server::Otlp,
    }
}

const SENT: &str = "a v=1 1\nbad\nb v=2i 2\n";

fn of(kind: Kind, status: u16, body: &str) -> Answer {
    retry(kind, status, body, None)
}

fn retry(kind: Kind, status: u16, body: &str, after: Option<&str>) -> Answer {
    let retry_after = after.map(str::to_owned);
    let reply = Reply { status, retry_after, body: body.into(), ..Reply::default() };
    let lines = SENT.split_inclusive('\n').map(str::as_bytes);
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
    answer(&server(kind), &reply, 3, lines, now)
}

/// The answer in one word, so that the table stays readable.
fn word(answer: &Answer) -> String {
    match answer {
        Answer::Done => "done".into(),
        Answer::Except(refusals) => {
            let places: Vec<String> = refusals.iter().map(|r| r.index.to_string()).collect();
            format!("except {}", places.join(","))
        }
        Answer::Refused(_) => "refused".into(),
        Answer::Bad { dropped: None, .. } => "bad".into(),
        Answer::Bad { dropped: Some(n), .. } => format!("bad {n}"),
        Answer::Partial { dropped, .. } => format!("partial {dropped}"),
        Answer::Halve(_) => "halve".into(),
        Answer::Retry { .. } => "retry".into(),
        Answer::Denied(_) => "denied".into(),
        Answer::Hold(_) => "hold".into(),
    }
}

/// Read in the servers' sources and documents, and seen where a version is given:
/// InfluxDB 1 `services/httpd/handler.go` (`serveWrite`) and 1.6.7; InfluxDB 2 `http/write_handler.go`,
/// docs.influxdata.com/influxdb/v2/write-data/troubleshoot and 2.7; Cloud 2
/// docs.influxdata.com/influxdb/cloud/write-data/troubleshoot; InfluxDB 3
/// `influxdb3_server/src/http.rs` (`IntoResponse for Error`); VictoriaMetrics
/// `lib/protoparser/influx/stream/streamparser.go` and `lib/httpserver`; Telegraf
/// `plugins/inputs/influxdb_listener/influxdb_listener.go`, which is spoken to as InfluxDB 1.
#[test]
fn every_documented_answer_is_understood() {
    let table: &[(Kind, u16, &str, &str)] = &[
        // InfluxDB 1.
        (V1, 204, "", "done"),
        (V1, 200, "", "hold"),
        (
            V1,
            200,
            r#"{"error":"partial write: points beyond retention policy dropped=3"}"#,
            "refused",
        ),
        (V1, 200, r#"{"results":[]}"#, "hold"),
        (
            V1,
            400,
            r#"{"error":"partial write: unable to parse 'bad': missing fields dropped=0"}"#,
            "except 1",
        ),
        (V1, 400, r#"{"error":"unable to parse 'other': missing fields"}"#, "bad"),
        (
            V1,
            400,
            r#"{"error":"partial write: field type conflict: input field \"v\" on measurement \"a\" is type string, already exists as type float dropped=2"}"#,
            "bad 2",
        ),
        (
            V1,
            400,
            r#"{"error":"partial write: points beyond retention policy dropped=3"}"#,
            "refused",
        ),
        (
            V1,
            400,
            r#"{"error":"partial write: points beyond retention policy dropped=1"}"#,
            "bad 1",
        ),
        (
            V1,
            400,
            r#"{"error":"partial write: max-values-per-tag limit exceeded (100001/100000): measurement=\"a\" tag=\"t\" value=\"x\" dropped=1"}"#,
            "bad 1",
        ),
        (V1, 400, r#"{"error":"unexpected EOF"}"#, "hold"),
        (V1, 400, r#"{"error":"database is required"}"#, "hold"),
        (
            V1,
            400,
            r#"{"error":"field type conflict: input field \"v\" on measurement \"a\" is type string, already exists as type float"}"#,
            "bad",
        ),
        (V1, 401, r#"{"error":"authorization failed"}"#, "denied"),
        (
            V1,
            403,
            r#"{"error":"\"u\" user is not authorized to write to database \"db\""}"#,
            "denied",
        ),
        (V1, 404, r#"{"error":"database not found: \"db\""}"#, "hold"),
        (V1, 413, r#"{"error":"Request Entity Too Large"}"#, "halve"),
        (V1, 500, r#"{"error":"retention policy not found: none"}"#, "hold"),
        (V1, 500, r#"{"error":"timeout"}"#, "retry"),
        (V1, 500, r#"{"error":"engine: cache-max-memory-size exceeded: (1/1)"}"#, "retry"),
        (V1, 500, r#"{"error":"write failed: hinted handoff queue not empty"}"#, "done"),
        (V1, 503, "Server is currently overloaded", "retry"),
        // InfluxDB 2 and Cloud 2.
        (V2, 204, "", "done"),
        (V2, 400, r#"{"code":"invalid","message":"unable to parse 'bad': missing fields"}"#, "bad"),
        (V2, 200, "", "hold"),
        (
            V2,
            400,
            r#"{"code":"invalid","message":"invalid precision; valid precision units are ns, us, ms, and s"}"#,
            "hold",
        ),
        (
            V2,
            400,
            r#"{"code":"invalid","message":"unable to read data: gzip: invalid header"}"#,
            "hold",
        ),
        (
            V2,
            400,
            r#"{"code":"invalid","message":"failed to parse line protocol: errors encountered on line(s):\nerror parsing line 2 (1-based): No fields were provided","line":2}"#,
            "bad",
        ),
        (
            V2,
            400,
            r#"{"code":"forbidden","message":"unable to parse 'bad': missing fields"}"#,
            "hold",
        ),
        (V2, 422, r#"{"code":"unprocessable entity","message":"bucket is read-only"}"#, "hold"),
        (
            V2,
            422,
            r#"{"code":"unprocessable entity","message":"failure writing points to database: partial write: field type conflict: input field \"v\" on measurement \"b\" is type integer, already exists as type float dropped=1"}"#,
            "bad 1",
        ),
        (
            V2,
            422,
            r#"{"code":"unprocessable entity","message":"failure writing points to database: partial write: dropped 3 points outside retention policy of duration 24h0m0s dropped=3 for database: 1 for retention policy: autogen"}"#,
            "refused",
        ),
        (
            V2,
            500,
            r#"{"code":"internal error","message":"unexpected error writing points to database: partial write: points beyond retention policy dropped=3"}"#,
            "refused",
        ),
        (
            V2,
            500,
            r#"{"code":"internal error","message":"unexpected error writing points to database: timeout"}"#,
            "retry",
        ),
        (V2, 401, r#"{"code":"unauthorized","message":"unauthorized access"}"#, "denied"),
        (
            V2,
            403,
            r#"{"code":"forbidden","message":"insufficient permissions for write"}"#,
            "denied",
        ),
        (V2, 404, r#"{"code":"not found","message":"bucket \"b\" not found"}"#, "hold"),
        (
            V2,
            413,
            r#"{"code":"request too large","message":"cannot read data: points batch is too large"}"#,
            "halve",
        ),
        (V2, 429, "", "retry"),
        (V2, 503, "", "retry"),
        // InfluxDB 3.
        (V3, 204, "", "done"),
        (V3, 200, "{}", "done"),
        (V3, 200, r#"{"error":"no"}"#, "hold"),
        (V3, 200, "", "hold"),
        (V3, 400, "missing query parameter 'db'", "hold"),
        (
            V3,
            400,
            r#"{"error": "Authorization header was malformed, the request was not in the form of 'Authorization: <auth-scheme> <token>', supported auth-schemes are Bearer, Token and Basic"}"#,
            "hold",
        ),
        (
            V3,
            400,
            r#"{"error":"line protocol parsing error","data":{"original_line":"bad","line_number":2,"error_message":"No fields were provided"}}"#,
            "bad",
        ),
        (V3, 400, r#"{"error":"database db is deleted"}"#, "hold"),
        (
            V3,
            422,
            r#"{"error":"Update to schema would exceed number of tables per database limit of 2000 tables"}"#,
            "bad",
        ),
        (
            V3,
            400,
            r#"{"error":"partial write of line protocol occurred","data":[{"original_line":"bad","line_number":2,"error_message":"No fields were provided"}]}"#,
            "except 1",
        ),
        (
            V3,
            400,
            r#"{"error":"parsing failed for write_lp endpoint","data":{"original_line":"bad","line_number":2,"error_message":"No fields were provided"}}"#,
            "bad",
        ),
        (
            V3,
            422,
            r#"{"error":"partial write of line protocol occurred","data":[{"original_line":"bad","line_number":2,"error_message":"Update to schema would exceed number of columns per table limit of 500 columns"}]}"#,
            "except 1",
        ),
        (
            V3,
            422,
            r#"{"error":"partial write of line protocol occurred","data":[{"original_line":"a","line_number":1,"error_message":"Adding a new database would exceed limit of 5 databases"}]}"#,
            "hold",
        ),
        (
            V3,
            422,
            r#"{"error":"Adding a new database would exceed limit of 5 databases","data":null}"#,
            "hold",
        ),
        (V3, 401, "", "denied"),
        (V3, 403, "", "denied"),
        (V3, 413, "", "halve"),
        (V3, 500, "max request size (10485760 bytes) exceeded", "halve"),
        (V3, 500, "body content is not valid utf8: invalid utf-8 sequence", "bad"),
        (V3, 500, "write buffer error: timeout", "retry"),
        (V3, 503, "", "retry"),
        // Remote write: prometheus.io/docs/specs/prw; `storage/remote/write_handler.go` and 2.42.
        (Rw, 204, "", "done"),
        (Rw, 200, "", "done"),
        (Rw, 202, "accepted", "done"),
        (Rw, 200, "<!DOCTYPE html>", "hold"),
        (Rw, 400, "out of order sample", "bad"),
        (Rw, 409, "", "bad"),
        (Rw, 422, "per-user series limit exceeded", "bad"),
        (Rw, 401, "", "denied"),
        (Rw, 403, "", "denied"),
        (Rw, 404, "", "hold"),
        (Rw, 404, "remote write receiver needs to be enabled", "hold"),
        (Rw, 405, "", "hold"),
        (Rw, 413, "", "halve"),
        (Rw, 415, "", "hold"),
        (Rw, 302, "", "hold"),
        (Rw, 408, "", "retry"),
        (Rw, 429, "", "retry"),
        (Rw, 500, "", "retry"),
        (Rw, 503, "", "retry"),
        // OTLP: opentelemetry.io/docs/specs/otlp, "OTLP/HTTP Response".
        (Otlp, 200, "", "done"),
        (Otlp, 200, "\x0a\x02\x12\x00", "done"),
        (Otlp, 200, "\x0a\x05\x08\x02\x12\x01x", "partial 2"),
        (Otlp, 200, "\x0a\x02\x08\x7f", "partial 3"),
        (Otlp, 200, "<html>", "hold"),
        (Otlp, 400, "", "bad"),
        (Otlp, 408, "", "bad"),
        (Otlp, 401, "", "denied"),
        (Otlp, 404, "", "hold"),
        (Otlp, 413, "", "halve"),
        (Otlp, 429, "", "retry"),
        (Otlp, 500, "", "refused"),
        (Otlp, 502, "", "retry"),
        (Otlp, 503, "", "retry"),
        (Otlp, 504, "", "retry"),
        // VictoriaMetrics.
        (Vm, 204, "", "done"),
        (Vm, 200, "OK", "hold"),
        (
            Vm,
            400,
            r#"remoteAddr: "127.0.0.1:1"; requestURI: /write?precision=ns; incorrect influx line "bad": cannot find Whitespace I in "bad""#,
            "bad",
        ),
        (
            Vm,
            400,
            r#"remoteAddr: "127.0.0.1:1"; requestURI: /write?precision=ns; cannot read influx line protocol data: too long line: more than 262144 bytes"#,
            "bad",
        ),
        (
            Vm,
            400,
            r#"remoteAddr: "127.0.0.1:1"; requestURI: /write?precision=ns; cannot read gzipped influx line protocol data: unexpected EOF"#,
            "hold",
        ),
        (
            Vm,
            400,
            r#"remoteAddr: "127.0.0.1:1"; requestURI: /p/write?precision=ns; unsupported path requested: "/p/write""#,
            "hold",
        ),
        (
            Vm,
            400,
            r#"remoteAddr: "[::1]:1"; requestURI: /write; cannot unmarshal InfluxDB line "bad": cannot find Whitespace I in "bad""#,
            "bad",
        ),
        (Vm, 400, "too big request; mustn't exceed -influx.maxRequestSize=67108864 bytes", "halve"),
        (Vm, 401, "", "denied"),
        (Vm, 404, "", "hold"),
        (Vm, 429, "", "retry"),
        (
            Vm,
            503,
            "couldn't start executing the request in 60.000 seconds, since -maxConcurrentInserts=8",
            "retry",
        ),
        // Telegraf's influxdb_listener, which keeps the good lines and does not say so.
        (V1, 400, r#"{"error":"metric parse error: expected field at 2:4: \"bad\""}"#, "bad"),
        (V1, 413, r#"{"error":"http: request body too large"}"#, "halve"),
        (V1, 503, "", "retry"),
        // Proxies, and what is none of these servers.
        (V1, 301, "", "hold"),
        (V2, 307, "", "hold"),
        (V1, 405, "", "hold"),
        (V3, 415, "", "hold"),
        (V2, 408, "", "retry"),
        (Vm, 502, "<html>Bad Gateway</html>", "retry"),
        (Vm, 504, "", "retry"),
        (V1, 202, "", "hold"),
        (V2, 206, "", "hold"),
        (V1, 207, "", "hold"),
        (Vm, 201, "", "hold"),
        (V1, 200, "<html>Welcome to nginx!</html>", "hold"),
        (V1, 400, "<html>400 The plain HTTP request was sent to HTTPS port</html>", "hold"),
        (Vm, 400, "Client sent an HTTP request to an HTTPS server.\n", "hold"),
        (V3, 400, "", "hold"),
        (V2, 422, "", "hold"),
        // The words of one server are nothing in the mouth of another.
        (V1, 400, r#"incorrect influx line "bad": cannot find Whitespace I in "bad""#, "hold"),
        (Vm, 400, r#"{"error":"unable to parse 'bad': missing fields"}"#, "hold"),
        (V3, 400, r#"{"error":"unable to parse 'bad': missing fields"}"#, "hold"),
        (
            V1,
            400,
            "<html>partial write: unable to parse 'bad': missing fields dropped=0</html>",
            "hold",
        ),
    ];
    for (kind, status, body, expected) in table {
        assert_eq!(word(&of(*kind, *status, body)), *expected, "{kind:?} {status} {body}");
    }
}

#[test]
fn retry_after_is_seconds_or_a_date() {
    for (value, seconds) in [
        (Some("30"), Some(30)),
        (Some(" 3600 "), Some(3600)),
        (Some("0"), Some(0)),
        (Some("Sun, 06 Nov 1994 08:50:37 GMT"), Some(60)),
        (Some("Sun, 06 Nov 1994 08:00:00 GMT"), Some(0)),
        (Some("soon"), None),
        (Some("-1"), None),
        (Some("1.5"), None),
        (Some(""), None),
        (None, None),
    ] {
        for status in [429, 500, 503] {
            let Answer::Retry { after, .. } = retry(V2, status, "", value) else {
                panic!("{status}")
            };
            assert_eq!(after, seconds.map(Duration::from_secs), "{status} {value:?}");
        }
    }
}

#[test]
fn what_a_person_has_to_do_is_said() {
    for (kind, status, body, parts) in [
        (
            V1,
            404,
            r#"{"error":"database not found: \"db\""}"#,
            ["404 database not found", "make the database `db`"],
        ),
        (
            V2,
            404,
            r#"{"code":"not found","message":"bucket not found"}"#,
            ["bucket not found", "bucket `b` of the organization `org`"],
        ),
        (V2, 401, "", ["401: ", "correct the token"]),
        (V3, 403, "", ["403: ", "the database `db`"]),
        (Vm, 404, "", ["404: ", "correct the URL"]),
        (Vm, 407, "who\u{1b}[31m\u{202e}?", ["who [31m?"; 2]),
        (V1, 302, "", ["302: ", "not followed"]),
        (V1, 200, "<html>", ["200 <html>: no answer of an InfluxDB 1", "check `kind` and `url`"]),
        (
            V1,
            400,
            r#"{"error":"database is required"}"#,
            ["400 database is required: no words of an InfluxDB 1", "check `kind` and `url`"],
        ),
        (
            V2,
            400,
            "The plain HTTP request was sent to HTTPS port",
            ["400 The", "begin with https://"],
        ),
        (
            Vm,
            400,
            r#"unsupported path requested: "/p/write""#,
            ["unsupported path", "correct the URL"],
        ),
    ] {
        match of(kind, status, body) {
            Answer::Hold(words) | Answer::Denied(words) => {
                assert!(parts.iter().all(|part| words.contains(part)), "{words}");
            }
            other => panic!("{kind:?} {status}: {other:?}"),
        }
    }
}
