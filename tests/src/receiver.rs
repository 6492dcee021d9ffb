//! A receiver of remote write 2.0 and of OTLP, neither of which a package has that is old enough to be everywhere: it
//! keeps to the specifications, and reads what it gets by the messages that are published.

use flate2::read::GzDecoder;
use line_cases::proto::otlp::{
    ExportMetricsServiceRequest, ExportMetricsServiceResponse, Metric, text,
};
use line_cases::proto::{Histogram, Message, v2};
use std::collections::BTreeMap;
use std::io::Read;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

/// Everything that came, and how often somebody was told to come again.
#[derive(Debug, Default)]
struct State {
    remote: Vec<v2::Request>,
    otlp: Vec<ExportMetricsServiceRequest>,
    busy: bool,
    turned_away: u64,
    /// What was wrong with a request.
    wrong: Vec<String>,
}

/// A running receiver. It ends with this value.
pub struct Receiver {
    address: SocketAddr,
    http: Arc<tiny_http::Server>,
    state: Arc<Mutex<State>>,
    thread: Option<JoinHandle<()>>,
}

/// A sample of remote write.
#[derive(Clone, Debug, PartialEq)]
pub enum Sample {
    Float(f64),
    Native(Histogram),
}

/// A series: its labels, and its samples by their times in milliseconds, in the order in which they came.
pub type Series = BTreeMap<BTreeMap<String, String>, Vec<(i64, Sample)>>;

impl Receiver {
    /// Takes remote write at `/api/v1/write`, and OTLP at `/v1/metrics`.
    ///
    /// # Panics
    /// There is no port.
    #[must_use]
    pub fn start() -> Self {
        let http = Arc::new(tiny_http::Server::http("127.0.0.1:0").expect("a free port"));
        let address = http.server_addr().to_ip().expect("an address of the internet");
        let state = Arc::<Mutex<State>>::default();
        let thread = thread::spawn({
            let (http, state) = (Arc::clone(&http), Arc::clone(&state));
            move || {
                // Until `unblock`.
                while let Ok(request) = http.recv() {
                    answer(request, &state);
                }
            }
        });
        Self { address, http, state, thread: Some(thread) }
    }

    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `http://127.0.0.1:PORT`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Whether everybody is to come again later.
    pub fn busy(&self, busy: bool) {
        self.state().busy = busy;
    }

    /// Requests that were to come again later.
    #[must_use]
    pub fn turned_away(&self) -> u64 {
        self.state().turned_away
    }

    /// What was wrong with requests.
    #[must_use]
    pub fn wrong(&self) -> Vec<String> {
        self.state().wrong.clone()
    }

    /// What came by remote write; a sample that came twice is there once.
    ///
    /// # Panics
    /// A request is none by the specification.
    #[must_use]
    pub fn series(&self) -> Series {
        let mut all = Series::new();
        for request in &self.state().remote {
            let symbol = |n: &u32| request.symbols[*n as usize].clone();
            for series in &request.timeseries {
                let labels = series.labels_refs.chunks(2);
                let labels = labels.map(|pair| (symbol(&pair[0]), symbol(&pair[1]))).collect();
                let samples: &mut Vec<_> = all.entry(labels).or_default();
                let floats = series.samples.iter();
                let floats = floats.map(|s| (s.timestamp, Sample::Float(s.value)));
                let native = series.histograms.iter();
                let native = native.map(|h| (h.timestamp, Sample::Native(h.clone())));
                for sample in floats.chain(native) {
                    if !samples.contains(&sample) {
                        samples.push(sample);
                    }
                }
            }
        }
        all
    }

