//! InfluxDB 2 and 3, which nobody packages: small servers that keep to the documented contract of their
//! write APIs, refuse what those refuse in the same words, and can be told to fail.

mod store;
mod v2;
mod v3;

pub use v2::V2;
pub use v3::V3;

use crate::Stored;
use collector::read::Line;
use flate2::read::GzDecoder;
use std::collections::{BTreeMap, VecDeque};
use std::io::Read;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use store::Store;

/// Requests that are answered at the same time.
const THREADS: usize = 4;

/// A request as an API sees it.
struct Request<'a> {
    method: &'a str,
    path: &'a str,
    /// Decoded.
    query: BTreeMap<String, String>,
    /// Empty when there is none.
    authorization: &'a str,
    encoding: &'a str,
    body: Box<dyn Read + 'a>,
}

/// An answer that is about to be sent.
struct Reply {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: String,
}

impl Reply {
    fn new(status: u16, body: impl Into<String>) -> Self {
        Self { status, headers: Vec::new(), body: body.into() }
    }
}

/// The write API of a version.
trait Api: Send + Sync + 'static {
    /// Judges a request, and stores what it accepts.
    fn write(&self, request: Request<'_>, desk: &mut Desk<'_>) -> Reply;

    /// How it says that it has no time, with status 429 or 503.
    fn busy(&self, status: u16) -> String;
}

/// What an API works on while it answers a request.
struct Desk<'a> {
    store: &'a mut Store,
    rule: Option<&'a Rule>,
    seen: &'a mut Seen,
}

/// Why a line is refused though there is nothing wrong with it.
#[derive(Clone, Debug)]
pub enum Refusal {
    /// As if it could not be parsed.
    Malformed(String),
    /// As if a field had another type.
    Conflict(String),
}

type Rule = dyn Fn(&str) -> Option<Refusal> + Send + Sync;

/// A request that was answered.
#[derive(Clone, Debug)]
pub struct Seen {
    pub at: Instant,
    /// `ORG/BUCKET` or the database.
    pub target: String,
    pub status: u16,
    pub gzip: bool,
    /// Of the body, unpacked; as far as it was read.
    pub bytes: usize,
    /// Lines in it that were stored or were there already.
    pub stored: usize,
    /// Lines in it that were refused.
    pub refused: usize,
}

struct Busy {
    status: u16,
    retry_after: Option<String>,
}

#[derive(Default)]
struct State {
    store: Store,
    rule: Option<Box<Rule>>,
    busy: VecDeque<Busy>,
    seen: Vec<Seen>,
}

/// A running server. It ends with this value.
pub struct Contract {
    address: SocketAddr,
    http: Arc<tiny_http::Server>,
    state: Arc<Mutex<State>>,
    threads: Vec<JoinHandle<()>>,
}

impl Contract {
    /// An empty InfluxDB 2.
    #[must_use]
    pub fn v2(api: V2) -> Self {
        Self::start(Arc::new(api))
    }

    /// An empty InfluxDB 3.
    #[must_use]
    pub fn v3(api: V3) -> Self {
        Self::start(Arc::new(api))
    }

