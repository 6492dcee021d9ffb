//! Receivers of remote write and of OTLP, and what becomes of lines that they do not take.

use super::super::Version;
use super::*;
use line_cases::proto::otlp::{self, ExportMetricsServiceRequest};
use line_cases::proto::{Message, v1, v2};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

fn to_remote(server: &Server, version: Version) -> HttpConfig {
    let config =
        HttpConfig::new(Kind::Prometheus { version, native: false }, server.url(), Auth::None);
    HttpConfig { timeout: TIMEOUT, ..config }
}

fn to_otlp(server: &Server) -> HttpConfig {
    let config = HttpConfig::new(Kind::Otlp, server.url(), Auth::None);
    HttpConfig { timeout: TIMEOUT, ..config }
}

/// Lines of a series each, numbered from 0.
fn typed(count: u64) -> String {
    (0..count).map(|n| format!("t,n={n} v={n}u,interval_ns=1000000i 5000000\n")).collect()
}

fn is_post(request: &Request) -> bool {
    request.head[0].starts_with("POST ")
}

/// Which requests with samples were of version 2.
fn versions(server: &Server) -> Vec<bool> {
    server.requests().iter().filter(|request| is_post(request)).map(is_v2).collect()
}

fn is_v2(request: &Request) -> bool {
    request.header("x-prometheus-remote-write-version") == Some("2.0.0")
}

fn message(request: &Request) -> Vec<u8> {
    assert_eq!(request.header("content-encoding"), Some("snappy"));
    snap::raw::Decoder::new().decompress_vec(&request.bytes).unwrap()
}

/// The values of a request's samples; of a ping none.
fn values(request: &Request) -> Vec<u64> {
    if !is_post(request) {
        return Vec::new();
    }
    let message = message(request);
    if is_v2(request) {
        let request = v2::Request::decode(&message[..]).unwrap();
        request.timeseries.iter().map(|one| one.samples[0].value as u64).collect()
    } else {
        let request = v1::WriteRequest::decode(&message[..]).unwrap();
        request.timeseries.iter().map(|one| one.samples[0].value as u64).collect()
    }
}

fn written(status: u16, samples: usize) -> Reaction {
    let headers: &'static str =
        format!("X-Prometheus-Remote-Write-Samples-Written: {samples}\r\n").leak();
    Reaction::Answer(status, headers, String::new())
}

#[test]
fn a_server_that_knows_version_1_alone_gets_that_however_it_says_so() {
    // As the specification says; as Prometheus 2.42 and VictoriaMetrics 1.79, which find no series in it; and as
    // who does not even say that there was nothing.
    for answer in [415, 204, 200] {
        let server = Server::start(move |request| {
            Reaction::status(if is_v2(request) { answer } else { 204 })
        });
        let mut output = open(&to_remote(&server, Version::Auto)).unwrap();
        for _ in 0..2 {
            let mut parcel = parcel(&[typed(3)]);
            output.deliver(&mut parcel, None).unwrap();
            assert_eq!(fates(&mut parcel), (3, 0, 0), "{answer}");
        }
        assert_eq!(versions(&server), [true, false, false], "{answer}: asked once");
        let requests = server.requests();
        assert!(requests.iter().all(|request| values(request) == [0, 1, 2]));
        let first = &requests[1];
        assert_eq!(first.head[0], "POST /api/v1/write HTTP/1.1");
        assert_eq!(first.header("content-type"), Some("application/x-protobuf"));
        assert_eq!(first.header("x-prometheus-remote-write-version"), Some("0.1.0"));
    }
}

#[test]
fn a_server_of_version_2_says_what_it_has_written() {
    let server = Server::start(|request| written(204, values(request).len()));
    let mut output = open(&to_remote(&server, Version::Auto)).unwrap();
    let mut parcel = parcel(&[typed(3)]);
    output.deliver(&mut parcel, None).unwrap();
    assert_eq!(fates(&mut parcel), (3, 0, 0));
    assert!(server.requests().iter().all(is_v2));
}