    /// Metrics of OTLP with the attributes of their resources, in the order in which they came.
    #[must_use]
    pub fn metrics(&self) -> Vec<(String, Metric)> {
        let mut all = Vec::new();
        for resource in self.state().otlp.iter().flat_map(|request| &request.resource_metrics) {
            let attributes = resource.resource.as_ref().map(|of| text(&of.attributes));
            let metrics = resource.scope_metrics.iter().flat_map(|scope| scope.metrics.clone());
            all.extend(metrics.map(|metric| (attributes.clone().unwrap_or_default(), metric)));
        }
        all
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.http.unblock();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn answer(mut request: tiny_http::Request, state: &Mutex<State>) {
    let header = |name: &'static str| -> String {
        let found = request.headers().iter().find(|header| header.field.equiv(name));
        found.map(|header| header.value.to_string()).unwrap_or_default()
    };
    let (kind, encoding) = (header("Content-Type"), header("Content-Encoding"));
    let version = header("X-Prometheus-Remote-Write-Version");
    let (method, url) = (request.method().to_string(), request.url().to_owned());
    let mut body = Vec::new();
    if request.as_reader().read_to_end(&mut body).is_err() {
        return; // cut off on the way: nobody waits for an answer
    }
    let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
    let mut headers = Vec::new();
    let (status, body) = if method != "POST" {
        (405, Vec::new())
    } else if state.busy {
        state.turned_away += 1;
        headers.push(("Retry-After", "0".to_owned()));
        (503, Vec::new())
    } else {
        let read = match &*url {
            "/api/v1/write" => remote(&kind, &encoding, &version, &body).map(|message| {
                let count = |of: fn(&v2::TimeSeries) -> usize| {
                    message.timeseries.iter().map(of).sum::<usize>().to_string()
                };
                let of_samples = count(|series| series.samples.len());
                headers.push(("X-Prometheus-Remote-Write-Samples-Written", of_samples));
                let of_histograms = count(|series| series.histograms.len());
                headers.push(("X-Prometheus-Remote-Write-Histograms-Written", of_histograms));
                state.remote.push(message);
                (204, Vec::new())
            }),
            "/v1/metrics" => otlp(&kind, &encoding, &body).map(|message| {
                state.otlp.push(message);
                (200, ExportMetricsServiceResponse::default().encode_to_vec())
            }),
            _ => Err((404, "no such page".to_owned())),
        };
        read.unwrap_or_else(|(status, why)| {
            state.wrong.push(why.clone());
            (status, why.into_bytes())
        })
    };
    drop(state);
    let mut response = tiny_http::Response::from_data(body).with_status_code(status);
    for (name, value) in headers {
        let field = tiny_http::Header::from_bytes(name, value.as_bytes());
        response.add_header(field.expect("a header of ASCII"));
    }
    // A client that has gone does not concern the server.
    let _ = request.respond(response);
}

type Wrong = (u16, String);

/// As <https://prometheus.io/docs/specs/prw/remote_write_spec_2_0> has it.
fn remote(kind: &str, encoding: &str, version: &str, body: &[u8]) -> Result<v2::Request, Wrong> {
    let bad = |why: &str| Err((400, why.to_owned()));
    if kind != "application/x-protobuf;proto=io.prometheus.write.v2.Request" {
        return Err((415, format!("the content type {kind}")));
    }
    if (encoding, version) != ("snappy", "2.0.0") {
        return Err((415, format!("the encoding {encoding} or the version {version}")));
    }
    let Ok(message) = snap::raw::Decoder::new().decompress_vec(body) else {
        return bad("not snappy");
    };
    let Ok(message) = v2::Request::decode(&message[..]) else { return bad("not protobuf") };
    if message.symbols.first().is_none_or(|first| !first.is_empty()) {
        return bad("the first symbol is not empty");
    }
    for series in &message.timeseries {
        let refs = series.metadata.iter().flat_map(|of| [of.help_ref, of.unit_ref]);
        let mut refs = series.labels_refs.iter().copied().chain(refs);
        if refs.any(|symbol| symbol as usize >= message.symbols.len()) {
            return bad("a symbol that is not there");
        }
        let names = series.labels_refs.iter().step_by(2);
        let names: Vec<&str> = names.map(|n| &*message.symbols[*n as usize]).collect();
        if !names.contains(&"__name__") || !names.is_sorted_by(|a, b| a < b) {
            return Err((400, format!("labels without a name or not in order: {names:?}")));
        }
        if series.samples.len() + series.histograms.len() == 0 {
            return bad("a series without samples");
        }
    }
    Ok(message)
}

/// As <https://opentelemetry.io/docs/specs/otlp> has it.
fn otlp(kind: &str, encoding: &str, body: &[u8]) -> Result<ExportMetricsServiceRequest, Wrong> {
    if kind != "application/x-protobuf" {
        return Err((415, format!("the content type {kind}")));
    }
    let mut message = Vec::new();
    let unpacked = match encoding {
        "gzip" => GzDecoder::new(body).read_to_end(&mut message).is_ok(),
        _ => {
            message.extend_from_slice(body);
            true
        }
    };
    let read = unpacked.then(|| ExportMetricsServiceRequest::decode(&message[..]).ok()).flatten();
    read.ok_or((400, "not protobuf".to_owned()))
}
