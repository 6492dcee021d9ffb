//! InfluxDB 1.6 of Debian.

use super::Server;
use crate::Stored;
use crate::http::{self, Answer};
use collector::read::{Line, Value};
use serde_json::Value as Json;
use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;

/// The database that the tests write to.
pub const DATABASE: &str = "telegraf";

/// A user, with all rights.
#[derive(Clone, Copy, Debug)]
pub struct Login {
    pub user: &'static str,
    pub password: &'static str,
}

/// A running InfluxDB with an empty database `telegraf`. Its limits are the defaults; it fsyncs every
/// write before it answers, so that `kill -9` loses nothing that was acknowledged.
#[derive(Debug)]
pub struct Influx {
    pub server: Server,
    login: Option<Login>,
}

impl Influx {
    /// Whoever asks may do anything.
    #[must_use]
    pub fn start() -> Self {
        Self::with(None)
    }

    /// Every request needs the login.
    #[must_use]
    pub fn start_with_login(login: Login) -> Self {
        Self::with(Some(login))
    }

    fn with(login: Option<Login>) -> Self {
        let mut server = Server::new("influxd", "/ping", |folder, address| {
            let path = folder.join("influxdb.conf");
            fs::write(&path, config(folder, address, login.is_some())).expect("a config file");
            vec!["-config".to_owned(), path.display().to_string()]
        });
        server.start();
        let influx = Self { server, login };
        if let Some(Login { user, password }) = login {
            // The first user needs no login.
            let create =
                format!("CREATE USER {user} WITH PASSWORD '{password}' WITH ALL PRIVILEGES");
            influx.query(&create);
        }
        influx.query(&format!("CREATE DATABASE {DATABASE}"));
        influx
    }

    /// Writes line protocol by hand.
    ///
    /// # Panics
    /// The server does not answer.
    #[must_use]
    pub fn write(&self, lines: &str) -> Answer {
        let mut parameters = vec![("db", DATABASE)];
        parameters.extend(self.login());
        let url = self.server.url() + "/write";
        http::post(&url, &parameters, &[], lines.as_bytes()).expect("an answer")
    }

    /// Asks InfluxQL; the `series` of the answer, empty when there are none.
    ///
    /// # Panics
    /// The server does not answer, or with an error.
    #[must_use]
    pub fn series(&self, query: &str) -> Vec<Json> {
        let mut answer = self.query(query);
        match answer["results"][0]["series"].take() {
            Json::Array(series) => series,
            _ => Vec::new(),
        }
    }

    /// How many points of a table have a field.
    ///
    /// # Panics
    /// As [`Influx::series`].
    #[must_use]
    pub fn count(&self, table: &str, field: &str) -> u64 {
        let series = self.series(&format!("SELECT count(\"{field}\") FROM \"{table}\""));
        series.first().map_or(0, |s| s["values"][0][1].as_u64().expect("a count"))
    }

    fn login<'a>(&self) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.login.into_iter().flat_map(|login| [("u", login.user), ("p", login.password)])
    }

    fn query(&self, query: &str) -> Json {
        let mut parameters = vec![("db", DATABASE), ("epoch", "ns"), ("q", query)];
        parameters.extend(self.login());
        let answer = http::post(&(self.server.url() + "/query"), &parameters, &[], &[]);
        let Answer { status, body } = answer.expect("an answer");
        assert_eq!(status, 200, "{query}: {body}");
        let json: Json = serde_json::from_str(&body).expect("JSON");
        assert!(json["results"][0]["error"].is_null(), "{query}: {body}");
        json
    }
}

impl Stored for Influx {
    fn lines(&self, table: &str) -> Vec<Line> {
        // JSON does not tell 1 from 1.0.
        let types: BTreeMap<String, String> = self
            .series(&format!("SHOW FIELD KEYS FROM \"{table}\""))
            .iter()
            .flat_map(|series| series["values"].as_array().expect("rows"))
            .map(|row| (text(&row[0]), text(&row[1])))
            .collect();
        let mut lines = Vec::new();
        for series in self.series(&format!("SELECT * FROM \"{table}\" GROUP BY *")) {
            let tags: BTreeMap<String, String> = series["tags"]
                .as_object()
                .into_iter()
                .flatten()
                .map(|(key, value)| (key.clone(), text(value)))
                .filter(|(_, value)| !value.is_empty()) // GROUP BY * shows tags that a series has not
                .collect();
            let columns: Vec<String> =
                series["columns"].as_array().expect("columns").iter().map(text).collect();
            for row in series["values"].as_array().expect("rows") {
                let fields = columns.iter().zip(row.as_array().expect("a row")).skip(1);
                let fields = fields.filter(|(_, value)| !value.is_null());
                lines.push(Line {
                    table: table.to_owned(),
                    tags: tags.clone(),
                    fields: fields.map(|(k, v)| (k.clone(), value(v, &types[k]))).collect(),
                    time_ns: row[0].as_i64().expect("a time"),
                });
            }
        }
        lines
    }

    fn numbers(&self, table: &str, field: &str) -> Vec<i64> {
        let series = self.series(&format!("SELECT \"{field}\" FROM \"{table}\""));
        let rows = series.iter().flat_map(|series| series["values"].as_array().expect("rows"));
        let mut numbers: Vec<_> = rows.map(|row| row[1].as_i64().expect("an integer")).collect();
        numbers.sort_unstable();
        numbers
    }
}

fn text(json: &Json) -> String {
    json.as_str().expect("a text").to_owned()
}

fn value(json: &Json, kind: &str) -> Value {
    match kind {
        "integer" => Value::I64(json.as_i64().expect("an integer")),
        "float" => Value::F64(json.as_f64().expect("a float")),
        "boolean" => Value::Bool(json.as_bool().expect("a boolean")),
        "string" => Value::Text(text(json)),
        other => panic!("a field's type is {other}"),
    }
}

fn config(folder: &Path, address: SocketAddr, auth: bool) -> String {
    let folder = folder.display();
    format!(
        r#"reporting-disabled = true
bind-address = "127.0.0.1:0"
[meta]
dir = "{folder}/meta"
[data]
dir = "{folder}/data"
wal-dir = "{folder}/wal"
query-log-enabled = false
[http]
bind-address = "{address}"
auth-enabled = {auth}
log-enabled = false
[monitor]
store-enabled = false
[logging]
level = "warn"
"#
    )
}
