//! What a server has of the lines that were made.

use super::LOAD;
use super::scene::Life;
use collector::read::Line;
use std::collections::BTreeSet;
use system_tests::Stored;
use system_tests::arrived::{numbers_by_run, without_torn};
use system_tests::servers::{Influx, Victoria};

#[derive(Default)]
pub struct Arrivals {
    /// Lines that are there, each once.
    pub arrived: u64,
    /// The last ones of lives that were killed.
    pub lost: u64,
    /// Others that are not there.
    pub missing: u64,
    /// Points more than lines: sent twice, equal in time and value.
    pub resent: u64,
    /// Points that are no line of ours: the beginning of one.
    pub torn: u64,
}

/// A point that is sent twice is there once.
pub fn of_influx(influx: &Influx, lives: &[Life]) -> Arrivals {
    count(&influx.lines("stream"), lives)
}

/// A point that is sent twice is there twice.
///
/// # Panics
/// Two that share their time and tags differ in value.
pub fn of_victoria(victoria: &Victoria, lives: &[Life]) -> Arrivals {
    let mut lines = victoria.lines("stream");
    let values = lines.iter().filter(|line| line.get("value").is_some()).count() as u64;
    let distinct = victoria.numbers("stream", "value").len() as u64;
    assert_eq!(values, distinct, "points of one time with several values");
    let resent = victoria.count("stream_value") - distinct;
    let torn = without_torn(&mut lines, LOAD.series) as u64;
    Arrivals { resent, torn, ..count(&lines, lives) }
}

/// # Panics
/// There is a line that was not made, or a second point of one.
fn count(lines: &[Line], lives: &[Life]) -> Arrivals {
    let runs = numbers_by_run(lines, LOAD.series);
    let mut arrivals = Arrivals::default();
    let nothing = BTreeSet::new();
    for Life { run, pushed, killed } in lives {
        let numbers = runs.get(run).unwrap_or(&nothing);
        let (count, last) = (numbers.len() as u64, numbers.last().copied().unwrap_or(0));
        assert!(last <= *pushed, "life {run}: line {last} of {pushed}");
        arrivals.arrived += count;
        if *killed {
            arrivals.lost += pushed - last;
            arrivals.missing += last - count;
        } else {
            arrivals.missing += pushed - count;
        }
        if count < *pushed {
            println!("life {run}: {count} of {pushed} lines, the last is {last}; killed: {killed}");
        }
    }
    assert_eq!(arrivals.arrived, lines.len() as u64, "lines of no life, or one twice");
    arrivals
}
