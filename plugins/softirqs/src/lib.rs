//! Soft interrupts: how often and how long each kind runs, and how long it waits to run.
//!
//! Hooks: softirq_exit, softirq_entry and, for the delay, softirq_raise, by tp_btf, else raw_tp, else tp. None
//! reads a type of the kernel. Four tables make it longer than other tools.

use plugin_bpf::prelude::*;
use skel::types::runs;

skeleton!(softirqs);
by!(By: Cpu);

/// As the kernel numbers them.
const VECTORS: [&str; 10] =
    ["hi", "timer", "net_tx", "net_rx", "block", "irq_poll", "tasklet", "sched", "hrtimer", "rcu"];

table! {
    /// Time in soft interrupts, a line for each kind.
    softirqs {
        tags { vec "Its name, as in /proc/softirqs." }
        time: histogram(us) "The runs that ended since the last tick, with the hard interrupts in them.",
    }
}
table! {
    /// How long soft interrupts waited to run, a line for each kind; with `delay = true`.
    softirqs_delay {
        tags { vec "Its name, as in /proc/softirqs." }
        delay: histogram(us) "The runs that began since the last tick: from the first raise to the begin.",
    }
}
table! {
    /// The soft interrupts that took most time, by CPU; with `by = "cpu"`.
    softirqs_cpu {
        tags { vec "Its name; `other` is the sum beyond the first 20 rows.", cpu "The CPU's number." }
        count: counter "Runs.",
        sum_us: counter(us) "Their sum.",
    }
}
table! {
    /// What is in no line of the tables above.
    softirqs_lost {
        unmatched: counter "Ends whose begin was not seen: under way when the tool attached.",
        unended: counter "Begins whose end was not seen.",
        unknown: counter "Begins and ends of a kind that the tool does not know.",
        unraised: counter [optional] "Runs whose raise was not seen; with `delay = true`.",
        dropped_cpus: counter "Runs in no row of softirqs_cpu: no room for another.",
    }
}
options! {
    /// What `[plugin.softirqs]` takes.
    pub struct Options {
        /// Also measures how long soft interrupts wait to run.
        delay: bool = false,
        /// `cpu` adds the table softirqs_cpu.
        by: By = By::Nothing,
    }
}

/// The tool.
pub struct Softirqs {
    options: Options,
    cpus: Groups<runs>,
}

impl Tool for Softirqs {
    type Options = Options;
    type Object = skel::Object;

    fn new(options: Options, setup: &mut Setup<skel::Object>) -> Result<Self> {
        (setup.consts.by_cpu, setup.consts.delay) = (options.by == By::Cpu, options.delay);
        setup.only_if(options.by == By::Cpu, skel::Map::cpus);
        setup.entries(skel::Map::cpus, VECTORS.len() as u32 * possible_cpus());
        setup.only_if(options.delay, skel::Map::delays);
        let cpus = Groups::default().divide(|runs: &mut runs| &mut runs.sum_ns, 1000);
        Ok(Self { options, cpus })
    }

    fn hooks(&self) -> Hooks {
        let raise = Hook::of("raise").only_if(self.options.delay);
        // In this order: whose begin is seen, its end is seen too.
        Hooks::all([Hook::of("exit"), Hook::of("entry"), raise])
    }

    fn rows(&mut self, _: &Tick, maps: &mut skel::Maps, lines: &mut Lines) -> Result<()> {
        for (i, vec) in VECTORS.into_iter().enumerate() {
            lines.push(softirqs::Row { vec: vec.into(), time: maps.times.take(i) })?;
            if self.options.delay {
                lines.push(softirqs_delay::Row { vec: vec.into(), delay: maps.delays.take(i) })?;
            }
        }
        if self.options.by == By::Cpu {
            let runs = maps.cpus.take().into_iter();
            let runs = runs.map(|(at, runs)| (VECTORS[at.vec as usize], at.cpu, runs));
            for (vec, cpu, sum) in self.cpus.rows_by_cpu(runs, |runs| runs.sum_ns) {
                let runs { count, sum_ns: sum_us } = sum;
                lines.push(softirqs_cpu::Row { vec, cpu, count, sum_us })?;
            }
        }
        let Lost { unmatched, twice: unended, past: unknown, .. } = maps.begun.lost();
        let unraised = self.options.delay.then(|| maps.raised.lost().unmatched);
        let dropped_cpus = maps.cpus.lost().events();
        lines.push(softirqs_lost::Row { unmatched, unended, unknown, unraised, dropped_cpus })
    }
}

export_tool!(Softirqs: softirqs, softirqs_delay, softirqs_cpu, softirqs_lost);
