//! Lines per second, and what they cost, to a socket and to databases; beside vmagent.

mod forward;
mod receivers;
mod slow;
mod vmagent;

use crate::{figure, figure_at_least, median};
use anyhow::{Context, Result};
use forward::{Cost, Load};
use receivers::{slow, victoria};

const ROUNDS: usize = 3;

/// For whoever takes millions of lines per second.
const LARGE: Load = Load { lines: 4_000_000, per_tick: 50_000 };
/// For databases: a batch is a request.
const REQUESTS: Load = Load { lines: 4_000_000, per_tick: 5_000 };
/// For one that is slow.
const FEWER: Load = Load { lines: 1_500_000, ..REQUESTS };

type Way = (&'static str, fn() -> Result<Cost>);

const SOCKET: Way = ("unix socket", || receivers::unix(LARGE, false));
/// One right after the other, so that what else the machine does meets both.
const OURS: Way = ("VictoriaMetrics", || victoria(REQUESTS, "", false));
const THEIRS: Way = ("VictoriaMetrics, by vmagent", || vmagent::forward(REQUESTS));
const ALONE: Way =
    ("VictoriaMetrics, one at a time", || victoria(REQUESTS, "in_flight = 1", false));
const WAYS: [Way; 12] = [
    ("file", || receivers::file(LARGE)),
    SOCKET,
    ("unix socket, through a spool", || receivers::unix(LARGE, true)),
    ("InfluxDB 1", || receivers::influx(FEWER)),
    ALONE,
    OURS,
    THEIRS,
    ("VictoriaMetrics, four at a time", || victoria(REQUESTS, "in_flight = 4", false)),
    ("VictoriaMetrics, through a spool", || victoria(REQUESTS, "", true)),
    ("answer after 20 ms, one at a time", || slow(FEWER, 20, 1)),
    ("answer after 20 ms", || slow(FEWER, 20, 2)),
    ("answer after 20 ms, four at a time", || slow(FEWER, 20, 4)),
];

/// All of it. A run that lost a line is an error, not a figure.
pub fn run() -> Result<()> {
    let mut costs = vec![Vec::new(); WAYS.len()];
    for _ in 0..ROUNDS {
        for ((name, measure), costs) in WAYS.iter().zip(&mut costs) {
            costs.push(measure().with_context(|| name.to_string())?);
        }
    }
    println!(
        "{:34} {:>9}  {:>23}",
        format!("median of {ROUNDS}"),
        "lines/s",
        "CPU per million lines"
    );
    for ((name, _), costs) in WAYS.iter().zip(&costs) {
        let Cost { rate, cpu } = middle(costs);
        println!("{name:34} {rate:>9.0}  {cpu:>21.2} s");
    }
    println!(
        "To files and sockets, CPU is that of the collector's whole process from its start on, and it makes \
         the lines too. For files, a line that was made has arrived.\n\
         For databases all lines are made before the server starts, and CPU is that of delivery. Two \
         requests may be under way, of 5,000 lines each and compressed. vmagent has several, and gets lines \
         that were made before, not compressed. To the server that answers after 20 ms lines go as they are.\n\
         Senders, receivers and this program share {} CPUs.\n\
         collectd is no peer: it takes line protocol nowhere, and writes it by UDP only (write_influxdb_udp).",
        std::thread::available_parallelism()?
    );
    let of = |way: Way| {
        let at = WAYS.iter().position(|(name, _)| *name == way.0);
        at.map(|at| &costs[at]).context("a way of its own")
    };
    let thousands = middle(of(SOCKET)?).rate / 1e3;
    figure_at_least("to a unix socket", thousands, " thousand lines/s", 500.0);
    let theirs = of(THEIRS)?;
    for (name, ours) in [("one request at a time", of(ALONE)?), ("two", of(OURS)?)] {
        let pairs = || ours.iter().zip(theirs);
        let rates: Vec<f64> = pairs().map(|(ours, theirs)| ours.rate / theirs.rate).collect();
        let cpus: Vec<f64> = pairs().map(|(ours, theirs)| ours.cpu / theirs.cpu).collect();
        println!("to VictoriaMetrics beside vmagent, {name}: lines/s {rates:.2?}, CPU {cpus:.2?}");
        if name == "two" {
            let what = "to VictoriaMetrics, beside vmagent";
            figure_at_least(what, median(rates), " of its lines/s", 1.1);
            figure(what, median(cpus), " of its CPU", 0.5);
        }
    }
    Ok(())
}

fn middle(costs: &[Cost]) -> Cost {
    Cost {
        rate: median(costs.iter().map(|cost| cost.rate).collect()),
        cpu: median(costs.iter().map(|cost| cost.cpu).collect()),
    }
}
