//! A plugin that makes a load of which every line is known: for the tests of delivery.
//!
//! The fields of line `n`, from 1 on, are `value = n` and `half = n / 2`, which every database keeps to the
//! bit. Lines go round the series; the lines of one are a millisecond apart, the finest that VictoriaMetrics
//! tells apart, from the first call on. They are ahead of the clock when the load is fast.
use plugin_api::prelude::*;
use std::fs::File;
use std::os::unix::fs::FileExt;

options! {
    /// What `[plugin.stream]` takes.
    pub struct Options {
        /// Lines per call.
        lines: u64 = 1000,
        /// Lines in all; 0: without end.
        total: u64 = 0,
        /// Distinct values of the tag `series`.
        series: u64 = 100,
        /// The number of a line that goes to the table `odd` instead; 0: none.
        odd: u64 = 0,
        /// Text of the tag `run`: lines of two runs are never the same point. Empty: no such tag.
        run: String = String::new(),
        /// A file that always holds, as text, the number of the last line that was pushed. Empty: none.
        progress: String = String::new(),
    }
}

table! {
    /// Numbered lines.
    stream {
        tags {
            /// The option `run`.
            run,
            /// Which of the series.
            series,
        }
        /// The line's number.
        value: gauge,
        /// Half of it.
        half: float,
    }
}

table! {
    /// The line that is to be another.
    odd {
        /// The line's number.
        value: gauge,
    }
}

struct Stream {
    options: Options,
    names: Vec<Text>,
    progress: Option<File>,
    /// Lines pushed so far.
    pushed: u64,
    /// The time of the first line.
    begin_ns: Option<i64>,
}

const MS: i64 = 1_000_000;

impl Plugin for Stream {
    type Options = Options;

    fn init(options: Options) -> Result<Self> {
        ensure!(options.series > 0, "`series` is at least 1");
        let names = (0..options.series).map(|n| n.to_string().into()).collect();
        let progress = match &*options.progress {
            "" => None,
            path => Some(File::create(path).with_context(|| path.to_owned())?),
        };
        Ok(Self { options, names, progress, pushed: 0, begin_ns: None })
    }

    fn call(&mut self, tick: &Tick, lines: &mut Lines) -> Result<()> {
        let begin_ns = *self.begin_ns.get_or_insert(tick.time_ns / MS * MS);
        let left = match self.options.total {
            0 => u64::MAX,
            total => total - self.pushed,
        };
        for _ in 0..self.options.lines.min(left) {
            let (round, series) =
                (self.pushed / self.options.series, self.pushed % self.options.series);
            self.pushed += 1;
            let value = self.pushed as i64;
            let time_ns = begin_ns + round as i64 * MS;
            if self.pushed == self.options.odd {
                lines.push_at(time_ns, odd::Row { value })?;
                continue;
            }
            let row = stream::Row {
                run: self.options.run.clone().into(),
                series: self.names[series as usize].clone(),
                value,
                half: value as f64 / 2.0,
            };
            lines.push_at(time_ns, row)?;
        }
        if let Some(file) = &self.progress {
            // One write of constant length: a reader never sees half of it.
            file.write_all_at(format!("{:020}", self.pushed).as_bytes(), 0)?;
        }
        Ok(())
    }
}

export_plugin!(Stream: stream, odd);
