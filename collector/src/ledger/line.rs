//! What a plugin's books say in a line.

use super::Ledger;
use crate::health::State;
use crate::output;
use crate::sink::{Limits, Tally};
use plugin_api::table;
use std::time::Duration;

table! {
    /// A plugin, or a file in the plugins folder that is none.
    collector_plugin {
        tags {
            /// Its name.
            plugin,
        }
        /// 1 while its last call succeeded and none is late, else 0.
        up: gauge,
        /// The state as a number: 0 `running`, 1 `loading`, 2 `late`, 3 `failed`, 4 `quarantined`, 5 `stopped`,
        /// 6 `refused`.
        state_code: gauge,
        /// The state.
        state: text,
        /// Why it is not well, in the words of the plugin, the verifier or the kernel.
        reason: text [optional],
        /// Its version.
        version: text,
        /// Calls that ended.
        calls: counter,
        /// Calls, starts and ends that failed.
        errors: counter,
        /// Rows that it pushed and that were taken, its reports among them. A row is a line; where buckets or
        /// beginnings of counters are lines of their own, it is several.
        lines: counter,
        /// Bytes of line protocol, all forms that outputs ask for together.
        bytes: counter,
        /// Lines that reached the outputs' queues, all outputs together.
        /// `lines_produced` = delivered + dropped + what `lines_waiting` grew by - recovered.
        lines_produced: counter,
        /// Lines of an earlier run, found in spools.
        lines_recovered: counter,
        /// Lines that the outputs' other ends took.
        lines_delivered: counter,
        /// Lines in queues and spools, or on their way, now.
        lines_waiting: gauge,
        /// Lines that outputs gave up; `collector_output` says why.
        lines_dropped: counter,
        /// Rows over its cap of the tick.
        dropped_full: counter,
        /// Rows that no database could store.
        dropped_invalid: counter,
        /// Rows pushed outside of a call.
        dropped_closed: counter,
        /// Rows whose series had a line in the tick already.
        dropped_duplicate: counter,
        /// Rows of series beyond `max_series`.
        dropped_series: counter,
        /// Calls whose lines were lost with the plugin's process, how many is not known.
        lost_calls: counter,
        /// Series that had a line in the last hour.
        series: gauge,
        /// Ticks that were skipped because a call still ran or the machine stalled.
        ticks_missed: counter,
        /// Calls that took longer than their deadline.
        overruns: counter,
        /// Time spent in calls.
        call_ns: counter(ns),
        /// The longest call.
        call_max_ns: gauge(ns),
        /// Processor time of its thread, and of its process where it has one of its own: starts, calls and ends.
        cpu_ns: counter(ns),
        /// How often another instance took over: its file or its configuration has changed.
        replaced: counter,
        /// Time from the last call of a replaced instance to the end of the first one of the next. Of what happened
        /// then, some may be in no line; nothing is in two.
        gap_ns: counter(ns),
    }
}

impl Ledger {
    /// The line about the time since this was last asked; what became of its lines is in the outputs' books.
    pub fn take(&self, outputs: output::Books) -> collector_plugin::Row {
        let mut books = self.books();
        let counts = std::mem::take(&mut books.counts);
        let Tally { dropped, series } = counts.tally;
        books.counts.tally.series = series;
        let well = matches!(books.state, State::Running | State::Stopped);
        let reason = if well { books.reason.take() } else { books.reason.clone() };
        let over_cap = || {
            let Limits { lines, bytes, .. } = self.limits;
            let text = format!("over the cap of {lines} lines and {bytes} bytes a tick");
            (dropped.full > 0).then(|| format!("{text}: max_lines, max_bytes"))
        };
        let outside = || (dropped.closed > 0).then(|| "pushed lines outside of a call".to_owned());
        let invalid = || (dropped.invalid > 0).then(|| "pushed rows that are no lines".to_owned());
        let twice = || {
            let text =
                "pushed several lines of one series in a tick: the first ones stayed (see the log)";
            (dropped.duplicate > 0).then(|| text.to_owned())
        };
        let many = || {
            let most = self.limits.series;
            let text = format!("over the cap of {most} series an hour: max_series");
            (dropped.series > 0).then_some(text)
        };
        let reason = reason.or_else(over_cap).or_else(many).or_else(outside).or_else(invalid);
        let reason = reason.or_else(|| books.standing.clone()).or_else(twice);
        let ns = |d: Duration| u64::try_from(d.as_nanos()).unwrap_or(u64::MAX);
        collector_plugin::Row {
            plugin: self.name.clone().into(),
            up: i64::from(books.state.is_up()),
            state_code: books.state.code(),
            state: books.state.word().into(),
            reason: reason.map(Into::into),
            version: books.version.clone().into(),
            calls: counts.calls,
            errors: counts.errors,
            lines: counts.rows,
            bytes: counts.bytes,
            lines_produced: outputs.produced,
            lines_recovered: outputs.recovered,
            lines_delivered: outputs.delivered,
            lines_waiting: outputs.waiting as i64,
            lines_dropped: outputs.dropped.sum(),
            dropped_full: dropped.full,
            dropped_invalid: dropped.invalid,
            dropped_closed: dropped.closed,
            dropped_duplicate: dropped.duplicate,
            dropped_series: dropped.series,
            lost_calls: counts.lost_calls,
            series: series as i64,
            ticks_missed: counts.missed,
            overruns: counts.overruns,
            call_ns: ns(counts.call),
            call_max_ns: ns(counts.call_max) as i64,
            cpu_ns: counts.cpu_ns,
            replaced: counts.replaced,
            gap_ns: ns(counts.gap),
        }
    }
}
