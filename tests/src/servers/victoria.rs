//! VictoriaMetrics of Debian.

use super::Server;
use super::promql::{self, Labels, Points, labels};
use crate::Stored;
use crate::fleet;
use crate::http::{self, Answer};
use crate::wait;
use collector::read::{Line, Value};
use serde_json::Value as Json;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// A running VictoriaMetrics. It keeps numbers alone, as floats, in milliseconds; a field is a metric of
/// its own, `TABLE_FIELD`. It answers 204 whatever it was sent: a line that it cannot read is skipped, logged
/// and counted ([`Victoria::refused`]). It answers before what it took is on disk: [`Server::kill9`] loses
/// what came in the last seconds, [`Server::stop`] nothing.
#[derive(Debug)]
pub struct Victoria {
    pub server: Server,
}

/// What it keeps: a value of a metric, at a time.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// All labels but the name.
    pub tags: Arc<BTreeMap<String, String>>,
    pub time_ms: i64,
    pub value: f64,
}

impl Victoria {
    /// Keeps everything, however old, and answers queries about the present second too.
    #[must_use]
    pub fn start() -> Self {
        let mut server = Server::new("victoria-metrics", "/health", |folder, address| {
            let data = folder.join("data");
            vec![
                format!("-storageDataPath={}", data.display()),
                format!("-httpListenAddr={address}"),
                "-retentionPeriod=100y".to_owned(),
                "-search.latencyOffset=0s".to_owned(),
                "-loggerLevel=WARN".to_owned(),
                // Half of the machine's memory is not ours to take.
                "-memory.allowedBytes=256MB".to_owned(),
            ]
        });
        server.start();
        Self { server }
    }

    /// As etc/fleet has it, with room for the series of a fleet; it answers queries about the present second too.
    #[must_use]
    pub fn of_a_fleet() -> Self {
        let mut server = Server::new("victoria-metrics", "/health", |folder, address| {
            let mut flags = fleet::victoria(folder, address);
            let ours = [
                "-search.latencyOffset=0s",
                "-search.maxUniqueTimeseries=3000000",
                "-search.maxQueryDuration=100s",
                "-memory.allowedBytes=4GB",
                "-storage.minFreeDiskSpaceBytes=10MB",
            ];
            flags.extend(ours.map(str::to_owned));
            flags
        });
        server.start();
        Self { server }
    }

    /// Where its data is.
    #[must_use]
    pub fn folder(&self) -> PathBuf {
        self.server.folder.path().join("data")
    }

    /// What an expression comes to at each step, in milliseconds, by labels: times and values.
    ///
    /// # Panics
    /// The server does not answer what is expected.
    #[must_use]
    pub fn query_range(
        &self,
        query: &str,
        from_until_step: (i64, i64, i64),
    ) -> Vec<(Labels, Points)> {
        promql::query_range(&self.server, query, from_until_step)
    }

    /// Writes line protocol by hand.
    ///
    /// # Panics
    /// The server does not answer.
    #[must_use]
    pub fn write(&self, lines: &str) -> Answer {
        let url = self.server.url() + "/write";
        http::post(&url, &[], &[], lines.as_bytes()).expect("an answer")
    }

    /// How many lines it could not read since it was started.
    ///
    /// # Panics
    /// The server does not answer what is expected.
    #[must_use]
    pub fn refused(&self) -> u64 {
        let metrics = http::get(&(self.server.url() + "/metrics"), &[]).expect("an answer").body;
        let key = "vm_rows_invalid_total{type=\"influx\"} ";
        let count = metrics.lines().find_map(|line| line.strip_prefix(key)).expect(key);
        count.parse().expect("a number")
    }

    /// Waits until all that it took is on disk, which takes some 5 s after the last of it.
    ///
    /// # Panics
    /// It keeps something back for a minute.
    pub fn wait_for_disk(&self) {
        let value = |metrics: &str, key: &str| -> u64 {
            let found = metrics.lines().find_map(|line| line.strip_prefix(key)).expect(key);
            found.trim().parse().expect("a number")
        };
        // A part's folder is called ROWS_BLOCKS_FROM_TO_ID, in data/SIZE/MONTH.
        let data = self.server.folder.path().join("data/data");
        let sizes = ["small", "big"];
        wait::until("VictoriaMetrics to write to disk", || {
            let metrics =
                http::get(&(self.server.url() + "/metrics"), &[]).expect("an answer").body;
            let rows = |size| value(&metrics, &format!("vm_rows{{type=\"storage/{size}\"}}"));
            let months = sizes.iter().flat_map(|size| entries(&data.join(size)));
            let parts = months.flat_map(|month| entries(&month));
            let names = parts.filter_map(|part| Some(part.file_name()?.to_str()?.to_owned()));
            let on_disk = names.filter_map(|name| name.split_once('_')?.0.parse::<u64>().ok());
            value(&metrics, "vm_pending_rows{type=\"storage\"}") == 0
                && sizes.into_iter().map(rows).sum::<u64>() == on_disk.sum::<u64>()
        });
    }