    fn start(api: Arc<dyn Api>) -> Self {
        let http = Arc::new(tiny_http::Server::http("127.0.0.1:0").expect("a free port"));
        let address = http.server_addr().to_ip().expect("an address of the internet");
        let state = Arc::<Mutex<State>>::default();
        let serve = |_| {
            let (http, state, api) = (Arc::clone(&http), Arc::clone(&state), Arc::clone(&api));
            thread::spawn(move || {
                // Until `unblock`.
                while let Ok(request) = http.recv() {
                    answer(request, &*api, &state);
                }
            })
        };
        let threads = (0..THREADS).map(serve).collect();
        Self { address, http, state, threads }
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

    /// The next so many requests are answered with 429 or 503, whatever they hold, and `Retry-After` when
    /// it is given.
    pub fn busy(&self, times: usize, status: u16, retry_after: Option<&str>) {
        let busy = || Busy { status, retry_after: retry_after.map(str::to_owned) };
        self.state().busy.extend(std::iter::repeat_with(busy).take(times));
    }

    /// From now on lines are refused for which the rule has a reason. It sees the line as it came.
    pub fn refuse(&self, rule: impl Fn(&str) -> Option<Refusal> + Send + Sync + 'static) {
        self.state().rule = Some(Box::new(rule));
    }

    /// All requests so far that were answered, in order.
    #[must_use]
    pub fn seen(&self) -> Vec<Seen> {
        self.state().seen.clone()
    }

    /// Points of all tables.
    #[must_use]
    pub fn points(&self) -> usize {
        self.state().store.points()
    }

    /// Points of a table.
    #[must_use]
    pub fn count(&self, table: &str) -> usize {
        self.state().store.count(table)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

impl Stored for Contract {
    fn lines(&self, table: &str) -> Vec<Line> {
        self.state().store.lines(table)
    }

    fn numbers(&self, table: &str, field: &str) -> Vec<i64> {
        self.state().store.numbers(table, field)
    }
}

impl Drop for Contract {
    fn drop(&mut self) {
        self.threads.iter().for_each(|_| self.http.unblock());
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn answer(mut request: tiny_http::Request, api: &dyn Api, state: &Mutex<State>) {
    let method = request.method().to_string();
    let url = request.url().to_owned();
    let (path, query) = url.split_once('?').unwrap_or((&url, ""));
    let header = |name: &'static str| -> String {
        let found = request.headers().iter().find(|header| header.field.equiv(name));
        found.map(|header| header.value.to_string()).unwrap_or_default()
    };
    let (authorization, encoding) = (header("Authorization"), header("Content-Encoding"));
    let mut seen = Seen {
        at: Instant::now(),
        target: String::new(),
        status: 0,
        gzip: encoding == "gzip",
        bytes: 0,
        stored: 0,
        refused: 0,
    };
    let busy = lock(state).busy.pop_front();
    let reply = if let Some(Busy { status, retry_after }) = busy {
        let headers = retry_after.map(|value| ("Retry-After", value)).into_iter().collect();
        Reply { status, headers, body: api.busy(status) }
    } else {
        // The body is read before anybody is kept waiting for it.
        let mut body = Vec::new();
        if request.as_reader().read_to_end(&mut body).is_err() {
            return; // cut off on the way: nobody waits for an answer
        }
        let request = Request {
            method: &method,
            path,
            query: form_urlencoded::parse(query.as_bytes()).into_owned().collect(),
            authorization: &authorization,
            encoding: &encoding,
            body: match &*encoding {
                "gzip" => Box::new(GzDecoder::new(&*body)),
                _ => Box::new(&*body),
            },
        };
        let State { store, rule, .. } = &mut *lock(state);
        api.write(request, &mut Desk { store, rule: rule.as_deref(), seen: &mut seen })
    };
    seen.status = reply.status;
    lock(state).seen.push(seen);
    let mut response = tiny_http::Response::from_string(reply.body)
        .with_status_code(reply.status)
        .with_header(field("Content-Type", "application/json; charset=utf-8"));
    for (name, value) in reply.headers {
        response.add_header(field(name, &value));
    }
    // A client that has gone does not concern the server.
    let _ = request.respond(response);
}

fn field(name: &str, value: &str) -> tiny_http::Header {
    tiny_http::Header::from_bytes(name, value).expect("a header of ASCII")
}

/// A unit of the times in a body, in nanoseconds.
fn unit_ns(unit: Duration) -> i64 {
    unit.as_nanos() as i64
}

/// For a line without a time.
fn now_ns() -> i64 {
    unit_ns(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
}

/// The body, unpacked, or nothing when it is longer than the limit.
fn text(
    request: &mut Request<'_>,
    limit: usize,
    seen: &mut Seen,
) -> std::io::Result<Option<String>> {
    let mut bytes = Vec::new();
    (&mut request.body).take(limit as u64 + 1).read_to_end(&mut bytes)?;
    seen.bytes = bytes.len();
    if bytes.len() > limit {
        return Ok(None);
    }
    Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
}
