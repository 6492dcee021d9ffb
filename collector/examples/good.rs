//! A plugin that always works: counts its calls. For the collector's tests.
use plugin_api::prelude::*;
use std::time::Duration;

options! {
    /// What `[plugin.good]` takes.
    pub struct Options {
        /// Text of a tag.
        by: String = "nobody".to_owned(),
        /// Lines per call.
        lines: u64 = 1,
        /// Shown in a field.
        wait: Duration = Duration::from_secs(1),
    }
}

table! {
    /// Calls.
    good {
        tags {
            /// The option `by`.
            by,
            /// Number of the line.
            line,
        }
        /// How many calls so far.
        calls: counter,
        /// The option `wait`.
        wait_ms: gauge(ms),
    }
}

table! {
    /// Made-up waiting times.
    good_wait {
        /// How long.
        wait: histogram(us),
    }
}

struct Good {
    options: Options,
    calls: u64,
}

impl Plugin for Good {
    type Options = Options;

    fn init(options: Options) -> Result<Self> {
        log::info!("by {}", options.by);
        Ok(Self { options, calls: 0 })
    }

    fn call(&mut self, _: &Tick, lines: &mut Lines) -> Result<()> {
        self.calls += 1;
        let wait_ms = self.options.wait.as_millis() as i64;
        for line in 0..self.options.lines {
            let (by, line) = (self.options.by.clone().into(), line.to_string().into());
            lines.push(good::Row { by, line, calls: self.calls, wait_ms })?;
        }
        let mut wait = Snapshot::default();
        [1, 5, 5, 900].into_iter().for_each(|us| wait.add(us));
        lines.push(good_wait::Row { wait })
    }
}

export_plugin!(Good: good, good_wait);