    /// All samples of the metrics that a selector chooses, by metric: `{__name__=~"stream_.*"}`. A line that
    /// was sent twice is there twice.
    ///
    /// # Panics
    /// The server does not answer what is expected.
    #[must_use]
    pub fn samples(&self, selector: &str) -> BTreeMap<String, Vec<Sample>> {
        self.flush();
        let query = [("match[]", selector), ("start", "0"), ("end", "9223372036")];
        let url = self.server.url() + "/api/v1/export";
        let Answer { status, body } = http::get(&url, &query).expect("an answer");
        assert_eq!(status, 200, "{selector}: {body}");
        let mut metrics: BTreeMap<String, Vec<Sample>> = BTreeMap::new();
        for line in body.lines() {
            let block: Json = serde_json::from_str(line).expect("JSON");
            let mut tags = labels(&block["metric"]);
            let name = tags.remove("__name__").expect("a metric has a name");
            let tags = Arc::new(tags);
            let list = |key: &str| block[key].as_array().expect("a list").clone();
            let samples = list("timestamps").into_iter().zip(list("values"));
            metrics.entry(name).or_default().extend(samples.map(|(time, value)| Sample {
                tags: Arc::clone(&tags),
                time_ms: time.as_i64().expect("a time"),
                value: value.as_f64().expect("a number"),
            }));
        }
        metrics
    }

    /// What an expression comes to at a time in milliseconds, by labels.
    ///
    /// # Panics
    /// The server does not answer what is expected.
    #[must_use]
    pub fn query(&self, query: &str, time_ms: i64) -> Vec<(Labels, f64)> {
        self.flush();
        promql::query(&self.server, query, time_ms)
    }

    /// What came in the last second is not searchable otherwise.
    ///
    /// # Panics
    /// The server does not answer.
    pub fn flush(&self) {
        http::get(&(self.server.url() + "/internal/force_flush"), &[]).expect("an answer");
    }

    /// How many samples a metric has that are searchable by now, of the last hour and the next one. Costs
    /// little, unlike [`Victoria::count`].
    ///
    /// # Panics
    /// The server does not answer what is expected.
    #[must_use]
    pub fn searchable(&self, metric: &str) -> u64 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
        let query = format!("sum(count_over_time({metric}[2h]))");
        let parameters = [("query", &*query), ("time", &(now + 3600).to_string())];
        let url = self.server.url() + "/api/v1/query";
        let Answer { status, body } = http::get(&url, &parameters).expect("an answer");
        assert_eq!(status, 200, "{query}: {body}");
        let json: Json = serde_json::from_str(&body).expect("JSON");
        let count = json["data"]["result"][0]["value"][1].as_str();
        count.map_or(0, |count| count.parse().expect("a number"))
    }

    /// How many samples a metric has, those that were sent twice twice.
    ///
    /// # Panics
    /// As [`Victoria::samples`].
    #[must_use]
    pub fn count(&self, metric: &str) -> u64 {
        let samples = self.samples(&format!("{{__name__=\"{metric}\"}}"));
        samples.values().map(|samples| samples.len() as u64).sum()
    }
}

impl Stored for Victoria {
    fn lines(&self, table: &str) -> Vec<Line> {
        let prefix = format!("{table}_");
        let mut points = BTreeMap::<_, BTreeMap<String, Value>>::new();
        for (metric, samples) in self.samples(&format!("{{__name__=~\"{prefix}.*\"}}")) {
            let field = metric.strip_prefix(&prefix).expect("it was selected by this");
            for Sample { tags, time_ms, value } in samples {
                let fields = points.entry((tags, time_ms)).or_default();
                fields.insert(field.to_owned(), Value::F64(value));
            }
        }
        let points = points.into_iter().map(|((tags, time_ms), fields)| Line {
            table: table.to_owned(),
            tags: BTreeMap::clone(&tags),
            fields,
            time_ns: time_ms * 1_000_000,
        });
        points.collect()
    }

    fn numbers(&self, table: &str, field: &str) -> Vec<i64> {
        let samples = self.samples(&format!("{{__name__=\"{table}_{field}\"}}"));
        let samples: Vec<Sample> = samples.into_values().flatten().collect();
        let points: BTreeSet<_> =
            samples.iter().map(|s| (&s.tags, s.time_ms, s.value.to_bits())).collect();
        let mut numbers: Vec<_> =
            points.iter().map(|(_, _, bits)| f64::from_bits(*bits) as i64).collect();
        numbers.sort_unstable();
        numbers
    }
}

/// What is in a folder; nothing when there is none.
fn entries(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}
