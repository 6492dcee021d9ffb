//! What lines, books, times and signals tell of a plugin.

use super::declared;
use super::holdings::Holdings;
use super::verdicts::{Point, Verdicts};
use crate::duration::short;
use crate::elf::Abi;
use crate::instance::PluginError;
use crate::load::Plugin;
use crate::read::Line;
use crate::show::check;
use crate::show::trial::Called;
use crate::sink::{Dropped, is_report};
use std::collections::BTreeMap;
use std::time::Duration;

/// The shortest interval that people use for every day: a call that takes longer misses ticks there.
const DEADLINE: Duration = Duration::from_secs(1);
/// The collector begins without plugins that take longer to start.
const START: Duration = Duration::from_secs(5);

/// What calls have given together.
#[derive(Default)]
pub(super) struct Totals {
    pub rows: u64,
    pub dropped: Dropped,
    pub lines: Vec<Line>,
    pub longest: Duration,
}

impl Totals {
    pub fn add(&mut self, called: Called) -> Result<(), PluginError> {
        self.rows += called.rows;
        self.dropped += called.tally.dropped;
        self.longest = self.longest.max(called.took);
        self.lines.extend(called.lines);
        called.result
    }
}

/// Which programs hold, and which better ones were refused.
pub(super) fn attached(lines: &[Line]) -> Option<String> {
    let mut seen: Vec<&str> = Vec::new();
    let mut first = Vec::new();
    for line in lines.iter().filter(|line| line.table == "collector_program") {
        if !seen.contains(&line.tag("program")) {
            seen.push(line.tag("program"));
            first.push(line.clone());
        }
    }
    (!first.is_empty()).then(|| check::answer(&first))
}

/// Lines against the description.
pub(super) fn lines(plugin: &Plugin, lines: &[Line], verdicts: &mut Verdicts) {
    if plugin.abi() == Abi::C {
        let mut tables: Vec<&str> = lines
            .iter()
            .map(|line| line.table.as_str())
            .filter(|table| !is_report(table))
            .collect();
        tables.sort_unstable();
        tables.dedup();
        return verdicts.does_not_apply(
            Point::Lines,
            &match &*tables {
                [] => "no line came".to_owned(),
                tables => format!("tables seen: {}", tables.join(", ")),
            },
        );
    }
    let compared = declared::compare(&plugin.description.tables, lines);
    let mut faults: Vec<String> = compared.wrong.into_iter().collect();
    if compared.lines == 0 {
        faults.push("no line came; where nothing happens, lines say 0".to_owned());
    }
    let mut text = format!("{} lines", compared.lines);
    if !compared.unseen.is_empty() {
        text += &format!("; none of {}", compared.unseen.join(", "));
    }
    verdicts.judge(Point::Lines, &faults, text);
}

/// Every row is a line, or dropped for a cause; and no plugin of good health gives a cause.
pub(super) fn books(c: bool, sums: &Totals, verdicts: &mut Verdicts) {
    let Dropped { full, invalid, closed, duplicate, series } = sums.dropped;
    let causes = [
        (full, "over the caps of a tick"),
        (invalid, "that no database can store"),
        (closed, "outside of a call"),
        (duplicate, "of a series that had one in the tick"),
        (series, "of too many series"),
    ];
    let dropped = causes.iter().filter(|(count, _)| *count > 0);
    let mut faults: Vec<String> =
        dropped.map(|(count, cause)| format!("{count} rows {cause}")).collect();
    let field = |line: &Line, key: &str| line.get(key).map_or(0, |_| line.u64(key));
    let mut text = format!("{} rows, each one a line", sums.rows);
    if sums.rows != sums.lines.len() as u64 {
        faults.push(format!("{} rows became {} lines", sums.rows, sums.lines.len()));
    }
    if c {
        let reports = || sums.lines.iter().filter(|line| line.table == "collector_c_plugin");
        let sum = |key: &str| reports().map(|line| field(line, key)).sum::<u64>();
        let (called, sent) = (sum("lines_called"), sum("lines_sent"));
        let known =
            (sums.rows - reports().count() as u64) + full + invalid + closed + duplicate + series;
        let waiting = (called + sent).checked_sub(known);
        if waiting.is_none_or(|waiting| waiting > 0 && sent == 0) {
            faults.push(format!("{called} lines by call and {sent} sent, but {known} known"));
        }
        text = format!("{called} lines by call and {sent} sent, each one known");
        for (key, count) in check::wrong(reports()) {
            faults.push(format!("{key} {count}"));
        }
    }
    let mut lost: BTreeMap<&str, u64> = BTreeMap::new();
    for map in sums.lines.iter().filter(|line| line.table == "collector_map") {
        let events = ["full", "busy", "past"].iter().map(|key| field(map, key)).sum::<u64>();
        *lost.entry(map.tag("map")).or_default() += events;
    }
    for (map, events) in lost.into_iter().filter(|(_, events)| *events > 0) {
        text += &format!("; map {map} had no room for {events} events");
    }
    verdicts.judge(Point::Books, &faults, text);
}

pub(super) fn deadline(start: Duration, longest: Duration, end: Duration, verdicts: &mut Verdicts) {
    let mut faults = Vec::new();
    if longest > DEADLINE {
        faults.push(format!("a call took {}: at most {}", short(longest), short(DEADLINE)));
    }
    if start > START {
        faults.push(format!("init took {}: at most {}", short(start), short(START)));
    }
    let [start, longest, end] = [start, longest, end].map(|time| time.as_secs_f64() * 1e3);
    let text = format!("init {start:.1} ms, the longest call {longest:.1} ms, deinit {end:.1} ms");
    verdicts.judge(Point::Deadline, &faults, text);
}

/// What happens at these is the collector's to decide.
pub(super) fn signals(
    before: &Holdings,
    during: &Holdings,
    after: &Holdings,
    verdicts: &mut Verdicts,
) {
    const OURS: [(i32, &str); 8] = [
        (libc::SIGHUP, "SIGHUP"),
        (libc::SIGINT, "SIGINT"),
        (libc::SIGTERM, "SIGTERM"),
        (libc::SIGCHLD, "SIGCHLD"),
        (libc::SIGPIPE, "SIGPIPE"),
        (libc::SIGSEGV, "SIGSEGV"),
        (libc::SIGBUS, "SIGBUS"),
        (libc::SIGABRT, "SIGABRT"),
    ];
    let changed = |(signal, _): &&(i32, &str)| {
        let action = |held: &Holdings| held.signals.action(*signal);
        action(during) != action(before) || action(after) != action(before)
    };
    let names: Vec<&str> = OURS.iter().filter(changed).map(|(_, name)| *name).collect();
    let faults: Vec<String> = match &*names {
        [] => Vec::new(),
        names => vec![format!(
            "it changes what happens at {}, which is the collector's",
            names.join(", ")
        )],
    };
    verdicts.judge(Point::Signals, &faults, "none of the collector's is changed");
}
