//! Requests of the tests themselves.

use std::sync::LazyLock;
use std::time::Duration;
use ureq::Agent;
use ureq::http::Response;

/// An answer, whatever its status.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub body: String,
}

static AGENT: LazyLock<Agent> = LazyLock::new(|| {
    Agent::config_builder()
        .http_status_as_error(false)
        // A million points take their time.
        .timeout_global(Some(Duration::from_secs(120)))
        // One of the machine has no business on the loopback.
        .proxy(None)
        // A connection that is kept may be to a server that was killed since.
        .max_idle_connections(0)
        .build()
        .into()
});

/// # Errors
/// No whole answer came.
pub fn get(url: &str, query: &[(&str, &str)]) -> Result<Answer, ureq::Error> {
    answer(AGENT.get(url).query_pairs(query.iter().copied()).call()?)
}

/// # Errors
/// No whole answer came.
pub fn post(
    url: &str,
    query: &[(&str, &str)],
    headers: &[(&str, &str)],
    body: &[u8],
) -> Result<Answer, ureq::Error> {
    let mut request = AGENT.post(url).query_pairs(query.iter().copied());
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    answer(request.send(body)?)
}

fn answer(mut response: Response<ureq::Body>) -> Result<Answer, ureq::Error> {
    let status = response.status().as_u16();
    let body = response.body_mut().with_config().limit(u64::MAX).read_to_string()?;
    Ok(Answer { status, body })
}
