//! Hard interrupts: how often and how long the handlers of each device run.
//!
//! Hooks: irq_handler_entry and irq_handler_exit, both by tp_btf, else both by raw_tp, else both by tp. For the
//! CPU's own interrupts those of irq_vectors (x86), each by tp_btf, else raw_tp, else tp, or not at all.
//! Three tables and the names of interrupts make it longer than other tools.

use plugin_bpf::group::device;
use plugin_bpf::prelude::*;
use skel::types::{handler, runs};
use std::collections::HashMap;

skeleton!(hardirqs);
by!(By: Cpu);

/// The CPU's own interrupts, by their ids in the program.
const VECTORS: [&str; 6] =
    ["", "local_timer", "reschedule", "call_function", "call_function_single", "irq_work"];

table! {
    /// Time in hard interrupts, a line for each of the 20 that took most.
    hardirqs {
        tags { irq "Its name, as in /proc/interrupts; `other` is the sum beyond the first 20 rows." }
        time: histogram(us) "The runs of handlers that ended since the last tick.",
        none: counter "Runs apart from these: the handler answered that its device did not interrupt.",
        none_us: counter(us) "The sum of their times.",
    }
}
table! {
    /// The hard interrupts that took most time, by CPU; with `by = "cpu"`.
    hardirqs_cpu {
        tags { irq "Its name; `other` is the sum beyond the first 20 rows.", cpu "The CPU's number." }
        count: counter "Runs.",
        sum_us: counter(us) "Their sum.",
    }
}
table! {
    /// What is in no line of the tables above.
    hardirqs_lost {
        unmatched: counter "Ends whose begin was not seen: under way when the tool attached.",
        unended: counter "Begins whose end was not seen.",
        dropped: counter "Runs in no row of hardirqs: no room for another.",
        unnamed: counter "Runs that found no room for their handler's name, or for its `none`.",
        dropped_cpus: counter "Runs in no row of hardirqs_cpu: no room for another.",
    }
}
options! {
    /// What `[plugin.hardirqs]` takes.
    pub struct Options {
        /// A row for each queue of a device, rather than one for all of them.
        queues: bool = false,
        /// Also the CPU's own interrupts: the local timer, and what CPUs send each other.
        vectors: bool = true,
        /// `cpu` adds the table hardirqs_cpu.
        by: By = By::Nothing,
    }
}

/// What a handler is shown as. A driver may ask for a line without giving a name.
fn name(id: u64, handler: Option<&handler>, queues: bool) -> String {
    match handler {
        None => VECTORS.get(id as usize).copied().unwrap_or("unnamed").to_owned(),
        Some(handler) if handler.name[0] == 0 => format!("irq {}", handler.irq),
        Some(handler) if queues => text(&handler.name),
        Some(handler) => device(&text(&handler.name)),
    }
}

/// The tool.
pub struct Hardirqs {
    options: Options,
    names: Groups<(Snapshot, u64, u64)>,
    cpus: Groups<runs>,
}

impl Tool for Hardirqs {
    type Options = Options;
    type Object = skel::Object;

    fn new(options: Options, setup: &mut Setup<skel::Object>) -> Result<Self> {
        setup.consts.by_cpu = options.by == By::Cpu;
        setup.only_if(setup.consts.by_cpu, skel::Map::cpus);
        let lines = std::fs::read_dir("/sys/kernel/irq").map_or(256, |lines| lines.count() as u32);
        setup.entries(skel::Map::times, 512 + 32 * lines);
        setup.entries(skel::Map::handlers, 64 + 2 * lines);
        setup.preallocate(skel::Map::times);
        setup.preallocate(skel::Map::handlers);
        setup.entries(skel::Map::cpus, 64 + 4 * lines + 8 * possible_cpus());
        let names = Groups::default().divide(|row: &mut (_, _, u64)| &mut row.2, 1000);
        let cpus = Groups::default().divide(|runs: &mut runs| &mut runs.sum_ns, 1000);
        Ok(Self { options, names, cpus })
    }

    fn hooks(&self) -> Hooks {
        // Both in one way, as the end must know the handler as the begin did; whose begin is seen, its end is too.
        let way = |kind| ["exit", "entry"].map(|hook| Hook::of(hook).only(kind));
        let hooks = Hooks::all(way("btf")).or(way("raw")).or(way("tp"));
        hooks.rest_optional(self.options.vectors)
    }

    fn rows(&mut self, _: &Tick, maps: &mut skel::Maps, lines: &mut Lines) -> Result<()> {
        let handlers: HashMap<u64, handler> = maps.handlers.take().into_iter().collect();
        let name = |id| name(id, handlers.get(&id), self.options.queues);
        let none =
            handlers.iter().map(|(id, h)| (name(*id), (Snapshot::default(), h.none, h.none_ns)));
        let times = maps.times.take().into_iter().map(|(id, time)| (name(id), (time, 0, 0)));
        let weight = |row: &(Snapshot, u64, u64)| row.0.sum * 1000 + row.2;
        for (irq, (time, none, none_us)) in self.names.rows(none.chain(times), weight) {
            lines.push(hardirqs::Row { irq, time, none, none_us })?;
        }
        if self.options.by == By::Cpu {
            let runs = maps.cpus.take().into_iter().map(|(at, runs)| (name(at.id), at.cpu, runs));
            for (irq, cpu, sum) in self.cpus.rows_by_cpu(runs, |runs| runs.sum_ns) {
                lines.push(hardirqs_cpu::Row { irq, cpu, count: sum.count, sum_us: sum.sum_ns })?;
            }
        }
        let Lost { unmatched, twice: unended, .. } = maps.begun.lost();
        let [dropped, unnamed, dropped_cpus] =
            [maps.times.lost(), maps.handlers.lost(), maps.cpus.lost()].map(Lost::events);
        lines.push(hardirqs_lost::Row { unmatched, unended, dropped, unnamed, dropped_cpus })
    }
}

export_tool!(Hardirqs: hardirqs, hardirqs_cpu, hardirqs_lost);
