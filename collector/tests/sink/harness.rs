//! The harness in which plugins have their own tests.

use super::TICK;
use collector::sink::Dropped;
use plugin_api::prelude::*;
use plugin_testing::{Harness, Value};

options! {
    /// What the test's plugin takes.
    pub struct Options {
        /// The tag's value.
        by: String = "nobody".to_owned(),
        /// In which call to panic; none by default.
        panic_at: u64 = u64::MAX,
    }
}

table! {
    /// The test's table.
    calls {
        tags {
            /// The option `by`.
            by,
        }
        /// Number of the call.
        number: counter,
        /// A gauge below zero.
        below: gauge,
        /// A word.
        word: text,
    }
}
plugin_api::exported!(calls);

struct Calls(Options);

impl Plugin for Calls {
    type Options = Options;

    fn init(options: Options) -> Result<Self> {
        ensure!(options.by != "bad", "`by` is bad");
        Ok(Self(options))
    }

    fn call(&mut self, tick: &Tick, lines: &mut Lines) -> Result<()> {
        assert!(tick.seq != self.0.panic_at, "told to");
        let (by, word) = (self.0.by.clone().into(), "two\nlines".into());
        lines.push(calls::Row { by, number: tick.seq, below: -1, word })?;
        let event = calls::Row { by: "event".into(), number: 0, below: 0, word: "".into() };
        lines.push_at(42 + 10 * tick.seq as i64, event)
    }
}

#[test]
fn a_harness_runs_a_plugin_as_the_collector_does() {
    let mut calls = Harness::<Calls>::init(r#"{"by":"comm"}"#).unwrap();
    for number in 0..3 {
        let lines = calls.call().unwrap();
        assert_eq!(lines.len(), 2);
        let line = &lines[0];
        assert_eq!((&*line.table, line.tag("by"), line.tag("none")), ("calls", "comm", ""));
        assert_eq!(line.u64("number"), number);
        assert_eq!(line.get("below"), Some(&Value::I64(-1)));
        assert_eq!(line.text("word"), r"two\nlines");
        assert!(line.u64("interval_ns") < 10_000_000_000);
        assert!(line.time_ns > TICK.time_ns);
        assert_eq!(lines[1].time_ns, 42 + 10 * number as i64);
        assert_eq!(lines[1].get("interval_ns"), None);
    }
    assert_eq!(calls.dropped(), Dropped::default());
    calls.deinit().unwrap();
}

#[test]
fn a_harness_answers_as_the_plugin_does() {
    let error = |options: &str| Harness::<Calls>::init(options).err().unwrap().to_string();
    assert_eq!(error(r#"{"by":"bad"}"#), "`by` is bad");
    assert!(error(r#"{"bye":"x"}"#).contains("unknown option `bye`"));
    let mut calls = Harness::<Calls>::init(r#"{"panic_at":1}"#).unwrap();
    calls.call().unwrap();
    let error = calls.call().unwrap_err().to_string();
    assert!(error.starts_with("panic at ") && error.ends_with(": told to"), "{error}");
    assert!(calls.call().unwrap_err().to_string().contains("needs deinit and init"));
}
