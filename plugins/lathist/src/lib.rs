//! Latency of each CPU: how long preemption or interrupts are off, or how late timers expire.
//!
//! Hooks: preempt_enable and preempt_disable, by tp_btf, else raw_tp, else tp, else kprobes of trace_preempt_on
//! and trace_preempt_off; irq_enable and irq_disable, by tp_btf, else raw_tp, else tp; with both cpu_idle. On
//! kernels without them hrtimer_expire_entry, hrtimer_cancel and hrtimer_start, by tp_btf, else raw_tp, else tp.
//! Three modes make it longer than other tools.

use plugin_bpf::prelude::*;

skeleton!(lathist);

/// As the program numbers them.
const MODES: [&str; 3] = ["preempt", "irq", "timer"];
/// Their hooks.
const HOOKS: [&[&str]; 3] = [
    &["preempt_on", "preempt_off", "idle"],
    &["irq_on", "irq_off", "idle"],
    &["expire", "cancel", "start"],
];

table! {
    /// Latencies by CPU: the 20 with the greatest sum.
    lathist {
        tags {
            mode "`preempt` or `irq`: how long it was off; `timer`: how late a timer expired.",
            cpu "The CPU's number; `other` is the sum beyond the first 20."
        }
        latency: histogram(ns) "Those that ended since the last tick.",
    }
}
table! {
    /// What is in no line of lathist.
    lathist_lost {
        unmatched: counter "Ends whose begin was not seen; timers that were set before the tool attached.",
        unended: counter "Begins whose end was not seen.",
        idle: counter "Sections in which the CPU was idle: nothing waited for them.",
        soft: counter "Timers that expire in a soft interrupt: it waits for more than interrupts.",
        dropped: counter "Timers that found no room in the kernel's map.",
    }
}
plugin_api::choice! {
    /// What is measured.
    pub enum Mode {
        /// `preempt` and `irq`, else one of them, else `timer`.
        Best = "",
        /// How long preemption is off.
        Preempt = "preempt",
        /// How long interrupts are off.
        Irq = "irq",
        /// How late timers expire.
        Timer = "timer",
    }
}
options! {
    /// What `[plugin.lathist]` takes.
    pub struct Options {
        /// Empty: `preempt` and `irq` where the kernel has their tracepoints, else `timer`.
        mode: Mode = Mode::Best,
        /// Shorter latencies are not counted.
        min_duration: Duration [..=Duration::from_secs(3600)] = Duration::ZERO,
    }
}

/// The tool.
pub struct Lathist {
    mode: Mode,
    /// The modes whose hooks are attached.
    attached: Vec<usize>,
    cpus: Groups<Snapshot>,
}

impl Tool for Lathist {
    type Options = Options;
    type Object = skel::Object;

    fn new(options: Options, setup: &mut Setup<skel::Object>) -> Result<Self> {
        setup.consts.min_ns = options.min_duration.as_nanos() as u64;
        setup.by_cpu(skel::Map::times);
        Ok(Self { mode: options.mode, attached: Vec::new(), cpus: Groups::default() })
    }

    fn hooks(&self) -> Hooks {
        let sets: &[&[usize]] = match self.mode {
            Mode::Best => &[&[0, 1], &[0], &[1], &[2]],
            Mode::Preempt => &[&[0]],
            Mode::Irq => &[&[1]],
            Mode::Timer => &[&[2]],
        };
        let hooks = |modes: &[usize]| {
            let mut names: Vec<_> = modes.iter().flat_map(|mode| HOOKS[*mode]).copied().collect();
            names.sort_by_key(|name| *name == "idle");
            names.dedup();
            names.into_iter().map(Hook::of).collect::<Vec<_>>()
        };
        let first = Hooks::all(hooks(sets[0])).without_others();
        sets[1..].iter().fold(first, |all, set| all.or(hooks(set)))
    }

    fn tend(&mut self, attached: &mut Attached) -> Result<()> {
        let of = |name: &str| attached.programs().iter().any(|p| p.name().starts_with(name));
        self.attached = (0..MODES.len()).filter(|mode| of(HOOKS[*mode][0])).collect();
        Ok(())
    }

    fn rows(&mut self, _: &Tick, maps: &mut skel::Maps, lines: &mut Lines) -> Result<()> {
        for mode in &self.attached {
            let cpus = maps.times.take_by_cpu(*mode).filter(|(_, times)| times.count() > 0);
            let cpus = cpus.map(|(cpu, times)| (cpu.to_string(), times));
            for (cpu, latency) in self.cpus.rows(cpus, |times| times.sum) {
                lines.push(lathist::Row { mode: MODES[*mode].into(), cpu, latency })?;
            }
        }
        let skel::counts { idles: idle, soft, unarmed, dropped } = maps.counts.take();
        let Lost { unmatched, twice: unended, .. } = maps.begun.lost();
        let unmatched = unmatched + unarmed;
        lines.push(lathist_lost::Row { unmatched, unended, idle, soft, dropped })
    }
}

export_tool!(Lathist: lathist, lathist_lost);
