//! Waiting for something that is to happen, never for a time.

use std::fmt::Display;
use std::thread;
use std::time::{Duration, Instant};

/// Long enough for anything on a slow machine.
pub const LIMIT: Duration = Duration::from_secs(120);

/// Waits until it is so; `what` says what was waited for, and is asked when it is not.
///
/// # Panics
/// It is not so within [`LIMIT`]; `what` says what was waited for.
pub fn until(what: impl Display, so: impl FnMut() -> bool) {
    until_within(LIMIT, what, so);
}

/// Waits until it is so, and says how long that took.
///
/// # Panics
/// It is not so within the limit.
pub fn until_within(limit: Duration, what: impl Display, mut so: impl FnMut() -> bool) -> Duration {
    let began = Instant::now();
    while !so() {
        assert!(began.elapsed() < limit, "waited {limit:?} in vain: {what}");
        // What takes long is asked for less often: the asking has its price too.
        let pause = began.elapsed() / 20;
        thread::sleep(pause.clamp(Duration::from_millis(5), Duration::from_millis(100)));
    }
    began.elapsed()
}
