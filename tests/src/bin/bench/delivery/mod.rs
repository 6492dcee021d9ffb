//! Lines per second, and what they cost, to a socket and to databases; beside vmagent.

mod forward;
mod receivers;
mod vmagent;

use crate::{figure, figure_at_least, median};
use anyhow::{Context, Result};
use forward::{Cost, Load};

const ROUNDS: usize = 3;

/// For whoever takes millions of lines per second, and for databases.
const LARGE: Load = Load { lines: 4_000_000, per_tick: 50_000 };
const SMALL: Load = Load { lines: 1_000_000, per_tick: 5_000 };

type Way = (&'static str, fn() -> Result<Cost>);

const MAKING: Way = ("/dev/null", || receivers::null(LARGE));
const SOCKET: Way = ("unix socket", || receivers::unix(LARGE, false));
const OURS: Way = ("VictoriaMetrics", || receivers::victoria(SMALL, false));
const THEIRS: Way = ("VictoriaMetrics, by vmagent", || vmagent::forward(SMALL));
const WAYS: [Way; 8] = [
    MAKING,
    ("file", || receivers::file(LARGE)),
    SOCKET,
    ("unix socket, through a spool", || receivers::unix(LARGE, true)),
    ("InfluxDB 1", || receivers::influx(SMALL)),
    OURS,
    ("VictoriaMetrics, through a spool", || receivers::victoria(SMALL, true)),
    THEIRS,
];

/// All of it. A run that lost a line is an error, not a figure.
pub fn run() -> Result<()> {
    let mut costs = vec![Vec::new(); WAYS.len()];
    for _ in 0..ROUNDS {
        // One after the other, so that what else the machine does meets all of them.
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
        "CPU is that of the collector's whole process from its start on, and it makes the lines too. For \
         files, a line that was made has arrived.\n\
         To a database the collector has one request under way. vmagent has several, and gets lines that \
         were made before, not compressed.\n\
         Senders, receivers and this program share {} CPUs.\n\
         collectd is no peer: it takes line protocol nowhere, and writes it by UDP only (write_influxdb_udp).",
        std::thread::available_parallelism()?
    );
    let cost = |way: Way| {
        let at = WAYS.iter().position(|(name, _)| *name == way.0);
        at.map(|at| middle(&costs[at])).context("a way of its own")
    };
    let (ours, theirs) = (cost(OURS)?, cost(THEIRS)?);
    let thousands = cost(SOCKET)?.rate / 1e3;
    figure_at_least("to a unix socket", thousands, " thousand lines/s", 500.0);
    println!("to VictoriaMetrics, beside vmagent: {:.2} of its lines/s", ours.rate / theirs.rate);
    figure("to VictoriaMetrics, beside vmagent", ours.cpu / theirs.cpu, " of its CPU", 1.0);
    Ok(())
}

fn middle(costs: &[Cost]) -> Cost {
    Cost {
        rate: median(costs.iter().map(|cost| cost.rate).collect()),
        cpu: median(costs.iter().map(|cost| cost.cpu).collect()),
    }
}
