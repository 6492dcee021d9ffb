//! The questions that Prometheus and VictoriaMetrics answer alike.

use super::Server;
use crate::http::{self, Answer};
use serde_json::Value as Json;
use std::collections::BTreeMap;

/// Names and texts.
pub type Labels = BTreeMap<String, String>;

/// Times in milliseconds, and values.
pub type Points = Vec<(i64, f64)>;

/// What an expression comes to at a time in milliseconds, by labels.
pub fn query(server: &Server, query: &str, time_ms: i64) -> Vec<(Labels, f64)> {
    let results = at(server, query, time_ms);
    results.iter().map(|result| (labels(&result["metric"]), number(&result["value"][1]))).collect()
}

/// What an expression that is a stretch of time has before a time in milliseconds, by labels.
pub fn stretch(server: &Server, query: &str, time_ms: i64) -> Vec<(Labels, Points)> {
    at(server, query, time_ms).iter().map(series).collect()
}

/// What an expression comes to at each step from one time in milliseconds to another, by labels.
pub fn query_range(
    server: &Server,
    query: &str,
    (from_ms, until_ms, step_ms): (i64, i64, i64),
) -> Vec<(Labels, Points)> {
    let (start, end) = (seconds(from_ms), seconds(until_ms));
    let step = format!("{step_ms}ms");
    let parameters = [("query", query), ("start", &start), ("end", &end), ("step", &step)];
    ask(server, "/api/v1/query_range", &parameters).iter().map(series).collect()
}

fn at(server: &Server, query: &str, time_ms: i64) -> Vec<Json> {
    ask(server, "/api/v1/query", &[("query", query), ("time", &seconds(time_ms))])
}

fn ask(server: &Server, path: &str, parameters: &[(&str, &str)]) -> Vec<Json> {
    // VictoriaMetrics would remember what it had answered before the newest lines came.
    let parameters = [parameters, &[("nocache", "1")]].concat();
    let answer = http::get(&(server.url() + path), &parameters);
    let Answer { status, body } = answer.expect("an answer");
    assert_eq!(status, 200, "{parameters:?}: {body}");
    let json: Json = serde_json::from_str(&body).expect("JSON");
    json["data"]["result"].as_array().expect("results").clone()
}

fn series(result: &Json) -> (Labels, Points) {
    let point = |pair: &Json| {
        let seconds = pair[0].as_f64().expect("a time");
        ((seconds * 1e3).round() as i64, number(&pair[1]))
    };
    let points = result["values"].as_array().expect("points").iter().map(point);
    (labels(&result["metric"]), points.collect())
}

fn number(json: &Json) -> f64 {
    json.as_str().expect("a value").parse().expect("a number")
}

fn seconds(ms: i64) -> String {
    format!("{}.{:03}", ms / 1000, ms % 1000)
}

/// A metric's, its name among them.
pub fn labels(metric: &Json) -> Labels {
    let labels = metric.as_object().expect("labels").iter();
    labels.map(|(k, v)| (k.clone(), v.as_str().expect("a label's text").to_owned())).collect()
}