#[test]
fn after_a_failure_version_2_is_tried_again() {
    let count = AtomicUsize::new(0);
    let server = Server::start(move |request| match count.fetch_add(1, Ordering::SeqCst) {
        2 => Reaction::status(500),
        _ => Reaction::status(if is_v2(request) { 415 } else { 204 }),
    });
    let mut output = open(&to_remote(&server, Version::Auto)).unwrap();
    output.deliver(&mut parcel(&[typed(1)]), None).unwrap();
    let mut second = parcel(&[typed(1)]);
    later(output.deliver(&mut second, None));
    output.deliver(&mut second, None).unwrap();
    assert_eq!(versions(&server), [true, false, false, true, false]);
}

#[test]
fn a_version_that_is_configured_is_the_only_one() {
    let server = Server::start(|request| Reaction::status(if is_v2(request) { 204 } else { 415 }));
    let mut output = open(&to_remote(&server, Version::V2)).unwrap();
    let why = held(output.deliver(&mut parcel(&[typed(1)]), None));
    assert!(why.contains("set `version` to \"auto\" or \"1\""), "{why}");
    let mut output = open(&to_remote(&server, Version::V1)).unwrap();
    let why = held(output.deliver(&mut parcel(&[typed(1)]), None));
    assert!(why.contains("415: it takes no such messages"), "{why}");
}

#[test]
fn what_a_server_of_version_2_has_not_written_is_counted_and_nothing_is_sent_again() {
    for status in [400, 204] {
        let server = Server::start(move |request| match values(request).len() {
            0 => written(204, 0),
            count => written(status, count - 2),
        });
        let mut output = open(&to_remote(&server, Version::Auto)).unwrap();
        let mut parcel = parcel(&[typed(10)]);
        output.deliver(&mut parcel, None).unwrap();
        assert_eq!(fates(&mut parcel), (8, 2, 0), "{status}");
        assert_eq!(server.requests().len(), 1);
    }
}

#[test]
fn a_line_that_is_refused_by_version_1_is_found_and_the_others_are_stored() {
    let server = Server::start(|request| {
        if values(request).contains(&7) {
            Reaction::Answer(400, "", "label value too long".to_owned())
        } else {
            Reaction::status(204)
        }
    });
    let mut output = open(&to_remote(&server, Version::V1)).unwrap();
    let mut parcel = parcel(&[typed(100)]);
    output.deliver(&mut parcel, None).unwrap();
    assert_eq!(fates(&mut parcel), (99, 1, 0));
    let requests = server.requests();
    let taken = requests.iter().map(values).filter(|values| !values.contains(&7)).flatten();
    assert_eq!(taken.collect::<Vec<_>>(), (0..100).filter(|n| *n != 7).collect::<Vec<_>>());
}

#[test]
fn a_lost_answer_costs_no_line_though_prometheus_takes_no_sample_twice() {
    let stored = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&stored);
    let server = Server::start(move |request| {
        if !is_post(request) {
            return Reaction::status(405);
        }
        // As in 2.42: all of a request, or nothing.
        match count.swap(values(request).len(), Ordering::SeqCst) {
            0 => Reaction::Raw(""),
            _ => Reaction::Answer(400, "", "out of order sample".to_owned()),
        }
    });
    let mut output = open(&to_remote(&server, Version::V1)).unwrap();
    let mut parcel = parcel(&[typed(10), typed(5)]);
    later(output.deliver(&mut parcel, None));
    output.0.deliver(&mut parcel, None).unwrap();
    assert_eq!((fates(&mut parcel), parcel.is_done()), ((15, 0, 0), true));
    // Without a lost answer it is what it says.
    let mut parcel = super::parcel(&[typed(2)]);
    output.deliver(&mut parcel, None).unwrap();
    assert_eq!(fates(&mut parcel), (0, 2, 0), "and nobody is asked whether it knows lines at all");
}

