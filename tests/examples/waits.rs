//! A plugin whose every value is known: for the tests of what databases make of counters and histograms.
//!
//! Each call counts some waits of the series `steady`, and each third one some of `rare`. What was pushed is
//! added to a file, a line per row: the tick's time in nanoseconds, the series, and the values.
use plugin_api::prelude::*;
use std::fmt::Write as _;
use std::fs::File;
use std::io::Write as _;

options! {
    /// What `[plugin.waits]` takes.
    pub struct Options {
        /// The file.
        pushed: String = String::new(),
        /// The file whose existence makes calls fail, so that the plugin is started again.
        fail: String = String::new(),
    }
}

table! {
    /// Made-up waits.
    waits {
        tags {
            /// `steady` or `rare`.
            series,
        }
        /// How long.
        wait: histogram(us),
        /// As `count`, in a counter of its own that is left out of every second line.
        seen: counter [optional],
        /// Number of the call.
        call: gauge,
    }
}

struct Waits {
    options: Options,
    pushed: File,
    call: u64,
}

impl Plugin for Waits {
    type Options = Options;

    fn init(options: Options) -> Result<Self> {
        let pushed = File::options().append(true).create(true).open(&options.pushed)?;
        Ok(Self { options, pushed, call: 0 })
    }

    fn call(&mut self, tick: &Tick, lines: &mut Lines) -> Result<()> {
        ensure!(!std::path::Path::new(&self.options.fail).exists(), "told to");
        self.call += 1;
        let call = self.call;
        let mut known = String::new();
        for (series, every, most) in [("steady", 1, 40), ("rare", 3, 4)] {
            if !call.is_multiple_of(every) {
                continue;
            }
            let mut wait = Snapshot::default();
            let _ = write!(known, "{} {series}", tick.time_ns);
            for n in 0..=(tick.time_ns as u64 / 1_000_000 + call * 7) % most {
                // Most are short; of a hundred one is long.
                let value = if (n + call).is_multiple_of(50) { 130 + n * 3 } else { n % 17 };
                wait.add(value);
                let _ = write!(known, " {value}");
            }
            known.push('\n');
            let seen = call.is_multiple_of(2).then(|| wait.count());
            lines.push(waits::Row { series: series.into(), wait, seen, call: call as i64 })?;
        }
        self.pushed.write_all(known.as_bytes())?;
        Ok(())
    }
}

export_plugin!(Waits: waits);
