//! What arrived of the load that the plugin `stream` makes.

use crate::load::whole;
use collector::read::{Line, Value};
use std::collections::{BTreeMap, BTreeSet};

/// The numbers of the lines that arrived, by the option `run`. A line may be there several times.
///
/// # Panics
/// A line is not, to the last field, one that the plugin makes with so many series.
#[must_use]
pub fn numbers_by_run(lines: &[Line], series: u64) -> BTreeMap<String, BTreeSet<u64>> {
    let mut runs = BTreeMap::<_, BTreeSet<u64>>::new();
    let mut begins = BTreeMap::new();
    for line in lines.iter().filter(|line| line.table == "stream") {
        let (number, half) = (whole(line, "value"), line.get("half"));
        assert!(number > 0, "lines are numbered from 1: {line:?}");
        assert_eq!(half, Some(&Value::F64(number as f64 / 2.0)), "{line:?}");
        let (round, of_series) = ((number - 1) / series, (number - 1) % series);
        assert_eq!(line.tag("series"), of_series.to_string(), "{line:?}");
        let begin = line.time_ns - round as i64 * 1_000_000;
        let run = line.tag("run");
        let begun = *begins.entry(run).or_insert(begin);
        assert_eq!(begin, begun, "another time than the run's others: {line:?}");
        runs.entry(run.to_owned()).or_default().insert(number);
    }
    runs
}

/// Takes away what are no lines of the plugin: `VictoriaMetrics` takes a line that a lost connection has torn for
/// a whole one, without its last field or at another time. How many those are.
///
/// A run's begin is what most of its lines say.
pub fn without_torn(lines: &mut Vec<Line>, series: u64) -> usize {
    let begin = |line: &Line| {
        let (Some(Value::F64(value)), Some(Value::F64(half))) =
            (line.get("value"), line.get("half"))
        else {
            return None;
        };
        let round = (*value as i64 - 1) / series as i64;
        (*value == *half * 2.0).then_some(line.time_ns - round * 1_000_000)
    };
    let mut begins = BTreeMap::<_, BTreeMap<i64, u64>>::new();
    for line in lines.iter() {
        let of_run = begins.entry(line.tag("run").to_owned()).or_default();
        begin(line).into_iter().for_each(|begin| *of_run.entry(begin).or_default() += 1);
    }
    let most = |begins: BTreeMap<i64, u64>| Some(begins.into_iter().max_by_key(|(_, n)| *n)?.0);
    let begins: BTreeMap<_, _> = begins.into_iter().map(|(run, b)| (run, most(b))).collect();
    let before = lines.len();
    lines.retain(|line| begin(line).is_some_and(|b| begins[line.tag("run")] == Some(b)));
    before - lines.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use collector::read::read;

    #[test]
    fn lines_are_told_apart_by_run_and_those_of_somebody_else_are_found_out() {
        let good = "stream,run=a,series=0 value=1i,half=0.5 1000000\n\
                    stream,run=a,series=1 value=2i,half=1 1000000\n\
                    stream,run=b,series=0 value=3,half=1.5 8000000\n\
                    stream,run=a,series=1 value=2i,half=1 1000000\nother x=1i 1\n";
        let runs = numbers_by_run(&read(good.as_bytes()).unwrap(), 2);
        assert_eq!(runs, [("a".into(), [1, 2].into()), ("b".into(), [3].into())].into());
        for bad in [
            "stream,run=a,series=1 value=2i,half=1.5 1000000",
            "stream,run=a,series=0 value=2i,half=1 1000000",
            "stream,run=a,series=1 value=2i,half=1 1000001",
            "stream,run=a,series=1 value=2i 1000000",
        ] {
            let lines = read(format!("{good}{bad}\n").as_bytes()).unwrap();
            let found = std::panic::catch_unwind(|| numbers_by_run(&lines, 2));
            assert!(found.is_err(), "{bad}");
        }
    }

    #[test]
    fn torn_lines_are_told_from_whole_ones() {
        let whole = "stream,run=a,series=0 value=1,half=0.5 1000000\n\
                     stream,run=a,series=1 value=12,half=6 6000000\n";
        let torn = "stream,run=a,series=1 value=12 9000000\n\
                    stream,run=a,series=1 value=14,half=0 7000000\n\
                    stream,run=a,series=1 value=12,half=6 600000\n\
                    stream,run=b,series=0 value=1 600000\n";
        let mut lines = read(format!("{torn}{whole}").as_bytes()).unwrap();
        assert_eq!(without_torn(&mut lines, 2), 4);
        assert_eq!(lines, read(whole.as_bytes()).unwrap());
    }
}