#[test]
fn busy_receivers_are_asked_again_when_they_say() {
    for (kind, status, after) in [
        ("remote", 429, Some("7")),
        ("remote", 500, None),
        ("remote", 503, Some("7")),
        ("otlp", 429, Some("7")),
        ("otlp", 502, None),
        ("otlp", 503, Some("7")),
        ("otlp", 504, None),
    ] {
        let headers = after.map_or("", |_| "Retry-After: 7\r\n");
        let server = Server::start(move |_| Reaction::Answer(status, headers, "busy".to_owned()));
        let config =
            if kind == "otlp" { to_otlp(&server) } else { to_remote(&server, Version::Auto) };
        let mut parcel = parcel(&[typed(2)]);
        let (why, wait) = later(open(&config).unwrap().deliver(&mut parcel, None));
        assert_eq!(wait.map(|wait| wait.as_secs()), after.map(|_| 7), "{kind} {status}");
        assert!(why.starts_with(&format!("{status} ")), "{why}");
        assert_eq!(fates(&mut parcel), (0, 0, 0));
    }
}

fn partial(points: i64, why: &str) -> String {
    let partial = otlp::ExportMetricsPartialSuccess {
        rejected_data_points: points,
        error_message: why.to_owned(),
    };
    let response = otlp::ExportMetricsServiceResponse { partial_success: Some(partial) };
    String::from_utf8(response.encode_to_vec()).unwrap()
}

#[test]
fn otlp_is_posted_compressed_and_taken_with_200() {
    let server = Server::start(|_| Reaction::status(200));
    let mut output = open(&to_otlp(&server)).unwrap();
    let mut parcel = parcel(&[typed(3)]);
    output.deliver(&mut parcel, None).unwrap();
    assert_eq!(fates(&mut parcel), (3, 0, 0));
    let requests = server.requests();
    let request = &requests[0];
    assert_eq!(request.head[0], "POST /v1/metrics HTTP/1.1");
    assert_eq!(request.header("content-type"), Some("application/x-protobuf"));
    assert_eq!(request.header("content-encoding"), Some("gzip"));
    let message = ExportMetricsServiceRequest::decode(&request.bytes[..]).unwrap();
    let metric = &message.resource_metrics[0].scope_metrics[0].metrics[0];
    assert_eq!(metric.sum.as_ref().unwrap().data_points.len(), 3);
}

#[test]
fn points_that_otlp_refuses_are_counted_and_nothing_is_sent_again() {
    for (points, fate) in [(2, (8, 2, 0)), (99, (0, 10, 0)), (0, (10, 0, 0))] {
        let server = Server::start(move |request| match request.bytes.len() {
            0 => Reaction::status(200),
            _ => Reaction::Answer(200, "", partial(points, "no such unit")),
        });
        let mut output = open(&to_otlp(&server)).unwrap();
        let mut parcel = parcel(&[typed(10)]);
        output.deliver(&mut parcel, None).unwrap();
        assert_eq!(fates(&mut parcel), fate, "{points}");
        let requests = server.requests();
        let filled = requests.iter().filter(|request| !request.bytes.is_empty());
        assert_eq!(filled.count(), 1, "{points}");
    }
}

#[test]
fn otlps_own_words_are_read_out_of_its_message() {
    let status = otlp::Status { code: 3, message: "bad start time".to_owned() };
    let body = String::from_utf8(status.encode_to_vec()).unwrap();
    let server = Server::start(move |request| match request.bytes.len() {
        0 => Reaction::status(200),
        _ => Reaction::Answer(404, "", body.clone()),
    });
    let mut parcel = parcel(&[typed(2)]);
    let why = held(open(&to_otlp(&server)).unwrap().deliver(&mut parcel, None));
    assert!(why.starts_with("404 bad start time: correct the URL"), "{why}");
    assert_eq!(fates(&mut parcel), (0, 0, 0));
}

#[test]
fn a_page_of_somebody_else_is_no_delivery() {
    let page = || Reaction::Answer(200, "", "\n<html>welcome</html>".to_owned());
    let server = Server::start(move |_| page());
    for config in [to_otlp(&server), to_remote(&server, Version::V1)] {
        let mut parcel = parcel(&[typed(2)]);
        let why = held(open(&config).unwrap().deliver(&mut parcel, None));
        assert!(why.contains("check `kind` and `url`"), "{why}");
        assert_eq!(fates(&mut parcel), (0, 0, 0));
    }
}
